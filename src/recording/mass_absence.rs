//! The mass absence guard: if entries of many customers disappear at once, the fault is rather Partner Center's.

use std::time::Duration;

use tracing::{info, warn};

use crate::changes::{AbsencePolicy, QualificationState};
use crate::partner_center::Answer;
use crate::qualification::{Entry, key};
use crate::store::{self, Customer, PartnerId, Store, WriteTx};
use crate::time::Timestamp;

/// At most this many customers plausibly lose an entry within an hour…
const PLAUSIBLE_CUSTOMERS: u64 = 5;
/// …or one in this many of those that held one and were polled, whichever is more.
const PLAUSIBLE_ONE_IN: u64 = 50;
const HOUR: Duration = Duration::from_hours(1);
/// How many others are polled before an absence is accepted: as many as make a mass absence.
const CONTROL_SAMPLE: u32 = 6;

/// How a response that lacks an entry, or shows an older one, is confirmed. Starts and ends a mass absence.
/// `recently_polled` is the number of customers that held an entry and were understood within the last hour.
pub(super) async fn absence_policy(
    tx: &mut WriteTx,
    partner: PartnerId,
    customer: &Customer,
    before: &[QualificationState],
    answer: &Answer,
    recently_polled: u64,
) -> Result<AbsencePolicy, store::Error> {
    let now = answer.ended_at;
    let shown = |state: &QualificationState| -> Option<&Entry> { answer.snapshot.get(&key(&state.qualification)) };
    let lost: Vec<&QualificationState> = before.iter().filter(|state| state.loses(shown(state))).collect();
    let loses = !lost.is_empty();
    if !loses && before.iter().all(|state| state.pending.is_none()) {
        return Ok(AbsencePolicy::Confirm); // no absence involved
    }
    let guard = tx.mass_absence(partner).await?;
    let accepted = guard.accepted_at.filter(|at| *at <= now && now < at.after(HOUR));
    let is_pending = |at: Timestamp| before.iter().any(|state| state.pending.as_ref().is_some_and(|p| p.since <= at));
    if let Some(accepted_at) = accepted.filter(|at| is_pending(*at)) {
        return Ok(AbsencePolicy::AcceptedAt(accepted_at));
    }
    let limit = plausible(recently_polled);
    let others = tx.customers_missing_entries(partner, Some(customer.row), now, accepted, limit + 1).await?;
    // A time from the future: the clock was set back.
    let began = guard.mass_absence_since.map_or(now, |since| since.min(now));
    let since = (others + u64::from(loses) > limit).then_some(began);
    if since != guard.mass_absence_since {
        tx.set_mass_absence_since(partner, since).await?;
        log_mass_absence(since.is_some());
    }
    if let Some(since) = since {
        return Ok(AbsencePolicy::MassAbsence(since));
    }
    // With few in review, the first of many would be confirmed before the others are polled at all.
    let is_first = lost.iter().any(|state| state.pending_as(shown(state)).is_none());
    let since = lost.iter().filter_map(|state| Some(state.pending_as(shown(state))?.since)).min();
    let is_sample_missing = match since {
        Some(since) => tx.is_sample_missing(partner, customer.row, since, CONTROL_SAMPLE).await?,
        None => false,
    };
    if is_first || is_sample_missing {
        // One more, as one of them may have failed.
        let count = if is_first { CONTROL_SAMPLE } else { 1 };
        tx.schedule_control_polls(partner, Some(customer.row), count, now).await?;
    }
    Ok(if is_sample_missing { AbsencePolicy::SampleMissing } else { AbsencePolicy::Confirm })
}

/// Ends a mass absence once no more customers lack an entry, or have lately lost one, than is plausible.
pub async fn clear_if_plausible(
    store: &Store,
    partner: PartnerId,
    recently_polled: u64,
    now: Timestamp,
) -> Result<(), store::Error> {
    if store.mass_absence_since(partner).await?.is_none() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    let limit = plausible(recently_polled);
    if tx.customers_missing_entries(partner, None, now, None, limit + 1).await? <= limit {
        tx.set_mass_absence_since(partner, None).await?;
        tx.commit().await?;
        log_mass_absence(false);
    }
    Ok(())
}

fn plausible(recently_polled: u64) -> u64 {
    PLAUSIBLE_CUSTOMERS.max(recently_polled / PLAUSIBLE_ONE_IN)
}

fn log_mass_absence(started: bool) {
    if started {
        warn!("more customers lost an entry within an hour than is plausible: none is recorded as gone");
    } else {
        info!("answers are plausible again");
    }
}

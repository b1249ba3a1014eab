//! The plausibility brake: entries of many customers that disappear at once are rather Partner Center's trouble.

use std::time::Duration;

use tracing::{info, warn};

use crate::changes::{AbsencePolicy, QualificationState};
use crate::partner_center::Answer;
use crate::qualification::{Entry, key};
use crate::store::{self, Customer, Store, WriteTx};
use crate::time::Timestamp;

/// More customers than this, and more than one in so many of those that held an entry and were understood, do not lose
/// one within an hour.
const MASS_ABSENCE_LIMIT: (u64, u64) = (5, 50);
const HOUR: Duration = Duration::from_hours(1);
/// When an entry disappears, so many others are asked before it is believed: as many as pull the brake.
const CONTROL_SAMPLE: u32 = 6;

/// How far an answer is doubted that lacks an entry, or shows an older one. `asked`: customers that held an entry and
/// were understood within the last hour.
pub(super) async fn doubt(
    tx: &mut WriteTx,
    partner: i64,
    customer: &Customer,
    before: &[QualificationState],
    answer: &Answer,
    asked: u64,
) -> Result<AbsencePolicy, store::Error> {
    let now = answer.ended_at;
    let shown = |belief: &QualificationState| -> Option<&Entry> { answer.snapshot.get(&key(&belief.qualification)) };
    let lost: Vec<&QualificationState> = before.iter().filter(|belief| belief.loses(shown(belief))).collect();
    let loses = !lost.is_empty();
    if !loses && before.iter().all(|belief| belief.pending.is_none()) {
        return Ok(AbsencePolicy::Usual); // it says nothing of that
    }
    let brake = tx.mass_absence(partner).await?;
    let accepted = brake.accepted_at.filter(|at| *at <= now && now < at.after(HOUR));
    let is_pending = |at: Timestamp| before.iter().any(|belief| belief.pending.as_ref().is_some_and(|p| p.since <= at));
    if let Some(accepted_at) = accepted.filter(|at| is_pending(*at)) {
        return Ok(AbsencePolicy::AcceptedAt(accepted_at));
    }
    let least = plausible(asked);
    let others = tx.customers_missing_entries(partner, Some(customer.row), now, accepted, least + 1).await?;
    // A time from the future: the clock was set back.
    let began = brake.mass_absence_since.map_or(now, |since| since.min(now));
    let since = (others + u64::from(loses) > least).then_some(began);
    if since != brake.mass_absence_since {
        tx.set_mass_absence_since(partner, since).await?;
        tell(since.is_some());
    }
    if let Some(since) = since {
        return Ok(AbsencePolicy::ImplausibleSince(since));
    }
    // With few in review, the first of many would have its second look before the others had their first.
    let is_first = lost.iter().any(|belief| belief.pending_as(shown(belief)).is_none());
    let since = lost.iter().filter_map(|belief| Some(belief.pending_as(shown(belief))?.since)).min();
    let is_sample_missing = match since {
        Some(since) => tx.is_sample_missing(partner, customer.row, since, CONTROL_SAMPLE).await?,
        None => false,
    };
    if is_first || is_sample_missing {
        // One more for one that may have failed.
        let most = if is_first { CONTROL_SAMPLE } else { 1 };
        tx.schedule_control_polls(partner, Some(customer.row), most, now).await?;
    }
    Ok(if is_sample_missing { AbsencePolicy::SampleMissing } else { AbsencePolicy::Usual })
}

/// Lets the brake go once no more is missing, or has lately been lost, than is plausible.
pub async fn release(store: &Store, partner: i64, asked: u64, now: Timestamp) -> Result<(), store::Error> {
    if store.mass_absence_since(partner).await?.is_none() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    let least = plausible(asked);
    if tx.customers_missing_entries(partner, None, now, None, least + 1).await? <= least {
        tx.set_mass_absence_since(partner, None).await?;
        tx.commit().await?;
        tell(false);
    }
    Ok(())
}

fn plausible(asked: u64) -> u64 {
    MASS_ABSENCE_LIMIT.0.max(asked / MASS_ABSENCE_LIMIT.1)
}

fn tell(is_implausible: bool) {
    if is_implausible {
        warn!("more customers lost an entry within an hour than is plausible: none is believed to be gone");
    } else {
        info!("answers are plausible again");
    }
}

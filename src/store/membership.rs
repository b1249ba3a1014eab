//! Stores the memberships of customers; the rules are in `vetwatch_core::membership`.

use serde::Serialize;
use vetwatch_core::membership::{DepartureReason, Event, InList, Membership, PollChange, Polling, Source};

use super::{CustomerId, Error, WriteTx, json, reports::json_list};
use crate::time::Timestamp;

/// The outcome of an event for one customer.
#[derive(Debug, Clone, Copy)]
pub struct Applied {
    pub before: Membership,
    pub after: Membership,
    pub polls: PollChange,
}

impl Applied {
    #[must_use]
    pub fn changes(self) -> bool {
        self.after != self.before || self.polls != PollChange::Keep
    }
}

/// The JSON that the statement reads.
#[derive(Serialize)]
struct Saved {
    row: CustomerId,
    source: &'static str,
    was_in_list: bool,
    missing_from_list_since: Option<i64>,
    refused_since: Option<i64>,
    departed_since: Option<i64>,
    departed_reason: Option<&'static str>,
    departure_reported_at: Option<i64>,
    paused_at: Option<i64>,
    given_up_at: Option<i64>,
    removed_at: Option<i64>,
    polls: &'static str,
}

impl Saved {
    fn new(row: CustomerId, membership: Membership, polls: PollChange) -> Self {
        let Membership { source, in_list, refused_since, departed, departure_reported_at, polling } = membership;
        let ms = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
        let missing_since = if let InList::MissingSince(since) = in_list { Some(since) } else { None };
        let (paused_at, given_up_at, removed_at) = match polling {
            Polling::Active => (None, None, None),
            Polling::PausedAt(at) => (Some(at), None, None),
            Polling::GivenUpAt(at) => (Some(at), Some(at), None),
            Polling::RemovedAt(at) => (None, None, Some(at)),
        };
        Self {
            row,
            source: source.as_str(),
            was_in_list: in_list != InList::Never,
            missing_from_list_since: ms(missing_since),
            refused_since: ms(refused_since),
            departed_since: ms(departed.map(|(since, _)| since)),
            departed_reason: departed.map(|(_, reason)| reason.as_str()),
            departure_reported_at: ms(departure_reported_at),
            paused_at: ms(paused_at),
            given_up_at: ms(given_up_at),
            removed_at: ms(removed_at),
            polls: match polls {
                PollChange::Keep => "keep",
                PollChange::Now => "now",
                PollChange::Anew => "anew",
                PollChange::Rarely => "rarely",
                PollChange::RarelyOnceConfirmed => "rarely once confirmed",
            },
        }
    }
}

impl WriteTx {
    /// Applies an event to the memberships of customers; removed ones are left out.
    pub async fn apply_membership(
        &mut self,
        rows: &[CustomerId],
        event: Event,
        now: Timestamp,
    ) -> Result<Vec<Applied>, Error> {
        let found = sqlx::query!(
            // Integers only: a damaged text keeps no customer from the rules.
            r#"select c.id as "row!: CustomerId", c.source = 'manual' as "is_manual!: bool", c.was_in_list, c.missing_from_list_since,
                      c.refused_since, c.departed_since, c.departed_reason is 'missing' as "is_missing!: bool",
                      c.departure_reported_at, c.paused_at, c.given_up_at
               from json_each(?) cross join customer c on c.id = value and c.removed_at is null"#,
            json_list(rows)
        );
        let at = |ms: Option<i64>| ms.map(Timestamp::from_millis);
        let (mut applied, mut saved) = (Vec::new(), Vec::new());
        for found in found.fetch_all(&mut *self.tx).await? {
            let reason = if found.is_missing { DepartureReason::Missing } else { DepartureReason::Refused };
            let before = Membership {
                source: if found.is_manual { Source::Manual } else { Source::Synced },
                in_list: match at(found.missing_from_list_since) {
                    Some(since) => InList::MissingSince(since),
                    None if found.was_in_list == 1 => InList::Present,
                    None => InList::Never,
                },
                refused_since: at(found.refused_since),
                departed: at(found.departed_since).map(|since| (since, reason)),
                departure_reported_at: at(found.departure_reported_at),
                polling: match (at(found.given_up_at), at(found.paused_at)) {
                    (Some(since), _) => Polling::GivenUpAt(since),
                    (None, Some(since)) => Polling::PausedAt(since),
                    (None, None) => Polling::Active,
                },
            };
            let (after, polls) = before.after(event, now);
            let outcome = Applied { before, after, polls };
            applied.push(outcome);
            if outcome.changes() {
                saved.push(Saved::new(found.row, after, polls));
            }
        }
        if saved.is_empty() {
            return Ok(applied);
        }
        self.run(sqlx::query!(
            // A departed customer is not unreadable: that it cannot be read is reported as its departure.
            "update customer
             set source = j.source, was_in_list = j.was_in_list, missing_from_list_since = j.missing_from_list_since,
                 refused_since = j.refused_since, departed_since = j.departed_since, departed_reason = j.departed_reason,
                 departure_reported_at = j.departure_reported_at, paused_at = j.paused_at, given_up_at = j.given_up_at,
                 removed_at = j.removed_at,
                 next_poll_at = case when j.polls in ('now', 'anew') then ?2 else next_poll_at end,
                 response = case when j.polls <> 'anew' then response end,
                 poll_class = case when j.polls = 'rarely' or (j.polls = 'rarely once confirmed' and poll_class <> 'confirming')
                                   then 'unqualified' else poll_class end,
                 unreadable_since = case when j.polls not like 'rarely%' then unreadable_since end,
                 unreadable_reported_at = case when j.polls not like 'rarely%' then unreadable_reported_at end
             from (select value ->> 'row' as row, value ->> 'source' as source, value ->> 'was_in_list' as was_in_list,
                          value ->> 'missing_from_list_since' as missing_from_list_since,
                          value ->> 'refused_since' as refused_since, value ->> 'departed_since' as departed_since,
                          value ->> 'departed_reason' as departed_reason,
                          value ->> 'departure_reported_at' as departure_reported_at, value ->> 'paused_at' as paused_at,
                          value ->> 'given_up_at' as given_up_at, value ->> 'removed_at' as removed_at,
                          value ->> 'polls' as polls
                   from json_each(?1)) j
             where customer.id = j.row",
            json(&saved)?,
            now.as_millis()
        ))
        .await?;
        Ok(applied)
    }
}

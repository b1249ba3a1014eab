//! The outbox: what is to be told, to which endpoint, and what became of it.
//!
//! The claim is the lease: it opens the attempt and moves the next one a lease ahead *before* anything is sent. Of
//! a process that dies in mid-attempt there is nothing to clean up; its work falls due by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::{Error, Store, WriteTx};
use crate::delivery::took;
use crate::event::{Event, EventType};
use crate::time::Timestamp;

/// A delivery whose attempt is open.
#[derive(Debug, Clone)]
pub struct Due {
    pub id: Uuid,
    /// This attempt, counted from 1.
    pub attempt: u32,
    /// Pauses of the retry schedule used up so far.
    pub rung: u32,
    pub first_due_at: Timestamp,
    pub message: String,
    /// The customer's contact, who gets it too.
    pub recipient: Option<String>,
    /// Recipients that took or refused it for good, with what they replied.
    pub settled: BTreeMap<String, String>,
}

/// A delivery before its first attempt: it is still to be written.
#[derive(Debug)]
pub struct Unwritten {
    pub id: Uuid,
    pub events: Vec<Event>,
    pub recipient: Option<String>,
    pub instead_of: Option<InsteadOf>,
}

/// The endpoint that has not taken it, and since when it was to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsteadOf {
    pub endpoint: String,
    pub since: Timestamp,
}

/// An attempt that is to begin.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    pub endpoint: &'a str,
    /// What the endpoint's messages are written in: `email`, `teams`.
    pub form: &'a str,
    pub now: Timestamp,
    /// The next attempt is moved so far ahead.
    pub lease: Duration,
    /// Deliveries whose attempt this process has begun and not ended, wherever their lease is by now.
    pub under_way: &'a [String],
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// `partly`: some recipients refused it for good.
    Delivered { partly: bool },
    /// Next attempt at this time; a pause of the schedule is used up.
    Again { at: Timestamp },
    /// `refused`: trying again would be senseless; else its time is over.
    Dead { refused: bool },
}

/// So many are held back in one transaction.
const HELD_AT_ONCE: usize = 100;

impl Store {
    /// When the endpoint's next attempt may begin; `None`: nothing waits, or it is paused. A closed one is probed with
    /// anything that is not held back.
    pub async fn next_attempt_at(&self, endpoint: &str) -> Result<Option<Timestamp>, Error> {
        let row = sqlx::query!(
            r#"select (select min(next_attempt_at) from delivery where endpoint = ?1 and state = 'pending') as "due: i64",
                      (select min(coalesce(held_until, 0)) from delivery where endpoint = ?1 and state = 'pending') as "free: i64",
                      (select probe_at from endpoint where name = ?1) as "probe_at: i64",
                      (select paused_at from endpoint where name = ?1) as "paused_at: i64""#,
            endpoint
        )
        .fetch_one(&self.read)
        .await?;
        let at = match (row.paused_at, row.probe_at) {
            (Some(_), _) => None,
            (None, Some(probe)) => row.free.map(|free| probe.max(free)),
            (None, None) => row.due,
        };
        Ok(at.map(Timestamp::from_millis))
    }
}

impl WriteTx {
    /// Claims the endpoint's oldest delivery that is due: opens its attempt and moves the next one a lease ahead. At the
    /// first attempt `render` writes the message, and every attempt sends just that; unless the endpoint has become one
    /// of another form meanwhile. A closed endpoint gives out one delivery when its probe is due, a paused one nothing.
    ///
    /// `hold` is given the events and when they were queued. What it holds back (quiet hours) steps aside until then; the
    /// time does not count towards giving up.
    pub async fn claim_due(
        &mut self,
        claim: Claim<'_>,
        hold: impl Fn(&[Event], Timestamp) -> Option<Timestamp>,
        render: impl FnOnce(&Unwritten) -> String,
    ) -> Result<Option<Due>, Error> {
        let mut renewed = 0;
        for _ in 0..HELD_AT_ONCE {
            let Some(id) = self.next_delivery(claim.endpoint, claim.now.as_millis()).await? else { return Ok(None) };
            if claim.under_way.contains(&id) {
                if renewed >= claim.under_way.len() {
                    return Ok(None); // there is nothing else
                }
                renewed += 1;
                self.renew_lease(&id, claim.now.after(claim.lease)).await?;
                continue;
            }
            let until = match self.may_wait_since(&id).await? {
                Some(queued_at) => hold(&self.events_of(&id).await?, queued_at),
                None => None,
            };
            match until.filter(|until| *until > claim.now) {
                Some(until) => self.hold_back(&id, claim.now, until).await?,
                None => return self.claim(&id, claim, render).await.map(Some),
            }
        }
        Ok(None)
    }

    pub(super) async fn claim(
        &mut self,
        id: &str,
        claim: Claim<'_>,
        render: impl FnOnce(&Unwritten) -> String,
    ) -> Result<Due, Error> {
        let Claim { endpoint, form, now, lease, .. } = claim;
        let (now_ms, lease_until) = (now.as_millis(), now.after(lease).as_millis());
        let row = sqlx::query!(
            "select attempts, rung, first_due_at, message, form, settled, recipient, instead_of from delivery where id = ?",
            id
        )
        .fetch_one(&mut *self.tx)
        .await?;
        let uuid = Uuid::parse_str(id).unwrap_or_default();
        let is_ours = row.form.as_deref().is_none_or(|written| written == form);
        let message = if let Some(frozen) = row.message.filter(|_| is_ours) {
            frozen
        } else {
            let instead_of = match row.instead_of {
                Some(endpoint) => Some(self.instead_of(id, endpoint).await?),
                None => None,
            };
            let events = self.events_of(id).await?;
            render(&Unwritten { id: uuid, events, recipient: row.recipient.clone(), instead_of })
        };
        let attempt = row.attempts + 1;
        sqlx::query!(
            "update delivery set attempts = ?1, next_attempt_at = ?2, message = ?3, form = ?4 where id = ?5",
            attempt,
            lease_until,
            message,
            form,
            id
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!("insert into attempt (delivery, number, began_at) values (?, ?, ?)", id, attempt, now_ms)
            .execute(&mut *self.tx)
            .await?;
        sqlx::query!(
            "update endpoint set probe_at = ?1 where name = ?2 and closed_since is not null",
            lease_until,
            endpoint
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(Due {
            id: uuid,
            attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
            rung: u32::try_from(row.rung).unwrap_or(u32::MAX),
            first_due_at: Timestamp::from_millis(row.first_due_at),
            message,
            recipient: row.recipient,
            settled: serde_json::from_str(&row.settled).unwrap_or_default(),
        })
    }

    /// The clock was set, or the endpoint opened: an attempt that is under way is not begun once more for that.
    async fn renew_lease(&mut self, id: &str, until: Timestamp) -> Result<(), Error> {
        let until = until.as_millis();
        sqlx::query!("update delivery set next_attempt_at = ?2 where id = ?1 and state = 'pending'", id, until)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// When it was queued, if quiet hours may hold it back.
    async fn may_wait_since(&mut self, id: &str) -> Result<Option<Timestamp>, Error> {
        let row = sqlx::query_scalar!("select created_at from delivery where id = ? and may_wait = 1", id);
        Ok(row.fetch_optional(&mut *self.tx).await?.map(Timestamp::from_millis))
    }

    async fn hold_back(&mut self, id: &str, now: Timestamp, until: Timestamp) -> Result<(), Error> {
        let (now, until) = (now.as_millis(), until.as_millis());
        sqlx::query!(
            "update delivery set next_attempt_at = ?2, held_until = ?2, first_due_at = first_due_at + ?2 - ?3 where id = ?1",
            id,
            until,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Since when the endpoint in whose place this one is told was to take the first of its events.
    async fn instead_of(&mut self, id: &str, endpoint: String) -> Result<InsteadOf, Error> {
        let since = sqlx::query_scalar!(
            r#"select min(d.first_due_at) as "since: i64" from delivery_event mine
               join delivery_event theirs on theirs.event = mine.event and theirs.endpoint = ?2
               join delivery d on d.id = theirs.delivery
               where mine.delivery = ?1"#,
            id,
            endpoint
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(InsteadOf { endpoint, since: Timestamp::from_millis(since.unwrap_or_default()) })
    }

    /// The oldest delivery that is due. A closed endpoint is probed with it, or else with what would be due first.
    async fn next_delivery(&mut self, endpoint: &str, now: i64) -> Result<Option<String>, Error> {
        let state = sqlx::query!("select probe_at, paused_at from endpoint where name = ?", endpoint)
            .fetch_optional(&mut *self.tx)
            .await?;
        let (probe_at, paused_at) = state.map_or((None, None), |state| (state.probe_at, state.paused_at));
        if paused_at.is_some() || probe_at.is_some_and(|probe| probe > now) {
            return Ok(None);
        }
        if probe_at.is_some()
            && let Some(test) = self.waiting_test(endpoint).await?
        {
            return Ok(Some(test));
        }
        // The plus keeps SQLite from sorting all that is due: in this order the first one is nearly always it.
        let oldest = sqlx::query_scalar!(
            "select id from delivery where endpoint = ? and state = 'pending' and +next_attempt_at <= ?
             order by sequence limit 1",
            endpoint,
            now
        )
        .fetch_optional(&mut *self.tx)
        .await?;
        if oldest.is_some() || probe_at.is_none() {
            return Ok(oldest);
        }
        let first = sqlx::query_scalar!(
            "select id from delivery where endpoint = ? and state = 'pending' and (held_until is null or held_until <= ?)
             order by next_attempt_at limit 1",
            endpoint,
            now
        )
        .fetch_optional(&mut *self.tx)
        .await?;
        Ok(first)
    }

    pub(super) async fn events_of(&mut self, delivery: &str) -> Result<Vec<Event>, Error> {
        let rows = sqlx::query!(
            "select e.type as kind, e.occurred_at, e.data from event e
             join delivery_event de on de.event = e.id where de.delivery = ? order by e.occurred_at, e.id",
            delivery
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let events = rows.into_iter().filter_map(|row| {
            Some(Event {
                kind: EventType::parse(&row.kind)?,
                occurred_at: Timestamp::from_millis(row.occurred_at),
                data: serde_json::from_str(&row.data).ok()?,
            })
        });
        Ok(events.collect())
    }

    /// Ends an attempt and says what becomes of its delivery, in one transaction. A success counts whenever it
    /// comes; a failure only if no later attempt was begun.
    pub async fn finish(
        &mut self,
        due: &Due,
        finish: Finish,
        settled: &BTreeMap<String, String>,
        response: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (id, now) = (due.id.to_string(), now.as_millis());
        let outcome = match finish {
            Finish::Delivered { .. } => "accepted",
            Finish::Again { .. } | Finish::Dead { refused: false } => "failed",
            Finish::Dead { refused: true } => "refused",
        };
        sqlx::query!(
            "update attempt set ended_at = ?1, outcome = ?2, response = ?3 where delivery = ?4 and number = ?5",
            now,
            outcome,
            response,
            id,
            due.attempt
        )
        .execute(&mut *self.tx)
        .await?;
        let mut all = due.settled.clone();
        all.extend(settled.clone());
        let refusals: BTreeMap<_, _> = all.iter().filter(|(_, reply)| !took(reply)).collect();
        if settled.values().any(|reply| !took(reply)) {
            self.note_refusals(&id, &refusals, now).await?;
        }
        let refusals: Vec<_> = refusals.iter().map(|(recipient, reply)| format!("{recipient}: {reply}")).collect();
        let all = serde_json::to_string(&all).unwrap_or_default();
        match finish {
            Finish::Delivered { partly } => {
                let last_error = partly.then(|| refusals.join("; "));
                sqlx::query!(
                    "update delivery set state = 'delivered', next_attempt_at = null, finished_at = ?1, interrupted = 0,
                         settled = ?2, last_error = ?3
                     where id = ?4",
                    now,
                    all,
                    last_error,
                    id
                )
                .execute(&mut *self.tx)
                .await?;
            }
            Finish::Again { at } => {
                let at = at.as_millis();
                sqlx::query!(
                    "update delivery set next_attempt_at = ?1, rung = rung + 1, interrupted = 0, settled = ?2, last_error = ?3
                     where id = ?4 and state = 'pending' and attempts = ?5",
                    at,
                    all,
                    response,
                    id,
                    due.attempt
                )
                .execute(&mut *self.tx)
                .await?;
            }
            Finish::Dead { .. } => {
                sqlx::query!(
                    "update delivery set state = 'dead', next_attempt_at = null, finished_at = ?1, interrupted = 0,
                         settled = ?2, last_error = ?3
                     where id = ?4 and state = 'pending' and attempts = ?5",
                    now,
                    all,
                    response,
                    id,
                    due.attempt
                )
                .execute(&mut *self.tx)
                .await?;
            }
        }
        Ok(())
    }
}

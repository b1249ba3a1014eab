//! The outbox: what is to be told, to which endpoint, and what became of it.
//!
//! The claim is the lease: it opens the attempt and moves the next one a lease ahead *before* anything is sent. Of
//! a process that dies in mid-attempt there is nothing to clean up; its work falls due by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::{Error, Store, WriteTx};
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
    /// Recipients that took or refused it for good, with what they replied.
    pub settled: BTreeMap<String, String>,
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

impl Store {
    /// When the endpoint's next attempt may begin; `None`: nothing waits, or it is paused.
    pub async fn next_attempt_at(&self, endpoint: &str) -> Result<Option<Timestamp>, Error> {
        let row = sqlx::query!(
            r#"select (select min(next_attempt_at) from delivery where endpoint = ?1 and state = 'pending') as "due: i64",
                      (select probe_at from endpoint where name = ?1) as "probe_at: i64",
                      (select paused_at from endpoint where name = ?1) as "paused_at: i64""#,
            endpoint
        )
        .fetch_one(&self.read)
        .await?;
        let at = if row.paused_at.is_some() { None } else { row.due.map(|due| row.probe_at.unwrap_or(due)) };
        Ok(at.map(Timestamp::from_millis))
    }
}

impl WriteTx {
    /// Queues an event for an endpoint. Only here, in the transaction of what it tells, does a delivery begin.
    pub async fn enqueue(&mut self, event: &Event, endpoint: &str, now: Timestamp) -> Result<(), Error> {
        let (id, now) = (Uuid::now_v7().to_string(), now.as_millis());
        let event_id = event.data.event_id.to_string();
        sqlx::query!(
            "insert into delivery (id, endpoint, state, created_at, first_due_at, next_attempt_at)
             values (?1, ?2, 'pending', ?3, ?3, ?3)",
            id,
            endpoint,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!("insert into delivery_event (delivery, endpoint, event) values (?, ?, ?)", id, endpoint, event_id)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Claims the endpoint's oldest delivery that is due: opens its attempt and moves the next one `lease` ahead.
    /// At the first attempt `render` writes the message, and every attempt sends just that. A closed endpoint
    /// gives out one delivery when its probe is due, a paused one nothing.
    pub async fn claim_due(
        &mut self,
        endpoint: &str,
        now: Timestamp,
        lease: Duration,
        render: impl FnOnce(Uuid, &[Event]) -> String,
    ) -> Result<Option<Due>, Error> {
        let Some(id) = self.next_delivery(endpoint, now.as_millis()).await? else { return Ok(None) };
        self.claim(&id, endpoint, now, lease, render).await.map(Some)
    }

    pub(super) async fn claim(
        &mut self,
        id: &str,
        endpoint: &str,
        now: Timestamp,
        lease: Duration,
        render: impl FnOnce(Uuid, &[Event]) -> String,
    ) -> Result<Due, Error> {
        let (now_ms, lease_until) = (now.as_millis(), now.after(lease).as_millis());
        let row =
            sqlx::query!("select id, attempts, rung, first_due_at, message, settled from delivery where id = ?", id)
                .fetch_one(&mut *self.tx)
                .await?;
        let id = Uuid::parse_str(&row.id).unwrap_or_default();
        let message = if let Some(frozen) = row.message { frozen } else { render(id, &self.events_of(&row.id).await?) };
        let attempt = row.attempts + 1;
        sqlx::query!(
            "update delivery set attempts = ?1, next_attempt_at = ?2, message = ?3 where id = ?4",
            attempt,
            lease_until,
            message,
            row.id
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!("insert into attempt (delivery, number, began_at) values (?, ?, ?)", row.id, attempt, now_ms)
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
            id,
            attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
            rung: u32::try_from(row.rung).unwrap_or(u32::MAX),
            first_due_at: Timestamp::from_millis(row.first_due_at),
            message,
            settled: serde_json::from_str(&row.settled).unwrap_or_default(),
        })
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

    async fn events_of(&mut self, delivery: &str) -> Result<Vec<Event>, Error> {
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
        let all = serde_json::to_string(&all).unwrap_or_default();
        match finish {
            Finish::Delivered { partly } => {
                let last_error = partly.then_some(response);
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

    /// The endpoint took something: what it kept waiting becomes due.
    pub async fn endpoint_accepted(&mut self, endpoint: &str, now: Timestamp) -> Result<(), Error> {
        let now = now.as_millis();
        let was_closed = sqlx::query_scalar!(
            r#"select closed_since is not null as "closed!: bool" from endpoint where name = ?"#,
            endpoint
        )
        .fetch_optional(&mut *self.tx)
        .await?
        .unwrap_or(false);
        if was_closed {
            sqlx::query!(
                "update delivery set next_attempt_at = ?1
                 where endpoint = ?2 and state = 'pending' and next_attempt_at > ?1
                   and (held_until is null or held_until <= ?1)",
                now,
                endpoint
            )
            .execute(&mut *self.tx)
            .await?;
        }
        sqlx::query!(
            "insert into endpoint (name, last_accepted_at) values (?1, ?2)
             on conflict (name) do update set last_accepted_at = ?2, closed_since = null, probe_at = null, failures = 0,
                 paused_at = null, last_error = null",
            endpoint,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// The endpoint did not take something. With `probe_at` it is closed: from now on one message at a time asks
    /// whether it is back.
    pub async fn endpoint_failed(
        &mut self,
        endpoint: &str,
        now: Timestamp,
        probe_at: Option<Timestamp>,
        error: &str,
    ) -> Result<(), Error> {
        let (now, probe_at) = (now.as_millis(), probe_at.map(Timestamp::as_millis));
        sqlx::query!(
            "insert into endpoint (name, failures, last_error, closed_since, probe_at)
             values (?1, 1, ?2, case when ?3 is null then null else ?4 end, ?3)
             on conflict (name) do update set failures = failures + 1, last_error = ?2,
                 closed_since = case when ?3 is null then closed_since else coalesce(closed_since, ?4) end,
                 probe_at = coalesce(?3, probe_at)",
            endpoint,
            error,
            probe_at,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Failures of the endpoint in a row.
    pub async fn endpoint_failures(&mut self, endpoint: &str) -> Result<u32, Error> {
        let failures = sqlx::query_scalar!("select failures from endpoint where name = ?", endpoint)
            .fetch_optional(&mut *self.tx)
            .await?;
        Ok(failures.and_then(|n| u32::try_from(n).ok()).unwrap_or(0))
    }

    /// The endpoint said that it is gone. What waits for it stays pending.
    pub async fn pause_endpoint(&mut self, endpoint: &str, settings: &str, now: Timestamp) -> Result<(), Error> {
        let now = now.as_millis();
        sqlx::query!(
            "update endpoint set paused_at = ?1, paused_settings = ?2 where name = ?3",
            now,
            settings,
            endpoint
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// At start: an endpoint that was paused under other settings is tried again.
    pub async fn resume_endpoint_if_changed(&mut self, endpoint: &str, settings: &str) -> Result<(), Error> {
        sqlx::query!(
            "update endpoint set paused_at = null where name = ?1 and paused_at is not null and paused_settings is not ?2",
            endpoint,
            settings
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// At start: attempts that the last process did not survive are over, and their deliveries due at once. That
    /// costs no pause of the schedule. From the third in a row on it waits: a message that kills the process must
    /// not take its neighbours along. One that was only under way beside it waits for another time than its own.
    pub async fn recover_deliveries(&mut self, now: Timestamp) -> Result<u64, Error> {
        let now = now.as_millis();
        let done = sqlx::query!(
            "update delivery
             set interrupted = interrupted + 1,
                 next_attempt_at = ?1 + case when interrupted < 2 then 0 else sequence * 7919 % 12000
                     + case interrupted when 2 then 60000 when 3 then 600000 else 3600000 end end
             where state = 'pending' and id in (select delivery from attempt where ended_at is null)",
            now
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update attempt set ended_at = ?1, outcome = 'interrupted', response = 'vetwatch stopped in mid-attempt'
             where ended_at is null",
            now
        )
        .execute(&mut *self.tx)
        .await?;
        // A probe that was under way is repeated as well.
        sqlx::query!("update endpoint set probe_at = min(probe_at, ?1) where closed_since is not null", now)
            .execute(&mut *self.tx)
            .await?;
        Ok(done.rows_affected())
    }

    /// A clock that was set back must not put a message out of reach.
    pub async fn clamp_deliveries(&mut self, endpoint: &str, latest: Timestamp, now: Timestamp) -> Result<(), Error> {
        let (latest, now) = (latest.as_millis(), now.as_millis());
        sqlx::query!(
            "update delivery set next_attempt_at = ?1
             where endpoint = ?2 and state = 'pending' and next_attempt_at > ?3 and (held_until is null or held_until <= ?1)",
            now,
            endpoint,
            latest
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!("update endpoint set probe_at = ?1 where name = ?2 and probe_at > ?3", now, endpoint, latest)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}

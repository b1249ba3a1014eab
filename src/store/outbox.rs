//! The outbox: the deliveries, and the attempts at them.
//!
//! A claim is a lease: it records an open attempt and sets the next one a lease ahead, *before* anything is sent. A
//! process that dies during an attempt needs no clean-up: the delivery is due again after the lease.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use uuid::Uuid;

use super::{Error, Store, WriteTx, json, row_error, to_count, unreadable};
use crate::event::{Event, EventData, EventType};
use crate::time::Timestamp;
use vetwatch_core::retry::{AttemptResult, RetryDecision, took};

/// A delivery with an open attempt.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// The row.
    pub sequence: i64,
    /// `webhook-id`, `Message-ID`.
    pub id: Uuid,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// The position in the retry schedule.
    pub retry_index: u32,
    /// What every attempt sends.
    pub message: String,
    /// The addresses of the customer's contact when it was enqueued, further recipients.
    pub recipient: Option<String>,
    /// What the contact is now, unless its customers have different ones.
    pub contact: Option<String>,
    /// The final reply of each recipient that has one.
    pub final_replies: BTreeMap<String, String>,
}

impl ClaimedDelivery {
    /// A first attempt that bypasses the outbox.
    #[must_use]
    pub const fn without_row(id: Uuid, message: String) -> Self {
        let final_replies = BTreeMap::new();
        Self { sequence: 0, id, attempt: 1, retry_index: 0, message, recipient: None, contact: None, final_replies }
    }
}

/// A delivery before its first attempt, still to be rendered.
#[derive(Debug, Clone)]
pub struct UnrenderedDelivery {
    pub id: Uuid,
    /// In the order in which they occurred.
    pub events: Vec<Event>,
    /// The addresses of the customer's contact when it was enqueued, further recipients.
    pub recipient: Option<String>,
    /// What the contact is now, unless its customers have different ones.
    pub contact: Option<String>,
    pub failover_from: Option<FailoverFrom>,
    /// In which people read its times.
    pub zone: Tz,
    /// Where the page is that it links to; ends with a slash.
    pub public_url: Option<String>,
}

impl UnrenderedDelivery {
    /// A delivery to the endpoint's own recipients, which stands in for none and links to no page.
    #[must_use]
    pub const fn new(id: Uuid, events: Vec<Event>, zone: Tz) -> Self {
        Self { id, events, recipient: None, contact: None, failover_from: None, zone, public_url: None }
    }
}

/// A message as every attempt sends it.
#[derive(Debug, Clone)]
pub struct Rendered {
    pub message: String,
    /// Why it is in its built-in form, if the endpoint's template failed.
    pub template_error: Option<String>,
}

impl From<String> for Rendered {
    fn from(message: String) -> Self {
        Self { message, template_error: None }
    }
}

/// The endpoint that has not accepted the events, and since when they were due there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverFrom {
    pub endpoint: String,
    pub since: Timestamp,
    /// It is pending there, and the endpoint is configured.
    pub still_tried: bool,
}

/// The parameters of a claim.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    pub endpoint: &'a str,
    /// The format of the endpoint's messages: `email`, `teams`.
    pub format: &'a str,
    /// Identifies the endpoint's settings.
    pub settings: &'a str,
    /// In which people read the message's times.
    pub zone: Tz,
    /// Where the page is that the message links to.
    pub public_url: Option<&'a str>,
    pub now: Timestamp,
    /// How far ahead the next attempt is set.
    pub lease: Duration,
    /// Deliveries that this process is attempting, whether or not their lease has expired.
    pub in_flight: &'a [i64],
}

/// The most deliveries that are deferred in one transaction.
const MAX_DEFERRED_PER_CLAIM: usize = 100;

impl Store {
    /// When the endpoint's next attempt may begin; `None` if nothing is pending, or it is paused. An endpoint that is
    /// backing off is probed with any delivery that is not deferred.
    pub async fn next_attempt_at(&self, endpoint: &str) -> Result<Option<Timestamp>, Error> {
        let row = sqlx::query!(
            r#"select (select min(next_attempt_at) from delivery where endpoint = ?1 and state = 'pending') as "due: i64",
                      (select min(coalesce(deferred_until, 0)) from delivery where endpoint = ?1 and state = 'pending') as "free: i64",
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
    /// Claims the endpoint's oldest due delivery. `render` writes the message at the first attempt, and every attempt
    /// sends the same; it is rendered again only if the endpoint's format has changed. An endpoint that is backing off
    /// gives out one delivery when its probe is due, a paused one none.
    ///
    /// `defer_until` gets the events and when they were enqueued. A delivery that it defers (quiet hours) is skipped
    /// until then; that time does not count towards giving up. A delivery whose row cannot be read is skipped too, and
    /// reported to the operators: see [`Unreadable`](super::Unreadable).
    pub async fn claim_due(
        &mut self,
        claim: Claim<'_>,
        defer_until: impl Fn(&[Event], Timestamp) -> Option<Timestamp>,
        render: impl Fn(&UnrenderedDelivery) -> Rendered,
    ) -> Result<Option<ClaimedDelivery>, Error> {
        let mut renewed = 0;
        for _ in 0..MAX_DEFERRED_PER_CLAIM {
            let Some(sequence) = self.next_delivery(claim.endpoint, claim.now.as_millis()).await? else {
                return Ok(None);
            };
            if claim.in_flight.contains(&sequence) {
                if renewed >= claim.in_flight.len() {
                    return Ok(None); // there is nothing else
                }
                renewed += 1;
                self.renew_lease(sequence, claim.now.after(claim.lease)).await?;
                continue;
            }
            match self.claim_or_defer(sequence, claim, &defer_until, &render).await {
                Ok(None) => {}
                // Skips this delivery only, not those behind it.
                Err(error) if error.is_data_error() => self.set_aside(sequence, claim, error).await?,
                claimed => return claimed,
            }
        }
        Ok(None)
    }

    /// `None` if the delivery was deferred.
    async fn claim_or_defer(
        &mut self,
        sequence: i64,
        claim: Claim<'_>,
        defer_until: impl Fn(&[Event], Timestamp) -> Option<Timestamp>,
        render: impl Fn(&UnrenderedDelivery) -> Rendered,
    ) -> Result<Option<ClaimedDelivery>, Error> {
        let until = match self.deferrable_since(sequence).await? {
            Some(enqueued_at) => defer_until(&self.events_of(sequence).await?, enqueued_at),
            None => None,
        };
        if let Some(until) = until.filter(|until| *until > claim.now) {
            self.defer(sequence, claim.now, until).await?;
            return Ok(None);
        }
        self.claim(sequence, claim, render).await.map(Some)
    }

    pub(super) async fn claim(
        &mut self,
        sequence: i64,
        claim: Claim<'_>,
        render: impl Fn(&UnrenderedDelivery) -> Rendered,
    ) -> Result<ClaimedDelivery, Error> {
        let Claim { endpoint, format, settings, zone, public_url, now, lease, .. } = claim;
        let lease_until = now.after(lease).as_millis();
        let row = sqlx::query!(
            "select id, attempts, retry_index, message, format, template_error, final_replies, recipient, failover_from from delivery where sequence = ?",
            sequence
        )
        .fetch_one(&mut *self.tx)
        .await
        .map_err(row_error("delivery", sequence, "id attempts retry_index message format template_error final_replies recipient failover_from"))?;
        let id = &row.id;
        // Read everything before anything is written.
        let uuid = Uuid::parse_str(id).map_err(unreadable("delivery", id, "id"))?;
        if uuid.to_string() != *id {
            return Err(unreadable("delivery", id, "id")("it is not written as ids are"));
        }
        let retry_index = to_count("delivery", id, "retry_index", row.retry_index)?;
        let attempt = to_count("delivery", id, "attempts", row.attempts)?.saturating_add(1);
        let final_replies =
            serde_json::from_str(&row.final_replies).map_err(unreadable("delivery", id, "final_replies"))?;
        let contact = match row.recipient {
            Some(_) => self.contact_of(sequence).await?,
            None => None,
        };
        let same_format = row.format.as_deref().is_none_or(|stored| stored == format);
        let Rendered { message, template_error } = if let Some(message) = row.message.filter(|_| same_format) {
            Rendered { message, template_error: row.template_error }
        } else {
            let failover_from = match row.failover_from {
                Some(endpoint) => Some(self.failover_from(sequence, endpoint).await?),
                None => None,
            };
            let events = self.events_of(sequence).await?;
            let draft = UnrenderedDelivery {
                id: uuid,
                events,
                recipient: row.recipient.clone(),
                contact: contact.clone(),
                failover_from,
                zone,
                public_url: public_url.map(str::to_owned),
            };
            let rendered = render(&draft);
            if let Some(error) = &rendered.template_error {
                self.note_template_failure(endpoint, error, settings, now).await?;
            }
            rendered
        };
        self.run(sqlx::query!(
            "update delivery set attempts = ?1, next_attempt_at = ?2, message = ?3, format = ?4, template_error = ?6,
                                 unreadable_since = null, unreadable_reported_at = null
             where sequence = ?5",
            attempt,
            lease_until,
            message,
            format,
            sequence,
            template_error
        ))
        .await?;
        self.run(sqlx::query!(
            "insert into attempt (delivery, number, began_at) values (?, ?, ?)",
            id,
            attempt,
            now.as_millis()
        ))
        .await?;
        self.run(sqlx::query!(
            "update endpoint set probe_at = ?1 where name = ?2 and closed_since is not null",
            lease_until,
            endpoint
        ))
        .await?;
        Ok(ClaimedDelivery {
            sequence,
            id: uuid,
            attempt,
            retry_index,
            message,
            recipient: row.recipient,
            contact,
            final_replies,
        })
    }

    /// The contact of the customers that a delivery is about, if all have the same.
    async fn contact_of(&mut self, sequence: i64) -> Result<Option<String>, Error> {
        let contacts = sqlx::query_scalar!(
            "select distinct c.contact from delivery d
             join delivery_event de on de.delivery = d.id
             join event e on e.id = de.event
             join customer c on c.id = e.customer
             where d.sequence = ? limit 2",
            sequence
        );
        let mut contacts = contacts.fetch_all(&mut *self.tx).await?;
        Ok(if contacts.len() == 1 { contacts.pop() } else { None })
    }

    /// An open attempt is due again if the clock was set or the backoff ended: it must not be started twice.
    async fn renew_lease(&mut self, sequence: i64, until: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery set next_attempt_at = ?2 where sequence = ?1 and state = 'pending'",
            sequence,
            until.as_millis()
        ))
        .await
    }

    /// Since when it waits (enqueued, plus the time vetwatch did not run). `None` if quiet hours do not apply.
    async fn deferrable_since(&mut self, sequence: i64) -> Result<Option<Timestamp>, Error> {
        let row = sqlx::query_scalar!(
            r#"select coalesce(deferred_since, created_at) as "since!: i64" from delivery where sequence = ? and respects_quiet_hours = 1"#,
            sequence
        );
        Ok(row.fetch_optional(&mut *self.tx).await?.map(Timestamp::from_millis))
    }

    pub(super) async fn defer(&mut self, sequence: i64, now: Timestamp, until: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery set next_attempt_at = ?2, deferred_until = ?2, first_due_at = first_due_at + ?2 - ?3 where sequence = ?1",
            sequence,
            until.as_millis(),
            now.as_millis()
        ))
        .await
    }

    /// The endpoint that this delivery stands in for, and since when the first of its events was due there.
    async fn failover_from(&mut self, sequence: i64, endpoint: String) -> Result<FailoverFrom, Error> {
        let row = sqlx::query!(
            r#"select min(d.first_due_at) as "since: i64", max(d.state = 'pending' and e.unconfigured_since is null) as "tried: bool"
               from delivery me
               join delivery_event mine on mine.delivery = me.id
               join delivery_event theirs on theirs.event = mine.event and theirs.endpoint = ?2
               join delivery d on d.id = theirs.delivery
               left join endpoint e on e.name = theirs.endpoint
               where me.sequence = ?1"#,
            sequence,
            endpoint
        )
        .fetch_one(&mut *self.tx)
        .await?;
        let Some(since) = row.since else {
            let error = format!("{endpoint} holds none of its events");
            return Err(unreadable("delivery", sequence, "failover_from")(error));
        };
        let still_tried = row.tried.unwrap_or(false);
        Ok(FailoverFrom { endpoint, since: Timestamp::from_millis(since), still_tried })
    }

    /// The oldest delivery that is due. For an endpoint that is backing off: a waiting test, else that, else the one
    /// that is due first.
    async fn next_delivery(&mut self, endpoint: &str, now: i64) -> Result<Option<i64>, Error> {
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
        // The plus keeps SQLite from sorting all due rows: in this order the first one nearly always matches.
        let oldest = sqlx::query_scalar!(
            "select sequence from delivery where endpoint = ? and state = 'pending' and +next_attempt_at <= ?
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
            "select sequence from delivery where endpoint = ? and state = 'pending' and (deferred_until is null or deferred_until <= ?)
             order by next_attempt_at limit 1",
            endpoint,
            now
        )
        .fetch_optional(&mut *self.tx)
        .await?;
        Ok(first)
    }

    /// The events of a delivery, in the order in which they occurred. Fails if one cannot be read.
    pub(super) async fn events_of(&mut self, sequence: i64) -> Result<Vec<Event>, Error> {
        let rows = sqlx::query!(
            // Bytes, so that an error about invalid text names the event.
            r#"select e.id, e.type as "kind: Vec<u8>", e.occurred_at, e.data as "data: Vec<u8>" from delivery d
               join delivery_event de on de.delivery = d.id
               join event e on e.id = de.event
               where d.sequence = ? order by e.occurred_at, e.rowid"#,
            sequence
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(row_error("event", format!("of delivery {sequence}"), "id type occurred_at data"))?;
        let events = rows.into_iter().map(|row| {
            let name = String::from_utf8(row.kind).map_err(unreadable("event", &row.id, "type"))?;
            let kind = EventType::parse(&name).ok_or_else(|| format!("there is no event called {name:?}"));
            let data: EventData = serde_json::from_slice(&row.data).map_err(unreadable("event", &row.id, "data"))?;
            if data.event_id.to_string() != row.id {
                return Err(unreadable("event", &row.id, "data")(format!(
                    "it has another event_id, {}",
                    data.event_id
                )));
            }
            Ok(Event {
                kind: kind.map_err(unreadable("event", &row.id, "type"))?,
                occurred_at: Timestamp::from_millis(row.occurred_at),
                data,
            })
        });
        events.collect()
    }

    /// Since when the delivery waits, which is correct only after a [`tick`](Self::tick), and the failures in a row of
    /// it or its endpoint, whichever are more.
    pub async fn waits(&mut self, sequence: i64) -> Result<(Timestamp, u32), Error> {
        let row = sqlx::query!(
            r#"select d.first_due_at, max(d.retry_index, coalesce(e.failures, 0)) as "failures!: i64"
               from delivery d left join endpoint e on e.name = d.endpoint where d.sequence = ?"#,
            sequence
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok((Timestamp::from_millis(row.first_due_at), u32::try_from(row.failures).unwrap_or(u32::MAX)))
    }

    /// When the oldest verdict that a delivery tells was seen; `None` if it tells none.
    pub async fn verdict_seen_at(&mut self, sequence: i64) -> Result<Option<Timestamp>, Error> {
        let at = sqlx::query_scalar!(
            r#"select min(e.occurred_at) as "at: i64" from delivery_event de join event e on e.id = de.event
               where de.delivery = (select id from delivery where sequence = ?1) and e.test = 0
                 and e.type in ('vetting.approved', 'vetting.denied', 'vetting.revoked', 'vetting.vanished')"#,
            sequence
        );
        Ok(at.fetch_one(&mut *self.tx).await?.map(Timestamp::from_millis))
    }

    /// Stores the final replies so far of an open attempt.
    pub async fn save_replies(
        &mut self,
        due: &ClaimedDelivery,
        replies: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.note_refusals(due, replies, now.as_millis()).await?;
        self.run(sqlx::query!(
            "update delivery set final_replies = ?2 where sequence = ?1 and attempts = ?3",
            due.sequence,
            json(replies)?,
            due.attempt
        ))
        .await
    }

    /// The rejections in `all`. Stores them if there are more than before the attempt.
    async fn note_refusals<'r>(
        &mut self,
        due: &ClaimedDelivery,
        all: &'r BTreeMap<String, String>,
        now: i64,
    ) -> Result<BTreeMap<&'r String, &'r String>, Error> {
        let refusals: BTreeMap<_, _> = all.iter().filter(|(_, reply)| !took(reply)).collect();
        if refusals.keys().any(|recipient| !due.final_replies.contains_key(*recipient)) {
            self.save_refusals(&due.id.to_string(), &refusals, now).await?;
        }
        Ok(refusals)
    }

    /// Ends an attempt and updates its delivery in one transaction. A success always counts; a failure only if no later
    /// attempt has begun.
    pub async fn finish(
        &mut self,
        due: &ClaimedDelivery,
        result: &AttemptResult,
        decision: RetryDecision,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (id, now, response) = (due.id.to_string(), now.as_millis(), &result.detail);
        let outcome = match decision {
            RetryDecision::Delivered => "accepted",
            RetryDecision::At(_) | RetryDecision::Expired => "failed",
            RetryDecision::Rejected => "refused",
        };
        self.run(sqlx::query!(
            "update attempt set ended_at = ?1, outcome = ?2, response = ?3 where delivery = ?4 and number = ?5",
            now,
            outcome,
            response,
            id,
            due.attempt
        ))
        .await?;
        let mut all = due.final_replies.clone();
        all.extend(result.final_replies.clone());
        let refusals = self.note_refusals(due, &all, now).await?;
        let refusals: Vec<_> = refusals.iter().map(|(recipient, reply)| format!("{recipient}: {reply}")).collect();
        let all = json(&all)?;
        match decision {
            RetryDecision::Delivered => {
                let last_error = (!refusals.is_empty()).then(|| refusals.join("; "));
                self.run(sqlx::query!(
                    "update delivery set state = 'delivered', next_attempt_at = null, finished_at = ?1, interrupted = 0,
                         final_replies = ?2, last_error = ?3
                     where id = ?4",
                    now,
                    all,
                    last_error,
                    id
                ))
                .await?;
            }
            RetryDecision::At(at) => {
                self.run(sqlx::query!(
                    "update delivery set next_attempt_at = ?1, retry_index = retry_index + 1, interrupted = 0, final_replies = ?2, last_error = ?3
                     where id = ?4 and state = 'pending' and attempts = ?5",
                    at.as_millis(),
                    all,
                    response,
                    id,
                    due.attempt
                ))
                .await?;
            }
            RetryDecision::Rejected | RetryDecision::Expired => {
                self.run(sqlx::query!(
                    "update delivery set state = 'dead', next_attempt_at = null, finished_at = ?1, interrupted = 0,
                         final_replies = ?2, last_error = ?3, operators_notified_at = null
                     where id = ?4 and state = 'pending' and attempts = ?5",
                    now,
                    all,
                    response,
                    id,
                    due.attempt
                ))
                .await?;
            }
        }
        Ok(())
    }
}

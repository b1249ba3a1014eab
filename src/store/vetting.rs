//! A customer's qualification states, transitions and events.

use std::collections::HashMap;

use uuid::Uuid;

use super::reports::json_list;
use super::{CustomerId, Error, PartnerId, WriteTx, json, row_error, to_count, unreadable};
use crate::changes::{Change, LastNotified, Outcome, Pending, QualificationState, Review};
use crate::event::{CustomerRef, Event};
use crate::ids::EventKey;
use crate::qualification::{self, Entry, Verdict};
use crate::schedule::PollClass;
use crate::time::Timestamp;

/// A watched customer, as stored before a response is recorded.
#[derive(Debug, Clone)]
pub struct Customer {
    pub row: CustomerId,
    pub customer_id: String,
    pub name: String,
    pub domain: String,
    pub tags: Vec<String>,
    /// The contact, as a person wrote it.
    pub contact: String,
    pub class: PollClass,
    pub added_at: Timestamp,
    pub watch_closely_until: Option<Timestamp>,
    /// The last submission, according to the activity log.
    pub submitted_at: Option<Timestamp>,
    pub response_requested_at: Option<Timestamp>,
    pub last_seen_at: Option<Timestamp>,
    /// It is missing from Partner Center's list: polled rarely, whatever the response.
    pub unlisted: bool,
    pub muted_at: Option<Timestamp>,
    /// If muted, `None` means until it is unmuted.
    pub muted_until: Option<Timestamp>,
}

impl Customer {
    /// The reference that events carry.
    #[must_use]
    pub fn reference(&self) -> CustomerRef {
        CustomerRef {
            id: self.customer_id.clone(),
            name: self.name.clone(),
            domain: self.domain.clone(),
            tags: self.tags.clone(),
        }
    }

    /// Whether it is muted at `now`.
    #[must_use]
    pub fn is_muted(&self, now: Timestamp) -> bool {
        self.muted_at.is_some() && self.muted_until.is_none_or(|until| now < until)
    }
}

/// `5`, or `5, 7` of a statement that reads several.
fn rows_label(rows: &[CustomerId]) -> String {
    rows.iter().map(CustomerId::to_string).collect::<Vec<_>>().join(", ")
}

impl WriteTx {
    /// `None` if the customer was removed.
    pub async fn customer(&mut self, row: CustomerId) -> Result<Option<Customer>, Error> {
        Ok(self.customers(&[row]).await?.remove(&row))
    }

    /// These customers; those that were removed are left out.
    pub async fn customers(&mut self, rows: &[CustomerId]) -> Result<HashMap<CustomerId, Customer>, Error> {
        let found = sqlx::query!(
            r#"select c.id as "id!: CustomerId", customer_id, name, domain, tags, contact, poll_class, added_at, watch_closely_until, submitted_at,
                      response_requested_at, last_seen_at, departed_reason is 'missing' as "unlisted!: bool", muted_at, muted_until
               from json_each(?) cross join customer c on c.id = value and c.removed_at is null"#,
            json_list(rows)
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(row_error(
            "customer",
            rows_label(rows),
            "id customer_id name domain tags contact poll_class added_at watch_closely_until submitted_at response_requested_at \
             last_seen_at departed_reason muted_at muted_until",
        ))?;
        let customers = found.into_iter().map(|row| {
            let customer = Customer {
                row: row.id,
                customer_id: row.customer_id,
                name: row.name,
                domain: row.domain,
                tags: serde_json::from_str(&row.tags).map_err(unreadable("customer", row.id, "tags"))?,
                contact: row.contact,
                class: PollClass::parse(&row.poll_class).map_err(unreadable("customer", row.id, "poll_class"))?,
                added_at: Timestamp::from_millis(row.added_at),
                watch_closely_until: row.watch_closely_until.map(Timestamp::from_millis),
                submitted_at: row.submitted_at.map(Timestamp::from_millis),
                response_requested_at: row.response_requested_at.map(Timestamp::from_millis),
                last_seen_at: row.last_seen_at.map(Timestamp::from_millis),
                unlisted: row.unlisted,
                muted_at: row.muted_at.map(Timestamp::from_millis),
                muted_until: row.muted_until.map(Timestamp::from_millis),
            };
            Ok((row.id, customer))
        });
        customers.collect()
    }

    pub async fn states(&mut self, customer: CustomerId) -> Result<Vec<QualificationState>, Error> {
        Ok(self.states_of(&[customer]).await?.remove(&customer).unwrap_or_default())
    }

    /// The states of these customers, by customer; one without a state is left out.
    pub async fn states_of(
        &mut self,
        customers: &[CustomerId],
    ) -> Result<HashMap<CustomerId, Vec<QualificationState>>, Error> {
        let rows = sqlx::query!(
            r#"select s.id as "id!", customer as "customer!: CustomerId", qualification, present, vetting_status, vetting_reason, vetting_created_at, status_since,
                    attempt, attempt_created_at, submitted_at, attempt_seen_at,
                    notified_verdict, notified_reason, notified_created_at, notified_attempt, notified_attempt_created_at, notified_at,
                    missing_since, missing_last_present_at, missing_confirmations, missing_confirmed_at,
                    pending_status, pending_reason, pending_created_at, pending_since, pending_last_other_at, pending_confirmations,
                    pending_confirmed_at, pending_until
             from json_each(?) cross join qualification_state s on s.customer = value order by s.id"#,
            json_list(customers)
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(row_error(
            "qualification_state",
            format!("of customer {}", rows_label(customers)),
            "id customer qualification present vetting_status vetting_reason vetting_created_at status_since attempt \
             attempt_created_at submitted_at attempt_seen_at notified_verdict notified_reason notified_created_at notified_attempt \
             notified_attempt_created_at notified_at missing_since missing_last_present_at missing_confirmations missing_confirmed_at pending_status \
             pending_reason pending_created_at pending_since pending_last_other_at pending_confirmations pending_confirmed_at pending_until",
        ))?;
        let at = |ms: Option<i64>| ms.map(Timestamp::from_millis);
        let mut states: HashMap<CustomerId, Vec<QualificationState>> = HashMap::new();
        for row in rows {
            let count = |column, n: i64| to_count("qualification_state", row.id, column, n);
            let or = |ms: Option<i64>, otherwise: i64| Timestamp::from_millis(ms.unwrap_or(otherwise));
            let last_notified = match row.notified_verdict {
                None => None,
                Some(word) => Some(LastNotified {
                    verdict: Verdict::parse(&word)
                        .ok_or_else(|| format!("{word:?} is no verdict"))
                        .map_err(unreadable("qualification_state", row.id, "notified_verdict"))?,
                    reason_key: row.notified_reason,
                    created_at: at(row.notified_created_at),
                    attempt: count("notified_attempt", row.notified_attempt.unwrap_or(-1))?,
                    review_created_at: at(row.notified_attempt_created_at),
                    at: or(row.notified_at, row.status_since),
                }),
            };
            let verdict = match row.pending_since {
                None => None,
                Some(since) => Some(Pending {
                    shows: Some(Entry {
                        qualification: row.qualification.clone(),
                        vetting_status: row.pending_status,
                        vetting_reason: row.pending_reason,
                        created_at: at(row.pending_created_at),
                    }),
                    since: Timestamp::from_millis(since),
                    last_other_at: at(row.pending_last_other_at),
                    confirmations: count("pending_confirmations", row.pending_confirmations)?,
                    last_confirmed_at: or(row.pending_confirmed_at, since),
                    until: or(row.pending_until, since),
                }),
            };
            let absence = match row.missing_since {
                None => None,
                Some(since) => Some(Pending {
                    shows: None,
                    since: Timestamp::from_millis(since),
                    last_other_at: at(row.missing_last_present_at),
                    confirmations: count("missing_confirmations", row.missing_confirmations)?,
                    last_confirmed_at: or(row.missing_confirmed_at, since),
                    until: or(row.pending_until, since),
                }),
            };
            let state = QualificationState {
                entry: (row.present == 1).then(|| Entry {
                    qualification: row.qualification.clone(),
                    vetting_status: row.vetting_status,
                    vetting_reason: row.vetting_reason,
                    created_at: at(row.vetting_created_at),
                }),
                qualification: row.qualification,
                since: Timestamp::from_millis(row.status_since),
                review: Review {
                    attempt: count("attempt", row.attempt)?,
                    created_at: at(row.attempt_created_at),
                    submitted_at: at(row.submitted_at),
                    seen_at: at(row.attempt_seen_at),
                },
                last_notified,
                pending: verdict.or(absence),
            };
            states.entry(row.customer).or_default().push(state);
        }
        Ok(states)
    }

    pub async fn save_state(&mut self, customer: CustomerId, state: &QualificationState) -> Result<(), Error> {
        let ms = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
        let (entry, review, notified) = (state.entry.as_ref(), &state.review, state.last_notified.as_ref());
        let pending = state.pending.as_ref();
        let (absence, verdict) = (pending.filter(|it| it.shows.is_none()), pending.filter(|it| it.shows.is_some()));
        let pending_entry = pending.and_then(|it| it.shows.as_ref());
        self.run(sqlx::query!(
            "insert into qualification_state (customer, qualification, qualification_key, present,
                 vetting_status, vetting_reason, vetting_created_at, status_since,
                 attempt, attempt_created_at, submitted_at, attempt_seen_at,
                 notified_verdict, notified_reason, notified_created_at, notified_attempt, notified_attempt_created_at, notified_at,
                 missing_since, missing_last_present_at, missing_confirmations, missing_confirmed_at,
                 pending_status, pending_reason, pending_created_at, pending_since, pending_last_other_at, pending_confirmations,
                 pending_confirmed_at, pending_until)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             on conflict (customer, qualification_key) do update set
                 qualification = excluded.qualification, present = excluded.present,
                 vetting_status = excluded.vetting_status, vetting_reason = excluded.vetting_reason,
                 vetting_created_at = excluded.vetting_created_at, status_since = excluded.status_since,
                 attempt = excluded.attempt, attempt_created_at = excluded.attempt_created_at,
                 submitted_at = excluded.submitted_at, attempt_seen_at = excluded.attempt_seen_at,
                 notified_verdict = excluded.notified_verdict, notified_reason = excluded.notified_reason,
                 notified_created_at = excluded.notified_created_at, notified_attempt = excluded.notified_attempt,
                 notified_attempt_created_at = excluded.notified_attempt_created_at, notified_at = excluded.notified_at,
                 missing_since = excluded.missing_since, missing_last_present_at = excluded.missing_last_present_at,
                 missing_confirmations = excluded.missing_confirmations, missing_confirmed_at = excluded.missing_confirmed_at,
                 pending_status = excluded.pending_status, pending_reason = excluded.pending_reason,
                 pending_created_at = excluded.pending_created_at, pending_since = excluded.pending_since,
                 pending_last_other_at = excluded.pending_last_other_at, pending_confirmations = excluded.pending_confirmations,
                 pending_confirmed_at = excluded.pending_confirmed_at, pending_until = excluded.pending_until",
            customer,
            state.qualification,
            qualification::key(&state.qualification),
            entry.is_some(),
            entry.and_then(|it| it.vetting_status.as_deref()),
            entry.and_then(|it| it.vetting_reason.as_deref()),
            ms(entry.and_then(|it| it.created_at)),
            state.since.as_millis(),
            review.attempt,
            ms(review.created_at),
            ms(review.submitted_at),
            ms(review.seen_at),
            notified.map(|it| it.verdict.as_str()),
            notified.and_then(|it| it.reason_key.as_deref()),
            ms(notified.and_then(|it| it.created_at)),
            notified.map(|it| it.attempt),
            ms(notified.and_then(|it| it.review_created_at)),
            ms(notified.map(|it| it.at)),
            ms(absence.map(|it| it.since)),
            ms(absence.and_then(|it| it.last_other_at)),
            absence.map_or(0, |it| it.confirmations),
            ms(absence.map(|it| it.last_confirmed_at)),
            pending_entry.and_then(|it| it.vetting_status.as_deref()),
            pending_entry.and_then(|it| it.vetting_reason.as_deref()),
            ms(pending_entry.and_then(|it| it.created_at)),
            ms(verdict.map(|it| it.since)),
            ms(verdict.and_then(|it| it.last_other_at)),
            verdict.map_or(0, |it| it.confirmations),
            ms(verdict.map(|it| it.last_confirmed_at)),
            ms(pending.map(|it| it.until))
        ))
        .await
    }

    /// Records an understood response, and when the next poll is due.
    pub async fn save_response(
        &mut self,
        customer: &Customer,
        fingerprint: &str,
        began_at: Timestamp,
        seen_at: Timestamp,
        next_poll_at: Timestamp,
    ) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update customer
             set response = ?1, response_requested_at = ?2, last_seen_at = ?3, first_seen_at = coalesce(first_seen_at, ?3),
                 next_poll_at = ?4, poll_class = ?5, watch_closely_until = ?6, polling_since = null, interrupted = 0,
                 poll_failures = 0, failing_since = null, last_error = null, unreadable_since = null
             where id = ?7",
            fingerprint,
            began_at.as_millis(),
            seen_at.as_millis(),
            next_poll_at.as_millis(),
            customer.class.as_str(),
            customer.watch_closely_until.map(Timestamp::as_millis),
            customer.row
        ))
        .await
    }

    /// Appends a transition with the response that showed it. Returns its id.
    pub async fn insert_transition(
        &mut self,
        customer: CustomerId,
        change: &Change,
        observed_at: Timestamp,
        raw_answer: &str,
        request_id: Uuid,
        correlation_id: Uuid,
    ) -> Result<i64, Error> {
        let ms = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
        let done = sqlx::query!(
            "insert into transition (customer, qualification, from_status, to_status, vetting_reason, vetting_created_at,
                 attempt, submitted_at, last_seen_before_at, observed_at, first_seen, raw_answer, request_id,
                 correlation_id, previous_reason, previous_created_at, outcome)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            customer,
            change.qualification,
            change.from,
            change.to,
            change.reason,
            ms(change.created_at),
            change.review.attempt,
            ms(change.review.submitted_at),
            ms(change.last_seen_before_at),
            observed_at.as_millis(),
            change.first_seen,
            raw_answer,
            request_id.to_string(),
            correlation_id.to_string(),
            change.previous_reason,
            ms(change.previous_created_at),
            change.outcome().map(Outcome::as_str)
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(done.last_insert_rowid())
    }

    /// The first id of an event, by ordinal, that is free. Events are never deleted, not even with their customer.
    pub async fn free_event_id(&mut self, key: &EventKey) -> Result<Uuid, Error> {
        self.free_id(|ordinal| key.id(ordinal)).await
    }

    /// Stores an event. Deliveries are enqueued separately.
    pub async fn insert_event(
        &mut self,
        event: &Event,
        partner: PartnerId,
        customer: Option<CustomerId>,
        transition: Option<i64>,
    ) -> Result<(), Error> {
        self.run(sqlx::query!(
            "insert into event (id, type, transition, partner, customer, occurred_at, data, test)
             values (?, ?, ?, ?, ?, ?, ?, ?)",
            event.data.event_id.to_string(),
            event.kind.as_str(),
            transition,
            partner,
            customer,
            event.occurred_at.as_millis(),
            json(&event.data)?,
            event.data.test
        ))
        .await
    }

    /// Marks an event as muted: it is not sent, because its customer is muted.
    pub async fn mute_event(&mut self, event: &Event) -> Result<(), Error> {
        self.run(sqlx::query!("update event set muted = 1 where id = ?", event.data.event_id.to_string())).await
    }
}

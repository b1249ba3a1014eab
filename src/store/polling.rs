//! Which customers are due, and the results of polls.

use std::time::Duration;

use serde::Serialize;
use vetwatch_core::membership::Event;

use super::claimed_polls::DueRow;
use super::columns::{Count, Time};
use super::{CustomerId, Error, PartnerId, Store, WriteTx, json, unreadable};
use crate::schedule::PollClass;
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub struct PartnerRow {
    pub id: PartnerId,
    pub name: String,
    /// When vetwatch first started with it.
    pub watching_since: Timestamp,
}

/// A partner is not polled before `backoff_until`.
#[derive(Debug, Clone)]
pub struct Backoff {
    pub backoff_until: Timestamp,
    pub reason: String,
    pub backoffs: u32,
}

/// A customer that is about to be polled.
#[derive(Debug, Clone)]
pub struct DueCustomer {
    pub row: CustomerId,
    pub customer_id: String,
    /// For the log.
    pub name: String,
    pub class: PollClass,
    /// The fingerprint of its last understood response.
    pub answer: Option<String>,
    pub watch_closely_until: Option<Timestamp>,
    pub poll_failures: u32,
    /// When it was due, before it was leased.
    pub due_at: Timestamp,
    /// Partner Center has said since the last understood response that there is no relationship.
    pub refused: bool,
    /// It departed, and is polled rarely.
    pub left: bool,
}

/// The number of a partner's customers in a poll class.
#[derive(Debug, Clone)]
pub struct ClassCount {
    pub partner: String,
    /// The activity log reveals submissions: unqualified customers are polled rarely.
    pub log_is_read: bool,
    pub class: PollClass,
    pub customers: u64,
}

/// An understood response that equals the stored one.
#[derive(Debug, Serialize)]
pub struct Unchanged {
    pub row: CustomerId,
    /// The class when it was polled. If it has changed since, the customer is due no later than it is in its new class.
    pub class: &'static str,
    pub answer: String,
    pub began_at: i64,
    pub seen_at: i64,
    pub next_poll_at: i64,
}

/// A poll without an understood response.
#[derive(Debug, Serialize)]
pub struct Failed {
    pub row: CustomerId,
    pub at: i64,
    pub next_poll_at: i64,
    pub error: String,
    /// Error 403/20002. Twice in a row, and the customer departed: it is polled rarely from then on.
    pub no_relationship: bool,
    /// Three failures over at least this long make the customer unreadable.
    pub failing_after_ms: i64,
}

impl Store {
    /// The partner's backoff; `None` if there was none since the last good response.
    pub async fn backoff(&self, partner: PartnerId) -> Result<Option<Backoff>, Error> {
        let backoff = sqlx::query_as!(
            Backoff,
            r#"select backoff_until as "backoff_until!: Time", backoff_reason as "reason!", backoffs as "backoffs!: Count"
               from partner where id = ? and backoff_until is not null"#,
            partner
        );
        Ok(backoff.fetch_optional(&self.read).await?)
    }

    /// The watched customers that are not paused.
    pub async fn watched(&self, partner: PartnerId) -> Result<Vec<CustomerId>, Error> {
        let rows = sqlx::query_scalar!(
            r#"select id as "id!: CustomerId" from customer where partner = ? and removed_at is null and paused_at is null order by next_poll_at"#,
            partner
        );
        Ok(rows.fetch_all(&self.read).await?)
    }

    /// For each class: when its first and its last customer are due.
    pub async fn due_times(&self, partner: PartnerId) -> Result<Vec<(PollClass, Timestamp, Timestamp)>, Error> {
        let mut times = Vec::new();
        for class in PollClass::IN_ORDER {
            // Two index lookups; one query with both aggregates would scan the index.
            let row = sqlx::query!(
                r#"select (select min(next_poll_at) from customer where partner = ?1 and poll_class = ?2
                             and removed_at is null and paused_at is null) as "first: i64",
                          (select max(next_poll_at) from customer where partner = ?1 and poll_class = ?2
                             and removed_at is null and paused_at is null) as "last: i64""#,
                partner,
                class.as_str()
            )
            .fetch_one(&self.read)
            .await?;
            if let (Some(first), Some(last)) = (row.first, row.last) {
                times.push((class, Timestamp::from_millis(first), Timestamp::from_millis(last)));
            }
        }
        Ok(times)
    }

    /// The classes with customers due at `now`, and since when the first of them is due. Ten index lookups.
    pub async fn oldest_due(&self, partner: PartnerId, now: Timestamp) -> Result<Vec<(PollClass, Timestamp)>, Error> {
        let times = self.due_times(partner).await?;
        Ok(times.into_iter().filter(|(_, first, _)| *first <= now).map(|(class, first, _)| (class, first)).collect())
    }

    /// The polled customers of each partner, by class.
    pub async fn classes(&self) -> Result<Vec<ClassCount>, Error> {
        let rows = sqlx::query!(
            r#"select p.name, p.activity_log_counts as "log_is_read!: bool", c.poll_class, count(*) as "customers!: i64"
               from customer c join partner p on p.id = c.partner
               where c.removed_at is null and c.paused_at is null group by c.partner, c.poll_class"#
        )
        .fetch_all(&self.read)
        .await?;
        let counts = rows.into_iter().map(|row| {
            let class = PollClass::parse(&row.poll_class).map_err(unreadable("customer", &row.name, "poll_class"))?;
            let customers = u64::try_from(row.customers).unwrap_or(0);
            Ok(ClassCount { partner: row.name, log_is_read: row.log_is_read, class, customers })
        });
        counts.collect()
    }
}

impl WriteTx {
    /// The partner's row, created at its first start.
    pub async fn partner(&mut self, name: &str, now: Timestamp) -> Result<PartnerRow, Error> {
        self.run(sqlx::query!(
            "insert into partner (name, watching_since) values (?, ?) on conflict do nothing",
            name,
            now.as_millis()
        ))
        .await?;
        let row = sqlx::query_as!(
            PartnerRow,
            r#"select id as "id!: PartnerId", name, watching_since as "watching_since!: Time" from partner where name = ?"#,
            name
        );
        Ok(row.fetch_one(&mut *self.tx).await?)
    }

    /// When the partner's first complete customer list was applied.
    pub async fn first_synced_at(&mut self, partner: PartnerId) -> Result<Option<Timestamp>, Error> {
        let at = sqlx::query_scalar!("select first_synced_at from partner where id = ?", partner)
            .fetch_one(&mut *self.tx)
            .await?;
        Ok(at.map(Timestamp::from_millis))
    }

    /// At most `limit` customers of a class that are due at `now`, the longest due first.
    pub async fn due_customers(
        &mut self,
        partner: PartnerId,
        class: PollClass,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DueCustomer>, Error> {
        let rows = sqlx::query_as!(
            DueRow,
            r#"select id as "row!: CustomerId", customer_id as "customer_id!: Vec<u8>", name as "name!: Vec<u8>", poll_class as "poll_class!: Vec<u8>",
                      response as "answer: Vec<u8>", watch_closely_until, poll_failures, next_poll_at as due_at, refused_since is not null as "refused!: bool", departed_since is not null as "left!: bool"
               from customer
               where partner = ?1 and poll_class = ?2 and removed_at is null and paused_at is null and next_poll_at <= ?3
               order by next_poll_at limit ?4"#,
            partner,
            class.as_str(),
            now.as_millis(),
            limit
        )
        .fetch_all(&mut *self.tx)
        .await?;
        self.parse_due(rows, now).await
    }

    /// These customers, due or not; those that are not watched are left out.
    pub async fn customers_to_poll(
        &mut self,
        partner: PartnerId,
        rows: &[CustomerId],
        now: Timestamp,
    ) -> Result<Vec<DueCustomer>, Error> {
        let rows = json(&rows)?;
        let rows = sqlx::query_as!(
            DueRow,
            r#"select id as "row!: CustomerId", customer_id as "customer_id!: Vec<u8>", name as "name!: Vec<u8>", poll_class as "poll_class!: Vec<u8>",
                      response as "answer: Vec<u8>", watch_closely_until, poll_failures, next_poll_at as due_at, refused_since is not null as "refused!: bool", departed_since is not null as "left!: bool"
               from customer
               where partner = ?1 and removed_at is null and paused_at is null and id in (select value from json_each(?2))"#,
            partner,
            rows
        )
        .fetch_all(&mut *self.tx)
        .await?;
        self.parse_due(rows, now).await
    }

    /// Makes customers due at `lease_until`, before they are polled: a response that kills the process is out of the
    /// way.
    pub async fn lease(
        &mut self,
        customers: impl Iterator<Item = &DueCustomer>,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<(), Error> {
        let rows = json(&customers.map(|customer| customer.row).collect::<Vec<_>>())?;
        self.run(sqlx::query!(
            "update customer set next_poll_at = ?1, polling_since = ?2 where id in (select value from json_each(?3))",
            lease_until.as_millis(),
            now.as_millis(),
            rows
        ))
        .await
    }

    /// Records polls whose response was the same. Never overwrites newer data.
    pub async fn unchanged(&mut self, answers: &[Unchanged]) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update customer
             set last_seen_at = j.seen_at, response_requested_at = j.began_at,
                 next_poll_at = case when poll_class = j.class then j.next_poll_at else min(customer.next_poll_at, j.next_poll_at) end,
                 polling_since = null, interrupted = 0,
                 poll_failures = 0, failing_since = null, last_error = null, unreadable_since = null
             from (select value ->> 'row' as row, value ->> 'class' as class, value ->> 'answer' as answer,
                          value ->> 'began_at' as began_at,
                          value ->> 'seen_at' as seen_at, value ->> 'next_poll_at' as next_poll_at
                   from json_each(?)) j
             where customer.id = j.row and customer.response = j.answer
               and (customer.response_requested_at <= j.began_at or customer.response_requested_at > j.seen_at)",
            json(&answers)?
        ))
        .await
    }

    /// Records failed polls. They do not change any qualification state.
    pub async fn failed(&mut self, failures: &[Failed]) -> Result<(), Error> {
        let refused = failures.iter().filter(|failure| failure.no_relationship);
        let refused_at = refused.clone().map(|failure| failure.at).max();
        if let Some(at) = refused_at.map(Timestamp::from_millis) {
            let rows: Vec<CustomerId> = refused.map(|failure| failure.row).collect();
            self.apply_membership(&rows, Event::Refused, at).await?;
        }
        self.run(sqlx::query!(
            "update customer
             set next_poll_at = j.next_poll_at, polling_since = null, interrupted = 0,
                 poll_failures = max(poll_failures, 0) + 1, failing_since = min(coalesce(failing_since, j.at), j.at), last_error = j.error,
                 unreadable_since = case when departed_since is not null then null
                                    when unreadable_since is not null then unreadable_since
                                    when poll_failures >= 2 and j.at - failing_since >= j.failing_after then failing_since end
             from (select value ->> 'row' as row, value ->> 'at' as at, value ->> 'next_poll_at' as next_poll_at,
                          value ->> 'error' as error, value ->> 'failing_after_ms' as failing_after
                   from json_each(?)) j
             where customer.id = j.row",
            json(&failures)?
        ))
        .await
    }

    /// Releases customers that were leased and not polled; each is due at its former time.
    pub async fn release_polls(&mut self, customers: &[(CustomerId, Timestamp)]) -> Result<(), Error> {
        let customers: Vec<_> = customers.iter().map(|(row, due_at)| (row, due_at.as_millis())).collect();
        self.run(sqlx::query!(
            "update customer set next_poll_at = j.due_at, polling_since = null
             from (select value ->> 0 as row, value ->> 1 as due_at from json_each(?)) j
             where customer.id = j.row",
            json(&customers)?
        ))
        .await
    }

    /// Called at start: customers whose poll the last process did not survive are due at once; from the fifth time in a
    /// row after a minute, so that a response that kills us does not hold up the others.
    pub async fn recover_polls(&mut self, now: Timestamp) -> Result<u64, Error> {
        self.change(sqlx::query!(
            "update customer
             set interrupted = interrupted + 1, polling_since = null,
                 next_poll_at = ?1 + case when interrupted < 4 then 0 else 60000 end
             where polling_since is not null",
            now.as_millis()
        ))
        .await
    }

    /// Spreads customers that are due after `latest` over `spread` from now on.
    pub async fn clamp_polls(
        &mut self,
        partner: PartnerId,
        class: PollClass,
        latest: Timestamp,
        now: Timestamp,
        spread: Duration,
    ) -> Result<u64, Error> {
        self.change(sqlx::query!(
            "update customer set next_poll_at = ?1 + (id * 7919000) % ?5
             where partner = ?2 and poll_class = ?3 and removed_at is null and paused_at is null and next_poll_at > ?4",
            now.as_millis(),
            partner,
            class.as_str(),
            latest.as_millis(),
            i64::try_from(spread.as_millis()).unwrap_or(i64::MAX).max(1)
        ))
        .await
    }

    /// `is_throttling` if Partner Center asked for it.
    pub async fn start_backoff(
        &mut self,
        partner: PartnerId,
        until: Timestamp,
        reason: &str,
        is_throttling: bool,
    ) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner set backoff_until = max(coalesce(backoff_until, 0), ?1), backoff_reason = ?2,
                                backoff_is_throttling = ?4, backoffs = backoffs + 1
             where id = ?3",
            until.as_millis(),
            reason,
            partner,
            is_throttling
        ))
        .await
    }

    /// Has a partner that backs off polled now: its settings are others. One that is throttled waits.
    pub async fn poll_partner_now(&mut self, partner: &str, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner set backoff_until = min(backoff_until, ?2) where name = ?1 and backoff_is_throttling = 0",
            partner,
            now.as_millis()
        ))
        .await
    }

    /// Another failure of the same cause: extends a backoff that is in force.
    pub async fn extend_backoff(&mut self, partner: PartnerId, until: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner set backoff_until = max(backoff_until, ?1) where id = ?2",
            until.as_millis(),
            partner
        ))
        .await
    }

    /// Ends the backoff after a good response; the next failure is the first again.
    pub async fn clear_backoff(&mut self, partner: PartnerId) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner set backoff_until = null, backoff_reason = null, backoffs = 0 where id = ?",
            partner
        ))
        .await
    }
}

//! Activity log scans: how far the log was read, which customers submitted something, and which customers are new.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;

use super::columns::{Count, NullableTime};
use super::{CustomerId, Error, PartnerId, Store, WriteTx, json, unreadable};
use crate::schedule::PollClass;
use crate::time::Timestamp;

/// The state of a partner's activity log scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogState {
    /// Operations before this time were read.
    pub cursor: Option<Timestamp>,
    /// The end of the last scan, and of the last full scan.
    pub read_at: Option<Timestamp>,
    pub full_at: Option<Timestamp>,
    /// The newest operations come first.
    pub newest_first: bool,
    pub failing_since: Option<Timestamp>,
    pub retry_at: Option<Timestamp>,
    pub failures: u32,
    /// There is no log, or no permission to read it.
    pub refused: bool,
    /// The log is relied on: unqualified customers are polled at the longer interval.
    pub counts: bool,
}

/// A completed scan.
#[derive(Debug, Clone, Copy)]
pub struct LogRead {
    pub cursor: Timestamp,
    pub now: Timestamp,
    /// `Some` if the scan was full: whether it showed that the newest operations come first.
    pub full: Option<bool>,
    /// This was one part; the rest follows at once.
    pub goes_on: bool,
}

/// A watched customer that an operation is about.
#[derive(Debug, Clone)]
pub struct ActiveCustomer {
    pub row: CustomerId,
    pub key: String,
    pub class: PollClass,
    pub left: bool,
    pub submitted_at: Option<Timestamp>,
    pub watch_closely_until: Option<Timestamp>,
    /// A review is open.
    pub in_review: bool,
    /// The start of its newest review: the newest create date, or when a status was first seen.
    pub began_at: Option<Timestamp>,
}

/// A customer that is in the log and not in the database.
#[derive(Debug, Clone, Serialize)]
pub struct DiscoveredCustomer {
    pub id: String,
    /// The id, normalised for comparison.
    pub key: String,
    pub name: String,
    pub submitted_at: Option<i64>,
    pub watch_closely_until: i64,
}

/// An operation that was seen, with its day.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SeenOperation {
    pub operation: i64,
    pub day: i64,
}

impl Store {
    pub async fn log_state(&self, partner: PartnerId) -> Result<LogState, Error> {
        let state = sqlx::query_as!(
            LogState,
            r#"select activity_log_cursor as "cursor!: NullableTime", activity_log_read_at as "read_at!: NullableTime",
                      activity_log_full_at as "full_at!: NullableTime", activity_log_newest_first as "newest_first: bool",
                      activity_log_failing_since as "failing_since!: NullableTime",
                      activity_log_retry_at as "retry_at!: NullableTime", activity_log_failures as "failures!: Count",
                      activity_log_refused as "refused: bool", activity_log_counts as "counts: bool"
               from partner where id = ?"#,
            partner
        );
        Ok(state.fetch_one(&self.read).await?)
    }

    /// Digests of the operations that were seen and will be read again.
    pub async fn seen_operations(&self, partner: PartnerId) -> Result<HashSet<i64>, Error> {
        let seen = sqlx::query_scalar!(
            r#"select operation as "operation!" from activity_log_seen where partner = ?"#,
            partner
        );
        Ok(seen.fetch_all(&self.read).await?.into_iter().collect())
    }

    /// Up to when the customers are completely known: the last complete list, or since when the partner is watched.
    pub async fn customers_complete_at(&self, partner: PartnerId) -> Result<Timestamp, Error> {
        let at = sqlx::query_scalar!(
            r#"select coalesce(last_synced_at, watching_since) as "at!: i64" from partner where id = ?"#,
            partner
        );
        Ok(Timestamp::from_millis(at.fetch_one(&self.read).await?))
    }
}

impl WriteTx {
    /// The watched customers among these normalised ids.
    pub async fn watched_among(&mut self, partner: PartnerId, keys: &[&str]) -> Result<Vec<ActiveCustomer>, Error> {
        let rows = sqlx::query!(
            r#"select c.id as "id!: CustomerId", c.customer_key, c.poll_class, c.departed_since is not null as "left!: bool",
                      c.submitted_at, c.watch_closely_until,
                      exists (select 1 from qualification_state o
                              where o.customer = c.id and o.present = 1
                                and replace(lower(trim(o.vetting_status)), '_', '') = 'inreview') as "in_review!: bool",
                      (select max(coalesce(o.attempt_created_at, o.status_since)) from qualification_state o
                       where o.customer = c.id) as "began_at: i64"
               from json_each(?2) cross join customer c
                 on c.partner = ?1 and c.customer_key = value and c.removed_at is null"#,
            partner,
            json(&keys)?
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let at = |ms: Option<i64>| ms.map(Timestamp::from_millis);
        let watched_among = rows.into_iter().map(|row| {
            Ok(ActiveCustomer {
                row: row.id,
                key: row.customer_key,
                class: PollClass::parse(&row.poll_class).map_err(unreadable("customer", row.id, "poll_class"))?,
                left: row.left,
                submitted_at: at(row.submitted_at),
                watch_closely_until: at(row.watch_closely_until),
                in_review: row.in_review,
                began_at: at(row.began_at),
            })
        });
        watched_among.collect()
    }

    /// Those of these normalised ids that were never in the database. Customers removed by hand were.
    pub async fn never_watched(&mut self, partner: PartnerId, keys: &[&str]) -> Result<HashSet<String>, Error> {
        let unknown = sqlx::query_scalar!(
            r#"select value || '' as "key!: String" from json_each(?2)
               where not exists (select 1 from customer c where c.partner = ?1 and c.customer_key = value)"#,
            partner,
            json(&keys)?
        );
        Ok(unknown.fetch_all(&mut *self.tx).await?.into_iter().collect())
    }

    /// Records a submission. Makes nothing due.
    pub async fn note_submission(&mut self, row: CustomerId, at: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update customer set submitted_at = max(coalesce(submitted_at, 0), ?2) where id = ?1",
            row,
            at.as_millis()
        ))
        .await
    }

    /// Makes the customer due now and watches it closely; sets `class` unless an entry is missing or it departed.
    pub async fn expect(
        &mut self,
        row: CustomerId,
        until: Timestamp,
        class: PollClass,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update customer
             set watch_closely_until = max(coalesce(watch_closely_until, 0), ?2), next_poll_at = min(next_poll_at, ?4),
                 poll_class = case when poll_class = 'confirming' or departed_since is not null then poll_class else ?3 end
             where id = ?1",
            row,
            until.as_millis(),
            class.as_str(),
            now.as_millis()
        ))
        .await
    }

    /// Adds customers, due now, as a customer list sync would. Existing rows stay as they are.
    pub async fn insert_discovered(
        &mut self,
        partner: PartnerId,
        discovered: &[DiscoveredCustomer],
        now: Timestamp,
    ) -> Result<u64, Error> {
        self.change(sqlx::query!(
            "insert into customer (partner, customer_id, customer_key, name, source, added_at, next_poll_at, poll_class,
                                   watch_closely_until, submitted_at)
             select ?1, value ->> 'id', value ->> 'key', value ->> 'name', 'synced', ?3, ?3, 'in_review',
                    value ->> 'watch_closely_until', value ->> 'submitted_at'
             from json_each(?2)
             where not exists (select 1 from customer c where c.partner = ?1 and c.customer_key = value ->> 'key')
             group by value ->> 'key'",
            partner,
            json(&discovered)?,
            now.as_millis()
        ))
        .await
    }

    /// Records a completed scan.
    pub async fn log_was_read(&mut self, partner: PartnerId, read: LogRead) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner
             set activity_log_cursor = ?2,
                 activity_log_read_at = case when ?6 then activity_log_read_at else ?3 end,
                 activity_log_full_at = case when ?4 then ?3 else activity_log_full_at end,
                 activity_log_newest_first = case when ?4 then ?5 else activity_log_newest_first end,
                 activity_log_failing_since = null, activity_log_retry_at = null, activity_log_failures = 0,
                 activity_log_error = null, activity_log_refused = 0
             where id = ?1",
            partner,
            read.cursor.as_millis(),
            read.now.as_millis(),
            read.full.is_some(),
            read.full.unwrap_or_default(),
            read.goes_on
        ))
        .await
    }

    /// Records a failed scan. It says nothing about the customers in the log. `refused` if a retry alone will not help.
    pub async fn log_failed(
        &mut self,
        partner: PartnerId,
        now: Timestamp,
        retry_at: Timestamp,
        error: &str,
        refused: bool,
    ) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner
             set activity_log_failing_since = coalesce(activity_log_failing_since, ?2), activity_log_retry_at = ?3,
                 activity_log_failures = activity_log_failures + 1, activity_log_error = ?4,
                 activity_log_refused = max(activity_log_refused, ?5)
             where id = ?1",
            partner,
            now.as_millis(),
            retry_at.as_millis(),
            error,
            refused
        ))
        .await
    }

    /// Remembers operations, and forgets those before `first_day`, which are not read again.
    pub async fn remember_operations(
        &mut self,
        partner: PartnerId,
        operations: &[SeenOperation],
        first_day: i64,
    ) -> Result<(), Error> {
        self.run(sqlx::query!("delete from activity_log_seen where partner = ?1 and day < ?2", partner, first_day))
            .await?;
        self.run(sqlx::query!(
            "insert into activity_log_seen (partner, operation, day)
             select ?1, value ->> 'operation', value ->> 'day' from json_each(?2) where true
             on conflict do nothing",
            partner,
            json(&operations)?
        ))
        .await
    }

    /// Sets whether the log is relied on. Spreads unqualified customers over their new interval `every`, so that they
    /// are not all polled at once. Customers that departed or are due already keep their time.
    pub async fn set_log_available(
        &mut self,
        partner: PartnerId,
        counts: bool,
        every: Duration,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.run(sqlx::query!("update partner set activity_log_counts = ?2 where id = ?1", partner, counts)).await?;
        self.run(sqlx::query!(
            // A fixed phase per customer: one that is moved again and again still gets its turn.
            "update customer set next_poll_at = ?2 + (((id * 7919000 - ?2) % ?3) + ?3) % ?3
             where partner = ?1 and poll_class = 'unqualified' and removed_at is null and paused_at is null
               and departed_since is null and next_poll_at > ?2",
            partner,
            now.as_millis(),
            i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1)
        ))
        .await
    }
}

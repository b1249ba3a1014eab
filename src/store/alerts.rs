//! What operators must be notified of, and what they were notified of already.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::columns::NullableTime;
use super::{CustomerId, Error, PartnerId, Store, WriteTx, json};
use crate::event::Event;
use crate::partner_center::Expiry;
use crate::time::Timestamp;

/// Whether a partner responds, and which of its customers can be read.
#[derive(Debug, Clone)]
pub struct PartnerHealth {
    /// The first failed poll since the last good one.
    pub failing_since: Option<Timestamp>,
    /// The last failed poll.
    pub last_failed_at: Option<Timestamp>,
    pub last_failure: Option<String>,
    /// So many entries are missing at once that none is recorded.
    pub mass_absence_since: Option<Timestamp>,
    /// Since when it fails, as the operators were notified.
    pub failing_reported_since: Option<Timestamp>,
    pub recovered_at: Option<Timestamp>,
    /// Since when there are unreadable, or readable again, customers that were not reported yet.
    pub unreadable_pending_since: Option<Timestamp>,
    pub readable_pending_since: Option<Timestamp>,
    /// How many customers those are.
    pub unreadable: i64,
    pub readable: i64,
    /// When unreadable customers were last reported, and how many reported ones are still unreadable.
    pub customers_reported_at: Option<Timestamp>,
    pub known_unreadable: i64,
}

/// A customer that is unreadable, or readable again.
#[derive(Debug, Clone)]
pub struct UnreadableCustomer {
    pub row: CustomerId,
    pub name: String,
    pub last_error: Option<String>,
}

/// Whether an endpoint accepts messages.
#[derive(Debug, Clone)]
pub struct EndpointHealth {
    pub name: String,
    pub closed_since: Option<Timestamp>,
    /// Since when messages are handed over to it and not answered.
    pub unconfirmed_since: Option<Timestamp>,
    pub paused_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub failing_reported_at: Option<Timestamp>,
    /// When dead or stranded messages were last reported.
    pub dead_reported_at: Option<Timestamp>,
    pub pending: i64,
    /// How many of them are deferred (quiet hours).
    pub deferred: i64,
}

/// Dead deliveries that were not reported yet.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    pub count: i64,
    /// When the first of them became dead.
    pub first_at: Timestamp,
    /// The error and the id of the last one.
    pub last_error: Option<String>,
    pub id: String,
    /// All of them are about vetwatch itself.
    pub monitor_only: bool,
}

impl EndpointHealth {
    /// Since when it has accepted nothing; `None` if it works.
    #[must_use]
    pub fn failing_since(&self) -> Option<Timestamp> {
        let unconfirmed_since = self.unconfirmed_since.filter(|_| self.pending > 0);
        [self.closed_since, unconfirmed_since].into_iter().flatten().min()
    }

    /// All pending deliveries are deferred, so no attempt shows whether it works again.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending > 0 && self.deferred == self.pending
    }
}

impl PartnerHealth {
    /// How long every poll has failed, from the first failure to the last: time without a poll does not count.
    #[must_use]
    pub fn failing_for(&self) -> Duration {
        self.failing_since.zip(self.last_failed_at).map_or(Duration::ZERO, |(first, last)| last.since(first))
    }
}

impl Store {
    pub async fn partner_health(&self, partner: PartnerId) -> Result<PartnerHealth, Error> {
        let health = sqlx::query_as!(
            PartnerHealth,
            r#"select p.failing_since as "failing_since!: NullableTime", p.last_failed_at as "last_failed_at!: NullableTime",
                      p.last_failure, p.mass_absence_since as "mass_absence_since!: NullableTime",
                      p.failing_reported_since as "failing_reported_since!: NullableTime",
                      p.recovered_at as "recovered_at!: NullableTime",
                      p.unreadable_pending_since as "unreadable_pending_since!: NullableTime",
                      p.readable_pending_since as "readable_pending_since!: NullableTime",
                      count(*) filter (where c.unreadable_since is not null and c.unreadable_reported_at is null) as "unreadable!: i64",
                      count(*) filter (where c.unreadable_since is null and c.unreadable_reported_at is not null) as "readable!: i64",
                      count(*) filter (where c.unreadable_since is not null and c.unreadable_reported_at is not null)
                          as "known_unreadable!: i64",
                      max(c.unreadable_reported_at) as "customers_reported_at!: NullableTime"
               from partner p
               left join customer c on c.partner = p.id and (c.unreadable_since is not null or c.unreadable_reported_at is not null)
                                   and c.removed_at is null and c.paused_at is null
               where p.id = ? group by p.id"#,
            partner
        );
        Ok(health.fetch_one(&self.read).await?)
    }

    /// Since when every poll has failed.
    pub async fn failing_since(&self, partner: PartnerId) -> Result<Option<Timestamp>, Error> {
        let since = sqlx::query_scalar!("select failing_since from partner where id = ?", partner)
            .fetch_one(&self.read)
            .await?;
        Ok(since.map(Timestamp::from_millis))
    }

    pub async fn endpoint_health(&self, now: Timestamp) -> Result<Vec<EndpointHealth>, Error> {
        let endpoints = sqlx::query_as!(
            EndpointHealth,
            r#"select e.name, e.closed_since as "closed_since!: NullableTime",
                      e.unconfirmed_since as "unconfirmed_since!: NullableTime", e.paused_at as "paused_at!: NullableTime",
                      e.last_error, e.failing_reported_at as "failing_reported_at!: NullableTime",
                      e.dead_reported_at as "dead_reported_at!: NullableTime",
                      (select count(*) from delivery d where d.endpoint = e.name and d.state = 'pending') as "pending!: i64",
                      (select count(*) from delivery d where d.endpoint = e.name and d.state = 'pending'
                          and d.deferred_until > ?1) as "deferred!: i64"
               from endpoint e order by e.name"#,
            now.as_millis()
        );
        Ok(endpoints.fetch_all(&self.read).await?)
    }

    /// Dead deliveries of the endpoint that were not reported yet; without those of `monitor.dead_letter` events, or
    /// reports would never end, and without tests, whose result the command shows.
    pub async fn unreported_dead(&self, endpoint: &str) -> Result<Option<DeadLetters>, Error> {
        let mut reader = self.read.acquire().await?;
        unreported_dead(&mut reader, endpoint).await
    }
}

async fn unreported_dead(connection: &mut SqliteConnection, endpoint: &str) -> Result<Option<DeadLetters>, Error> {
    let rows = sqlx::query!(
        r#"select d.id, d.finished_at as "finished_at!: i64", d.last_error,
                  exists (select 1 from delivery_event de join event e on e.id = de.event
                          where de.delivery = d.id and e.type not like 'monitor.%') as "vetting!: bool"
           from delivery d
           where d.endpoint = ?1 and d.state = 'dead' and d.operators_notified_at is null
             and exists (select 1 from delivery_event de join event e on e.id = de.event
                         where de.delivery = d.id and e.type <> 'monitor.dead_letter' and e.test = 0)
           order by d.finished_at"#,
        endpoint
    );
    let rows = rows.fetch_all(connection).await?;
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(None) };
    Ok(Some(DeadLetters {
        count: i64::try_from(rows.len()).unwrap_or(i64::MAX),
        first_at: Timestamp::from_millis(first.finished_at),
        last_error: last.last_error.clone(),
        id: last.id.clone(),
        monitor_only: rows.iter().all(|row| !row.vetting),
    }))
}

impl WriteTx {
    /// Records a failed poll of the partner.
    pub async fn partner_failed(&mut self, partner: PartnerId, now: Timestamp, why: &str) -> Result<(), Error> {
        self.run(sqlx::query!(
            // A stored time in the future means that the clock was set back.
            "update partner set failing_since = min(coalesce(failing_since, ?1), ?1), last_failed_at = ?1, last_failure = ?2
             where id = ?3",
            now.as_millis(),
            why,
            partner
        ))
        .await
    }

    /// Records a good response. With `due`, customers whose polls failed meanwhile become due.
    pub async fn partner_answered(&mut self, partner: PartnerId, now: Timestamp, due: bool) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner set failing_since = null, last_failed_at = null, last_failure = null where id = ?",
            partner
        ))
        .await?;
        if due {
            self.run(sqlx::query!(
                "update customer set next_poll_at = ?1
                 where partner = ?2 and removed_at is null and paused_at is null and poll_failures > 0
                   and next_poll_at > ?1 and polling_since is null",
                now.as_millis(),
                partner
            ))
            .await?;
        }
        Ok(())
    }

    /// Stores when the partner's credentials expire.
    pub async fn save_credentials(&mut self, partner: PartnerId, ends: &[Expiry]) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner set credentials = ?1 where id = ?2 and credentials is not ?1",
            json(&ends)?,
            partner
        ))
        .await
    }

    /// Whether an event has this deduplication key.
    pub async fn has_dedup_key(&mut self, dedup_key: &str) -> Result<bool, Error> {
        let exists = sqlx::query_scalar!(
            r#"select exists (select 1 from event where dedup_key = ?) as "exists!: bool""#,
            dedup_key
        );
        Ok(exists.fetch_one(&mut *self.tx).await?)
    }

    pub async fn set_dedup_key(&mut self, event: &Event, dedup_key: &str) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update event set dedup_key = ? where id = ?",
            dedup_key,
            event.data.event_id.to_string()
        ))
        .await
    }

    /// Stores the reduced requests a minute after throttling; `None` means the configured limit.
    pub async fn set_reduced_rate_limit(&mut self, partner: PartnerId, limit: Option<u32>) -> Result<(), Error> {
        self.run(sqlx::query!("update partner set reduced_rate_limit = ? where id = ?", limit, partner)).await
    }

    /// The reduced requests a minute that are stored.
    pub async fn reduced_rate_limit(&mut self, partner: PartnerId) -> Result<Option<u32>, Error> {
        let limit = sqlx::query_scalar!("select reduced_rate_limit from partner where id = ?", partner)
            .fetch_one(&mut *self.tx)
            .await?;
        Ok(limit.and_then(|limit| u32::try_from(limit).ok()))
    }

    pub async fn mark_partner_failing(&mut self, partner: PartnerId, since: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!("update partner set failing_reported_since = ? where id = ?", since.as_millis(), partner))
            .await
    }

    pub async fn partner_recovered(&mut self, partner: PartnerId, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner set failing_reported_since = null, recovered_at = ? where id = ?",
            now.as_millis(),
            partner
        ))
        .await
    }

    /// Sets since when there are customers to report.
    pub async fn set_pending_since(
        &mut self,
        partner: PartnerId,
        unreadable_pending_since: Option<Timestamp>,
        readable_pending_since: Option<Timestamp>,
    ) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner set unreadable_pending_since = ?, readable_pending_since = ? where id = ?",
            unreadable_pending_since.map(Timestamp::as_millis),
            readable_pending_since.map(Timestamp::as_millis),
            partner
        ))
        .await
    }

    /// Takes the unreadable customers that were not reported, by name, and marks them as reported.
    pub async fn take_unreadable(
        &mut self,
        partner: PartnerId,
        now: Timestamp,
    ) -> Result<Vec<UnreadableCustomer>, Error> {
        let mut taken = sqlx::query_as!(
            UnreadableCustomer,
            r#"update customer set unreadable_reported_at = ?
               where partner = ? and unreadable_since is not null and unreadable_reported_at is null
                 and removed_at is null and paused_at is null
               returning id as "row!: CustomerId", name, last_error"#,
            now.as_millis(),
            partner
        )
        .fetch_all(&mut *self.tx)
        .await?;
        taken.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(taken)
    }

    /// Takes the reported customers that are readable again, by name.
    pub async fn take_readable(&mut self, partner: PartnerId) -> Result<Vec<UnreadableCustomer>, Error> {
        let mut taken = sqlx::query_as!(
            UnreadableCustomer,
            r#"update customer set unreadable_reported_at = null
               where partner = ? and unreadable_since is null and unreadable_reported_at is not null
                 and removed_at is null and paused_at is null
               returning id as "row!: CustomerId", name, last_error"#,
            partner
        )
        .fetch_all(&mut *self.tx)
        .await?;
        taken.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(taken)
    }

    pub async fn set_endpoint_reported(&mut self, endpoint: &str, failing_at: Option<Timestamp>) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update endpoint set failing_reported_at = ? where name = ?",
            failing_at.map(Timestamp::as_millis),
            endpoint
        ))
        .await
    }

    /// As [`Store::unreported_dead`], and marks them as reported.
    pub async fn take_dead(&mut self, endpoint: &str, now: Timestamp) -> Result<Option<DeadLetters>, Error> {
        let dead = unreported_dead(&mut self.tx, endpoint).await?;
        self.run(sqlx::query!(
            "update delivery set operators_notified_at = ? where endpoint = ? and state = 'dead' and operators_notified_at is null",
            now.as_millis(),
            endpoint
        ))
        .await?;
        self.mark_messages_reported(endpoint, now).await?;
        Ok(dead)
    }

    /// Records that messages of this endpoint were reported.
    pub(super) async fn mark_messages_reported(&mut self, endpoint: &str, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "insert into endpoint (name, dead_reported_at) values (?1, ?2) on conflict (name) do update set dead_reported_at = ?2",
            endpoint,
            now.as_millis()
        ))
        .await
    }
}

//! Deliveries that wait indefinitely: for an endpoint that is not configured, or while their endpoint accepts others.

use super::columns::{NullableTime, Time};
use super::{Error, Store, WriteTx};
use crate::event::Event;
use crate::time::Timestamp;
use vetwatch_core::reason::Reason;

/// The pending deliveries of an endpoint that is not configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    pub endpoint: String,
    /// Since when the endpoint is not configured, as far as known.
    pub unconfigured_since: Option<Timestamp>,
    pub count: i64,
    /// When the oldest was created.
    pub oldest_at: Timestamp,
    /// At least one was not reported; `monitor.dead_letter` events and tests do not count.
    pub unreported: bool,
    /// All of them are about vetwatch itself.
    pub monitor_only: bool,
    /// All of them have failed over to another endpoint.
    pub failed_over: bool,
}

/// A delivery that waits while its endpoint accepts others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoneWait {
    pub id: String,
    pub endpoint: String,
    pub since: Timestamp,
    pub last_error: Option<String>,
    /// It was reported.
    pub reported: bool,
}

impl Store {
    /// Pending deliveries for endpoints that are not in `configured`, by endpoint.
    pub async fn stranded(&self, configured: &[String]) -> Result<Vec<Stranded>, Error> {
        let stranded = sqlx::query_as!(
            Stranded,
            r#"select d.endpoint as "endpoint!: String", e.unconfigured_since as "unconfigured_since!: NullableTime",
                      count(*) as "count!: i64", min(d.created_at) as "oldest_at!: Time",
                      max(d.operators_notified_at is null
                          and exists (select 1 from delivery_event de join event v on v.id = de.event
                                      where de.delivery = d.id and v.type <> 'monitor.dead_letter' and v.test = 0))
                          as "unreported!: bool",
                      not max(exists (select 1 from delivery_event de join event v on v.id = de.event
                                      where de.delivery = d.id and v.type not like 'monitor.%')) as "monitor_only!: bool",
                      min(d.failed_over_at is not null) as "failed_over!: bool"
               from delivery d left join endpoint e on e.name = d.endpoint
               where d.state = 'pending' and d.endpoint not in (select value from json_each(?))
               group by d.endpoint order by d.endpoint"#,
            serde_json::json!(configured).to_string()
        );
        Ok(stranded.fetch_all(&self.read).await?)
    }

    /// Deliveries that have waited for 24 hours at an endpoint that works (one that does not has its own alert), oldest
    /// first, at most 100; of one endpoint, or of all.
    pub async fn lone_waits(&self, endpoint: Option<&str>, now: Timestamp) -> Result<Vec<LoneWait>, Error> {
        let waits = sqlx::query_as!(
            LoneWait,
            r#"select d.id, d.endpoint, d.first_due_at as "since!: Time", d.last_error,
                      d.operators_notified_at is not null as "reported!: bool"
               from endpoint e
               join delivery d on d.endpoint = e.name and d.state = 'pending'
               where (?1 is null or e.name = ?1) and e.closed_since is null and e.paused_at is null
                 and d.first_due_at <= ?2 and (d.deferred_until is null or d.deferred_until <= ?3)
                 and exists (select 1 from delivery_event de join event v on v.id = de.event
                             where de.delivery = d.id and v.type <> 'monitor.dead_letter' and v.test = 0)
               order by d.sequence limit 100"#,
            endpoint,
            now.before(Reason::MessageWaitsAlone.after()).as_millis(),
            now.as_millis()
        );
        Ok(waits.fetch_all(&self.read).await?)
    }

    /// The oldest pending deliveries of `endpoint` that have not failed over, at most 100.
    pub async fn not_failed_over(&self, endpoint: &str) -> Result<Vec<i64>, Error> {
        let ids = sqlx::query_scalar!(
            "select sequence from delivery where endpoint = ? and state = 'pending' and failed_over_at is null
             order by sequence limit 100",
            endpoint
        );
        Ok(ids.fetch_all(&self.read).await?)
    }
}

impl WriteTx {
    /// Records which endpoints are configured. For one that is not and has pending deliveries, no time counts towards
    /// giving them up; when it is configured again, they continue where they were.
    pub async fn note_configured(&mut self, configured: &[String], now: Timestamp) -> Result<(), Error> {
        let configured = serde_json::json!(configured).to_string();
        self.run(sqlx::query!(
            "update delivery set first_due_at = min(?2, first_due_at + ?2 - e.unconfigured_since), operators_notified_at = null
             from endpoint e
             where e.name = delivery.endpoint and e.unconfigured_since <= ?2 and e.name in (select value from json_each(?1))
               and delivery.state = 'pending' and delivery.first_due_at <= ?2",
            configured,
            now.as_millis()
        ))
        .await?;
        self.run(sqlx::query!(
            "update endpoint set unconfigured_since = null
             where unconfigured_since is not null
               and (name in (select value from json_each(?))
                    or not exists (select 1 from delivery d where d.endpoint = endpoint.name and d.state = 'pending'))",
            configured
        ))
        .await?;
        self.run(sqlx::query!(
            "insert into endpoint (name, unconfigured_since)
             select distinct endpoint, ?2 from delivery
             where state = 'pending' and endpoint not in (select value from json_each(?1))
             on conflict (name) do update set unconfigured_since = coalesce(unconfigured_since, excluded.unconfigured_since)",
            configured,
            now.as_millis()
        ))
        .await
    }

    /// Marks all pending deliveries of the endpoint as reported.
    pub async fn mark_stranded_reported(&mut self, endpoint: &str, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery set operators_notified_at = ? where endpoint = ? and state = 'pending' and operators_notified_at is null",
            now.as_millis(),
            endpoint
        ))
        .await?;
        self.mark_messages_reported(endpoint, now).await
    }

    /// Marks a waiting delivery as reported. False if it was, or is pending no longer.
    pub async fn mark_lone_wait_reported(&mut self, wait: &LoneWait, now: Timestamp) -> Result<bool, Error> {
        let done = self.change(sqlx::query!(
            "update delivery set operators_notified_at = ? where id = ? and state = 'pending' and operators_notified_at is null",
            now.as_millis(),
            wait.id
        ))
        .await?;
        self.mark_messages_reported(&wait.endpoint, now).await?;
        Ok(done > 0)
    }

    /// Marks a delivery as failed over. False if it was, or is delivered by now.
    pub async fn mark_failed_over(&mut self, sequence: i64, now: Timestamp) -> Result<bool, Error> {
        let now = now.as_millis();
        Ok(self.change(sqlx::query!(
            "update delivery set failed_over_at = ? where sequence = ? and failed_over_at is null and state <> 'delivered'",
            now,
            sequence
        ))
        .await? > 0)
    }

    /// The delivery's events that `endpoint` has no delivery of; without tests.
    ///
    /// # Errors
    /// Also if one of the events cannot be read.
    pub async fn events_missing_at(&mut self, endpoint: &str, sequence: i64) -> Result<Vec<Event>, Error> {
        let known = sqlx::query_scalar!(
            "select theirs.event from delivery me
             join delivery_event mine on mine.delivery = me.id
             join delivery_event theirs on theirs.event = mine.event
             where me.sequence = ?1 and theirs.endpoint = ?2",
            sequence,
            endpoint
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let events = self.events_of(sequence).await?;
        let is_new = |event: &Event| !event.data.test && !known.contains(&event.data.event_id.to_string());
        Ok(events.into_iter().filter(is_new).collect())
    }
}

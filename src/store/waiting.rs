//! Messages that wait without an end in sight: for an endpoint that is not in the configuration, or alone while its
//! endpoint takes later ones.

use super::{Error, Store, WriteTx};
use crate::attention::Reason;
use crate::event::Event;
use crate::time::Timestamp;

/// What waits for an endpoint that is not configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    pub endpoint: String,
    /// Since when that is known.
    pub unconfigured_since: Option<Timestamp>,
    pub count: i64,
    /// When the oldest was made.
    pub oldest_at: Timestamp,
    /// Of at least one that says something to somebody, the operators were not told.
    pub untold: bool,
    /// All of them tell of vetwatch itself.
    pub monitor_only: bool,
    /// At least one was not passed on to anybody yet.
    pub passed_on: bool,
}

/// A message that waits alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoneWait {
    pub id: String,
    pub endpoint: String,
    pub since: Timestamp,
    pub last_error: Option<String>,
    /// The operators know of it.
    pub told: bool,
}

impl Store {
    /// What waits for endpoints that are not among the `configured` ones, by endpoint.
    pub async fn stranded(&self, configured: &[String]) -> Result<Vec<Stranded>, Error> {
        let configured = serde_json::json!(configured).to_string();
        let names = sqlx::query_scalar!(
            "select distinct endpoint from delivery
             where state = 'pending' and endpoint not in (select value from json_each(?)) order by endpoint",
            configured
        );
        let mut stranded = Vec::new();
        for name in names.fetch_all(&self.read).await? {
            let row = sqlx::query!(
                r#"select count(*) as "count!: i64", min(d.created_at) as "oldest_at: i64",
                          max(d.operators_notified_at is null
                              and exists (select 1 from delivery_event de join event e on e.id = de.event
                                          where de.delivery = d.id and e.type <> 'monitor.dead_letter' and e.test = 0))
                              as "untold: bool",
                          max(exists (select 1 from delivery_event de join event e on e.id = de.event
                                      where de.delivery = d.id and e.type not like 'monitor.%')) as "vetting: bool",
                          min(d.failed_over_at is not null) as "passed_on: bool",
                          (select e.unconfigured_since from endpoint e where e.name = ?1) as "unconfigured_since: i64"
                   from delivery d where d.endpoint = ?1 and d.state = 'pending'"#,
                name
            )
            .fetch_one(&self.read)
            .await?;
            let Some(oldest_at) = row.oldest_at else { continue };
            stranded.push(Stranded {
                endpoint: name,
                unconfigured_since: row.unconfigured_since.map(Timestamp::from_millis),
                count: row.count,
                oldest_at: Timestamp::from_millis(oldest_at),
                untold: row.untold == Some(true),
                monitor_only: row.vetting != Some(true),
                passed_on: row.passed_on == Some(true),
            });
        }
        Ok(stranded)
    }

    /// Messages that have waited for 24 hours at an endpoint that works (one that does not is told of itself), oldest first;
    /// of one endpoint, or of all.
    pub async fn lone_waits(&self, endpoint: Option<&str>, now: Timestamp) -> Result<Vec<LoneWait>, Error> {
        let (before, now) = (now.before(Reason::MessageWaitsAlone.after()).as_millis(), now.as_millis());
        let rows = sqlx::query!(
            r#"select d.id, d.endpoint, d.first_due_at, d.last_error, d.operators_notified_at is not null as "told!: bool"
               from endpoint e
               join delivery d on d.endpoint = e.name and d.state = 'pending'
               where (?1 is null or e.name = ?1) and e.closed_since is null and e.paused_at is null
                 and d.first_due_at <= ?2 and (d.deferred_until is null or d.deferred_until <= ?3)
                 and exists (select 1 from delivery_event de join event v on v.id = de.event
                             where de.delivery = d.id and v.type <> 'monitor.dead_letter' and v.test = 0)
               order by d.sequence limit 100"#,
            endpoint,
            before,
            now
        );
        let rows = rows.fetch_all(&self.read).await?.into_iter().map(|row| LoneWait {
            id: row.id,
            endpoint: row.endpoint,
            since: Timestamp::from_millis(row.first_due_at),
            last_error: row.last_error,
            told: row.told,
        });
        Ok(rows.collect())
    }

    /// The oldest messages that wait for `endpoint` and were not passed on.
    pub async fn not_passed_on(&self, endpoint: &str) -> Result<Vec<i64>, Error> {
        let ids = sqlx::query_scalar!(
            "select sequence from delivery where endpoint = ? and state = 'pending' and failed_over_at is null
             order by sequence limit 100",
            endpoint
        );
        Ok(ids.fetch_all(&self.read).await?)
    }
}

impl WriteTx {
    /// Notes which endpoints are in the configuration. One that something waits for and that is not is gone; while it is,
    /// no time counts against what waits. One that came back goes on where it was.
    pub async fn note_configured(&mut self, configured: &[String], now: Timestamp) -> Result<(), Error> {
        let (configured, now) = (serde_json::json!(configured).to_string(), now.as_millis());
        sqlx::query!(
            "update delivery set first_due_at = min(?2, first_due_at + ?2 - e.unconfigured_since), operators_notified_at = null
             from endpoint e
             where e.name = delivery.endpoint and e.unconfigured_since <= ?2 and e.name in (select value from json_each(?1))
               and delivery.state = 'pending' and delivery.first_due_at <= ?2",
            configured,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update endpoint set unconfigured_since = null
             where unconfigured_since is not null
               and (name in (select value from json_each(?))
                    or not exists (select 1 from delivery d where d.endpoint = endpoint.name and d.state = 'pending'))",
            configured
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "insert into endpoint (name, unconfigured_since)
             select distinct endpoint, ?2 from delivery
             where state = 'pending' and endpoint not in (select value from json_each(?1))
             on conflict (name) do update set unconfigured_since = coalesce(unconfigured_since, excluded.unconfigured_since)",
            configured,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// The operators are told of all that waits for this endpoint.
    pub async fn stranded_told(&mut self, endpoint: &str, now: Timestamp) -> Result<(), Error> {
        let at = now.as_millis();
        sqlx::query!(
            "update delivery set operators_notified_at = ? where endpoint = ? and state = 'pending' and operators_notified_at is null",
            at,
            endpoint
        )
        .execute(&mut *self.tx)
        .await?;
        self.messages_told(endpoint, now).await
    }

    /// The operators are told of a message that waits alone. False: they were, or it does not wait any more.
    pub async fn lone_wait_told(&mut self, wait: &LoneWait, now: Timestamp) -> Result<bool, Error> {
        let at = now.as_millis();
        let done = sqlx::query!(
            "update delivery set operators_notified_at = ? where id = ? and state = 'pending' and operators_notified_at is null",
            at,
            wait.id
        )
        .execute(&mut *self.tx)
        .await?;
        self.messages_told(&wait.endpoint, now).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Marks a delivery as passed on to others. False: it was, or is delivered by now.
    pub async fn pass_on(&mut self, sequence: i64, now: Timestamp) -> Result<bool, Error> {
        let now = now.as_millis();
        let marked = sqlx::query!(
            "update delivery set failed_over_at = ? where sequence = ? and failed_over_at is null and state <> 'delivered'",
            now,
            sequence
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(marked.rows_affected() > 0)
    }

    /// The delivery's events that another endpoint has no message of.
    pub async fn events_unknown_to(&mut self, endpoint: &str, sequence: i64) -> Result<Vec<Event>, Error> {
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
        // A test says nothing to anybody but who asked for it.
        let is_new = |event: &Event| !event.data.test && !known.contains(&event.data.event_id.to_string());
        Ok(events.into_iter().filter(is_new).collect())
    }
}

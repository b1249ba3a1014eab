//! The health of an endpoint as a whole: working, failing, or gone.

use super::{ClaimedDelivery, Error, WriteTx};
use crate::time::Timestamp;

/// After this many failures in a row a reply releases what waits, even if the endpoint is not backing off.
const MANY_FAILURES: u32 = 3;

impl WriteTx {
    /// Records that the endpoint responded: what waits for it is due, except `due`, which keeps its own time.
    pub async fn endpoint_answered(
        &mut self,
        endpoint: &str,
        due: &ClaimedDelivery,
        now: Timestamp,
    ) -> Result<(), Error> {
        let failed = sqlx::query_scalar!(
            r#"select closed_since is not null or failures >= ?2 as "failed!: bool" from endpoint where name = ?1"#,
            endpoint,
            MANY_FAILURES
        );
        if failed.fetch_optional(&mut *self.tx).await?.unwrap_or(false) {
            self.release_waiting(endpoint, due, now).await?;
        }
        self.run(sqlx::query!(
            "insert into endpoint (name) values (?1)
             on conflict (name) do update set closed_since = null, probe_at = null, failures = 0, paused_at = null,
                 last_error = null, unconfirmed_since = null",
            endpoint
        ))
        .await
    }

    /// Makes pending deliveries due, except deferred ones and `due`.
    async fn release_waiting(&mut self, endpoint: &str, due: &ClaimedDelivery, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery set next_attempt_at = ?1
             where endpoint = ?2 and state = 'pending' and next_attempt_at > ?1 and id <> ?3
               and (deferred_until is null or deferred_until <= ?1)",
            now.as_millis(),
            endpoint,
            due.id.to_string()
        ))
        .await
    }

    /// Has `neighbour` probed now if it is backing off: `endpoint`, on the same server, accepts messages again. Only once
    /// for each backoff, so that one which fails for a reason of its own keeps its pauses. Called before
    /// [`endpoint_accepted`](Self::endpoint_accepted).
    pub async fn probe_neighbour(&mut self, endpoint: &str, neighbour: &str, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update endpoint set probe_at = ?3
             where name = ?2 and closed_since is not null and probe_at > ?3
               and closed_since >= coalesce((select last_accepted_at from endpoint where name = ?1), closed_since)",
            endpoint,
            neighbour,
            now.as_millis()
        ))
        .await
    }

    /// Records that the endpoint accepted a message.
    pub async fn endpoint_accepted(&mut self, endpoint: &str, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!("update endpoint set last_accepted_at = ?2 where name = ?1", endpoint, now.as_millis()))
            .await
    }

    /// Records a message that was handed over and not confirmed. The endpoint can be reached.
    pub async fn endpoint_unconfirmed(
        &mut self,
        endpoint: &str,
        due: &ClaimedDelivery,
        error: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let closed = sqlx::query_scalar!(
            r#"select closed_since is not null as "closed!: bool" from endpoint where name = ?"#,
            endpoint
        );
        if closed.fetch_optional(&mut *self.tx).await?.unwrap_or(false) {
            self.release_waiting(endpoint, due, now).await?;
        }
        self.run(sqlx::query!(
            "insert into endpoint (name, failures, last_error, unconfirmed_since) values (?1, 1, ?2, ?3)
             on conflict (name) do update set closed_since = null, probe_at = null, failures = failures + 1, last_error = ?2,
                 unconfirmed_since = coalesce(unconfirmed_since, ?3)",
            endpoint,
            error,
            now.as_millis()
        ))
        .await
    }

    /// Whether the endpoint has accepted another message since the first attempt at this one, and since the last.
    pub async fn accepted_others(&mut self, endpoint: &str, due: &ClaimedDelivery) -> Result<(bool, bool), Error> {
        let accepted = sqlx::query!(
            r#"select last_accepted_at > (select min(began_at) from attempt where delivery = ?2) as "ever: bool",
                      last_accepted_at > (select max(began_at) from attempt where delivery = ?2 and ended_at is not null)
                          as "lately: bool"
               from endpoint where name = ?1"#,
            endpoint,
            due.id.to_string()
        );
        let accepted = accepted.fetch_optional(&mut *self.tx).await?;
        Ok(accepted.map_or((false, false), |row| (row.ever == Some(true), row.lately == Some(true))))
    }

    /// Sets the time of the next probe, if the endpoint is backing off.
    pub async fn schedule_probe(&mut self, endpoint: &str, probe_at: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update endpoint set probe_at = ?2 where name = ?1 and closed_since is not null",
            endpoint,
            probe_at.as_millis()
        ))
        .await
    }

    /// Probes an endpoint that backs off now: its settings are others.
    pub async fn probe_now(&mut self, endpoint: &str, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update endpoint set probe_at = min(probe_at, ?2) where name = ?1 and closed_since is not null",
            endpoint,
            now.as_millis()
        ))
        .await
    }

    /// Records a failure. With `probe_at` the endpoint backs off: from then on one delivery at a time probes it.
    pub async fn endpoint_failed(
        &mut self,
        endpoint: &str,
        now: Timestamp,
        probe_at: Option<Timestamp>,
        error: &str,
    ) -> Result<(), Error> {
        self.run(sqlx::query!(
            "insert into endpoint (name, failures, last_error, closed_since, probe_at)
             values (?1, 1, ?2, case when ?3 is null then null else ?4 end, ?3)
             on conflict (name) do update set failures = failures + 1, last_error = ?2,
                 closed_since = case when ?3 is null then closed_since else coalesce(closed_since, ?4) end,
                 probe_at = coalesce(?3, probe_at)",
            endpoint,
            error,
            probe_at.map(Timestamp::as_millis),
            now.as_millis()
        ))
        .await
    }

    /// The endpoint's failures in a row.
    pub async fn endpoint_failures(&mut self, endpoint: &str) -> Result<u32, Error> {
        let failures = sqlx::query_scalar!("select failures from endpoint where name = ?", endpoint)
            .fetch_optional(&mut *self.tx)
            .await?;
        Ok(failures.and_then(|n| u32::try_from(n).ok()).unwrap_or(0))
    }

    /// Pauses an endpoint that said that it is gone. Its deliveries stay pending.
    pub async fn pause_endpoint(&mut self, endpoint: &str, settings: &str, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update endpoint set paused_at = ?1, paused_settings = ?2 where name = ?3",
            now.as_millis(),
            settings,
            endpoint
        ))
        .await
    }

    /// Records that the endpoint's template failed on a message.
    pub(super) async fn note_template_failure(
        &mut self,
        endpoint: &str,
        error: &str,
        settings: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.run(sqlx::query!(
            "insert into endpoint (name, template_failed_at, template_error, template_settings) values (?1, ?2, ?3, ?4)
             on conflict (name) do update set template_failed_at = ?2, template_error = ?3, template_settings = ?4",
            endpoint,
            now.as_millis(),
            error,
            settings
        ))
        .await
    }

    /// Resumes an endpoint that was paused under other settings, and forgets what another template failed on. Called at
    /// start.
    pub async fn resume_endpoint_if_changed(
        &mut self,
        endpoint: &str,
        settings: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let changed = sqlx::query_scalar!(
            r#"select exists (select 1 from endpoint where name = ?1 and paused_at is not null
                              and paused_settings is not ?2) as "changed!: bool""#,
            endpoint,
            settings
        );
        if changed.fetch_one(&mut *self.tx).await? {
            self.resume_endpoint(endpoint, now).await?;
        }
        self.run(sqlx::query!(
            "update endpoint set template_failed_at = null, template_error = null, template_settings = null
             where name = ?1 and template_settings is not ?2 and template_failed_at is not null",
            endpoint,
            settings
        ))
        .await
    }

    /// Resumes an endpoint. The time of the pause does not count towards giving up its deliveries.
    pub(super) async fn resume_endpoint(&mut self, endpoint: &str, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery set first_due_at = min(?2, first_due_at + ?2 - e.paused_at)
             from endpoint e
             where e.name = ?1 and e.paused_at <= ?2 and delivery.endpoint = ?1 and delivery.state = 'pending'
               and delivery.first_due_at <= ?2",
            endpoint,
            now.as_millis()
        ))
        .await?;
        self.run(sqlx::query!("update endpoint set paused_at = null, paused_settings = null where name = ?", endpoint))
            .await
    }
}

//! Whether work is late, and which alerts are raised.

use super::columns::NullableTime;
use super::{Error, PartnerId, Store, WriteTx};
use crate::time::{Clock as _, SystemClock, Timestamp};
use vetwatch_core::reason::Reason;

/// A partner that was ever watched.
#[derive(Debug)]
pub struct WatchedPartner {
    pub row: PartnerId,
    pub name: String,
    /// The last poll failed.
    pub failing: bool,
    pub log_is_read: bool,
    /// Since when the customer list cannot be read.
    pub list_failing_since: Option<Timestamp>,
}

/// An alert that the operators were notified of.
#[derive(Debug, Clone)]
pub struct Raised {
    pub reason: Reason,
    pub about: String,
    pub reported_at: Timestamp,
    /// Since when its cause seems gone.
    pub over_since: Option<Timestamp>,
}

impl Store {
    /// Since when vetwatch has run without a gap; `None` if it never ran.
    pub async fn alive_since(&self) -> Result<Option<Timestamp>, Error> {
        let at = sqlx::query_scalar!("select alive_since from daemon").fetch_optional(&self.read).await?;
        Ok(at.flatten().map(Timestamp::from_millis))
    }

    /// The last tick; see [`WriteTx::tick`].
    pub async fn alive_at(&self) -> Result<Option<Timestamp>, Error> {
        let at = sqlx::query_scalar!("select alive_at from daemon").fetch_optional(&self.read).await?;
        Ok(at.map(Timestamp::from_millis))
    }

    /// Records damage, if that is what the error says.
    pub fn note_damage(&self, error: &Error) {
        if error.is_damage() {
            self.damage.get_or_init(|| SystemClock.now());
        }
    }

    /// When this process first found damage.
    #[must_use]
    pub fn damage_found_at(&self) -> Option<Timestamp> {
        self.damage.get().copied()
    }

    /// Since when the database is known to be damaged; opened read-only, as the daemon raised it.
    pub async fn damaged_since(&self) -> Result<Option<Timestamp>, Error> {
        if self.opened.is_some() {
            return Ok(self.damage_found_at());
        }
        let raised = self.raised().await?.into_iter().find(|raised| raised.reason == Reason::DatabaseDamaged);
        Ok(raised.map(|raised| raised.reported_at))
    }

    /// Since when the heartbeat is not accepted, and the last answer; `None` if the last one was.
    pub async fn heartbeat_failing(&self) -> Result<Option<(Timestamp, String)>, Error> {
        let row = sqlx::query!("select heartbeat_failing_since, heartbeat_error from daemon");
        let Some(row) = row.fetch_optional(&self.read).await? else { return Ok(None) };
        Ok(row
            .heartbeat_failing_since
            .map(|since| (Timestamp::from_millis(since), row.heartbeat_error.unwrap_or_default())))
    }

    /// Since when the daemon cannot listen for `[web]`, and why; `None` if it listens.
    pub async fn page_failing(&self) -> Result<Option<(Timestamp, String)>, Error> {
        let row = sqlx::query!("select page_failing_since, page_error from daemon");
        let Some(row) = row.fetch_optional(&self.read).await? else { return Ok(None) };
        let failing = row.page_failing_since;
        Ok(failing.map(|since| (Timestamp::from_millis(since), row.page_error.unwrap_or_default())))
    }

    pub async fn watched_partners(&self) -> Result<Vec<WatchedPartner>, Error> {
        let partners = sqlx::query_as!(
            WatchedPartner,
            r#"select id as "row!: PartnerId", name, failing_since is not null as "failing!: bool",
                      activity_log_counts as "log_is_read!: bool", list_failing_since as "list_failing_since!: NullableTime"
               from partner order by name"#
        );
        Ok(partners.fetch_all(&self.read).await?)
    }

    /// When the oldest pending delivery is due; `None` if there is none, or the endpoint is backing off or paused.
    pub async fn open_delivery_due_at(&self, endpoint: &str) -> Result<Option<Timestamp>, Error> {
        let at = sqlx::query_scalar!(
            r#"select min(next_attempt_at) as "at: i64" from delivery
               where endpoint = ?1 and state = 'pending'
                 and not exists (select 1 from endpoint where name = ?1 and (closed_since is not null or paused_at is not null))"#,
            endpoint
        );
        Ok(at.fetch_one(&self.read).await?.map(Timestamp::from_millis))
    }

    /// The alerts that are raised and not cleared.
    pub async fn raised(&self) -> Result<Vec<Raised>, Error> {
        let rows = sqlx::query!("select reason, about, reported_at, over_since from raised_alert")
            .fetch_all(&self.read)
            .await?;
        // A later version clears its own reasons.
        let raised = rows.into_iter().filter_map(|row| {
            Some(Raised {
                reason: Reason::ALL.iter().copied().find(|reason| reason.as_str() == row.reason)?,
                about: row.about,
                reported_at: Timestamp::from_millis(row.reported_at),
                over_since: row.over_since.map(Timestamp::from_millis),
            })
        });
        Ok(raised.collect())
    }
}

impl WriteTx {
    /// Records whether the heartbeat was accepted; if not, why.
    pub async fn note_heartbeat(&mut self, error: Option<&str>, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update daemon
             set heartbeat_failing_since = case when ?1 is not null then coalesce(heartbeat_failing_since, ?2) end,
                 heartbeat_error = ?1",
            error,
            now.as_millis()
        ))
        .await
    }

    /// Records whether the daemon listens for `[web]`; if not, why.
    pub async fn note_page(&mut self, error: Option<&str>, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update daemon
             set page_failing_since = case when ?1 is not null then coalesce(page_failing_since, ?2) end, page_error = ?1",
            error,
            now.as_millis()
        ))
        .await
    }

    /// Raises an alert. False if it was raised already.
    pub async fn raise(&mut self, reason: Reason, about: &str, now: Timestamp) -> Result<bool, Error> {
        Ok(self
            .change(sqlx::query!(
                "insert into raised_alert (reason, about, reported_at) values (?, ?, ?) on conflict do nothing",
                reason.as_str(),
                about,
                now.as_millis()
            ))
            .await?
            > 0)
    }

    /// Sets since when the cause of an alert seems gone; `None` if it is back.
    pub async fn set_over_since(&mut self, reason: Reason, about: &str, since: Option<Timestamp>) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update raised_alert set over_since = ? where reason = ? and about = ?",
            since.map(Timestamp::as_millis),
            reason.as_str(),
            about
        ))
        .await
    }

    /// Clears an alert. False if it was not raised.
    pub async fn clear(&mut self, reason: Reason, about: &str) -> Result<bool, Error> {
        Ok(self
            .change(sqlx::query!("delete from raised_alert where reason = ? and about = ?", reason.as_str(), about))
            .await?
            > 0)
    }
}

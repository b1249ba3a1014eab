//! The configuration in force, and what became of the last reload.

use chrono_tz::UTC;
use serde::Serialize;
use vetwatch_core::message::time_format;

use super::{Error, Store, WriteTx};
use crate::time::Timestamp;

/// The configuration of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigurationState {
    /// Reloads that began and that ended, the start included.
    #[serde(skip)]
    pub begun: i64,
    #[serde(skip)]
    pub ended: i64,
    /// When the one in force was read.
    pub loaded_at: Timestamp,
    /// The file was refused since.
    pub refused_at: Option<Timestamp>,
    /// What the last reload changed, or why it was refused; a line each.
    pub lines: Vec<String>,
}

impl ConfigurationState {
    #[must_use]
    pub fn loaded_at_in_words(&self) -> String {
        time_format::moment(self.loaded_at, UTC)
    }
}

impl Store {
    /// The configuration of the daemon; `None` if none ran.
    pub async fn configuration(&self) -> Result<Option<ConfigurationState>, Error> {
        let row = sqlx::query!("select begun, ended, loaded_at, refused_at, lines from configuration");
        let row = row.fetch_optional(&self.read).await?;
        Ok(row.map(|row| ConfigurationState {
            begun: row.begun,
            ended: row.ended,
            loaded_at: Timestamp::from_millis(row.loaded_at),
            refused_at: row.refused_at.map(Timestamp::from_millis),
            lines: serde_json::from_str(&row.lines).unwrap_or_default(),
        }))
    }

    /// Records that a reload begins. The file is read after that.
    pub async fn begin_reload(&self) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        tx.run(sqlx::query!("update configuration set begun = begun + 1")).await?;
        tx.commit().await
    }

    /// Records what became of a reload.
    pub async fn end_reload(&self, refused: bool, lines: &[String], now: Timestamp) -> Result<(), Error> {
        let (now, lines) = (now.as_millis(), serde_json::Value::from(lines).to_string());
        let mut tx = self.begin().await?;
        tx.run(sqlx::query!(
            "update configuration
             set ended = begun, lines = ?1, refused_at = case when ?2 then ?3 end,
                 loaded_at = case when ?2 then loaded_at else ?3 end",
            lines,
            refused,
            now
        ))
        .await?;
        tx.commit().await
    }

    /// True if a partner gives no good answer, an endpoint cannot deliver, or the heartbeat is not accepted.
    pub async fn is_anything_failing(&self) -> Result<bool, Error> {
        let failing = sqlx::query_scalar!(
            r#"select exists (select 1 from partner where failing_since is not null or backoff_until is not null)
                   or exists (select 1 from endpoint where failures > 0)
                   or exists (select 1 from daemon where heartbeat_failing_since is not null) as "failing!: bool""#
        );
        Ok(failing.fetch_one(&self.read).await?)
    }
}

impl WriteTx {
    /// Records that the daemon starts with a configuration.
    pub async fn note_start(&mut self, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "insert into configuration (id, begun, ended, loaded_at) values (1, 1, 1, ?1)
             on conflict (id) do update
             set begun = begun + 1, ended = begun + 1, loaded_at = ?1, refused_at = null, lines = '[]'",
            now.as_millis()
        ))
        .await
    }
}

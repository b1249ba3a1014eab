//! What a host knows of the pair, in a file beside the database (`vetwatch.db.standby`): the commands read it, and a host that
//! stands by has no database to keep it in.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::elector::Leader;
use super::litestream;
use crate::store::sibling_path;
use crate::time::Timestamp;

/// A report is written at least this often, while there is a daemon.
pub const EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Leader,
    Standby,
    TakingOver,
}

/// The `standby` of `status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// When it was written.
    pub at: Timestamp,
    pub host: String,
    pub role: Role,
    /// The host that leads, since when, and its epoch. Null if none is known.
    pub leader: Option<Leader>,
    /// The hosts that could take over.
    pub others: Vec<String>,
    /// Hosts that could not, each with why.
    #[serde(default)]
    pub unable: Vec<String>,
    /// Since when no other host could take over from the leader.
    pub alone_since: Option<Timestamp>,
    pub replica: ReplicaState,
    /// Why this host cannot take part or take over, and since when.
    pub error: Option<String>,
    pub failing_since: Option<Timestamp>,
    /// The epoch that this host's database belongs to. Null if it has none.
    pub data_epoch: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaState {
    /// Without a login.
    pub place: String,
    /// When it last had everything. Null on a host that does not lead.
    pub synced_at: Option<Timestamp>,
    pub failing_since: Option<Timestamp>,
    pub error: Option<String>,
    /// First attempts since the takeover that did not wait for the replica, because it failed.
    pub unreplicated_attempts: u64,
}

fn path(database: &Path) -> PathBuf {
    sibling_path(database, ".standby")
}

/// The last report; `None` if there is none, or it cannot be read.
#[must_use]
pub fn read(database: &Path) -> Option<HostState> {
    serde_json::from_slice(&std::fs::read(path(database)).ok()?).ok()
}

/// Removes what a configuration with `[standby]` left.
pub fn forget(database: &Path) {
    if path(database).exists() {
        let _ = litestream::forget_path(database);
        let _ = std::fs::remove_file(path(database));
    }
}

impl HostState {
    /// The first report of a process on this host.
    #[must_use]
    pub fn begin(database: &Path, host: &str, place: String, now: Timestamp) -> Self {
        Self {
            at: now,
            host: host.to_owned(),
            role: Role::Standby,
            leader: None,
            others: Vec::new(),
            unable: Vec::new(),
            alone_since: None,
            replica: ReplicaState { place, ..ReplicaState::default() },
            error: None,
            failing_since: None,
            data_epoch: read(database).and_then(|last| last.data_epoch),
        }
    }

    /// Writes it in one step, so that nobody reads a part. A report that a power cut undoes costs a restore at most.
    ///
    /// # Errors
    /// When the directory cannot be written to.
    pub fn write(&self, database: &Path) -> io::Result<()> {
        let (path, partial) = (path(database), sibling_path(database, ".standby.partial"));
        std::fs::write(&partial, serde_json::to_vec(self)?)?;
        std::fs::rename(partial, path)
    }

    /// True if no daemon keeps it up.
    #[must_use]
    pub fn is_old(&self, now: Timestamp) -> bool {
        now.since(self.at) > EVERY * 3
    }

    pub fn fail(&mut self, error: String, now: Timestamp) {
        self.failing_since = self.failing_since.or(Some(now));
        self.error = Some(error);
    }

    pub fn succeed(&mut self) {
        (self.failing_since, self.error) = (None, None);
    }
}

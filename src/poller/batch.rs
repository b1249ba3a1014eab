//! What is committed together: answers that change nothing are cheap by the hundred.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::{Failed, Unchanged};

/// Answers that say the same are committed together, this many or after this long.
pub(super) const BATCH: (usize, Duration) = (500, Duration::from_secs(1));

/// What is committed together.
pub(super) struct Batch {
    pub(super) unchanged: Vec<Unchanged>,
    pub(super) failed: Vec<Failed>,
    pub(super) not_asked: Vec<i64>,
    since: Instant,
}

impl Default for Batch {
    fn default() -> Self {
        Self { unchanged: Vec::new(), failed: Vec::new(), not_asked: Vec::new(), since: Instant::now() }
    }
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.unchanged.len() + self.failed.len() >= BATCH.0 || self.since.elapsed() >= BATCH.1
    }
}

//! What is committed together: answers that change nothing are cheap by the hundred.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::{Failed, Unchanged};
use crate::time::Timestamp;

/// Answers that say the same are committed together, this many or after this long.
const BATCH: (usize, Duration) = (500, Duration::from_secs(1));

/// What is committed together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) unchanged: Vec<Unchanged>,
    pub(super) failed: Vec<Failed>,
    pub(super) not_asked: Vec<(i64, Timestamp)>,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Batch {
    pub(super) fn unchanged(&mut self, answer: Unchanged) {
        self.unchanged.push(answer);
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn failed(&mut self, failure: Failed) {
        self.failed.push(failure);
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn not_asked(&mut self, customer: i64, due_at: Timestamp) {
        self.not_asked.push((customer, due_at));
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// When it is to be committed, however few they are.
    pub(super) fn full_at(&self) -> Option<Instant> {
        self.since.map(|since| since + BATCH.1)
    }

    pub(super) fn is_full(&self) -> bool {
        let is_old = self.full_at().is_some_and(|at| at <= Instant::now());
        is_old || self.unchanged.len() + self.failed.len() + self.not_asked.len() >= BATCH.0
    }
}

//! Poll results that are committed together: those that change nothing are cheap by the hundred.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::{CustomerId, Failed, Unchanged};
use crate::time::Timestamp;

const MAX_BATCH_ROWS: usize = 500;
const MAX_BATCH_AGE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) unchanged: Vec<Unchanged>,
    pub(super) failed: Vec<Failed>,
    pub(super) released: Vec<(CustomerId, Timestamp)>,
    /// When the first of them arrived.
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

    pub(super) fn release(&mut self, customer: CustomerId, due_at: Timestamp) {
        self.released.push((customer, due_at));
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// When it is to be committed, however small.
    pub(super) fn full_at(&self) -> Option<Instant> {
        self.since.map(|since| since + MAX_BATCH_AGE)
    }

    pub(super) fn is_full(&self) -> bool {
        let is_old = self.full_at().is_some_and(|at| at <= Instant::now());
        is_old || self.unchanged.len() + self.failed.len() + self.released.len() >= MAX_BATCH_ROWS
    }
}

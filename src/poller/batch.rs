//! Poll results to be written. Responses that may change something are recorded at once, those that arrived together in
//! one transaction; the others are cheap by the hundred, and wait for each other.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::partner_center::Answer;
use crate::store::{CustomerId, DueCustomer, Failed, Unchanged};
use crate::time::Timestamp;

const MAX_BATCH_ROWS: usize = 500;
const MAX_BATCH_AGE: Duration = Duration::from_secs(1);
/// Responses recorded in one transaction: a verdict waits for no more than a few milliseconds of another one.
const MAX_GROUP: usize = 32;

/// A response that may differ from the stored state.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) customer: DueCustomer,
    pub(super) answer: Box<Answer>,
    pub(super) is_second: bool,
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    changed: VecDeque<Changed>,
    pub(super) unchanged: Vec<Unchanged>,
    pub(super) failed: Vec<Failed>,
    pub(super) released: Vec<(CustomerId, Timestamp)>,
    /// When the first of those that wait arrived.
    since: Option<Instant>,
}

impl Batch {
    pub(super) fn changed(&mut self, changed: Changed) {
        self.changed.push_back(changed);
    }

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

    /// The number of responses to record.
    pub(super) fn to_record(&self) -> usize {
        self.changed.len()
    }

    /// Takes the responses to record next, of different customers. First sights, which come by the thousand, wait for the
    /// others, among which may be a verdict.
    pub(super) fn take_group(&mut self) -> Vec<Changed> {
        let is_known = |changed: &Changed| changed.customer.answer.is_some();
        let any_known = self.changed.iter().any(is_known);
        let mut group: Vec<Changed> = Vec::new();
        for changed in std::mem::take(&mut self.changed) {
            let is_other = group.iter().all(|other| other.customer.row != changed.customer.row);
            if group.len() < MAX_GROUP && is_other && (is_known(&changed) || !any_known) {
                group.push(changed);
            } else {
                self.changed.push_back(changed);
            }
        }
        group
    }

    /// Puts back responses that could not be recorded.
    pub(super) fn put_back(&mut self, group: impl DoubleEndedIterator<Item = Changed>) {
        for changed in group.rev() {
            self.changed.push_front(changed);
        }
    }

    /// True if nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// When those that wait are to be written, however few.
    pub(super) fn full_at(&self) -> Option<Instant> {
        self.since.map(|since| since + MAX_BATCH_AGE)
    }

    pub(super) fn is_full(&self) -> bool {
        let is_old = self.full_at().is_some_and(|at| at <= Instant::now());
        is_old || self.unchanged.len() + self.failed.len() + self.released.len() >= MAX_BATCH_ROWS
    }

    /// Takes those that wait, without the responses to record.
    pub(super) fn take_waiting(&mut self) -> Self {
        let changed = std::mem::take(&mut self.changed);
        std::mem::replace(self, Self { changed, ..Self::default() })
    }

    /// Adds results that could not be written.
    pub(super) fn add(&mut self, other: Self) {
        self.unchanged.extend(other.unchanged);
        self.failed.extend(other.failed);
        self.released.extend(other.released);
        self.since = other.since.or(self.since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qualification::Snapshot;
    use crate::schedule::PollClass;

    fn changed(row: i64, is_known: bool) -> Changed {
        let now = Timestamp::from_millis(1_760_000_000_000);
        let customer = DueCustomer {
            row: CustomerId(row),
            customer_id: String::new(),
            name: String::new(),
            class: PollClass::Unseen,
            answer: is_known.then(String::new),
            watch_closely_until: None,
            poll_failures: 0,
            due_at: now,
            refused: false,
            left: false,
        };
        let answer = Answer {
            snapshot: Snapshot::default(),
            raw: String::new(),
            request_id: uuid::Uuid::nil(),
            correlation_id: uuid::Uuid::nil(),
            began_at: now,
            ended_at: now,
        };
        Changed { customer, answer: Box::new(answer), is_second: false }
    }

    fn group(batch: &mut Batch) -> Vec<i64> {
        batch.take_group().iter().map(|changed| changed.customer.row.0).collect()
    }

    #[test]
    fn a_verdict_waits_for_no_first_sight_and_a_customer_is_in_a_group_once() {
        let mut batch = Batch::default();
        for row in 0..40 {
            batch.changed(changed(row, false));
        }
        batch.changed(changed(100, true));
        batch.changed(changed(101, true));
        batch.changed(changed(100, true));
        assert_eq!(group(&mut batch), [100, 101]);
        assert_eq!(group(&mut batch), [100]);
        assert_eq!(group(&mut batch), (0..32).collect::<Vec<_>>());
        batch.changed(changed(32, false));
        let late = batch.take_group();
        assert_eq!(late.len(), 8);
        batch.put_back(late.into_iter());
        assert_eq!(group(&mut batch), (32..40).collect::<Vec<_>>());
        assert_eq!((group(&mut batch), batch.to_record()), (vec![32], 0));
    }
}

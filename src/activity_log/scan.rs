//! The progress of one scan of the log.

use std::collections::HashSet;

use chrono::NaiveDate;

use super::ActivityById;
use super::customer_activity::CustomerActivity;
use crate::partner_center::{Continuation, Error, Operation, OperationPage};
use crate::store::SeenOperation;
use crate::time::Timestamp;

pub(super) const DAY_MS: i64 = 86_400_000;

/// Five million operations. A longer log is treated as malformed.
const MAX_PAGES: u32 = 10_000;
/// Operations needed to conclude that the order is newest first, rather than chance.
const MIN_ORDERED: usize = 20;

#[derive(Debug)]
pub(super) struct LogScan {
    pub(super) from: NaiveDate,
    /// Up to now if `None`.
    pub(super) to: Option<NaiveDate>,
    pub(super) after: Option<Continuation>,
    requested: HashSet<Continuation>,
    pub(super) pages: u32,
    pub(super) activity: ActivityById,
    /// The date of the newest operation.
    pub(super) newest: Option<Timestamp>,
    /// Operations that were not seen before.
    pub(super) new: Vec<SeenOperation>,
    /// Operations of earlier scans, if the scan may stop at them.
    pub(super) seen: Option<HashSet<i64>>,
    may_stop: bool,
    stopped: bool,
    order: Order,
}

#[derive(Debug, Default)]
struct Order {
    count: usize,
    last: Option<Timestamp>,
    /// Whether any operation was newer, and any older, than the one before it.
    rises: bool,
    falls: bool,
}

impl Order {
    fn note(&mut self, at: Timestamp) {
        self.count += 1;
        self.rises |= self.last.is_some_and(|last| at > last);
        self.falls |= self.last.is_some_and(|last| at < last);
        self.last = Some(at);
    }
}

impl LogScan {
    pub(super) fn new(from: NaiveDate, to: Option<NaiveDate>, may_stop: bool) -> Self {
        Self {
            from,
            to,
            after: None,
            requested: HashSet::new(),
            pages: 0,
            activity: ActivityById::default(),
            newest: None,
            new: Vec::new(),
            seen: None,
            may_stop,
            stopped: false,
            order: Order::default(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stopped || self.after.is_none()
    }

    /// True if the scan did not stop early.
    pub(super) fn is_full(&self) -> bool {
        !self.stopped
    }

    pub(super) fn shows_newest_first(&self) -> bool {
        !self.order.rises && self.order.falls && self.order.count >= MIN_ORDERED
    }

    /// True if the scan may stop early and goes beyond this page.
    pub(super) fn needs_seen_ids(&self, page: &OperationPage) -> bool {
        self.may_stop && self.seen.is_none() && page.next.is_some()
    }

    /// # Errors
    /// When the pages form a cycle.
    pub(super) fn take(&mut self, page: OperationPage, now: Timestamp) -> Result<(), Error> {
        self.pages += 1;
        let mut is_known = !page.operations.is_empty();
        for operation in &page.operations {
            is_known &= self.note_operation(operation, now);
        }
        self.after = page.next;
        if let Some(next) = &self.after
            && (self.pages >= MAX_PAGES || !self.requested.insert(next.clone()))
        {
            let what = format!("the activity log goes in a circle; {} pages were read", self.pages);
            return Err(Error::Unreadable { what, correlation_id: None });
        }
        self.stopped = self.may_stop && is_known && !self.order.rises && self.after.is_some();
        Ok(())
    }

    /// Adds an operation; true if an earlier scan saw it.
    fn note_operation(&mut self, operation: &Operation, now: Timestamp) -> bool {
        let at = operation.at;
        self.order.note(at);
        self.newest = self.newest.max(Some(at));
        CustomerActivity::note(&mut self.activity, operation, now);
        let is_seen = self.seen.as_ref().is_some_and(|seen| seen.contains(&operation.digest));
        if !is_seen {
            self.new.push(SeenOperation { operation: operation.digest, day: at.as_millis().div_euclid(DAY_MS) });
        }
        is_seen
    }
}

//! A look at the log as far as it has come.

use std::collections::HashSet;

use chrono::NaiveDate;

use super::ActivityById;
use super::customer_activity::CustomerActivity;
use crate::partner_center::{Continuation, Error, Operation, OperationPage};
use crate::store::SeenOperation;
use crate::time::Timestamp;

pub(super) const DAY_MS: i64 = 86_400_000;

/// Five million operations. A log that goes on is none.
const PAGES: u32 = 10_000;
/// So many operations in a row, each no newer than the one before: that is an order and no chance.
const ENOUGH: usize = 20;

#[derive(Debug)]
pub(super) struct LogScan {
    pub(super) from: NaiveDate,
    /// `None`: up to now.
    pub(super) to: Option<NaiveDate>,
    pub(super) after: Option<Continuation>,
    asked: HashSet<Continuation>,
    pub(super) pages: u32,
    pub(super) acts: ActivityById,
    /// The date of the newest operation.
    pub(super) newest: Option<Timestamp>,
    /// Operations that were not seen before.
    pub(super) new: Vec<SeenOperation>,
    /// Operations of earlier looks, if it may stop at them.
    pub(super) seen: Option<HashSet<i64>>,
    may_stop: bool,
    stopped: bool,
    order: Order,
}

/// In which order operations came.
#[derive(Debug, Default)]
struct Order {
    count: usize,
    last: Option<Timestamp>,
    /// One was newer than the one before it; one was older.
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
            asked: HashSet::new(),
            pages: 0,
            acts: ActivityById::default(),
            newest: None,
            new: Vec::new(),
            seen: None,
            may_stop,
            stopped: false,
            order: Order::default(),
        }
    }

    /// Nothing more is to be read.
    pub(super) fn is_over(&self) -> bool {
        self.stopped || self.after.is_none()
    }

    /// It went through everything.
    pub(super) fn is_full(&self) -> bool {
        !self.stopped
    }

    pub(super) fn shows_newest_first(&self) -> bool {
        !self.order.rises && self.order.falls && self.order.count >= ENOUGH
    }

    /// Whether it is time to know what was seen: there is more than this page.
    pub(super) fn needs_seen_ids(&self, page: &OperationPage) -> bool {
        self.may_stop && self.seen.is_none() && page.next.is_some()
    }

    /// Takes a page over.
    ///
    /// # Errors
    /// When the pages go in a circle.
    pub(super) fn take(&mut self, page: OperationPage, now: Timestamp) -> Result<(), Error> {
        self.pages += 1;
        let mut is_known = !page.operations.is_empty();
        for operation in &page.operations {
            is_known &= self.operation(operation, now);
        }
        self.after = page.next;
        if let Some(next) = &self.after
            && (self.pages >= PAGES || !self.asked.insert(next.clone()))
        {
            let what = format!("the activity log goes in a circle; {} pages were read", self.pages);
            return Err(Error::Unreadable { what, correlation_id: None });
        }
        self.stopped = self.may_stop && is_known && !self.order.rises && self.after.is_some();
        Ok(())
    }

    /// Whether it was seen before.
    fn operation(&mut self, operation: &Operation, now: Timestamp) -> bool {
        let at = operation.at;
        self.order.note(at);
        self.newest = self.newest.max(Some(at));
        CustomerActivity::note(&mut self.acts, operation, now);
        let is_seen = self.seen.as_ref().is_some_and(|seen| seen.contains(&operation.digest));
        if !is_seen {
            self.new.push(SeenOperation { operation: operation.digest, day: at.as_millis().div_euclid(DAY_MS) });
        }
        is_seen
    }
}

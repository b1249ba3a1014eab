//! The request log: the newest requests, counters since the start, and protocol violations.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entra::Authorization;
use super::errors::Reply;
use super::hourly_counts::{Hour, Hours};
use vetwatch_core::time::Timestamp;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Token,
    /// The login server's sign-in page, and the documents with its endpoints and keys.
    SignIn,
    /// A page of the customer list.
    Customers,
    Qualifications,
    /// `POST …/qualifications`.
    Submissions,
    Validations,
    /// A page of the activity log.
    AuditRecords,
    /// A path that Partner Center does not have, or that the sandbox does not know.
    Unknown,
}

impl Kind {
    /// True for API requests, which need a bearer token and headers, and are throttled.
    pub(super) fn is_api(self) -> bool {
        matches!(
            self,
            Self::Customers | Self::Qualifications | Self::Submissions | Self::Validations | Self::AuditRecords
        )
    }
}

/// State of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// No response yet: held, delayed or hanging.
    Open,
    /// The response was written, as far as intended.
    Answered,
    /// The client disconnected before the response.
    Abandoned,
    /// The connection was closed instead of a response.
    Severed,
}

/// Which state of a customer a successful response shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    #[default]
    Present,
    /// As from a lagging replica.
    Past,
    /// As if there were no qualifications.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// Sequence number, from 1.
    pub seq: u64,
    pub at: Timestamp,
    pub method: String,
    /// Includes the query.
    pub path: String,
    pub kind: Kind,
    /// As spelled in the path.
    pub customer: Option<String>,
    pub authorization: Authorization,
    pub request_id: Option<String>,
    pub correlation_id: Option<String>,
    /// The fault that was applied; `throttle` if the rate limit rejected the request.
    pub fault: Option<String>,
    pub shown: Shown,
    pub status: Option<u16>,
    pub progress: Progress,
    /// The body of a response about qualifications.
    #[serde(skip)]
    pub body: Bytes,
}

impl Record {
    /// True for a request about this customer, in any spelling of the id.
    pub(super) fn is_about(&self, customer: &str) -> bool {
        self.customer.as_deref().is_some_and(|id| id.eq_ignore_ascii_case(customer))
    }
}

/// A request that a careful client would not have sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Violation {
    pub seq: u64,
    pub at: Timestamp,
    pub path: String,
    pub problem: String,
}

/// Counters for one kind of request, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub requests: u64,
    pub throttled: u64,
    /// Requests that an injected fault applied to.
    pub faulted: u64,
    pub abandoned: u64,
    pub severed: u64,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
}

/// Problems beyond this many are only counted.
const KEPT_VIOLATIONS: usize = 1000;
/// Request ids are remembered for at least this many requests.
const KEPT_IDS: usize = 1_000_000;

#[derive(Debug)]
pub struct RequestLog {
    capacity: usize,
    last: u64,
    ring: VecDeque<Record>,
    counts: BTreeMap<Kind, Counts>,
    hours: Hours,
    by_customer: HashMap<String, BTreeMap<Kind, u64>>,
    violations: VecDeque<Violation>,
    violated: u64,
    ids: [HashSet<Uuid>; 2],
}

impl RequestLog {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            last: 0,
            ring: VecDeque::new(),
            counts: BTreeMap::new(),
            hours: Hours::default(),
            by_customer: HashMap::new(),
            violations: VecDeque::new(),
            violated: 0,
            ids: <[HashSet<Uuid>; 2]>::default(),
        }
    }

    /// The number of the newest request.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Requests so far of this kind and about this customer, in any spelling of the id. `None` counts all.
    pub fn count(&self, kind: Option<Kind>, customer: Option<&str>) -> u64 {
        match (kind, customer.map(|customer| self.by_customer.get(&customer.to_lowercase()))) {
            (None, None) => self.last,
            (Some(kind), None) => self.counts.get(&kind).map_or(0, |counts| counts.requests),
            (None, Some(kinds)) => kinds.into_iter().flat_map(BTreeMap::values).sum(),
            (Some(kind), Some(kinds)) => kinds.and_then(|kinds| kinds.get(&kind)).copied().unwrap_or(0),
        }
    }

    pub fn counts(&self) -> &BTreeMap<Kind, Counts> {
        &self.counts
    }

    /// Requests by clock hour of arrival, oldest first.
    pub fn hours(&self) -> impl DoubleEndedIterator<Item = Hour> {
        self.hours.all()
    }

    /// Stored requests with a number above `seq`, oldest first.
    pub fn after(&self, seq: u64) -> impl Iterator<Item = &Record> {
        let first = self.ring.front().map_or(0, |record| record.seq);
        let skipped = usize::try_from((seq + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.ring.range(skipped.min(self.ring.len())..)
    }

    /// Protocol violations, oldest first; see [`Self::violated`].
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.violations.iter()
    }

    /// Number of violations, including those not stored.
    pub fn violated(&self) -> u64 {
        self.violated
    }

    pub(super) fn arrive(&mut self, mut record: Record) -> u64 {
        self.last += 1;
        record.seq = self.last;
        self.hours.count(record.at, record.kind);
        let counts = self.counts.entry(record.kind).or_default();
        counts.requests += 1;
        match record.fault.as_deref() {
            Some("throttle") => counts.throttled += 1,
            Some(_) => counts.faulted += 1,
            None => {}
        }
        if let Some(customer) = &record.customer {
            let kinds = match self.by_customer.get_mut(customer.as_str()) {
                Some(kinds) => kinds,
                None => self.by_customer.entry(customer.to_lowercase()).or_default(),
            };
            *kinds.entry(record.kind).or_default() += 1;
        }
        if self.capacity > 0 {
            if self.ring.len() >= self.capacity {
                self.ring.pop_front();
            }
            self.ring.push_back(record);
        }
        self.last
    }

    pub(super) fn finish(&mut self, seq: u64, kind: Kind, progress: Progress, reply: Option<&Reply>) {
        let status = reply.map(|reply| reply.status.as_u16());
        let counts = self.counts.entry(kind).or_default();
        match progress {
            Progress::Open => {}
            Progress::Answered => *counts.statuses.entry(status.unwrap_or(0)).or_default() += 1,
            Progress::Abandoned => counts.abandoned += 1,
            Progress::Severed => counts.severed += 1,
        }
        if let Some(record) = self.index(seq).and_then(|index| self.ring.get_mut(index)) {
            (record.progress, record.status) = (progress, status);
            if let Some(reply) = reply.filter(|_| kind == Kind::Qualifications) {
                record.body = reply.body().clone();
            }
        }
    }

    pub(super) fn violation(&mut self, violation: Violation) {
        self.violated += 1;
        if self.violations.len() < KEPT_VIOLATIONS {
            self.violations.push_back(violation);
        }
    }

    /// The progress and status of a stored request; `None` if it was dropped.
    pub(super) fn end_of(&self, seq: u64) -> Option<(Progress, Option<u16>)> {
        self.ring.get(self.index(seq)?).map(|record| (record.progress, record.status))
    }

    fn index(&self, seq: u64) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.ring.front()?.seq)?).ok()
    }

    /// Remembers an id; false if it was already used.
    pub(super) fn is_new(&mut self, request_id: Uuid) -> bool {
        let [current, older] = &mut self.ids;
        if current.len() >= KEPT_IDS {
            *older = std::mem::take(current);
        }
        !older.contains(&request_id) && current.insert(request_id)
    }
}

//! Who submitted something, who became a customer: Partner Center's activity log, read every few minutes.
//!
//! The log knows what users and applications of the partner did, never what Microsoft decided. So all that follows
//! from it is that somebody is asked sooner, or is on the roster; what is believed of a customer, only the customer's own
//! answer says.
//!
//! The log is asked for by days, and in which order it comes is not documented. A look goes through everything since
//! the cursor, less an overlap for operations that appear late; only where the log has shown that the newest comes first,
//! it stops at a page of which everything was seen, and even there not always. What a look found and how far it came is
//! one transaction.

mod customer_activity;
mod scan;

use std::sync::Arc;
use std::time::Duration;

use chrono::{Days, NaiveDate};
use tokio::sync::Mutex;
use tracing::{debug, info, warn};

use self::customer_activity::ActivityById;
use self::scan::LogScan;
use crate::calendar::Reminders;
use crate::partner_center::{Budget, Error, PartnerCenter, Reader};
use crate::poller::{LONGEST_GATE, pause};
use crate::store::{self, Backoff, LogRead, LogState, SeenOperation, Store};
use crate::time::{Clock, Timestamp};

/// Operations appear this much later than they are dated, at most.
const OVERLAP: Duration = Duration::from_hours(12);
/// Where nothing happens for longer, the days before are not read again for ever.
const MAX_CURSOR_AGE: Duration = Duration::from_hours(24 * 7);
/// Refused are more than 30 days at once, and what is older than 90; less, as nobody says how days are counted.
const MAX_QUERY_SPAN: u64 = 28;
const LOG_RETENTION: u64 = 89;
/// At least so often a look stops nowhere before the end: operations that appeared late are not always on top.
const FULL_SCAN_EVERY: Duration = Duration::from_hours(1);
/// A round reads this many pages at most; the next one goes on.
const PAGES_A_ROUND: u32 = 20;
/// So many operations are remembered; more are read again each time.
const MAX_SEEN_IDS: usize = 100_000;
/// A log that could not be read is asked for again after this long, then after twice as long.
const RETRY: Duration = Duration::from_mins(5);
/// Refused so many times in a row, it is no accident. Then, and if there is no right to it, once a day.
const REFUSALS: u32 = 3;
const A_DAY: Duration = Duration::from_hours(24);

/// Reads one partner's log.
pub struct ActivityLog {
    pub partner: i64,
    pub name: String,
    pub client: Arc<PartnerCenter>,
    pub budget: Arc<Budget>,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub every: Duration,
    /// Nobody is asked less often than this: what lies further back at the first look, everybody's answers have shown.
    pub unqualified: Duration,
    /// How long the gate closes depends on it.
    pub in_review: Duration,
    /// The roster follows Partner Center's list; whom the log tells of is on it.
    pub synced: bool,
    /// Its calendar says how long a submission is waited for.
    pub reminders: Arc<Reminders>,
    pub under_way: ScanInProgress,
}

/// A look that waits for the next round.
#[derive(Debug, Default)]
pub struct ScanInProgress(Mutex<Option<LogScan>>);

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanOutcome {
    pub pages: u32,
    /// Customers of whom news is expected from now on.
    pub expected: u64,
    /// Customers who are on the roster from now on.
    pub added: u64,
    pub next: Option<Timestamp>,
}

impl ScanOutcome {
    fn next(at: Timestamp) -> Self {
        Self { next: Some(at), ..Self::default() }
    }

    /// Somebody is due who was not before.
    #[must_use]
    pub fn has_found(&self) -> bool {
        self.expected + self.added > 0
    }
}

impl LogState {
    /// Whether the log tells of submissions: it was read, and is read on or will be within a day. While nothing is asked
    /// at all (downtime, a closed gate) it does not fail: it will tell then.
    #[must_use]
    pub fn is_read(&self, now: Timestamp) -> bool {
        self.read_at.is_some() && !self.refused && self.failing_since.is_none_or(|since| now.since(since) < A_DAY)
    }

    fn due(&self, every: Duration, now: Timestamp) -> Option<Timestamp> {
        let retry = self.retry_at.filter(|at| *at > now && *at <= now.after(A_DAY));
        // A look from the future: the clock was set back.
        let usual = self.read_at.filter(|at| *at <= now).map(|at| at.after(every)).filter(|at| *at > now);
        retry.or(usual)
    }
}

impl ActivityLog {
    /// Looks if it is time to, or goes on with a look.
    ///
    /// # Errors
    /// When the database fails; the same is read again then. What Partner Center refuses is noted and tried again later.
    pub async fn round(&self) -> Result<ScanOutcome, store::Error> {
        let now = self.clock.now();
        let mut under_way = self.under_way.0.lock().await;
        let state = self.store.log_state(self.partner).await?;
        if under_way.is_none()
            && let Some(due) = state.due(self.every, now)
        {
            return Ok(ScanOutcome::next(due));
        }
        if !self.client.has_activity_log() {
            return Ok(ScanOutcome::next(self.refused(&state, A_DAY, "there is no activity log in this cloud").await?));
        }
        let gate = self.store.backoff(self.partner).await?;
        if let Some(gate) =
            gate.as_ref().filter(|gate| gate.backoff_until > now && gate.backoff_until <= now.after(LONGEST_GATE))
        {
            return Ok(ScanOutcome::next(gate.backoff_until));
        }
        let page_at = self.budget.page_at(Reader::ActivityLog, now);
        if page_at > now {
            return Ok(ScanOutcome::next(page_at));
        }
        let mut scan = under_way.take().unwrap_or_else(|| self.begin(&state, now));
        let (mut look, pages) = (ScanOutcome::default(), scan.pages);
        let outcome = loop {
            if let Err(error) = self.page(&mut scan).await? {
                break Some(error);
            }
            look.pages = scan.pages - pages;
            if scan.is_over() {
                break None;
            }
            let now = self.clock.now();
            let page_at = self.budget.page_at(Reader::ActivityLog, now);
            if look.pages >= PAGES_A_ROUND || page_at > now {
                look.next = Some(page_at);
                *under_way = Some(scan);
                return Ok(look);
            }
        };
        (look.expected, look.added) = self.end(&scan, &state, outcome.is_none(), gate.is_some()).await?;
        look.next = Some(match &outcome {
            Some(error) => self.failed(error, &state, gate.as_ref()).await?,
            None if scan.to.is_some() => self.clock.now(),
            None => self.clock.now().after(self.every),
        });
        Ok(look)
    }

    /// What is to be read: from the cursor on, up to now or as far as one question may span.
    fn begin(&self, state: &LogState, now: Timestamp) -> LogScan {
        // A cursor from the future: the clock was set back.
        let cursor = state.cursor.filter(|at| *at <= now.after(A_DAY));
        let since = cursor.map_or(now.before(self.unqualified), |at| at.min(now)).before(OVERLAP);
        let today = now.to_utc().date_naive();
        let first = today.checked_sub_days(Days::new(LOG_RETENTION)).unwrap_or(today);
        let from = since.to_utc().date_naive();
        if from < first {
            warn!(partner = self.name, %from, "the activity log keeps 90 days; submissions before are found by asking only");
        }
        let from = from.max(first);
        let end = from.checked_add_days(Days::new(MAX_QUERY_SPAN)).filter(|end| *end < today);
        let is_fresh = state.full_at.is_some_and(|at| at <= now && now.since(at) < FULL_SCAN_EVERY);
        LogScan::new(from, end, is_fresh && state.newest_first && end.is_none())
    }

    async fn page(&self, scan: &mut LogScan) -> Result<Result<(), Error>, store::Error> {
        let page = match self.client.audit_records(scan.from, scan.to, scan.after.as_ref()).await {
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        if page.skipped > 0 {
            debug!(partner = self.name, records = page.skipped, "records of the activity log could not be read");
        }
        if scan.needs_seen_ids(&page) {
            scan.seen = Some(self.store.seen_operations(self.partner).await?);
        }
        Ok(scan.take(page, self.clock.now()))
    }

    /// What follows from what was read, and how far that was, in one transaction.
    async fn end(
        &self,
        scan: &LogScan,
        state: &LogState,
        complete: bool,
        opens_gate: bool,
    ) -> Result<(u64, u64), store::Error> {
        let now = self.clock.now();
        let as_of = self.store.customers_complete_at(self.partner).await?;
        let mut tx = self.store.begin().await?;
        let found = customer_activity::take(
            &mut tx,
            self.partner,
            &scan.acts,
            self.synced.then_some(as_of),
            &self.reminders.calendar,
            now,
        )
        .await?;
        if complete {
            if opens_gate {
                tx.clear_backoff(self.partner).await?;
            }
            let cursor = cursor(scan, state, now);
            let full = scan.is_full().then(|| scan.shows_newest_first());
            let full = full.filter(|_| scan.to.is_none());
            if scan.to.is_none() {
                let next = cursor.before(OVERLAP + A_DAY).as_millis().div_euclid(scan::DAY_MS);
                tx.remember_operations(self.partner, &self.to_remember(scan, full.unwrap_or(true)), next).await?;
            }
            tx.log_was_read(self.partner, LogRead { cursor, now, full, goes_on: scan.to.is_some() }).await?;
        }
        tx.commit().await?;
        if complete && (state.refused || state.failing_since.is_some()) {
            info!(partner = self.name, "the activity log can be read again");
        }
        let (expected, added) = found;
        if expected + added > 0 {
            info!(partner = self.name, expected, added, "the activity log tells of submissions and new customers");
        }
        Ok(found)
    }

    /// A log of one page is read as a whole anyway, and one in another order to its end.
    fn to_remember(&self, scan: &LogScan, newest_first: bool) -> Vec<SeenOperation> {
        if scan.pages < 2 && scan.seen.is_none() || !newest_first {
            return Vec::new();
        }
        let room = MAX_SEEN_IDS.saturating_sub(scan.seen.as_ref().map_or(0, std::collections::HashSet::len));
        if scan.new.len() > room {
            debug!(partner = self.name, "more operations a day than are remembered: some are read again each time");
        }
        scan.new.iter().copied().take(room).collect()
    }

    /// What stops everything closes the partner's gate; either way the log is left alone for a while.
    async fn failed(&self, error: &Error, state: &LogState, gate: Option<&Backoff>) -> Result<Timestamp, store::Error> {
        let now = self.clock.now();
        let wait = RETRY.min(self.every).saturating_mul(2_u32.saturating_pow(state.failures.min(16)));
        match error {
            Error::Forbidden(_) | Error::NotFound(_) | Error::NoRelationship(_) => {
                return self.refused(state, A_DAY, &error.to_string()).await;
            }
            // A 401 of the API's is the log's own until a customer's question meets it, too.
            Error::Refused(_) | Error::Credential(_) if !error.blocks_all_calls() && state.failures + 1 >= REFUSALS => {
                return self.refused(state, wait.min(A_DAY), &error.to_string()).await;
            }
            _ => {}
        }
        let mut wait = wait.min(LONGEST_GATE);
        let mut tx = self.store.begin().await?;
        if error.blocks_all_calls() {
            let closed = pause(error, gate.map_or(0, |gate| gate.backoffs), self.in_review);
            warn!(partner = self.name, until = %now.after(closed), "nothing is asked of Partner Center for a while: {error}");
            tx.start_backoff(self.partner, now.after(closed), &error.to_string()).await?;
            wait = wait.max(closed);
        } else {
            warn!(partner = self.name, "the activity log could not be read: {error}");
        }
        tx.log_failed(self.partner, now, now.after(wait), &error.to_string(), false).await?;
        tx.commit().await?;
        Ok(now.after(wait))
    }

    async fn refused(&self, state: &LogState, wait: Duration, why: &str) -> Result<Timestamp, store::Error> {
        let now = self.clock.now();
        if state.refused {
            debug!(partner = self.name, "the activity log still cannot be read: {why}");
        } else {
            warn!(
                partner = self.name,
                "the activity log cannot be read, so customers without a qualification are asked as often as the settled \
                 ones: {why}"
            );
        }
        let mut tx = self.store.begin().await?;
        tx.log_failed(self.partner, now, now.after(wait), why, true).await?;
        tx.commit().await?;
        Ok(now.after(wait))
    }
}

/// How far everything is read: up to the newest operation, which is dated by their clock.
fn cursor(scan: &LogScan, state: &LogState, now: Timestamp) -> Timestamp {
    let begins = |day: NaiveDate| Timestamp::from(day.and_time(chrono::NaiveTime::MIN).and_utc());
    let old = state.cursor.filter(|at| *at <= now.after(A_DAY)).unwrap_or(begins(scan.from)).min(now);
    match scan.to {
        Some(end) => old.max(begins(end)).min(now),
        None => old.max(scan.newest.unwrap_or(old).min(now)).max(now.before(MAX_CURSOR_AGE)),
    }
}

impl std::fmt::Debug for ActivityLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActivityLog").field("partner", &self.name).finish_non_exhaustive()
    }
}

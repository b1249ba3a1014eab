//! Scans Partner Center's activity log for submissions and new customers, every few minutes.
//!
//! The log has what users and applications of the partner did, never what Microsoft decided. So a scan only makes a customer
//! due sooner, or adds one; states come from polls alone.
//!
//! The log is queried by day, and its order is not documented. A scan reads everything since the cursor, less an overlap
//! for operations that appear late. Only where the log has been seen newest first does it stop at a page of known
//! operations, and even there not always. Findings and cursor are committed in one transaction.

mod customer_activity;
mod scan;

use std::sync::Arc;
use std::time::Duration;

use chrono::{Days, NaiveDate};
use tokio::sync::Mutex;
use tracing::{debug, info, warn};
use vetwatch_core::retry::is_logged;

use self::customer_activity::ActivityById;
use self::scan::LogScan;
use crate::calendar::Reminders;
use crate::partner_center::{Budget, Error, PartnerCenter, Reader};
use crate::poller::{MAX_BACKOFF, backoff_ended, doubled, is_ahead, log_backoff, pause, retry_pause};
use crate::store::{self, Backoff, LogRead, LogState, PartnerId, SeenOperation, Store};
use crate::time::{Clock, Timestamp};

/// Operations appear at most this much later than their date.
const OVERLAP: Duration = Duration::from_hours(12);
/// After a longer time without operations the cursor moves on, so that old days are not read for ever.
const MAX_CURSOR_AGE: Duration = Duration::from_hours(24 * 7);
/// The API rejects spans over 30 days and days older than 90; less here, as it is not documented how days are counted.
const MAX_QUERY_DAYS: u64 = 28;
const LOG_RETENTION_DAYS: u64 = 89;
/// At least this often a scan reads to the end: operations that appeared late are not always on top.
const FULL_SCAN_EVERY: Duration = Duration::from_hours(1);
/// The next round continues the scan.
const MAX_PAGES_PER_ROUND: u32 = 20;
/// Operations beyond that are read again each time.
const MAX_SEEN_IDS: usize = 100_000;
/// Pause after a failed scan, once it has failed at short pauses; doubles with each failure.
const RETRY: Duration = Duration::from_mins(5);
/// After this many rejections in a row, or without the permission, the log is tried once a day.
const MAX_REJECTIONS: u32 = 3;
const DAY: Duration = Duration::from_hours(24);

/// Scans one partner's log.
pub struct ActivityLog {
    pub partner: PartnerId,
    pub name: String,
    pub client: Arc<PartnerCenter>,
    pub budget: Arc<Budget>,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub every: Duration,
    /// The longest poll interval. The first scan goes back this far: polls have shown what is older.
    pub unqualified: Duration,
    /// The interval in review, which bounds the backoff.
    pub in_review: Duration,
    /// Customers are synced; those found in the log are added.
    pub synced: bool,
    /// Its calendar says how long a submission is waited for.
    pub reminders: Arc<Reminders>,
    pub in_progress: Arc<ScanInProgress>,
}

/// A scan that the next round continues.
#[derive(Debug, Default)]
pub struct ScanInProgress(Mutex<Option<LogScan>>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanOutcome {
    pub pages: u32,
    /// Customers that are watched closely from now on.
    pub expected: u64,
    pub added: u64,
    pub next: Option<Timestamp>,
}

impl ScanOutcome {
    fn next(at: Timestamp) -> Self {
        Self { next: Some(at), ..Self::default() }
    }

    /// True if a customer became due.
    #[must_use]
    pub fn has_found(&self) -> bool {
        self.expected + self.added > 0
    }
}

impl LogState {
    /// True if the log reports submissions: it was read, and has not failed for a day. Downtime and a backoff are no
    /// failures.
    #[must_use]
    pub fn is_read(&self, now: Timestamp) -> bool {
        self.read_at.is_some() && !self.refused && self.failing_since.is_none_or(|since| now.since(since) < DAY)
    }

    fn due(&self, every: Duration, now: Timestamp) -> Option<Timestamp> {
        let retry = self.retry_at.filter(|at| *at > now && *at <= now.after(DAY));
        // A scan in the future: the clock was set back.
        let usual = self.read_at.filter(|at| *at <= now).map(|at| at.after(every)).filter(|at| *at > now);
        retry.or(usual)
    }
}

impl ActivityLog {
    /// Starts a scan if due, or continues one.
    ///
    /// # Errors
    /// When the database fails; the pages are read again then. A failure of Partner Center is recorded and retried later.
    pub async fn round(&self) -> Result<ScanOutcome, store::Error> {
        let now = self.clock.now();
        let mut in_progress = self.in_progress.0.lock().await;
        let state = self.store.log_state(self.partner).await?;
        if in_progress.is_none()
            && let Some(due) = state.due(self.every, now)
        {
            return Ok(ScanOutcome::next(due));
        }
        if !self.client.has_activity_log() {
            return Ok(ScanOutcome::next(self.refused(&state, DAY, "there is no activity log in this cloud").await?));
        }
        let backoff = self.store.backoff(self.partner).await?;
        if let Some(backoff) = backoff.as_ref().filter(|backoff| is_ahead(backoff.backoff_until, now)) {
            return Ok(ScanOutcome::next(backoff.backoff_until));
        }
        let page_at = self.budget.page_at(Reader::ActivityLog, now);
        if page_at > now {
            return Ok(ScanOutcome::next(page_at));
        }
        let mut scan = in_progress.take().unwrap_or_else(|| self.begin(&state, now));
        let (mut result, pages) = (ScanOutcome::default(), scan.pages);
        let outcome = loop {
            if let Err(error) = self.page(&mut scan).await? {
                break Some(error);
            }
            result.pages = scan.pages - pages;
            if scan.is_over() {
                break None;
            }
            let now = self.clock.now();
            let page_at = self.budget.page_at(Reader::ActivityLog, now);
            if result.pages >= MAX_PAGES_PER_ROUND || page_at > now {
                result.next = Some(page_at);
                *in_progress = Some(scan);
                return Ok(result);
            }
        };
        (result.expected, result.added) = self.end(&scan, &state, outcome.is_none(), backoff.is_some()).await?;
        result.next = Some(match &outcome {
            Some(error) => self.failed(error, &state, backoff.as_ref()).await?,
            None if scan.to.is_some() => self.clock.now(),
            None => self.clock.now().after(self.every),
        });
        Ok(result)
    }

    /// A scan from the cursor up to now, or as far as one query may span.
    fn begin(&self, state: &LogState, now: Timestamp) -> LogScan {
        // A cursor in the future: the clock was set back.
        let cursor = state.cursor.filter(|at| *at <= now.after(DAY));
        let since = cursor.map_or(now.before(self.unqualified), |at| at.min(now)).before(OVERLAP);
        let today = now.to_utc().date_naive();
        let first = today.checked_sub_days(Days::new(LOG_RETENTION_DAYS)).unwrap_or(today);
        let from = since.to_utc().date_naive();
        if from < first && state.failures == 0 {
            warn!(partner = self.name, %from, "the activity log keeps 90 days; submissions before are found by asking only");
        }
        let from = from.max(first);
        let end = from.checked_add_days(Days::new(MAX_QUERY_DAYS)).filter(|end| *end < today);
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

    /// Commits the findings and the cursor in one transaction. Returns the customers watched closely, and those added.
    async fn end(
        &self,
        scan: &LogScan,
        state: &LogState,
        complete: bool,
        ends_backoff: bool,
    ) -> Result<(u64, u64), store::Error> {
        let now = self.clock.now();
        let as_of = self.store.customers_complete_at(self.partner).await?;
        let mut tx = self.store.begin().await?;
        let found = customer_activity::apply(
            &mut tx,
            self.partner,
            &scan.activity,
            self.synced.then_some(as_of),
            &self.reminders.calendar,
            now,
        )
        .await?;
        if complete {
            if ends_backoff {
                tx.clear_backoff(self.partner).await?;
                backoff_ended(&self.name);
            }
            let cursor = cursor(scan, state, now);
            let full = scan.is_full().then(|| scan.shows_newest_first());
            let full = full.filter(|_| scan.to.is_none());
            if scan.to.is_none() {
                let next = cursor.before(OVERLAP + DAY).as_millis().div_euclid(scan::DAY_MS);
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

    /// The operations to remember: none for a log of one page or in another order, which is read to its end anyway.
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

    /// Schedules a retry and returns its time. A failure that blocks all calls starts the partner's backoff as well.
    async fn failed(
        &self,
        error: &Error,
        state: &LogState,
        backoff: Option<&Backoff>,
    ) -> Result<Timestamp, store::Error> {
        let now = self.clock.now();
        let wait = doubled(RETRY.min(self.every), state.failures);
        match error {
            Error::Forbidden(_) | Error::NotFound(_) | Error::NoRelationship(_) => {
                return self.refused(state, DAY, &error.to_string()).await;
            }
            // A 401 from the API concerns the log alone until a poll meets it as well.
            Error::Refused(_) | Error::Credential(_)
                if !error.blocks_all_calls() && state.failures + 1 >= MAX_REJECTIONS =>
            {
                return self.refused(state, wait.min(DAY), &error.to_string()).await;
            }
            _ => {}
        }
        let mut wait = retry_pause(error, RETRY.min(self.every), state.failures).min(MAX_BACKOFF);
        let mut tx = self.store.begin().await?;
        if error.blocks_all_calls() {
            let pause = pause(error, backoff.map_or(0, |backoff| backoff.backoffs), self.in_review);
            log_backoff(&self.name, now.after(pause), error);
            tx.start_backoff(self.partner, now.after(pause), &error.to_string(), error.is_throttling()).await?;
            wait = wait.max(pause);
        } else if is_logged(state.failures.saturating_add(1)) {
            warn!(partner = self.name, failures = state.failures + 1, "the activity log could not be read: {error}");
        } else {
            debug!(partner = self.name, failures = state.failures + 1, "the activity log could not be read: {error}");
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

/// The new cursor: the newest operation, dated by Microsoft's clock.
fn cursor(scan: &LogScan, state: &LogState, now: Timestamp) -> Timestamp {
    let start_of = |day: NaiveDate| Timestamp::from(day.and_time(chrono::NaiveTime::MIN).and_utc());
    let old = state.cursor.filter(|at| *at <= now.after(DAY)).unwrap_or(start_of(scan.from)).min(now);
    match scan.to {
        Some(end) => old.max(start_of(end)).min(now),
        None => old.max(scan.newest.unwrap_or(old).min(now)).max(now.before(MAX_CURSOR_AGE)),
    }
}

impl std::fmt::Debug for ActivityLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActivityLog").field("partner", &self.name).finish_non_exhaustive()
    }
}

//! The request budget of a partner's tenant.
//!
//! Microsoft does not publish the limit that applies, and says that requests sent while throttled count against it. So
//! there is a budget over everything that is sent: polls, pages, tokens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vetwatch_core::time::Timestamp;

/// A token bucket that never blocks: the poller sizes its rounds with [`Budget::available`], and what must be sent
/// beyond that (a token, the second request after a 401) is debt, which later rounds pay.
///
/// A caller that sends only while something is available sends at most its limit in any 60 seconds (two at a limit of
/// one), plus the debt at the end of that window. The limit is the configured one. Throttling lowers it to 90 % of what
/// was sent in the minute before, or of half the limit if that is more; each minute restores a fiftieth of the
/// configured limit.
#[derive(Debug)]
pub struct Budget(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    /// Requests a minute.
    configured: i64,
    limit: i64,
    /// When the limit last changed. `None` while it is the configured one.
    stepped_at: Option<Timestamp>,
    lowered_at: Option<Timestamp>,
    /// Requests refilled per minute: the limit without the burst.
    rate: i64,
    /// In shares; negative if in debt.
    level: i64,
    /// In shares.
    capacity: i64,
    /// When `level` was last updated.
    refilled_at: Option<Timestamp>,
    /// Requests of the last minute, by second.
    sent: VecDeque<(i64, i64)>,
    /// Reserved requests: see [`Promise`].
    reserved: i64,
    /// Customers are due and the budget is exhausted.
    polls_wait: bool,
    /// When each [`Reader`] requested its last page.
    read_at: [Option<Timestamp>; 2],
}

/// What reads many pages, beside the polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    CustomerList,
    ActivityLog,
}

/// A reservation for one request. Dropped when the request is sent, or will not be.
#[derive(Debug)]
pub struct Promise(Arc<Budget>);

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.bucket().reserved -= 1;
    }
}

/// While polls wait, a reader gets one request in this many. Two readers leave the polls eight in ten.
const READER_DIVISOR: u32 = 10;

/// Cost of a request in shares. At a rate of `n` requests a minute, `n` shares are refilled each millisecond: no
/// fractions.
const SHARES_PER_REQUEST: i64 = 60_000;
/// The burst is the limit over this: two seconds' worth.
const BURST_DIVISOR: u32 = 30;

/// Two tasks that read the clock in one order and lock in the other look like a clock set back by at most this.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);
const THROTTLED_TOGETHER: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_mins(1);
/// The minimum is a twentieth of the configured limit, and a step up a fiftieth.
const MIN_LIMIT_DIVISOR: i64 = 20;
const STEP_DIVISOR: i64 = 50;

impl Budget {
    /// Creates a full budget. Zero counts as one request a minute.
    #[must_use]
    pub fn per_minute(requests: u32) -> Self {
        let mut bucket = Bucket {
            configured: i64::from(requests.max(1)),
            limit: 0,
            stepped_at: None,
            lowered_at: None,
            rate: 0,
            level: i64::MAX,
            capacity: 0,
            refilled_at: None,
            sent: VecDeque::new(),
            reserved: 0,
            polls_wait: false,
            read_at: [None; 2],
        };
        bucket.set_limit(bucket.configured);
        Self(Mutex::new(bucket))
    }

    /// Changes the configured limit. What was spent stays spent, and a limit that throttling lowered stays low.
    pub fn configure(&self, requests: u32, now: Timestamp) {
        let mut bucket = self.at(now);
        bucket.configured = i64::from(requests.max(1));
        let limit = if bucket.stepped_at.is_some() { bucket.limit.min(bucket.configured) } else { bucket.configured };
        bucket.set_limit(limit);
        if limit == bucket.configured {
            bucket.stepped_at = None;
        }
    }

    /// Restores a limit from before a restart.
    #[must_use]
    pub fn limited_to(self, limit: Option<u32>, now: Timestamp) -> Self {
        if let Some(limit) = limit {
            let mut bucket = self.at(now);
            if i64::from(limit) < bucket.configured {
                bucket.set_limit(i64::from(limit.max(1)));
                bucket.stepped_at = Some(now);
            }
        }
        self
    }

    /// Counts one request sent now, even if the budget is exhausted.
    pub fn spend(&self, now: Timestamp) {
        let mut bucket = self.at(now);
        bucket.level = bucket.level.saturating_sub(SHARES_PER_REQUEST);
        bucket.count(now);
    }

    /// Number of requests that may be sent now.
    pub fn available(&self, now: Timestamp) -> u32 {
        u32::try_from(self.at(now).unreserved().max(0) / SHARES_PER_REQUEST).unwrap_or(u32::MAX)
    }

    /// Reserves one request until it is sent.
    #[must_use]
    pub fn promise(self: &Arc<Self>) -> Promise {
        self.bucket().reserved += 1;
        Promise(Arc::clone(self))
    }

    /// Sets whether customers are due while the budget is exhausted.
    pub fn polls_wait(&self, wait: bool) {
        self.bucket().polls_wait = wait;
    }

    /// When `reader` may request its next page: while polls wait, it has a tenth of the limit to itself; otherwise
    /// whatever is left.
    pub fn page_at(&self, reader: Reader, now: Timestamp) -> Timestamp {
        let ready_at = self.ready_at(now);
        let bucket = self.at(now);
        // A page from the future: the clock was set back.
        let last = bucket.read_at[reader as usize].filter(|at| *at <= now);
        let pause = MINUTE * READER_DIVISOR / u32::try_from(bucket.rate).unwrap_or(u32::MAX);
        let own = last.map_or(now, |at| at.after(pause)).max(now);
        if bucket.polls_wait { own } else { own.min(ready_at) }
    }

    /// Notes that `reader` requests a page now.
    pub fn reads(&self, reader: Reader, now: Timestamp) {
        self.bucket().read_at[reader as usize] = Some(now);
    }

    /// Sustained requests a minute at a limit of `per_minute`, without the burst.
    #[must_use]
    pub fn sustained(per_minute: u32) -> u32 {
        per_minute.saturating_sub((per_minute / BURST_DIVISOR).max(1)).max(1)
    }

    /// When at least one request may be sent: now or later.
    pub fn ready_at(&self, now: Timestamp) -> Timestamp {
        let bucket = self.at(now);
        let missing = u64::try_from(SHARES_PER_REQUEST.saturating_sub(bucket.unreserved())).unwrap_or(0);
        now.after(Duration::from_millis(missing.div_ceil(bucket.rate.unsigned_abs())))
    }

    /// Lowers the limit after throttling.
    pub fn slow_down(&self, now: Timestamp) {
        let mut bucket = self.at(now);
        // Requests in flight together are throttled together.
        if bucket.lowered_at.replace(now).is_some_and(|at| at <= now && now.since(at) < THROTTLED_TOGETHER) {
            return;
        }
        let lately = bucket.sent_lately(now);
        let least = (bucket.configured / MIN_LIMIT_DIVISOR).max(1);
        // By a tenth only: the cause may be one customer, or another client of the tenant.
        let limit = (bucket.limit.min(lately.max(bucket.limit / 2)) * 9 / 10).max(least);
        bucket.set_limit(limit);
        bucket.stepped_at = Some(now);
    }

    /// Requests a minute. `None` while it is the configured limit.
    pub fn limit(&self, now: Timestamp) -> Option<u32> {
        let bucket = self.at(now);
        bucket.stepped_at.and(u32::try_from(bucket.limit).ok())
    }

    /// Locks the bucket, refilled until `now`. A clock that was set back adds and takes nothing; one far ahead fills
    /// the bucket and no more.
    fn at(&self, now: Timestamp) -> MutexGuard<'_, Bucket> {
        let mut bucket = self.bucket();
        let Some(at) = bucket.refilled_at else {
            bucket.refilled_at = Some(now);
            return bucket;
        };
        if now < at && at.since(now) <= CLOCK_TOLERANCE {
            return bucket;
        }
        let passed_ms = i64::try_from(now.since(at).as_millis()).unwrap_or(i64::MAX);
        let back = passed_ms.saturating_mul(bucket.rate);
        bucket.level = bucket.level.saturating_add(back).min(bucket.capacity);
        bucket.refilled_at = Some(now);
        bucket.raise_limit(now);
        bucket
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn set_limit(&mut self, limit: i64) {
        let burst = (limit / i64::from(BURST_DIVISOR)).max(1);
        self.limit = limit;
        self.capacity = burst.saturating_mul(SHARES_PER_REQUEST);
        self.level = self.level.min(self.capacity);
        self.rate = (limit - burst).max(1);
    }

    fn unreserved(&self) -> i64 {
        self.level.saturating_sub(self.reserved.saturating_mul(SHARES_PER_REQUEST))
    }

    /// Raises the limit towards the configured one.
    fn raise_limit(&mut self, now: Timestamp) {
        let Some(stepped_at) = self.stepped_at else { return };
        if now < stepped_at {
            self.stepped_at = Some(now); // the clock was set back
            return;
        }
        let minutes = i64::try_from(now.since(stepped_at).as_secs() / MINUTE.as_secs()).unwrap_or(i64::MAX);
        if minutes == 0 {
            return;
        }
        let step = (self.configured / STEP_DIVISOR).max(1);
        let limit = self.limit.saturating_add(step.saturating_mul(minutes)).min(self.configured);
        self.set_limit(limit);
        self.stepped_at = (limit < self.configured).then_some(now);
    }

    fn count(&mut self, now: Timestamp) {
        let second = now.as_secs();
        match self.sent.back_mut() {
            Some((at, sent)) if *at >= second => *sent += 1,
            _ => self.sent.push_back((second, 1)),
        }
        while self.sent.front().is_some_and(|(at, _)| *at <= second - 60) {
            self.sent.pop_front();
        }
    }

    fn sent_lately(&self, now: Timestamp) -> i64 {
        self.sent.iter().filter(|(at, _)| *at > now.as_secs() - 60).map(|(_, sent)| sent).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_795_262_400_000);

    #[test]
    fn a_burst_is_two_seconds_worth_and_at_least_one() {
        for (per_minute, burst) in [(0, 1), (1, 1), (29, 1), (60, 2), (300, 10), (u32::MAX, u32::MAX / 30)] {
            assert_eq!(Budget::per_minute(per_minute).available(NOON), burst, "{per_minute} a minute");
        }
    }

    #[test]
    fn what_is_spent_flows_back_at_the_time_that_was_named() {
        let budget = Budget::per_minute(1);
        assert_eq!(budget.ready_at(NOON), NOON);
        budget.spend(NOON);
        let ready = budget.ready_at(NOON);
        assert_eq!(ready, NOON.after(Duration::from_mins(1)));
        assert_eq!(budget.available(ready.before(Duration::from_millis(1))), 0);
        assert_eq!(budget.available(ready), 1);
    }

    #[test]
    fn debt_is_paid_before_anything_is_available() {
        let budget = Budget::per_minute(60);
        for _ in 0..31 {
            budget.spend(NOON);
        }
        assert_eq!(budget.ready_at(NOON), NOON.after(Duration::from_millis(31_035)), "30 requests at 58 a minute");
    }

    #[test]
    fn a_clock_that_jumps_neither_locks_the_budget_nor_gives_it_away() {
        let budget = Budget::per_minute(60);
        budget.spend(NOON);
        budget.spend(NOON);
        let day = Duration::from_hours(24);
        assert_eq!(budget.available(NOON.before(day)), 0);
        assert!(budget.ready_at(NOON.before(day)) < NOON.before(day).after(Duration::from_secs(2)));
        assert_eq!(budget.available(NOON.after(day * 10_000)), 2);
        assert_eq!(budget.available(Timestamp::from_millis(i64::MAX)), 2);
        assert_eq!(budget.available(Timestamp::from_millis(i64::MIN)), 2);
    }

    #[test]
    fn after_throttling_it_goes_down_to_less_than_was_sent_and_comes_back_slowly() {
        let budget = Budget::per_minute(1000);
        assert_eq!(budget.limit(NOON), None);
        for _ in 0..500 {
            budget.spend(NOON);
        }
        let soon = NOON.after(Duration::from_secs(30));
        budget.slow_down(soon);
        assert_eq!(budget.limit(soon), Some(450));
        assert_eq!(budget.limit(soon.after(MINUTE)), Some(470));
        assert_eq!(budget.limit(soon.after(MINUTE * 20)), Some(850));
        assert_eq!(budget.limit(soon.after(MINUTE * 28)), None);
        // Throttled without having sent much: other clients of the tenant have.
        budget.slow_down(soon.after(MINUTE * 60));
        assert_eq!(budget.limit(soon.after(MINUTE * 60)), Some(450));
        assert_eq!(Budget::per_minute(1000).limited_to(Some(50), NOON).limit(NOON), Some(50));
        assert_eq!(Budget::per_minute(40).limited_to(Some(50), NOON).limit(NOON), None);
    }

    #[test]
    fn another_limit_gives_nothing_back_and_forgets_no_throttling() {
        let budget = Budget::per_minute(300);
        for _ in 0..10 {
            budget.spend(NOON);
        }
        for requests in [600, 300, 6000, 300] {
            budget.configure(requests, NOON);
            assert_eq!(budget.available(NOON), 0, "{requests}");
        }
        budget.slow_down(NOON);
        let lowered = budget.limit(NOON);
        budget.configure(6000, NOON);
        assert_eq!(budget.limit(NOON), lowered);
        budget.configure(60, NOON);
        assert_eq!(budget.limit(NOON), None);
    }

    #[test]
    fn a_reader_has_a_tenth_while_polls_wait_and_else_what_is_left() {
        let budget = Budget::per_minute(61);
        let pages = |from: Timestamp| {
            let (mut now, mut pages) = (from, 0);
            while now < from.after(MINUTE) {
                let at = budget.page_at(Reader::CustomerList, now);
                if at > now {
                    now = at;
                    continue;
                }
                budget.reads(Reader::CustomerList, now);
                budget.spend(now);
                pages += 1;
            }
            pages
        };
        assert_eq!(pages(NOON), 60);
        budget.polls_wait(true);
        assert_eq!(pages(NOON.after(MINUTE * 2)), 6);
        budget.polls_wait(false);
        let soon = NOON.after(MINUTE * 9);
        budget.reads(Reader::CustomerList, soon);
        assert_eq!(budget.page_at(Reader::CustomerList, NOON.after(MINUTE * 8)), NOON.after(MINUTE * 8), "set back");
    }

    #[test]
    fn what_is_reserved_is_unavailable_until_it_is_sent() {
        let budget = Arc::new(Budget::per_minute(60));
        let promises = [budget.promise(), budget.promise()];
        assert_eq!(budget.available(NOON), 0);
        drop(promises);
        assert_eq!(budget.available(NOON), 2);
    }

    #[test]
    fn tasks_that_race_for_the_budget_do_not_gain_from_it() {
        let budget = Budget::per_minute(6000);
        for _ in 0..200 {
            budget.spend(NOON);
        }
        for _ in 0..10_000 {
            assert_eq!(budget.available(NOON.after(Duration::from_millis(1))), 0);
            assert_eq!(budget.available(NOON), 0);
        }
    }

    proptest! {
        #[test]
        fn in_no_sixty_seconds_does_more_leave_than_the_budget(
            per_minute in 1_u32..400,
            // `None` waits until something may be sent.
            waits_ms in prop::collection::vec(
                prop_oneof![60 => Just(None), 20 => (0_u64..100).prop_map(Some), 1 => (0_u64..70_000).prop_map(Some)],
                1..600,
            ),
        ) {
            let budget = Budget::per_minute(per_minute);
            let mut sent: Vec<Timestamp> = Vec::new();
            let mut now = NOON;
            for wait in waits_ms {
                now = wait.map_or_else(|| budget.ready_at(now), |wait| now.after(Duration::from_millis(wait)));
                for _ in 0..budget.available(now) {
                    budget.spend(now);
                    sent.push(now);
                }
                let window = sent.iter().rev().take_while(|at| now.since(**at) <= Duration::from_mins(1)).count();
                prop_assert!(window <= per_minute.max(2) as usize, "{window} of {per_minute}");
            }
        }
    }
}

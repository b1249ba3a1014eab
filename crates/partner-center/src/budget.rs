//! How much may be sent to a partner's tenant.
//!
//! Microsoft does not publish the limit that applies to us, and says that requests made while throttled count against
//! it. So we keep to a budget of our own, over everything that is sent: questions, pages, tokens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vetwatch_core::time::Timestamp;

/// A token bucket that never makes anybody wait: the poller sizes its rounds with [`Budget::available`], and what must
/// be sent beyond that (a token, the second request after a 401) puts it into debt, which later rounds pay.
///
/// Who sends only while something is available sends at most its limit in any 60 seconds (with a limit of one a minute:
/// two), plus the debt that the window ends with. The limit is what was configured; after Microsoft throttled us it is a
/// tenth less than what we had sent in the minute before (but not less than that of half), and comes back by a fiftieth of the configured one a minute.
#[derive(Debug)]
pub struct Budget(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    /// Requests a minute.
    configured: i64,
    limit: i64,
    /// When the limit last went down or came back by a step; `None`: it is what was configured.
    stepped_at: Option<Timestamp>,
    lowered_at: Option<Timestamp>,
    /// Requests a minute that flow back in: what the burst leaves of the limit.
    rate: i64,
    /// In shares; negative is debt.
    level: i64,
    /// In shares.
    most: i64,
    /// When the level was last right.
    at: Option<Timestamp>,
    /// What was sent lately, by second.
    sent: VecDeque<(i64, i64)>,
    /// Requests that will leave soon: see [`Promise`].
    promised: i64,
    /// Customers are due whom there is nothing left for.
    polls_wait: bool,
    /// When each [`Reader`] asked for its last page.
    read_at: [Option<Timestamp>; 2],
}

/// Who reads page after page, beside the polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    CustomerList,
    ActivityLog,
}

/// A request that will leave soon: what it costs is not available to anybody else. Dropped when it leaves, or when it is
/// clear that it will not.
#[derive(Debug)]
pub struct Promise(Arc<Budget>);

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.bucket().promised -= 1;
    }
}

/// While polls wait, a reader has one request in so many. Two readers leave the polls eight in ten.
const READERS_SHARE: u32 = 10;

/// What a request costs. At a rate of `n` requests a minute, `n` shares flow back each millisecond: no fractions.
const REQUEST: i64 = 60_000;
/// At once may leave what the limit allows in two seconds.
const BURST: u32 = 30;

/// Two tasks that read the clock in one order and come here in the other look like a clock that was set back this far.
const RACE: Duration = Duration::from_secs(1);
const TOGETHER: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_mins(1);
/// The limit never goes below a twentieth of what was configured, and comes back by a fiftieth of it.
const LEAST: i64 = 20;
const STEP: i64 = 50;

impl Budget {
    /// A full budget. Zero counts as one request a minute.
    #[must_use]
    pub fn per_minute(requests: u32) -> Self {
        let mut bucket = Bucket {
            configured: i64::from(requests.max(1)),
            limit: 0,
            stepped_at: None,
            lowered_at: None,
            rate: 0,
            level: i64::MAX,
            most: 0,
            at: None,
            sent: VecDeque::new(),
            promised: 0,
            polls_wait: false,
            read_at: [None; 2],
        };
        bucket.set_limit(bucket.configured);
        Self(Mutex::new(bucket))
    }

    /// Takes up a limit from before a restart.
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

    /// One request leaves now, whether or not there was anything left for it.
    pub fn spend(&self, now: Timestamp) {
        let mut bucket = self.at(now);
        bucket.level = bucket.level.saturating_sub(REQUEST);
        bucket.count(now);
    }

    /// How many requests may leave now.
    pub fn available(&self, now: Timestamp) -> u32 {
        u32::try_from(self.at(now).unpromised().max(0) / REQUEST).unwrap_or(u32::MAX)
    }

    /// Keeps what one request costs until it leaves.
    #[must_use]
    pub fn promise(self: &Arc<Self>) -> Promise {
        self.bucket().promised += 1;
        Promise(Arc::clone(self))
    }

    /// Whether customers are due whom nothing is left for.
    pub fn polls_wait(&self, wait: bool) {
        self.bucket().polls_wait = wait;
    }

    /// When `reader` may ask for its next page: while polls wait, it has a tenth of the limit, and nobody else's; else
    /// whatever is left.
    pub fn page_at(&self, reader: Reader, now: Timestamp) -> Timestamp {
        let ready_at = self.ready_at(now);
        let bucket = self.at(now);
        // A page from the future: the clock was set back.
        let last = bucket.read_at[reader as usize].filter(|at| *at <= now);
        let pause = MINUTE * READERS_SHARE / u32::try_from(bucket.rate).unwrap_or(u32::MAX);
        let own = last.map_or(now, |at| at.after(pause)).max(now);
        if bucket.polls_wait { own } else { own.min(ready_at) }
    }

    /// `reader` asks for a page now.
    pub fn reads(&self, reader: Reader, now: Timestamp) {
        self.bucket().read_at[reader as usize] = Some(now);
    }

    /// Requests a minute that a limit of so many allows in the long run; the rest is for a burst.
    #[must_use]
    pub fn in_the_long_run(per_minute: u32) -> u32 {
        per_minute.saturating_sub((per_minute / BURST).max(1)).max(1)
    }

    /// When at least one request may leave: now, or later.
    pub fn ready_at(&self, now: Timestamp) -> Timestamp {
        let bucket = self.at(now);
        let missing = u64::try_from(REQUEST.saturating_sub(bucket.unpromised())).unwrap_or(0);
        now.after(Duration::from_millis(missing.div_ceil(bucket.rate.unsigned_abs())))
    }

    /// Microsoft throttles us: less from now on.
    pub fn slow_down(&self, now: Timestamp) {
        let mut bucket = self.at(now);
        // Several requests that were under way are refused together.
        if bucket.lowered_at.replace(now).is_some_and(|at| at <= now && now.since(at) < TOGETHER) {
            return;
        }
        let lately = bucket.sent_lately(now);
        let least = (bucket.configured / LEAST).max(1);
        // Not all at once: it may have been about one customer, or somebody else of the tenant.
        let limit = (bucket.limit.min(lately.max(bucket.limit / 2)) * 9 / 10).max(least);
        bucket.set_limit(limit);
        bucket.stepped_at = Some(now);
    }

    /// Requests a minute, if that is less than what was configured.
    pub fn limit(&self, now: Timestamp) -> Option<u32> {
        let bucket = self.at(now);
        bucket.stepped_at.and(u32::try_from(bucket.limit).ok())
    }

    /// The bucket with what has flowed back until `now`. A clock that was set back brings nothing and takes nothing; one
    /// far ahead fills the bucket and no more.
    fn at(&self, now: Timestamp) -> MutexGuard<'_, Bucket> {
        let mut bucket = self.bucket();
        let Some(at) = bucket.at else {
            bucket.at = Some(now);
            return bucket;
        };
        if now < at && at.since(now) <= RACE {
            return bucket;
        }
        let passed_ms = i64::try_from(now.since(at).as_millis()).unwrap_or(i64::MAX);
        let back = passed_ms.saturating_mul(bucket.rate);
        bucket.level = bucket.level.saturating_add(back).min(bucket.most);
        bucket.at = Some(now);
        bucket.come_back(now);
        bucket
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn set_limit(&mut self, limit: i64) {
        let burst = (limit / i64::from(BURST)).max(1);
        self.limit = limit;
        self.most = burst.saturating_mul(REQUEST);
        self.level = self.level.min(self.most);
        self.rate = (limit - burst).max(1);
    }

    fn unpromised(&self) -> i64 {
        self.level.saturating_sub(self.promised.saturating_mul(REQUEST))
    }

    /// Comes back towards what was configured.
    fn come_back(&mut self, now: Timestamp) {
        let Some(stepped_at) = self.stepped_at else { return };
        if now < stepped_at {
            self.stepped_at = Some(now); // the clock was set back
            return;
        }
        let minutes = i64::try_from(now.since(stepped_at).as_secs() / MINUTE.as_secs()).unwrap_or(i64::MAX);
        if minutes == 0 {
            return;
        }
        let step = (self.configured / STEP).max(1);
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
        // Throttled without having sent much: others of the tenant have.
        budget.slow_down(soon.after(MINUTE * 60));
        assert_eq!(budget.limit(soon.after(MINUTE * 60)), Some(450));
        assert_eq!(Budget::per_minute(1000).limited_to(Some(50), NOON).limit(NOON), Some(50));
        assert_eq!(Budget::per_minute(40).limited_to(Some(50), NOON).limit(NOON), None);
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
    fn what_is_promised_is_nobody_elses_until_it_leaves() {
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
            // `None`: until something may leave again.
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

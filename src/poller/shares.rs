//! Divides a short budget between the poll classes, so that none starves.
//!
//! Of seven polls each class has one, the confirming class two, and the last goes to the first class in order. The
//! customer list and the activity log leave the polls at least eight requests in ten (see
//! [`Reader`](crate::partner_center::Reader)): at least a tenth of the budget for each class, and a fifth for
//! confirmations. What a class does not need goes to the first in order as well.

use crate::schedule::PollClass;

/// One poll, in sevenths. A class may save up two, so that a customer due after a quiet time need not wait.
const POLL_COST: u32 = 7;
const MAX_SAVED: u32 = 2 * POLL_COST;
const CLASSES: [PollClass; 5] = PollClass::IN_ORDER;

/// What each class has saved up, in sevenths of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares([u32; CLASSES.len()]);

impl Default for Shares {
    fn default() -> Self {
        Self([MAX_SAVED; CLASSES.len()])
    }
}

impl Shares {
    /// The class to poll next, of those with customers due.
    pub fn next(&mut self, is_due: impl Fn(PollClass) -> bool) -> Option<PollClass> {
        let due = || (0..CLASSES.len()).filter(|n| is_due(CLASSES[*n]));
        let first = due().next()?;
        for (saved, class) in self.0.iter_mut().zip(CLASSES) {
            *saved = (*saved + Self::of(class)).min(MAX_SAVED);
        }
        // Confirmations first; then the class that waits longest for its share; then in order.
        let has_share = |n: &usize| self.0[*n] >= POLL_COST;
        let confirms = CLASSES[first] == PollClass::Confirming && has_share(&first);
        let waits_longest = || due().filter(has_share).rev().max_by_key(|n| self.0[*n]);
        let next = if confirms { first } else { waits_longest().unwrap_or(first) };
        self.0[next] = self.0[next].saturating_sub(POLL_COST);
        Some(CLASSES[next])
    }

    const fn of(class: PollClass) -> u32 {
        match class {
            PollClass::Confirming => 2,
            PollClass::InReview | PollClass::Settled | PollClass::Unseen | PollClass::Unqualified => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::partner_center::{Budget, Reader};
    use crate::time::Timestamp;

    const NOON: Timestamp = Timestamp::from_millis(1_795_262_400_000);
    const READERS: [Reader; 2] = [Reader::CustomerList, Reader::ActivityLog];

    /// A class of customers who are all due at once, and again after `every`.
    #[derive(Debug, Clone)]
    struct Load {
        customers: usize,
        every: Duration,
    }

    fn load() -> impl Strategy<Value = Load> {
        let every = prop_oneof![Just(0), 0..20_000_u64, 0..2_000_000_u64];
        (prop_oneof![2 => Just(0), 3 => 1..5_usize, 3 => 1..200_usize], every)
            .prop_map(|(customers, ms)| Load { customers, every: Duration::from_millis(ms) })
    }

    proptest! {
        /// A model of the budget, the two readers at their greediest, and customers of every class.
        #[test]
        fn under_any_load_each_customer_is_asked_within_its_class_share_of_the_budget(
            per_minute in prop_oneof![1..8_u32, 1..700_u32],
            loads in prop::collection::vec(load(), CLASSES.len()),
            reading in any::<[bool; 2]>(),
            throttled_at in prop::option::of(0..400_u32),
            round in 1..30_u32,
        ) {
            let (budget, mut now) = (Budget::per_minute(per_minute), NOON);
            let mut shares = Shares::default();
            let mut due: Vec<VecDeque<Timestamp>> =
                loads.iter().map(|load| VecDeque::from(vec![NOON; load.customers])).collect();
            // For small limits, where a burst of one is much, what the budget allows in the long run.
            let in_the_long_run = |limit: u32| f64::from(if limit < 30 { Budget::sustained(limit) } else { limit });
            let mut least = in_the_long_run(per_minute);
            for polls in 0..600_u32 {
                if throttled_at == Some(polls) {
                    budget.slow_down(now);
                }
                least = least.min(budget.limit(now).map_or(least, in_the_long_run));
                for (reader, _) in READERS.into_iter().zip(reading).filter(|(_, reads)| *reads) {
                    if budget.page_at(reader, now) <= now {
                        budget.reads(reader, now);
                        budget.spend(now);
                    }
                }
                for _ in 0..budget.available(now).min(round) {
                    let is_due = |class| due[class as usize].front().is_some_and(|at| *at <= now);
                    let Some(class) = shares.next(is_due) else { break };
                    let queue = &mut due[class as usize];
                    let (since, load) = (queue.pop_front().unwrap(), &loads[class as usize]);
                    budget.spend(now);
                    let share = if class == PollClass::Confirming { 0.2 } else { 0.1 };
                    // One more: when the shares of several classes fall together, one goes after the other.
                    let minutes = f64::from(u32::try_from(load.customers + 1).unwrap()) / (share * least);
                    let waited = now.since(since).as_secs_f64() / 60.0;
                    prop_assert!(
                        waited <= minutes,
                        "{class:?}: {waited} minutes for one of {}, not {minutes}", load.customers
                    );
                    queue.push_back(now.after(load.every));
                }
                let waiting = due.iter().flatten().min().copied();
                budget.polls_wait(waiting.is_some_and(|at| at <= now));
                let Some(waiting) = waiting else { break };
                let pages = READERS.into_iter().zip(reading).filter(|(_, reads)| *reads);
                let next = pages.map(|(reader, _)| budget.page_at(reader, now)).chain([waiting]).min().unwrap_or(waiting);
                now = next.max(budget.ready_at(now)).max(now.after(Duration::from_millis(1)));
            }
        }
    }

    #[test]
    fn beyond_the_shares_the_first_in_order_is_polled() {
        let mut shares = Shares::default();
        let mut polls = [0; CLASSES.len()];
        for _ in 0..700 {
            polls[shares.next(|class| class != PollClass::Confirming).unwrap() as usize] += 1;
        }
        assert_eq!(polls, [0, 397, 101, 101, 101]);
        assert_eq!(shares.next(|_| true), Some(PollClass::Confirming), "before all else");
        assert_eq!(shares.next(|_| false), None);
    }
}

//! Until when this host may act as the leader, by a clock that goes on while the machine is suspended.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A time since the machine was started, suspends included. Setting the wall clock does not change it.
pub type BootTime = fn() -> Duration;

/// `CLOCK_BOOTTIME`. [`std::time::Instant`] stands still while a virtual machine is suspended.
#[must_use]
pub fn boot_time() -> Duration {
    // It is there since Linux 2.6.39. Without it no lease would ever be held.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

/// The lease of the leader. It ends a margin before the elector gives it to another host.
pub struct Lease {
    clock: BootTime,
    margin: Duration,
    /// In milliseconds of `clock`.
    until: AtomicU64,
}

impl Lease {
    /// A lease that is not held yet.
    #[must_use]
    pub fn new(clock: BootTime, margin: Duration) -> Self {
        Self { clock, margin, until: AtomicU64::new(0) }
    }

    /// The time to pass to [`Self::extend`], read before the elector is asked: its own count begins later.
    #[must_use]
    pub fn now(&self) -> Duration {
        (self.clock)()
    }

    /// Notes that the elector granted `ttl` after `asked`.
    pub fn extend(&self, asked: Duration, ttl: Duration) {
        let until = (asked + ttl).saturating_sub(self.margin);
        self.until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// True while no other host can have been elected.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.now().as_millis() < u128::from(self.until.load(Ordering::SeqCst))
    }

    /// Ends it.
    pub fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("until", &self.until).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static NOW: Cell<Duration> = const { Cell::new(Duration::from_hours(1)) };
    }

    fn pass(time: Duration) {
        NOW.set(NOW.get() + time);
    }

    #[test]
    fn it_ends_a_margin_before_the_elector_gives_it_away_counted_from_before_the_request() {
        let lease = Lease::new(|| NOW.get(), Duration::from_secs(5));
        assert!(!lease.is_held(), "before it was granted");
        let asked = lease.now();
        pass(Duration::from_secs(3));
        lease.extend(asked, Duration::from_secs(15));
        pass(Duration::from_millis(6_999));
        assert!(lease.is_held());
        pass(Duration::from_millis(1));
        assert!(!lease.is_held(), "10 s after the request");
        lease.extend(lease.now(), Duration::from_secs(15));
        assert!(lease.is_held());
        lease.end();
        assert!(!lease.is_held());
    }

    #[test]
    fn the_clock_counts_from_the_start_of_the_machine() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!((boot_time().as_secs_f64() - seconds).abs() < 5.0, "{:?} {uptime}", boot_time());
    }
}

//! Runs one thing at a time: when it is due, or when it is poked. A poke carries nothing; a restart, an alarm and a
//! due time all run the same code.
//!
//! The cron scheduler's jobs only poke. It has no overlap guard, a job that panics poisons it, and its zone offset
//! freezes over a change to summer time; none of that matters to a poke, because a round looks for itself at what
//! is due, and a due-time timer stands beside every alarm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chrono_tz::Tz;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::store;
use crate::time::{Clock, Timestamp};

/// A round runs at least this often, whatever the due time says: clocks jump, and the watchdog wants progress.
const LONGEST_REST: Duration = Duration::from_secs(20);

/// When an activity last came round.
#[derive(Debug)]
pub struct Progress {
    pub name: String,
    /// An activity that has not come round for so long hangs.
    patience: Duration,
    began: Instant,
    last_ms: AtomicU64,
    /// When a round last did what it was to do.
    done_ms: AtomicU64,
    /// The last round failed.
    failing: AtomicBool,
}

impl Progress {
    #[must_use]
    pub fn new(name: String, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            name,
            patience,
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
            done_ms: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        })
    }

    /// It goes on.
    pub fn beat(&self) {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(elapsed, Ordering::Relaxed);
    }

    fn done(&self) {
        self.failing.store(false, Ordering::Relaxed);
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.done_ms.store(elapsed, Ordering::Relaxed);
    }

    /// No round has come to a good end for so long that it hangs, or fails each time.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let done = Duration::from_millis(self.done_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(done) > self.patience
    }

    /// The last round failed: the disk is full, or the database is held.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn is_hung(&self) -> bool {
        self.age() > self.patience
    }

    /// How long ago the activity last came round.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }
}

/// Runs `round` until `stop`. A round says when the next one is due; `None`: nothing is.
///
/// A round that fails is told in the log and tried again, soon at first, then every 20 seconds.
pub async fn run<E: std::error::Error + 'static, F: Future<Output = Result<Option<Timestamp>, E>>>(
    progress: Arc<Progress>,
    poke: Arc<Notify>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    mut round: impl FnMut() -> F,
) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        progress.beat();
        let rest = match round().await {
            Ok(next) => {
                failures = 0;
                progress.done();
                next.map_or(LONGEST_REST, |at| at.since(clock.now())).min(LONGEST_REST)
            }
            Err(error) => {
                failures += 1;
                progress.failing.store(true, Ordering::Relaxed);
                let error = &error as &(dyn std::error::Error + 'static);
                if error.downcast_ref::<store::Error>().is_some_and(store::Error::is_busy) {
                    // The store has said so once, for all of us.
                    debug!(error, "{}: a round failed; it will be tried again", progress.name);
                } else {
                    warn!(error, "{}: a round failed; it will be tried again", progress.name);
                }
                Duration::from_millis(250).saturating_mul(1 << failures.min(7)).min(LONGEST_REST)
            }
        };
        progress.beat();
        tokio::select! {
            () = poke.notified() => {}
            () = tokio::time::sleep(rest) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Pokes by cron expression (with seconds).
pub async fn poke_by_cron(jobs: Vec<(String, Tz, Arc<Notify>)>) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    for (cron, zone, poke) in jobs {
        let job = Job::new_async_tz(cron.as_str(), zone, move |_, _| {
            poke.notify_one();
            Box::pin(std::future::ready(()))
        })?;
        scheduler.add(job).await?;
    }
    scheduler.start().await?;
    Ok(scheduler)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SystemClock;

    #[tokio::test]
    async fn rounds_that_all_fail_come_round_and_get_nothing_done() {
        let (stop, poke) = (CancellationToken::new(), Arc::new(Notify::new()));
        let progress = Progress::new("a loop".to_owned(), Duration::from_millis(100));
        let (seen, end, again) = (progress.clone(), stop.clone(), poke.clone());
        let mut hung = None;
        run(progress, poke, Arc::new(SystemClock), stop, || {
            if seen.is_stuck() {
                hung = Some(seen.is_hung());
                end.cancel();
            }
            again.notify_one();
            std::future::ready(Err::<Option<Timestamp>, _>(std::io::Error::other("the disk is full")))
        })
        .await;
        assert_eq!(hung, Some(false), "the watchdog is fed, the heartbeat stays away");
    }
}

//! Runs one round at a time, when it is due or when it is poked. A poke carries no data; a restart, a cron job and a due
//! time all run the same code.
//!
//! The cron scheduler's jobs only poke. The scheduler has no overlap guard, a panicking job poisons it, and its zone offset
//! freezes over a change to summer time. None of that matters to a poke: a round finds out itself what is due, and each cron
//! job has a due-time timer beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chrono_tz::Tz;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;
use vetwatch_core::retry::is_logged;

use crate::store;
use crate::time::{Clock, Timestamp};

/// A round runs at least this often: clocks jump, and the watchdog wants progress.
const MAX_REST: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Progress {
    pub name: String,
    /// A loop without a round for this long hangs.
    patience: Duration,
    began: Instant,
    last_ms: AtomicU64,
    /// When a round last succeeded, in milliseconds since `began`.
    done_ms: AtomicU64,
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

    pub fn beat(&self) {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(elapsed, Ordering::Relaxed);
    }

    fn done(&self) {
        self.failing.store(false, Ordering::Relaxed);
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.done_ms.store(elapsed, Ordering::Relaxed);
    }

    /// True if no round has succeeded for too long: it hangs, or fails each time.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let done = Duration::from_millis(self.done_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(done) > self.patience
    }

    /// True if the last round failed, e.g. because the disk is full or the database is held.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// True once a round has ended, well or not.
    #[must_use]
    pub fn has_had_a_round(&self) -> bool {
        self.is_failing() || self.done_ms.load(Ordering::Relaxed) > 0
    }

    #[must_use]
    pub fn is_hung(&self) -> bool {
        self.age() > self.patience
    }

    /// Time since the last progress.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }
}

/// The first loop that hangs: the one rule of the watchdog and of `/healthz`. Waiting for the database is no hang: a restart
/// would wait as well.
#[must_use]
pub fn hung(loops: &[Arc<Progress>], waits_for_database: bool) -> Option<&Arc<Progress>> {
    loops.iter().find(|progress| progress.is_hung() && !waits_for_database)
}

/// Runs `round` until `stop` is cancelled. A round returns when the next one is due, `None` if nothing is.
///
/// A failed round is logged and retried, soon at first, then every 20 seconds.
pub async fn run<E: std::error::Error + 'static, F: Future<Output = Result<Option<Timestamp>, E>>>(
    progress: Arc<Progress>,
    poke: Arc<Notify>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    mut round: impl FnMut() -> F,
) {
    let (mut failures, mut last) = (0, String::new());
    while !stop.is_cancelled() {
        progress.beat();
        let rest = match round().await {
            Ok(next) => {
                failures = 0;
                progress.done();
                next.map_or(MAX_REST, |at| at.since(clock.now())).min(MAX_REST)
            }
            Err(error) => {
                failures += 1;
                progress.failing.store(true, Ordering::Relaxed);
                let error = &error as &(dyn std::error::Error + 'static);
                if error.downcast_ref::<store::Error>().is_some_and(store::Error::is_busy) {
                    // The store logs this once for all loops.
                    debug!(error, "{}: a round failed; it will be tried again", progress.name);
                } else if is_logged(failures) || error.to_string() != last {
                    warn!(error, failures, "{}: a round failed; it will be tried again", progress.name);
                } else {
                    debug!(error, failures, "{}: a round failed; it will be tried again", progress.name);
                }
                last = error.to_string();
                Duration::from_millis(250).saturating_mul(1 << failures.min(7)).min(MAX_REST)
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

/// Pokes on cron schedules. The expressions have seconds.
#[derive(Default)]
pub struct Crons {
    /// One for the process: what another one leaves behind is not freed.
    scheduler: Option<JobScheduler>,
    jobs: Vec<(Cron, Uuid)>,
}

/// A schedule, its zone, and what it pokes.
pub type Cron = (String, Tz, Arc<Notify>);

impl Crons {
    /// Replaces the schedules. After a failure, old ones may go on.
    ///
    /// # Errors
    /// If the scheduler does not take one.
    pub async fn replace(&mut self, crons: Vec<Cron>) -> Result<(), JobSchedulerError> {
        let is_same = |(one, zone, poke): &Cron, (other, other_zone, other_poke): &Cron| {
            one == other && zone == other_zone && Arc::ptr_eq(poke, other_poke)
        };
        let scheduler = match &mut self.scheduler {
            Some(scheduler) => scheduler,
            none => {
                let scheduler = none.insert(JobScheduler::new().await?);
                scheduler.start().await?;
                scheduler
            }
        };
        for cron in &crons {
            if self.jobs.iter().any(|(known, _)| is_same(known, cron)) {
                continue;
            }
            let poke = cron.2.clone();
            let job = Job::new_async_tz(cron.0.as_str(), cron.1, move |_, _| {
                poke.notify_one();
                Box::pin(std::future::ready(()))
            })?;
            self.jobs.push((cron.clone(), scheduler.add(job).await?));
        }
        let (stay, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.jobs)
            .into_iter()
            .partition(|(known, _)| crons.iter().any(|cron| is_same(known, cron)));
        self.jobs = stay;
        for (_, job) in gone {
            scheduler.remove(&job).await?;
        }
        Ok(())
    }

    /// Ends the scheduler.
    pub async fn end(&mut self) {
        if let Some(scheduler) = &mut self.scheduler {
            let _ = scheduler.shutdown().await;
        }
    }
}

impl std::fmt::Debug for Crons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crons").field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SystemClock;

    #[tokio::test]
    async fn a_loop_whose_rounds_all_fail_is_stuck_but_not_hung() {
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

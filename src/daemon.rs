//! Starts all loops from a configuration, and stops them in order.

mod manager;
mod parts;
mod signals;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::activity_log::ScanOutcome;
use crate::backup::Nightly;
use crate::config::Config;
use crate::descriptors;
use crate::heartbeat;
use crate::instance_lock;
use crate::integrity;
use crate::partner_center;
use crate::store::{self, Store};
use crate::time::{Clock, SystemClock, Timestamp};
use crate::token_keepalive::SignIns;
use crate::worker_loop::{self, Progress};

pub use parts::{EndpointParts, PartnerParts, Parts, assemble, channel};
pub use signals::Signals;

/// A loop without progress for this long hangs, and the watchdog is not fed.
const HUNG_AFTER: Duration = Duration::from_mins(3);
/// For the customer list and the activity log, which take long.
const LIST_HUNG_AFTER: Duration = Duration::from_hours(1);
/// How often to check for writes by other processes.
const CHECK_WRITES_EVERY: Duration = Duration::from_millis(400);
/// Work in flight has timeouts of its own; the service manager kills after 90 s.
const MAX_SHUTDOWN: Duration = Duration::from_secs(85);
const TICK_EVERY: Duration = Duration::from_mins(1);
const MAINTAIN_EVERY: Duration = Duration::from_hours(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "only {limit} files may be open at once, and it needs {needed}: raise the limit (`LimitNOFILE=` of the unit, `ulimit -n`)"
    )]
    Descriptors { limit: u64, needed: u64 },
    #[error("another vetwatch runs on {}", .0.display())]
    Locked(PathBuf),
    #[error("cannot lock the database {}", database.display())]
    Lock { database: PathBuf, source: instance_lock::Error },
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the connection to Partner Center cannot be set up")]
    PartnerCenter(#[from] partner_center::SetupError),
    #[error("the scheduler cannot be set up")]
    Scheduler(#[from] tokio_cron_scheduler::JobSchedulerError),
    #[error("{0} ended by itself")]
    Ended(String),
}

/// Runs the daemon until a signal, then lets work in flight end.
///
/// # Errors
/// When it cannot start, a loop ends by itself, or the database file was replaced.
pub async fn run(config: Config, mut signals: Signals) -> Result<(), Error> {
    let stop = CancellationToken::new();
    // A task of its own, so that signals are obeyed while it waits.
    let partners = config.partners.len();
    let mut starting = JoinSet::new();
    starting.spawn(start_up(config, stop.clone()));
    let Running { lock, store, mut loops } = tokio::select! {
        started = starting.join_next() => match started {
            Some(Ok(started)) => started?,
            _ => return Err(Error::Ended("the start".to_owned())),
        },
        () = signals.next() => {
            info!("stopped before it had begun");
            return Ok(());
        }
    };
    manager::notify(&NotifyState::Ready);
    info!("vetwatch {} runs", env!("CARGO_PKG_VERSION"));
    loops.spawn(manager::report_status(store.clone(), partners, stop.clone()));

    let broken = tokio::select! {
        () = signals.next() => None,
        ended = loops.join_next() => Some(Error::Ended(match ended {
            Some(Ok(name)) => name,
            Some(Err(panic)) => format!("a loop ({panic})"),
            None => "everything".to_owned(),
        })),
        lost = store.lost() => Some(Error::Store(lost)),
    };
    manager::notify(&NotifyState::Stopping);
    stop.cancel();
    store.hurry();
    if let Some(error) = broken {
        // Work in flight is interrupted, and taken up at the next start.
        abort(&mut loops).await;
        if matches!(error, Error::Ended(_) | Error::Store(store::Error::LogLost { .. })) {
            end(&store).await;
        } else {
            // Not closed: SQLite would tidy up at a path where another file is now.
            std::mem::forget((store, lock));
        }
        return Err(error);
    }
    info!("stopping; what is under way may end (a second signal stops at once)");
    tokio::select! {
        () = async { while loops.join_next().await.is_some() {} } => info!("stopped"),
        () = signals.next() => {
            abort(&mut loops).await;
            warn!("stopped at once; what was under way is taken up at the next start");
        }
        () = tokio::time::sleep(MAX_SHUTDOWN) => {
            abort(&mut loops).await;
            error!("stopped, though something was under way still; it is taken up at the next start");
        }
    }
    end(&store).await;
    drop(lock);
    Ok(())
}

/// A loop that cannot be interrupted ends with the process.
async fn abort(loops: &mut JoinSet<String>) {
    let _ = tokio::time::timeout(Duration::from_secs(1), loops.shutdown()).await;
}

async fn end(store: &Store) {
    if !store.close().await {
        warn!(
            "the newest changes are still in {}-wal, because somebody reads the database or holds it: a copy needs both files",
            store.path().display()
        );
    }
}

struct Running {
    lock: instance_lock::Lock,
    store: Store,
    loops: JoinSet<String>,
}

/// Starts everything. Waits without limit while another program holds the database.
async fn start_up(config: Config, stop: CancellationToken) -> Result<Running, Error> {
    let database = &config.database;
    let (limit, needed) =
        (descriptors::raise_limit(), descriptors::needed(config.partners.len(), config.endpoints.len()));
    if limit < needed {
        return Err(Error::Descriptors { limit, needed });
    }
    let is_new = store::was_deleted(database);
    let lock = take_lock(database)?;
    if is_new {
        warn!("{}", new_database_warning(database));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    loop {
        let attempt = async {
            let store = Store::open(database).await?;
            let started = start(&config, &store, &clock, &stop).await;
            if started.is_err() {
                store.close_connections().await;
            }
            Ok((store, started?))
        };
        match attempt.await {
            Ok((store, loops)) => return Ok(Running { lock, store, loops }),
            Err(Error::Store(error)) if error.is_busy() => {
                warn!(error = &error as &dyn std::error::Error, "cannot start before the database is free");
                manager::still_starting();
            }
            Err(error) => return Err(error),
        }
    }
}

/// The warning if a database is created where one was before.
#[must_use]
pub fn new_database_warning(database: &Path) -> String {
    format!(
        "the database {} is not there, though vetwatch has run on it: was it deleted? It begins anew: the first look at \
         each customer is silent, and who was added by hand is forgotten. To go on with a backup, stop vetwatch and \
         `vetwatch restore FILE`",
        database.display()
    )
}

/// Takes the lock.
pub fn take_lock(database: &Path) -> Result<instance_lock::Lock, Error> {
    let held = instance_lock::take(database).map_err(|source| Error::Lock { database: database.to_owned(), source })?;
    held.ok_or_else(|| Error::Locked(database.to_owned()))
}

/// Recovers what the last process left behind and starts every loop. The loops end once `stop` is cancelled.
pub async fn start(
    config: &Config,
    store: &Store,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Result<JoinSet<String>, Error> {
    recover(config, store, clock).await?;
    let parts = assemble(config, store, clock, stop).await?;
    let mut loops = Loops {
        tasks: JoinSet::new(),
        progress: Vec::new(),
        store: store.clone(),
        clock: clock.clone(),
        stop: stop.clone(),
    };
    let mut pokes = Vec::new();
    let mut crons = Vec::new();
    for EndpointParts { dispatcher, poke } in parts.endpoints {
        let (name, dispatcher) = (format!("endpoint {}", dispatcher.endpoint()), Arc::new(dispatcher));
        pokes.push(poke.clone());
        let (last, stop_attempts) = (dispatcher.clone(), stop.clone());
        loops.tasks.spawn(async move {
            stop_attempts.cancelled().await;
            last.end().await;
            format!("attempts at {}", last.endpoint())
        });
        loops.add(name, HUNG_AFTER, poke, move || {
            let dispatcher = dispatcher.clone();
            async move { dispatcher.round().await.map(|round| round.next) }
        });
    }
    for PartnerParts { poller, poke, customer_sync, customer_sync_poke, activity_log } in parts.partners {
        let (name, poller) = (format!("partner {}", poller.partner.name), Arc::new(poller));
        pokes.push(poke.clone());
        let (ending, pokes_turn) = (poller.clone(), poke.clone());
        let turn = move || {
            let (poller, poke) = (poller.clone(), pokes_turn.clone());
            async move { poller.turn(&poke).await.map(|round| round.next) }
        };
        let progress = loops.progress(name, HUNG_AFTER);
        loops.run(progress, poke.clone(), turn, async move { ending.end().await });
        let (poll_poke, stop_scans) = (poke.clone(), stop.clone());
        let (name, log) = (format!("activity log of {}", activity_log.name), Arc::new(activity_log));
        loops.add(name, LIST_HUNG_AFTER, Arc::new(Notify::new()), move || {
            let (log, poll_poke, stop) = (log.clone(), poll_poke.clone(), stop_scans.clone());
            async move {
                let outcome = stop.run_until_cancelled(log.round()).await.unwrap_or(Ok(ScanOutcome::default()))?;
                if outcome.has_found() {
                    poll_poke.notify_one();
                }
                Ok(outcome.next)
            }
        });
        if customer_sync.synced {
            crons.push((customer_sync.cron.clone(), customer_sync.zone, customer_sync_poke.clone()));
            let stop_lists = stop.clone();
            let (name, customer_sync) = (format!("customer list of {}", customer_sync.name), Arc::new(customer_sync));
            let progress = loops.progress(name, LIST_HUNG_AFTER);
            let pages = progress.clone();
            let round = move || {
                let (customer_sync, poke, stop, pages) =
                    (customer_sync.clone(), poke.clone(), stop_lists.clone(), pages.clone());
                async move {
                    // A list takes minutes; stopping does not wait for it.
                    let round = customer_sync.round_with(|_| pages.beat());
                    let next = stop.run_until_cancelled(round).await.unwrap_or(Ok(None));
                    poke.notify_one();
                    next
                }
            };
            loops.run(progress, customer_sync_poke, round, async {});
        }
    }
    let alerts = Arc::new(parts.alerts);
    let late = alerts.late.clone();
    loops.add("the operators' alerts".to_owned(), HUNG_AFTER, Arc::new(Notify::new()), move || {
        let alerts = alerts.clone();
        async move { alerts.round().await }
    });
    let Loops { tasks: mut loops, progress, .. } = loops;
    let mut scheduler = worker_loop::poke_by_cron(crons).await?;
    loops.spawn(SignIns::of(&config.partners, clock)?.run(stop.clone()));
    loops.spawn(poke_on_foreign_writes(store.clone(), pokes, stop.clone()));
    if let Some(heartbeat) = config.heartbeat.clone() {
        loops.spawn(heartbeat.beat(progress.clone(), late, store.clone(), stop.clone()));
    } else {
        heartbeat::note(store, None).await?;
    }
    loops.spawn(manager::watchdog(progress.clone(), store.clone(), stop.clone()));
    loops.spawn(integrity::check_after_start(store.clone(), progress.clone(), stop.clone()));
    loops.spawn(maintain(store.clone(), clock.clone(), config.keep_attempts, stop.clone()));
    if let Some(settings) = config.backup.clone() {
        loops.spawn(Nightly::new(settings, store.clone(), clock.clone(), stop.clone()).run());
    }
    let stop = stop.clone();
    loops.spawn(async move {
        stop.cancelled().await;
        let _ = scheduler.shutdown().await;
        "the scheduler".to_owned()
    });
    Ok(loops)
}

/// The loops that run, and how far they got.
struct Loops {
    tasks: JoinSet<String>,
    progress: Vec<Arc<Progress>>,
    store: Store,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
}

impl Loops {
    fn add<F>(&mut self, name: String, patience: Duration, poke: Arc<Notify>, round: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<Option<Timestamp>, store::Error>> + Send,
    {
        let progress = self.progress(name, patience);
        self.run(progress, poke, round, async {});
    }

    /// The progress of a loop, for the watchdog and the heartbeat.
    fn progress(&mut self, name: String, patience: Duration) -> Arc<Progress> {
        let progress = Progress::new(name, patience);
        self.progress.push(progress.clone());
        progress
    }

    /// Runs a loop, and `end` after its last round.
    fn run<F>(
        &mut self,
        progress: Arc<Progress>,
        poke: Arc<Notify>,
        mut round: impl FnMut() -> F + Send + 'static,
        end: impl Future<Output = ()> + Send + 'static,
    ) where
        F: Future<Output = Result<Option<Timestamp>, store::Error>> + Send,
    {
        let (clock, stop, store) = (self.clock.clone(), self.stop.clone(), self.store.clone());
        let round = move || {
            let (running, store) = (round(), store.clone());
            async move { running.await.inspect_err(|error| store.note_damage(error)) }
        };
        self.tasks.spawn(async move {
            worker_loop::run(progress.clone(), poke, clock, stop, round).await;
            end.await;
            progress.name.clone()
        });
    }
}

/// Makes the work of a process that died due at once. The caller must hold the lock.
pub async fn recover(config: &Config, store: &Store, clock: &Arc<dyn Clock>) -> Result<(), Error> {
    let now = clock.now();
    if let Some(restored) = store.newly_restored().await? {
        warn!("{restored}");
    }
    let mut tx = store.begin().await?;
    tx.first_tick(now).await?;
    let polls = tx.recover_polls(now).await?;
    let deliveries = tx.recover_deliveries(now).await?;
    for endpoint in &config.endpoints {
        tx.resume_endpoint_if_changed(&endpoint.name, &endpoint.fingerprint(), now).await?;
    }
    let endpoints: Vec<_> = config.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    tx.note_configured(&endpoints, now).await?;
    tx.commit().await?;
    if polls + deliveries > 0 {
        info!(polls, deliveries, "vetwatch was stopped in the middle of its work, and takes it up again");
    }
    Ok(())
}

/// Pokes all loops after another process has written: a command may have made something due.
/// Logs when the log of the database becomes large, too.
async fn poke_on_foreign_writes(store: Store, pokes: Vec<Arc<Notify>>, stop: CancellationToken) -> String {
    let mut seen = store.data_version().await.ok();
    let mut log_was_large = false;
    while stop.run_until_cancelled(tokio::time::sleep(CHECK_WRITES_EVERY)).await.is_some() {
        let large = store.large_log();
        match &large {
            Some(log) if !log_was_large => warn!("{log}"),
            None if log_was_large => info!("the -wal file beside the database is small again"),
            _ => {}
        }
        log_was_large = large.is_some();
        match store.data_version().await {
            Ok(version) if seen != Some(version) => {
                seen = Some(version);
                for poke in &pokes {
                    poke.notify_one();
                }
            }
            Ok(_) => {}
            Err(error) => debug!(error = &error as &dyn std::error::Error, "cannot see whether others have written"),
        }
    }
    "the look at other writers".to_owned()
}

async fn maintain(store: Store, clock: Arc<dyn Clock>, keep_attempts: Duration, stop: CancellationToken) -> String {
    let mut maintained_at = clock.now();
    while stop.run_until_cancelled(tokio::time::sleep(TICK_EVERY)).await.is_some() {
        let now = clock.now();
        let work = async {
            let mut tx = store.begin().await?;
            tx.tick(now).await?;
            let is_time = now.since(maintained_at) >= MAINTAIN_EVERY || now < maintained_at;
            let gone = if is_time { tx.forget_attempts(now.before(keep_attempts)).await? } else { 0 };
            tx.commit().await?;
            if is_time {
                store.maintain().await?;
                debug!(gone, "old attempts forgotten");
                maintained_at = now;
            }
            Ok::<_, store::Error>(())
        };
        if let Err(error) = work.await.inspect_err(|error| store.note_damage(error))
            && !error.is_busy()
        {
            warn!(error = &error as &dyn std::error::Error, "the database could not be maintained");
        }
    }
    "housekeeping".to_owned()
}

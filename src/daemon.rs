//! The parts, put together: from a configuration to running loops, and back down on SIGTERM.

mod parts;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::activity::{self, Progress};
use crate::activity_log::Look;
use crate::config::Config;
use crate::lock;
use crate::partner_center;
use crate::sign_ins::SignIns;
use crate::store::{self, Store};
use crate::time::{Clock, SystemClock, Timestamp};

pub use parts::{EndpointParts, PartnerParts, Parts, assemble, channel};

/// A loop that has not come round for this long hangs; the watchdog is not fed then.
const HUNG: Duration = Duration::from_mins(3);
/// A long customer list takes its time.
const LIST_HUNG: Duration = Duration::from_hours(1);
/// How soon a change by another program is seen.
const OTHERS: Duration = Duration::from_millis(400);
const MINUTE: Duration = Duration::from_mins(1);
const HOUSEKEEPING: Duration = Duration::from_hours(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("another vetwatch runs on {}", .0.display())]
    Locked(PathBuf),
    #[error("cannot lock {}", database.display())]
    Lock { database: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the connection to Partner Center cannot be set up")]
    PartnerCenter(#[from] partner_center::SetupError),
    #[error("the scheduler cannot be set up")]
    Scheduler(#[from] tokio_cron_scheduler::JobSchedulerError),
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
    #[error("{0} ended by itself")]
    Ended(String),
}

/// The daemon: runs until SIGTERM or SIGINT, then lets what is under way end.
pub async fn run(config: Config) -> Result<(), Error> {
    let database = &config.database;
    let _held = take_lock(database).await?;
    // Before anything begins that is to end well.
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate()).map_err(Error::Signals)?,
        signal(SignalKind::interrupt()).map_err(Error::Signals)?,
    );
    let store = Store::open(&config.database).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stop = CancellationToken::new();
    let mut loops = start(&config, &store, &clock, &stop).await?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    info!("vetwatch {} runs", env!("CARGO_PKG_VERSION"));

    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = loops.join_next() => Some(ended),
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    stop.cancel();
    if let Some(ended) = ended {
        let name = match ended {
            Some(Ok(name)) => name,
            Some(Err(panic)) => format!("a loop ({panic})"),
            None => "everything".to_owned(),
        };
        error!("{name} ended by itself; stopping, so that it is started anew");
        return Err(Error::Ended(name));
    }
    info!("stopping; what is under way may end (a second signal stops at once)");
    let again = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        () = async { while loops.join_next().await.is_some() {} } => info!("stopped"),
        () = again => {
            loops.shutdown().await;
            warn!("stopped at once; what was under way is taken up at the next start");
        }
    }
    store.close().await;
    Ok(())
}

/// `status` looks at the lock for an instant; that is no other daemon.
pub async fn take_lock(database: &Path) -> Result<lock::Lock, Error> {
    for _ in 0..10 {
        match lock::take(database) {
            Ok(Some(held)) => return Ok(held),
            Ok(None) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(source) => return Err(Error::Lock { database: database.to_owned(), source }),
        }
    }
    Err(Error::Locked(database.to_owned()))
}

/// Takes up what the last process left behind and starts every loop. The loops end once `stop` is cancelled.
pub async fn start(
    config: &Config,
    store: &Store,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Result<JoinSet<String>, Error> {
    recover(config, store, clock).await?;
    let parts = assemble(config, store, clock, stop).await?;
    let mut loops = Loops { tasks: JoinSet::new(), progress: Vec::new(), clock: clock.clone(), stop: stop.clone() };
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
        loops.add(name, HUNG, poke, move || {
            let dispatcher = dispatcher.clone();
            async move { dispatcher.round().await.map(|round| round.next) }
        });
    }
    for PartnerParts { poller, poke, roster, synced, roster_poke, activity_log } in parts.partners {
        let (name, poller) = (format!("partner {}", poller.partner.name), Arc::new(poller));
        pokes.push(poke.clone());
        loops.add(name, HUNG, poke.clone(), move || {
            let poller = poller.clone();
            async move { poller.round().await.map(|round| round.next) }
        });
        let (asks, stop_looks) = (poke.clone(), stop.clone());
        let (name, log) = (format!("activity log of {}", activity_log.name), Arc::new(activity_log));
        loops.add(name, LIST_HUNG, Arc::new(Notify::new()), move || {
            let (log, asks, stop) = (log.clone(), asks.clone(), stop_looks.clone());
            async move {
                let look = stop.run_until_cancelled(log.round()).await.unwrap_or(Ok(Look::default()))?;
                if look.has_found() {
                    asks.notify_one();
                }
                Ok(look.next)
            }
        });
        if synced {
            crons.push((roster.cron.clone(), roster.zone, roster_poke.clone()));
            let stop_lists = stop.clone();
            let (name, roster) = (format!("customer list of {}", roster.name), Arc::new(roster));
            loops.add(name, LIST_HUNG, roster_poke, move || {
                let (roster, poke, stop) = (roster.clone(), poke.clone(), stop_lists.clone());
                async move {
                    // A list takes minutes; whoever stops does not wait for it.
                    let next = stop.run_until_cancelled(roster.round()).await.unwrap_or(Ok(None));
                    poke.notify_one();
                    next
                }
            });
        }
    }
    let alarms = Arc::new(parts.alarms);
    loops.add("the operators' alarms".to_owned(), HUNG, Arc::new(Notify::new()), move || {
        let alarms = alarms.clone();
        async move { alarms.round().await }
    });
    let Loops { tasks: mut loops, progress, .. } = loops;
    let mut scheduler = activity::poke_by_cron(crons).await?;
    loops.spawn(SignIns::of(&config.partners, clock)?.run(stop.clone()));
    loops.spawn(see_others(store.clone(), pokes, stop.clone()));
    if let Some(heartbeat) = config.heartbeat.clone() {
        loops.spawn(heartbeat.beat(progress.clone(), stop.clone()));
    }
    loops.spawn(watchdog(progress, stop.clone()));
    loops.spawn(keep_house(store.clone(), clock.clone(), config.keep_attempts, stop.clone()));
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
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
}

impl Loops {
    fn add<F>(&mut self, name: String, patience: Duration, poke: Arc<Notify>, round: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<Option<Timestamp>, store::Error>> + Send,
    {
        let progress = Progress::new(name.clone(), patience);
        self.progress.push(progress.clone());
        let (clock, stop) = (self.clock.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            activity::run(progress, poke, clock, stop, round).await;
            name
        });
    }
}

/// Takes up what a process that died left behind: it is due at once. Only for who holds the lock.
pub async fn recover(config: &Config, store: &Store, clock: &Arc<dyn Clock>) -> Result<(), Error> {
    let now = clock.now();
    let mut tx = store.begin().await?;
    tx.forgive_downtime(now).await?;
    let polls = tx.recover_polls(now).await?;
    let deliveries = tx.recover_deliveries(now).await?;
    for endpoint in &config.endpoints {
        tx.resume_endpoint_if_changed(&endpoint.name, &endpoint.fingerprint()).await?;
    }
    tx.commit().await?;
    if polls + deliveries > 0 {
        info!(polls, deliveries, "vetwatch was stopped in the middle of its work, and takes it up again");
    }
    Ok(())
}

/// Pokes everybody when another program has written: a command may have made something due.
async fn see_others(store: Store, pokes: Vec<Arc<Notify>>, stop: CancellationToken) -> String {
    let mut seen = store.data_version().await.ok();
    while stop.run_until_cancelled(tokio::time::sleep(OTHERS)).await.is_some() {
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

/// Feeds systemd's watchdog, if there is one.
async fn watchdog(progress: Vec<Arc<Progress>>, stop: CancellationToken) -> String {
    if let Some(patience) = sd_notify::watchdog_enabled() {
        let feed = || drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog]));
        stop.run_until_cancelled(feed_watchdog(&progress, patience / 4, feed)).await;
    } else {
        stop.cancelled().await;
    }
    "the watchdog".to_owned()
}

/// Feeds for as long as every loop comes round. A timer of its own would feed for a process that does nothing else
/// any more.
async fn feed_watchdog(progress: &[Arc<Progress>], every: Duration, feed: impl Fn()) {
    loop {
        tokio::time::sleep(every).await;
        match progress.iter().find(|activity| activity.is_hung()) {
            None => feed(),
            Some(hung) => error!("{} has not come round for {} s", hung.name, hung.age().as_secs()),
        }
    }
}

async fn keep_house(store: Store, clock: Arc<dyn Clock>, keep_attempts: Duration, stop: CancellationToken) -> String {
    let mut tidied = clock.now();
    while stop.run_until_cancelled(tokio::time::sleep(MINUTE)).await.is_some() {
        let now = clock.now();
        let housework = async {
            let mut tx = store.begin().await?;
            tx.runs(now).await?;
            let is_time = now.since(tidied) >= HOUSEKEEPING || now < tidied;
            let gone = if is_time { tx.forget_attempts(now.before(keep_attempts)).await? } else { 0 };
            tx.commit().await?;
            if is_time {
                store.tidy().await?;
                debug!(gone, "old attempts forgotten");
                tidied = now;
            }
            Ok::<_, store::Error>(())
        };
        if let Err(error) = housework.await {
            warn!(error = &error as &dyn std::error::Error, "the database could not be tidied up");
        }
    }
    "housekeeping".to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Two loops, one of which hangs from its fifth round on: how often the watchdog is fed in so long.
    async fn fed(hangs: bool, within: Duration) -> u32 {
        let (clock, stop) = (Arc::new(SystemClock), CancellationToken::new());
        let mut loops = Loops { tasks: JoinSet::new(), progress: Vec::new(), clock, stop };
        for hangs in [false, hangs] {
            let mut rounds = 0;
            loops.add("a loop".to_owned(), Duration::from_millis(300), Arc::new(Notify::new()), move || {
                rounds += 1;
                async move {
                    if hangs && rounds >= 5 {
                        std::future::pending::<()>().await;
                    }
                    Ok(Some(SystemClock.now().after(Duration::from_millis(20))))
                }
            });
        }
        let times = AtomicU32::new(0);
        let feed = || {
            times.fetch_add(1, Ordering::Relaxed);
        };
        let _ = tokio::time::timeout(within, feed_watchdog(&loops.progress, Duration::from_millis(20), feed)).await;
        times.into_inner()
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_while_every_loop_comes_round_and_not_when_one_hangs() {
        let (good, bad) = tokio::join!(fed(false, Duration::from_secs(3)), fed(true, Duration::from_secs(3)));
        // The hung one comes round for 80 ms and is trusted for 300 more: some 20 times of 150.
        assert!(bad >= 1 && bad < good / 2, "fed {good} times while all is well, {bad} times with a loop that hangs");
    }
}

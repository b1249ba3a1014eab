//! Starts all loops from a configuration, and stops them in order.

mod kept;
mod loops;
mod manager;
mod parts;
mod reload;
mod signals;
mod upkeep;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::descriptors;
use crate::instance_lock;
use crate::partner_center;
use crate::standby::{self, Leadership};
use crate::store::{self, Store, WriteTx};
use crate::time::{Clock, SystemClock, Timestamp};
use loops::Prepared;
use reload::Reloads;
use signals::Asked;

pub use kept::Kept;
pub use loops::Loops;
pub use parts::{EndpointParts, PartnerParts, Parts, assemble, channel};
pub use signals::Signals;

/// Work in flight has timeouts of its own; the service manager kills after 90 s.
const MAX_SHUTDOWN: Duration = Duration::from_secs(85);

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
    #[error("this host cannot take part in the election of [standby]")]
    Standby(#[from] standby::Error),
    #[error("{0} ended by itself")]
    Ended(String),
}

/// Runs the daemon until a signal, then lets work in flight end.
///
/// With `[standby]` it stands by before that, and ends once this host does not lead any more: its next start stands by.
///
/// # Errors
/// When it cannot start, a loop ends by itself, or the database file was replaced.
pub async fn run(config: Config, mut signals: Signals) -> Result<(), Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let kept = Arc::new(Kept::new(&*clock, CancellationToken::new()));
    // A task of its own, so that signals are obeyed while it waits.
    let mut starting = JoinSet::new();
    starting.spawn(start_up(config, clock.clone(), kept.clone()));
    let Running { lock, store, mut loops } = tokio::select! {
        started = starting.join_next() => match started {
            Some(Ok(started)) => started?,
            _ => return Err(Error::Ended("the start".to_owned())),
        },
        () = signals.end() => {
            info!("stopped before it had begun");
            starting.shutdown().await;
            if let Some(leadership) = kept.leadership.get() {
                leadership.leave().await;
            }
            return Ok(());
        }
    };
    manager::notify(&NotifyState::Ready);
    info!("vetwatch {} runs", env!("CARGO_PKG_VERSION"));

    let mut reloads = Reloads::new(&store, &clock, &kept);
    let mut lost = std::pin::pin!(store.lost());
    let leadership = kept.leadership.get().cloned();
    if leadership.is_some() {
        // The configuration was read when this host began to stand by, perhaps weeks ago.
        reloads.ask();
    }
    let mut deposed = std::pin::pin!(async {
        match &leadership {
            Some(leadership) => leadership.lost().await,
            None => std::future::pending().await,
        }
    });
    let broken = loop {
        let config = loops.config();
        if let Some(leadership) = &leadership {
            leadership.note_configuration(config.content.digests());
        }
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::End => break None,
                Asked::Reload => reloads.ask(),
            },
            ended = loops.broken() => break Some(Error::Ended(ended.unwrap_or("everything".to_owned()))),
            lost = &mut lost => break Some(Error::Store(lost)),
            () = &mut deposed => {
                // Another host leads, or will: nothing may be sent any more, and what is noted here nobody reads.
                loops.abort().await;
                if let Some(leadership) = &leadership {
                    leadership.end().await;
                }
                std::mem::forget((store.clone(), lock));
                return Ok(());
            }
            outcome = reloads.next(&config) => reloads.apply(outcome, &mut loops),
        }
    };
    // One that is under way may be in the queue of writers.
    drop(reloads);
    manager::notify(&NotifyState::Stopping);
    kept.stop.cancel();
    store.hurry();
    if let Some(error) = broken {
        // Work in flight is interrupted, and taken up at the next start.
        loops.abort().await;
        leave(leadership.as_deref()).await;
        if matches!(error, Error::Ended(_) | Error::Store(store::Error::LogLost { .. })) {
            end(&store).await;
        } else {
            // Not closed: SQLite would tidy up at a path where another file is now.
            std::mem::forget((store.clone(), lock));
        }
        return Err(error);
    }
    info!("stopping; what is under way may end (a second signal stops at once)");
    tokio::select! {
        () = async { while loops.broken().await.is_some() {} } => info!("stopped"),
        () = signals.end() => {
            loops.abort().await;
            warn!("stopped at once; what was under way is taken up at the next start");
        }
        () = tokio::time::sleep(MAX_SHUTDOWN) => {
            loops.abort().await;
            error!("stopped, though something was under way still; it is taken up at the next start");
        }
    }
    // Litestream reads the database, so it ends first.
    leave(leadership.as_deref()).await;
    end(&store).await;
    drop(lock);
    Ok(())
}

async fn leave(leadership: Option<&Leadership>) {
    if let Some(leadership) = leadership {
        leadership.leave().await;
    }
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
    loops: Loops,
}

/// Starts everything. Waits without limit while another program holds the database.
async fn start_up(config: Config, clock: Arc<dyn Clock>, kept: Arc<Kept>) -> Result<Running, Error> {
    let config = Arc::new(config);
    let database = &config.database;
    let (limit, needed) = (descriptors::raise_limit(), descriptors::needed(&config));
    if limit < needed {
        return Err(Error::Descriptors { limit, needed });
    }
    if let Some(settings) = &config.standby {
        let read = reload::reader(config.clone());
        let leadership = standby::lead(settings, read, database, &clock, manager::stands_by).await?;
        // Set once: this is the only start of the process.
        let _ = kept.leadership.set(leadership);
    } else {
        standby::host_state::forget(database);
    }
    let is_new = store::was_deleted(database);
    let lock = take_lock(database)?;
    lock.name_daemon();
    if is_new {
        warn!("{}", new_database_warning(database));
    }
    loop {
        let attempt = async {
            let store = Store::open(database).await?;
            let started = start(&config, &store, &clock, &kept).await;
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

/// Recovers what the last process left behind and starts every loop. The loops end once the `stop` of `kept` is cancelled.
pub async fn start(
    config: &Arc<Config>,
    store: &Store,
    clock: &Arc<dyn Clock>,
    kept: &Arc<Kept>,
) -> Result<Loops, Error> {
    recover(config, store, clock).await?;
    let parts = assemble(config, store, clock, kept).await?;
    Ok(Loops::start(Prepared::new(config.clone(), parts, kept).await?, store, clock, kept.clone()))
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
    note_config(&mut tx, config, now).await?;
    tx.note_start(now).await?;
    tx.commit().await?;
    if polls + deliveries > 0 {
        info!(polls, deliveries, "vetwatch was stopped in the middle of its work, and takes it up again");
    }
    Ok(())
}

/// Applies what a configuration says about rows that are there already.
async fn note_config(tx: &mut WriteTx, config: &Config, now: Timestamp) -> Result<(), store::Error> {
    tx.recheck_deferred(now).await?;
    for endpoint in &config.endpoints {
        tx.resume_endpoint_if_changed(&endpoint.name, &endpoint.fingerprint(), now).await?;
    }
    let endpoints: Vec<_> = config.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    tx.note_configured(&endpoints, now).await?;
    if config.heartbeat.is_none() {
        tx.note_heartbeat(None, now).await?;
    }
    Ok(())
}

//! The loops of the daemon as a whole. Each looks at the configuration in force whenever it does something.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::backup::Nightly;
use crate::heartbeat::Heartbeat;
use crate::in_force::InForce;
use crate::store::{self, Store};
use crate::summary::Summaries;
use crate::time::Clock;
use crate::token_keepalive::SignIns;

/// How often to check for writes by other processes.
const CHECK_WRITES_EVERY: Duration = Duration::from_millis(400);
const TICK_EVERY: Duration = Duration::from_mins(1);
const MAINTAIN_EVERY: Duration = Duration::from_hours(1);
/// How often to look for sign-ins to renew.
const RENEW_EVERY: Duration = Duration::from_hours(1);

/// Sends heartbeats, if the configuration has a URL for them, until `stop` is cancelled.
pub(super) async fn send_heartbeats(
    mut in_force: watch::Receiver<Arc<InForce>>,
    late: Arc<AtomicBool>,
    store: Store,
    stop: CancellationToken,
) {
    let url = |heartbeat: &Option<Heartbeat>| heartbeat.as_ref().map(|heartbeat| heartbeat.0.clone());
    while !stop.is_cancelled() {
        let heartbeat = in_force.borrow_and_update().config.heartbeat.clone();
        let now = in_force.clone();
        let beating = async {
            match &heartbeat {
                Some(heartbeat) => heartbeat.beat(|| now.borrow().progress.clone(), &late, &store).await,
                None => std::future::pending().await,
            }
        };
        let is_another = async {
            let _ = in_force.wait_for(|new| url(&new.config.heartbeat) != url(&heartbeat)).await;
        };
        tokio::select! {
            () = beating => {}
            () = is_another => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Makes backups, if the configuration asks for them, until `stop` is cancelled.
pub(super) async fn make_backups(
    mut in_force: watch::Receiver<Arc<InForce>>,
    store: Store,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let settings = in_force.borrow_and_update().config.backup.clone();
        let until = stop.child_token();
        let making = async {
            match settings.clone() {
                Some(settings) => Nightly::new(settings, store.clone(), clock.clone(), until.clone()).run().await,
                None => until.cancelled().await,
            }
        };
        let is_another = async {
            let _ = in_force.wait_for(|new| new.config.backup != settings).await;
            until.cancel();
        };
        // A backup that is under way ends in order.
        tokio::join!(making, async {
            until.run_until_cancelled(is_another).await;
        });
    }
}

/// Sends summaries, if the configuration asks for them, until `stop` is cancelled.
pub(super) async fn send_summaries(
    mut in_force: watch::Receiver<Arc<InForce>>,
    store: Store,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let now = in_force.borrow_and_update().clone();
        let until = stop.child_token();
        let sending = async {
            if let Some(settings) = now.config.summary.clone() {
                let summaries = Summaries {
                    settings,
                    outline: now.config.outline(),
                    routes: now.config.routes.clone(),
                    store: store.clone(),
                    clock: clock.clone(),
                    pokes: now.pokes.clone(),
                };
                return summaries.run(until.clone()).await;
            }
            if let Err(error) = forget_summaries(&store).await {
                debug!(error = &error as &dyn std::error::Error, "the last summary cannot be forgotten");
            }
            until.cancelled().await;
        };
        let is_another = async {
            let _ = in_force.wait_for(|new| !Arc::ptr_eq(&new.config, &now.config)).await;
            until.cancel();
        };
        tokio::join!(sending, async {
            until.run_until_cancelled(is_another).await;
        });
    }
}

/// Without `[summary]` nothing is owed.
async fn forget_summaries(store: &Store) -> Result<(), store::Error> {
    if store.summaries_told().await?.is_some() {
        let mut tx = store.begin().await?;
        tx.forget_summaries().await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Renews the users' sign-ins that nothing else uses.
pub(super) async fn renew_sign_ins(
    mut in_force: watch::Receiver<Arc<InForce>>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    in_force.mark_changed();
    let mut sign_ins = None;
    while !stop.is_cancelled() {
        if in_force.has_changed().unwrap_or(false) {
            let config = in_force.borrow_and_update().config.clone();
            match SignIns::of(&config.partners, &clock) {
                Ok(new) => sign_ins = Some(new),
                Err(error) => warn!("the users' sign-ins cannot be renewed: {error}"),
            }
        }
        if let Some(sign_ins) = &mut sign_ins {
            stop.run_until_cancelled(sign_ins.round()).await;
        }
        stop.run_until_cancelled(tokio::time::sleep(RENEW_EVERY)).await;
    }
}

/// Pokes all loops after another process has written: a command may have made something due.
/// Logs when the log of the database becomes large, too.
pub(super) async fn poke_on_foreign_writes(
    store: Store,
    in_force: watch::Receiver<Arc<InForce>>,
    stop: CancellationToken,
) {
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
        if let Err(error) = store.follow_litestream().await {
            debug!(
                error = &error as &dyn std::error::Error,
                "cannot leave checkpoints to Litestream, or take them back"
            );
        }
        match store.data_version().await {
            Ok(version) if seen != Some(version) => {
                seen = Some(version);
                for poke in &in_force.borrow().pokes {
                    poke.notify_one();
                }
            }
            Ok(_) => {}
            Err(error) => debug!(error = &error as &dyn std::error::Error, "cannot see whether others have written"),
        }
    }
}

pub(super) async fn maintain(
    store: Store,
    clock: Arc<dyn Clock>,
    in_force: watch::Receiver<Arc<InForce>>,
    stop: CancellationToken,
) {
    let mut maintained_at = clock.now();
    while stop.run_until_cancelled(tokio::time::sleep(TICK_EVERY)).await.is_some() {
        let now = clock.now();
        let keep_attempts = in_force.borrow().config.keep_attempts;
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
            warn!(error = &error as &dyn std::error::Error, "the housekeeping of the database failed");
        }
    }
}

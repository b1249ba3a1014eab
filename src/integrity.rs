//! Looks for damage after a start: beside the polls, never before the first of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::store::Store;
use crate::worker_loop::Progress;

/// A larger file is checked only after an end that was not orderly.
const LARGE_BYTES: u64 = 500 << 20;
/// The check ends after this time, whatever it has read.
const MAX_TIME: Duration = Duration::from_mins(5);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Checks the database once every loop has had its first round, then waits for the end.
pub async fn check_after_start(store: Store, loops: Vec<Arc<Progress>>, stop: CancellationToken) {
    while !loops.iter().all(|progress| progress.has_had_a_round()) {
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            break;
        }
    }
    if !stop.is_cancelled() {
        check(&store, &stop).await;
    }
    stop.cancelled().await;
}

async fn check(store: &Store, stop: &CancellationToken) {
    let bytes = store.path().metadata().map_or(0, |file| file.len());
    if store.ended_in_order() && bytes >= LARGE_BYTES {
        return;
    }
    let (began, stop) = (Instant::now(), stop.clone());
    let took = move || began.elapsed().as_millis();
    match store.check_quickly(move || !stop.is_cancelled() && began.elapsed() < MAX_TIME).await {
        Ok(Some(found)) => error!("the database is damaged: {found}"),
        Ok(None) if began.elapsed() >= MAX_TIME => {
            info!("the check of the database was ended after {} s, and found no damage", MAX_TIME.as_secs());
        }
        Ok(None) => debug!(bytes, "the database was checked in {} ms: no damage found", took()),
        Err(error) => warn!(error = &error as &dyn std::error::Error, "the database could not be checked"),
    }
}

//! Reads for pages: few at a time, each in one read transaction with a deadline.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::store::{self, Store};

/// Pages that are read at once.
const READERS: usize = 4;
/// How long a request waits for its turn.
const WAIT: Duration = Duration::from_secs(2);
/// How long a page's reads may take.
const WITHIN: Duration = Duration::from_secs(2);

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("too many pages are asked for at once")]
    Busy,
    #[error("reading the database took longer than {} s", WITHIN.as_secs())]
    TooLong,
    #[error("the database cannot be read")]
    Store(#[source] store::Error),
}

/// Connections for reading, opened when they are first needed.
#[derive(Debug)]
pub(super) struct Readers {
    database: PathBuf,
    idle: Mutex<Vec<Store>>,
    turns: Semaphore,
    /// The last one could not be read, and that was logged.
    failing: AtomicBool,
}

impl Readers {
    pub(super) fn new(database: PathBuf) -> Self {
        Self { database, idle: Mutex::default(), turns: Semaphore::new(READERS), failing: AtomicBool::new(false) }
    }

    /// Reads in one transaction.
    pub(super) async fn read<T>(&self, work: impl AsyncFnOnce(&Store) -> Result<T, store::Error>) -> Result<T, Unread> {
        let turn = tokio::time::timeout(WAIT, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Unread::Busy) };
        let read = async {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            // A reader whose request went away is dropped, not returned.
            let store = match idle {
                Some(store) => store,
                None => Store::open_snapshots(&self.database).await?,
            };
            store.begin_reading(Instant::now() + WITHIN).await?;
            let result = work(&store).await?;
            store.end_reading().await?;
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(store);
            Ok(result)
        };
        let read = read.await.map_err(|error: store::Error| {
            if error.is_interrupted() {
                return Unread::TooLong;
            }
            // Once: monitors ask every few seconds.
            if !self.failing.swap(true, Ordering::Relaxed) {
                warn!(error = &error as &dyn std::error::Error, "a page cannot be read from the database");
            }
            Unread::Store(error)
        })?;
        if self.failing.swap(false, Ordering::Relaxed) {
            info!("pages can be read from the database again");
        }
        Ok(read)
    }
}

//! What the mail server and the webhook receiver have in common: a port, the items that arrived, which can be awaited,
//! and the rules for what to do instead of accepting one.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::listener::Port;
use vetwatch_core::time::Clock;

/// Fewer items arrived than expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} were to arrive within {within:?}, and {arrived} did")]
pub struct Missing {
    pub wanted: usize,
    pub arrived: usize,
    pub within: Duration,
}

/// A running server that stores what arrives. Dropping it stops it.
pub struct Peer<T, R> {
    pub(super) port: Port,
    pub(super) inbox: Arc<Inbox<T, R>>,
}

impl<T: Clone, R: Clone> Peer<T, R> {
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Waits for `count` items since the start (or [`Self::clear`]), and returns all.
    pub async fn wait_for(&self, count: usize, within: Duration) -> Result<Vec<T>, Missing> {
        self.wait_for_those(count, within, |_| true).await
    }

    /// Like [`Self::wait_for`], for items that satisfy `counts`, such as requests that were answered.
    pub async fn wait_for_those(
        &self,
        wanted: usize,
        within: Duration,
        counts: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, Missing> {
        let mut changes = self.inbox.changed.subscribe();
        let counting = || -> Vec<T> { locked(&self.inbox.items).iter().filter(|item| counts(item)).cloned().collect() };
        let waiting = async {
            loop {
                changes.mark_unchanged();
                let found = counting();
                if found.len() >= wanted || changes.changed().await.is_err() {
                    return found;
                }
            }
        };
        let found = tokio::time::timeout(within, waiting).await;
        found.map_err(|_| Missing { wanted, arrived: counting().len(), within })
    }

    /// Drops the items.
    pub fn clear(&self) {
        locked(&self.inbox.items).clear();
        self.inbox.changed.send_replace(());
    }

    /// Clears the rules.
    pub fn clear_script(&self) {
        locked(&self.inbox.rules).clear();
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> u64 {
        self.port.accepted()
    }

    /// Closes every connection and refuses new ones.
    pub async fn stop(&self) -> io::Result<()> {
        self.port.stop().await
    }

    /// Listens again on the same port.
    pub async fn start_again(&self) -> io::Result<()> {
        self.port.start_again().await
    }
}

impl<T, R> fmt::Debug for Peer<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("address", &self.port.address()).finish_non_exhaustive()
    }
}

/// Received items in order of arrival, and rules in the order they were added, each with the number of times it still
/// applies.
pub(super) struct Inbox<T, R> {
    pub(super) clock: Arc<dyn Clock>,
    items: Mutex<Vec<T>>,
    changed: watch::Sender<()>,
    rules: Mutex<Vec<(R, Option<u64>)>>,
}

impl<T: Clone, R: Clone> Inbox<T, R> {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, items: Mutex::default(), changed: watch::Sender::new(()), rules: Mutex::default() })
    }

    /// Appends an item and returns its index.
    pub(super) fn push(&self, item: T) -> usize {
        let index = {
            let mut items = locked(&self.items);
            items.push(item);
            items.len() - 1
        };
        self.changed.send_replace(());
        index
    }

    pub(super) fn change(&self, index: usize, change: impl FnOnce(&mut T)) {
        locked(&self.items).get_mut(index).map(change);
        self.changed.send_replace(());
    }

    pub(super) fn all(&self) -> Vec<T> {
        locked(&self.items).clone()
    }

    /// With `times` `None`, the rule applies until cleared.
    pub(super) fn add_rule(&self, rule: R, times: Option<u64>) {
        locked(&self.rules).push((rule, times));
    }

    /// The first rule that matches; counts it.
    pub(super) fn next_rule(&self, matches: impl Fn(&R) -> bool) -> Option<R> {
        let mut rules = locked(&self.rules);
        rules.retain(|(_, times)| *times != Some(0));
        let (rule, times) = rules.iter_mut().find(|(rule, _)| matches(rule))?;
        if let Some(times) = times {
            *times -= 1;
        }
        Some(rule.clone())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

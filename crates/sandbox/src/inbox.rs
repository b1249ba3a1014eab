//! Shared by the mail server and the webhook receiver: a list that can be awaited, and scripted behaviour.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Fewer items arrived than expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} were to arrive within {within:?}, and {arrived} did")]
pub struct Missing {
    pub wanted: usize,
    pub arrived: usize,
    pub within: Duration,
}

/// Received items, in order of arrival.
#[derive(Debug)]
pub(super) struct Collection<T> {
    items: Mutex<Vec<T>>,
    changed: watch::Sender<()>,
}

impl<T: Clone> Collection<T> {
    pub(super) fn new() -> Self {
        Self { items: Mutex::new(Vec::new()), changed: watch::Sender::new(()) }
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

    pub(super) fn clear(&self) {
        locked(&self.items).clear();
        self.changed.send_replace(());
    }

    /// Waits for `wanted` items that satisfy `counts`, and returns all of them.
    pub(super) async fn wait_for(
        &self,
        wanted: usize,
        within: Duration,
        counts: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, Missing> {
        let mut changes = self.changed.subscribe();
        let counting = || -> Vec<T> { locked(&self.items).iter().filter(|item| counts(item)).cloned().collect() };
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
}

/// Rules in the order they were added, each with the number of times it still applies.
#[derive(Debug)]
pub(super) struct Script<R> {
    rules: Mutex<Vec<(R, Option<u64>)>>,
}

impl<R: Clone> Script<R> {
    pub(super) fn new() -> Self {
        Self { rules: Mutex::new(Vec::new()) }
    }

    /// With `times` `None`, the rule applies until cleared.
    pub(super) fn add(&self, rule: R, times: Option<u64>) {
        locked(&self.rules).push((rule, times));
    }

    pub(super) fn clear(&self) {
        locked(&self.rules).clear();
    }

    /// The first rule that matches; counts it.
    pub(super) fn next(&self, matches: impl Fn(&R) -> bool) -> Option<R> {
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

//! Past states of customers, which lagging replicas show.

use std::collections::{HashMap, VecDeque};

use super::world::State;
use vetwatch_core::time::Timestamp;

/// Maximum states per customer; older ones are dropped.
const KEPT: usize = 32;

#[derive(Debug, Default)]
pub(super) struct History {
    /// Keyed by the id in lower case: each state with the time it ended, oldest first.
    customers: HashMap<String, VecDeque<(Timestamp, State)>>,
}

impl History {
    /// Records a state that ends now.
    pub(super) fn remember(&mut self, key: &str, state: &State, now: Timestamp) {
        let past = match self.customers.get_mut(key) {
            Some(past) => past,
            None => self.customers.entry(key.to_owned()).or_default(),
        };
        if past.len() >= KEPT {
            past.pop_front();
        }
        past.push_back((now, state.clone()));
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.customers.remove(key);
    }

    /// The state at that time; `None` if it is the current one.
    pub(super) fn at(&self, id: &str, at: Timestamp) -> Option<&State> {
        if self.customers.is_empty() {
            return None;
        }
        let past = self.customers.get(id).or_else(|| self.customers.get(&id.to_lowercase()))?;
        past.iter().find(|(until, _)| *until > at).map(|(_, state)| state)
    }
}

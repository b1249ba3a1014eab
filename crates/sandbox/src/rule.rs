//! Which requests a [fault](super::fault) or [quirk](super::quirk) applies to, and how often.
//!
//! The requests of a share look random, and are the same in every run.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration_serde;
use super::log::Kind;
use vetwatch_core::time::Timestamp;

/// Which requests it applies to. The first rule that matches wins; those for a single customer come first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule<T> {
    /// `None` matches every kind.
    pub on: Option<Kind>,
    /// `None` matches every customer.
    pub customer: Option<String>,
    /// Number of matching requests to let pass first.
    #[serde(default)]
    pub skip: u64,
    /// Maximum number of requests it applies to; `None`: unlimited.
    pub times: Option<u64>,
    /// Share of the matching requests it applies to, from 0 to 1; `None`: all.
    pub share: Option<f64>,
    /// Share of the customers it applies to, from 0 to 1, always the same ones; `None`: all.
    pub of_customers: Option<f64>,
    /// Expires this long after it was added; `None`: never.
    #[serde(default, rename = "for", with = "duration_serde::optional")]
    pub lasts: Option<Duration>,
    #[serde(flatten)]
    pub what: T,
}

impl<T> Rule<T> {
    /// Every request, until cleared.
    pub fn all(what: T) -> Self {
        Self { on: None, customer: None, skip: 0, times: None, share: None, of_customers: None, lasts: None, what }
    }

    /// Every request of a kind, until cleared.
    pub fn on(kind: Kind, what: T) -> Self {
        Self { on: Some(kind), ..Self::all(what) }
    }

    /// Every request about a customer, until cleared.
    pub fn about(customer: impl Into<String>, what: T) -> Self {
        Self { customer: Some(customer.into()), ..Self::all(what) }
    }

    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    #[must_use]
    pub fn skip(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// Share of the matching requests, from 0 to 1.
    #[must_use]
    pub fn share(mut self, share: f64) -> Self {
        self.share = Some(share);
        self
    }

    /// Share of the customers, from 0 to 1, always the same ones.
    #[must_use]
    pub fn of_customers(mut self, share: f64) -> Self {
        self.of_customers = Some(share);
        self
    }

    #[must_use]
    pub fn lasts(mut self, lasts: Duration) -> Self {
        self.lasts = Some(lasts);
        self
    }
}

/// A rule in force, as the control API lists it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Active<T> {
    pub(super) id: u64,
    /// Requests it was applied to.
    pub(super) met: u64,
    /// When it expires.
    pub(super) until: Option<Timestamp>,
    /// Draws made so far for `share`.
    #[serde(skip)]
    draws: u64,
    #[serde(flatten)]
    pub(super) rule: Rule<T>,
}

impl<T> Active<T> {
    fn is_over(&self, now: Timestamp) -> bool {
        self.rule.times == Some(0) || self.until.is_some_and(|until| now >= until)
    }

    /// True if it applies to this request, which is then counted.
    fn applies(&mut self, kind: Kind, customer: Option<&str>) -> bool {
        let Self { id, rule, draws, met, .. } = self;
        if rule.on.is_some_and(|on| on != kind) {
            return false;
        }
        if let Some(share) = rule.of_customers
            && !customer.is_some_and(|customer| in_share(customer, share, *id))
        {
            return false;
        }
        if rule.skip > 0 {
            rule.skip -= 1;
            return false;
        }
        if let Some(share) = rule.share {
            *draws += 1;
            if fraction(*id << 40 ^ *draws) >= share {
                return false;
            }
        }
        *met += 1;
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        true
    }
}

/// Rules in the order they were added. Those for a single customer are indexed by it, and cost other requests nothing.
#[derive(Debug)]
pub(super) struct Rules<T> {
    last: u64,
    any_customer: Vec<Active<T>>,
    /// Keyed by the id in lower case.
    customers: HashMap<String, Vec<Active<T>>>,
}

impl<T> Default for Rules<T> {
    fn default() -> Self {
        Self { last: 0, any_customer: Vec::new(), customers: HashMap::new() }
    }
}

impl<T: Clone> Rules<T> {
    pub(super) fn add(&mut self, rule: Rule<T>, now: Timestamp) -> u64 {
        self.last += 1;
        let list = match &rule.customer {
            Some(customer) => self.customers.entry(customer.to_lowercase()).or_default(),
            None => &mut self.any_customer,
        };
        let until = rule.lasts.map(|lasts| now.after(lasts));
        list.push(Active { id: self.last, met: 0, until, draws: 0, rule });
        self.last
    }

    pub(super) fn is_empty(&self) -> bool {
        self.any_customer.is_empty() && self.customers.is_empty()
    }

    /// False if there is no rule with this number.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let mut found = false;
        for list in self.customers.values_mut().chain([&mut self.any_customer]) {
            list.retain(|active| active.id != id || std::mem::replace(&mut found, true));
        }
        self.customers.retain(|_, list| !list.is_empty());
        found
    }

    pub(super) fn clear(&mut self) {
        *self = Self { last: self.last, ..Self::default() };
    }

    pub(super) fn list(&self, now: Timestamp) -> Vec<Active<T>> {
        let all = self.customers.values().flatten().chain(&self.any_customer);
        let mut all: Vec<_> = all.filter(|active| !active.is_over(now)).cloned().collect();
        all.sort_by_key(|active| active.id);
        all
    }

    /// The first `wanted` rule that applies to this request, with its number; counts it.
    pub(super) fn first_match(
        &mut self,
        kind: Kind,
        customer: Option<&str>,
        now: Timestamp,
        wanted: impl Fn(&T) -> bool,
    ) -> Option<(u64, T)> {
        let first = |list: &mut Vec<Active<T>>| {
            list.retain(|active| !active.is_over(now));
            let met = list.iter_mut().find_map(|active| {
                let applies = wanted(&active.rule.what) && active.applies(kind, customer);
                applies.then(|| (active.id, active.rule.what.clone()))
            });
            list.retain(|active| !active.is_over(now));
            met
        };
        if !self.customers.is_empty()
            && let Some(key) = customer.map(str::to_lowercase)
            && let Some(list) = self.customers.get_mut(&key)
        {
            let met = first(list);
            if list.is_empty() {
                self.customers.remove(&key);
            }
            if met.is_some() {
                return met;
            }
        }
        first(&mut self.any_customer)
    }
}

/// `SplitMix64`: pseudo-random and deterministic.
pub(super) fn scrambled(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A value in `[0, 1)`.
fn fraction(n: u64) -> f64 {
    f64::from(u32::try_from(scrambled(n) >> 32).unwrap_or(u32::MAX)) / 4_294_967_296.0
}

/// True if the customer is in this share, which `salt` selects.
pub(super) fn in_share(customer: &str, share: f64, salt: u64) -> bool {
    let mixed = |sum: u64, byte: u8| (sum ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01B3);
    fraction(customer.bytes().fold(0xCBF2_9CE4_8422_2325 ^ salt, mixed)) < share
}

//! What outlives a configuration. A partner or an endpoint that keeps its name goes on where it was: with what is in flight,
//! what is left of its budget, and its token.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::activity_log::ScanInProgress;
use crate::alerts::Outside;
use crate::clock_watch::ClockWatch;
use crate::config::Keys;
use crate::delivery::InFlight;
use crate::metrics::Metrics;
use crate::partner_center::{Budget, PartnerCenter};
use crate::poller::{Flight, RecentPolls};
use crate::standby::Leadership;
use crate::time::{Clock, Timestamp};
use crate::worker_loop::Crons;

#[derive(Debug)]
pub struct Kept {
    /// Cancelled when the process stops.
    pub stop: CancellationToken,
    pub clock_watch: Arc<ClockWatch>,
    /// True while work is late; stops the heartbeat.
    pub late: Arc<AtomicBool>,
    /// What was sent past the outbox.
    pub outside: Outside,
    pub metrics: Arc<Metrics>,
    pub crons: tokio::sync::Mutex<Crons>,
    /// With `[standby]`, once this host leads.
    pub leadership: OnceLock<Arc<Leadership>>,
    partners: Mutex<BTreeMap<String, KeptPartner>>,
    endpoints: Mutex<BTreeMap<String, KeptEndpoint>>,
}

#[derive(Debug, Clone)]
pub struct KeptPartner {
    /// Cancelled when the partner leaves the configuration, too.
    pub stop: CancellationToken,
    pub poke: Arc<Notify>,
    pub customer_sync_poke: Arc<Notify>,
    pub budget: Arc<Budget>,
    pub flight: Arc<tokio::sync::Mutex<Flight>>,
    pub recent_polls: Arc<RecentPolls>,
    pub scan: Arc<ScanInProgress>,
    /// The client, and the section of the configuration that it was made from.
    pub client: Option<(Keys, Arc<PartnerCenter>)>,
}

#[derive(Debug, Clone)]
pub struct KeptEndpoint {
    /// Cancelled when the endpoint leaves the configuration, too.
    pub stop: CancellationToken,
    pub poke: Arc<Notify>,
    pub in_flight: Arc<tokio::sync::Mutex<InFlight>>,
}

impl Kept {
    #[must_use]
    pub fn new(clock: &dyn Clock, stop: CancellationToken) -> Self {
        Self {
            stop,
            clock_watch: Arc::new(ClockWatch::new(clock)),
            late: Arc::default(),
            outside: Outside::default(),
            metrics: Arc::default(),
            crons: tokio::sync::Mutex::default(),
            leadership: OnceLock::new(),
            partners: Mutex::default(),
            endpoints: Mutex::default(),
        }
    }

    /// What is kept of a partner. `limit` is the reduced rate limit from before a restart.
    pub fn partner(&self, name: &str, requests_per_minute: u32, limit: Option<u32>, now: Timestamp) -> KeptPartner {
        let mut partners = self.partners.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = partners.get(name).map(|kept| kept.budget.clone());
        if let Some(kept) = partners.get(name).filter(|kept| !kept.stop.is_cancelled()) {
            return kept.clone();
        }
        // One that left and came back begins anew, but for what it has spent.
        let new_budget = || Arc::new(Budget::per_minute(requests_per_minute).limited_to(limit, now));
        let budget = budget.unwrap_or_else(new_budget);
        // The leader before may have spent its own within this minute.
        while self.leadership.get().is_some() && budget.available(now) > 0 {
            budget.spend(now);
        }
        let kept = KeptPartner {
            stop: self.stop.child_token(),
            poke: Arc::default(),
            customer_sync_poke: Arc::default(),
            budget,
            flight: Arc::default(),
            recent_polls: Arc::default(),
            scan: Arc::default(),
            client: None,
        };
        partners.insert(name.to_owned(), kept.clone());
        kept
    }

    /// Keeps a partner's client for the next configuration.
    pub fn keep_client(&self, name: &str, made_from: Keys, client: &Arc<PartnerCenter>) {
        let mut partners = self.partners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = partners.get_mut(name) {
            kept.client = Some((made_from, client.clone()));
        }
    }

    pub fn endpoint(&self, name: &str) -> KeptEndpoint {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = endpoints.get(name).filter(|kept| !kept.stop.is_cancelled()) {
            return kept.clone();
        }
        let kept = KeptEndpoint { stop: self.stop.child_token(), poke: Arc::default(), in_flight: Arc::default() };
        endpoints.insert(name.to_owned(), kept.clone());
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SystemClock;

    #[test]
    fn a_partner_that_leaves_and_comes_back_has_spent_what_it_has_spent() {
        let (kept, now) = (Kept::new(&SystemClock, CancellationToken::new()), SystemClock.now());
        let first = kept.partner("emea", 300, None, now);
        assert!(Arc::ptr_eq(&first.flight, &kept.partner("emea", 600, None, now).flight));
        while first.budget.available(now) > 0 {
            first.budget.spend(now);
        }
        first.stop.cancel();
        let again = kept.partner("emea", 300, None, now);
        assert_eq!(again.budget.available(now), 0);
        assert!(!again.stop.is_cancelled() && !Arc::ptr_eq(&first.flight, &again.flight));
    }
}

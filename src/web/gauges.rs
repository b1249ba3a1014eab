//! How things stand, as gauges: read from the database when they are asked for.

use std::collections::BTreeMap;

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};

use crate::attention::Reason;
use crate::config::PublicConfig;
use crate::metrics::list::{self, Metric};
use crate::overview::{self, Health, Seen};
use crate::standby::host_state::HostState;
use crate::store::reports::EndpointState;
use crate::store::{self, ConfigurationState, Store};
use crate::time::Timestamp;

/// What is read for one scrape.
pub(super) struct Standing {
    pub(super) health: Health,
    /// Per partner, how many qualifications are in review, and since when the oldest is.
    reviews: Vec<(String, i64, Timestamp)>,
    configuration: Option<ConfigurationState>,
    has_backups: bool,
    configured: PublicConfig,
}

impl Standing {
    pub(super) async fn read(
        outline: &PublicConfig,
        store: &Store,
        seen: Seen,
        now: Timestamp,
    ) -> Result<Self, store::Error> {
        Ok(Self {
            health: overview::health(outline, store, seen, now, None).await?,
            reviews: store.review_counts().await?,
            configuration: store.configuration().await?,
            has_backups: outline.backup.is_some(),
            configured: outline.clone(),
        })
    }
}

/// All gauges. `None` if the database cannot be read: then only what is known without it.
pub(super) fn families(standing: Option<&Standing>, store: &Store) -> Vec<MetricFamily> {
    let mut gauges = Gauges::default();
    gauges.set(&list::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    gauges.set(&list::DATABASE_UP, &[], f64::from(u8::from(standing.is_some())));
    let [database, log] = Store::bytes(store.path());
    gauges.set(&list::DATABASE_BYTES, &[], float(database));
    gauges.set(&list::WAL_BYTES, &[], float(log));
    if let Some(standing) = standing {
        gauges.add(standing);
    }
    gauges.0.into_values().flat_map(|gauge| gauge.collect()).collect()
}

#[derive(Default)]
struct Gauges(BTreeMap<&'static str, GaugeVec>);

impl Gauges {
    fn set(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        let new = || GaugeVec::new(Opts::new(metric.name, metric.help), metric.labels).expect("a name in order");
        self.0.entry(metric.name).or_insert_with(new).with_label_values(labels).set(value);
    }

    fn at(&mut self, metric: &Metric, labels: &[&str], at: Option<Timestamp>) {
        if let Some(at) = at {
            self.set(metric, labels, seconds(at));
        }
    }

    /// 0 if it never was.
    fn last(&mut self, metric: &Metric, labels: &[&str], at: Option<Timestamp>) {
        self.set(metric, labels, at.map_or(0.0, seconds));
    }

    fn add(&mut self, standing: &Standing) {
        let Standing { health, reviews, configuration, has_backups, configured } = standing;
        for reason in Reason::ALL {
            let holds = health.reasons.iter().any(|need| need.reason == *reason);
            self.set(&list::ATTENTION, &[reason.as_str()], f64::from(u8::from(holds)));
        }
        for partner in health.partners.iter().filter(|partner| partner.requests_per_minute.is_some()) {
            let (state, name) = (&partner.state, partner.state.partner.as_str());
            for (status, customers) in [
                ("in_review", state.in_review),
                ("settled", state.settled),
                ("unqualified", state.unqualified),
                ("paused", state.paused),
            ] {
                self.set(&list::CUSTOMERS, &[name, status], number(customers));
            }
            self.last(&list::LAST_ANSWER, &[name], state.last_answer_at);
            self.at(&list::BACKOFF_UNTIL, &[name], state.backoff_until.filter(|until| *until > health.now));
            self.set(&list::DUE_CUSTOMERS, &[name], number(state.due));
            self.at(&list::OLDEST_DUE, &[name], state.due_since);
            for end in &state.credentials {
                self.at(&list::CREDENTIAL_EXPIRY, &[name, &end.of], Some(end.at));
            }
            let found = reviews.iter().find(|(partner, _, _)| partner == name);
            self.set(&list::REVIEWS, &[name], found.map_or(0.0, |(_, count, _)| number(*count)));
            self.at(&list::OLDEST_REVIEW, &[name], found.map(|(_, _, since)| *since));
        }
        for endpoint in &health.endpoints {
            // One that left the configuration is shown as long as messages wait for it.
            if configured.endpoints.contains(&endpoint.endpoint) || endpoint.pending + endpoint.dead > 0 {
                self.endpoint(endpoint);
            }
        }
        for name in &health.unused_endpoints {
            self.set(&list::PENDING, &[name], 0.0);
            self.set(&list::DEAD, &[name], 0.0);
            self.last(&list::LAST_ACCEPTED, &[name], None);
        }
        if *has_backups {
            self.last(&list::BACKUP, &[], health.backup.as_ref().and_then(|backup| backup.at));
        }
        if let Some(report) = &health.standby {
            self.standby(report);
        }
        if let Some(configuration) = configuration {
            self.set(&list::RELOAD_SUCCESSFUL, &[], f64::from(u8::from(configuration.refused_at.is_none())));
            self.at(&list::RELOADED, &[], Some(configuration.loaded_at));
        }
    }

    fn standby(&mut self, report: &HostState) {
        if let Some(leader) = &report.leader {
            self.set(&list::LEADER, &[&leader.host, &leader.epoch.to_string()], 1.0);
            self.at(&list::LEADER_SINCE, &[], Some(leader.since));
        }
        self.set(&list::STANDBY_HOSTS, &[], float(report.others.len() as u64));
        self.last(&list::REPLICA_SYNCED, &[], report.replica.synced_at);
        self.set(&list::UNREPLICATED, &[], float(report.replica.unreplicated_attempts));
    }

    fn endpoint(&mut self, state: &EndpointState) {
        let name = state.endpoint.as_str();
        self.set(&list::PENDING, &[name], number(state.pending));
        self.set(&list::DEAD, &[name], number(state.dead));
        self.at(&list::OLDEST_PENDING, &[name], state.oldest_pending_at);
        self.at(&list::ENDPOINT_CLOSED, &[name], state.closed_since.or(state.paused_at));
        self.last(&list::LAST_ACCEPTED, &[name], state.last_accepted_at);
    }
}

fn seconds(at: Timestamp) -> f64 {
    number(at.as_millis()) / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn number(n: i64) -> f64 {
    n as f64
}

fn float(bytes: u64) -> f64 {
    number(i64::try_from(bytes).unwrap_or(i64::MAX))
}

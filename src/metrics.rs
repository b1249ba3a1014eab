//! What the daemon counts for Prometheus: polls, attempts, transitions. It begins at zero with the process and outlives
//! configurations. How things stand is not counted but read from the database when it is asked for: `src/web/gauges.rs`.

pub mod list;

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};

use crate::event::EventType;
use crate::partner_center::Error;
use list::{Metric, POLL_OUTCOMES};
use vetwatch_core::retry::RetryDecision;

/// What becomes of an attempt.
const DELIVERIES: [&str; 4] = ["delivered", "retried", "rejected", "expired"];
/// The changes of a state.
const TRANSITIONS: [EventType; 6] = [
    EventType::Approved,
    EventType::Denied,
    EventType::Revoked,
    EventType::Vanished,
    EventType::Submitted,
    EventType::Changed,
];

/// Counters and histograms. Only those of the partners and endpoints in force are shown.
#[derive(Debug)]
pub struct Metrics {
    polls: IntCounterVec,
    poll_seconds: HistogramVec,
    transitions: IntCounterVec,
    deliveries: IntCounterVec,
    attempt_seconds: HistogramVec,
    verdict_seconds: HistogramVec,
    in_force: RwLock<Names>,
}

#[derive(Debug, Default)]
struct Names {
    partners: BTreeSet<String>,
    endpoints: BTreeSet<String>,
}

impl Default for Metrics {
    fn default() -> Self {
        let within_seconds = || vec![0.05, 0.25, 1.0, 5.0, 30.0];
        Self {
            polls: counter(&list::POLLS),
            poll_seconds: histogram(&list::POLL_SECONDS, within_seconds()),
            transitions: counter(&list::TRANSITIONS),
            deliveries: counter(&list::DELIVERIES),
            attempt_seconds: histogram(&list::ATTEMPT_SECONDS, within_seconds()),
            verdict_seconds: histogram(&list::VERDICT_SECONDS, vec![60.0, 300.0, 900.0, 3600.0]),
            in_force: RwLock::default(),
        }
    }
}

impl Metrics {
    /// Shows these partners and endpoints, and no others: new ones with every label at zero, or the first event would not
    /// be an increase.
    pub fn configure(&self, partners: Vec<String>, endpoints: Vec<String>) {
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        let new = Names { partners: partners.into_iter().collect(), endpoints: endpoints.into_iter().collect() };
        let transitions = TRANSITIONS.map(EventType::as_str);
        for (counter, values, old, new) in [
            (&self.polls, POLL_OUTCOMES.as_slice(), &in_force.partners, &new.partners),
            (&self.transitions, transitions.as_slice(), &in_force.partners, &new.partners),
            (&self.deliveries, DELIVERIES.as_slice(), &in_force.endpoints, &new.endpoints),
        ] {
            for &value in values {
                old.difference(new).for_each(|name| drop(counter.remove_label_values(&[name.as_str(), value])));
                for name in new {
                    counter.with_label_values(&[name.as_str(), value]);
                }
            }
        }
        for (histogram, old, new) in [
            (&self.poll_seconds, &in_force.partners, &new.partners),
            (&self.attempt_seconds, &in_force.endpoints, &new.endpoints),
            (&self.verdict_seconds, &in_force.endpoints, &new.endpoints),
        ] {
            old.difference(new).for_each(|name| drop(histogram.remove_label_values(&[name])));
            for name in new {
                histogram.with_label_values(&[name]);
            }
        }
        *in_force = new;
    }

    /// A poll has ended; `error` is why it failed.
    pub fn polled(&self, partner: &str, error: Option<&Error>, took: Duration) {
        self.of_partner(partner, || {
            self.polls.with_label_values(&[partner, error.map_or("answered", outcome)]).inc();
            self.poll_seconds.with_label_values(&[partner]).observe(took.as_secs_f64());
        });
    }

    /// A change of a state was recorded.
    pub fn changed(&self, partner: &str, kind: EventType) {
        self.of_partner(partner, || self.transitions.with_label_values(&[partner, kind.as_str()]).inc());
    }

    /// An attempt has ended, and its outcome is stored. `verdict_waited` is the time since the poll that saw the verdict, if
    /// one was delivered.
    pub fn attempted(&self, endpoint: &str, decision: RetryDecision, took: Duration, verdict_waited: Option<Duration>) {
        let outcome = match decision {
            RetryDecision::Delivered => "delivered",
            RetryDecision::At(_) => "retried",
            RetryDecision::Rejected => "rejected",
            RetryDecision::Expired => "expired",
        };
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        if in_force.endpoints.contains(endpoint) {
            self.deliveries.with_label_values(&[endpoint, outcome]).inc();
            self.attempt_seconds.with_label_values(&[endpoint]).observe(took.as_secs_f64());
            if let Some(waited) = verdict_waited {
                self.verdict_seconds.with_label_values(&[endpoint]).observe(waited.as_secs_f64());
            }
        }
    }

    /// The values now.
    #[must_use]
    pub fn gather(&self) -> Vec<MetricFamily> {
        let counters = [&self.polls, &self.transitions, &self.deliveries].map(Collector::collect);
        let histograms = [&self.poll_seconds, &self.attempt_seconds, &self.verdict_seconds].map(Collector::collect);
        counters.into_iter().chain(histograms).flatten().collect()
    }

    /// What ends after its partner has left the configuration does not bring its labels back.
    fn of_partner(&self, partner: &str, count: impl FnOnce()) {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        if in_force.partners.contains(partner) {
            count();
        }
    }
}

fn counter(metric: &Metric) -> IntCounterVec {
    IntCounterVec::new(Opts::new(metric.name, metric.help), metric.labels).expect("a name in order")
}

fn histogram(metric: &Metric, buckets: Vec<f64>) -> HistogramVec {
    let options = HistogramOpts::new(metric.name, metric.help).buckets(buckets);
    HistogramVec::new(options, metric.labels).expect("a name in order")
}

/// One of [`POLL_OUTCOMES`].
fn outcome(error: &Error) -> &'static str {
    match error {
        Error::Throttled { .. } => "throttled",
        Error::Credential(_) => "credential_refused",
        Error::NoToken(_) => "no_token",
        Error::Forbidden(_) => "forbidden",
        Error::NoRelationship(_) => "no_relationship",
        Error::Unreadable { .. } => "unreadable",
        Error::Server(_) => "server_error",
        Error::TimedOut { .. } => "timed_out",
        Error::Unreachable(_) | Error::NoDescriptor => "unreachable",
        Error::NotFound(_) | Error::Refused(_) => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn text(metrics: &Metrics) -> String {
        prometheus::TextEncoder::new().encode_to_string(&metrics.gather()).unwrap()
    }

    #[test]
    fn every_label_begins_at_zero_and_what_leaves_the_configuration_is_not_shown_again() {
        let metrics = Metrics::default();
        metrics.configure(names(&["emea", "apac"]), names(&["crm", "mail"]));
        for outcome in POLL_OUTCOMES {
            let line = format!("vetwatch_polls_total{{outcome=\"{outcome}\",partner=\"apac\"}} 0\n");
            assert!(text(&metrics).contains(&line), "{}", text(&metrics));
        }
        let second = Duration::from_secs(1);
        metrics.polled("emea", None, second);
        metrics.polled("emea", Some(&Error::Unreachable(String::new())), second);
        metrics.changed("emea", EventType::Denied);
        metrics.attempted("crm", RetryDecision::Delivered, second, Some(second));
        metrics.attempted("mail", RetryDecision::Delivered, second, None);
        metrics.configure(names(&["emea"]), names(&["crm"]));
        metrics.polled("apac", None, second);
        metrics.changed("apac", EventType::Denied);
        metrics.attempted("mail", RetryDecision::Expired, second, Some(second));
        let text = text(&metrics);
        for line in [
            "vetwatch_polls_total{outcome=\"answered\",partner=\"emea\"} 1",
            "vetwatch_polls_total{outcome=\"unreachable\",partner=\"emea\"} 1",
            "vetwatch_transitions_total{partner=\"emea\",type=\"vetting.denied\"} 1",
            "vetwatch_transitions_total{partner=\"emea\",type=\"vetting.approved\"} 0",
            "vetwatch_deliveries_total{endpoint=\"crm\",outcome=\"delivered\"} 1",
            "vetwatch_verdict_latency_seconds_bucket{endpoint=\"crm\",le=\"60\"} 1",
            "vetwatch_poll_duration_seconds_count{partner=\"emea\"} 2",
        ] {
            assert!(text.contains(&format!("{line}\n")), "no {line} in {text}");
        }
        assert!(!text.contains("apac") && !text.contains("mail"), "{text}");
    }
}

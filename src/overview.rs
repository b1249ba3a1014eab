//! How everything stands, for `status`, the page and the summary: what is in review, what was decided, and what needs a
//! person.

use std::time::Duration;

use serde::Serialize;
use vetwatch_core::forecast::Expected;

use crate::attention::{self, Facts, Need, Reason, look};
use crate::config::PublicConfig;
use crate::forecast::Forecasts;
use crate::instance_lock;
use crate::poller::{Every, Watched};
use crate::standby::host_state::{self, HostState};
use crate::store::backup::{BackupState, Restored};
use crate::store::reports::{
    CurrentRow, CustomerRow, DecisionRow, DeliveryFilter, DeliveryRow, EndpointState, PartnerState, PendingRow,
};
use crate::store::{self, Store};
use crate::text;
use crate::time::Timestamp;

/// How far back `decided` goes, and for how long a restoration is shown.
const DECIDED_SINCE: Duration = Duration::from_hours(7 * 24);

/// The output of `status --json`.
#[derive(Debug, Serialize)]
pub struct Overview {
    #[serde(flatten)]
    pub health: Health,
    pub in_review: Vec<InReview>,
    /// Verdicts that wait for confirmation.
    pub pending: Vec<PendingRow>,
    pub decided: Vec<DecisionRow>,
}

/// A qualification; if it is in review, with when it will probably be decided.
#[derive(Debug, Serialize)]
pub struct InReview {
    #[serde(flatten)]
    pub row: CurrentRow,
    #[serde(flatten)]
    pub expected: Option<Expected>,
}

/// What works, and what needs a person.
#[derive(Debug, Serialize)]
pub struct Health {
    pub now: Timestamp,
    /// Null if this user may not know.
    pub daemon_running: Option<bool>,
    /// Why the exit code is 3, a sentence each; empty if it is 0.
    pub attention: Vec<String>,
    /// The same as objects: `{"reason", "about", "since", "text"}`.
    pub reasons: Vec<Need>,
    pub unreadable: Vec<CustomerRow>,
    pub partners: Vec<Partner>,
    pub endpoints: Vec<EndpointState>,
    /// The endpoints of the configuration that were never used.
    pub unused_endpoints: Vec<String>,
    /// The newest hundred.
    pub dead_letters: Vec<DeliveryRow>,
    /// The last backup by `[backup]`. Null if there is none and none is configured.
    pub backup: Option<BackupState>,
    /// Null if it was not restored within 7 days.
    pub restored: Option<Restored>,
    /// Null without `[standby]`.
    pub standby: Option<HostState>,
}

#[derive(Debug, Serialize)]
pub struct Partner {
    #[serde(flatten)]
    pub state: PartnerState,
    /// The budget. Null if the configuration does not name this partner any more.
    pub requests_per_minute: Option<u32>,
    /// Polls a minute that the schedule needs, on average.
    pub scheduled_per_minute: f64,
}

/// What the database does not say.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// `None` if this user may not know.
    pub daemon_running: Option<bool>,
    /// Another program holds the database.
    pub database_held: bool,
}

impl Seen {
    /// As a command sees it.
    pub async fn by_command(store: &Store) -> Self {
        Self { daemon_running: instance_lock::daemon_runs(store.path()), database_held: store.is_held().await }
    }

    /// As the daemon itself does, by its own store.
    #[must_use]
    pub fn by_daemon(store: &Store) -> Self {
        Self { daemon_running: Some(true), database_held: store.is_held_by_another() }
    }
}

/// Reads everything, of one partner or of all.
///
/// # Errors
/// When the database cannot be read.
pub async fn overview(
    outline: &PublicConfig,
    store: &Store,
    seen: Seen,
    now: Timestamp,
    partner: Option<&str>,
) -> Result<Overview, store::Error> {
    let shown = |name: &str| partner.is_none_or(|wanted| wanted == name);
    let health = health(outline, store, seen, now, partner).await?;
    let mut in_review = store.in_review().await?;
    in_review.retain(|row| shown(&row.partner));
    let forecasts = Forecasts::read(store, &outline.calendar, now).await?;
    let in_review = in_review.into_iter().map(|row| InReview { expected: forecasts.of_row(&row), row }).collect();
    let mut pending = store.pending_verdicts(None).await?;
    pending.retain(|row| shown(&row.partner));
    let mut decided = store.decisions(now.before(DECIDED_SINCE)).await?;
    decided.retain(|row| shown(&row.partner));
    Ok(Overview { health, in_review, pending, decided })
}

/// Reads what works and what does not, of one partner or of all.
///
/// # Errors
/// When the database cannot be read.
pub async fn health(
    outline: &PublicConfig,
    store: &Store,
    seen: Seen,
    now: Timestamp,
    partner: Option<&str>,
) -> Result<Health, store::Error> {
    store.read_newest_rows().await?;
    let shown = |name: &str| partner.is_none_or(|wanted| wanted == name);
    let budget = |name: &str| outline.budgets.get(name).copied();
    let states = store.partner_states(now).await?.into_iter().filter(|state| shown(&state.partner));
    let partners: Vec<Partner> = states
        .map(|state| Partner {
            requests_per_minute: budget(&state.partner),
            scheduled_per_minute: scheduled_per_minute(outline, &state),
            state,
        })
        .collect();
    let mut unreadable = store.unreadable_customers().await?;
    // A partner that left the configuration is not polled.
    unreadable.retain(|row| shown(&row.partner) && budget(&row.partner).is_some());
    let mut unclear = store.unclear_reviews().await?;
    unclear.retain(|row| shown(&row.partner) && budget(&row.partner).is_some());
    let mut endpoints = store.endpoint_states(now).await?;
    // One that left the configuration matters as long as something waits for it, or was given up.
    endpoints.retain(|it| outline.endpoints.contains(&it.endpoint) || it.pending > 0 || it.dead > 0);
    let dead = DeliveryFilter { state: Some("dead"), limit: Some(100), unhandled: true, ..DeliveryFilter::default() };
    let dead_letters = store.deliveries(dead).await?;
    let mut lateness = look::late(store, &outline.scope(), now).await?;
    // What is about vetwatch as a whole, or about an endpoint, concerns every partner.
    lateness.late.retain(|late| late.reason == Reason::DeliveryLate || late.about.is_empty() || shown(&late.about));
    let facts = Facts {
        daemon_running: seen.daemon_running,
        database_held: seen.database_held,
        large_log: store.large_log(),
        configuration: store.configuration().await?,
        partners: partners.iter().map(|it| (it.state.clone(), it.requests_per_minute.is_some())).collect(),
        unclear,
        customers_failing: unreadable.len(),
        late: lateness.late,
        endpoints: endpoints.iter().map(|it| (it.clone(), outline.endpoints.contains(&it.endpoint))).collect(),
        lone_waits: store.lone_waits(None, now).await?,
        refused: store.refused_recipients().await?,
        heartbeat_failing: store.heartbeat_failing().await?,
        page_failing: store.page_failing().await?,
    };
    let backup = store.backup_state().await?;
    let backup = (outline.backup.is_some() || backup.at.is_some()).then_some(backup);
    let restored = store.restored().await?.filter(|restored| now.since(restored.at) < DECIDED_SINCE);
    let is_unused = |name: &&String| !endpoints.iter().any(|it| it.endpoint == **name);
    let unused_endpoints = outline.endpoints.iter().filter(is_unused).cloned().collect();
    let reasons = attention::needs(&facts, now);
    let attention = reasons.iter().map(|need| need.text.clone()).collect();
    Ok(Health {
        now,
        daemon_running: seen.daemon_running,
        attention,
        reasons,
        unreadable,
        partners,
        endpoints,
        unused_endpoints,
        dead_letters,
        backup,
        restored,
        standby: host_state::read(store.path()),
    })
}

fn scheduled_per_minute(outline: &PublicConfig, state: &PartnerState) -> f64 {
    let count = |customers: i64| u64::try_from(customers).unwrap_or(0);
    let watched = Watched {
        in_review: count(state.in_review),
        settled: count(state.settled),
        unqualified: count(state.unqualified),
        log_is_read: state.activity_log_counts,
    };
    watched.requests_per_minute(&Every {
        in_review: outline.in_review,
        settled: outline.settled,
        unqualified: outline.unqualified,
        activity_log: outline.activity_log,
    })
}

impl Health {
    /// `all is well: 2 partners, 54 customers, 7 endpoints; last answer 2s ago`, or `2 things need you`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let count = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        match self.reasons.len() as u64 {
            0 => {}
            1 => return "1 thing needs you".to_owned(),
            n => return format!("{n} things need you"),
        }
        let configured = || self.partners.iter().filter(|partner| partner.requests_per_minute.is_some());
        let customers = configured().map(|partner| partner.state.customers.unsigned_abs()).sum();
        let of = [
            count(configured().count() as u64, "partner"),
            count(customers, "customer"),
            count((self.endpoints.len() + self.unused_endpoints.len()) as u64, "endpoint"),
        ];
        let last = self.partners.iter().filter_map(|partner| partner.state.last_answer_at).max();
        let last =
            last.map_or("no answer yet".to_owned(), |at| format!("last answer {} ago", text::span(self.now.since(at))));
        format!("all is well: {}; {last}", of.join(", "))
    }
}

//! Builds the parts of a configuration, not yet running: a loop per partner and endpoint, and what wakes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::activity_log::{ActivityLog, ScanInProgress};
use crate::alerts::{Alerter, Outside};
use crate::calendar::Reminders;
use crate::clock_watch::ClockWatch;
use crate::config::{Config, EndpointKind, EndpointSettings};
use crate::customer_sync::CustomerSync;
use crate::delivery::chat::ChatChannel;
use crate::delivery::route::Routes;
use crate::delivery::{Channel, Dispatcher, Neighbour, Sender, email::EmailChannel, webhook::WebhookChannel};
use crate::descriptors;
use crate::partner_center::{Budget, Credential, Customers, Expiry, PartnerCenter, PartnerSettings};
use crate::poller::{Flight, Poller, RecentPolls, Shares};
use crate::store::Store;
use crate::time::Clock;

#[derive(Debug)]
pub struct Parts {
    pub partners: Vec<PartnerParts>,
    pub endpoints: Vec<EndpointParts>,
    pub alerts: Alerter,
}

#[derive(Debug)]
pub struct PartnerParts {
    pub poller: Poller,
    pub poke: Arc<Notify>,
    pub customer_sync: CustomerSync,
    pub customer_sync_poke: Arc<Notify>,
    pub activity_log: ActivityLog,
}

#[derive(Debug)]
pub struct EndpointParts {
    pub dispatcher: Dispatcher,
    pub poke: Arc<Notify>,
}

/// Builds the parts of a configuration. Once `stop` is cancelled they start nothing new.
pub async fn assemble(
    config: &Config,
    store: &Store,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Result<Parts, Error> {
    let routes = Arc::new(config.routes.clone());
    let clock_watch = Arc::new(ClockWatch::new(&**clock));
    let pokes: BTreeMap<String, Arc<Notify>> =
        config.endpoints.iter().map(|endpoint| (endpoint.name.clone(), Arc::new(Notify::new()))).collect();
    let mut endpoints = Vec::new();
    for endpoint in &config.endpoints {
        let sender = Sender {
            endpoint: endpoint.name.clone(),
            channel: channel(&endpoint.kind, clock),
            policy: config.retry.clone(),
            store: store.clone(),
            clock: clock.clone(),
            settings: endpoint.fingerprint(),
            neighbours: neighbours(config, endpoint, &pokes),
            stop: stop.clone(),
        };
        let dispatcher = Dispatcher::new(sender, routes.clone());
        endpoints.push(EndpointParts { dispatcher, poke: pokes[&endpoint.name].clone() });
    }
    let reminders = Arc::new(config.reminders.clone());
    let outbox: Vec<_> = endpoints.iter().map(|endpoint| endpoint.poke.clone()).collect();
    let mut partners = Vec::new();
    for settings in &config.partners {
        partners
            .push(partner(config, settings, store, (clock, &clock_watch), stop, (&routes, &reminders), &outbox).await?);
    }
    let operators = config.endpoints.iter().filter(|endpoint| config.routes.operators.contains(&endpoint.name));
    let outside = operators.map(|endpoint| (endpoint.name.clone(), channel(&endpoint.kind, clock))).collect();
    let alerts = Alerter {
        scope: config.scope(),
        late: Arc::new(AtomicBool::new(false)),
        outside: Outside::of(outside),
        partners: partners.iter().map(|partner| partner.poller.partner.clone()).collect(),
        endpoints: endpoints.iter().map(|endpoint| endpoint.dispatcher.endpoint().to_owned()).collect(),
        credentials: config.partners.iter().map(credentials).collect(),
        mail_servers: mail_servers(config),
        recipients: recipients(config),
        credentials_checked_at: AtomicI64::new(0),
        routes,
        reminders,
        in_review: config.schedule.in_review,
        store: store.clone(),
        clock: clock.clone(),
        clock_watch,
        outbox,
    };
    Ok(Parts { partners, endpoints, alerts })
}

#[must_use]
pub fn channel(kind: &EndpointKind, clock: &Arc<dyn Clock>) -> Channel {
    match kind {
        EndpointKind::Email(settings) => Channel::Email(EmailChannel::new(settings.clone()).with_clock(clock.clone())),
        EndpointKind::Webhook(settings) => Channel::Webhook(WebhookChannel::new(settings.clone())),
        EndpointKind::Chat(settings) => Channel::Chat(ChatChannel::new(settings.clone())),
    }
}

/// The other endpoints on the same mail server.
fn neighbours(config: &Config, endpoint: &EndpointSettings, pokes: &BTreeMap<String, Arc<Notify>>) -> Vec<Neighbour> {
    let server = |endpoint: &EndpointSettings| match &endpoint.kind {
        EndpointKind::Email(email) => Some((email.smtp.host.to_lowercase(), email.smtp.port)),
        EndpointKind::Webhook(_) | EndpointKind::Chat(_) => None,
    };
    let own = server(endpoint);
    let others =
        config.endpoints.iter().filter(|other| other.name != endpoint.name && own.is_some() && server(other) == own);
    let neighbour = |other: &EndpointSettings| {
        Some(Neighbour { endpoint: other.name.clone(), poke: pokes.get(&other.name)?.clone() })
    };
    others.filter_map(neighbour).collect()
}

fn credentials(settings: &PartnerSettings) -> Vec<Credential> {
    std::iter::once(&settings.credential).chain(&settings.user_credential).cloned().collect()
}

fn recipients(config: &Config) -> BTreeMap<String, BTreeSet<String>> {
    let endpoints = config.endpoints.iter().filter_map(|endpoint| match &endpoint.kind {
        EndpointKind::Email(settings) => {
            let addresses = settings.to.iter().map(|to| to.email.to_string().to_lowercase());
            Some((endpoint.name.clone(), addresses.collect()))
        }
        EndpointKind::Webhook(_) | EndpointKind::Chat(_) => None,
    });
    endpoints.collect()
}

/// Mail servers whose login has a known expiry, without duplicates.
fn mail_servers(config: &Config) -> Vec<(String, Expiry)> {
    let servers = config.endpoints.iter().filter_map(|endpoint| match &endpoint.kind {
        EndpointKind::Email(settings) => Some((settings.smtp.host.clone(), settings.smtp.login.as_ref()?.expiry()?)),
        EndpointKind::Webhook(_) | EndpointKind::Chat(_) => None,
    });
    let mut servers: Vec<_> = servers.collect();
    servers.sort_by(|(one, ends), (other, end)| (one, ends.at, ends.of).cmp(&(other, end.at, end.of)));
    servers.dedup();
    servers
}

async fn partner(
    config: &Config,
    settings: &PartnerSettings,
    store: &Store,
    (clock, clock_watch): (&Arc<dyn Clock>, &Arc<ClockWatch>),
    stop: &CancellationToken,
    (routes, reminders): (&Arc<Routes>, &Arc<Reminders>),
    outbox: &[Arc<Notify>],
) -> Result<PartnerParts, Error> {
    let mut tx = store.begin().await?;
    let row = tx.partner(&settings.name, clock.now()).await?;
    let limit = tx.reduced_rate_limit(row.id).await?;
    tx.commit().await?;
    let budget = Arc::new(Budget::per_minute(settings.requests_per_minute).limited_to(limit, clock.now()));
    let client = Arc::new(PartnerCenter::new(settings.clone(), budget.clone(), clock.clone())?);
    let schedule = &config.schedule;
    let synced = settings.customers == Customers::Synced;
    let customer_sync = CustomerSync {
        partner: row.id,
        name: settings.name.clone(),
        client: client.clone(),
        budget: budget.clone(),
        store: store.clone(),
        clock: clock.clone(),
        cron: schedule.customer_sync.clone(),
        zone: schedule.timezone,
        synced,
        in_review: schedule.in_review,
    };
    let activity_log = ActivityLog {
        partner: row.id,
        name: settings.name.clone(),
        client: client.clone(),
        budget: budget.clone(),
        store: store.clone(),
        clock: clock.clone(),
        every: schedule.activity_log,
        unqualified: schedule.unqualified,
        in_review: schedule.in_review,
        synced,
        reminders: reminders.clone(),
        in_progress: ScanInProgress::default(),
    };
    let poller = Poller {
        partner: row,
        client,
        budget,
        max_in_flight: descriptors::polls(settings.max_in_flight, config.partners.len(), config.endpoints.len()),
        synced,
        intervals: schedule.intervals(),
        log_is_read: AtomicBool::new(false),
        routes: routes.clone(),
        reminders: reminders.clone(),
        store: store.clone(),
        clock: clock.clone(),
        clock_watch: clock_watch.clone(),
        recent_polls: RecentPolls::default(),
        limit: AtomicU32::new(limit.unwrap_or(0)),
        shares: Mutex::new(Shares::default()),
        flight: tokio::sync::Mutex::new(Flight::default()),
        outbox: outbox.to_vec(),
        stop: stop.clone(),
    };
    Ok(PartnerParts {
        poller,
        poke: Arc::new(Notify::new()),
        customer_sync,
        customer_sync_poke: Arc::new(Notify::new()),
        activity_log,
    })
}

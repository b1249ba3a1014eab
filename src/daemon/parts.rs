//! Builds the parts of a configuration, not yet running: a loop per partner and endpoint, and what wakes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::kept::{Kept, KeptEndpoint, KeptPartner};
use crate::activity_log::ActivityLog;
use crate::alerts::Alerter;
use crate::calendar::Reminders;
use crate::config::{Config, EndpointKind, EndpointSettings};
use crate::customer_sync::CustomerSync;
use crate::delivery::chat::ChatChannel;
use crate::delivery::route::Routes;
use crate::delivery::{Channel, Dispatcher, Neighbour, Sender, email::EmailChannel, webhook::WebhookChannel};
use crate::descriptors;
use crate::partner_center::{Credential, Customers, Expiry, PartnerCenter, PartnerSettings};
use crate::poller::{Poller, Shares};
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
    /// Cancelled when the partner leaves the configuration.
    pub stop: CancellationToken,
}

#[derive(Debug)]
pub struct EndpointParts {
    pub dispatcher: Dispatcher,
    pub poke: Arc<Notify>,
    /// Cancelled when the endpoint leaves the configuration.
    pub stop: CancellationToken,
}

/// Builds the parts of a configuration on what is kept of the one before. Once its `stop` is cancelled they start nothing
/// new.
pub async fn assemble(config: &Config, store: &Store, clock: &Arc<dyn Clock>, kept: &Kept) -> Result<Parts, Error> {
    let routes = Arc::new(config.routes.clone());
    let mut endpoints = Vec::new();
    for endpoint in &config.endpoints {
        let KeptEndpoint { stop, poke, in_flight } = kept.endpoint(&endpoint.name);
        let sender = Sender {
            endpoint: endpoint.name.clone(),
            channel: channel(&endpoint.kind, clock),
            policy: config.retry.clone(),
            store: store.clone(),
            clock: clock.clone(),
            metrics: kept.metrics.clone(),
            settings: endpoint.fingerprint(),
            neighbours: neighbours(config, endpoint, kept),
            stop: kept.stop.clone(),
            leadership: kept.leadership.get().cloned(),
        };
        let dispatcher = Dispatcher::new(sender, routes.clone(), in_flight, stop.clone());
        endpoints.push(EndpointParts { dispatcher, poke, stop });
    }
    let reminders = Arc::new(config.reminders.clone());
    let outbox: Vec<_> = endpoints.iter().map(|endpoint| endpoint.poke.clone()).collect();
    let mut partners = Vec::new();
    for settings in &config.partners {
        partners.push(partner(config, settings, store, clock, kept, (&routes, &reminders), &outbox).await?);
    }
    let operators = config.endpoints.iter().filter(|endpoint| config.routes.operators.contains(&endpoint.name));
    let outside = operators.map(|endpoint| (endpoint.name.clone(), channel(&endpoint.kind, clock))).collect();
    let alerts = Alerter {
        scope: config.scope(),
        late: kept.late.clone(),
        outside: kept.outside.to(outside),
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
        clock_watch: kept.clock_watch.clone(),
        leadership: kept.leadership.get().cloned(),
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
fn neighbours(config: &Config, endpoint: &EndpointSettings, kept: &Kept) -> Vec<Neighbour> {
    let server = |endpoint: &EndpointSettings| match &endpoint.kind {
        EndpointKind::Email(email) => Some((email.smtp.host.to_lowercase(), email.smtp.port)),
        EndpointKind::Webhook(_) | EndpointKind::Chat(_) => None,
    };
    let own = server(endpoint);
    let others =
        config.endpoints.iter().filter(|other| other.name != endpoint.name && own.is_some() && server(other) == own);
    others.map(|other| Neighbour { endpoint: other.name.clone(), poke: kept.endpoint(&other.name).poke }).collect()
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
    clock: &Arc<dyn Clock>,
    kept: &Kept,
    (routes, reminders): (&Arc<Routes>, &Arc<Reminders>),
    outbox: &[Arc<Notify>],
) -> Result<PartnerParts, Error> {
    let mut tx = store.begin().await?;
    let row = tx.partner(&settings.name, clock.now()).await?;
    let limit = tx.reduced_rate_limit(row.id).await?;
    tx.commit().await?;
    let KeptPartner { stop, poke, customer_sync_poke, budget, flight, recent_polls, scan, client } =
        kept.partner(&settings.name, settings.requests_per_minute, limit, clock.now());
    let made_from = config.content.section(&format!("partner \"{}\"", settings.name));
    let client = match client {
        Some((before, client)) if Some(&before) == made_from => client,
        _ => Arc::new(PartnerCenter::new(settings.clone(), budget.clone(), clock.clone())?),
    };
    if let Some(made_from) = made_from {
        kept.keep_client(&settings.name, made_from.clone(), &client);
    }
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
        in_progress: scan,
    };
    let poller = Poller {
        partner: row,
        client,
        budget,
        max_in_flight: descriptors::polls(settings.max_in_flight, config),
        synced,
        intervals: schedule.intervals(),
        log_is_read: AtomicBool::new(false),
        routes: routes.clone(),
        reminders: reminders.clone(),
        store: store.clone(),
        clock: clock.clone(),
        clock_watch: kept.clock_watch.clone(),
        metrics: kept.metrics.clone(),
        recent_polls,
        limit: AtomicU32::new(limit.unwrap_or(0)),
        shares: Mutex::new(Shares::default()),
        flight,
        outbox: outbox.to_vec(),
        stop: stop.clone(),
    };
    Ok(PartnerParts { poller, poke, customer_sync, customer_sync_poke, activity_log, stop })
}

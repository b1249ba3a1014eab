//! The loops: one a partner and an endpoint, and those of the daemon as a whole. At the beginning of each round a loop takes
//! the parts of the configuration in force; a round in flight ends with what it began with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::kept::Kept;
use super::parts::{EndpointParts, PartnerParts, Parts};
use super::{Error, manager, upkeep};
use crate::activity_log::ScanOutcome;
use crate::alerts::Alerter;
use crate::config::Config;
use crate::in_force::InForce;
use crate::integrity;
use crate::log_control;
use crate::store::{self, Store};
use crate::time::{Clock, Timestamp};
use crate::web;
use crate::worker_loop::{self, Progress};

/// A loop without progress for this long hangs, and the watchdog is not fed.
const HUNG_AFTER: Duration = Duration::from_mins(3);
/// For the customer list and the activity log, which take long.
const LIST_HUNG_AFTER: Duration = Duration::from_hours(1);

/// The parts in force that a loop takes at the beginning of its round.
type InUse<T> = watch::Sender<Arc<T>>;

pub struct Loops {
    /// Each returns its name if it ended by itself.
    tasks: JoinSet<Option<String>>,
    kept: Arc<Kept>,
    store: Store,
    clock: Arc<dyn Clock>,
    progress: BTreeMap<String, Arc<Progress>>,
    partners: BTreeMap<String, InUse<PartnerParts>>,
    endpoints: BTreeMap<String, InUse<EndpointParts>>,
    alerts: InUse<Alerter>,
    in_force: watch::Sender<Arc<InForce>>,
}

/// The parts of a configuration that is ready to take over: nothing of it can fail any more.
pub struct Prepared {
    config: Arc<Config>,
    partners: Vec<PartnerParts>,
    endpoints: Vec<EndpointParts>,
    alerts: Arc<Alerter>,
}

impl Prepared {
    pub async fn new(config: Arc<Config>, parts: Parts, kept: &Kept) -> Result<Self, Error> {
        let Parts { partners, endpoints, alerts } = parts;
        let synced = partners.iter().filter(|parts| parts.customer_sync.synced);
        let cron = |parts: &PartnerParts| {
            let sync = &parts.customer_sync;
            (sync.cron.clone(), sync.zone, parts.customer_sync_poke.clone())
        };
        kept.crons.lock().await.replace(synced.map(cron).collect()).await?;
        Ok(Self { config, partners, endpoints, alerts: Arc::new(alerts) })
    }
}

impl Loops {
    /// Starts every loop. They end once the `stop` of `kept` is cancelled.
    #[must_use]
    pub fn start(prepared: Prepared, store: &Store, clock: &Arc<dyn Clock>, kept: Arc<Kept>) -> Self {
        let in_force =
            InForce { config: prepared.config.clone(), progress: Vec::new(), pokes: Vec::new(), refused: None };
        let mut loops = Self {
            tasks: JoinSet::new(),
            kept,
            store: store.clone(),
            clock: clock.clone(),
            progress: BTreeMap::new(),
            partners: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            alerts: watch::Sender::new(prepared.alerts.clone()),
            in_force: watch::Sender::new(Arc::new(in_force)),
        };
        let (alerts, stop) = (loops.alerts.subscribe(), loops.kept.stop.clone());
        let round = move || {
            let alerts = alerts.borrow().clone();
            async move { alerts.round().await }
        };
        loops.add("the operators' alerts".to_owned(), HUNG_AFTER, Arc::default(), &stop, round, async {});
        loops.put_in_force(prepared);
        let in_force = || loops.in_force.subscribe();
        let (store, late) = (|| store.clone(), loops.kept.late.clone());
        let sign_ins = upkeep::renew_sign_ins(in_force(), clock.clone(), stop.clone());
        let writers = upkeep::poke_on_foreign_writes(store(), in_force(), stop.clone());
        let heartbeat = upkeep::send_heartbeats(in_force(), late, store(), stop.clone());
        let watchdog = manager::watchdog(in_force(), store(), stop.clone());
        let status = manager::report_status(store(), in_force(), stop.clone());
        let backups = upkeep::make_backups(in_force(), store(), clock.clone(), stop.clone());
        let summaries = upkeep::send_summaries(in_force(), store(), clock.clone(), stop.clone());
        let check = integrity::check_after_start(store(), in_force().borrow().progress.clone(), stop.clone());
        let page = web::run(in_force(), store(), loops.kept.metrics.clone(), clock.clone(), stop.clone());
        let housekeeping = upkeep::maintain(store(), clock.clone(), in_force(), stop.clone());
        loops.spawn("the renewal of sign-ins".to_owned(), &stop, sign_ins);
        loops.spawn("the look at other writers".to_owned(), &stop, writers);
        loops.spawn("the heartbeat".to_owned(), &stop, heartbeat);
        loops.spawn("the watchdog".to_owned(), &stop, watchdog);
        loops.spawn("the status".to_owned(), &stop, status);
        loops.spawn("the backups".to_owned(), &stop, backups);
        loops.spawn("the summaries".to_owned(), &stop, summaries);
        loops.spawn("the check of the database".to_owned(), &stop, check);
        loops.spawn("the page".to_owned(), &stop, page);
        loops.spawn("housekeeping".to_owned(), &stop, housekeeping);
        let kept = loops.kept.clone();
        loops.spawn("the scheduler".to_owned(), &stop.clone(), async move {
            stop.cancelled().await;
            kept.crons.lock().await.end().await;
        });
        loops
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.in_force.borrow().config.clone()
    }

    /// Has another configuration take over. Loops of partners and endpoints that stay go on with it at their next round.
    pub fn take_over(&mut self, prepared: Prepared) {
        self.alerts.send_replace(prepared.alerts.clone());
        self.put_in_force(prepared);
    }

    /// Notes that the configuration file was refused; `None` once it is not.
    pub fn note_refused(&self, refused: Option<String>) {
        self.in_force.send_modify(|in_force| {
            let InForce { config, progress, pokes, .. } = &**in_force;
            let (config, progress, pokes) = (config.clone(), progress.clone(), pokes.clone());
            *in_force = Arc::new(InForce { config, progress, pokes, refused });
        });
    }

    /// Waits for a loop that ends by itself, and returns its name; `None` once all have ended in order.
    pub async fn broken(&mut self) -> Option<String> {
        loop {
            match self.tasks.join_next().await? {
                Ok(None) => {}
                Ok(Some(name)) => return Some(name),
                Err(panic) => return Some(format!("a loop ({panic})")),
            }
        }
    }

    /// Interrupts what has not ended. A loop that cannot be interrupted ends with the process.
    pub async fn abort(&mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.tasks.shutdown()).await;
    }

    fn put_in_force(&mut self, prepared: Prepared) {
        let Prepared { config, partners, endpoints, .. } = prepared;
        let now = self.clock.now();
        log_control::follow(config.log);
        self.end_removed(&config);
        self.kept.metrics.configure(config.partner_names(), config.endpoint_names());
        let mut pokes = Vec::new();
        for settings in &config.partners {
            if let Some(parts) = partners.iter().find(|parts| parts.poller.partner.name == settings.name) {
                parts.poller.budget.configure(settings.requests_per_minute, now);
            }
        }
        for parts in endpoints {
            pokes.push(parts.poke.clone());
            self.endpoint(parts);
        }
        for parts in partners {
            pokes.push(parts.poke.clone());
            self.partner(parts);
        }
        for poke in &pokes {
            poke.notify_one();
        }
        let progress = self.progress.values().cloned().collect();
        let refused = self.in_force.borrow().refused.clone();
        self.in_force.send_replace(Arc::new(InForce { config, progress, pokes, refused }));
    }

    /// Ends the loops of partners and endpoints that are not in the configuration.
    fn end_removed(&mut self, config: &Config) {
        let progress = &mut self.progress;
        self.partners.retain(|name, in_use| {
            let stays = config.partners.iter().any(|partner| partner.name == *name);
            if !stays {
                in_use.borrow().stop.cancel();
                progress.retain(|of, _| !partner_loops(name).contains(of));
            }
            stays
        });
        self.endpoints.retain(|name, in_use| {
            let stays = config.endpoints.iter().any(|endpoint| endpoint.name == *name);
            if !stays {
                in_use.borrow().stop.cancel();
                progress.remove(&endpoint_loop(name));
            }
            stays
        });
    }

    fn endpoint(&mut self, parts: EndpointParts) {
        let name = parts.dispatcher.endpoint().to_owned();
        if let Some(in_use) = self.endpoints.get(&name) {
            in_use.send_replace(Arc::new(parts));
            return;
        }
        let (poke, stop) = (parts.poke.clone(), parts.stop.clone());
        let in_use = watch::Sender::new(Arc::new(parts));
        let (rounds, last) = (in_use.subscribe(), in_use.subscribe());
        let round = move || {
            let parts = rounds.borrow().clone();
            async move { parts.dispatcher.round().await.map(|round| round.next) }
        };
        self.add(endpoint_loop(&name), HUNG_AFTER, poke, &stop, round, async move {
            let parts = last.borrow().clone();
            parts.dispatcher.end().await;
        });
        self.endpoints.insert(name, in_use);
    }

    fn partner(&mut self, parts: PartnerParts) {
        let name = parts.poller.partner.name.clone();
        if let Some(in_use) = self.partners.get(&name) {
            in_use.send_replace(Arc::new(parts));
            return;
        }
        let (poke, sync_poke, stop) = (parts.poke.clone(), parts.customer_sync_poke.clone(), parts.stop.clone());
        let in_use = watch::Sender::new(Arc::new(parts));
        let [of_poller, of_log, of_list] = partner_loops(&name);
        let (turns, last) = (in_use.subscribe(), in_use.subscribe());
        let turn = move || {
            let parts = turns.borrow().clone();
            async move { parts.poller.turn(&parts.poke).await.map(|round| round.next) }
        };
        self.add(of_poller, HUNG_AFTER, poke, &stop, turn, async move {
            let parts = last.borrow().clone();
            parts.poller.end().await;
        });
        let scans = in_use.subscribe();
        let scan = move || {
            let parts = scans.borrow().clone();
            async move {
                let scan = parts.stop.run_until_cancelled(parts.activity_log.round()).await;
                let outcome = scan.unwrap_or(Ok(ScanOutcome::default()))?;
                if outcome.has_found() {
                    parts.poke.notify_one();
                }
                Ok(outcome.next)
            }
        };
        self.add(of_log, LIST_HUNG_AFTER, Arc::default(), &stop, scan, async {});
        let progress = Progress::new(of_list.clone(), LIST_HUNG_AFTER);
        let (syncs, pages) = (in_use.subscribe(), progress.clone());
        let sync = move || {
            let (parts, pages) = (syncs.borrow().clone(), pages.clone());
            async move {
                if !parts.customer_sync.synced {
                    return Ok(None);
                }
                // A list takes minutes; stopping does not wait for it.
                let round = parts.customer_sync.round_with(|_| pages.beat());
                let next = parts.stop.run_until_cancelled(round).await.unwrap_or(Ok(None));
                parts.poke.notify_one();
                next
            }
        };
        self.run(progress, sync_poke, &stop, sync, async {});
        self.partners.insert(name, in_use);
    }

    fn add<F>(
        &mut self,
        name: String,
        patience: Duration,
        poke: Arc<Notify>,
        stop: &CancellationToken,
        round: impl FnMut() -> F + Send + 'static,
        end: impl Future<Output = ()> + Send + 'static,
    ) where
        F: Future<Output = Result<Option<Timestamp>, store::Error>> + Send,
    {
        self.run(Progress::new(name, patience), poke, stop, round, end);
    }

    /// Runs a loop, and `end` after its last round.
    fn run<F>(
        &mut self,
        progress: Arc<Progress>,
        poke: Arc<Notify>,
        stop: &CancellationToken,
        mut round: impl FnMut() -> F + Send + 'static,
        end: impl Future<Output = ()> + Send + 'static,
    ) where
        F: Future<Output = Result<Option<Timestamp>, store::Error>> + Send,
    {
        let (clock, store, name) = (self.clock.clone(), self.store.clone(), progress.name.clone());
        self.progress.insert(name.clone(), progress.clone());
        let round = move || {
            let (running, store) = (round(), store.clone());
            async move { running.await.inspect_err(|error| store.note_damage(error)) }
        };
        let until = stop.clone();
        self.spawn(name, stop, async move {
            worker_loop::run(progress, poke, clock, until, round).await;
            end.await;
        });
    }

    fn spawn(&mut self, name: String, stop: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
        let stop = stop.clone();
        self.tasks.spawn(async move {
            task.await;
            (!stop.is_cancelled()).then_some(name)
        });
    }
}

fn endpoint_loop(name: &str) -> String {
    format!("endpoint {name}")
}

fn partner_loops(name: &str) -> [String; 3] {
    [format!("partner {name}"), format!("activity log of {name}"), format!("customer list of {name}")]
}

impl std::fmt::Debug for Loops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loops").field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("config", &self.config).finish_non_exhaustive()
    }
}

//! A second host that takes over when the first one dies: `[standby]`.
//!
//! Nothing here is a protocol of vetwatch's own. An [`elector`] says who leads; a [`litestream`] carries the data. What is
//! left are four rules, which together keep a verdict from being told under two ids:
//!
//! 1. **Only the leader works.** A host that does not lead has no database open, polls nobody and sends nothing.
//! 2. **Each epoch has a replica of its own.** A leader that was deposed writes to a path that nobody reads.
//! 3. **A first attempt waits for the replica.** So the next leader repeats it under the id that it had.
//! 4. **The lease is looked at right before a message is sent**, by a clock that counts suspends.
//!
//! A leader that loses its lease ends its process: nothing that it remembers can do harm after that.

pub mod data;
pub mod elector;
pub mod host_state;
pub mod lease;
pub mod litestream;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::elector::{Data, Elector, ElectorSettings, Leader, Session, View};
use self::host_state::{HostState, Role};
use self::lease::{Lease, boot_time};
use self::litestream::{LitestreamSettings, Replica};
use crate::time::{Clock, Timestamp};

/// How often a host that stands by looks whether somebody leads, and a failed renewal is repeated.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the leader looks at its lease, beside each message.
const WATCH_EVERY: Duration = Duration::from_millis(100);
/// How often the leader looks whether its replica has everything.
const TEND_EVERY: Duration = Duration::from_secs(2);
/// A host that could not take over lets others try.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// The session is renewed this many times while it lasts; the last third of the lease is the margin.
const RENEWALS: u32 = 3;

/// `[standby]`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This host, as the others and the operators know it.
    pub host: String,
    pub elector: ElectorSettings,
    pub litestream: LitestreamSettings,
    /// How long a leader that is silent goes on being the leader.
    pub lease: Duration,
}

impl std::fmt::Display for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, elector, litestream, lease } = self;
        let lease = humantime::format_duration(*lease);
        write!(f, "this host is {host}; a lease of {lease} by {elector}; replicas in {}", litestream.place())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Elector(#[from] elector::Error),
    #[error(transparent)]
    Data(#[from] data::Error),
    #[error("the replica of epoch {0} cannot be begun: {1}")]
    Replica(u64, String),
    #[error("the lease ended meanwhile")]
    Deposed,
}

/// This host leads, until [`Leadership::lost`].
pub struct Leadership {
    term: Arc<Term>,
    replica: Replica,
    database: PathBuf,
    clock: Arc<dyn Clock>,
    unreplicated: AtomicU64,
    report: Mutex<HostState>,
    /// Ended with it.
    tasks: Mutex<Vec<AbortHandle>>,
}

/// The time for which a host is elected.
#[derive(Debug)]
struct Term {
    elector: Elector,
    session: Session,
    ttl: Duration,
    lease: Lease,
    leader: Leader,
    /// Cancelled once this host does not lead any more.
    deposed: CancellationToken,
    /// What the elector said last.
    view: Mutex<View>,
}

impl std::fmt::Debug for Leadership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leadership").field("term", &self.term).finish_non_exhaustive()
    }
}

/// Stands by until this host leads and the newest data is in the place of the database. `tell` gets a sentence for the
/// service manager at least every few seconds.
///
/// # Errors
/// If the settings are of no use, or another vetwatch runs on the database. Everything else is tried again.
pub async fn lead(
    settings: &Settings,
    database: &Path,
    clock: &Arc<dyn Clock>,
    tell: impl Fn(&str) + Sync,
) -> Result<Arc<Leadership>, Error> {
    let mut candidate = Candidate {
        settings,
        database,
        clock,
        elector: Elector::new(&settings.elector)?,
        session: None,
        report: HostState::begin(database, &settings.host, settings.litestream.place(), clock.now()),
        written: None,
    };
    loop {
        let found = candidate.look().await;
        candidate.report.role = Role::Standby;
        match found {
            Ok(view) => {
                candidate.note(&view);
                let newest = view.data.clone();
                // Nobody may read what is not true any more.
                if data::is_stale(candidate.report.data_epoch, newest.as_ref()) {
                    candidate.forget_data()?;
                }
                if view.leader.is_none()
                    && let Some(term) = candidate.stand(view).await
                {
                    tell("takes over");
                    match candidate.take_over(&term, newest.as_ref()).await {
                        Ok(leadership) => return Ok(leadership),
                        Err(error @ Error::Data(data::Error::Locked(_))) => return Err(error),
                        Err(error) => {
                            let why = crate::text::error_chain(&error);
                            error!("this host was elected and cannot take over: {why}");
                            candidate.report.fail(format!("it was elected and cannot take over: {why}"), clock.now());
                            candidate.abandon(&term).await;
                            candidate.write();
                            tell(&candidate.sentence());
                            sleep(AFTER_FAILURE).await;
                        }
                    }
                }
            }
            Err(error) => {
                if candidate.report.error.is_none() {
                    warn!("who leads is not to be learned, so this host stands by: {error}");
                }
                candidate.report.leader = None;
                candidate.report.fail(error.to_string(), clock.now());
            }
        }
        candidate.write();
        tell(&candidate.sentence());
        sleep(LOOK_EVERY).await;
    }
}

/// A host that stands by.
struct Candidate<'a> {
    settings: &'a Settings,
    database: &'a Path,
    clock: &'a Arc<dyn Clock>,
    elector: Elector,
    /// With when it was last renewed.
    session: Option<(Session, Instant)>,
    report: HostState,
    written: Option<(HostState, Instant)>,
}

impl Candidate<'_> {
    /// Keeps the session, and asks who leads.
    async fn look(&mut self) -> Result<View, elector::Error> {
        let renewed = match self.session.take() {
            Some((session, at)) if at.elapsed() < self.settings.lease / RENEWALS => Some((session, at)),
            Some((session, _)) => self.elector.renew(&session).await?.map(|_| (session, Instant::now())),
            None => None,
        };
        self.session = match renewed {
            Some(renewed) => Some(renewed),
            None => Some((self.elector.join(&self.settings.host, self.settings.lease).await?, Instant::now())),
        };
        self.elector.look().await
    }

    fn note(&mut self, view: &View) {
        let known = self.report.leader.as_ref().map(|leader| leader.epoch);
        if let Some(leader) = view.leader.as_ref().filter(|leader| known != Some(leader.epoch)) {
            info!("stands by: {} leads, since {} (epoch {})", leader.host, leader.since, leader.epoch);
        }
        // A failed takeover stays until another host leads.
        if view.leader.is_some() || self.report.leader.is_none() && !self.could_not_take_over() {
            self.report.succeed();
        }
        self.report.leader.clone_from(&view.leader);
        self.report.others = others(view, &self.settings.host);
    }

    fn could_not_take_over(&self) -> bool {
        self.report.error.as_ref().is_some_and(|error| error.starts_with("it was elected"))
    }

    fn forget_data(&mut self) -> Result<(), Error> {
        data::set_aside(self.database, self.report.data_epoch)?;
        self.report.data_epoch = None;
        Ok(())
    }

    /// Tries to be elected. From then on the lease is renewed.
    async fn stand(&mut self, view: View) -> Option<Arc<Term>> {
        let lease = Lease::new(boot_time, self.settings.lease / RENEWALS);
        let (asked, now) = (lease.now(), self.clock.now());
        // A session of which little is left would be a lease of which little is left.
        let session = match self.elector.join(&self.settings.host, self.settings.lease).await {
            Ok(session) => session,
            Err(error) => {
                warn!("cannot be elected: {error}");
                return None;
            }
        };
        let epoch = match self.elector.stand(&session, &self.settings.host, now).await {
            Ok(Some(epoch)) => epoch,
            Ok(None) => {
                self.leave(&session).await;
                return None;
            }
            Err(error) => {
                // It may have been granted all the same; then it ends by itself.
                warn!("cannot be elected: {error}");
                self.leave(&session).await;
                return None;
            }
        };
        lease.extend(asked, self.settings.lease);
        let leader = Leader { host: self.settings.host.clone(), epoch, since: now };
        info!("elected: {} leads (epoch {epoch})", leader.host);
        let elector = Elector::new(&self.settings.elector).ok()?;
        let (ttl, deposed, view) = (self.settings.lease, CancellationToken::new(), Mutex::new(view));
        let term = Arc::new(Term { elector, session, ttl, lease, leader, deposed, view });
        self.report.leader = Some(term.leader.clone());
        Some(term)
    }

    /// Restores what the leader before has left, and begins a replica of this epoch. If that can be begun, nothing is sent
    /// before the elector knows of it.
    async fn take_over(&mut self, term: &Arc<Term>, newest: Option<&Data>) -> Result<Arc<Leadership>, Error> {
        let renewing = [tokio::spawn(term.clone().renew()), tokio::spawn(term.clone().watch())];
        let tasks = renewing.iter().map(tokio::task::JoinHandle::abort_handle).collect();
        self.report.role = Role::TakingOver;
        self.write();
        let epoch = term.leader.epoch;
        let prepared = async {
            let now = self.clock.now();
            let (litestream, own) = (&self.settings.litestream, self.report.data_epoch);
            if data::prepare(litestream, self.database, own, newest, now).await? {
                info!("the data of epoch {} was restored", newest.map_or(0, |newest| newest.epoch));
            }
            self.report.data_epoch = newest.map(|newest| newest.epoch);
            let replica = Replica::start(litestream, self.database, epoch, now).await;
            let replica = replica.map_err(|why| Error::Replica(epoch, why))?;
            match replica.state().failing {
                None => {
                    // Without an answer it is not known which data is the newest, so this host must not go on with its own.
                    if !term.elector.publish(&self.data(epoch)).await? {
                        return Err(Error::Deposed);
                    }
                    self.report.data_epoch = Some(epoch);
                }
                // The next leader would begin with nothing.
                Some((_, why)) if newest.is_none() => return Err(Error::Replica(epoch, why)),
                // No verdict is late for a copy: the next leader goes on from the replica before, until this one is complete.
                Some((_, why)) => warn!("leads without a replica of its own so far: {why}"),
            }
            Ok(replica)
        };
        let prepared = tokio::select! {
            prepared = prepared => prepared,
            () = term.deposed.cancelled() => Err(Error::Deposed),
        };
        let replica = match prepared {
            Ok(replica) => replica,
            Err(error) => {
                renewing.iter().for_each(tokio::task::JoinHandle::abort);
                return Err(error);
            }
        };
        self.report.role = Role::Leader;
        self.report.succeed();
        self.write();
        let leadership = Arc::new(Leadership {
            term: term.clone(),
            replica,
            database: self.database.to_owned(),
            clock: self.clock.clone(),
            unreplicated: AtomicU64::new(0),
            report: Mutex::new(self.report.clone()),
            tasks: Mutex::new(tasks),
        });
        let tending = tokio::spawn(leadership.clone().tend()).abort_handle();
        leadership.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(tending);
        Ok(leadership)
    }

    fn data(&self, epoch: u64) -> Data {
        Data { epoch, host: self.settings.host.clone() }
    }

    async fn abandon(&mut self, term: &Term) {
        term.lease.end();
        self.leave(&term.session).await;
        self.report.leader = None;
    }

    /// Ends a session that is of no use. The name among the hosts goes with it, and comes with the next.
    async fn leave(&mut self, session: &Session) {
        let _ = self.elector.leave(session).await;
        self.session = None;
    }

    fn write(&mut self) {
        self.report.at = self.clock.now();
        let same = |last: &HostState| HostState { at: self.report.at, ..last.clone() } == self.report;
        if self.written.as_ref().is_some_and(|(last, at)| at.elapsed() < host_state::EVERY && same(last)) {
            return;
        }
        match self.report.write(self.database) {
            Ok(()) => self.written = Some((self.report.clone(), Instant::now())),
            Err(error) => warn!("`vetwatch status` cannot say what this host does: {error}"),
        }
    }

    /// For `systemctl status`.
    fn sentence(&self) -> String {
        match (&self.report.leader, &self.report.error) {
            (Some(leader), _) => format!("stands by: {} leads (epoch {})", leader.host, leader.epoch),
            (None, Some(error)) => format!("stands by, and nobody may lead: {error}"),
            (None, None) => "stands by: nobody leads yet".to_owned(),
        }
    }
}

fn others(view: &View, host: &str) -> Vec<String> {
    view.hosts.iter().filter(|other| *other != host).cloned().collect()
}

impl Term {
    /// Renews the lease until it is lost.
    async fn renew(self: Arc<Self>) {
        let mut pause = self.ttl / RENEWALS;
        loop {
            if self.deposed.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            let asked = self.lease.now();
            match self.renew_once().await {
                Ok(Some((ttl, view))) => {
                    self.lease.extend(asked, ttl);
                    *self.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
                    pause = self.ttl / RENEWALS;
                }
                Ok(None) => {
                    self.lease.end();
                    return self.depose("the elector has given it to somebody else, or ended it");
                }
                Err(error) => {
                    warn!("the lease cannot be renewed: {error}");
                    pause = LOOK_EVERY;
                }
            }
        }
    }

    /// `None` if this host leads no more.
    async fn renew_once(&self) -> Result<Option<(Duration, View)>, elector::Error> {
        let Some(ttl) = self.elector.renew(&self.session).await? else { return Ok(None) };
        let view = self.elector.look().await?;
        let is_leader = view.leader.as_ref().is_some_and(|leader| leader.epoch == self.leader.epoch);
        Ok(is_leader.then_some((ttl, view)))
    }

    /// Looks at the lease until it has ended, by whatever: no answer from the elector, a suspend, a process that was stopped.
    async fn watch(self: Arc<Self>) {
        while self.lease.is_held() {
            sleep(WATCH_EVERY).await;
        }
        self.depose("it was not renewed in time");
    }

    fn depose(&self, why: &str) {
        if !self.deposed.is_cancelled() {
            error!("{} does not lead any more (epoch {}): {why}", self.leader.host, self.leader.epoch);
            self.deposed.cancel();
        }
    }
}

impl Leadership {
    #[must_use]
    pub fn leader(&self) -> &Leader {
        &self.term.leader
    }

    /// Returns once this host does not lead any more.
    pub async fn lost(&self) {
        self.term.deposed.cancelled().await;
    }

    /// Whether a message may be sent now. A first attempt waits until the replica holds the message and its id, so that the
    /// next leader repeats it under that id. While the replica fails it does not wait: no verdict is late for a copy.
    ///
    /// Call it right before the message is sent.
    pub async fn may_send(&self, attempt: u32) -> bool {
        if attempt == 1 && (self.replica.state().failing.is_some() || !self.replica.sync(self.clock.now()).await) {
            self.unreplicated.fetch_add(1, Ordering::Relaxed);
        }
        self.is_held()
    }

    /// Whether this host leads still.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let held = self.term.lease.is_held() && !self.term.deposed.is_cancelled();
        if !held {
            self.term.depose("a message was due after its end");
        }
        held
    }

    /// What `status`, the page and the metrics show.
    #[must_use]
    pub fn report(&self) -> HostState {
        let state = self.replica.state();
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        report.at = self.clock.now();
        report.replica.synced_at = state.synced_at;
        report.replica.failing_since = state.failing.as_ref().map(|(since, _)| *since);
        report.replica.error = state.failing.map(|(_, why)| why);
        report.replica.unreplicated_attempts = self.unreplicated.load(Ordering::Relaxed);
        report
    }

    /// Keeps Litestream running and the report up, until it is ended.
    async fn tend(self: Arc<Self>) {
        let mut written: Option<(HostState, Instant)> = None;
        loop {
            if let Err(why) = self.replica.keep_running().await {
                warn!("{why}");
            }
            if self.replica.sync(self.clock.now()).await {
                self.publish().await;
            }
            self.note_others(self.clock.now());
            let report = self.report();
            let essence = |report: &HostState| {
                let mut essence = report.clone();
                (essence.at, essence.replica.synced_at) = (Timestamp::from_millis(0), None);
                essence
            };
            let is_due = |(last, at): &(HostState, Instant)| {
                at.elapsed() >= host_state::EVERY || essence(last) != essence(&report)
            };
            if written.as_ref().is_none_or(is_due) {
                match report.write(&self.database) {
                    Ok(()) => written = Some((report, Instant::now())),
                    Err(error) => warn!("`vetwatch status` cannot say what this host does: {error}"),
                }
            }
            sleep(TEND_EVERY).await;
        }
    }

    /// Names a replica that could not be completed at the takeover, now that it is.
    async fn publish(&self) {
        let Leader { host, epoch, .. } = self.leader().clone();
        if self.report.lock().unwrap_or_else(PoisonError::into_inner).data_epoch == Some(epoch) {
            return;
        }
        match self.term.elector.publish(&Data { epoch, host }).await {
            Ok(true) => {
                info!("the replica of epoch {epoch} is complete");
                self.report.lock().unwrap_or_else(PoisonError::into_inner).data_epoch = Some(epoch);
            }
            Ok(false) => self.term.depose("another host was elected"),
            Err(error) => warn!("the next leader would not find the replica of epoch {epoch}: {error}"),
        }
    }

    fn note_others(&self, now: Timestamp) {
        let view = self.term.view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.others = others(&view, &self.term.leader.host);
        report.alone_since = if report.others.is_empty() { report.alone_since.or(Some(now)) } else { None };
    }

    /// Gives the lead away, once nothing is sent any more: the replica gets the rest, and another host need not wait for the
    /// lease to end.
    pub async fn leave(&self) {
        if self.is_held() && !self.replica.sync(self.clock.now()).await {
            warn!(
                "the replica lacks the newest changes; this host has them, and goes on with them if no other leads before"
            );
        }
        self.end().await;
        if let Err(error) = self.term.elector.leave(&self.term.session).await {
            warn!("the lease could not be given back, and ends by itself: {error}");
        }
    }

    /// Ends the replica, after the lead was lost.
    pub async fn end(&self) {
        self.term.lease.end();
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        self.replica.end().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SystemClock;

    /// Of a lease that ends at this time since the start of the machine, with no Litestream.
    fn leadership(database: &Path, now: lease::BootTime) -> Leadership {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let litestream = LitestreamSettings {
            program: "/no/such/program".into(),
            url: "file:///no/such/directory".parse().unwrap(),
            key_file: None,
        };
        let urls = vec!["http://127.0.0.1:9/".parse().unwrap()];
        let name = "vetwatch".to_owned();
        let etcd = elector::EtcdSettings { urls, login: None, ca_file: None, client_certificate: None, name };
        let lease = Lease::new(now, Duration::from_secs(5));
        lease.extend(Duration::from_secs(100), Duration::from_secs(15));
        let term = Term {
            elector: Elector::new(&ElectorSettings::Etcd(etcd)).unwrap(),
            session: Session("1".to_owned()),
            ttl: Duration::from_secs(15),
            lease,
            leader: Leader { host: "a".to_owned(), epoch: 7, since: clock.now() },
            deposed: CancellationToken::new(),
            view: Mutex::default(),
        };
        Leadership {
            term: Arc::new(term),
            replica: Replica::new(&litestream, database, 7).unwrap(),
            database: database.to_owned(),
            report: Mutex::new(HostState::begin(database, "a", String::new(), clock.now())),
            clock,
            unreplicated: AtomicU64::new(0),
            tasks: Mutex::default(),
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_once_the_lease_is_near_its_end_and_a_replica_that_fails_holds_nothing_up() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("vetwatch.db");
        let held = leadership(&database, || Duration::from_millis(109_999));
        assert!(held.may_send(2).await);
        assert_eq!(held.report().replica.unreplicated_attempts, 0, "only a first attempt needs the replica");
        assert!(held.may_send(1).await, "no verdict is late for a copy");
        assert_eq!(held.report().replica.unreplicated_attempts, 1);
        assert!(held.report().replica.error.is_some());
        assert!(!held.term.deposed.is_cancelled());

        let over = leadership(&database, || Duration::from_secs(110));
        assert!(!over.may_send(2).await && over.term.deposed.is_cancelled());
        assert!(!over.may_send(1).await);
    }
}

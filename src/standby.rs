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

mod candidate;
pub mod data;
pub mod elector;
pub mod host_state;
pub mod lease;
pub mod litestream;
mod readiness;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use self::candidate::lead;
use self::elector::{Data, Elector, ElectorSettings, Leader, Session, View};
use self::host_state::HostState;
use self::lease::Lease;
use self::litestream::{LitestreamSettings, Replica};
pub use self::readiness::{Current, ReadConfiguration};
use crate::time::{Clock, Timestamp};

/// How often a host that stands by looks whether somebody leads, and a failed renewal is repeated.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the leader looks at its lease, beside each message.
const WATCH_EVERY: Duration = Duration::from_millis(100);
/// How often the leader looks whether its replica has everything.
const TEND_EVERY: Duration = Duration::from_secs(2);
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
    /// The digests of the configuration in force.
    configuration: Mutex<BTreeMap<String, String>>,
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

/// The other hosts that could take over and go on by the same configuration, and why the rest could not.
fn others(
    view: &View,
    host: &str,
    session: Option<&Session>,
    configuration: &BTreeMap<String, String>,
) -> (Vec<String>, Vec<String>) {
    let (mut able, mut unable) = (Vec::new(), Vec::new());
    for other in view.hosts.iter().filter(|other| other.host != host) {
        match other.said.problem.clone().or_else(|| difference(configuration, &other.said.configuration)) {
            None => able.push(other.host.clone()),
            Some(problem) => unable.push(format!("{}: {problem}", other.host)),
        }
    }
    if session.is_some_and(|session| view.has_namesake(host, session)) {
        unable.push(namesake(host));
    }
    (able, unable)
}

/// In which sections two configurations differ. `None` also if one of them is not known yet.
fn difference(own: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Option<String> {
    if own.is_empty() || other.is_empty() {
        return None;
    }
    let only_here = own.keys().filter(|name| !other.contains_key(*name));
    let others = other.iter().filter(|(name, digest)| own.get(*name) != Some(digest)).map(|(name, _)| name);
    let names: Vec<String> = only_here.chain(others).map(|name| format!("[{name}]")).collect();
    (!names.is_empty()).then(|| format!("its configuration differs from the leader's in {}", names.join(", ")))
}

fn namesake(host: &str) -> String {
    format!("another host is called {host}, too: give each a `host` of its own in [standby]")
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

    /// Compares what the others have with these digests of the configuration in force from now on.
    pub fn note_configuration(&self, digests: BTreeMap<String, String>) {
        *self.configuration.lock().unwrap_or_else(PoisonError::into_inner) = digests;
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
        let configuration = self.configuration.lock().unwrap_or_else(PoisonError::into_inner);
        (report.others, report.unable) =
            others(&view, &self.term.leader.host, Some(&self.term.session), &configuration);
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
    use std::path::Path;

    use super::elector::{Announcement, Member};
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
            configuration: Mutex::default(),
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

    #[test]
    fn a_host_that_could_not_take_over_is_none_of_those_that_could() {
        let member = |host: &str, session: &str, problem: Option<&str>| Member {
            host: host.to_owned(),
            session: Session(session.to_owned()),
            said: Announcement {
                problem: problem.map(str::to_owned),
                configuration: BTreeMap::from([("schedule".to_owned(), host.to_owned())]),
            },
        };
        let hosts = vec![
            member("a", "1", None),
            member("b", "2", None),
            member("c", "3", Some("it cannot sign in to partner emea: no secret")),
        ];
        let view = View { hosts, ..View::default() };
        let unable = vec!["c: it cannot sign in to partner emea: no secret".to_owned()];
        let (session, unknown) = (Session("1".to_owned()), BTreeMap::new());
        assert_eq!(others(&view, "a", Some(&session), &unknown), (vec!["b".to_owned()], unable.clone()));
        let of = |digest: &str| BTreeMap::from([("schedule".to_owned(), digest.to_owned())]);
        assert_eq!(others(&view, "a", Some(&session), &of("b")), (vec!["b".to_owned()], unable));
        let (able, unable) = others(&view, "a", Some(&session), &of("a"));
        assert_eq!(able, [""; 0]);
        assert_eq!(unable[0], "b: its configuration differs from the leader's in [schedule]");
        // The name is somebody else's since.
        let (able, unable) = others(&view, "b", Some(&Session("9".to_owned())), &unknown);
        assert_eq!(able, ["a"]);
        assert_eq!(unable[1], "another host is called b, too: give each a `host` of its own in [standby]");
    }
}

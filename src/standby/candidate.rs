//! A host that stands by, until it leads.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::elector::{self, Announcement, Data, Elector, Leader, Session, View};
use super::host_state::{self, HostState, Role};
use super::lease::{Lease, boot_time};
use super::litestream::Replica;
use super::readiness::{ReadConfiguration, Readiness};
use super::{Error, LOOK_EVERY, Leadership, RENEWALS, Settings, Term, data, namesake, others};
use crate::time::Clock;

/// A host that could not take over lets others try.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// Stands by until this host leads and the newest data is in the place of the database. `read` is called every few seconds,
/// and `tell` gets a sentence for the service manager as often.
///
/// # Errors
/// If the settings are of no use, or another vetwatch runs on the database. Everything else is tried again.
pub async fn lead(
    settings: &Settings,
    read: ReadConfiguration,
    database: &Path,
    clock: &Arc<dyn Clock>,
    tell: impl Fn(&str) + Sync,
) -> Result<Arc<Leadership>, Error> {
    let mut candidate = Candidate {
        settings,
        database,
        clock,
        elector: Elector::new(&settings.elector)?,
        readiness: Readiness::begin(read, &settings.litestream, database, clock),
        session: None,
        announced: Announcement::default(),
        takeover_failed: None,
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
                            let why = format!("it was elected and cannot take over: {why}");
                            candidate.report.fail(why.clone(), clock.now());
                            candidate.takeover_failed = Some(why);
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
    readiness: Readiness,
    /// With when it was last renewed.
    session: Option<(Session, Instant)>,
    /// What the others know of this host.
    announced: Announcement,
    /// Why the last takeover failed, until another host leads.
    takeover_failed: Option<String>,
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
        let said = self.readiness.said();
        if renewed.is_none() {
            let session = self.elector.join(&self.settings.host, self.settings.lease, &said).await?;
            self.session = Some((session, Instant::now()));
            self.announced = said;
        } else {
            self.session = renewed;
            if let Some((session, _)) = self.session.as_ref().filter(|_| said != self.announced) {
                self.elector.announce(session, &self.settings.host, &said).await?;
                self.announced = said;
            }
        }
        self.elector.look().await
    }

    fn note(&mut self, view: &View) {
        let known = self.report.leader.as_ref().map(|leader| leader.epoch);
        if let Some(leader) = view.leader.as_ref().filter(|leader| known != Some(leader.epoch)) {
            info!("stands by: {} leads, since {} (epoch {})", leader.host, leader.since, leader.epoch);
        }
        // A failed takeover stays until another host leads.
        if view.leader.is_some() {
            self.takeover_failed = None;
        }
        self.report.leader.clone_from(&view.leader);
        self.readiness.note_newest(view.data.as_ref().map(|newest| newest.epoch));
        let session = self.session.as_ref().map(|(session, _)| session);
        (self.report.others, self.report.unable) = others(view, &self.settings.host, session, &BTreeMap::new());
        let own = session.is_some_and(|session| view.has_namesake(&self.settings.host, session));
        let own = own.then(|| namesake(&self.settings.host));
        match self.takeover_failed.clone().or(own).or_else(|| self.readiness.problem()) {
            Some(problem) => self.report.fail(problem, self.clock.now()),
            None => self.report.succeed(),
        }
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
        let session = match self.elector.join(&self.settings.host, self.settings.lease, &Announcement::default()).await
        {
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
            configuration: Mutex::default(),
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
            (Some(leader), None) => format!("stands by: {} leads (epoch {})", leader.host, leader.epoch),
            (Some(leader), Some(error)) => {
                format!("stands by: {} leads (epoch {}); could not take over: {error}", leader.host, leader.epoch)
            }
            (None, Some(error)) => format!("stands by, and nobody may lead: {error}"),
            (None, None) => "stands by: nobody leads yet".to_owned(),
        }
    }
}

//! Whether a host that stands by could do the work: without this, nobody would notice before it must.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::elector::Announcement;
use super::litestream::LitestreamSettings;
use crate::partner_center::{Budget, PartnerCenter, PartnerSettings};
use crate::time::Clock;

/// How often the configuration is read.
const READ_EVERY: Duration = Duration::from_secs(10);
/// A sign-in an hour. It also keeps a user's alive, which Entra ID ends after 90 days without use.
const TRY_EVERY: Duration = Duration::from_hours(1);
const AFTER_FAILURE: Duration = Duration::from_mins(1);
/// etcd is no place for a long text.
const MAX_PROBLEM_CHARS: usize = 500;

/// What the configuration says now, its secrets included.
#[derive(Debug)]
pub struct Current {
    pub partners: Vec<PartnerSettings>,
    /// Another one if anything has changed.
    pub fingerprint: String,
    /// Digests of what all hosts should have in common, by the kind of section.
    pub digests: BTreeMap<String, String>,
}

/// Reads the configuration as a new leader would. The error is why it would be refused.
pub type ReadConfiguration = Arc<dyn Fn() -> Result<Current, String> + Send + Sync>;

/// What this host would need as a leader, tried again and again until it is dropped.
#[derive(Debug)]
pub(super) struct Readiness {
    /// The epoch of the replica that it would restore.
    newest: watch::Sender<Option<u64>>,
    said: watch::Receiver<Announcement>,
    task: AbortHandle,
}

/// What is tried.
struct Needs {
    read: ReadConfiguration,
    litestream: LitestreamSettings,
    database: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Readiness {
    pub(super) fn begin(
        read: ReadConfiguration,
        litestream: &LitestreamSettings,
        database: &Path,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let needs = Needs { read, litestream: litestream.clone(), database: database.to_owned(), clock: clock.clone() };
        let (newest, epochs) = watch::channel(None);
        let (announcements, said) = watch::channel(Announcement::default());
        Self { newest, said, task: tokio::spawn(needs.try_again_and_again(epochs, announcements)).abort_handle() }
    }

    /// Has another replica tried, too, once that is the newest.
    pub(super) fn note_newest(&self, epoch: Option<u64>) {
        self.newest.send_if_modified(|known| std::mem::replace(known, epoch) != epoch);
    }

    /// What the other hosts should know.
    pub(super) fn said(&self) -> Announcement {
        self.said.borrow().clone()
    }

    /// Why this host could not do the work.
    pub(super) fn problem(&self) -> Option<String> {
        self.said.borrow().problem.clone()
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Needs {
    async fn try_again_and_again(self, mut newest: watch::Receiver<Option<u64>>, said: watch::Sender<Announcement>) {
        let (mut next_try, mut tried) = (Instant::now(), String::new());
        loop {
            // The first look at the elector mostly tells the newest replica.
            let is_other_replica = match timeout(READ_EVERY, newest.changed()).await {
                Ok(Err(_dropped)) => return,
                changed => changed.is_ok(),
            };
            let epoch = *newest.borrow_and_update();
            let before = said.borrow().clone();
            let mut now = before.clone();
            let read = self.read.clone();
            match spawn_blocking(move || read()).await {
                Err(panicked) => now.problem = Some(panicked.to_string()),
                Ok(Err(why)) => {
                    now.problem = Some(format!("its configuration would be refused: {why}"));
                    tried.clear();
                }
                Ok(Ok(current)) => {
                    now.configuration = current.digests;
                    if is_other_replica || tried != current.fingerprint || Instant::now() >= next_try {
                        now.problem = self.find_problem(&current.partners, epoch).await;
                        tried = current.fingerprint;
                        next_try = Instant::now() + if now.problem.is_some() { AFTER_FAILURE } else { TRY_EVERY };
                    }
                }
            }
            now.problem = now.problem.map(|problem| problem.chars().take(MAX_PROBLEM_CHARS).collect());
            match &now.problem {
                Some(why) if before.problem != now.problem => warn!("this host could not take over: {why}"),
                None if before.problem.is_some() => info!("this host could take over again"),
                _ => {}
            }
            said.send_replace(now);
        }
    }

    /// Looks for Litestream and the replica, and signs in to each partner as the leader would.
    async fn find_problem(&self, partners: &[PartnerSettings], newest: Option<u64>) -> Option<String> {
        if let Err(why) = self.litestream.version().await {
            return Some(format!("Litestream is of no use: {why}"));
        }
        if let Some(epoch) = newest
            && let Err(why) = self.litestream.try_restore(&self.database, epoch).await
        {
            return Some(format!("the replica of epoch {epoch} could not be restored: {why}"));
        }
        for settings in partners {
            let user = settings.as_user().filter(|_| settings.credential.user.is_none());
            for identity in [Some(settings.clone()), user].into_iter().flatten() {
                let budget = Arc::new(Budget::per_minute(identity.requests_per_minute));
                let signed_in = match PartnerCenter::new(identity, budget, self.clock.clone()) {
                    Ok(client) => client.sign_in().await.map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(why) = signed_in {
                    return Some(format!("it cannot sign in to partner {}: {why}", settings.name));
                }
            }
        }
        None
    }
}

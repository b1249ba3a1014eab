//! Whether a host that stands by could do the work: without this, nobody would notice before it must.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use super::litestream::LitestreamSettings;
use crate::partner_center::{Budget, PartnerCenter, PartnerSettings};
use crate::time::Clock;

/// A sign-in an hour. It also keeps a user's alive, which Entra ID ends after 90 days without use.
const LOOK_EVERY: Duration = Duration::from_hours(1);
const AFTER_FAILURE: Duration = Duration::from_mins(1);

/// What this host would need as a leader, tried again and again until it is dropped.
#[derive(Debug)]
pub(super) struct Readiness {
    /// The epoch of the replica that it would restore.
    newest: watch::Sender<Option<u64>>,
    problem: watch::Receiver<Option<String>>,
    task: AbortHandle,
}

/// What is tried.
struct Needs {
    partners: Vec<PartnerSettings>,
    litestream: LitestreamSettings,
    database: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Readiness {
    pub(super) fn begin(
        partners: &[PartnerSettings],
        litestream: &LitestreamSettings,
        database: &Path,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let needs = Needs {
            partners: partners.to_vec(),
            litestream: litestream.clone(),
            database: database.to_owned(),
            clock: clock.clone(),
        };
        let (newest, epochs) = watch::channel(None);
        let (problems, problem) = watch::channel(None);
        Self { newest, problem, task: tokio::spawn(needs.try_again_and_again(epochs, problems)).abort_handle() }
    }

    /// Has another replica tried, too, once that is the newest.
    pub(super) fn note_newest(&self, epoch: Option<u64>) {
        self.newest.send_if_modified(|known| std::mem::replace(known, epoch) != epoch);
    }

    /// Why this host could not do the work.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Needs {
    async fn try_again_and_again(
        self,
        mut newest: watch::Receiver<Option<u64>>,
        problem: watch::Sender<Option<String>>,
    ) {
        // The first look at the elector mostly tells the newest replica.
        let mut pause = AFTER_FAILURE;
        loop {
            if let Ok(Err(_dropped)) = timeout(pause, newest.changed()).await {
                return;
            }
            let epoch = *newest.borrow_and_update();
            let found = self.find_problem(epoch).await;
            let before = problem.send_replace(found.clone());
            match &found {
                Some(why) if before.as_ref() != Some(why) => warn!("this host could not take over: {why}"),
                None if before.is_some() => info!("this host could take over again"),
                _ => {}
            }
            pause = if found.is_some() { AFTER_FAILURE } else { LOOK_EVERY };
        }
    }

    /// Looks for Litestream and the replica, and signs in to each partner as the leader would.
    async fn find_problem(&self, newest: Option<u64>) -> Option<String> {
        if let Err(why) = self.litestream.version().await {
            return Some(format!("Litestream is of no use: {why}"));
        }
        if let Some(epoch) = newest
            && let Err(why) = self.litestream.try_restore(&self.database, epoch).await
        {
            return Some(format!("the replica of epoch {epoch} could not be restored: {why}"));
        }
        for settings in &self.partners {
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

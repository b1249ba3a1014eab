//! Whether a host that stands by could do the work: without this, nobody would notice before it must.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::sleep;
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
    problem: Arc<Mutex<Option<String>>>,
    task: AbortHandle,
}

impl Readiness {
    pub(super) fn begin(partners: &[PartnerSettings], litestream: &LitestreamSettings, clock: &Arc<dyn Clock>) -> Self {
        let problem = Arc::default();
        let trying = try_again_and_again(partners.to_vec(), litestream.clone(), clock.clone(), Arc::clone(&problem));
        Self { problem, task: tokio::spawn(trying).abort_handle() }
    }

    /// Why this host could not do the work.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn try_again_and_again(
    partners: Vec<PartnerSettings>,
    litestream: LitestreamSettings,
    clock: Arc<dyn Clock>,
    problem: Arc<Mutex<Option<String>>>,
) {
    loop {
        let found = find(&partners, &litestream, &clock).await;
        let before = std::mem::replace(&mut *problem.lock().unwrap_or_else(PoisonError::into_inner), found.clone());
        match &found {
            Some(why) if before.as_ref() != Some(why) => warn!("this host could not take over: {why}"),
            None if before.is_some() => info!("this host could take over again"),
            _ => {}
        }
        sleep(if found.is_some() { AFTER_FAILURE } else { LOOK_EVERY }).await;
    }
}

/// Looks for Litestream, and signs in to each partner as the leader would.
async fn find(partners: &[PartnerSettings], litestream: &LitestreamSettings, clock: &Arc<dyn Clock>) -> Option<String> {
    if let Err(why) = litestream.version().await {
        return Some(format!("Litestream is of no use: {why}"));
    }
    for settings in partners {
        let user = settings.as_user().filter(|_| settings.credential.user.is_none());
        for identity in [Some(settings.clone()), user].into_iter().flatten() {
            let budget = Arc::new(Budget::per_minute(identity.requests_per_minute));
            let signed_in = match PartnerCenter::new(identity, budget, clock.clone()) {
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

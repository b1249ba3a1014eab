//! Renews refresh tokens used only by `submit`. Entra ID expires a token unused for 90 days, so each is used weekly.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::daemon::InForce;
use crate::partner_center::{Budget, Credential, PartnerCenter, PartnerSettings, SetupError};
use crate::time::{Clock, Timestamp};

const CHECK_EVERY: Duration = Duration::from_hours(1);
/// A token with less than this to live was unused for a week.
const RENEW_BELOW: Duration = Duration::from_hours(24 * (90 - 7));
/// Pause after a failed renewal.
const RETRY_AFTER: Duration = Duration::from_hours(24);

pub struct SignIns {
    users: Vec<User>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct User {
    client: PartnerCenter,
    credential: Credential,
    failed_at: Option<Timestamp>,
}

impl SignIns {
    /// The sign-ins used by `submit` alone. If polling uses the same user, its token is in use all the time.
    ///
    /// # Errors
    /// When a client cannot be set up.
    pub fn of(partners: &[PartnerSettings], clock: &Arc<dyn Clock>) -> Result<Self, SetupError> {
        let mut users = Vec::new();
        for settings in partners.iter().filter(|partner| partner.credential.user.is_none()) {
            let Some(settings) = settings.as_user() else { continue };
            let (credential, budget) =
                (settings.credential.clone(), Arc::new(Budget::per_minute(settings.requests_per_minute)));
            let client = PartnerCenter::new(settings, budget, clock.clone())?;
            users.push(User { client, credential, failed_at: None });
        }
        Ok(Self { users, clock: clock.clone() })
    }

    /// Renews each token unused for a week.
    pub async fn round(&mut self) {
        let now = self.clock.now();
        for user in &mut self.users {
            let ends_at = user.credential.refresh_token_ends_at();
            let unused = ends_at.is_some_and(|at| at <= now.after(RENEW_BELOW));
            let backs_off = user.failed_at.is_some_and(|at| at <= now && now.since(at) < RETRY_AFTER);
            if !unused || backs_off {
                continue;
            }
            let name = user.client.name();
            match user.client.sign_in().await {
                Ok(()) => {
                    info!(partner = name, "the user's sign-in was renewed, so that it does not end for want of use");
                    user.failed_at = None;
                }
                Err(error) => {
                    warn!(partner = name, "the user's sign-in for `submit` could not be renewed: {error}");
                    user.failed_at = Some(now);
                }
            }
        }
    }

    /// Renews those of the configuration in force until `stop` is cancelled.
    pub(crate) async fn run(
        mut in_force: watch::Receiver<Arc<InForce>>,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) {
        in_force.mark_changed();
        let mut sign_ins = Self { users: Vec::new(), clock };
        while !stop.is_cancelled() {
            if in_force.has_changed().unwrap_or(false) {
                let config = in_force.borrow_and_update().config.clone();
                match Self::of(&config.partners, &sign_ins.clock) {
                    Ok(new) => sign_ins = new,
                    Err(error) => warn!("the users' sign-ins cannot be renewed: {error}"),
                }
            }
            stop.run_until_cancelled(sign_ins.round()).await;
            stop.run_until_cancelled(tokio::time::sleep(CHECK_EVERY)).await;
        }
    }
}

impl std::fmt::Debug for SignIns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIns").field("users", &self.users).finish_non_exhaustive()
    }
}

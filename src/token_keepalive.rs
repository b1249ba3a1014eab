//! Renews refresh tokens used only by `submit`. Entra ID expires a token unused for 90 days, so each is used weekly.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::partner_center::{Budget, Credential, PartnerCenter, PartnerSettings, SetupError};
use crate::time::{Clock, Timestamp};

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
}

impl std::fmt::Debug for SignIns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIns").field("users", &self.users).finish_non_exhaustive()
    }
}

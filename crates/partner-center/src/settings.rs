//! The settings of a partner.

use std::sync::Arc;

use url::Url;

use crate::entra::{Application, Audience, BrowserLogin, Credential, DeviceLogin, Prompt, SignInError};
use crate::proxy::Proxy;
use vetwatch_core::time::Clock;

/// Audience in every cloud but China's: the US Government cloud signs in elsewhere and uses the same API.
pub const RESOURCE: &str = "https://api.partnercenter.microsoft.com";
pub const RESOURCE_IN_CHINA: &str = "https://partner.partnercenterapi.microsoftonline.cn";

/// `[[partner]]`: one tenant of Partner Center.
#[derive(Debug, Clone)]
pub struct PartnerSettings {
    pub name: String,
    pub tenant: String,
    pub client_id: String,
    pub api_url: Url,
    pub login_url: Url,
    /// Audience of the tokens: the API's own address in its cloud, even if a proxy leads there. Tokens do not work
    /// across clouds.
    pub resource: &'static str,
    /// Everything goes through it, the login as well.
    pub proxy: Option<Proxy>,
    pub credential: Credential,
    /// Credential for what only users may do, which is submitting. Reading does not need it.
    pub user_credential: Option<Credential>,
    pub requests_per_minute: u32,
    pub max_in_flight: usize,
    pub customers: Customers,
}

impl PartnerSettings {
    /// The application with the credential's proof, for Partner Center's API.
    #[must_use]
    pub fn application(&self) -> Application {
        Application {
            login_url: self.login_url.clone(),
            tenant: self.tenant.clone(),
            client_id: self.client_id.clone(),
            audience: Audience::Resource(self.resource),
            proof: self.credential.proof.clone(),
            proxy: self.proxy.clone(),
        }
    }

    /// Requests a code with which a person signs in as the user.
    ///
    /// # Errors
    /// If there is no code, or no user is configured.
    pub async fn device_login(&self, clock: Arc<dyn Clock>) -> Result<(DeviceLogin, Prompt), SignInError> {
        let settings = self.as_user().ok_or(SignInError::NoUser)?;
        let file = settings.credential.user.clone().ok_or(SignInError::NoUser)?;
        DeviceLogin::begin(&settings.application(), file, clock).await
    }

    /// Waits on a port of this machine for a person who signs in as the user with a browser. Returns the address to open.
    ///
    /// # Errors
    /// If the port cannot be listened on, or no user is configured.
    pub async fn browser_login(&self, port: u16, clock: Arc<dyn Clock>) -> Result<(BrowserLogin, Url), SignInError> {
        let settings = self.as_user().ok_or(SignInError::NoUser)?;
        let file = settings.credential.user.clone().ok_or(SignInError::NoUser)?;
        BrowserLogin::begin(&settings.application(), file, port, clock).await
    }

    /// The same settings with the user's credential. `None` if no user is configured.
    #[must_use]
    pub fn as_user(&self) -> Option<Self> {
        let credential = [self.user_credential.as_ref(), Some(&self.credential)].into_iter().flatten();
        let credential = credential.into_iter().find(|credential| credential.user.is_some())?.clone();
        Some(Self { credential, user_credential: None, ..self.clone() })
    }
}

/// How a partner's customers are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Customers {
    /// Partner Center's list, synced.
    Synced,
    /// Only those added by hand.
    Manual,
}

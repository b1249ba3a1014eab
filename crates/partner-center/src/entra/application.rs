//! What tokens are requested for.

use url::Url;

use super::credential::ClientAuth;
use crate::proxy::Proxy;

/// An application of a tenant, and the service that its tokens are for.
#[derive(Debug, Clone)]
pub struct Application {
    pub login_url: Url,
    pub tenant: String,
    pub client_id: String,
    pub audience: Audience,
    pub proof: ClientAuth,
    pub proxy: Option<Proxy>,
}

/// The service that tokens are for, as the endpoint's version names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// v1, documented for an application's own tokens for Partner Center.
    Resource(&'static str),
    /// v2: `https://outlook.office365.com/.default`
    Scope(String),
}

impl Audience {
    /// The scope of a user's tokens, for v2: Partner Center's as documented for the secure application model, and a refresh
    /// token.
    pub(super) fn of_user(&self) -> String {
        match self {
            Self::Resource(resource) => format!("{resource}/user_impersonation offline_access"),
            Self::Scope(scope) => format!("{scope} offline_access"),
        }
    }
}

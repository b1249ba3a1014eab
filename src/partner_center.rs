//! Partner Center's REST API.

use secrecy::SecretString;
use url::Url;

/// `[[partner]]`: one tenant of Partner Center.
#[derive(Debug, Clone)]
pub struct PartnerSettings {
    pub name: String,
    pub tenant: String,
    pub client_id: String,
    pub api_url: Url,
    pub login_url: Url,
    pub credential: Credential,
    pub requests_per_minute: u32,
    pub max_in_flight: usize,
    pub customers: Customers,
}

#[derive(Debug, Clone)]
pub enum Credential {
    ClientSecret(SecretString),
}

/// Where the roster comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Customers {
    /// Partner Center's list, synced.
    All,
    /// Only those added by hand.
    Listed,
}

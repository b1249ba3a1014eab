//! The proxy of the configuration.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;
use vetwatch_core::redact;

/// Everything to a partner's hosts goes through it, by CONNECT. Its login is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(Url);

impl Proxy {
    /// `url` is http or https, with a login or without.
    #[must_use]
    pub fn new(url: Url) -> Self {
        redact::learn_login_of(&url);
        Self(url)
    }

    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    /// The header with the login, if there is one.
    pub(crate) fn authorization(&self) -> String {
        if self.0.username().is_empty() && self.0.password().is_none() {
            return String::new();
        }
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = format!("{}:{}", decode(self.0.username()), decode(self.0.password().unwrap_or_default()));
        format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(login))
    }
}

/// Scheme, host and port.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "{}://{}{port}", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

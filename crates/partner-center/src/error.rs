//! Errors of a call to Partner Center, by what the caller does about them.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::api_error::{ApiError, CORRELATION, Correlation};
use crate::error_codes::Hint;

/// Why there is no response. None of these changes a customer's stored state.
///
/// The texts are for people: the HTTP status, Partner Center's code and words if any, and the correlation id for
/// Microsoft's support. Never a secret, a token, or a URL's query; no control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Throttled. No customer of this partner may be polled until the wait is over (if given: at most an hour).
    #[error("{answer}{}", Wait(*.wait))]
    Throttled { wait: Option<Duration>, answer: ApiError },
    /// Our credential, or a new token, was rejected: a person must act, and no customer of this partner can be polled.
    #[error("{before}{0}{advice}", before = RefusedBy(.0), advice = Hint::on_credential(.0))]
    Credential(ApiError),
    /// The login server fails or is unreachable. It is retried; no customer of this partner can be polled now.
    #[error("no token: {0}")]
    NoToken(String),
    /// We may not do this: for this customer, or ([`Error::affects_partner`]) at all.
    #[error("{0}{advice}", advice = Hint::on(.0))]
    Forbidden(ApiError),
    /// The customer has no relationship with this partner, or no longer.
    #[error("{0}")]
    NoRelationship(ApiError),
    #[error("{0}")]
    NotFound(ApiError),
    /// The response is invalid: cut off, too large, not JSON, not of a documented shape.
    #[error("not understood: {what}{}", Correlation(*.correlation_id))]
    Unreadable { what: String, correlation_id: Option<Uuid> },
    /// Partner Center fails (5xx, 408).
    #[error("{0}")]
    Server(ApiError),
    /// The whole call, token included, exceeded its timeout.
    #[error("no answer within {}{}", humantime::format_duration(*.after), Correlation(*.correlation_id))]
    TimedOut { after: Duration, correlation_id: Option<Uuid> },
    /// No connection: DNS, TCP, TLS.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// No connection: this process may open no more.
    #[error("{}", vetwatch_core::descriptors::NONE_LEFT)]
    NoDescriptor,
    /// Any other error status, redirects included: a retry is pointless.
    #[error("{0}")]
    Refused(ApiError),
}

/// Codes of a 403 that concern the partner as a whole: its programme is inactive (800039, 900149), the partner
/// agreement is not accepted (900124), Conditional Access blocks us (900309), app-only is not allowed (900329).
const PARTNER_IS_FORBIDDEN: [&str; 5] = ["800039", "900149", "900124", "900309", "900329"];

impl Error {
    /// True if `before`, the text of an earlier error, had the same cause: only the wait and the correlation id may differ.
    pub fn is_same_as(&self, before: &str) -> bool {
        cause(&self.to_string()) == cause(before)
    }

    /// True if every other customer of the partner would fail alike now, so that the rest need not be polled.
    pub fn is_throttling(&self) -> bool {
        matches!(self, Self::Throttled { .. })
    }

    pub fn affects_partner(&self) -> bool {
        match self {
            Self::Throttled { .. }
            | Self::Credential(_)
            | Self::NoToken(_)
            | Self::Unreachable(_)
            | Self::NoDescriptor => true,
            Self::Forbidden(answer) => answer.code().is_some_and(|code| PARTNER_IS_FORBIDDEN.contains(&code)),
            Self::NoRelationship(_)
            | Self::NotFound(_)
            | Self::Unreadable { .. }
            | Self::Server(_)
            | Self::TimedOut { .. }
            | Self::Refused(_) => false,
        }
    }

    /// True if no request can succeed now: throttled, no token, no connection.
    pub fn blocks_all_calls(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::NoToken(_) | Self::Unreachable(_) | Self::NoDescriptor => true,
            Self::Credential(answer) => answer.is_from_login(),
            _ => false,
        }
    }

    /// True if Partner Center was not reached: for want of a connection, or of a token.
    pub fn is_before_the_call(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::NoToken(_))
    }

    /// Classifies an error response of Partner Center. A 401 concerns the credential: by then the token was renewed.
    pub(crate) fn of(answer: ApiError, retry_after: Option<Duration>) -> Self {
        match (answer.status(), answer.code()) {
            (429, _) => Self::Throttled { wait: retry_after, answer },
            // It names a wait, so this is throttling and not a failure.
            (503, _) if retry_after.is_some() => Self::Throttled { wait: retry_after, answer },
            (401, _) => Self::Credential(answer),
            (403, Some("20002")) => Self::NoRelationship(answer),
            (403, _) => Self::Forbidden(answer),
            (404, _) => Self::NotFound(answer),
            (408 | 500..=599, _) => Self::Server(answer),
            _ => Self::Refused(answer),
        }
    }
}

/// An error's text without what differs each time.
fn cause(text: &str) -> String {
    let mut cause = text.to_owned();
    for (begin, end) in [(CORRELATION, ')'), (WAIT, ';')] {
        if let Some((before, rest)) = cause.split_once(begin) {
            cause = format!("{before}{}", rest.split_once(end).map_or("", |(_, after)| after));
        }
    }
    cause
}

const WAIT: &str = "; asked to wait ";

/// `; asked to wait 57s`, or nothing.
struct Wait(Option<Duration>);

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |wait| write!(f, "{WAIT}{}", humantime::format_duration(wait)))
    }
}

/// The server that rejected the credential; nothing if no request was sent.
struct RefusedBy<'a>(&'a ApiError);

impl fmt::Display for RefusedBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.status() == 0 { "" } else { "the credential was refused: " })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_same_whatever_its_ids_and_waits() {
        let refused = |id, code: &str| {
            let body = format!(r#"{{"code":"{code}","description":"No."}}"#);
            ApiError::read(401, body.as_bytes(), Some(Uuid::from_u128(id)))
        };
        let error = Error::Credential(refused(1, "400"));
        assert!(error.is_same_as(&Error::Credential(refused(2, "400")).to_string()));
        assert!(!error.is_same_as(&Error::Credential(refused(1, "900420")).to_string()));
        let throttled = |secs| Error::Throttled { wait: Some(Duration::from_secs(secs)), answer: refused(7, "429") };
        assert!(throttled(57).is_same_as(&throttled(3).to_string()));
        assert!(!throttled(57).is_same_as(&error.to_string()));
    }
}

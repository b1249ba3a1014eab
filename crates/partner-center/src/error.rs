//! What can come of asking Partner Center, by what the caller does about it.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use super::api_error::ApiError;
use super::error_codes::Hint;

/// Why there is no answer. Nothing here changes what is believed of a customer.
///
/// The texts are for people: the HTTP status, Partner Center's code and words where there are any, and the correlation
/// id that Microsoft's support asks for. Never a secret, a token, or the query of an URL; no control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// We ask too much. Nobody at this partner is to be asked before the time is over (if it was said: at most an hour).
    #[error("{answer}{}", Wait(*.wait))]
    Throttled { wait: Option<Duration>, answer: ApiError },
    /// Our credential, or a token fresh from it, was refused: a person must act, and nobody at this partner can be asked.
    #[error("{before}{0}{advice}", before = RefusedBy(.0), advice = Hint::on_credential(.0))]
    Credential(ApiError),
    /// The login server is in trouble or unreachable. It will be tried again; nobody at this partner can be asked now.
    #[error("no token: {0}")]
    NoToken(String),
    /// We may not do this: with this customer, or ([`Error::affects_partner`]) at all.
    #[error("{0}{advice}", advice = Hint::on(.0))]
    Forbidden(ApiError),
    /// The customer has no relationship with this partner (any more).
    #[error("{0}")]
    NoRelationship(ApiError),
    #[error("{0}")]
    NotFound(ApiError),
    /// Something came that is no answer: cut off, too large, not JSON, of no documented shape.
    #[error("not understood: {what}{}", Correlation(*.correlation_id))]
    Unreadable { what: String, correlation_id: Option<Uuid> },
    /// Partner Center is in trouble (5xx, 408).
    #[error("{0}")]
    Server(ApiError),
    /// The whole call, its token included, took longer than it may.
    #[error("no answer within {}{}", humantime::format_duration(*.after), Correlation(*.correlation_id))]
    TimedOut { after: Duration, correlation_id: Option<Uuid> },
    /// No connection: DNS, TCP, TLS.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// Any other refusal, a redirect among them: asking the same again is senseless.
    #[error("{0}")]
    Refused(ApiError),
}

/// Codes of a 403 that say that the partner as a whole is shut out: its programme is inactive (800039, 900149), the
/// partner agreement is not accepted (900124), Conditional Access blocks us (900309), app-only is not allowed (900329).
const PARTNER_IS_FORBIDDEN: [&str; 5] = ["800039", "900149", "900124", "900309", "900329"];

impl Error {
    /// Whether every other customer of the partner would meet the same error now, so that the rest need not be asked.
    pub fn affects_partner(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Credential(_) | Self::NoToken(_) | Self::Unreachable(_) => true,
            Self::Forbidden(answer) => answer.code().is_some_and(|code| PARTNER_IS_FORBIDDEN.contains(&code)),
            Self::NoRelationship(_)
            | Self::NotFound(_)
            | Self::Unreadable { .. }
            | Self::Server(_)
            | Self::TimedOut { .. }
            | Self::Refused(_) => false,
        }
    }

    /// Whether nothing at all can be asked now, whatever it is about: throttled, no token, no connection.
    pub fn blocks_all_calls(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::NoToken(_) | Self::Unreachable(_) => true,
            Self::Credential(answer) => answer.is_from_login(),
            _ => false,
        }
    }

    /// What a refusal of Partner Center means. A 401 is the credential's: by then the token was renewed.
    pub(super) fn of(answer: ApiError, retry_after: Option<Duration>) -> Self {
        match (answer.status(), answer.code()) {
            (429, _) => Self::Throttled { wait: retry_after, answer },
            // Says how long to stay away, so this is not trouble but a request.
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

/// `; asked to wait 57s`, or nothing.
struct Wait(Option<Duration>);

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |wait| write!(f, "; asked to wait {}", humantime::format_duration(wait)))
    }
}

/// ` (correlation id 7d24…)`, or nothing.
pub(super) struct Correlation(pub(super) Option<Uuid>);

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |id| write!(f, " (correlation id {id})"))
    }
}

/// Who refused the credential; nothing if nobody was asked.
struct RefusedBy<'a>(&'a ApiError);

impl fmt::Display for RefusedBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.status() == 0 { "" } else { "the credential was refused: " })
    }
}

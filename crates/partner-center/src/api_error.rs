//! Error responses, in every shape that was seen.

use std::fmt;

use uuid::Uuid;

use crate::json::{Json, Object};
use vetwatch_core::redact;
use vetwatch_core::text::short_line;

/// A user signed in without a second factor.
pub(crate) const MFA_CODES: [&str; 6] =
    ["AADSTS50072", "AADSTS50074", "AADSTS50076", "AADSTS50079", "AADSTS50158", "900421"];

/// An HTTP error status and what its body said about it: for people, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: u16,
    code: Option<String>,
    message: Option<String>,
    correlation_id: Option<Uuid>,
}

/// Applied before secrets are cut out.
const TEXT_MAX_CHARS: usize = 2000;
const CODE_MAX_CHARS: usize = 40;
const MESSAGE_MAX_CHARS: usize = 300;

/// One line of what another side says, without secrets.
pub(crate) fn clean(text: &str) -> String {
    redact::words(&short_line(text, TEXT_MAX_CHARS))
}

impl ApiError {
    /// Never fails, whatever the body holds. Secrets are cut out.
    pub(crate) fn read(status: u16, body: &[u8], correlation_id: Option<Uuid>) -> Self {
        let parsed = ErrorBody::read(body);
        let fit = |text: String, max_chars| {
            let text = short_line(&clean(&text), max_chars);
            (!text.is_empty()).then_some(text)
        };
        Self {
            status,
            code: parsed.code.and_then(|code| fit(code, CODE_MAX_CHARS)),
            message: parsed.message.and_then(|message| fit(message, MESSAGE_MAX_CHARS)),
            correlation_id: parsed.correlation_id.or(correlation_id),
        }
    }

    /// An error found before anything was sent.
    pub(crate) fn ours(message: &str) -> Self {
        Self { status: 0, code: None, message: Some(short_line(message, MESSAGE_MAX_CHARS)), correlation_id: None }
    }

    /// Sets the message if there is none.
    pub(crate) fn or_message(mut self, message: &str) -> Self {
        self.message =
            self.message.or_else(|| Some(short_line(message, MESSAGE_MAX_CHARS)).filter(|text| !text.is_empty()));
        self
    }

    /// The HTTP status; 0 if the request was never sent.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Partner Center's code (`20002`) or the login server's (`AADSTS7000222`). Unique only with the status.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// One line of at most 300 characters.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Microsoft's support asks for it.
    pub fn correlation_id(&self) -> Option<Uuid> {
        self.correlation_id
    }

    /// True if the user's second factor is missing. A new token would lack it as well: only a new sign-in helps.
    /// Documented is a 401 without a body that says so in its reason phrase (`MFA required`) or a header; seen was the
    /// code 900421; the login server has codes of its own.
    pub fn is_missing_mfa(&self) -> bool {
        let says_so = |text: &str| {
            let text = text.to_ascii_lowercase();
            text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "mfa") || text.contains("multi-factor")
        };
        self.code().is_some_and(|code| MFA_CODES.contains(&code))
            || (self.status == 401 && !self.is_from_login() && self.message().is_some_and(says_so))
    }

    /// True if Conditional Access or another policy of the tenant stopped a user's sign-in (53003 and its kin, a device
    /// that is not known, a confirmation that is asked for): another way of signing in may be allowed.
    pub fn is_blocked_by_policy(&self) -> bool {
        self.code().is_some_and(|code| code.starts_with("AADSTS53") || matches!(code, "AADSTS50097" | "AADSTS50199"))
    }

    /// True if the login server sent it.
    pub fn is_from_login(&self) -> bool {
        self.code().is_some_and(|code| code.starts_with("AADSTS"))
    }
}

/// `403 20002: no commerce relationship (correlation id 7d24…)`
impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if self.status != 0 {
            write!(f, "{}", self.status)?;
            separator = ": ";
        }
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        let canonical = || reqwest::StatusCode::from_u16(self.status).ok()?.canonical_reason();
        if let Some(message) = self.message.as_deref().or_else(canonical) {
            write!(f, "{separator}{message}")?;
        }
        write!(f, "{}", Correlation(self.correlation_id))
    }
}

/// What begins the correlation id in an error's text.
pub(crate) const CORRELATION: &str = " (correlation id ";

/// ` (correlation id 7d24…)`, or nothing.
pub(crate) struct Correlation(pub(crate) Option<Uuid>);

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |id| write!(f, "{CORRELATION}{id})"))
    }
}

#[derive(Default)]
struct ErrorBody {
    code: Option<String>,
    message: Option<String>,
    correlation_id: Option<Uuid>,
}

impl ErrorBody {
    fn read(body: &[u8]) -> Self {
        match Json::parse(body) {
            Some(Json::Object(object)) => Self::of(&object),
            Some(Json::Text(text)) => Self { message: Some(text), ..Self::default() },
            Some(_) => Self::default(),
            None => Self { message: plain(body), ..Self::default() },
        }
    }

    fn of(object: &Object) -> Self {
        let text = |key| object.get(key).ok().flatten().and_then(Json::as_text).map(str::to_owned);
        if let Some(description) = text("error_description") {
            return Self::of_login(object, &description);
        }
        // Some gateways nest everything one level deeper.
        if let Ok(Some(Json::Object(inner))) = object.get("error") {
            return Self::of(inner);
        }
        let code = match object.get("code") {
            Ok(Some(Json::Text(code) | Json::Number(code))) => Some(code.clone()),
            _ => None,
        };
        let filled = |key| text(key).filter(|text| !text.trim().is_empty());
        let message = ["description", "message", "errorName", "error"].into_iter().find_map(filled);
        Self { code, message, correlation_id: None }
    }

    /// The login server's: `{"error":"invalid_client","error_description":"AADSTS7000215: Invalid … Trace ID: …",
    /// "error_codes":[7000215],"correlation_id":"…"}`.
    fn of_login(object: &Object, description: &str) -> Self {
        let numbers = match object.get("error_codes") {
            Ok(Some(Json::List(codes))) => codes.as_slice(),
            _ => &[],
        };
        let listed = numbers.iter().find_map(|code| if let Json::Number(code) = code { Some(code) } else { None });
        let spelled = description.strip_prefix("AADSTS").map(|rest| {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..digits].to_owned()
        });
        let code = spelled.filter(|code| !code.is_empty()).or_else(|| listed.cloned());
        // The ids after the first sentence or two are fields of their own, too.
        let sentence = description.split("Trace ID:").next().unwrap_or_default();
        let prefix = code.as_deref().map(|code| format!("AADSTS{code}: ")).unwrap_or_default();
        let sentence = sentence.strip_prefix(prefix.as_str()).unwrap_or(sentence);
        let correlation_id = object.get("correlation_id").ok().flatten().and_then(Json::as_text);
        Self {
            code: code.map(|code| format!("AADSTS{code}")),
            message: Some(sentence.to_owned()),
            correlation_id: correlation_id.and_then(|id| Uuid::parse_str(id).ok()),
        }
    }
}

/// The body if it is plain text: neither JSON nor HTML.
fn plain(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    (!text.trim_start().starts_with(['<', '{', '['])).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_body_that_was_seen_becomes_one_line() {
        let id = Uuid::from_u128(7);
        let with_id = |text: &str| format!("{text} (correlation id {id})");
        let login = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided. Ensure the value.\r\nTrace ID: 1\r\nCorrelation ID: 2\r\nTimestamp: 3","error_codes":[7000215],"timestamp":"x","trace_id":"y","correlation_id":"00000000-0000-0000-0000-000000000009"}"#;
        for (status, body, expected) in [
            (
                403,
                r#"{"code":"20002","description":"No relationship.","data":[],"source":"x"}"#,
                "403 20002: No relationship.",
            ),
            (
                404,
                r#"{"code":600074,"message":"m","description":"d","errorName":"n","isRetryable":false}"#,
                "404 600074: d",
            ),
            (404, r#"{"code":1000,"message":"not there"}"#, "404 1000: not there"),
            (429, r#"{"statusCode":429,"message":"Try again in 57 seconds."}"#, "429: Try again in 57 seconds."),
            (400, r#""Customer tagging denied.""#, "400: Customer tagging denied."),
            (400, "\u{FEFF}\"Denied.\"", "400: Denied."),
            (500, "", "500: Internal Server Error"),
            (502, "<html><h1>502</h1></html>", "502: Bad Gateway"),
            (503, "upstream\r\n connect\x1b[0m error", "503: upstream connect [0m error"),
            (500, "{\"code\":\"1\",", "500: Internal Server Error"),
            (403, r#"{"code":{"a":1},"code":2,"description":"  "}"#, "403: Forbidden"),
            (403, r#"{"error":{"code":"InvalidToken","message":"deep"}}"#, "403 InvalidToken: deep"),
            (599, "null", "599"),
        ] {
            let refusal = ApiError::read(status, body.as_bytes(), Some(id));
            assert_eq!(refusal.to_string(), with_id(expected), "{body}");
        }
        let refusal = ApiError::read(401, login.as_bytes(), Some(id));
        assert_eq!(refusal.code(), Some("AADSTS7000215"));
        assert_eq!(refusal.message(), Some("Invalid client secret provided. Ensure the value."));
        assert_eq!(refusal.correlation_id(), Some(Uuid::from_u128(9)));
    }

    #[test]
    fn a_long_description_is_cut_and_an_echoed_secret_blacked_out() {
        let _known = redact::Known::of(["tok3n-x"]);
        let body = format!(r#"{{"code":"tok3n-x","description":"Bearer tok3n-x {}"}}"#, "é".repeat(2000));
        let refusal = ApiError::read(400, body.as_bytes(), None);
        assert!(refusal.message().is_some_and(|m| m.starts_with("Bearer [hidden] é") && m.chars().count() == 300));
        assert!(!format!("{refusal} {refusal:?}").contains("tok3n-x"));
    }

    #[test]
    fn or_message_never_hides_what_the_server_said() {
        let refusal = ApiError::read(401, br#"{"message":"said"}"#, None).or_message("else");
        assert_eq!(refusal.message(), Some("said"));
        assert_eq!(ApiError::read(401, b"", None).or_message("else").message(), Some("else"));
    }

    proptest::proptest! {
        #[test]
        fn any_body_makes_a_refusal(status in 0_u16..1000, body: Vec<u8>) {
            let text = ApiError::read(status, &body, None).to_string();
            proptest::prop_assert!(!text.chars().any(char::is_control));
        }
    }
}

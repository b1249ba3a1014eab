//! Error responses of the login server.

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderName, PRAGMA};
use serde_json::json;
use uuid::Uuid;

use super::super::errors::Reply;
use vetwatch_core::time::Timestamp;

#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: &'static str,
    code: u32,
    text: String,
}

impl Refusal {
    pub(super) fn new(status: u16, error: &'static str, code: u32, text: impl Into<String>) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap_or_default(), error, code, text: text.into() }
    }

    /// A rejected grant: an authorization code, a refresh token, a device code.
    pub(super) fn of_grant(code: u32, text: impl Into<String>) -> Self {
        Self::new(400, "invalid_grant", code, text)
    }

    /// Failed client authentication.
    pub(super) fn of_client(code: u32, text: impl Into<String>) -> Self {
        Self::new(401, "invalid_client", code, text)
    }

    pub(super) fn word(&self) -> &'static str {
        self.error
    }

    /// `AADSTS65004: … Timestamp: …`
    pub(super) fn description(&self, now: Timestamp) -> String {
        let timestamp = now.to_utc().format("%Y-%m-%d %H:%M:%SZ");
        let (trace, correlation) = (Uuid::new_v4(), Uuid::new_v4());
        let Self { code, text, .. } = self;
        format!("AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}")
    }

    /// A page for a person, where there is no application to send them back to.
    pub(super) fn into_page(self, now: Timestamp) -> Reply {
        let text = self.description(now).replace('<', "&lt;");
        let body =
            format!("<html><body><h1>Sorry, but we're having trouble signing you in.</h1><p>{text}</p></body></html>");
        Reply::new(self.status, "text/html; charset=utf-8", body)
    }

    pub(super) fn into_reply(self, now: Timestamp) -> Reply {
        let (trace, correlation) = (Uuid::new_v4(), Uuid::new_v4());
        let timestamp = now.to_utc().format("%Y-%m-%d %H:%M:%SZ").to_string();
        let Self { status, error, code, text } = self;
        let body = json!({
            "error": error,
            "error_description": format!(
                "AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}"
            ),
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
        });
        sealed(Reply::json(status, &body), trace)
    }
}

pub(super) fn sealed(reply: Reply, trace: Uuid) -> Reply {
    reply
        .with(CACHE_CONTROL, "no-store, no-cache")
        .with(PRAGMA, "no-cache")
        .with(HeaderName::from_static("x-ms-request-id"), &trace.to_string())
}

//! The error bodies that Partner Center is documented or known to send.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::response_options::{Framing, Ids};

/// A response before it is sent.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// Replaces the status line's standard reason phrase.
    pub(super) reason: Option<&'static str>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) payload: Payload,
    pub(super) transfer: Transfer,
}

/// The body of a response.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    Whole(Bytes),
    /// `Content-Length` announces `promised` bytes; the connection closes after `sent`.
    Cut {
        sent: Bytes,
        promised: usize,
    },
    /// An opening bracket, and then these bytes repeated endlessly.
    Endless(Bytes),
}

/// How a response's bytes are sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Transfer {
    /// Bytes per write, and the pause between writes.
    pub(super) pieces: Option<(usize, Duration)>,
    /// `None`: with a `Content-Length`.
    pub(super) framing: Option<Framing>,
    pub(super) ids: Option<Ids>,
}

pub(super) const JSON: &str = "application/json; charset=utf-8";

impl Reply {
    pub(super) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))];
        Self { status, reason: None, headers, payload: Payload::Whole(body.into()), transfer: Transfer::default() }
    }

    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        Self::new(status, JSON, serde_json::to_vec(body).unwrap_or_default())
    }

    pub(super) fn empty(status: StatusCode) -> Self {
        Self { headers: Vec::new(), ..Self::new(status, JSON, Bytes::new()) }
    }

    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(super) fn body(&self) -> &Bytes {
        match &self.payload {
            Payload::Whole(body) => body,
            Payload::Cut { sent, .. } | Payload::Endless(sent) => sent,
        }
    }
}

/// Shapes of error bodies seen in practice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorShape {
    /// `{"code":"<string>","description":…,"data":[],"source":…}`: the documented one.
    Standard,
    /// `{"code":<integer>,"message":…,"description":…,"errorName":…,"isRetryable":…,"errorMessageExtended":…}`.
    Extended,
    /// `{"code":<integer>,"message":…}`.
    Brief,
    /// `{"statusCode":429,"message":…}`: the gateway in front of the API.
    Gateway,
    /// A bare JSON string.
    Text,
    Html,
    /// No body.
    None,
}

/// An error in the documented form.
pub(super) fn standard(status: StatusCode, code: u32, description: &str) -> Reply {
    body(status, code, description, ErrorShape::Standard)
}

pub(super) fn body(status: StatusCode, code: u32, text: &str, shape: ErrorShape) -> Reply {
    let value = match shape {
        ErrorShape::Standard => {
            json!({"code": code.to_string(), "description": text, "data": [], "source": "PartnerFD"})
        }
        ErrorShape::Extended => json!({
            "code": code,
            "message": text,
            "description": text,
            "errorName": "Error",
            "isRetryable": status.is_server_error(),
            "errorMessageExtended": format!("InternalErrorCode={code}"),
        }),
        ErrorShape::Brief => json!({"code": code, "message": text}),
        ErrorShape::Gateway => json!({"statusCode": status.as_u16(), "message": text}),
        ErrorShape::Text => json!(text),
        ErrorShape::Html => return Reply::new(status, "text/html", html(status)),
        ErrorShape::None => return Reply::empty(status),
    };
    Reply::json(status, &value)
}

/// An HTML page as gateways and captive portals send.
pub(super) fn html(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    format!(
        "<!DOCTYPE html>\r\n<html><head><title>{code} {reason}</title></head><body><h1>{reason}</h1></body></html>\r\n"
    )
}

/// The usual code and description of a status.
pub(super) fn usual(status: StatusCode) -> (u32, &'static str) {
    match status.as_u16() {
        400 => (3000, "The request contains an invalid property."),
        401 => (400, "Access denied."),
        403 => (2032, "Access denied: you do not have permission to access this resource."),
        404 => (1000, "Resource not found."),
        409 => (2001, "The resource was changed by somebody else."),
        500 => (800_003, "An unexpected error occurred."),
        _ => (900_192, "The service is temporarily unavailable. Try again later."),
    }
}

//! A stand-in for Azure's instance metadata service: hands out the token of the trusted platform, as a managed identity's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::server::Shared;

pub(super) const PATH: &str = "/metadata/identity/oauth2/token";
const LIFETIME_SECS: i64 = 86_399;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(rename = "api-version", default)]
    api_version: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    client_id: String,
}

pub(super) async fn token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let refuse =
        |text: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_request", "error_description": text})));
    if headers.get("Metadata").is_none_or(|value| value != "true") || headers.contains_key("X-Forwarded-For") {
        return Err(refuse("Required metadata header not specified"));
    }
    if asked.api_version.is_empty() || asked.resource.is_empty() {
        return Err(refuse("Required query variable is missing"));
    }
    let (token, now) = shared.with(|engine, now| (engine.entra.proofs.federated.clone(), now));
    let token = token.ok_or_else(|| refuse("Identity not found"))?;
    // Numbers are text there.
    Ok(Json(json!({
        "access_token": token,
        "client_id": asked.client_id,
        "expires_in": LIFETIME_SECS.to_string(),
        "expires_on": (now.as_secs() + LIFETIME_SECS).to_string(),
        "not_before": now.as_secs().to_string(),
        "resource": asked.resource,
        "token_type": "Bearer",
    })))
}

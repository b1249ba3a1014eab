//! Whether the login server knows a tenant. Needs no credential.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::api_error::ApiError;
use crate::error_codes::Hint;
use crate::http::{Body, Failure, Http, join_segments};
use crate::json::Json;
use crate::proxy::Proxy;
use vetwatch_core::descriptors;
use vetwatch_core::time::Clock;

const TIMEOUT: Duration = Duration::from_secs(30);
const BODY_MAX_BYTES: usize = 64 * 1024;

/// Reads the tenant's public metadata and returns the issuer of its tokens, which holds the tenant's GUID.
///
/// # Errors
/// Why it is not known, in words, and whether the login server refused.
pub async fn tenant_issuer(
    login_url: &Url,
    tenant: &str,
    proxy: Option<&Proxy>,
    clock: Arc<dyn Clock>,
) -> Result<String, (bool, String)> {
    let passing = |why: String| (false, why);
    let url = join_segments(login_url, &[tenant, "v2.0", ".well-known", "openid-configuration"]);
    let url = url.ok_or_else(|| (true, "it does not fit into an address".to_owned()))?;
    let http = Http::new(None, proxy, clock).map_err(|error| passing(error.to_string()))?;
    let request = http.client().get(url).header("Accept", "application/json");
    let reply = http.send(request, Body::Whole(BODY_MAX_BYTES), Instant::now() + TIMEOUT).await;
    let reply = reply.map_err(|failure| match failure {
        Failure::TimedOut => passing("the login server did not answer in time".to_owned()),
        Failure::NoDescriptor => passing(descriptors::NONE_LEFT.to_owned()),
        Failure::Unreachable(why) => passing(format!("the login server cannot be reached: {why}")),
        Failure::Broken(why) => passing(format!("the login server's answer broke off: {why}")),
    })?;
    if !reply.is_success() {
        let answer = ApiError::read(reply.status, &reply.body, None);
        let refused = (400..500).contains(&reply.status) && !matches!(reply.status, 408 | 429);
        return Err((refused, format!("{answer}{}", Hint::on(&answer))));
    }
    let body = Json::parse(&reply.body);
    let issuer = body.as_ref().and_then(Json::as_object).and_then(|object| object.get("issuer").ok()?);
    let issuer = issuer.and_then(Json::as_text).map(str::to_owned);
    issuer.ok_or_else(|| (true, "the answer is not a tenant's metadata: is login_url a login server?".to_owned()))
}

//! The fuzz target of requests for pages.

use std::sync::LazyLock;

use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use tower_service::Service as _;

use super::*;
use crate::config::CredentialDirs;
use crate::fuzzing::{RUNTIME, SECRET, shows_secret};
use crate::store::reports::fixture;
use crate::time::SystemClock;

/// The page without a token, and with one.
static PAGES: LazyLock<[Router; 2]> = LazyLock::new(|| {
    RUNTIME.block_on(async {
        let filled = fixture::filled().await;
        let store = filled.store.clone();
        std::mem::forget(filled); // its folder
        let text = include_str!("../../deploy/vetwatch.toml");
        let drafts = crate::fuzzing::drafts();
        let credentials = CredentialDirs { service: None, fallback: "/no/such".into(), drafts };
        let mut config = Config::parse("/no/such/vetwatch.toml".as_ref(), text, &credentials).unwrap();
        store.path().clone_into(&mut config.database);
        let settings = WebSettings {
            listen: ([127, 0, 0, 1], 9464).into(),
            public_url: None,
            hosts: ["vetting.contoso.example".to_owned()].into(),
            token: None,
            trusted_proxy: None,
        };
        [None, Some(SECRET.into())].map(|token| {
            let settings = WebSettings { token, ..settings.clone() };
            config.web = Some(settings.clone());
            let in_force =
                InForce { config: Arc::new(config.clone()), progress: Vec::new(), pokes: Vec::new(), refused: None };
            let (_, in_force) = watch::channel(Arc::new(in_force));
            let metrics = Metrics::default();
            metrics.configure(config.partner_names(), config.endpoint_names());
            let probes = probes::Probes::new(store.clone(), Arc::new(metrics));
            router(Arc::new(Site::new(settings, &config, probes, in_force, Arc::new(SystemClock))))
        })
    })
});

/// A request: method and target on the first line, its headers on the others. With a header `Token`, whatever its value, the
/// page asks for a token.
pub(crate) fn page_requests(input: &[u8]) {
    let Some((request, with_token)) = request(input) else { return };
    let is_probe = access::PROBES.contains(&request.uri().path());
    let mut page = PAGES[usize::from(with_token)].clone();
    RUNTIME.block_on(async {
        let response = page.call(request).await.unwrap_or_else(|never| match never {});
        let (status, headers) = (response.status(), response.headers().clone());
        let of_a_page = matches!(status.as_u16(), 200 | 304 | 400 | 401 | 403 | 404 | 405 | 421 | 429);
        assert!(of_a_page || is_probe && status == StatusCode::SERVICE_UNAVAILABLE, "{status}");
        assert!(HEADERS.iter().all(|(name, _)| headers.contains_key(name)), "{headers:?}");
        let body = to_bytes(response.into_body(), 16 << 20).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        // Without the token nobody is shown a customer.
        assert!(!with_token || status != StatusCode::UNAUTHORIZED || !body.contains("Contoso"), "{body}");
        assert!(!shows_secret(&format!("{headers:?}")), "{headers:?}");
    });
}

fn request(input: &[u8]) -> Option<(Request, bool)> {
    let text = std::str::from_utf8(input).ok()?;
    let mut lines = text.lines();
    let (method, target) = lines.next()?.split_once(' ')?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        headers.append(name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?);
    }
    let with_token = headers.remove("token").is_some();
    let ends = Ends { peer: ([127, 0, 0, 1], 50000).into(), local: ([127, 0, 0, 1], 9464).into() };
    let mut request = Request::builder().method(method).uri(target).extension(ends).body(Body::empty()).ok()?;
    *request.headers_mut() = headers;
    Some((request, with_token))
}

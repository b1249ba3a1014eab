//! A managed identity: the token of Azure's metadata service, by a way of its own. The sandbox stands in for the service.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use url::Url;
use vetwatch::partner_center::ManagedIdentity;

use super::*;

const IDENTITY: &str = "11111111-2222-4333-8444-555555555555";

fn managed(client_id: Option<&str>, service: &Url) -> Credential {
    let identity = ManagedIdentity::new(client_id, Some(service)).unwrap();
    Credential { proof: ClientAuth::ManagedIdentity(identity), user: None }
}

/// A server on this machine that gives one answer to everything, and counts.
struct StandIn {
    url: Url,
    asked: Arc<AtomicUsize>,
}

impl StandIn {
    async fn new(answer: impl Fn(&Request) -> Response + Clone + Send + Sync + 'static) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let app = Router::new().fallback(move |request: Request| {
            count.fetch_add(1, Ordering::Relaxed);
            let answer = answer(&request);
            async move { answer }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_managed_identity_proves_the_application_with_a_token_of_the_metadata_service() {
    let office = Office::new().await;
    let client = office.client(managed(Some(IDENTITY), &office.sandbox.url()));
    let said = refused(&client).await;
    assert!(said.contains("Identity not found") && said.contains(IDENTITY) && said.contains("assigned"), "{said}");
    assert_eq!(office.token_requests(), 0, "without a token nothing is sent to Entra ID");
    for token in ["eyJhbGciOi.first.one", "eyJhbGciOi.second.one"] {
        office.sandbox.set_federated_token(Some(token));
        office.clock.advance(hours(1));
        client.qualifications(SCHOOL).await.expect("an answer");
    }
    assert_eq!(office.token_requests(), 2);
}

#[tokio::test]
async fn the_request_is_what_the_metadata_service_expects() {
    let office = Office::new().await;
    office.sandbox.set_federated_token(Some("eyJhbGciOi.of.azure"));
    let service = StandIn::new(|request| {
        let head = (request.method().as_str(), request.uri().path(), request.uri().query().unwrap_or_default());
        let expected = (
            "GET",
            "/metadata/identity/oauth2/token",
            "api-version=2018-02-01&resource=api%3A%2F%2FAzureADTokenExchange&client_id=11111111-2222-4333-8444-555555555555",
        );
        let plain = request.headers().get("Metadata").is_some_and(|value| value == "true");
        if head == expected && plain && !request.headers().contains_key(header::AUTHORIZATION) {
            return r#"{"access_token":"eyJhbGciOi.of.azure","token_type":"Bearer"}"#.into_response();
        }
        (StatusCode::BAD_REQUEST, format!("{head:?}")).into_response()
    })
    .await;
    office.client(managed(Some(IDENTITY), &service.url)).qualifications(SCHOOL).await.expect("an answer");
    assert_eq!(service.asked(), 1);
}

#[tokio::test]
async fn a_redirect_of_the_metadata_service_leads_nowhere() {
    let office = Office::new().await;
    let elsewhere = StandIn::new(|_| r#"{"access_token":"eyJhbGciOi.of.azure"}"#.into_response()).await;
    let to = elsewhere.url.to_string();
    let service = StandIn::new(move |_| (StatusCode::FOUND, [(header::LOCATION, to.clone())]).into_response()).await;
    let said = refused(&office.client(managed(None, &service.url))).await;
    assert!(said.contains("302") && said.contains("not followed"), "{said}");
    assert_eq!((service.asked(), elsewhere.asked(), office.token_requests()), (1, 0, 0));
}

#[tokio::test]
async fn a_metadata_service_without_a_token_says_why_and_what_to_do() {
    let office = Office::new().await;
    let huge = "x".repeat(100_000);
    for (status, body, words) in [
        (400, r#"{"error":"invalid_request","error_description":"Identity not found"}"#, "managed_identity_client_id"),
        (404, "", "this passes by itself"),
        (410, "", "this passes by itself"),
        (429, "", "this passes by itself"),
        (500, r#"{"error":"unknown","error_description":"Failed to retrieve token"}"#, "this passes by itself"),
        (200, "<html>welcome</html>", "its answer is not a token"),
        (200, "", "its answer is not a token"),
        (200, r#"{"access_token":""}"#, "its answer is not a token"),
        (200, r#"{"access_token":"a b"}"#, "its answer is not a token"),
        (200, r#"{"access_token":{"a":1}}"#, "its answer is not a token"),
        (200, huge.as_str(), "larger than 64 KiB"),
    ] {
        let (code, text) = (StatusCode::from_u16(status).unwrap(), body.to_owned());
        let service = StandIn::new(move |_| (code, text.clone()).into_response()).await;
        let said = refused(&office.client(managed(None, &service.url))).await;
        assert!(said.contains("metadata service at 127.0.0.1") && said.contains(words), "{status} {body:.50}: {said}");
        assert_eq!(service.asked(), 1, "{status}");
    }
    assert_eq!(office.token_requests(), 0);
}

#[tokio::test]
async fn outside_of_azure_it_says_so() {
    let office = Office::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let said = refused(&office.client(managed(None, &nobody))).await;
    assert!(said.contains("cannot be reached") && said.contains("only a virtual machine in Azure"), "{said}");
}

#[tokio::test]
async fn a_proxy_of_the_partner_is_not_the_way_to_the_metadata_service() {
    let office = Office::new().await;
    office.sandbox.set_federated_token(Some("eyJhbGciOi.of.azure"));
    let service = StandIn::new(|_| r#"{"access_token":"eyJhbGciOi.of.azure"}"#.into_response()).await;
    let proxy = StandIn::new(|_| StatusCode::BAD_GATEWAY.into_response()).await;
    let mut settings = office.settings(managed(None, &service.url));
    settings.proxy = Some(vetwatch::partner_center::Proxy::new(proxy.url.clone()));
    let budget = Arc::new(Budget::per_minute(60_000));
    let client = PartnerCenter::new(settings, budget, office.clock.clone()).unwrap();
    client.qualifications(SCHOOL).await.expect_err("the proxy lets nothing through");
    assert_eq!(service.asked(), 1, "asked directly");
    assert!(proxy.asked() > 0, "the login goes through the proxy");
}

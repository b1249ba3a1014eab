//! The sandbox over HTTP, as a client sees it.

mod audit;
mod faults;
mod listing;
mod quirks;
mod transport;
mod submissions;

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Authorization::{Expired, NotNeeded, Revoked, Valid, WrongAudience};
use super::response_options::Keys;
use super::*;
use vetwatch_core::time::{ManualClock, Timestamp};

const SOON: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

struct Setup {
    sandbox: Sandbox,
    clock: Arc<ManualClock>,
    client: Client,
}

impl Setup {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // 2026-11-21T09:14:03.120Z
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_252_443_120)));
        let sandbox = Sandbox::start(options, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
        Self { sandbox, clock, client: Client::builder().no_proxy().build().unwrap() }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.url())
    }

    async fn ask_token(&self, path: &str, changes: &[(&str, &str)]) -> (u16, Value) {
        let options = Options::default();
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", &options.client_id),
            ("client_secret", &options.client_secret),
            ("resource", entra::RESOURCE),
            ("scope", "https://api.partnercenter.microsoft.com/.default"),
        ];
        for (name, value) in changes {
            form.retain(|(known, _)| known != name);
            form.push((name, value));
        }
        let answer = self.client.post(self.at(path)).form(&form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn token(&self) -> String {
        let path = format!("{}/oauth2/token", Options::default().tenant);
        let (status, body) = self.ask_token(&path, &[]).await;
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }

    fn request(&self, path: &str, token: &str) -> RequestBuilder {
        self.client
            .get(self.at(path))
            .bearer_auth(token)
            .header("Accept", "application/json")
            .header("MS-RequestId", Uuid::new_v4().to_string())
            .header("MS-CorrelationId", Uuid::new_v4().to_string())
    }

    async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let answer = self.request(path, token).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    async fn control(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let method = method.parse().unwrap();
        let request = self.client.request(method, self.at(&format!("control/{path}")));
        let answer = request.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    fn customer(&self) -> String {
        self.sandbox.add_customer(CustomerDetails::new("", "Contoso University", "contoso.edu")).unwrap()
    }
}

fn about(id: &str) -> String {
    format!("v1/customers/{id}/qualifications")
}

#[tokio::test]
async fn entra_gives_tokens_and_refuses_with_its_own_words() {
    let setup = Setup::new().await;
    let tenant = Options::default().tenant;
    let (v1, v2) = (format!("{tenant}/oauth2/token"), format!("{tenant}/oauth2/v2.0/token"));
    let (status, body) = setup.ask_token(&v1, &[]).await;
    assert_eq!((status, &body["expires_in"], &body["token_type"]), (200, &json!("3599"), &json!("Bearer")));
    let (status, body) = setup.ask_token(&v2, &[]).await;
    assert_eq!((status, &body["expires_in"]), (200, &json!(3599)));

    for (path, change, status, error, code) in [
        (v1.as_str(), ("client_secret", "wrong"), 401, "invalid_client", 7_000_215),
        (v2.as_str(), ("client_secret", "wrong"), 401, "invalid_client", 7_000_215),
        (&v1, ("client_secret", ""), 401, "invalid_client", 7_000_218),
        (&v1, ("client_id", "someone"), 400, "unauthorized_client", 700_016),
        (&v1, ("resource", "https://graph.microsoft.com"), 400, "invalid_resource", 500_011),
        (&v1, ("grant_type", "password"), 400, "unsupported_grant_type", 70003),
        (&v2, ("scope", "https://api.partnercenter.microsoft.com/user_impersonation"), 400, "invalid_scope", 1_002_012),
        ("elsewhere/oauth2/token", ("grant_type", "client_credentials"), 400, "invalid_request", 90002),
    ] {
        let (seen, body) = setup.ask_token(path, &[change]).await;
        assert_eq!((seen, &body["error"], &body["error_codes"]), (status, &json!(error), &json!([code])), "{body}");
        assert!(body["error_description"].as_str().unwrap().starts_with(&format!("AADSTS{code}: ")), "{body}");
    }
    setup.sandbox.expire_client_secret();
    assert_eq!(setup.ask_token(&v1, &[]).await.1["error_codes"], json!([7_000_222]));
}

#[tokio::test]
async fn a_token_is_good_for_partner_center_until_it_expires_or_is_revoked() {
    let setup = Setup::with(Options { token_lifetime: 5 * SECOND, ..Options::default() }).await;
    let path = about(&setup.customer());
    let token = setup.token().await;
    assert_eq!(setup.get(&path, &token).await, (200, json!([])));
    setup.clock.advance(5 * SECOND);
    let (status, body) = setup.get(&path, &token).await;
    assert_eq!((status, &body["code"]), (401, &json!("400")));

    let token = setup.token().await;
    assert_eq!(setup.get(&path, &token).await.0, 200);
    assert_eq!(setup.sandbox.revoke_tokens(), 2);
    assert_eq!(setup.get(&path, &token).await.0, 401);

    let v1 = format!("{}/oauth2/token", Options::default().tenant);
    let (_, body) = setup.ask_token(&v1, &[("resource", "https://graph.windows.net")]).await;
    let (status, body) = setup.get(&path, body["access_token"].as_str().unwrap()).await;
    assert_eq!((status, &body["code"]), (401, &json!("900420")));

    let seen: Vec<_> = setup.sandbox.requests().iter().map(|record| record.authorization).collect();
    assert_eq!(seen, [NotNeeded, Valid, Expired, NotNeeded, Valid, Revoked, NotNeeded, WrongAudience]);
    assert_eq!(setup.sandbox.violations(), []);
}

#[tokio::test]
async fn a_timeline_happens_by_the_clock_and_entries_are_written_as_documented() {
    let setup = Setup::with(Options { token_lifetime: Duration::from_hours(24), ..Options::default() }).await;
    let (id, token) = (setup.customer(), setup.token().await);
    let steps = json!({"steps": [
        {"after": "0s", "do": "submit"},
        {"after": "1h", "do": "deny", "reason": "Not an Academic Domain"},
        {"after": "1h", "do": "withdraw"},
        {"at": "2026-11-21T12:14:03.120Z", "do": "submit"},
        {"after": "1h", "do": "approve"},
        {"after": "1h", "do": "submit", "qualification": "StateOwnedEntity"},
    ]});
    assert_eq!(setup.control("PUT", &format!("customers/{id}/timeline"), &steps).await.0, 200);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let answer = setup.request(&about(&id.to_uppercase()), &token).send().await.unwrap();
        seen.push(answer.text().await.unwrap());
        setup.clock.advance(Duration::from_mins(61));
    }
    assert_eq!(
        seen,
        [
            r#"[{"qualification":"Education","vettingStatus":"InReview","vettingCreatedDate":"2026-11-21T09:14:03.120Z"}]"#,
            concat!(
                r#"[{"qualification":"Education","vettingStatus":"Denied","#,
                r#""vettingReason":"Not an Academic Domain","vettingCreatedDate":"2026-11-21T09:14:03.120Z"}]"#
            ),
            "[]",
            r#"[{"qualification":"Education","vettingStatus":"InReview","vettingCreatedDate":"2026-11-21T12:14:03.120Z"}]"#,
            r#"[{"qualification":"Education","vettingStatus":"Approved"}]"#,
            r#"[{"qualification":"Education","vettingStatus":"Approved"},{"qualification":"StateOwnedEntity"}]"#,
        ]
    );
    setup.sandbox.apply(&id, Operation::Approve { qualification: entry::GOVERNMENT.into() }).unwrap();
    let government = setup.get(&about(&id), &token).await.1[2].clone();
    assert_eq!(government["vettingCreateDate"], "2026-11-21T15:20:03.1202021+00:00");
    setup.sandbox.set_entry(&id, json!({"Qualification": "education", "VettingStatus": "Paused"})).unwrap();
    assert_eq!(setup.get(&about(&id), &token).await.1[0]["VettingStatus"], "Paused");
    let (body, content_type) = ("\u{feff}null".into(), "text/plain".into());
    setup.sandbox.apply(&id, Operation::Body { body, content_type }).unwrap();
    let answer = setup.request(&about(&id), &token).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain");
    assert_eq!(answer.bytes().await.unwrap(), b"\xef\xbb\xbfnull"[..]);
}

#[tokio::test]
async fn customers_are_listed_page_by_page() {
    let setup = Setup::new().await;
    let mut ids = setup.sandbox.add_customers(Bulk { count: 1234, in_review: 10, settled: 100 });
    ids.sort();
    setup.sandbox.end_relationship(&ids.remove(700)).unwrap();
    let token = setup.token().await;
    let (mut seen, mut next) = (Vec::new(), Value::Null);
    let mut sizes = Vec::new();
    loop {
        let path = if next.is_null() { "v1/customers?size=500" } else { "v1/customers?size=500&seekOperation=Next" };
        let mut request = setup.request(path, &token);
        if let Some(header) = next["headers"].get(0) {
            request = request.header(header["key"].as_str().unwrap(), header["value"].as_str().unwrap());
        }
        let page: Value = request.send().await.unwrap().json().await.unwrap();
        let items = page["items"].as_array().unwrap();
        assert_eq!(page["totalCount"], items.len());
        sizes.push(items.len());
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        next = page["links"]["next"].clone();
        if next.is_null() {
            break;
        }
    }
    assert_eq!((seen, sizes), (ids, vec![500, 500, 233]));
    assert_eq!(setup.sandbox.violations(), []);
    for path in ["v1/customers?size=0", "v1/customers?size=501", "v1/customers?size=many"] {
        assert_eq!(setup.get(path, &token).await.0, 400, "{path}");
    }
    assert_eq!(setup.sandbox.violations().len(), 3);
}

#[tokio::test]
async fn unknown_and_departed_customers_get_the_documented_errors() {
    let setup = Setup::new().await;
    let (id, token) = (setup.customer(), setup.token().await);
    let code = async |path: String| {
        let (status, body) = setup.get(&path, &token).await;
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(code(about(&Uuid::new_v4().to_string())).await, (404, "60003".into()));
    assert_eq!(code(about("contoso")).await, (400, "900118".into()));
    setup.sandbox.end_relationship(&id).unwrap();
    assert_eq!(code(about(&id)).await, (403, "20002".into()));
    setup.sandbox.remove_customer(&id).unwrap();
    assert_eq!(code(about(&id)).await, (404, "60003".into()));
    assert_eq!(setup.sandbox.violations(), []);
    assert_eq!(code("v1/customers/all/surprise".into()).await.0, 404);
    assert_eq!(setup.sandbox.unknown_requests().len(), 1);
    assert_eq!(setup.sandbox.violations().len(), 1);
}

#[tokio::test]
async fn careless_headers_are_written_down() {
    let setup = Setup::new().await;
    let (id, token) = (setup.customer(), setup.token().await);
    let repeated = setup.request(&about(&id), &token);
    let answer = repeated.try_clone().unwrap().send().await.unwrap();
    let sent = repeated.try_clone().unwrap().build().unwrap();
    assert_eq!(answer.headers()["ms-requestid"], sent.headers()["ms-requestid"]);
    assert_eq!(answer.headers()["ms-correlationid"], sent.headers()["ms-correlationid"]);
    assert_eq!(answer.headers()["date"], "Sat, 21 Nov 2026 09:14:03 GMT");
    assert_eq!(setup.sandbox.violations(), []);
    repeated.send().await.unwrap();
    setup.client.get(setup.at(&about(&id))).bearer_auth(&token).send().await.unwrap();
    let problems: Vec<_> = setup.sandbox.violations().into_iter().map(|violation| violation.problem).collect();
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(problems[0].ends_with("was used before"), "{problems:?}");
}

#[tokio::test]
async fn the_control_api_does_what_the_methods_do() {
    let setup = Setup::new().await;
    let (status, body) = setup.control("POST", "customers", &json!({"count": 20, "in_review": 2, "settled": 4})).await;
    assert_eq!((status, &body["added"], &body["first"]), (200, &json!(20), &json!(bulk::id(0))));
    let id = bulk::id(0);
    let (_, seen) = setup.control("GET", &format!("customers/{id}"), &json!({})).await;
    assert_eq!(seen["entries"][0]["vettingStatus"], "InReview");
    let deny = json!({"reason": "Not an eligible Museum"});
    assert_eq!(setup.control("POST", &format!("customers/{id}/deny"), &deny).await.0, 200);
    let entries = setup.sandbox.customer(&id).unwrap().entries;
    assert_eq!(entries[0]["vettingReason"], "Not an eligible Museum");

    let fault = json!({"on": "qualifications", "fault": "status", "status": 503, "times": 1});
    assert_eq!(setup.control("POST", "faults", &fault).await, (200, json!({"id": 1})));
    let token = setup.token().await;
    let waiting = {
        let (client, url) = (setup.client.clone(), setup.at(&format!("control/wait?customer={id}&nth=1&wait=10s")));
        tokio::spawn(async move { client.get(url).send().await.unwrap().json::<Value>().await.unwrap() })
    };
    assert_eq!(setup.get(&about(&id), &token).await.0, 503);
    assert_eq!(waiting.await.unwrap(), json!({"reached": true, "count": 1}));
    let about_it = format!("&customer={}", id.to_uppercase());
    for (query, count) in [
        (String::new(), 2),
        ("&kind=token".into(), 1),
        (about_it.clone(), 1),
        (format!("{about_it}&kind=qualifications"), 1),
        (format!("{about_it}&kind=submissions"), 0),
    ] {
        let (_, seen) = setup.control("GET", &format!("wait?nth=1{query}"), &json!({})).await;
        assert_eq!(seen, json!({"reached": count > 0, "count": count}), "{query}");
    }
    let (_, log) = setup.control("GET", "requests?after=0&kind=qualifications&wait=10s", &json!({})).await;
    assert_eq!((&log["requests"][0]["status"], &log["requests"][0]["fault"]), (&json!(503), &json!("status")));

    for (method, path, body, status) in [
        ("POST", "customers", json!({"id": id, "name": "again"}), 409),
        ("POST", "customers", json!({"nam": "typo"}), 400),
        ("POST", "customers/nobody/approve", json!({}), 404),
        ("POST", &format!("customers/{id}/promote"), json!({}), 400),
        ("POST", &format!("customers/{id}/deny"), json!({"reasons": "typo"}), 400),
        ("POST", "faults", json!({"fault": "hang", "by": "3s"}), 400),
        ("POST", "faults", json!({"fault": "delay", "by": "soon"}), 400),
        ("POST", "faults", json!(7), 400),
        ("POST", "faults", json!({"fault": "null", "share": 30}), 400),
        ("POST", "quirks", json!({"quirk": "writing", "shapes": "wrapper"}), 400),
        ("POST", "quirks", json!({"quirk": "writing", "shape": "circle"}), 400),
        ("POST", "quirks", json!({"quirk": "listing", "misses": 10}), 400),
        ("DELETE", "quirks/99", json!({}), 404),
        ("DELETE", "faults/99", json!({}), 404),
        ("GET", "nothing", json!({}), 404),
        ("PATCH", "faults", json!({}), 405),
    ] {
        let (seen, answer) = setup.control(method, path, &body).await;
        assert_eq!(seen, status, "{method} {path} {body}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    }
    let help = setup.client.get(setup.at("control")).send().await.unwrap().text().await.unwrap();
    assert!(help.contains(&format!("curl {}/control/faults", setup.sandbox.address())));
    assert_eq!(setup.sandbox.violations(), []);
}

#[tokio::test]
async fn nobody_but_this_machine_is_listened_to() {
    let clock: Arc<dyn Clock> = Arc::new(vetwatch_core::time::SystemClock);
    for address in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
        let options = Options { listen: address.parse().unwrap(), ..Options::default() };
        assert!(matches!(Sandbox::start(options, Arc::clone(&clock)).await, Err(Error::NotLoopback(_))), "{address}");
    }
}

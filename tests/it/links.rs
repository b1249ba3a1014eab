//! What `[web] public_url` does to messages.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;
use vetwatch::config::{Config, CredentialDirs};
use vetwatch::daemon;
use vetwatch::delivery::message::sample;
use vetwatch::event::{Event, EventPayload, EventType};
use vetwatch::store::UnrenderedDelivery;
use vetwatch::time::{Clock, SystemClock};

use crate::process::DaemonHarness;
use crate::world::{SIGNING_SECRET, START};

const HOST: &str = "vetting.contoso.example";
const TOKEN: &str = "a-token-of-more-than-16-characters";
const PARTNER: &str = "EMEA/../x é";
const ID: &str = "a/b?c=<d>\"|#&";
/// The same in a path.
const PATH: &str = "customer/EMEA%2F..%2Fx%20%C3%A9/a%2Fb%3Fc%3D%3Cd%3E%22%7C%23%26";

/// A configuration with an endpoint of each kind, and one for each shipped template.
fn configuration(public_url: &str) -> String {
    let http = |name: &str, kind: &str, more: &str| {
        format!("[[endpoint]]\nname = \"{name}\"\nkind = \"{kind}\"\nurl = \"https://{name}.example/\"\n{more}\n")
    };
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/templates");
    let recipe = |name: &str, more: &str| {
        let file = recipes.join(format!("{name}.json.j2"));
        http(name, "webhook", &format!("template_file = \"{}\"\n{more}", file.display()))
    };
    let keyed = "template_secret_file = \"signing-secret\"";
    let endpoints = [
        http("crm", "webhook", "secret_file = \"signing-secret\""),
        http("own", "webhook", "template_file = \"own.j2\"\ncontent_type = \"text/plain\""),
        http("teams", "teams", ""),
        http("slack", "slack", ""),
        http("ntfy", "ntfy", "topic = \"vetting-news\""),
        recipe("discord", ""),
        recipe("google-chat", ""),
        recipe("mattermost", ""),
        recipe("pagerduty", keyed),
        recipe("jira", ""),
        recipe("servicenow", ""),
    ];
    format!(
        "[[partner]]\nname = \"emea\"\ntenant = \"contoso.example\"\nclient_id = \"8f0b7f0a-6f0e-4a51-9d0c-3f8f6f0a1b2c\"\n\
         [partner.credential]\nkind = \"client-secret\"\nclient_secret_file = \"client-secret\"\n\
         [smtp.office]\nhost = \"127.0.0.1\"\ntls = \"none\"\n\
         [[endpoint]]\nname = \"mail\"\nkind = \"email\"\nsmtp = \"office\"\nfrom = \"v@contoso.example\"\n\
         to = [\"s@contoso.example\"]\n{}\
         [operators]\nendpoints = [\"mail\", \"crm\"]\n\
         [web]\nlisten = \"127.0.0.1:9464\"\ntoken_file = \"web-token\"\n{public_url}\n",
        endpoints.concat()
    )
}

fn parsed(public_url: &str) -> Config {
    crate::world::tls();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("client-secret", "a-client-secret"),
        ("signing-secret", SIGNING_SECRET),
        ("web-token", TOKEN),
        ("own.j2", "{{ message.items[0].page }} {{ events[0].url if events[0].url is defined else '' }}"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let path = folder.path().join("vetwatch.toml");
    std::fs::write(&path, configuration(public_url)).unwrap();
    Config::load(&path, &CredentialDirs::only(folder.path())).unwrap()
}

/// An event about a customer whose partner and id must be encoded in a path.
fn event(kind: EventType) -> Event {
    let mut event = sample::event(kind, Uuid::from_u128(1), PARTNER, START);
    match &mut event.data.subject {
        EventPayload::Vetting(change) => ID.clone_into(&mut change.customer.id),
        EventPayload::Summary(summary) => {
            for decided in &mut summary.decided {
                PARTNER.clone_into(&mut decided.partner);
                ID.clone_into(&mut decided.customer.id);
            }
            for review in &mut summary.waiting {
                PARTNER.clone_into(&mut review.partner);
                ID.clone_into(&mut review.customer.id);
            }
        }
        EventPayload::Monitor(_) => {}
    }
    event
}

/// The parts of a message as their reader gets them; of a mail its text and its HTML.
fn parts(endpoint: &str, message: &str) -> Vec<String> {
    if endpoint == "mail" {
        let mail = mail_parser::MessageParser::default().parse(message.as_bytes()).unwrap();
        let html = mail.body_html(0).unwrap().replace("&#x2f;", "/");
        return vec![mail.body_text(0).unwrap().into_owned(), html];
    }
    // As JSON has it, without its escapes.
    vec![message.replace("\\u003c", "<").replace("\\/", "/")]
}

/// The messages about these events: each endpoint, and the parts.
fn rendered(config: &Config, events: &[Event]) -> Vec<(String, Vec<String>)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let render = |endpoint: &vetwatch::config::EndpointSettings| {
        let draft = UnrenderedDelivery::new(Uuid::from_u128(2), events.to_vec(), config.routes.zone);
        let draft = UnrenderedDelivery { public_url: config.routes.public_url.clone(), ..draft };
        let rendered = daemon::channel(&endpoint.kind, &clock).render(&draft, START);
        assert_eq!(rendered.template_error, None, "{}", endpoint.name);
        (endpoint.name.clone(), parts(&endpoint.name, &rendered.message))
    };
    config.endpoints.iter().map(render).collect()
}

#[test]
fn every_message_links_to_its_page_with_public_url_and_none_without() {
    let with = parsed(&format!("public_url = \"https://{HOST}/vetting\""));
    let without = parsed("");
    let customer = format!("https://{HOST}/vetting/{PATH}");
    let health = format!("https://{HOST}/vetting/health");
    for kind in EventType::ALL {
        let events = [event(*kind)];
        let page = match &events[0].data.subject {
            EventPayload::Vetting(_) | EventPayload::Summary(_) => &customer,
            EventPayload::Monitor(_) => &health,
        };
        for (endpoint, parts) in rendered(&with, &events) {
            let has_link = match (endpoint.as_str(), kind) {
                ("crm", kind) => !matches!(kind, EventType::Summary) && *page == customer,
                // Its text for several has no room for links.
                ("discord", EventType::Summary) => false,
                _ => true,
            };
            for part in &parts {
                assert_eq!(part.contains(page), has_link, "{kind} at {endpoint}: {part}");
                assert!(!part.contains(TOKEN) && !part.contains("feeds/"), "{kind} at {endpoint}: {part}");
            }
            if endpoint == "crm" {
                let sent: Value = serde_json::from_str(&parts[0]).unwrap();
                let url = sent["data"].get("url").and_then(Value::as_str);
                assert_eq!(url, has_link.then_some(customer.as_str()), "{kind}");
            }
        }
        for (endpoint, parts) in rendered(&without, &events) {
            for part in &parts {
                assert!(!part.contains(HOST) && !part.contains(PATH), "{kind} at {endpoint}: {part}");
                assert!(endpoint != "crm" || !part.contains("\"url\""), "{kind}: {part}");
            }
        }
    }
}

#[test]
fn each_event_of_a_digest_links_to_its_own_customer() {
    let (with, without) = (parsed(&format!("public_url = \"https://{HOST}\"")), parsed(""));
    let events: Vec<_> = (0..20)
        .map(|n| {
            let mut event = event([EventType::Denied, EventType::Approved][n % 2]);
            event.data.partner = Some("emea".to_owned());
            if let EventPayload::Vetting(change) = &mut event.data.subject {
                change.customer.id = format!("b1d5a3c0-7e6f-4f0e-9c1b-2a8d54e7{n:04}");
            }
            event
        })
        .collect();
    for (endpoint, parts) in rendered(&with, &events) {
        if ["own", "discord", "pagerduty"].contains(&endpoint.as_str()) {
            continue;
        }
        for part in &parts {
            for n in 0..20 {
                let page = format!("https://{HOST}/customer/emea/b1d5a3c0-7e6f-4f0e-9c1b-2a8d54e7{n:04}");
                assert!(part.contains(&page), "{n} at {endpoint}: {part}");
            }
        }
    }
    for (endpoint, parts) in rendered(&without, &events) {
        assert!(parts.iter().all(|part| !part.contains(HOST)), "{endpoint}: {parts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_links_to_the_page_of_the_configuration_in_force() {
    let town = DaemonHarness::new("in_review = \"100ms\"", "[web]\nlisten = \"127.0.0.1:0\"\n").await;
    let ids = town.in_review(2).await;
    let daemon = town.running().await;
    town.sandbox.deny(&ids[0], "Not an Education Customer").unwrap();
    town.delivered(1).await;
    assert_eq!(town.hook.hooks()[0].json()["data"].get("url"), None);
    town.change("[web]\n", &format!("[web]\npublic_url = \"https://{HOST}/\"\n"));
    town.tell(&["reload"]);
    town.sandbox.deny(&ids[1], "Not an Education Customer").unwrap();
    town.delivered(2).await;
    let page = format!("https://{HOST}/customer/emea/{}", ids[1]);
    let hooks: Vec<_> = town.hook.hooks().iter().map(|hook| hook.json()["data"]["url"].clone()).collect();
    assert_eq!(hooks, [Value::Null, page.as_str().into()]);
    assert_eq!(town.rows("select count(*) from event where data like '%contoso.example/customer%'").await, ["0"]);
    // What the commands show and send is the same.
    let shown = String::from_utf8(town.run_beside(&["route", "test", "--show"]).await.stdout).unwrap();
    assert_eq!(shown.matches(&format!("https://{HOST}/customer/emea/b1d5")).count(), 2, "{shown}");
    town.tell(&["test-send", "crm"]);
    let url = town.hook.hooks().last().unwrap().json()["data"]["url"].clone();
    assert!(url.as_str().unwrap().starts_with(&format!("https://{HOST}/customer/emea/b1d5")), "{url}");
    daemon.stop().await;
}

use uuid::Uuid;

use super::*;
use crate::delivery::message::sample;
use crate::event::EventType;

fn at(text: &str) -> Timestamp {
    serde_json::from_value(text.into()).unwrap()
}

fn event(kind: EventType) -> Event {
    let id = Uuid::from_u128(0x0193_4a5b_6c7d_7000_8000_0000_0000_0001);
    let mut event = sample::event(kind, id, "emea", at("2026-11-21T09:14:03.120Z"));
    event.data.test = false;
    event
}

fn channel(url: &str) -> WebhookChannel {
    let _ = rustls::crypto::ring::default_provider().install_default();
    WebhookChannel::new(WebhookSettings { url: url.parse().unwrap(), secrets: Vec::new() })
}

/// `schemas/examples` is what receivers build against. `UPDATE_EXAMPLES=1` writes it anew.
#[test]
fn the_published_examples_are_what_is_sent() {
    let channel = channel("https://crm.example/");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/examples");
    let examples = EventType::ALL.iter().map(|kind| (kind.as_str(), vec![event(*kind)]));
    for (name, events) in examples.chain([(DIGEST, vec![event(EventType::Denied), event(EventType::Approved)])]) {
        let sent: serde_json::Value = serde_json::from_str(&channel.render(&events)).unwrap();
        let file = folder.join(format!("{name}.json"));
        if std::env::var_os("UPDATE_EXAMPLES").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            let ordered = serde_json::to_string_pretty(&body(&events)).unwrap();
            std::fs::write(&file, ordered + "\n").unwrap();
        }
        let published = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let published: serde_json::Value = serde_json::from_slice(&published).unwrap();
        assert_eq!(published, sent, "{name}");
    }
}

#[test]
fn retry_after_is_read_in_both_forms_and_never_believed_beyond_an_hour() {
    let now = at("2026-11-21T09:00:00Z");
    let seconds = |text| retry_after(text, now).map(|wait| wait.as_secs());
    assert_eq!(seconds("120"), Some(120));
    assert_eq!(seconds(" 0 "), Some(0));
    assert_eq!(seconds("Sat, 21 Nov 2026 09:05:00 GMT"), Some(300));
    assert_eq!(seconds("Sat, 21 Nov 2026 08:00:00 GMT"), Some(0));
    assert_eq!(seconds("99999999999999"), Some(3600));
    assert_eq!(seconds("Mon, 01 Jan 2091 00:00:00 GMT"), Some(3600));
    for nonsense in ["", "-5", "soon", "1.5", "999999999999999999999999"] {
        assert_eq!(seconds(nonsense), None, "{nonsense}");
    }
}

#[test]
fn of_a_url_only_scheme_and_host_are_shown() {
    let url = "https://me:s3cr3t-pw@crm.example:8443/hooks/T0KEN-abc/v1?sig=QUERYSECRET%2Bx";
    let channel = channel(url);
    let shown = format!("{channel:?} {:?}", channel.settings);
    assert!(shown.contains("https://crm.example:8443"), "{shown}");
    let echo = format!("{url}: Cannot POST /hooks/T0KEN-abc/v1 (sig=QUERYSECRET+x, T0KEN-abc) as me:s3cr3t-pw");
    let said = channel.reported(Outcome::Refused, &echo).detail;
    for secret in ["T0KEN", "QUERYSECRET", "s3cr3t"] {
        assert!(!shown.contains(secret) && !said.contains(secret), "{shown}\n{said}");
    }
}

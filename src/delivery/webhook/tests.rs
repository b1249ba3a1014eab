use uuid::Uuid;

use super::*;
use crate::delivery::message::sample;
use crate::event::EventType;

/// An hour ahead of UTC in winter.
const ZONE: chrono_tz::Tz = chrono_tz::Europe::Amsterdam;

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
    WebhookChannel::new(WebhookSettings::signed(HttpSettings::new(url.parse().unwrap()), Vec::new()))
}

/// Receivers build against `schemas/examples`. `UPDATE_EXAMPLES=1` rewrites it.
#[test]
fn the_published_examples_are_what_is_sent() {
    let channel = channel("https://crm.example/");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/examples");
    let examples = EventType::ALL.iter().map(|kind| (kind.as_str(), vec![event(*kind)]));
    for (name, events) in examples.chain([(DIGEST, vec![event(EventType::Denied), event(EventType::Approved)])]) {
        let public_url = Some("https://vetting.contoso.example/".to_owned());
        let delivery = UnrenderedDelivery { public_url, ..UnrenderedDelivery::new(Uuid::nil(), events, ZONE) };
        let sent: serde_json::Value = serde_json::from_str(&channel.render(&delivery).message).unwrap();
        let file = folder.join(format!("{name}.json"));
        if std::env::var_os("UPDATE_EXAMPLES").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            let ordered = serde_json::to_string_pretty(&body(&delivery)).unwrap();
            std::fs::write(&file, ordered + "\n").unwrap();
        }
        let published = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let published: serde_json::Value = serde_json::from_slice(&published).unwrap();
        assert_eq!(published, sent, "{name}");
    }
}

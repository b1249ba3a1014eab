mod shape;

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use self::shape::{check_blocks, check_card, objects};
use super::*;
use crate::delivery::Outcome;
use crate::delivery::message::{Message, sample};
use crate::event::{Event, EventPayload, EventType};

/// An hour ahead of UTC in winter.
const ZONE: chrono_tz::Tz = chrono_tz::Europe::Amsterdam;

const PUBLIC_URL: &str = "https://vetting.contoso.example/behind/a/proxy/";

/// Text that contains the markup of every service.
const HOSTILE: &str = "@everyone <!channel> <@U123> @here <at>a</at> <b>b</b> [c](http://evil.example) *d* _e_ `f` ~g~ \
                       :tada: \"},{\" {{ 7*7 }} {{DATE(2017-02-14T06:08:39Z,SHORT)}} \u{1b}[31m \u{202e}gnp.exe \\ & \r\n# h";

fn event(kind: EventType) -> Event {
    let now = serde_json::from_value("2026-11-21T09:14:03.120Z".into()).unwrap();
    let mut event = sample::event(kind, Uuid::from_u128(0x0193_4a5b_6c7d_7000_8000_0000_0000_0001), "emea", now);
    event.data.test = false;
    event
}

/// An event in which every text from outside is `text`.
fn saying(kind: EventType, text: &str) -> Event {
    let mut event = event(kind);
    event.data.partner = Some(text.to_owned());
    match &mut event.data.subject {
        EventPayload::Vetting(change) => {
            for field in [&mut change.customer.id, &mut change.customer.name, &mut change.customer.domain] {
                text.clone_into(field);
            }
            change.customer.tags = vec![text.to_owned(); 5];
            text.clone_into(&mut change.qualification);
            for field in [&mut change.to, &mut change.vetting_reason, &mut change.correlation_id] {
                *field = Some(text.to_owned());
            }
        }
        EventPayload::Monitor(notice) => {
            text.clone_into(&mut notice.summary);
            notice.detail = format!("{text}\n").repeat(4);
            notice.figures = (0..30).map(|n| (format!("{n} {text}"), json!(text))).collect();
        }
        EventPayload::Summary(summary) => {
            for decided in &mut summary.decided {
                for field in [&mut decided.customer.id, &mut decided.customer.name, &mut decided.qualification] {
                    text.clone_into(field);
                }
                decided.vetting_reason = decided.vetting_reason.as_ref().map(|_| text.to_owned());
            }
            for review in &mut summary.waiting {
                for field in [&mut review.customer.id, &mut review.customer.name, &mut review.qualification] {
                    text.clone_into(field);
                }
            }
            summary.attention = vec![text.to_owned()];
        }
    }
    event
}

/// Long texts of several kinds: those that JSON and HTML escapes lengthen, and those with many bytes a character.
fn longest() -> impl Iterator<Item = String> {
    ["\"", "\\", "<", "&", "W", "ä", "大", "🏫", "a\n", "a b "].into_iter().map(|text| text.repeat(1800 / text.len()))
}

fn digest(count: u32, event: &Event) -> Vec<Event> {
    (0..count).map(|_| event.clone()).collect()
}

type Body = fn(&Message) -> String;

/// The body for these events, as JSON, and its size in bytes.
fn made(body: Body, events: &[Event]) -> (Value, usize) {
    let body = body(&Message::of(events, ZONE));
    (serde_json::from_str(&body).unwrap(), body.len())
}

fn three() -> Vec<Event> {
    let mut fabrikam = event(EventType::Approved);
    if let EventPayload::Vetting(change) = &mut fabrikam.data.subject {
        "Fabrikam College".clone_into(&mut change.customer.name);
    }
    vec![fabrikam, event(EventType::Submitted), event(EventType::Denied)]
}

/// The bodies as snapshots, for review.
#[test]
fn the_messages_as_they_are_sent() {
    let services: [(&str, Body); 3] = [("teams", teams::body), ("slack", slack::body), ("ntfy", ntfy::body)];
    for (service, body) in services {
        let kinds = [
            EventType::Denied,
            EventType::Approved,
            EventType::Revoked,
            EventType::Vanished,
            EventType::Overdue,
            EventType::PartnerFailing,
        ];
        for kind in kinds {
            insta::assert_json_snapshot!(format!("{service}.{kind}"), made(body, &[event(kind)]).0);
        }
        let mut test = event(EventType::Denied);
        test.data.test = true;
        insta::assert_json_snapshot!(format!("{service}.test"), made(body, &[test]).0);
        insta::assert_json_snapshot!(format!("{service}.digest"), made(body, &three()).0);
    }
}

fn all_sorts() -> Vec<Vec<Event>> {
    let texts: Vec<_> = longest().chain([HOSTILE.to_owned(), String::new()]).collect();
    let kinds = [
        EventType::Denied,
        EventType::Revoked,
        EventType::Vanished,
        EventType::UnknownStatus,
        EventType::PartnerFailing,
    ];
    let single = |text: &String| kinds.map(|kind| vec![saying(kind, text)]);
    let mut all: Vec<_> = texts.iter().flat_map(single).collect();
    all.extend(EventType::ALL.iter().map(|kind| vec![event(*kind)]));
    all.extend([Vec::new(), three()]);
    all
}

fn digests(count: u32) -> Vec<Vec<Event>> {
    let texts = ["\"".repeat(500), "<".repeat(500), "大".repeat(200), HOSTILE.to_owned()];
    let kinds = [EventType::Denied, EventType::PartnerFailing];
    texts.iter().flat_map(|text| kinds.map(|kind| digest(count, &saying(kind, text)))).collect()
}

#[test]
fn why_a_message_comes_here_stands_above_it_within_the_limits() {
    let note = format!("Sent here because sales-mail has not taken it. {}", HOSTILE.repeat(3));
    for mut event in [event(EventType::Denied), saying(EventType::Denied, HOSTILE)] {
        event.data.test = true;
        for count in [1, ntfy::MAX_EVENTS, teams::MAX_EVENTS] {
            let message = Message::of(&digest(count, &event), ZONE).with_note(&note);
            let (card, blocks) = (teams::body(&message), slack::body(&message));
            assert!(card.len() <= 28 * 1024 && card.contains("Sent here because sales-mail"), "{card}");
            check_card(&serde_json::from_str(&card).unwrap());
            assert!(blocks.contains("Sent here because sales-mail") && !blocks.contains("<!channel>"), "{blocks}");
            check_blocks(&serde_json::from_str(&blocks).unwrap());
            let push: Value = serde_json::from_str(&ntfy::body(&message)).unwrap();
            let text = push["message"].as_str().unwrap();
            assert!(text.starts_with("TEST. Nothing has happened.\nSent here because") && text.len() <= 4096, "{text}");
        }
    }
}

#[test]
fn a_teams_card_is_one_and_never_above_28_kb() {
    for events in all_sorts().into_iter().chain(digests(teams::MAX_EVENTS)) {
        let (message, size) = made(teams::body, &events);
        assert!(size <= 28 * 1024, "{size} bytes for {} events", events.len());
        check_card(&message);
    }
    for events in digests(teams::MAX_EVENTS) {
        let (message, _) = made(teams::body, &events);
        let body = message["attachments"][0]["content"]["body"].as_array().unwrap();
        assert_eq!(body.len(), 1 + events.len(), "none is left out");
    }
    let far_too_many = digest(400, &saying(EventType::Denied, HOSTILE));
    let (message, size) = made(teams::body, &far_too_many);
    check_card(&message);
    assert!(size <= 28 * 1024 && message.to_string().contains("400 events"), "{message}");
}

#[test]
fn links_to_the_page_keep_to_the_limits_and_to_the_page() {
    // Of a path whose every character is escaped.
    for public_url in [PUBLIC_URL, &format!("{PUBLIC_URL}{}/", "&|".repeat(200))] {
        for events in all_sorts().into_iter().chain(digests(teams::MAX_EVENTS)).chain(digests(ntfy::MAX_EVENTS)) {
            let message = Message::of(&events, ZONE).with_pages(Some(public_url));
            let (card, blocks, push) = (teams::body(&message), slack::body(&message), ntfy::body(&message));
            assert!(card.len() <= 28 * 1024, "{} bytes for {} events", card.len(), events.len());
            let card: Value = serde_json::from_str(&card).unwrap();
            check_card(&card);
            if events.len() > 3 {
                let body = card["attachments"][0]["content"]["body"].as_array().unwrap();
                assert_eq!(body.len(), 1 + events.len(), "none is left out");
            }
            let blocks: Value = serde_json::from_str(&blocks).unwrap();
            check_blocks(&blocks);
            for text in objects(&blocks).into_iter().filter_map(|text| text.get("text")?.as_str()) {
                let links = text.split('<').skip(1).map(|link| link.split_once('|').unwrap().0);
                let is_ours =
                    |link: &str| link.starts_with("https://partner.microsoft.com/") || link.starts_with(PUBLIC_URL);
                assert!(links.into_iter().all(|link| is_ours(link) && !link.contains([' ', '>'])), "{text}");
            }
            assert!(push.len() <= 8192 - 200, "{} bytes of JSON", push.len());
            let push: Value = serde_json::from_str(&push).unwrap();
            assert!((1..=4096).contains(&push["message"].as_str().unwrap().len()), "{push}");
            assert!(push["actions"].as_array().is_none_or(|actions| (1..=3).contains(&actions.len())), "{push}");
        }
    }
}

#[test]
fn nothing_that_a_customer_is_called_is_markup_in_teams() {
    for kind in EventType::ALL {
        let (message, _) = made(teams::body, &[saying(*kind, HOSTILE)]);
        for object in objects(&message) {
            for text in ["title", "value"].iter().filter_map(|key| object.get(*key)?.as_str()) {
                let plain = text.replace("\\\\", "");
                for (at, c) in plain.char_indices().filter(|(_, c)| "*_`[]<>~{".contains(*c)) {
                    assert!(plain[..at].ends_with('\\'), "{c} in {text}");
                }
            }
        }
        assert!(!message.to_string().contains("\\u001b") && !message.to_string().contains('\u{202e}'), "{message}");
    }
}

#[test]
fn teams_has_taken_a_message_only_if_nothing_says_otherwise() {
    let judged = |status: u16, answer: &str| teams::classify_response(StatusCode::from_u16(status).unwrap(), answer);
    let again = Some(Outcome::Retry { after: None });
    let connectors = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error";
    for (status, answer, outcome) in [
        (202, "", Some(Outcome::Accepted)),
        (201, "", again),
        (204, "", again),
        (200, "<!DOCTYPE html><title>Sign in</title>", again),
        (200, "Webhook Bad Request - Null or empty event", again),
        (200, "Summary or Text is required.", again),
        (200, "", None),
        (200, "1", None),
        (200, "{\"error\":null}", None),
        (200, &format!("{connectors} 429 with ContextId tcid=0"), again),
        (200, &format!("{connectors} 503"), again),
        (200, &format!("{connectors} 413 with ContextId tcid=0"), Some(Outcome::Refused)),
        (200, "Webhook message delivery failed.", again),
        (200, "{\"error\":{\"code\":\"InternalServerError\"}}", again),
        (200, "{\"error\":{\"code\":\"RequestEntityTooLarge\"}}", Some(Outcome::Refused)),
        (400, "{\"error\":{\"code\":\"WorkflowTriggerIsNotEnabled\"}}", Some(Outcome::AuthRejected)),
        (401, "", Some(Outcome::AuthRejected)),
        (404, "", Some(Outcome::AuthRejected)),
        (400, "", None),
        (429, "", None),
        (500, "", None),
    ] {
        assert_eq!(judged(status, answer), outcome, "{status} {answer}");
    }
}

#[test]
fn a_slack_message_keeps_to_the_limits_of_block_kit() {
    for events in all_sorts().into_iter().chain(digests(slack::MAX_EVENTS)).chain(digests(100)) {
        check_blocks(&made(slack::body, &events).0);
    }
    for events in digests(slack::MAX_EVENTS) {
        let (message, _) = made(slack::body, &events);
        let blocks = message["blocks"].as_array().unwrap();
        assert_eq!(blocks.len(), 2 + events.len(), "none is left out");
    }
    // As many headings as there can be.
    let kinds: Vec<_> =
        (0..slack::MAX_EVENTS as usize).map(|n| event(EventType::ALL[n % EventType::ALL.len()])).collect();
    let (message, _) = made(slack::body, &kinds);
    check_blocks(&message);
    let lines = message.to_string().matches("Contoso School – Education").count();
    assert_eq!(lines, kinds.iter().filter(|event| !event.kind.is_for_operators()).count(), "{message}");
}

#[test]
fn nothing_that_a_customer_is_called_is_a_mention_or_markup_in_slack() {
    let mut own = BTreeSet::new();
    for kind in EventType::ALL {
        for events in [vec![saying(*kind, HOSTILE)], digest(3, &saying(*kind, HOSTILE))] {
            let (message, _) = made(slack::body, &events);
            assert_eq!(
                (&message["parse"], &message["link_names"], &message["mrkdwn"]),
                (&json!("none"), &json!(false), &json!(false))
            );
            for text in objects(&message).into_iter().filter(|object| object.contains_key("text")) {
                let Some(written) = text["text"].as_str() else { continue };
                if text.get("type") == Some(&json!("mrkdwn")) {
                    let (link, rest) = written.split_once('|').unwrap_or(("", written));
                    let (_, id) = link.split_once("/customers/").unwrap_or_default();
                    assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || "-_~%/".contains(c)), "{written}");
                    own.insert(rest.to_owned());
                } else {
                    assert!(!written.contains(['<', '>']), "{written}");
                    let entities = written.matches("&lt;").count()
                        + written.matches("&gt;").count()
                        + written.matches("&amp;").count();
                    assert!(written.matches('&').count() <= entities + 1, "an & that is no entity: {written}");
                }
            }
        }
    }
    let own: Vec<_> = own.iter().map(String::as_str).collect();
    assert_eq!(
        own,
        [
            "*Attempt*",
            "*Changed*",
            "*Decided*",
            "*Domain*",
            "*Expected*",
            "*Microsoft's reason*",
            "*Seen*",
            "*Submitted*",
            "*Tags*",
            "*What to do next*",
            "*When*",
            "Open in Partner Center>",
            "🔴 *Denied* (1)",
            "🔴 *Denied* (3)",
            "🔴 *Revoked* (3)",
            "🔵 *Changed* (3)",
            "🔵 *In review* (2)",
            "🔵 *In review* (3)",
            "🔵 *In review* (6)",
            "🔵 *vetwatch has begun to watch* (3)",
            "🟠 *Needs a person* (1)",
            "🟠 *Needs a person* (3)",
            "🟠 *Request gone* (3)",
            "🟠 *Still in review* (3)",
            "🟠 *vetwatch needs attention* (3)",
            "🟢 *Approved* (2)",
            "🟢 *Approved* (3)",
            "🟢 *Approved* (6)",
            "🟢 *Works again* (3)",
        ],
        "no other text is formatted"
    );
}

#[test]
fn slack_has_taken_a_message_only_if_it_says_ok() {
    let judged = |status: u16, answer: &str| slack::classify_response(StatusCode::from_u16(status).unwrap(), answer);
    let again = Some(Outcome::Retry { after: None });
    for (status, answer, outcome) in [
        (200, "ok", Some(Outcome::Accepted)),
        (200, "ok\n", Some(Outcome::Accepted)),
        (200, "", again),
        (200, "<html>Welcome to the proxy</html>", again),
        (204, "", again),
        (200, "invalid_payload", Some(Outcome::Refused)),
        (400, "invalid_payload", Some(Outcome::Refused)),
        (400, "invalid_blocks_format", Some(Outcome::Refused)),
        (400, "too_many_attachments", Some(Outcome::Refused)),
        (400, "user_not_found", None),
        (403, "action_prohibited", Some(Outcome::AuthRejected)),
        (403, "invalid_token", Some(Outcome::AuthRejected)),
        (404, "no_service", Some(Outcome::AuthRejected)),
        (404, "channel_not_found", Some(Outcome::AuthRejected)),
        (410, "channel_is_archived", Some(Outcome::AuthRejected)),
        (410, "", None),
        (413, "", None),
        (429, "rate_limited", None),
        (500, "rollup_error", None),
    ] {
        assert_eq!(judged(status, answer), outcome, "{status} {answer}");
    }
}

#[test]
fn an_ntfy_push_is_short_enough_to_be_one() {
    let topic = ntfy::Topic::new("t".repeat(64).into(), None).unwrap();
    for events in all_sorts().into_iter().chain(digests(ntfy::MAX_EVENTS)) {
        let body = ntfy::body(&Message::of(&events, ZONE));
        let push: Value = serde_json::from_str(&body).unwrap();
        let text = push["message"].as_str().unwrap();
        assert!((1..=4096).contains(&text.len()), "{} bytes of text", text.len());
        assert!(!text.chars().any(|c| c.is_control() && c != '\n') && !text.contains('\u{202e}'), "{text}");
        assert!(push["title"].as_str().is_some_and(|title| (1..=250).contains(&title.len())), "{push}");
        assert!(push["priority"].as_i64().is_some_and(|priority| (1..=5).contains(&priority)));
        assert_eq!(push["markdown"], false);
        assert!(!body.contains("topic"), "what is stored names no topic");
        let sent = topic.with_topic(&body);
        assert!(sent.len() <= 8192, "{} bytes of JSON", sent.len());
        let sent: Value = serde_json::from_str(&sent).unwrap();
        assert_eq!(sent["topic"], "t".repeat(64));
    }
    let (push, _) = made(ntfy::body, &digest(ntfy::MAX_EVENTS, &saying(EventType::Denied, &"W".repeat(500))));
    assert_eq!(push["message"].as_str().unwrap().lines().count(), ntfy::MAX_EVENTS as usize, "none is left out");
}

#[test]
fn what_is_no_topic_is_refused_without_being_shown() {
    for topic in ["", "a b", "../secret-topic", "topic?x", "ä", &"t".repeat(65)] {
        let problem = ntfy::Topic::new(topic.to_owned().into(), None).unwrap_err();
        assert!(!problem.contains("secret-topic"), "{problem}");
    }
    let shown = format!(
        "{:?}",
        ntfy::Topic::new("secret-topic".to_owned().into(), Some("tk_secret".to_owned().into())).unwrap()
    );
    assert!(!shown.contains("secret-topic") && !shown.contains("tk_"), "{shown}");
}

#[test]
fn an_ntfy_server_that_wants_another_login_is_the_endpoints_trouble() {
    let judged = |status: u16| ntfy::classify_response(StatusCode::from_u16(status).unwrap(), "");
    assert_eq!(judged(200), Some(Outcome::Accepted));
    let page = ntfy::classify_response(StatusCode::OK, "<html><title>Sign in</title></html>");
    assert_eq!(page, Some(Outcome::Retry { after: None }));
    assert_eq!(judged(204), Some(Outcome::Retry { after: None }));
    assert_eq!((judged(401), judged(403)), (Some(Outcome::AuthRejected), Some(Outcome::AuthRejected)));
    assert_eq!((judged(413), judged(429), judged(507)), (None, None, None), "what the status says is right");
}

#[test]
fn a_push_asks_for_no_correlation_id_that_it_does_not_show() {
    for kind in EventType::ALL {
        let (push, _) = made(ntfy::body, &[event(*kind)]);
        let text = push["message"].as_str().unwrap();
        assert!(!text.contains("below"), "{kind}: {text}");
        let asked = text.contains("correlation ID");
        assert_eq!(asked, text.contains("7d24c9a2-51c8-4f6e-8a52-0c1f9b7e3d60"), "{kind}: {text}");
    }
}

#[test]
fn in_slack_what_a_fact_is_called_is_bold_and_its_value_plain() {
    // A summary is in rows.
    for kind in EventType::ALL.iter().filter(|kind| kind.is_routed()) {
        let (message, _) = made(slack::body, &[event(*kind)]);
        let blocks = message["blocks"].as_array().unwrap();
        let fields: Vec<_> = blocks
            .iter()
            .filter(|block| block.get("text").is_none())
            .flat_map(|block| block["fields"].as_array().into_iter().flatten())
            .collect();
        assert!(!fields.is_empty(), "{kind}");
        for pair in fields.chunks(2) {
            let [name, value] = pair else { panic!("{kind}: {pair:?}") };
            let bold = name["text"].as_str().is_some_and(|text| text.starts_with('*') && text.ends_with('*'));
            assert!(bold && name["type"] == "mrkdwn" && value["type"] == "plain_text", "{kind}: {pair:?}");
        }
    }
}

/// As full as a summary gets: many of each kind, with long texts.
#[test]
fn a_full_summary_ends_with_what_needs_a_person_in_every_chat() {
    let mut full = event(EventType::Summary);
    if let EventPayload::Summary(summary) = &mut full.data.subject {
        let (decided, review) = (summary.decided[0].clone(), summary.waiting[0].clone());
        (summary.approved, summary.denied, summary.revoked, summary.vanished, summary.in_review) = (40, 40, 40, 40, 40);
        summary.decided = ["Approved", "Denied", "Revoked", "Vanished"]
            .into_iter()
            .flat_map(|outcome| std::iter::repeat_n(outcome, 20))
            .map(|outcome| {
                let mut decided = decided.clone();
                outcome.clone_into(&mut decided.outcome);
                decided.customer.name = "A school with a long name ".repeat(4);
                decided
            })
            .collect();
        summary.waiting = vec![review; 40];
        summary.attention = vec!["a thing that needs a person, in a sentence of some length".to_owned(); 9];
    }
    let message = Message::of(&[full], ZONE).with_pages(Some(PUBLIC_URL));
    for service in [&ntfy::SERVICE, &slack::SERVICE, &teams::SERVICE] {
        let body = (service.body)(&message);
        assert!(body.matches("that needs a person").count() >= 5, "{}: {body}", service.name);
        assert!(body.contains("and 32 more") && body.contains("and 4 more"), "{}: {body}", service.name);
    }
}

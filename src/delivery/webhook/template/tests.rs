use serde_json::{Value, json};

use super::*;
use crate::event::{Event, EventPayload};
use crate::store::FailoverFrom;

/// An hour ahead of UTC in winter.
const ZONE: chrono_tz::Tz = chrono_tz::Europe::Amsterdam;

const ID: Uuid = Uuid::from_u128(0x0193_4a5b_6c7d_7000_8000_0000_0000_0003);
const SECRET: &str = "R0UT1NGKEY\"R0UT1NGKEY";

fn template(source: &str) -> Result<Template, TemplateError> {
    Template::parse(source.to_owned(), HeaderValue::from_static("application/json"), Some(SECRET.to_owned().into()))
}

/// A shipped template.
fn recipe(name: &str) -> Template {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/templates").join(format!("{name}.json.j2"));
    template(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn event(kind: EventType) -> Event {
    let now = serde_json::from_value("2026-11-21T09:14:03.120Z".into()).unwrap();
    let mut event = sample::event(kind, Uuid::from_u128(1), "emea", now);
    event.data.test = false;
    event
}

/// An event in which every text from outside is `text`.
fn saying(kind: EventType, text: &str) -> Event {
    let mut event = event(kind);
    match &mut event.data.subject {
        EventPayload::Vetting(change) => {
            for field in [&mut change.customer.id, &mut change.customer.name, &mut change.customer.domain] {
                text.clone_into(field);
            }
            change.customer.tags = vec![text.to_owned()];
            text.clone_into(&mut change.qualification);
            for field in [&mut change.to, &mut change.vetting_reason, &mut change.correlation_id] {
                *field = Some(text.to_owned());
            }
        }
        EventPayload::Monitor(notice) => {
            text.clone_into(&mut notice.summary);
            text.clone_into(&mut notice.detail);
            notice.figures.insert("figure".to_owned(), text.into());
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

fn hostile() -> String {
    let secret = placeholder(Uuid::from_u128(9));
    format!(
        "@everyone @channel <!channel> <users/all> <b>b</b> [c](http://evil.example) *d* \"}},{{\" {{{{ 7*7 }}}} {{% raw %}} \
         \u{1b}[31m \u{7} \u{202e}gnp.exe \r\n# h {secret}"
    )
}

fn made(recipe: &Template, events: &[Event]) -> Value {
    let body =
        recipe.render(&UnrenderedDelivery::new(ID, events.to_vec(), ZONE)).unwrap_or_else(|flaw| panic!("{flaw}"));
    assert!(!body.contains("R0UT1NG"), "the secret would be stored");
    serde_json::from_str(&recipe.complete(ID, &body)).unwrap()
}

/// The cases for a recipe: each event plain, hostile and long, a test, no event, and digests up to the cap.
fn cases() -> Vec<Vec<Event>> {
    let texts = [hostile(), String::new(), "\"".repeat(3000), "大".repeat(3000)];
    let mut cases = vec![Vec::new()];
    for kind in EventType::ALL {
        let mut test = event(*kind);
        test.data.test = true;
        cases.extend([vec![event(*kind)], vec![test]]);
        cases.extend(texts.iter().map(|text| vec![saying(*kind, text)]));
    }
    for text in &texts {
        for kind in [EventType::Denied, EventType::PartnerFailing] {
            cases.push((0..super::super::MAX_EVENTS_WITH_TEMPLATE).map(|_| saying(kind, text)).collect());
        }
    }
    cases.push(vec![event(EventType::Denied), event(EventType::Approved)]);
    cases
}

/// Every text in `value`, with its key.
fn texts<'v>(name: &'v str, value: &'v Value) -> Vec<(&'v str, &'v str)> {
    match value {
        Value::String(text) => vec![(name, text)],
        Value::Array(items) => items.iter().flat_map(|item| texts(name, item)).collect(),
        Value::Object(object) => object.iter().flat_map(|(name, value)| texts(name, value)).collect(),
        _ => Vec::new(),
    }
}

fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn length(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.encode_utf16().count())
}

const RECIPES: [&str; 6] = ["discord", "google-chat", "mattermost", "pagerduty", "jira", "servicenow"];

#[test]
fn every_recipe_is_shipped_and_without_a_flaw() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/templates");
    let mut shipped: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".json.j2", ""))
        .collect();
    shipped.sort();
    let mut known = RECIPES.map(str::to_owned).to_vec();
    known.sort();
    assert_eq!(shipped, known);
    for name in RECIPES {
        assert_eq!(recipe(name).problems(), [], "{name}");
        for kind in [EventType::Denied, EventType::Approved] {
            insta::assert_json_snapshot!(format!("{name}.{kind}"), made(&recipe(name), &[event(kind)]));
        }
    }
}

#[test]
fn no_text_from_outside_injects_anything_into_a_recipe() {
    for name in RECIPES {
        let recipe = recipe(name);
        for kind in EventType::ALL {
            let plain = made(&recipe, &[saying(*kind, "plain")]);
            let attacked = made(&recipe, &[saying(*kind, &hostile())]);
            let shape = |value: &Value| texts("", value).iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
            assert_eq!(shape(&plain), shape(&attacked), "{name}, {kind}: fields were added");
            for (field, text) in texts("", &attacked) {
                let of_ours = |c: char| c == '\n' || !c.is_control();
                assert!(text.chars().all(of_ours) && !text.contains('\u{202e}'), "{name}, {kind}: {field} {text:?}");
                assert!(!text.contains("49") || text.contains("7*7"), "{name}, {kind}: {text}");
                assert!(
                    !["routing_key", "key"].contains(&field) || !text.contains("evil"),
                    "{name}, {kind}: {field} {text}"
                );
                if field.contains("url") || field == "href" || field.contains("link") {
                    assert!(text.starts_with("https://partner.microsoft.com/dashboard/"), "{name}, {kind}: {text}");
                }
                if ["discord", "mattermost"].contains(&name) {
                    assert!(!text.contains("@everyone") && !text.contains("@channel"), "{name}, {kind}: {text}");
                    assert!(!text.contains("](") || text.contains("\\]("), "{name}, {kind}: {text}");
                }
                // Google Chat does not read headers and labels as HTML, and they hold no name.
                if name == "google-chat" && field == "text" {
                    assert!(!text.contains("<users") && !text.contains("<!"), "{name}, {kind}: {text}");
                    assert!(!text.replace("<b>", "").contains("b>b"), "{name}, {kind}: {text}");
                }
            }
        }
    }
}

#[test]
fn discord_gets_an_embed_within_its_limits_that_calls_nobody() {
    for events in cases() {
        let sent = made(&recipe("discord"), &events);
        assert_eq!(sent["allowed_mentions"], json!({"parse": []}));
        assert!(length(&sent["content"]) <= 2000);
        let [embed] = list(&sent, "/embeds") else { panic!("{sent}") };
        assert!(embed["color"].as_u64().is_some_and(|color| color <= 0xff_ffff), "{embed}");
        assert!((1..=256).contains(&length(&embed["title"])) && length(&embed["description"]) <= 4096, "{embed}");
        let fields = list(embed, "/fields");
        assert!(fields.len() <= 25, "{embed}");
        for field in fields {
            assert!(
                (1..=256).contains(&length(&field["name"])) && (1..=1024).contains(&length(&field["value"])),
                "{field}"
            );
        }
        let all = texts("", embed)
            .iter()
            .filter(|(name, _)| *name != "url")
            .map(|(_, text)| text.encode_utf16().count())
            .sum::<usize>();
        assert!(all <= 6000, "{all} characters");
        if events.len() > 1 {
            let lines = embed["description"].as_str().unwrap().lines().filter(|line| line.starts_with("- ")).count();
            assert_eq!(lines, events.len(), "none is left out");
        }
    }
}

#[test]
fn google_chat_gets_a_card_within_its_limit() {
    for events in cases() {
        let sent = made(&recipe("google-chat"), &events);
        assert!(sent.to_string().len() <= 32_000, "{} bytes", sent.to_string().len());
        let [card] = list(&sent, "/cardsV2") else { panic!("{sent}") };
        assert!(card["cardId"].is_string() && length(&card["card"]["header"]["title"]) > 0, "{card}");
        assert!(!list(card, "/card/sections").is_empty(), "{card}");
        for section in list(card, "/card/sections") {
            for widget in list(section, "/widgets") {
                let names: Vec<_> = widget.as_object().unwrap().keys().map(String::as_str).collect();
                assert!(
                    ["textParagraph", "decoratedText", "buttonList"].contains(&names[0]) && names.len() == 1,
                    "{widget}"
                );
            }
        }
    }
}

#[test]
fn mattermost_gets_an_attachment_for_each_event() {
    for events in cases() {
        let sent = made(&recipe("mattermost"), &events);
        let attachments = list(&sent, "/attachments");
        let items = Message::of(&events, ZONE).items.len();
        assert_eq!(attachments.len(), items + 1);
        for attachment in &attachments[..items] {
            assert!(length(&attachment["fallback"]) > 0 && length(&attachment["title"]) > 0, "{attachment}");
            assert!(attachment["color"].as_str().is_some_and(|color| color.len() == 7), "{attachment}");
        }
    }
}

#[test]
fn pagerduty_resolves_with_an_approval_what_a_denial_has_triggered() {
    let pagerduty = recipe("pagerduty");
    for events in cases() {
        let sent = made(&pagerduty, &events);
        assert_eq!(sent["routing_key"], SECRET);
        assert!((1..=255).contains(&length(&sent["dedup_key"])), "{sent}");
        let payload = &sent["payload"];
        assert!((1..=1024).contains(&length(&payload["summary"])) && payload["source"] == "vetwatch", "{sent}");
        assert!(["critical", "error", "warning", "info"].contains(&payload["severity"].as_str().unwrap()), "{sent}");
    }
    let action_and_key = |event: Event| {
        let sent = made(&pagerduty, &[event]);
        (sent["event_action"].as_str().unwrap().to_owned(), sent["dedup_key"].clone())
    };
    let of = |kind| action_and_key(event(kind));
    for kind in [EventType::Denied, EventType::Revoked, EventType::Vanished, EventType::Overdue] {
        assert_eq!(of(kind), ("trigger".to_owned(), of(EventType::Approved).1), "{kind}");
    }
    assert_eq!(of(EventType::Approved).0, "resolve");
    for (trouble, over) in [
        (EventType::PartnerFailing, EventType::PartnerRecovered),
        (EventType::PollingLate, EventType::PollingRecovered),
        (EventType::EndpointFailing, EventType::EndpointRecovered),
        (EventType::BackupFailed, EventType::BackupRecovered),
        (EventType::StandbyFailing, EventType::StandbyRecovered),
    ] {
        assert_eq!((of(trouble).0, of(over).0), ("trigger".to_owned(), "resolve".to_owned()));
        assert_eq!(of(trouble).1, of(over).1);
    }
    assert_ne!(action_and_key(saying(EventType::Denied, "another")).1, of(EventType::Denied).1);
    let mut test = event(EventType::Approved);
    test.data.test = true;
    let (action, key) = action_and_key(test);
    assert_eq!(action, "trigger", "a test resolves nothing");
    assert_ne!(key, of(EventType::Approved).1);
}

#[test]
fn jira_gets_an_issue_whose_description_is_a_document() {
    for events in cases() {
        let sent = made(&recipe("jira"), &events);
        let fields = &sent["fields"];
        assert_eq!((&fields["project"]["key"], &fields["issuetype"]["name"]), (&json!("CSP"), &json!("Task")));
        assert!((1..=255).contains(&length(&fields["summary"])), "{sent}");
        assert!(!fields["summary"].as_str().unwrap().contains('\n'));
        assert_eq!((&fields["description"]["type"], &fields["description"]["version"]), (&json!("doc"), &json!(1)));
        for block in list(fields, "/description/content") {
            assert!(["paragraph", "heading"].contains(&block["type"].as_str().unwrap()), "{block}");
            for text in list(block, "/content") {
                assert!(text["type"] == "text" && length(&text["text"]) > 0, "an empty text is refused: {block}");
            }
        }
        assert!(list(fields, "/labels").iter().all(|label| !label.as_str().unwrap().contains(' ')));
    }
}

#[test]
fn servicenow_gets_an_incident() {
    for events in cases() {
        let sent = made(&recipe("servicenow"), &events);
        assert!((1..=160).contains(&length(&sent["short_description"])), "{sent}");
        assert!(["1", "2", "3"].contains(&sent["urgency"].as_str().unwrap()), "{sent}");
        assert_eq!(sent["correlation_id"], ID.to_string());
        assert!(sent["description"].is_string());
    }
}

#[test]
fn every_recipe_says_why_a_message_comes_here() {
    for name in RECIPES {
        let from = FailoverFrom { endpoint: "sales".to_owned(), since: Timestamp::from_millis(0), still_tried: true };
        let draft = UnrenderedDelivery::new(ID, vec![event(EventType::Denied)], ZONE);
        let draft = UnrenderedDelivery { failover_from: Some(from), ..draft };
        let body = recipe(name).render(&draft).unwrap();
        let sent: Value = serde_json::from_str(&body).unwrap();
        assert!(texts("", &sent).iter().any(|(_, text)| text.contains("has not taken it")), "{name}: {sent}");
    }
}

#[test]
fn a_name_that_is_not_there_is_a_flaw_and_never_an_empty_text() {
    let misspelt = template("{\n\"subject\": {{ message.subjct }}\n}").unwrap();
    let problems: Vec<_> = misspelt.problems().iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["line 2: undefined value: `message.subjct` is undefined (with every event)"]);
    let only_some = template("{\"customer\": {{ events[0].customer.name }}}").unwrap();
    let problems: Vec<_> = only_some.problems().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].ends_with("(with monitor.unknown_status and 18 more)"), "{problems:?}");
}

#[test]
fn a_form_is_written_with_urlencode_and_a_name_adds_no_field() {
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    let source = "text={{ message.items[0].title|urlencode }}&channel=ops".to_owned();
    let template = Template::parse(source, form, None).unwrap();
    let mut event = event(EventType::Denied);
    if let EventPayload::Vetting(change) = &mut event.data.subject {
        change.customer.name = "Contoso & Sons&channel=all".to_owned();
    }
    let body = template.render(&UnrenderedDelivery::new(Uuid::nil(), vec![event], ZONE)).unwrap();
    let fields: Vec<_> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    assert_eq!(fields, [("text".into(), "Contoso & Sons&channel=all".into()), ("channel".into(), "ops".into())]);
}

#[test]
fn a_template_that_is_none_is_told_with_its_line() {
    let flaw = template("{\n{% if message %}\n{{ message.subject \n}").unwrap_err();
    assert_eq!(flaw.line, Some(4), "{flaw}");
    assert!(flaw.to_string().starts_with("line 4: syntax error: unexpected `}`"), "{flaw}");
    assert!(template("{{ message.subject|shout }}").map(|t| t.problems()).map_or(true, |flaws| !flaws.is_empty()));
}

#[test]
fn a_template_that_goes_on_and_on_is_stopped() {
    let endless = template("{% for a in range(9999) %}{% for b in range(9999) %}1{% endfor %}{% endfor %}").unwrap();
    let flaw = endless.render(&UnrenderedDelivery::new(ID, vec![event(EventType::Denied)], ZONE)).unwrap_err();
    assert!(flaw.to_string().contains("fuel"), "{flaw}");
}

#[test]
fn what_comes_out_must_be_what_the_content_type_says() {
    let quoted = template("{\"subject\": \"{{ message.subject }}\"}").unwrap();
    let problems: Vec<_> = quoted.problems().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("what comes out is no JSON: expected"), "{problems:?}");
    let source = "{{ message.subject }}".to_owned();
    let plain = |kind: &'static str| {
        let template = Template::parse(source.clone(), HeaderValue::from_static(kind), None).unwrap();
        template.render(&UnrenderedDelivery::new(ID, vec![saying(EventType::Denied, "<b>")], ZONE)).unwrap()
    };
    assert!(plain("text/plain").contains("Denied: <b>"));
    assert!(plain("text/html; charset=utf-8").contains("Denied: &lt;b&gt;"));
    assert!(plain("application/vnd.contoso+json").starts_with("\"Denied: "));
}

#[test]
fn the_secret_is_put_in_when_it_is_sent_and_for_nobody_who_guesses() {
    let keyed = template("{\"key\": {{ secret }}, \"said\": {{ message.subject }}}").unwrap();
    let sent = made(&keyed, &[saying(EventType::Denied, &hostile())]);
    assert_eq!(sent["key"], SECRET);
    assert!(!sent["said"].as_str().unwrap().contains("R0UT1NG"), "{sent}");
    assert!(!format!("{keyed:?}").contains("R0UT1NG"));
    let without =
        Template::parse("{{ secret }}".to_owned(), HeaderValue::from_static("application/json"), None).unwrap();
    assert!(!without.problems().is_empty(), "there is none to name");
}

#[test]
fn the_output_is_bounded() {
    let long = template("{% for a in range(2000) %}{{ '%1000s'|format('x') }}{% endfor %}").unwrap();
    let flaw = long.render(&UnrenderedDelivery::new(ID, vec![event(EventType::Denied)], UTC)).unwrap_err();
    assert_eq!(flaw.to_string(), "what comes out is larger than 1024 KiB");
}

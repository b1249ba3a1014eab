//! Chat, push and custom receivers: what arrives there, and what their responses lead to.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;
use vetwatch::attention::{self, Facts, Need, Reason};
use vetwatch::config::{Config, CredentialDirs};
use vetwatch::delivery::chat::{slack, teams};
use vetwatch::delivery::message::{Message, sample};
use vetwatch::event::{Event, EventPayload, EventType};
use vetwatch::sandbox::smtp_server::Mail;
use vetwatch::sandbox::webhook_receiver::{WebhookAction, WebhookRequest};
use vetwatch::time::Clock as _;

use crate::peers::run;
use crate::world::{START, World, hours, minutes, plain_text, seconds, subject};

const STATE: &str = "select state, attempts from v_deliveries where endpoint = 'crm'";
const MESSAGE: &str = "select message from delivery where endpoint = 'crm'";
const SAID: &str = "select response from attempt a join delivery d on d.id = a.delivery where d.endpoint = 'crm'";

/// A world whose `crm` is of this kind, with these further keys.
async fn world(kind: &str, keys: &str) -> World {
    world_in("", kind, keys).await
}

/// …with these keys of `[schedule]`.
async fn world_in(schedule: &str, kind: &str, keys: &str) -> World {
    let change = |text: String| {
        let text = text.replace("kind = \"webhook\"\n", &format!("kind = \"{kind}\"\n"));
        let text = text.replace("secret_file = \"signing-secret\"\n", keys);
        if kind == "ntfy" { text.replace("/hook\"", "/\"") } else { text }
    };
    World::edited(schedule, "", change).await
}

/// A denial with a pending delivery.
async fn denial(world: &mut World, name: &str) {
    let id = world.in_review(name).await;
    world.sandbox.deny(&id, "Not an Education Customer").unwrap();
    world.pass(minutes(15));
    assert_eq!(world.poll().await, 1);
}

fn answer(status: u16, body: &str) -> WebhookAction {
    WebhookAction::Answer { status, headers: Vec::new(), body: body.to_owned() }
}

/// True if the text is anywhere in a JSON document.
fn says(value: &Value, text: &str) -> bool {
    value.to_string().contains(text)
}

fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/templates").join(name)
}

/// Files that a configuration can name.
fn files(named: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in named {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[tokio::test]
async fn each_kind_of_chat_gets_its_message_once_and_its_acceptance_is_noted() {
    for (kind, keys, act, noted) in [
        ("teams", "", answer(202, ""), "HTTP 202 Accepted"),
        ("teams", "", answer(200, "1"), "HTTP 200 OK"),
        ("slack", "", answer(200, "ok"), "HTTP 200 OK"),
        ("ntfy", "topic = \"vetting-news\"", answer(200, "{\"id\":\"x\",\"event\":\"message\"}"), "HTTP 200 OK"),
    ] {
        let mut world = world(kind, keys).await;
        world.hook.script(act, None);
        denial(&mut world, "Contoso School").await;
        world.deliver().await;
        world.live(hours(2)).await;
        let hooks = world.hook.hooks();
        assert_eq!(hooks.len(), 1, "{kind}");
        assert_eq!((hooks[0].method.as_str(), hooks[0].header("content-type")), ("POST", Some("application/json")));
        let told = hooks[0].json();
        assert!(says(&told, "Contoso School") && says(&told, "Not an Education Customer"), "{kind}: {told}");
        assert!(says(&told, "https://partner.microsoft.com/dashboard/"), "{kind}: {told}");
        assert_eq!(world.rows(STATE).await, ["delivered | 1"], "{kind}");
        assert!(world.rows(SAID).await[0].contains(noted), "{kind}: {:?}", world.rows(SAID).await);
    }
}

#[tokio::test]
async fn teams_that_answers_200_with_an_error_gets_the_message_again() {
    let mut world = world("teams", "").await;
    let error = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429";
    world.hook.script(answer(200, error), Some(2));
    denial(&mut world, "Contoso School").await;
    world.deliver().await;
    assert_eq!(world.rows(STATE).await, ["pending | 1"]);
    world.live(minutes(30)).await;
    let hooks = world.hook.hooks();
    assert_eq!(hooks.len(), 3);
    assert!(hooks.iter().all(|hook| hook.body == hooks[0].body), "the same message each time");
    assert_eq!(world.rows(STATE).await, ["delivered | 3"]);
}

#[tokio::test]
async fn a_200_that_is_not_slacks_ok_is_no_success() {
    let mut world = world("slack", "").await;
    world.hook.script(answer(200, "<html>Sign in to the guest network</html>"), Some(1));
    world.hook.script(answer(200, "ok"), None);
    denial(&mut world, "Contoso School").await;
    world.deliver().await;
    assert_eq!(world.rows(STATE).await, ["pending | 1"]);
    world.live(minutes(10)).await;
    assert_eq!(world.rows(STATE).await, ["delivered | 2"]);
}

#[tokio::test]
async fn a_message_that_a_chat_will_never_take_is_dead_at_once_and_the_operators_hear_of_it() {
    let inner = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 413";
    for (kind, keys, act) in [
        ("teams", "", answer(413, "")),
        ("teams", "", answer(200, inner)),
        ("slack", "", answer(400, "invalid_blocks")),
        ("slack", "", answer(413, "")),
        ("ntfy", "topic = \"t\"", answer(413, "{\"code\":41301}")),
    ] {
        let mut world = world(kind, keys).await;
        world.hook.script(act, Some(1));
        world.hook.script(answer(200, "ok"), None);
        denial(&mut world, "Contoso School").await;
        world.deliver().await;
        assert_eq!(world.rows(STATE).await, ["dead | 1"], "{kind}");
        world.live(minutes(30)).await;
        let mails: Vec<Mail> = world.mail.mails();
        assert!(mails.iter().any(|mail| subject(mail).contains("given up")), "{kind}: {:?}", world.mail_subjects());
    }
}

#[tokio::test]
async fn a_chat_that_is_asked_too_often_says_when_to_come_back() {
    for (kind, keys, status) in
        [("teams", "", 429), ("slack", "", 429), ("ntfy", "topic = \"t\"", 429), ("ntfy", "topic = \"t\"", 507)]
    {
        let mut world = world(kind, keys).await;
        world.hook.script(WebhookAction::with_header(status, "Retry-After", "600"), Some(1));
        world.hook.script(answer(200, "ok"), None);
        denial(&mut world, "Contoso School").await;
        world.deliver().await;
        let asked = if status == 507 { seconds(7) } else { seconds(601) };
        if status == 429 {
            world.pass(minutes(9));
            world.deliver().await;
            assert_eq!(world.rows(STATE).await, ["pending | 1"], "{kind}: too early");
        }
        world.pass(asked);
        world.deliver().await;
        assert_eq!(world.rows(STATE).await, ["delivered | 2"], "{kind} {status}");
    }
}

#[tokio::test]
async fn a_channel_that_was_removed_ends_no_message_however_long_it_takes() {
    for (kind, keys, act, look_at) in [
        ("slack", "", answer(404, "no_service"), "HTTP 404 Not Found (look at the URL)"),
        ("slack", "", answer(410, "channel_is_archived"), "HTTP 410 Gone (look at the URL)"),
        (
            "teams",
            "",
            answer(401, "{\"error\":{\"code\":\"DirectApiAuthorizationRequired\"}}"),
            "HTTP 401 Unauthorized (look at the URL)",
        ),
        ("ntfy", "topic = \"t\"", answer(403, "{\"code\":40301}"), "HTTP 403 Forbidden (look at token_file)"),
        // Signed, as ever.
        (
            "webhook",
            "secret_file = \"signing-secret\"\n",
            answer(401, "no"),
            "HTTP 401 Unauthorized (look at secret_file): no",
        ),
    ] {
        let mut world = world(kind, keys).await;
        world.hook.script(act, None);
        denial(&mut world, "Contoso School").await;
        world.deliver().await;
        assert!(world.rows(SAID).await[0].contains(look_at), "{kind}: {:?}", world.rows(SAID).await);
        world.pass(hours(24 * 8));
        world.deliver().await;
        world.hook.clear_script();
        world.hook.script(answer(200, "ok"), None);
        world.pass(hours(1));
        world.deliver().await;
        assert!(world.rows(STATE).await[0].starts_with("delivered"), "{kind}: {:?}", world.rows(STATE).await);
    }
}

/// The address's path is a secret, but no word of ours is blacked out for it.
#[tokio::test]
async fn what_vetwatch_says_itself_is_whole_whatever_the_url_is_made_of() {
    let desk = files(&[]);
    for (path, act, said) in [
        (
            "redirect/follows",
            WebhookAction::Answer {
                status: 302,
                headers: vec![("location".to_owned(), "https://contoso.example/login".to_owned())],
                body: String::new(),
            },
            "it redirects to https://contoso.example, and redirects are not followed; configure the final URL",
        ),
        ("unauthorized/secret_file", answer(401, ""), "HTTP 401 Unauthorized (look at secret_file)"),
    ] {
        let change = |text: String| {
            let (before, after) = text.split_once("/hook\"").unwrap();
            let (before, place) = before.rsplit_once("url = \"").unwrap();
            let file = desk.path().join("url");
            std::fs::write(&file, format!("{place}/{path}")).unwrap();
            format!("{before}url_file = \"{}\"{after}", file.display())
        };
        let mut world = World::edited("", "", change).await;
        world.hook.script(act, None);
        denial(&mut world, "Contoso School").await;
        world.deliver().await;
        let told = world.rows(SAID).await;
        assert!(told[0].contains(said), "{path}: {told:?}");
    }
}

#[tokio::test]
async fn an_ntfy_topic_and_its_token_are_sent_and_never_stored_or_shown() {
    let files = files(&[("topic", "S3CRET-topic\n"), ("token", "tk_S3CRET\n")]);
    let path = |name: &str| files.path().join(name).display().to_string();
    let keys = format!("topic_file = \"{}\"\ntoken_file = \"{}\"\n", path("topic"), path("token"));
    let mut world = world("ntfy", &keys).await;
    world.hook.script(answer(500, "no room for S3CRET-topic with Bearer tk_S3CRET"), Some(1));
    denial(&mut world, "Contoso School").await;
    world.deliver().await;
    world.live(minutes(5)).await;
    let hook = world.hook.hooks().remove(1);
    assert_eq!((hook.path.as_str(), hook.header("authorization")), ("/", Some("Bearer tk_S3CRET")));
    assert_eq!(hook.json()["topic"], "S3CRET-topic");
    assert_eq!(hook.json()["priority"], 4);
    let kept = format!("{:?} {:?} {:?}", world.rows(MESSAGE).await, world.rows(SAID).await, world.config.endpoints);
    assert!(kept.contains("Contoso School") && kept.contains("[hidden]") && !kept.contains("S3CRET"), "{kept}");
}

#[tokio::test]
async fn pagerduty_gets_its_routing_key_and_the_database_does_not() {
    let files = files(&[("key", "R0UTINGKEY")]);
    let keys = format!(
        "template_file = \"{}\"\ntemplate_secret_file = \"{}\"\nmax_events = 1\n",
        recipe("pagerduty.json.j2").display(),
        files.path().join("key").display()
    );
    let mut world = world("webhook", &keys).await;
    world.hook.script(answer(400, "{\"errors\":[\"R0UTINGKEY is no routing key\"]}"), Some(1));
    world.hook.script(answer(202, "{\"status\":\"success\"}"), None);
    denial(&mut world, "Contoso School").await;
    world.deliver().await;
    world.live(minutes(5)).await;
    let hooks = world.hook.hooks();
    assert_eq!(hooks.len(), 2);
    let (first, sent) = (&hooks[0], &hooks[1]);
    assert_eq!(first.body, sent.body);
    assert_eq!(sent.json()["routing_key"], "R0UTINGKEY");
    assert_eq!((&sent.json()["event_action"], sent.header("webhook-signature")), (&"trigger".into(), None));
    assert!(sent.id().is_some(), "who can use it may drop what came twice");
    let kept = format!("{:?} {:?} {:?}", world.rows(MESSAGE).await, world.rows(SAID).await, world.config.endpoints);
    assert!(kept.contains("Contoso School") && kept.contains("[hidden]") && !kept.contains("R0UTING"), "{kept}");
}

#[tokio::test]
async fn a_ticket_system_that_refuses_the_login_gets_its_ticket_once_it_takes_it() {
    let files = files(&[("login", "Basic S3CRETbase64==")]);
    let keys = format!(
        "template_file = \"{}\"\nauthorization_file = \"{}\"\nsecret_file = \"signing-secret\"\n",
        recipe("jira.json.j2").display(),
        files.path().join("login").display()
    );
    let mut world = world("webhook", &keys).await;
    world.hook.script(answer(401, "S3CRETbase64== is not known"), None);
    denial(&mut world, "Contoso School").await;
    world.deliver().await;
    let said = world.rows(SAID).await;
    assert!(
        said[0].contains("HTTP 401 Unauthorized (look at secret_file and authorization_file): [hidden]"),
        "{said:?}"
    );
    world.pass(hours(24 * 8));
    world.deliver().await;
    world.hook.clear_script();
    world.hook.script(answer(201, "{\"key\":\"CSP-1\"}"), None);
    world.pass(hours(1));
    world.deliver().await;
    let hook = world.hook.hooks().pop().unwrap();
    assert_eq!(hook.header("authorization"), Some("Basic S3CRETbase64=="));
    assert_eq!(hook.signature, vetwatch::sandbox::webhook_receiver::Signature::Valid, "signed all the same");
    assert!(world.rows(STATE).await[0].starts_with("delivered"));
    assert!(!format!("{:?} {:?}", world.rows(SAID).await, world.config.endpoints).contains("S3CRET"));
}

#[tokio::test]
async fn a_template_that_fails_on_a_message_costs_its_form_and_not_the_message() {
    let traps = [
        ("application/json", "{\"n\": {% if message.items[0].title == \"Trap School\" %}{{ nowhere }}{% endif %}1}"),
        ("application/json", "{\"n\": {% if message.items[0].title == \"Trap School\" %},{% endif %}1}"),
        ("text/plain", "{% if message.items[0].title == \"Trap School\" %}{{ nowhere }}{% endif %}news"),
    ];
    for (content_type, template) in traps {
        let files = files(&[("t", template)]);
        let path = files.path().join("t").display().to_string();
        let mut world =
            world("webhook", &format!("template_file = \"{path}\"\ncontent_type = \"{content_type}\"\n")).await;
        denial(&mut world, "Contoso School").await;
        denial(&mut world, "Trap School").await;
        world.deliver().await;
        let hooks = world.hook.hooks();
        assert_eq!(hooks.len(), 2, "{template}");
        let own: Vec<_> =
            hooks.iter().filter(|hook| String::from_utf8_lossy(&hook.body).contains("Trap School")).collect();
        assert_eq!(own.len(), 1, "{template}");
        assert_eq!(own[0].header("content-type"), Some(content_type));
        if content_type == "application/json" {
            assert_eq!((&own[0].json()["type"], world.clock.now() > START), (&"vetting.denied".into(), true));
        }
        assert_eq!(world.rows(STATE).await, ["delivered | 1", "delivered | 1"]);
        // Said of the message and of the endpoint, until the template is another one or a week has passed.
        let failed = "select count(*) from delivery where template_error is not null and message like '%Trap School%'";
        assert_eq!(world.rows(failed).await, ["1"], "{template}");
        assert_eq!(world.rows("select count(*) from delivery where template_error is not null").await, ["1"]);
        let told = needs(&world).await;
        assert!(
            matches!(told.as_slice(), [need] if need.reason == Reason::TemplateFailed && need.text.contains("template of crm")),
            "{template}: {told:?}"
        );
        world.restart().await;
        assert_eq!(needs(&world).await.len(), 1, "{template}: it is still the same");
        std::fs::write(files.path().join("t"), "{\"news\": 1}").unwrap();
        let folder = world.config.database.parent().unwrap();
        world.config = Config::load(&folder.join("vetwatch.toml"), &CredentialDirs::only(folder)).unwrap();
        world.restart().await;
        assert!(needs(&world).await.is_empty(), "{template}");
    }
}

/// What `status` says of the endpoints.
async fn needs(world: &World) -> Vec<Need> {
    let now = world.clock.now();
    let states = world.store.endpoint_states(now).await.unwrap();
    let facts = Facts { endpoints: states.into_iter().map(|state| (state, true)).collect(), ..Facts::default() };
    attention::needs(&facts, now)
}

#[tokio::test]
async fn people_read_the_time_of_their_zone_and_programs_utc() {
    // At 09:15 UTC.
    let zone = "timezone = \"Europe/Amsterdam\"";
    let template = format!("template_file = \"{}\"\n", recipe("mattermost.json.j2").display());
    for (kind, keys, people) in [
        ("teams", "", true),
        ("slack", "", true),
        ("ntfy", "topic = \"t\"", true),
        ("webhook", template.as_str(), true),
        ("webhook", "secret_file = \"signing-secret\"\n", false),
    ] {
        let mut world = world_in(zone, kind, keys).await;
        world.hook.script(answer(200, "ok"), None);
        denial(&mut world, "Contoso School").await;
        world.deliver().await;
        let told = world.hook.hooks().remove(0).json();
        assert_eq!(says(&told, "10:15 CET on 24 Nov 2025"), people, "{kind} {keys}: {told}");
        assert_eq!(told["timestamp"].as_str().is_some_and(|at| at.starts_with("2025-11-24T09:15:")), !people, "{told}");
        let mail = plain_text(&world.mail.mails()[0]);
        assert!(mail.contains("between 10:00 and 10:15 CET on 24 Nov 2025"), "{mail}");
        assert!(mail.contains("Correlation ID: ") && mail.contains(", of 24 Nov 2025, 09:15:"), "{mail}");
    }
}

#[tokio::test]
async fn an_alert_about_an_endpoint_is_in_the_readers_time_and_names_no_partner() {
    let mut world = world_in("timezone = \"Europe/Amsterdam\"", "webhook", "secret_file = \"signing-secret\"\n").await;
    world.hook.script(answer(500, "no"), None);
    denial(&mut world, "Contoso School").await;
    world.live(hours(1)).await;
    let mail =
        world.mail.mails().iter().map(plain_text).find(|text| text.contains("The endpoint crm has not delivered"));
    let mail = mail.expect("an alert");
    assert!(mail.contains("has not delivered since 24 Nov 2025, 10:") && mail.contains(" CET (09:"), "{mail}");
    assert!(!mail.contains("emea") && !mail.contains("UTC\nEndpoint"), "{mail}");
    world.hook.clear_script();
    world.hook.script(answer(200, "ok"), None);
    world.live(hours(1)).await;
    let told: Vec<_> = world.hook.hooks().iter().map(WebhookRequest::json).collect();
    let over = told.iter().find(|json| json["type"] == "monitor.endpoint_recovered").expect("its end");
    assert_eq!(over["data"].get("partner"), Some(&Value::Null), "{over}");
}

/// Messages about each type of event and digests, with names of the given text.
fn messages(text: &str) -> Vec<Message> {
    let event = |kind: EventType| {
        let mut event = sample::event(kind, Uuid::from_u128(1), "emea", START);
        event.data.test = false;
        if let EventPayload::Vetting(change) = &mut event.data.subject
            && !text.is_empty()
        {
            text.clone_into(&mut change.customer.name);
            change.vetting_reason = Some(text.to_owned());
            text.clone_into(&mut change.qualification);
            change.customer.tags = vec![text.to_owned()];
        }
        event
    };
    let all: Vec<Event> = EventType::ALL.iter().copied().map(event).collect();
    let zone = chrono_tz::Europe::Amsterdam;
    let mut messages: Vec<_> = all.iter().map(|event| Message::of(std::slice::from_ref(event), zone)).collect();
    messages.push(Message::of(&all, zone));
    messages.push(Message::of(&vec![event(EventType::Denied); 40], zone));
    messages.push(
        Message::of(&[event(EventType::Denied)], zone).with_note("Sent here because sales-mail has not taken it."),
    );
    let linked = |message: &Message| message.clone().with_pages(Some("https://vetting.contoso.example/"));
    let linked: Vec<_> = messages.iter().map(linked).collect();
    messages.extend(linked);
    messages
}

#[test]
fn cards_and_blocks_are_what_their_services_publish() {
    let texts = ["", "<!channel> {{DATE(x)}} [a](b) *c* \"},{\" & </at>", &"🏫&".repeat(400)];
    let all: Vec<Message> = texts.iter().flat_map(|text| messages(text)).collect();
    let of = |body: fn(&Message) -> String| all.iter().map(|one| serde_json::from_str(&body(one)).unwrap()).collect();
    let (teams, slack): (Vec<Value>, Vec<Value>) = (of(teams::body), of(slack::body));
    let check = |teams: &[Value], slack: &[Value]| {
        run("check_cards.py", Path::new("-"), &json!({"teams": teams, "slack": slack}))
    };
    assert_eq!(check(&teams, &slack), Ok(json!({"teams": all.len(), "slack": all.len()})));
    // The check knows what is wrong.
    let wrong_card = |pointer: &str, value: Value| {
        let mut card = teams[0].clone();
        *card.pointer_mut(&format!("/attachments/0/content{pointer}")).unwrap() = value;
        check(&[card], &slack[..1])
    };
    for (pointer, value) in [
        ("/body/0/style", json!("danger")),
        ("/body/0/items/0/inlines/0/weight", json!("Bold")),
        ("/body/0/items", json!("text")),
        ("/msteams/width", json!("full")),
        ("/body/0/type", json!("Box")),
    ] {
        assert!(wrong_card(pointer, value).is_err(), "{pointer}");
    }
    let wrong_block = |block: Value| {
        let mut message = slack[0].clone();
        message["blocks"][0] = block;
        check(&teams[..1], &[message])
    };
    for block in [
        json!({"type": "header", "text": {"type": "plain_text", "text": "W".repeat(151), "emoji": false}}),
        json!({"type": "header", "text": {"type": "mrkdwn", "text": "W", "verbatim": true}}),
        json!({"type": "section", "text": {"type": "plain_text", "text": "W".repeat(3001), "emoji": false}}),
        json!({"type": "section"}),
        json!({"type": "section", "txet": {"type": "plain_text", "text": "W", "emoji": false}}),
    ] {
        assert!(wrong_block(block.clone()).is_err(), "{block}");
    }
}

//! Chats, and webhooks with a template.

use super::*;
use crate::delivery::chat::ChatSettings;

/// The example with this endpoint instead of its webhook.
fn with(desk: &Desk, endpoint: &str) -> Result<Config, Problems> {
    let (before, rest) = EXAMPLE.split_once("kind = \"webhook\"").unwrap();
    let (_, after) = rest.split_once("# Others;").unwrap();
    desk.load(&format!("{before}{endpoint}\n# Others;{after}"))
}

fn chat(desk: &Desk, endpoint: &str) -> ChatSettings {
    let config = with(desk, endpoint).unwrap();
    match config.endpoints[2].kind.clone() {
        EndpointKind::Chat(settings) => settings,
        other => panic!("no chat: {other:?}"),
    }
}

fn problems(desk: &Desk, endpoint: &str) -> String {
    let problems = with(desk, endpoint).expect_err("problems").to_string();
    problems.replace(&desk.0.path().display().to_string(), "DIR").replace("vetwatch.toml: endpoint[2]", "")
}

#[test]
fn a_chat_is_read_and_nothing_of_it_shown_but_its_host() {
    let desk = Desk::new();
    desk.secret("url", "https://prod-01.westeurope.logic.azure.com/workflows/T0KEN?sig=S3CRET\n");
    desk.secret("slack", "https://hooks.slack.com/services/T0KEN/S3CRET\n");
    desk.secret("topic", "T0KEN-topic\n");
    desk.secret("token", "tk_S3CRET\n");
    let ntfy = "kind = 'ntfy'\nurl = 'https://ntfy.contoso.example'\ntopic_file = 'topic'\ntoken_file = 'token'";
    let mut prints = Vec::new();
    for (endpoint, host) in [
        ("kind = 'teams'\nurl_file = 'url'", "prod-01.westeurope.logic.azure.com"),
        ("kind = 'slack'\nurl_file = 'slack'", "hooks.slack.com"),
        (ntfy, "ntfy.contoso.example"),
    ] {
        let settings = chat(&desk, endpoint);
        assert_eq!(settings.http.url.host_str(), Some(host));
        let config = with(&desk, endpoint).unwrap();
        let shown = format!("{settings:?} {config:?} {:?}", crate::cli::check::Summary::of(&config));
        assert!(shown.contains(host) && !shown.contains("T0KEN") && !shown.contains("S3CRET"), "{shown}");
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        prints.push(config.endpoints[2].fingerprint());
    }
    let topic = chat(&desk, ntfy).topic.unwrap();
    assert_eq!((topic.name.expose_secret(), topic.token.unwrap().expose_secret()), ("T0KEN-topic", "tk_S3CRET"));
    desk.secret("topic", "another\n");
    assert_ne!(with(&desk, ntfy).unwrap().endpoints[2].fingerprint(), prints[2], "another topic is another place");
}

#[test]
fn a_webhook_url_of_a_channel_in_plain_sight_is_warned_of_as_is_one_of_a_connector() {
    let desk = Desk::new();
    let warnings = |endpoint: &str| {
        with(&desk, endpoint).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let slack = warnings("kind = 'slack'\nurl = 'https://hooks.slack.com/services/T/B/S3CRET'");
    assert!(slack.starts_with("endpoint \"crm\": url: ") && !slack.contains("S3CRET"), "{slack}");
    desk.secret("url", "https://contoso.webhook.office.com/webhookb2/S3CRET\n");
    let teams = warnings("kind = 'teams'\nurl_file = 'url'");
    assert!(teams.contains("Workflows webhook") && !teams.contains("S3CRET"), "{teams}");
}

#[test]
fn what_is_wrong_with_a_chat_is_shown() {
    let desk = Desk::new();
    desk.secret("bad", "S3CRET topic");
    desk.secret("worse", "S3CRET\u{7f}");
    let of = |endpoint: &str| problems(&desk, endpoint);
    insta::assert_snapshot!(
        [
            of("kind = 'teams'"),
            of("kind = 'slack'\nurl = 'http://hooks.slack.com/services/T/B/x'\nsecret_file = 'x'"),
            of("kind = 'ntfy'\nurl = 'https://ntfy.sh/my-topic'"),
            of("kind = 'ntfy'\nurl = 'https://ntfy.contoso.example:8443/my-topic?auth=x'\ntopic = 'a'"),
            of("kind = 'ntfy'\nurl = 'http://127.0.0.1:2586/my-topic'\ntopic = 'a'"),
            of("kind = 'ntfy'\nurl = 'https://ntfy.sh'\ntopic = 'a'\ntopic_file = 'bad'"),
            of("kind = 'ntfy'\nurl = 'https://ntfy.sh'\ntopic_file = 'bad'\ntoken_file = 'worse'"),
            of("kind = 'ntfy'\nurl = 'https://ntfy.sh'\ntopic = 'a/b'\ntoken = 'S3CRET'"),
        ]
        .join("\n")
    );
}

#[test]
fn what_is_wrong_with_a_template_is_shown_with_its_line() {
    let desk = Desk::new();
    desk.secret("login", "Bearer S3CRET\u{e4}");
    let of = |template: &str, keys: &str| {
        fs::write(desk.path("t"), template).unwrap();
        let url = "url = 'https://crm.contoso.example/'";
        problems(&desk, &format!("kind = 'webhook'\n{url}\ntemplate_file = 't'\n{keys}"))
    };
    insta::assert_snapshot!(
        [
            of("{\n{{ message.subjct }}\n}", ""),
            of("{% if test %}\n{}", ""),
            of("{\"to\": {{ events[0].customer.name }},\n \"key\": {{ secret }}}", ""),
            of("{\"subject\": \"{{ message.subject }}\"}", ""),
            of("{}", "content_type = 'json'\nauthorization_file = 'login'\nmax_events = 0"),
            problems(&desk, "kind = 'webhook'\nurl = 'https://x.example'\ntemplate_file = 'none'\n"),
            problems(&desk, "kind = 'webhook'\nurl = 'https://x.example'\ncontent_type = 'text/plain'"),
        ]
        .join("\n")
    );
}

#[test]
fn a_webhook_in_its_own_form_need_not_be_signed_and_holds_fewer_events() {
    let desk = Desk::new();
    fs::write(desk.path("t"), "{{ message.subject }}").unwrap();
    let read = |keys: &str| {
        let config = with(&desk, &format!("kind = 'webhook'\nurl = 'https://x.example'\n{keys}")).unwrap();
        let EndpointKind::Webhook(webhook) = config.endpoints[2].kind.clone() else { panic!("not a webhook") };
        (webhook.secrets.len(), webhook.max_events, webhook.template.is_some())
    };
    let signed = "secret_file = 'crm-signing-secret'";
    assert_eq!(read(signed), (1, 100, false));
    assert_eq!(read("template_file = 't'"), (0, 20, true));
    assert_eq!(read(&format!("template_file = 't'\nmax_events = 1\n{signed}")), (1, 1, true));
}

#[test]
fn the_url_of_another_service_is_a_problem_and_is_not_shown() {
    let desk = Desk::new();
    desk.secret("teams", "https://prod-01.westeurope.logic.azure.com/workflows/T0KEN?sig=S3CRET\n");
    desk.secret("slack", "https://hooks.slack.com/services/T0KEN/S3CRET\n");
    let found = problems(&desk, "kind = 'slack'\nurl_file = 'teams'");
    assert!(found.ends_with("endpoint \"crm\": kind: the URL is a Teams webhook's: write kind = \"teams\""), "{found}");
    let found = problems(&desk, "kind = 'teams'\nurl_file = 'slack'");
    assert!(found.ends_with("endpoint \"crm\": kind: the URL is a Slack webhook's: write kind = \"slack\""), "{found}");
    let config = with(&desk, "kind = 'webhook'\nsecret_file = 'crm-signing-secret'\nurl_file = 'slack'").unwrap();
    assert!(config.warnings[0].text.ends_with("write kind = \"slack\""), "{:?}", config.warnings);
}

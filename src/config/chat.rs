//! `[[endpoint]]` of a chat service's kind: `teams`, `slack`, `ntfy`.

use url::Url;

use super::address;
use super::http;
use super::section::Section;
use super::values::unknown_kind;
use crate::delivery::chat::{ChatService, ChatSettings, ntfy, slack, teams};
use crate::delivery::http::{HttpSettings, origin};

type Read = fn(&mut Section<'_>) -> Option<ChatSettings>;

/// The services, and how the keys of each are read.
const SERVICES: [(&ChatService, Read); 3] =
    [(&teams::SERVICE, teams), (&slack::SERVICE, slack), (&ntfy::SERVICE, ntfy)];

/// True for the kinds of endpoints that there are.
pub(super) fn is_kind(kind: &str) -> bool {
    matches!(kind, "email" | "webhook") || SERVICES.iter().any(|(service, _)| service.name == kind)
}

/// Reads the endpoint of a chat service, or reports that there is no such kind of endpoint.
pub(super) fn read(section: &mut Section<'_>, kind: &str) -> Option<ChatSettings> {
    if let Some((_, read)) = SERVICES.iter().find(|(service, _)| service.name == kind) {
        return read(section);
    }
    let chats = SERVICES.iter().map(|(service, _)| service.name);
    let known: Vec<_> = ["email", "webhook"].into_iter().chain(chats).collect();
    section.problem("kind", unknown_kind(kind, &known));
    section.discard_rest();
    None
}

fn teams(section: &mut Section<'_>) -> Option<ChatSettings> {
    let http = channel(section)?;
    if of_kind(&http.url) == Some("slack") {
        section.problem("kind", "the URL is a Slack webhook's: write kind = \"slack\"");
        return None;
    }
    let old =
        http.url.host_str().is_some_and(|host| host == "outlook.office.com" || host.ends_with(".webhook.office.com"));
    if old {
        section.warning(
            "",
            "its URL is of an Office 365 connector, which Microsoft switches off: make a Workflows webhook instead",
        );
    }
    Some(ChatSettings { http, service: &teams::SERVICE, topic: None })
}

fn slack(section: &mut Section<'_>) -> Option<ChatSettings> {
    let http = channel(section)?;
    if of_kind(&http.url) == Some("teams") {
        section.problem("kind", "the URL is a Teams webhook's: write kind = \"teams\"");
        return None;
    }
    Some(ChatSettings { http, service: &slack::SERVICE, topic: None })
}

/// The kind of endpoint that a URL belongs to, if its host shows it.
pub(super) fn of_kind(url: &Url) -> Option<&'static str> {
    let host = url.host_str()?;
    let is_in = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if host == "hooks.slack.com" || host == "hooks.slack-gov.com" {
        Some("slack")
    } else if ["webhook.office.com", "logic.azure.com", "powerplatform.com"].into_iter().any(is_in) {
        Some("teams")
    } else {
        None
    }
}

/// Reads the URL of a channel's webhook, which is a secret: it permits writing there.
fn channel(section: &mut Section<'_>) -> Option<HttpSettings> {
    let written = section.has("url");
    let http = http::read(section)?;
    if written && !address::is_loopback(&http.url) {
        section.warning(
            "url",
            "all who know this URL can write into the channel: put it in a file, and that file's name in url_file",
        );
    }
    // Secret even if given as `url`.
    let http = HttpSettings { is_secret: true, ..http };
    Some(http)
}

fn ntfy(section: &mut Section<'_>) -> Option<ChatSettings> {
    match (section.has("topic"), section.has("topic_file")) {
        (true, true) => section.problem("topic", "stands beside topic_file: delete one of the two"),
        (false, false) => {
            section.require_or("topic", "is missing (or topic_file, as all who know a topic can read it)");
        }
        _ => {}
    }
    let key = if section.has("url_file") { "url_file" } else { "url" };
    let mut http = http::read(section);
    // ntfy would take it for a topic, and the JSON for a text.
    if let Some(settings) = http.take_if(|http| http.url.path() != "/" || http.url.query().is_some()) {
        let server = origin(&settings.url);
        section
            .problem(key, format!("contains more than the server ({server}/): the topic goes in topic or topic_file"));
    }
    let token = section.secret_in_header("token_file");
    let topic = section.string("topic").map(|topic| ("topic", topic.into()));
    let topic = topic.or(section.secret("topic_file").map(|topic| ("topic_file", topic)));
    let (key, name) = topic?;
    let topic = ntfy::Topic::new(name, token?).map_err(|problem| section.problem(key, problem)).ok();
    Some(ChatSettings { http: http?, service: &ntfy::SERVICE, topic: Some(topic?) })
}

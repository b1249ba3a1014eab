//! `[[endpoint]]` of the kinds `teams`, `slack` and `ntfy`.

use super::address;
use super::http;
use super::section::Section;
use crate::delivery::chat::{ChatService, ChatSettings, ntfy};
use crate::delivery::http::HttpSettings;

pub(super) fn teams(section: &mut Section<'_>) -> Option<ChatSettings> {
    let http = channel(section)?;
    let old =
        http.url.host_str().is_some_and(|host| host == "outlook.office.com" || host.ends_with(".webhook.office.com"));
    if old {
        section.warning(
            "",
            "its URL is of an Office 365 connector, which Microsoft switches off: make a Workflows webhook instead",
        );
    }
    Some(ChatSettings { http, service: ChatService::Teams })
}

pub(super) fn slack(section: &mut Section<'_>) -> Option<ChatSettings> {
    Some(ChatSettings { http: channel(section)?, service: ChatService::Slack })
}

/// Reads the URL of a channel's webhook, which is a secret: it permits writing there.
fn channel(section: &mut Section<'_>) -> Option<HttpSettings> {
    let written = section.has("url");
    let http = http::read(section)?;
    if written && !address::is_loopback(&http.url) {
        section
            .warning("url", "anybody who knows this URL can write into the channel: put it into a file, with url_file");
    }
    // Secret even if given as `url`.
    let http = HttpSettings { is_secret: true, ..http };
    Some(http)
}

pub(super) fn ntfy(section: &mut Section<'_>) -> Option<ChatSettings> {
    match (section.has("topic"), section.has("topic_file")) {
        (true, true) => section.problem("topic", "stands beside topic_file; only one of them can be"),
        (false, false) => section.require_or("topic", "is missing (or topic_file: who knows a topic can read it)"),
        _ => {}
    }
    let key = if section.has("url_file") { "url_file" } else { "url" };
    let mut http = http::read(section);
    // ntfy would take it for a topic, and the JSON for a text.
    if let Some(settings) = http.take_if(|http| http.url.path() != "/" || http.url.query().is_some()) {
        let server = settings.url.host_str().unwrap_or_default();
        section.problem(
            key,
            format!("is more than the server's address (https://{server}/); the topic has a key of its own"),
        );
    }
    let token = section.secret_in_header("token_file");
    let topic = section.string("topic").map(|topic| ("topic", topic.into()));
    let topic = topic.or(section.secret("topic_file").map(|topic| ("topic_file", topic)));
    let (key, name) = topic?;
    let topic = ntfy::Topic::new(name, token?).map_err(|problem| section.problem(key, problem)).ok();
    Some(ChatSettings { http: http?, service: ChatService::Ntfy(topic?) })
}

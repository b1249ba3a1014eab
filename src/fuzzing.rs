//! Fuzz targets, as those of `vetwatch_partner_center::fuzzing`. Not a part of the program.

use std::path::Path;
use std::sync::LazyLock;

use chrono_tz::UTC;
use reqwest::header::HeaderValue;
use secrecy::SecretString;
use serde::de::IgnoredAny;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use crate::cli;
use crate::config::{Config, CredentialDirs};
use crate::delivery::message::sample;
use crate::delivery::webhook::Template;
use crate::delivery::{email, http};
use crate::event::EventType;
use crate::store::UnrenderedDelivery;
use crate::text;
use crate::time::Timestamp;
use crate::web;

/// A name in `fuzz/src/bin` and `fuzz/corpus`, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: [Target; 6] = [
    ("configuration", configuration),
    ("customers_csv", customers_csv),
    ("http_answers", http_answers),
    ("mail_replies", mail_replies),
    ("page_requests", page_requests),
    ("templates", templates),
];

/// A secret that the stored inputs repeat. No result shows eight characters of it.
pub(crate) const SECRET: &str = "kX9-q7Wz.Tr4_mBv2~pL8";

pub(crate) static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

/// The files with secrets that a configuration may name.
pub(crate) fn drafts() -> Vec<(String, SecretString)> {
    let of = |name: &str, text: &str| (name.to_owned(), SecretString::from(text));
    vec![
        of("client-secret", SECRET),
        of("smtp-password", "the-smtp-password-aB3x"),
        of("crm-url", "https://crm.contoso.example/hooks/the-secret-url-aB3x"),
        of("crm-signing-secret", "whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u"),
        of("web-token", "the-token-of-the-page-aB3x"),
    ]
}

/// A configuration file.
pub fn configuration(input: &[u8]) {
    let Ok(file) = std::str::from_utf8(input) else { return };
    let credentials = CredentialDirs { service: None, fallback: "/no/such".into(), drafts: drafts() };
    let lines = file.matches('\n').count() + 1;
    let parsed = Config::parse(Path::new("/no/such/vetwatch.toml"), file, &credentials);
    let (warnings, shown) = match parsed {
        Ok(config) => (config.warnings.clone(), format!("{config:?}")),
        Err(problems) => {
            assert!(!problems.problems.is_empty());
            let shown = problems.to_string();
            assert!(shown.lines().all(is_line), "{shown}");
            assert!(!shown.contains("a mistake of vetwatch"), "{shown}");
            // Of a file that is not TOML only headers and our keys are shown.
            let is_toml = problems.problems.iter().all(|problem| problem.excerpt.is_empty());
            let headers = file.split(['\n', '\r']).filter(|line| line.trim_start().starts_with('['));
            assert!(is_toml || headers.into_iter().any(shows_secret) || !shows_secret(&shown), "{shown}");
            ([problems.problems, problems.warnings].concat(), shown)
        }
    };
    for problem in warnings {
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem:?} of {lines} lines");
    }
    // A secret that was put into the file itself may be shown as what it was meant to be, such as a name.
    let in_file = file.contains(&SECRET[..8]);
    for secret in ["the-smtp-password-aB3x", "the-secret-url-aB3x", "MDEyMzQ1Njc4OWFi", "the-token-of-the-page-aB3x"] {
        assert!(file.contains(secret) || !shown.contains(secret), "{shown}");
    }
    assert!(in_file || !shows_secret(&shown), "{shown}");
}

/// A file of `customers import`.
pub fn customers_csv(input: &[u8]) {
    cli::customers::import::fuzzing::customers_csv(input);
}

/// The answer of a webhook's receiver or a chat service.
pub fn http_answers(input: &[u8]) {
    http::fuzzing::http_answers(input);
}

/// What a mail server says.
pub fn mail_replies(input: &[u8]) {
    email::fuzzing::mail_replies(input);
}

/// A request for a page.
pub fn page_requests(input: &[u8]) {
    web::fuzzing::page_requests(input);
}

/// A template of the administrator's: the content type on the first line, the template below it.
pub fn templates(input: &[u8]) {
    let Some((content_type, source)) = std::str::from_utf8(input).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    let Ok(content_type) = HeaderValue::from_str(content_type) else { return };
    let lines = source.lines().count() + 1;
    let check = |flaw: &crate::delivery::webhook::TemplateError| {
        assert!(is_line(&flaw.text) && flaw.line.is_none_or(|line| (1..=lines).contains(&line)), "{flaw:?}");
        assert!(source.contains(&SECRET[..8]) || !shows_secret(&flaw.text), "{flaw:?}");
    };
    let template = match Template::parse(source.to_owned(), content_type, Some(format!("{SECRET}\"\\").into())) {
        Ok(template) => template,
        Err(flaw) => return check(&flaw),
    };
    let event = |kind| sample::event(kind, Uuid::nil(), "sample", Timestamp::from_millis(1_763_974_800_000));
    let digest = [EventType::Denied, EventType::PartnerFailing].map(event).to_vec();
    for events in [vec![event(EventType::Denied)], digest] {
        let delivery = UnrenderedDelivery::new(Uuid::from_u128(7), events, UTC);
        match template.render(&delivery) {
            Ok(body) => {
                assert!(body.len() <= 1 << 20, "{} bytes", body.len());
                assert!(source.contains(&SECRET[..8]) || !shows_secret(&body), "{body}");
                let sent = template.complete(delivery.id, &body);
                let is_json = serde_json::from_str::<IgnoredAny>(&sent).is_ok();
                assert!(!template.is_json() || is_json, "{sent}");
            }
            Err(flaw) => check(&flaw),
        }
    }
}

/// Without characters that act on a terminal.
pub(crate) fn is_line(text: &str) -> bool {
    text::terminal(text) == text
}

pub(crate) fn shows_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    SECRET.to_ascii_lowercase().as_bytes().windows(8).any(|part| text.as_bytes().windows(8).any(|there| there == part))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_stored_input_passes_its_target() {
        for (name, target) in TARGETS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let inputs: Vec<_> = fs::read_dir(&corpus).unwrap().map(|file| file.unwrap().path()).collect();
            assert!(!inputs.is_empty(), "{name} has no input");
            for path in inputs {
                eprintln!("{}", path.display()); // shown if it fails
                target(&fs::read(&path).unwrap());
            }
        }
    }
}

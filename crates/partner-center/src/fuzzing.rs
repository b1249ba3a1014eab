//! Fuzz targets: each takes any bytes, and panics if what is made of them breaks a promise. `tests/campaign
//! fuzz-coverage` runs them coverage-guided; the tests replay the stored inputs. Not a part of the program.

pub(crate) mod snapshot;

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use serde_json::Value;

use crate::api_error::ApiError;
use crate::client::{audit, validation_codes};
use crate::date;
use crate::entra;
use crate::error::Error;
use crate::http::Reply;
use crate::json::without_bom;
use crate::wire;
use vetwatch_core::redact::Known;
use vetwatch_core::retry::{MAX_RETRY_AFTER, retry_after};
use vetwatch_core::text;
use vetwatch_core::time::Timestamp;

/// A name in `fuzz/src/bin` and `fuzz/corpus`, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: [Target; 6] = [
    ("qualifications", qualifications),
    ("lists", lists),
    ("dates", dates),
    ("error_bodies", error_bodies),
    ("sign_in", sign_in),
    ("certificates", certificates),
];

/// A secret that the stored inputs repeat. No message shows eight characters of it.
pub(crate) const SECRET: &str = "kX9-q7Wz.Tr4_mBv2~pL8";

const NOW: Timestamp = Timestamp::from_millis(1_795_262_400_000);

/// A response about a customer's qualifications.
pub fn qualifications(body: &[u8]) {
    if let Err(wrong) = snapshot::judge(body) {
        panic!("{wrong}");
    }
}

/// A page of the customer list, of the activity log, and the validation codes.
pub fn lists(body: &[u8]) {
    let value: Option<Value> = serde_json::from_slice(without_bom(body)).ok();
    let items = value.as_ref().and_then(|value| value.as_object()).and_then(|object| {
        object.iter().find(|(key, _)| key.eq_ignore_ascii_case("items")).and_then(|(_, items)| items.as_array())
    });
    let count = items.map(Vec::len);
    if let Ok(page) = wire::customers(body, 1) {
        assert_eq!(Some(page.customers.len()), count, "a customer was lost or invented");
        for customer in &page.customers {
            assert!(!customer.id.is_empty(), "a customer without an id");
            let relationship = customer.relationship.as_deref().unwrap_or_default();
            for text in [&customer.id, &customer.name, &customer.domain, relationship] {
                assert!(is_line(text, 200), "{text:?}");
            }
        }
        assert!(page.next.is_none_or(|token| !token.is_empty() && count != Some(0)), "an empty page has a next one");
    }
    if let Ok(page) = audit::operations(body, 1) {
        assert_eq!(Some(page.read.len() + page.skipped), count, "a record was lost or invented");
        for operation in &page.read {
            assert!(is_line(&operation.customer_id, 200) && is_line(&operation.customer_name, 200), "{operation:?}");
            assert!(is_plausible(operation.at), "{operation:?}");
        }
        assert!(page.next.is_none_or(|token| !token.is_empty() && count != Some(0)), "an empty page has a next one");
    }
    for code in validation_codes::read(body).unwrap_or_default() {
        assert!(!code.validation_id.is_empty() && is_line(&code.validation_id, 200), "{code:?}");
    }
}

/// A create date, and a `Retry-After`.
pub fn dates(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    if let Some(at) = date::parse(&text) {
        assert!(is_plausible(at) && date::parse(&at.to_string()) == Some(at), "the date is read as {at}");
    }
    if let Some(wait) = retry_after(&text, NOW) {
        assert!(wait <= MAX_RETRY_AFTER, "{wait:?}");
        let seconds = text.trim().parse().map_or(MAX_RETRY_AFTER.as_secs(), |n: u64| n.min(3600));
        let is_number = text.trim().bytes().all(|byte| byte.is_ascii_digit());
        assert!(!is_number || wait.as_secs() == seconds, "{wait:?}");
    }
}

/// An error response of Partner Center, as [`reply`].
pub fn error_bodies(input: &[u8]) {
    let _known = Known::of([SECRET]);
    let Some(reply) = reply(input) else { return };
    let answer = ApiError::read(reply.status, &reply.body, None);
    assert!(answer.message().is_none_or(|text| is_line(text, 300)), "{answer:?}");
    assert!(answer.code().is_none_or(|text| is_line(text, 40)), "{answer:?}");
    let error = Error::of(answer, reply.retry_after());
    // Message, code, advice and wait.
    assert!(is_line(&error.to_string(), 1000), "{error}");
    assert!(error.is_same_as(&error.to_string()), "{error}");
    assert!(!shows_secret(&format!("{error} {error:?}")), "{error:?}");
}

/// What Entra ID, the metadata service and a browser say in a sign-in.
pub fn sign_in(input: &[u8]) {
    entra::fuzzing::sign_in(input);
}

/// A certificate, DER.
pub fn certificates(der: &[u8]) {
    let Some(read) = entra::X509::read(der) else { return };
    assert!(read.thumbprint.len() == 43 && !read.public_key.is_empty() || read.public_key.len() < der.len());
    let _ = format!("{} {}", read.begins_at, read.ends_at);
    assert_eq!(entra::X509::read(&[der, &[0]].concat()), None, "bytes behind the certificate are ignored");
}

/// A response: its first line is the status, and the value of `Retry-After` if there is one; the rest is the body.
pub(crate) fn reply(input: &[u8]) -> Option<Reply> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    let (line, body) = (std::str::from_utf8(&input[..end]).ok()?, &input[end + 1..]);
    let (status, wait) = line.split_once(' ').map_or((line, None), |(status, wait)| (status, Some(wait)));
    let status = status.parse().ok().filter(|status| (100..1000).contains(status))?;
    let mut headers = HeaderMap::new();
    headers.extend(wait.and_then(|wait| Some((RETRY_AFTER, HeaderValue::from_str(wait).ok()?))));
    Some(Reply { status, reason: None, headers, body: body.to_vec(), began_at: NOW, ended_at: NOW })
}

/// One line of at most `max_chars` characters, without characters that act on a terminal.
pub(crate) fn is_line(text: &str, max_chars: usize) -> bool {
    text.chars().count() <= max_chars && text::terminal(text) == text
}

pub(crate) fn shows_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    SECRET.to_ascii_lowercase().as_bytes().windows(8).any(|part| text.as_bytes().windows(8).any(|there| there == part))
}

fn is_plausible(at: Timestamp) -> bool {
    (2000..2200).contains(&chrono::Datelike::year(&at.to_utc()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_stored_input_passes_its_target() {
        for (name, target) in TARGETS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
            let inputs: Vec<_> = fs::read_dir(&corpus).unwrap().map(|file| file.unwrap().path()).collect();
            assert!(!inputs.is_empty(), "{name} has no input");
            for path in inputs {
                eprintln!("{}", path.display()); // shown if it fails
                target(&fs::read(&path).unwrap());
            }
        }
    }
}

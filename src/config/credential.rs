//! `[partner.credential]` and `[partner.user_credential]`: credentials for Partner Center.

use std::sync::Arc;

use chrono::NaiveDate;

use super::section::Section;
use super::values::{quote, unknown_kind};
use crate::partner_center::{Certificate, ClientAuth, Credential, TokenFile};
use crate::time::Timestamp;

const SECRET: &str = "client-secret";
const CERTIFICATE: &str = "certificate";
const PLATFORM: &str = "workload-identity";
const USER: &str = "refresh-token";

/// Kind, key that selects it, keys that go with it.
const KEYS: [(&str, &str, &[&str]); 3] = [
    (SECRET, "client_secret_file", &["client_secret_expires"]),
    (CERTIFICATE, "certificate_file", &["private_key_file"]),
    (PLATFORM, "federated_token_file", &[]),
];

/// Reads a credential. `file` holds the refresh token; `None` if the partner's name is invalid.
pub(super) fn read(mut section: Section<'_>, file: Option<TokenFile>) -> Option<Credential> {
    match kind(&mut section, &[SECRET, CERTIFICATE, PLATFORM, USER])? {
        USER => users(section, file),
        kind => proof(&mut section, kind, kind).map(|proof| Credential { proof, user: None }),
    }
}

/// Reads a user's credential. The application authenticates as elsewhere unless the section says otherwise.
pub(super) fn read_user(
    mut section: Section<'_>,
    file: Option<TokenFile>,
    apps: Option<&Credential>,
) -> Option<Credential> {
    kind(&mut section, &[USER])?;
    if given(&section).is_some() {
        return users(section, file);
    }
    reject(&mut section, USER, USER);
    Some(Credential { proof: apps?.proof.clone(), user: Some(file?) })
}

fn users(mut section: Section<'_>, file: Option<TokenFile>) -> Option<Credential> {
    let given = given(&section);
    if given.is_none() {
        let text = "is missing: a refresh token is of use only to the application that it was given to, which proves \
                    itself with client_secret_file, certificate_file or federated_token_file";
        section.require_or("client_secret_file", text);
    }
    let proof = proof(&mut section, given.unwrap_or(SECRET), USER);
    Some(Credential { proof: proof?, user: Some(file?) })
}

/// Reads an application's credential; the keys show its kind.
pub(super) fn application(section: &mut Section<'_>) -> Option<ClientAuth> {
    let given = given(section);
    if given.is_none() {
        let text = "is missing (or certificate_file, or federated_token_file): the application's proof of who it is";
        section.require_or("client_secret_file", text);
    }
    proof(section, given.unwrap_or(SECRET), USER)
}

/// The kind whose key is in the section.
fn given(section: &Section<'_>) -> Option<&'static str> {
    KEYS.iter().find(|(_, key, _)| section.has(key)).map(|(kind, _, _)| *kind)
}

/// Reads the kind. If it is unknown, the other keys cannot be judged and are skipped.
fn kind<'k>(section: &mut Section<'_>, kinds: &[&'k str]) -> Option<&'k str> {
    section.require(&["kind"]);
    let found = section.string("kind").and_then(|kind| {
        let found = kinds.iter().find(|known| **known == kind).copied();
        if found.is_none() {
            let text = match kinds {
                [only] => format!("{} is no kind for a user; it is {only}", quote(&kind)),
                _ => unknown_kind(&kind, kinds),
            };
            section.problem("kind", text);
        }
        found
    });
    if found.is_none() {
        section.discard_rest();
    }
    found
}

/// Reads the keys of one kind, and reports those of the others.
fn proof(section: &mut Section<'_>, proof: &str, kind: &str) -> Option<ClientAuth> {
    reject(section, proof, kind);
    match proof {
        SECRET => {
            if kind != USER {
                section.require(&["client_secret_file"]);
            }
            let ends_at = section.parsed("client_secret_expires", day);
            section.secret("client_secret_file").map(|secret| ClientAuth::ClientSecret { secret, ends_at })
        }
        CERTIFICATE => {
            section.require(&["certificate_file"]);
            let certificates = section.secret_text("certificate_file");
            let apart = section.has("private_key_file");
            let key = if apart { section.secret_text("private_key_file") } else { certificates.clone() };
            let read = Certificate::from_pem(&certificates?, &key?);
            let place = |keys| if keys && apart { "private_key_file" } else { "certificate_file" };
            let read = read.map_err(|why| section.problem(place(why.is_the_keys()), why.to_string()));
            read.ok().map(Arc::new).map(ClientAuth::Certificate)
        }
        _ => {
            section.require(&["federated_token_file"]);
            section.secret_file("federated_token_file").map(|(path, _)| ClientAuth::WorkloadIdentity(path))
        }
    }
}

/// Reports the keys of every other kind.
fn reject(section: &mut Section<'_>, proof: &str, kind: &str) {
    for (other, key, more) in KEYS.iter().filter(|(other, _, _)| *other != proof) {
        for key in [&[*key], *more].concat() {
            let text = match kind {
                USER if proof != USER => format!("stands beside a {proof}; the application proves itself in one way"),
                _ => format!("goes with {other}, and the kind is {kind}"),
            };
            section.reject(key, &text);
        }
    }
}

/// The start of a day in UTC: a warning hours early is better than a late one.
fn day(text: &str) -> Result<Timestamp, String> {
    let date: NaiveDate = text.parse().map_err(|_| format!("{} is no day such as 2027-01-31", quote(text)))?;
    Ok(date.and_time(chrono::NaiveTime::MIN).and_utc().into())
}

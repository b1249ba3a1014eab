//! `[partner.credential]` and `[partner.user_credential]`: credentials for Partner Center.

use std::sync::Arc;

use chrono::NaiveDate;

use super::section::Section;
use super::values::{quote, unknown_kind};
use super::{address, values};
use crate::partner_center::{Certificate, ClientAuth, Credential, ManagedIdentity, TokenFile};
use crate::time::{Clock as _, SystemClock, Timestamp};

/// How an application proves who it is.
struct Proof {
    /// Its kind.
    kind: &'static str,
    /// The first one selects it.
    keys: &'static [&'static str],
    read: fn(&mut Section<'_>) -> Option<ClientAuth>,
}

const PROOFS: [Proof; 4] = [
    Proof { kind: "client-secret", keys: &["client_secret_file", "client_secret_expires"], read: client_secret },
    Proof { kind: "certificate", keys: &["certificate_file", "private_key_file"], read: certificate },
    Proof { kind: "workload-identity", keys: &["federated_token_file"], read: federated_token },
    Proof { kind: MANAGED, keys: &["managed_identity_client_id", "imds_url"], read: managed_identity },
];
/// The one kind that needs no key.
const MANAGED: &str = "managed-identity";
const USER: &str = "refresh-token";
const KINDS: &str = "is missing: client-secret, certificate, workload-identity, managed-identity or refresh-token";

/// Reads a credential. `file` holds the refresh token; `None` if the partner's name is invalid.
pub(super) fn read(mut section: Section<'_>, file: Option<TokenFile>) -> Option<Credential> {
    let kinds: Vec<_> = PROOFS.iter().map(|proof| proof.kind).chain([USER]).collect();
    let kind = kind(&mut section, &kinds)?;
    let Some(proof) = PROOFS.iter().find(|proof| proof.kind == kind) else { return users(section, file) };
    // Without the kind's own key, another one's is the mistake.
    if given(&section).is_none() && kind != MANAGED {
        section.require(&proof.keys[..1]);
    }
    reject(&mut section, kind, kind);
    Some(Credential { proof: (proof.read)(&mut section)?, user: None })
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
    let text = "is missing (or certificate_file, federated_token_file or managed_identity_client_id): a refresh token works \
                only for the application that it was given to, which has to sign in, too";
    let proof = given_proof(&mut section, text);
    Some(Credential { proof: proof?, user: Some(file?) })
}

/// Reads an application's credential; the keys show its kind.
pub(super) fn application(section: &mut Section<'_>) -> Option<ClientAuth> {
    let text = "is missing (or certificate_file, federated_token_file or managed_identity_client_id): the application signs \
                in with it";
    given_proof(section, text)
}

/// Reads the proof whose key is in the section. `missing` is the problem if there is none.
fn given_proof(section: &mut Section<'_>, missing: &'static str) -> Option<ClientAuth> {
    let given = given(section);
    if given.is_none() {
        section.require_or("client_secret_file", missing);
    }
    let proof = given.unwrap_or(&PROOFS[0]);
    reject(section, proof.kind, USER);
    (proof.read)(section)
}

fn given(section: &Section<'_>) -> Option<&'static Proof> {
    PROOFS.iter().find(|proof| section.has(proof.keys[0]))
}

/// Reads the kind. If it is unknown, the other keys cannot be judged and are skipped.
fn kind<'k>(section: &mut Section<'_>, kinds: &[&'k str]) -> Option<&'k str> {
    section.require_or("kind", if kinds.len() == 1 { "is missing: kind = \"refresh-token\"" } else { KINDS });
    let found = section.string("kind").and_then(|kind| {
        let found = kinds.iter().find(|known| **known == kind).copied();
        if found.is_none() {
            let text = match kinds {
                [only] => format!("{} is not a kind for a user: write kind = \"{only}\"", quote(&kind)),
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

fn client_secret(section: &mut Section<'_>) -> Option<ClientAuth> {
    let ends_at = section.parsed("client_secret_expires", day);
    if ends_at.is_some_and(|at| at <= SystemClock.now()) {
        section.warning(
            "client_secret_expires",
            "the client secret has expired: make a new one in Entra ID, put it in the file, and its last day here",
        );
    }
    section.secret("client_secret_file").map(|secret| ClientAuth::ClientSecret { secret, ends_at })
}

fn certificate(section: &mut Section<'_>) -> Option<ClientAuth> {
    let certificates = section.secret_text("certificate_file");
    let apart = section.has("private_key_file");
    let key = if apart { section.secret_text("private_key_file") } else { certificates.clone() };
    let read = Certificate::from_pem(&certificates?, &key?);
    let place = |keys| if keys && apart { "private_key_file" } else { "certificate_file" };
    let read = read.map_err(|why| section.problem(place(why.is_the_keys()), why.to_string()));
    read.ok().map(Arc::new).map(ClientAuth::Certificate)
}

fn federated_token(section: &mut Section<'_>) -> Option<ClientAuth> {
    section.secret_file("federated_token_file").map(|(path, _)| ClientAuth::WorkloadIdentity(path))
}

fn managed_identity(section: &mut Section<'_>) -> Option<ClientAuth> {
    let id_given = section.has("managed_identity_client_id");
    let id = section.parsed("managed_identity_client_id", |text| {
        let is_guid = uuid::Uuid::try_parse(text).is_ok();
        let text = text.to_owned();
        if is_guid { Ok(text) } else { Err(format!("{} is not a client id, which is a GUID", quote(&text))) }
    });
    let url_given = section.has("imds_url");
    let url = section.parsed("imds_url", |text| {
        let url = values::url(text)?;
        if address::is_loopback(&url) {
            return Ok(url);
        }
        Err("is only for a stand-in on this machine, in rehearsals and tests; the service itself has one address"
            .to_owned())
    });
    if (id_given && id.is_none()) || (url_given && url.is_none()) {
        return None;
    }
    match ManagedIdentity::new(id.as_deref(), url.as_ref()) {
        Ok(identity) => Some(ClientAuth::ManagedIdentity(identity)),
        Err(error) => {
            section.problem("kind", error.to_string());
            None
        }
    }
}

/// Reports the keys of every proof but `proof`.
fn reject(section: &mut Section<'_>, proof: &str, kind: &str) {
    for Proof { kind: other, keys, .. } in PROOFS.iter().filter(|other| other.kind != proof) {
        for key in *keys {
            let text = match kind {
                USER if proof != USER => format!("stands beside the keys of kind {proof}: delete one of the two"),
                _ => format!("belongs to the kind {other}, and this is {kind}"),
            };
            section.reject(key, &text);
        }
    }
}

/// The start of a day in UTC: a warning hours early is better than a late one.
fn day(text: &str) -> Result<Timestamp, String> {
    let date: NaiveDate = text.parse().map_err(|_| format!("{} is not a date such as 2027-01-31", quote(text)))?;
    Ok(date.and_time(chrono::NaiveTime::MIN).and_utc().into())
}

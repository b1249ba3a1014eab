//! `[standby]`: the hosts of which one leads.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use url::Url;

use super::address;
use super::http::{authorities, certificate};
use super::section::Section;
use super::values::{self, quote};
use crate::redact;
use crate::standby::Settings;
use crate::standby::elector::{ElectorSettings, EtcdSettings};
use crate::standby::litestream::LitestreamSettings;

const LEASE: Duration = Duration::from_secs(15);
/// Three renewals need time, and the elector counts seconds.
const LEASE_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(6)..=Duration::from_mins(5);
/// Where Litestream's own packages install it.
const LITESTREAM: &str = "/usr/bin/litestream";
/// What the keys of the hosts in the elector begin with.
const NAME: &str = "vetwatch";
/// What Litestream replicates to.
const SCHEMES: [&str; 6] = ["file", "sftp", "s3", "gs", "abs", "webdavs"];

/// Without the section there is one host, which always leads.
pub(super) fn standby(root: &mut Section<'_>, has_heartbeat: bool) -> Option<Settings> {
    if !root.has("standby") {
        return None;
    }
    let mut section = root.section("standby");
    section.require(&["etcd_urls"]);
    let host = section.parsed("host", values::name).or_else(|| own_name(&section));
    let name = section.parsed("name", values::name).unwrap_or_else(|| NAME.to_owned());
    let lease = section.duration("lease").unwrap_or(LEASE);
    if !LEASE_RANGE.contains(&lease) || lease.subsec_nanos() != 0 {
        section.problem("lease", "is not a number of whole seconds from 6s to 5m");
    }
    section.no_empty_list("etcd_urls");
    let texts = section.strings("etcd_urls");
    let mut urls = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match address::base(text) {
            Ok(url) => urls.push(url),
            Err(problem) => section.problem(&format!("etcd_urls[{index}]"), problem),
        }
    }
    let user = section.string("etcd_username");
    if user.is_some() != section.has("etcd_password_file") {
        section.problem("etcd_username", "goes with etcd_password_file: one of the two is missing");
    }
    let password = section.secret("etcd_password_file");
    let ca_file = authorities(&mut section);
    let client_certificate = certificate(&mut section);
    let url = replica_url(&mut section);
    let key_file = section.path("replica_key_file");
    if key_file.is_some() && url.as_ref().is_some_and(|url| url.scheme() != "sftp") {
        section.problem("replica_key_file", "is for a replica by sftp:// only");
    }
    let program = section.path("litestream").unwrap_or_else(|| LITESTREAM.into());
    if !program.exists() {
        section.warning("litestream", format!("there is no {}: install Litestream 0.5 or later", program.display()));
    }
    if !has_heartbeat {
        let text = "without heartbeat_url_file in [operators] nobody is told when no host leads, because etcd is not to be reached";
        section.warning("etcd_urls", text);
    }
    let etcd = EtcdSettings { urls, login: user.zip(password), ca_file, client_certificate, name };
    let litestream = LitestreamSettings { program, url: url?, key_file };
    Some(Settings { host: host?, elector: ElectorSettings::Etcd(etcd), litestream, lease })
}

/// This machine's name, if it may be used.
fn own_name(section: &Section<'_>) -> Option<String> {
    let own = hostname::get().ok().and_then(|name| name.into_string().ok());
    let own = own.and_then(|name| values::name(&name).ok()).filter(|name| name != "localhost");
    if own.is_none() && !section.has("host") {
        section.problem("host", "is missing, and this machine has no name of its own that could stand for it");
    }
    own
}

fn replica_url(section: &mut Section<'_>) -> Option<Url> {
    let (inline, from_file) = (section.has("replica_url"), section.has("replica_url_file"));
    match (inline, from_file) {
        (true, true) => section.problem("replica_url", "stands beside replica_url_file: delete one of the two"),
        (false, false) => {
            section.require_or("replica_url", "is missing (or replica_url_file, where it has a password)");
        }
        _ => {}
    }
    let inline = section.parsed("replica_url", |text| {
        let url = replica(text)?;
        match url.password() {
            Some(_) => {
                Err("contains a password: put the URL in a file, and that file's name in replica_url_file".into())
            }
            None => Ok(url),
        }
    });
    let secret = section.secret("replica_url_file");
    let from_file = secret.and_then(|secret| match replica(secret.expose_secret().trim()) {
        Ok(url) => {
            redact::learn_login_of(&url);
            Some(url)
        }
        Err(problem) => {
            section.problem("replica_url_file", format!("the text in the file {problem}"));
            None
        }
    });
    inline.or(from_file)
}

/// A place that Litestream replicates to. The error shows nothing of it but the scheme.
fn replica(text: &str) -> Result<Url, String> {
    let url =
        text.parse::<Url>().map_err(|_| "is not a URL such as sftp://vetwatch@backup.example/vetwatch".to_owned())?;
    if !SCHEMES.contains(&url.scheme()) {
        return Err(format!("begins with {}, and Litestream needs one of {}", quote(url.scheme()), SCHEMES.join(", ")));
    }
    if url.path().trim_matches('/').is_empty() && matches!(url.scheme(), "file" | "sftp") {
        return Err("has no path: the replicas need a directory of their own".to_owned());
    }
    Ok(url)
}

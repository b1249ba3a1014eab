//! etcd by its JSON gateway (`/v3/…`, [etcd 3.4 and later]): three kinds of keys below `vetwatch/NAME/`.
//!
//! | key | value | lives |
//! | --- | --- | --- |
//! | `leader` | host and time | as long as the leader's session; its create revision is the epoch |
//! | `data` | epoch and host of the newest replica | for ever |
//! | `hosts/HOST` | JSON: why the host could not take over, or null; digests of its configuration | as long as its session |
//!
//! [etcd 3.4 and later]: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, StatusCode, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use super::{Announcement, Data, Error, Leader, Member, Session, View};
use crate::partner_center::tls;
use crate::redact;
use crate::text::error_chain;
use crate::time::Timestamp;

/// Of one request to one member. A lease of 15 s leaves time for several.
const TIMEOUT: Duration = Duration::from_secs(2);
/// An answer is small; what is longer is none of etcd's.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// How to connect to etcd.
#[derive(Clone)]
pub struct EtcdSettings {
    /// The members, tried in this order, beginning with the one that answered last.
    pub urls: Vec<Url>,
    pub login: Option<(String, SecretString)>,
    /// A PEM file, trusted beside the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Certificates and key in PEM.
    pub client_certificate: Option<SecretString>,
    /// What the hosts share: other pairs on the same etcd have another.
    pub name: String,
}

impl fmt::Debug for EtcdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.urls.iter().map(origin).collect();
        f.debug_struct("EtcdSettings").field("urls", &urls).field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for EtcdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.urls.iter().map(origin).collect();
        write!(f, "etcd ({})", urls.join(", "))
    }
}

pub struct Etcd {
    settings: EtcdSettings,
    client: Client,
    /// The member that answered last.
    current: AtomicUsize,
    /// After a login.
    token: Mutex<Option<SecretString>>,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What one request came to.
enum Failed {
    /// The login's token is not valid any more.
    Token,
    Other(String),
}

impl Etcd {
    pub(super) fn new(settings: &EtcdSettings) -> Result<Self, Error> {
        let pem = settings.client_certificate.as_ref().map(secrecy::ExposeSecret::expose_secret);
        let mut tls = tls::config(settings.ca_file.as_deref(), pem).map_err(Error)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = Client::builder().tls_backend_preconfigured(tls).redirect(redirect::Policy::none()).no_proxy();
        let client = client.timeout(TIMEOUT).build().map_err(|error| Error(error_chain(&error)))?;
        Ok(Self { settings: settings.clone(), client, current: AtomicUsize::new(0), token: Mutex::default() })
    }

    pub(super) async fn join(&self, host: &str, ttl: Duration, said: &Announcement) -> Result<Session, Error> {
        let granted = self.call("lease/grant", &json!({ "TTL": ttl.as_secs().to_string() })).await?;
        let id: String = field(&granted, "ID")?;
        let session = Session(id);
        self.announce(&session, host, said).await?;
        Ok(session)
    }

    pub(super) async fn announce(&self, session: &Session, host: &str, said: &Announcement) -> Result<(), Error> {
        let value = serde_json::to_string(said).map_err(|error| Error(error.to_string()))?;
        let key = self.key(&format!("hosts/{host}"));
        self.call("kv/put", &json!({ "key": key, "value": encode(&value), "lease": session.0 })).await.map(drop)
    }

    pub(super) async fn renew(&self, session: &Session) -> Result<Option<Duration>, Error> {
        // The gateway makes a stream of it: one answer a line, here one.
        let answer = self.call("lease/keepalive", &json!({ "ID": session.0 })).await?;
        let ttl = match answer.pointer("/result/TTL") {
            None => return Ok(None),
            Some(ttl) => number(ttl).ok_or_else(|| unexpected("lease/keepalive"))?,
        };
        Ok((ttl > 0).then_some(Duration::from_secs(ttl)))
    }

    pub(super) async fn look(&self) -> Result<View, Error> {
        // `/` is followed by `0`: all keys that begin so.
        let prefix = format!("vetwatch/{}/", self.settings.name);
        let end = format!("vetwatch/{}0", self.settings.name);
        let found = self.call("kv/range", &json!({ "key": encode(&prefix), "range_end": encode(&end) })).await?;
        let mut view = View::default();
        for pair in found.get("kvs").and_then(Value::as_array).into_iter().flatten() {
            let (key, value) = (decode(pair, "key")?, decode(pair, "value")?);
            match key.strip_prefix(&prefix) {
                Some("leader") => {
                    let epoch = pair.get("create_revision").and_then(number);
                    let epoch = epoch.ok_or_else(|| unexpected("kv/range"))?;
                    let held: Value = parse(&value)?;
                    let (host, since) = (field(&held, "host")?, field(&held, "since")?);
                    view.leader = Some(Leader { host, epoch, since });
                }
                Some("data") => view.data = Some(parse(&value)?),
                Some(other) => {
                    if let Some(host) = other.strip_prefix("hosts/") {
                        // Of another version it may be anything, and nothing depends on it.
                        let said = serde_json::from_str(&value).unwrap_or_default();
                        let session = Session(field(pair, "lease")?);
                        view.hosts.push(Member { host: host.to_owned(), session, said });
                    }
                }
                None => {}
            }
        }
        Ok(view)
    }

    pub(super) async fn stand(&self, session: &Session, host: &str, now: Timestamp) -> Result<Option<u64>, Error> {
        let key = self.key("leader");
        let value = encode(&json!({ "host": host, "since": now }).to_string());
        let answer = self
            .call(
                "kv/txn",
                &json!({
                    "compare": [{ "key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" }],
                    "success": [{ "request_put": { "key": key, "value": value, "lease": session.0 } }],
                }),
            )
            .await?;
        if answer.get("succeeded") != Some(&json!(true)) {
            return Ok(None);
        }
        // The put made the key, so this is its create revision.
        let epoch = answer.pointer("/header/revision").and_then(number).ok_or_else(|| unexpected("kv/txn"))?;
        Ok(Some(epoch))
    }

    pub(super) async fn publish(&self, data: &Data) -> Result<bool, Error> {
        let value = serde_json::to_string(data).map_err(|error| Error(error.to_string()))?;
        let (leader, epoch) = (self.key("leader"), data.epoch.to_string());
        let answer = self
            .call(
                "kv/txn",
                &json!({
                    "compare": [{ "key": leader, "target": "CREATE", "result": "EQUAL", "create_revision": epoch }],
                    "success": [{ "request_put": { "key": self.key("data"), "value": encode(&value) } }],
                }),
            )
            .await?;
        Ok(answer.get("succeeded") == Some(&json!(true)))
    }

    pub(super) async fn leave(&self, session: &Session) -> Result<(), Error> {
        self.call("lease/revoke", &json!({ "ID": session.0 })).await.map(drop)
    }

    fn key(&self, name: &str) -> String {
        encode(&format!("vetwatch/{}/{name}", self.settings.name))
    }

    /// Asks the member that answered last, then the others.
    async fn call(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let (urls, first) = (&self.settings.urls, self.current.load(Ordering::Relaxed));
        let mut why = Vec::new();
        for n in 0..urls.len() {
            let index = (first + n) % urls.len();
            match self.call_member(&urls[index], path, body).await {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(problem) => why.push(format!("{}: {problem}", origin(&urls[index]))),
            }
        }
        Err(Error(format!("etcd gave no answer ({})", why.join("; "))))
    }

    async fn call_member(&self, url: &Url, path: &str, body: &Value) -> Result<Value, String> {
        let Some((user, password)) = &self.settings.login else {
            return self.post(url, path, body, None).await.map_err(Failed::words);
        };
        let known = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(token) = known {
            match self.post(url, path, body, Some(&token)).await {
                Err(Failed::Token) => {}
                done => return done.map_err(Failed::words),
            }
        }
        let login = json!({ "name": user, "password": password.expose_secret() });
        let answer = self.post(url, "auth/authenticate", &login, None).await.map_err(Failed::words)?;
        let token = answer.get("token").and_then(Value::as_str).ok_or("it gave no token after the login")?;
        redact::learn(token);
        let token = SecretString::from(token);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        self.post(url, path, body, Some(&token)).await.map_err(Failed::words)
    }

    async fn post(&self, url: &Url, path: &str, body: &Value, token: Option<&SecretString>) -> Result<Value, Failed> {
        let url = url.join(&format!("v3/{path}")).map_err(|error| Failed::Other(error.to_string()))?;
        let mut request = self.client.post(url).json(body);
        if let Some(token) = token {
            request = request.header("Authorization", token.expose_secret());
        }
        let failed = |error: reqwest::Error| {
            let why =
                if error.is_timeout() { "no answer in time".to_owned() } else { error_chain(&error.without_url()) };
            Failed::Other(redact::words(&why))
        };
        let mut response = request.send().await.map_err(failed)?;
        let (status, mut text) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            text.extend_from_slice(&chunk);
            if text.len() > MAX_BODY_BYTES {
                return Err(Failed::Other("its answer is far too long for etcd".to_owned()));
            }
        }
        // One value a line, where the gateway streams.
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let answer: Result<Value, _> = serde_json::from_slice(line);
        if status.is_success() {
            return answer.map_err(|_| Failed::Other("its answer is not JSON: is this etcd 3.4 or later?".to_owned()));
        }
        let answer = answer.unwrap_or_default();
        let said = answer.get("message").or(answer.get("error")).and_then(Value::as_str).unwrap_or_default();
        if status == StatusCode::UNAUTHORIZED || said.contains("invalid auth token") {
            return Err(Failed::Token);
        }
        Err(Failed::Other(redact::words(&format!("HTTP {} {said}", status.as_u16()))))
    }
}

impl Failed {
    fn words(self) -> String {
        match self {
            Self::Token => "it refuses the login".to_owned(),
            Self::Other(why) => why,
        }
    }
}

/// The part of a member's URL that may be shown.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn encode(text: &str) -> String {
    STANDARD.encode(text)
}

fn decode(pair: &Value, name: &str) -> Result<String, Error> {
    // An empty value is left out.
    let text = pair.get(name).and_then(Value::as_str).unwrap_or_default();
    let bytes = STANDARD.decode(text).map_err(|_| unexpected("kv/range"))?;
    String::from_utf8(bytes).map_err(|_| unexpected("kv/range"))
}

/// 64-bit numbers are strings in its JSON.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn field<T: DeserializeOwned>(value: &Value, name: &str) -> Result<T, Error> {
    let found = value.get(name).cloned().unwrap_or_default();
    serde_json::from_value(found).map_err(|_| Error(format!("etcd's answer lacks {name}, or has another kind of it")))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|_| {
        Error(
            "etcd holds a key of vetwatch that this version cannot read: is `name` of [standby] used twice?".to_owned(),
        )
    })
}

fn unexpected(path: &str) -> Error {
    Error(format!("etcd's answer to {path} is not the documented one"))
}

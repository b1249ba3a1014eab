//! Derives from a secret the patterns to search for.

use std::collections::BTreeSet;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use url::Url;

use super::reading::{forms, units_of};

/// Number of consecutive bytes that reveal a secret.
pub(super) const PART_BYTES: usize = 8;
/// The end of a text may be the start of a secret that was cut off.
pub(super) const HEAD_BYTES: Range<usize> = 6..PART_BYTES;
/// Shorter parts of a URL are words such as `api` or `v1`.
const URL_PART_MIN: usize = 6;
/// Longer secrets are not encoded in base64: decoding the text finds their parts.
const ENCODED_MAX_BYTES: usize = 512;
/// Path segments of well-known services.
const PLAIN_SEGMENTS: [&str; 10] = [
    "services",
    "webhooks",
    "webhook",
    "webhookb2",
    "incomingwebhook",
    "incoming",
    "workflows",
    "triggers",
    "manual",
    "invoke",
];
/// Schemes of `Authorization`.
const SCHEMES: [&str; 6] = ["basic", "bearer", "token", "apikey", "key", "geniekey"];

pub(super) type Gram = [u8; PART_BYTES];

#[derive(Default)]
pub(super) struct Pieces {
    pub(super) length: usize,
    /// Every eight consecutive bytes.
    pub(super) grams: Vec<Gram>,
    pub(super) heads: Vec<Vec<u8>>,
    /// The whole secret, if it is shorter.
    pub(super) short: Vec<Vec<u8>>,
}

pub fn xoauth2(name: &str, token: &str) -> String {
    format!("user={name}\u{1}auth=Bearer {token}\u{1}\u{1}")
}

impl Pieces {
    pub(super) fn of(secret: &[u8]) -> Self {
        let mut pieces = Self::of_spelling(secret);
        if secret.len() <= ENCODED_MAX_BYTES {
            let encoded = (0..3).flat_map(|before| encoded(secret, before));
            let more: BTreeSet<Gram> = encoded.flat_map(|text| Self::of_spelling(text.as_bytes()).grams).collect();
            pieces.grams.extend(more);
        }
        pieces
    }

    /// Patterns of a spelling that is a secret, though what it decodes to is not.
    fn of_spelling(spelling: &[u8]) -> Self {
        let forms = forms(&units_of(spelling));
        let bytes = |units: &[super::Unit]| units.iter().map(|unit| unit.byte).collect::<Vec<u8>>();
        let grams = forms.iter().flat_map(|form| form.windows(PART_BYTES).map(super::gram)).collect::<BTreeSet<_>>();
        let whole = forms.first().map(|form| bytes(form)).unwrap_or_default();
        let heads = HEAD_BYTES.filter(|_| whole.len() >= PART_BYTES).map(|length| whole[..length].to_owned()).collect();
        let short = if (1..PART_BYTES).contains(&whole.len()) { vec![whole] } else { Vec::new() };
        Self { length: spelling.len(), grams: grams.into_iter().collect(), heads, short }
    }

    /// Patterns of a secret's file or an `Authorization` header.
    pub(super) fn of_text(text: &str) -> Vec<Self> {
        if text.contains("-----BEGIN ") {
            return keys(text).iter().map(|key| Self::of_spelling(key.as_bytes())).collect();
        }
        let web = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if let Some(url) = web.filter(Url::has_host) {
            return Self::of_url(&url);
        }
        text.lines().map(str::trim).filter(|line| !line.is_empty()).flat_map(Self::of_line).collect()
    }

    fn of_line(line: &str) -> Vec<Self> {
        match line.split_once(' ') {
            Some((scheme, credentials)) if SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) => {
                let login = STANDARD.decode(credentials).ok().and_then(|login| String::from_utf8(login).ok());
                let password = login.as_deref().and_then(|login| login.split_once(':')).map(|(_, password)| password);
                let own = [credentials.trim()].into_iter().chain(password);
                own.map(|secret| Self::of(secret.as_bytes())).collect()
            }
            _ => vec![Self::of(line.as_bytes())],
        }
    }

    /// Patterns of a URL's parts beyond scheme, host and port.
    pub(super) fn of_url(url: &Url) -> Vec<Self> {
        let mut pieces = Self::of_login_of(url);
        let segments: Vec<&str> = url.path_segments().into_iter().flatten().collect();
        // The runs between the plain segments, and each segment.
        let groups = segments.split(|segment| PLAIN_SEGMENTS.contains(&segment.to_ascii_lowercase().as_str()));
        let groups: Vec<String> = groups.map(|group| group.join("/")).collect();
        let alone =
            segments.iter().filter(|segment| !PLAIN_SEGMENTS.contains(segment)).map(|segment| (*segment).to_owned());
        for piece in groups.into_iter().chain(alone) {
            pieces.extend(Self::of_piece(&piece));
        }
        pieces
    }

    /// Patterns of user and password, query and fragment.
    pub(super) fn of_login_of(url: &Url) -> Vec<Self> {
        let mut pieces = Vec::new();
        let user = decoded(url.username());
        match url.password() {
            Some(password) => {
                pieces.extend(Self::of_login(&user, &decoded(password)));
                pieces.push(Self::of(password.as_bytes()));
            }
            None if !user.is_empty() => {
                pieces.extend(Self::of_login(&user, "").into_iter().chain([Self::of(user.as_bytes())]));
            }
            None => {}
        }
        for text in [url.query(), url.fragment()].into_iter().flatten() {
            for pair in text.split('&') {
                let (name, value) = pair.split_once('=').unwrap_or(("", pair));
                let plain = value.is_empty() || PLAIN_SEGMENTS.contains(&name);
                pieces.extend((!plain).then(|| Self::of_piece(value)).into_iter().flatten());
            }
        }
        pieces
    }

    fn of_piece(piece: &str) -> Vec<Self> {
        let plain = decoded(piece);
        let spaced = decoded(&piece.replace('+', " "));
        let all: BTreeSet<&str> = [piece, plain.as_str(), spaced.as_str()].into();
        all.into_iter()
            .filter(|piece| piece.trim_matches('/').len() >= URL_PART_MIN)
            .map(|piece| Self::of(piece.as_bytes()))
            .collect()
    }

    /// Patterns of a login, in the spellings that are sent. The name alone is no secret.
    pub(super) fn of_login(name: &str, secret: &str) -> Vec<Self> {
        let sent = [format!("{name}:{secret}"), format!("\0{name}\0{secret}"), xoauth2(name, secret)];
        let sent = sent.iter().map(|sent| Self::of_spelling(STANDARD.encode(sent).as_bytes()));
        sent.chain((!secret.is_empty()).then(|| Self::of(secret.as_bytes()))).collect()
    }
}

/// The secret in base64 after `before` bytes: the characters that it alone determines.
fn encoded(secret: &[u8], before: usize) -> [String; 2] {
    let bytes = [&[0; 2][..before], secret].concat();
    let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    [STANDARD, URL_SAFE].map(|engine| engine.encode(&bytes).get(first..end).unwrap_or_default().to_owned())
}

/// The private keys of a PEM file, each in one line.
fn keys(pem: &str) -> Vec<String> {
    let sections = pem.split("-----BEGIN ").skip(1).filter_map(|section| section.split_once("-----"));
    let keys = sections.filter(|(label, _)| label.contains("PRIVATE KEY"));
    keys.map(|(_, rest)| rest.lines().take_while(|line| !line.starts_with("-----")).map(str::trim).collect()).collect()
}

/// Decodes `%41` and the like.
fn decoded(text: &str) -> String {
    let units = super::reading::percent(&units_of(text.as_bytes()));
    let bytes: Vec<u8> = units.iter().map(|unit| unit.byte).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

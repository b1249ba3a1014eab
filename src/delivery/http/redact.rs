//! What may be said of a URL and of what a server says.

use std::error::Error as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

const HIDDEN: &str = "[hidden]";
/// Shorter parts are words such as `api` or `v1`.
const TELLING: usize = 6;

/// What of a URL may be shown: scheme, host and port.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// An error and its causes, each once: reqwest's own text says little more than "error sending request".
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut said = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.iter().any(|known| known.contains(&text)) {
            said.push(text);
        }
        cause = error.source();
    }
    said.join(": ")
}

/// `text` without what may be secret in `urls`. Servers like to repeat it: "Cannot POST /hooks/…". What it ends in the
/// middle of is taken out as well: answers are cut.
pub(super) fn redact<'u>(text: &str, urls: impl IntoIterator<Item = &'u Url>) -> String {
    let mut parts: Vec<String> = urls.into_iter().flat_map(secrets).filter(|part| part.len() >= TELLING).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    let mut text = parts.iter().fold(text.to_owned(), |text, part| text.replace(part.as_str(), HIDDEN));
    let cut = parts.iter().flat_map(|part| (TELLING..part.len()).filter_map(|end| part.get(..end)));
    if let Some(longest) = cut.filter(|beginning| text.ends_with(beginning)).map(str::len).max() {
        text.truncate(text.len() - longest);
        text.push_str(HIDDEN);
    }
    text
}

/// What follows the host and what precedes it, whole, in pieces and as it is sent or read.
fn secrets(url: &Url) -> Vec<String> {
    let mut parts = vec![url.path().to_owned()];
    parts.extend(url.path_segments().into_iter().flatten().flat_map(|piece| [piece.to_owned(), decoded(piece)]));
    parts.extend(url.query().map(str::to_owned));
    parts.extend(url.query().into_iter().flat_map(|query| query.split(['&', '='])).map(str::to_owned));
    parts.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
    let (user, password) = (decoded(url.username()), url.password().map(decoded));
    let login = format!("{user}:{}", password.as_deref().unwrap_or_default());
    parts.extend(url.password().map(str::to_owned));
    parts.extend(password);
    parts.extend([url.username().to_owned(), user]);
    parts.extend((login.len() > 1).then(|| STANDARD.encode(login))); // `Authorization: Basic …`
    parts
}

/// Without `%41` and its like.
fn decoded(text: &str) -> String {
    // The only decoder at hand reads forms, where a plus is a space.
    let form = text.replace('+', "%2B");
    url::form_urlencoded::parse(format!("x={}", form.replace('&', "%26")).as_bytes())
        .map(|(_, value)| value.into_owned())
        .collect()
}

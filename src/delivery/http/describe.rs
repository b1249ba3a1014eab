//! Describes URLs and errors without secrets.

use std::error::Error as _;

use url::Url;

/// The part of a URL that may be shown: scheme, host and port.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// An error and its causes, each once: reqwest's own text says little more than "error sending request".
pub(super) fn error_chain(error: &reqwest::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        cause = error.source();
    }
    texts.join(": ")
}

//! Addresses on the page of `[web]`, as they follow its first address.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands in a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What works and what does not.
pub const HEALTH: &str = "health";

/// A text as a part of a path.
#[must_use]
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A customer's page.
#[must_use]
pub fn customer(partner: &str, id: &str) -> String {
    format!("customer/{}/{}", encoded(partner), encoded(id))
}

//! Where the next page of a list begins, as an opaque text for an address.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longer ones are none of ours.
const MAX_CHARS: usize = 4000;

pub(super) fn encode(key: &impl Serialize) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

/// `None` if it is none of ours; the list begins at its beginning then.
pub(super) fn decode<T: DeserializeOwned>(text: &str) -> Option<T> {
    let bytes = (text.len() <= MAX_CHARS).then(|| BASE64_URL_SAFE_NO_PAD.decode(text).ok())??;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back_and_anything_else_is_none(key in any::<(i64, i64)>(), text in ".{0,40}") {
            prop_assert_eq!(decode::<(i64, i64)>(&encode(&key)), Some(key));
            if let Some(found) = decode::<(i64, i64)>(&text) {
                prop_assert_eq!(decode::<(i64, i64)>(&encode(&found)), Some(found));
            }
        }
    }
}

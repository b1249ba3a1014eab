//! Durations in the control API: `5s`, `1m 30s`, or a number of seconds.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Seconds(f64),
    Text(String),
}

impl Written {
    fn read(self) -> Result<Duration, String> {
        match self {
            Self::Seconds(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
            Self::Text(text) => parse(&text),
        }
    }
}

const EXAMPLE: &str = "a duration is written like \"5s\"";

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    use serde::de::Error;
    Written::deserialize(deserializer).map_err(|_| D::Error::custom(EXAMPLE))?.read().map_err(D::Error::custom)
}

/// The same for optional durations.
pub(super) mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{EXAMPLE, Written};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(in super::super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        use serde::de::Error;
        let written = Option::<Written>::deserialize(deserializer).map_err(|_| D::Error::custom(EXAMPLE))?;
        written.map(Written::read).transpose().map_err(D::Error::custom)
    }
}

/// `5s`, `1m 30s`; a bare number is seconds.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|error| format!("{text:?} is not a duration: {error}"))
}

/// Formats an instant as an HTTP date, in whole seconds.
pub(super) fn http_date(at: vetwatch_core::time::Timestamp) -> String {
    at.to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

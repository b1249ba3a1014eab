//! How durations are written in the control API: `5s`, `1m 30s`, or a number of seconds.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Seconds(f64),
    Text(String),
}

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    use serde::de::Error;
    match Written::deserialize(deserializer).map_err(|_| D::Error::custom("a duration is written like \"5s\""))? {
        Written::Seconds(seconds) => Duration::try_from_secs_f64(seconds).map_err(D::Error::custom),
        Written::Text(text) => parse(&text).map_err(D::Error::custom),
    }
}

/// `5s`, `1m 30s`; a bare number is seconds.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|error| format!("{text:?} is not a duration: {error}"))
}

//! Writes a customer's qualifications: as in the documentation's GET samples, or in any other form seen or conceivable.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::entry::{Entry, GOVERNMENT, Vetting};
use super::response_options::{Absent, BodyOptions, DateFormat, DateName, Keys, Shape, Words};
use vetwatch_core::time::Timestamp;

/// The response body for these entries.
pub(super) fn body(entries: &[Entry], writing: &BodyOptions) -> Vec<u8> {
    let written: Vec<_> = entries.iter().map(|entry| written(entry, writing)).collect();
    let body = match (writing.shape.unwrap_or_default(), written.as_slice()) {
        (Shape::Object, [only]) => serde_json::to_vec(only),
        (Shape::Wrapper, all) => serde_json::to_vec(&BTreeMap::from([(key("qualifications", writing.keys), all)])),
        (Shape::Object | Shape::Array, all) => serde_json::to_vec(all),
    };
    body.expect("strings and JSON values can always be written")
}

enum Written<'a> {
    Raw(&'a Value),
    /// Written in this order.
    Fields(Vec<(Cow<'static, str>, Value)>),
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Raw(value) => value.serialize(serializer),
            Self::Fields(fields) => serializer.collect_map(fields.iter().map(|(name, value)| (name, value))),
        }
    }
}

/// The documented names in the documented order. The create date has two documented spellings, each with samples.
fn written<'a>(entry: &'a Entry, writing: &BodyOptions) -> Written<'a> {
    let (status, reason) = match &entry.vetting {
        Vetting::Raw(value) => return Written::Raw(value),
        Vetting::InReview { .. } => (Some("InReview"), None),
        Vetting::Approved { .. } => (Some("Approved"), None),
        Vetting::Denied { reason, .. } => (Some("Denied"), Some(reason.as_str())),
        Vetting::Declared => (None, None),
        Vetting::Stated { status, reason, .. } => (status.as_deref(), reason.as_deref()),
    };
    let status = status.filter(|_| !writing.no_status);
    let mut fields = Vec::with_capacity(5);
    let mut put = |name, value: Option<Value>| {
        let value = match (value, writing.absent.unwrap_or_default()) {
            (Some(value), _) => value,
            (None, Absent::Omitted) => return,
            (None, Absent::Null) => Value::Null,
            (None, Absent::Blank) => json!(""),
        };
        fields.push((key(name, writing.keys), value));
    };
    let in_words = |text: &str| json!(words(text, writing.words.unwrap_or_default()));
    put("qualification", Some(in_words(&entry.qualification)));
    put("vettingStatus", status.map(in_words));
    put("vettingReason", reason.map(|reason| json!(reason)));
    let (names, date) = dated(entry, writing);
    for name in names {
        put(name, date.clone());
    }
    if writing.unknown_fields {
        put("vettingId", Some(json!(7)));
        put("statusDetails", Some(json!({"vettingStatus": "Denied", "expirationDateTime": null})));
    }
    Written::Fields(fields)
}

/// The create date, and the field names it is written under.
fn dated(entry: &Entry, writing: &BodyOptions) -> (&'static [&'static str], Option<Value>) {
    let government = entry.is_of(GOVERNMENT);
    let names: &[&str] = match writing.date_name {
        Some(DateName::Both) => &["vettingCreatedDate", "vettingCreateDate"],
        Some(DateName::Create) => &["vettingCreateDate"],
        // As in the samples of each qualification.
        None if government => &["vettingCreateDate"],
        Some(DateName::Created) | None => &["vettingCreatedDate"],
    };
    let shifted = |at: Timestamp| Timestamp::from_millis(at.as_millis() + writing.date_shift * 1000);
    let Some(at) = entry.created_at().map(shifted) else { return (names, None) };
    let format = match (writing.date, &entry.vetting) {
        (Some(format), _) => format,
        // The sample of an approved Education has no date.
        (None, Vetting::Approved { .. }) if !government => DateFormat::Absent,
        (None, _) if government => DateFormat::Ticks,
        (None, _) => DateFormat::Millis,
    };
    (names, date(at, format))
}

fn date(at: Timestamp, format: DateFormat) -> Option<Value> {
    let utc = at.to_utc();
    let text = |pattern| Some(json!(utc.format(pattern).to_string()));
    match format {
        DateFormat::Millis => text("%Y-%m-%dT%H:%M:%S%.3fZ"),
        DateFormat::Seconds => text("%Y-%m-%dT%H:%M:%SZ"),
        // The clock has three fractional digits; Microsoft's services write seven.
        DateFormat::Ticks => text("%Y-%m-%dT%H:%M:%S%.3f2021+00:00"),
        DateFormat::TicksZ => text("%Y-%m-%dT%H:%M:%S%.3f2021Z"),
        DateFormat::NoOffset => text("%Y-%m-%dT%H:%M:%S"),
        DateFormat::Offset => {
            let east = chrono::FixedOffset::east_opt(2 * 3600).expect("two hours are less than a day");
            Some(json!(utc.with_timezone(&east).to_rfc3339_opts(chrono::SecondsFormat::Millis, false)))
        }
        DateFormat::Preview => text("%m/%d/%Y: %H:%M:%S"),
        DateFormat::PreviewDayFirst => text("%d/%m/%Y: %H:%M:%S"),
        DateFormat::DateOnly => text("%Y-%m-%d"),
        DateFormat::Minimum => Some(json!("0001-01-01T00:00:00")),
        DateFormat::Unreadable => Some(json!("last Tuesday")),
        DateFormat::Number => Some(json!(at.as_millis())),
        DateFormat::Absent => None,
    }
}

fn key(name: &'static str, keys: Option<Keys>) -> Cow<'static, str> {
    match keys.unwrap_or_default() {
        Keys::Camel => Cow::Borrowed(name),
        Keys::Pascal => {
            let (first, rest) = name.split_at(1);
            Cow::Owned(first.to_uppercase() + rest)
        }
        Keys::Lower => Cow::Owned(name.to_lowercase()),
        Keys::Upper => Cow::Owned(name.to_uppercase()),
    }
}

fn words(text: &str, words: Words) -> Cow<'_, str> {
    Cow::Owned(match words {
        Words::Documented => return Cow::Borrowed(text),
        Words::Lower => text.to_lowercase(),
        Words::Upper => text.to_uppercase(),
        Words::Snake => {
            let mut snake = String::with_capacity(text.len() + 4);
            for (index, character) in text.chars().enumerate() {
                if index > 0 && character.is_uppercase() {
                    snake.push('_');
                }
                snake.extend(character.to_lowercase());
            }
            snake
        }
        Words::Mixed => {
            let alternate = |(index, c): (usize, char)| {
                if index % 2 == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() }
            };
            text.chars().enumerate().map(alternate).collect()
        }
    })
}

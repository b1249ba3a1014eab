//! Strict JSON, as verdicts require: `serde_json::Value` would silently keep the last of two equal keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value. Booleans lose their value and numbers are text: nothing here needs more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool,
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

/// An object as written: every key, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object(Vec<(String, Json)>);

/// A key that occurs more than once, so that its value is ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DuplicateKey;

impl Json {
    /// Parses one JSON value. `None` if there is not exactly one, in UTF-8. A byte order mark is tolerated; depth is at
    /// most 128.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(without_bom(body)).ok()
    }

    pub(crate) fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

impl Object {
    /// The value of a key, matched without case. `null` counts as absent.
    pub(crate) fn get(&self, key: &str) -> Result<Option<&Json>, DuplicateKey> {
        let mut found = self.all(key);
        let first = found.next();
        if found.next().is_some() {
            return Err(DuplicateKey);
        }
        Ok(first.filter(|value| **value != Json::Null))
    }

    /// Every value of a key, matched without case.
    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &Json> {
        self.0.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }
}

/// Removes the byte order mark that .NET may write.
pub(crate) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Json::Object(Object(object)))
    }
}

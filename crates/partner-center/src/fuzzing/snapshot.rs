//! What is in a response about qualifications, decided by a few lines on top of `serde_json` that are independent of our
//! parser.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::json::without_bom;
use crate::wire::{WORD_MAX_CHARS, qualifications};
use vetwatch_core::qualification::{self, Entry, Snapshot};
use vetwatch_core::text::short_line;

/// Whether the body was understood, or what is wrong with the result: a status that is not in the body, an entry that is
/// lost or there twice, a date that cost more than itself.
pub(crate) fn judge(body: &[u8]) -> Result<bool, String> {
    let Ok(snapshot) = qualifications(body) else { return Ok(false) };
    let Ok(value) = serde_json::from_slice::<Value>(without_bom(body)) else {
        return Err("understood, and no JSON".into());
    };
    let entries = entries_of(&value).ok_or("understood, and of no documented shape")?;
    let all: BTreeSet<(String, Option<String>)> = entries.iter().map(|entry| pair(entry)).collect();
    let seen = snapshot.entries();
    if let Some(invented) = seen.iter().find(|e| !all.contains(&(e.qualification.clone(), e.vetting_status.clone()))) {
        return Err(format!("{invented:?} is in no entry"));
    }
    let named: BTreeSet<String> = all.iter().map(|(name, _)| qualification::key(name)).collect();
    let kept: BTreeSet<String> = seen.iter().map(Entry::key).chain(["none".into()]).collect();
    if named.difference(&kept).next().is_some() || kept.len() != seen.len() + 1 {
        return Err(format!("of {named:?} only {kept:?} are there, or one is there twice"));
    }
    if !dates_cost_nothing(&value, &snapshot) {
        return Err("a date cost more than itself".into());
    }
    Ok(true)
}

/// The objects that hold qualifications, by the three documented shapes.
fn entries_of(value: &Value) -> Option<Vec<&Map<String, Value>>> {
    match value {
        Value::Array(items) => items.iter().map(Value::as_object).collect(),
        Value::Object(object) => match field(object, "qualifications") {
            Some(Value::Array(items)) => items.iter().map(Value::as_object).collect(),
            _ => Some(vec![object]),
        },
        _ => None,
    }
}

fn field<'v>(object: &'v Map<String, Value>, key: &str) -> Option<&'v Value> {
    object.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
}

fn pair(entry: &Map<String, Value>) -> (String, Option<String>) {
    let text = |key| field(entry, key).and_then(Value::as_str).map(|text| short_line(text, WORD_MAX_CHARS));
    (text("qualification").unwrap_or_default(), text("vettingStatus").filter(|text| !text.is_empty()))
}

/// The same response with every date spoiled yields the same qualifications, if each is named once.
fn dates_cost_nothing(value: &Value, snapshot: &Snapshot) -> bool {
    let mut spoiled = value.clone();
    spoil(&mut spoiled);
    let Ok(without) = qualifications(spoiled.to_string().as_bytes()) else { return false };
    let names: Vec<String> =
        entries_of(value).unwrap_or_default().into_iter().map(|entry| qualification::key(&pair(entry).0)).collect();
    snapshot.entries().iter().filter(|entry| names.iter().filter(|name| **name == entry.key()).count() == 1).all(
        |entry| {
            let same = without.get(&entry.key());
            same.is_some_and(|same| {
                same.created_at.is_none()
                    && (&same.vetting_status, &same.vetting_reason) == (&entry.vetting_status, &entry.vetting_reason)
            })
        },
    )
}

fn spoil(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(spoil),
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                if key.to_ascii_lowercase().starts_with("vettingcreate") {
                    *value = json!(["07/09/2020: 00:00:00", { "soon": null }]);
                } else {
                    spoil(value);
                }
            }
        }
        _ => {}
    }
}

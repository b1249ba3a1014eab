//! Parses Partner Center's JSON. A response is understood as a whole or not at all: half of one would look like a
//! change.

use crate::date;
use crate::json::{DuplicateKey, Json, Object, without_bom};
use vetwatch_core::qualification::{Entry, Snapshot};
use vetwatch_core::redact;
use vetwatch_core::text::short_line;
use vetwatch_core::time::Timestamp;

/// Why a response was not understood, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParseError(pub(crate) &'static str);

impl From<DuplicateKey> for ParseError {
    fn from(_: DuplicateKey) -> Self {
        Self("a key occurs twice in one object")
    }
}

/// Five qualifications are documented. Far more entries are a fault, and expensive to compare.
const ENTRIES_MAX: usize = 100;

/// Names and status words are short; a reason is a sentence.
pub(crate) const WORD_MAX_CHARS: usize = 200;
const REASON_MAX_CHARS: usize = 2000;

/// Parses a customer's qualifications, in every shape documented over the years: a bare array (today's), an array in
/// `qualifications` (early 2021, and still in the API's own description), a single object (the preview, in
/// `PascalCase`; the response to a submission).
pub(crate) fn qualifications(body: &[u8]) -> Result<Snapshot, ParseError> {
    if without_bom(body).trim_ascii().is_empty() {
        return Err(ParseError("the body is empty"));
    }
    let entries = match Json::parse(body).ok_or(ParseError("the body is not JSON"))? {
        Json::List(items) => list(&items)?,
        Json::Object(object) => match (object.get("qualifications")?, object.get("qualification")?) {
            (Some(Json::List(items)), None) => list(items)?,
            (None, Some(_)) => vec![entry(&object)?],
            (Some(_), None) => return Err(ParseError("`qualifications` is not a list")),
            (Some(_), Some(_)) => return Err(ParseError("both `qualifications` and `qualification`")),
            (None, None) => return Err(ParseError("an object without a qualification")),
        },
        Json::Null => return Err(ParseError("the body is `null`")),
        _ => return Err(ParseError("neither a list nor an object")),
    };
    Ok(Snapshot::of(entries))
}

fn list(items: &[Json]) -> Result<Vec<Entry>, ParseError> {
    if items.len() > ENTRIES_MAX {
        return Err(ParseError("more qualifications than there can be"));
    }
    let object = |item: &Json| item.as_object().ok_or(ParseError("an entry that is not an object")).and_then(entry);
    items.iter().map(object).collect()
}

fn entry(object: &Object) -> Result<Entry, ParseError> {
    let qualification =
        word(object, "qualification", WORD_MAX_CHARS)?.ok_or(ParseError("an entry without a qualification"))?;
    Ok(Entry {
        qualification,
        vetting_status: word(object, "vettingStatus", WORD_MAX_CHARS)?,
        vetting_reason: word(object, "vettingReason", REASON_MAX_CHARS)?,
        created_at: created_at(object),
    })
}

/// The create date that all readable dates of the entry agree on (to the second). An unreadable date costs only itself;
/// if two contradict each other, there is none.
fn created_at(object: &Object) -> Option<Timestamp> {
    // The documentation spells `vettingCreatedDate` for GET and `vettingCreateDate` elsewhere.
    let written = ["vettingCreateDate", "vettingCreatedDate"].into_iter().flat_map(|key| object.all(key));
    let mut dates = written.filter_map(Json::as_text).filter_map(date::parse);
    let first = dates.next()?;
    dates.all(|date| date.as_secs() == first.as_secs()).then_some(first)
}

/// An optional text. A blank one counts as missing; any other type is an error.
fn word(object: &Object, key: &str, max_chars: usize) -> Result<Option<String>, ParseError> {
    match object.get(key)? {
        None => Ok(None),
        Some(Json::Text(text)) => Ok(fact(text, max_chars)),
        Some(_) => Err(ParseError("something else where a text belongs")),
    }
}

/// One line, without secrets. `None` if it is empty.
pub(crate) fn fact(text: &str, max_chars: usize) -> Option<String> {
    Some(redact::fact(&short_line(text, max_chars))).filter(|text| !text.is_empty())
}

/// A customer in Partner Center's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCustomer {
    /// The tenant id, as spelled. Never empty.
    pub id: String,
    /// May be empty. One line, no control characters.
    pub name: String,
    /// May be empty. One line, no control characters.
    pub domain: String,
    /// `relationshipToPartner`, as spelled: `reseller` and others.
    pub relationship: Option<String>,
}

/// The customers of one page, and the token of the next one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) customers: Vec<ListedCustomer>,
    pub(crate) next: Option<String>,
}

/// The header that requests the next page.
pub(crate) const CONTINUATION_HEADER: &str = "MS-ContinuationToken";

/// Parses one page of at most `full` customers. Other fields are ignored, whatever their shape.
pub(crate) fn customers(body: &[u8], full: usize) -> Result<Listed, ParseError> {
    let no_list = || ParseError("the body is not a list of customers");
    let Some(Json::Object(page)) = Json::parse(body) else { return Err(no_list()) };
    let Some(Json::List(items)) = page.get("items")? else { return Err(no_list()) };
    let of = |item: &Json| item.as_object().ok_or_else(no_list).and_then(customer);
    let customers: Vec<ListedCustomer> = items.iter().map(of).collect::<Result<_, _>>()?;
    Ok(Listed { next: next_page(&page, customers.len(), full)?, customers })
}

/// The token of the page after this one of `count` items, of at most `full`. An empty page is the last one, whatever it
/// says. A full page with a successor but no token is an error: to take it for the last one would lose items.
///
/// `totalCount` is ignored (it counts the page), and so is `links.next.uri` (it may lead to another host, and was seen
/// both with and without `/v1`): the header alone requests the next page.
pub(crate) fn next_page(page: &Object, count: usize, full: usize) -> Result<Option<String>, ParseError> {
    let link = match page.get("links")? {
        Some(Json::Object(links)) => links.get("next")?,
        Some(_) => return Err(ParseError("`links` is not an object")),
        None => None,
    };
    let in_body = page.get("continuationToken")?.and_then(Json::as_text);
    let token = link.and_then(token).or(in_body).filter(|token| !token.is_empty() && count > 0);
    if token.is_none() && link.is_some() && count >= full {
        return Err(ParseError("a full page that names a next one, without a token to ask for it"));
    }
    Ok(token.map(str::to_owned))
}

fn token(link: &Json) -> Option<&str> {
    let Json::List(headers) = link.as_object()?.get("headers").ok()?? else { return None };
    let is_it = |header: &&Object| {
        let key = header.get("key").ok().flatten().and_then(Json::as_text);
        key.is_some_and(|key| key.eq_ignore_ascii_case(CONTINUATION_HEADER))
    };
    headers.iter().filter_map(Json::as_object).find(is_it)?.get("value").ok()??.as_text()
}

fn customer(item: &Object) -> Result<ListedCustomer, ParseError> {
    let profile = match item.get("companyProfile")? {
        Some(Json::Object(profile)) => Some(profile),
        Some(_) => return Err(ParseError("a customer whose profile is not an object")),
        None => None,
    };
    let of_profile = |key| profile.map_or(Ok(None), |profile| word(profile, key, WORD_MAX_CHARS));
    let (id, tenant) = (word(item, "id", WORD_MAX_CHARS)?, of_profile("tenantId")?);
    Ok(ListedCustomer {
        id: id.or(tenant).ok_or(ParseError("a customer without an id"))?,
        name: of_profile("companyName")?.unwrap_or_default(),
        domain: of_profile("domain")?.unwrap_or_default(),
        relationship: word(item, "relationshipToPartner", WORD_MAX_CHARS)?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod fuzz;

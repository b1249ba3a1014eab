//! Records of Partner Center's activity log: what a user or an application of the partner did.
//!
//! Never what Microsoft decided. A record that is odd is left out and costs the others nothing: the value lists grow,
//! some documented samples have no `id`, and what is lost here is found by asking, only later.

use chrono::NaiveDate;
use ring::digest::{SHA256, digest};

use super::budget::Reader;
use super::json::{DuplicateKey, Json, Object, without_bom};
use super::text::clean;
use super::wire::{CONTINUATION, ParseError};
use super::{CHINA, Continuation, Error, PAGE, PartnerCenter, date, join_segments};
use vetwatch_core::redact;
use vetwatch_core::time::Timestamp;

/// What a user or an application of the partner did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The same for the same record, and different for any other: of its id, type, customer, time and outcome, and of
    /// what it changed if it has no id.
    pub digest: i64,
    pub kind: OperationKind,
    pub at: Timestamp,
    /// The customer's tenant id, as spelled; empty where it is about no customer.
    pub customer_id: String,
    /// May be empty. In one line, without control characters.
    pub customer_name: String,
    /// `succeeded`, or `progress`: it will have.
    pub is_done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// `update_customer_qualification`: somebody asked for a vetting, or declared something.
    Submission,
    /// `add_customer`
    NewCustomer,
    /// The relationship with a customer was ended, or a customer was deleted.
    Departure,
    /// Anything else, types that nobody knows yet among them.
    Other,
}

/// One page of the activity log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationPage {
    /// In whatever order they came.
    pub operations: Vec<Operation>,
    /// Records that could not be read.
    pub odd: usize,
    /// `None`: the log ended as documented.
    pub next: Option<Continuation>,
}

impl PartnerCenter {
    /// A page of what users and applications of the partner did from `from` on, 500 records at most: the first, or the
    /// one that `after` asks for. Days are the log's; whether `to` is the last of them or the first that is left out is
    /// not documented. `None`: up to now. Partner Center refuses more than 30 days, and what is older than 90.
    ///
    /// # Errors
    /// When there is no page, or none that was understood.
    pub async fn audit_records(
        &self,
        from: NaiveDate,
        to: Option<NaiveDate>,
        after: Option<&Continuation>,
    ) -> Result<OperationPage, Error> {
        self.http.reads(Reader::ActivityLog);
        let url = join_segments(&self.api_url, &["v1", "auditrecords"]).map(|mut url| {
            let day = |day: NaiveDate| day.format("%Y-%m-%d").to_string();
            url.query_pairs_mut().append_pair("startDate", &day(from));
            if let Some(to) = to {
                url.query_pairs_mut().append_pair("endDate", &day(to));
            }
            url.query_pairs_mut().append_pair("size", &PAGE.to_string());
            if after.is_some() {
                url.query_pairs_mut().append_pair("seekOperation", "Next");
            }
            url
        });
        let Some(call) = self.page(url, after).await? else {
            return Ok(OperationPage { operations: Vec::new(), odd: 0, next: None });
        };
        let page = operations(&call.reply.body, PAGE).map_err(|why| call.unreadable(why))?;
        let next = call.continuation(page.next, after)?;
        Ok(OperationPage { operations: page.read, odd: page.odd, next })
    }

    /// Whether there is an activity log in this cloud: 21Vianet's has none.
    pub fn has_activity_log(&self) -> bool {
        self.api_url.host_str() != Some(CHINA)
    }
}

/// What one page holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Operations {
    pub(super) read: Vec<Operation>,
    /// Records that could not be read.
    pub(super) odd: usize,
    pub(super) next: Option<String>,
}

const WORD_MAX: usize = 200;

/// A page of records, of at most `full` items. Only a page that is none, or whose successor cannot be asked for, is not
/// understood.
pub(super) fn operations(body: &[u8], full: usize) -> Result<Operations, ParseError> {
    let no_list = || ParseError("the body is not a list of audit records");
    let Some(Json::Object(page)) = Json::parse(without_bom(body)) else { return Err(no_list()) };
    let Some(Json::List(items)) = page.get("items")? else { return Err(no_list()) };
    let read: Vec<_> =
        items.iter().filter_map(|item| item.as_object().and_then(|record| operation(record).ok().flatten())).collect();
    let link = page.get("links")?.and_then(Json::as_object).map_or(Ok(None), |links| links.get("next"))?;
    let in_body = page.get("continuationToken")?.and_then(Json::as_text);
    let next = link.and_then(token).or(in_body).filter(|token| !token.is_empty() && !items.is_empty());
    if next.is_none() && link.is_some() && items.len() >= full {
        return Err(ParseError("a full page that names a next one, without a token to ask for it"));
    }
    Ok(Operations { odd: items.len() - read.len(), next: next.map(str::to_owned), read })
}

fn token(link: &Json) -> Option<&str> {
    let Json::List(headers) = link.as_object()?.get("headers").ok()?? else { return None };
    let is_it = |header: &&Object| {
        let key = header.get("key").ok().flatten().and_then(Json::as_text);
        key.is_some_and(|key| key.eq_ignore_ascii_case(CONTINUATION))
    };
    headers.iter().filter_map(Json::as_object).find(is_it)?.get("value").ok()??.as_text()
}

/// `None`: without a type or a time there is nothing to be learned from it.
fn operation(record: &Object) -> Result<Option<Operation>, DuplicateKey> {
    let text = |key: &str| Ok(record.get(key)?.and_then(Json::as_text).unwrap_or_default());
    let (kind, written) = (text("operationType")?, text("operationDate")?);
    let (Some(at), false) = (date::parse(written), kind.trim().is_empty()) else { return Ok(None) };
    let (id, customer_id, status) = (text("id")?, text("customerId")?, text("operationStatus")?);
    let what = if id.is_empty() {
        [text("resourceType")?, text("resourceOldValue")?, text("resourceNewValue")?, text("userPrincipalName")?]
    } else {
        [id, "", "", ""]
    };
    Ok(Some(Operation {
        digest: digest_of(&[&[kind, written, customer_id, status], what.as_slice()].concat()),
        kind: OperationKind::of(kind),
        at,
        customer_id: clean(customer_id, WORD_MAX),
        customer_name: redact::fact(&clean(text("customerName")?, WORD_MAX)),
        is_done: ["succeeded", "progress"].iter().any(|done| status.trim().eq_ignore_ascii_case(done)),
    }))
}

impl OperationKind {
    /// Written with underscores in the documentation's samples, as `UpdateCustomerQualification` in Microsoft's own tool.
    fn of(word: &str) -> Self {
        let word: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
        match word.to_ascii_lowercase().as_str() {
            "updatecustomerqualification" | "updatecustomerqualifications" => Self::Submission,
            "addcustomer" => Self::NewCustomer,
            word if word.contains("remove") || word.contains("delete") => Self::Departure,
            _ => Self::Other,
        }
    }
}

fn digest_of(words: &[&str]) -> i64 {
    let mut all = Vec::new();
    for word in words {
        all.extend_from_slice(&word.len().to_le_bytes());
        all.extend_from_slice(word.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&digest(&SHA256, &all).as_ref()[..8]);
    i64::from_le_bytes(first)
}

#[cfg(test)]
#[path = "audit_tests.rs"]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests;

//! Partner Center's activity log: what a user or an application of the partner did.
//!
//! It never shows what Microsoft decided. An unreadable record is skipped and the rest kept: the value lists grow, some
//! documented samples have no `id`, and what is lost here is found by a poll, only later.

use chrono::NaiveDate;
use ring::digest::{SHA256, digest};

use super::{Continuation, PAGE_SIZE, PartnerCenter};
use crate::budget::Reader;
use crate::date;
use crate::error::Error;
use crate::http::join_segments;
use crate::json::{DuplicateKey, Json, Object, without_bom};
use crate::wire::{self, ParseError, WORD_MAX_CHARS};
use vetwatch_core::text::short_line;
use vetwatch_core::time::Timestamp;

/// Microsoft's cloud in China, run by 21Vianet.
const CHINA_API_HOST: &str = "partner.partnercenterapi.microsoftonline.cn";

/// What a user or an application of the partner did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Identifies the record: hash of id, type, customer, time and outcome, and of the changed values if there is no
    /// id.
    pub digest: i64,
    pub kind: OperationKind,
    pub at: Timestamp,
    /// The customer's tenant id, as spelled; empty if the record concerns no customer.
    pub customer_id: String,
    /// May be empty. One line, no control characters.
    pub customer_name: String,
    /// Status `succeeded` or `progress`, which will succeed.
    pub is_done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// `update_customer_qualification`: a submission or a declaration.
    Submission,
    /// `add_customer`
    NewCustomer,
    /// The relationship with a customer ended, or the customer was deleted.
    Departure,
    /// Anything else, including unknown types.
    Other,
}

/// One page of the activity log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationPage {
    /// In the order received.
    pub operations: Vec<Operation>,
    /// Records that could not be read.
    pub skipped: usize,
    /// `None` if this is the last page.
    pub next: Option<Continuation>,
}

impl PartnerCenter {
    /// Fetches a page of at most 500 records of operations since `from`: the first one, or the one after `after`. Days
    /// are the log's; whether `to` is included is not documented; `None` means until now. Partner Center rejects a span
    /// of more than 30 days, and anything older than 90.
    ///
    /// # Errors
    /// If there is no page or it was not understood.
    pub async fn audit_records(
        &self,
        from: NaiveDate,
        to: Option<NaiveDate>,
        after: Option<&Continuation>,
    ) -> Result<OperationPage, Error> {
        let url = join_segments(&self.api_url, &["v1", "auditrecords"]).map(|mut url| {
            let day = |day: NaiveDate| day.format("%Y-%m-%d").to_string();
            url.query_pairs_mut().append_pair("startDate", &day(from));
            if let Some(to) = to {
                url.query_pairs_mut().append_pair("endDate", &day(to));
            }
            url
        });
        let Some(call) = self.page(Reader::ActivityLog, url, after).await? else {
            return Ok(OperationPage { operations: Vec::new(), skipped: 0, next: None });
        };
        let page = operations(&call.reply.body, PAGE_SIZE).map_err(|why| call.unreadable(why))?;
        let next = call.continuation(page.next, after)?;
        Ok(OperationPage { operations: page.read, skipped: page.skipped, next })
    }

    /// True if this cloud has an activity log; 21Vianet's has none.
    pub fn has_activity_log(&self) -> bool {
        self.api_url.host_str() != Some(CHINA_API_HOST)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Operations {
    pub(crate) read: Vec<Operation>,
    /// Records that could not be read.
    pub(crate) skipped: usize,
    pub(crate) next: Option<String>,
}

/// Parses a page of at most `full` records. Fails only if it is not a page, or if the token of the next one is missing.
pub(crate) fn operations(body: &[u8], full: usize) -> Result<Operations, ParseError> {
    let no_list = || ParseError("the body is not a list of audit records");
    let Some(Json::Object(page)) = Json::parse(without_bom(body)) else { return Err(no_list()) };
    let Some(Json::List(items)) = page.get("items")? else { return Err(no_list()) };
    let read: Vec<_> =
        items.iter().filter_map(|item| item.as_object().and_then(|record| operation(record).ok().flatten())).collect();
    let next = wire::next_page(&page, items.len(), full)?;
    Ok(Operations { skipped: items.len() - read.len(), next, read })
}

/// `None` without a type or a time: there is nothing to learn from it.
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
        customer_id: short_line(customer_id, WORD_MAX_CHARS),
        customer_name: wire::fact(text("customerName")?, WORD_MAX_CHARS).unwrap_or_default(),
        is_done: ["succeeded", "progress"].iter().any(|done| status.trim().eq_ignore_ascii_case(done)),
    }))
}

impl OperationKind {
    /// The documentation's samples have underscores; Microsoft's own tool has `UpdateCustomerQualification`.
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
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests;

//! The activity log: operations of the partner's users and applications, never Microsoft's decisions.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::{Value, json};

use super::engine::Call;
use super::errors::{self, Reply};
use super::pages::{self, LARGEST_PAGE};
use super::response_options::{AuditLogOptions, Keys, Order};
use super::rule::scrambled;
use vetwatch_core::time::Timestamp;

/// Retention, and maximum span of a query.
const RETENTION_DAYS: u64 = 90;
const MAX_SPAN_DAYS: i64 = 30;
/// Prefix of continuation tokens, so that no other text is accepted as one.
const TOKEN_MARK: &str = "record:";

/// The records, in the order of the operations.
#[derive(Debug, Default)]
pub(super) struct Audit(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    at: Timestamp,
    /// When it was recorded, whatever its date.
    written_at: Timestamp,
    what: What,
}

#[derive(Debug)]
enum What {
    Done {
        operation: &'static str,
        customer_id: String,
        customer_name: String,
        new_value: String,
    },
    /// A verbatim record.
    Raw(Value),
}

impl Audit {
    pub(super) fn note(&mut self, at: Timestamp, operation: &'static str, id: &str, name: &str, new_value: &Value) {
        let what = What::Done {
            operation,
            customer_id: id.to_owned(),
            customer_name: name.to_owned(),
            new_value: new_value.to_string(),
        };
        self.0.push(Entry { at, written_at: at, what });
    }

    /// Adds a verbatim record; `operationDate` defaults to now if missing or unreadable.
    pub(super) fn raw(&mut self, record: Value, now: Timestamp) {
        let written = record.get("operationDate").and_then(Value::as_str);
        let date = written.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        let at = date.map_or(now, |date| date.to_utc().into());
        self.0.push(Entry { at, written_at: now, what: What::Raw(record) });
    }
}

pub(super) fn problems(call: &Call) -> Option<String> {
    match call.parameter("startDate") {
        None => Some("without startDate it is the last 30 days, over and over".into()),
        Some(_) => pages::problems(call),
    }
}

pub(super) fn answer(audit: &Audit, call: &Call, auditing: &AuditLogOptions, now: Timestamp) -> Reply {
    let refuse = |text: &str| errors::standard(StatusCode::BAD_REQUEST, 3000, text);
    let today = now.to_utc().date_naive();
    let day = |name, usual: NaiveDate| match call.parameter(name) {
        None => Some(usual),
        Some(text) => parse_day(&text),
    };
    let before = |days| today.checked_sub_days(chrono::Days::new(days)).unwrap_or(today);
    let (Some(from), Some(to)) = (day("startDate", before(30)), day("endDate", today)) else {
        return refuse("The dates are invalid.");
    };
    if from < before(RETENTION_DAYS) {
        return refuse("The startDate must be within the last 90 days.");
    }
    if from > to || (to - from).num_days() > MAX_SPAN_DAYS {
        return refuse("The dates must not be more than 30 days apart.");
    }
    let size = pages::size(call).unwrap_or(LARGEST_PAGE).min(auditing.page_size.unwrap_or(LARGEST_PAGE)).max(1);
    let begin = match pages::token(call).map(place) {
        Some(None) => return refuse("The continuation token is invalid."),
        begin => begin.flatten().unwrap_or(0),
    };
    let ends_before = auditing.end_is_exclusive && call.parameter("endDate").is_some();
    let is_shown = |entry: &&Entry| {
        let day = entry.at.to_utc().date_naive();
        let is_within = from <= day && (day < to || day == to && !ends_before);
        is_within && auditing.lag.is_none_or(|lag| entry.written_at.after(lag) <= now)
    };
    let mut shown: Vec<_> = audit.0.iter().enumerate().filter(|(_, entry)| is_shown(entry)).collect();
    match auditing.order.unwrap_or_default() {
        Order::NewestFirst => shown.sort_by_key(|(index, entry)| std::cmp::Reverse((entry.at, *index))),
        Order::OldestFirst => shown.sort_by_key(|(index, entry)| (entry.at, *index)),
        // A different order for each query, but the same for all its pages.
        Order::None => {
            let salt = (shown.len() as u64) << 32;
            shown.sort_by_key(|(index, _)| scrambled(*index as u64 ^ salt));
        }
    }
    let items: Vec<_> =
        shown.iter().skip(begin).take(size).map(|(index, entry)| written(entry, *index, auditing)).collect();
    let end = begin + items.len();
    let mut page = json!({
        "totalCount": items.len(), "items": items, "links": {"self": {"uri": "/auditrecords", "method": "GET"}},
        "attributes": {"objectType": "Collection"},
    });
    if end < shown.len() {
        let token = BASE64_STANDARD.encode(format!("{TOKEN_MARK}{end}"));
        let headers = json!([{"key": "MS-ContinuationToken", "value": token}]);
        page["links"]["next"] = json!({"uri": "/auditrecords?seekOperation=Next", "method": "GET", "headers": headers});
        page["continuationToken"] = token.into();
    }
    Reply::json(StatusCode::OK, &page)
}

/// The day of a date in each form that clients send: ISO 8601, Microsoft's SDK (`07/01/2026 00:00:00`), Microsoft's
/// documentation (`7/1/2026 12:00:00 AM`).
fn parse_day(text: &str) -> Option<NaiveDate> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc().date_naive());
    }
    let times = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p"];
    let time = times.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let days = ["%Y-%m-%d", "%m/%d/%Y"];
    time.map(|time| time.date()).or_else(|| days.iter().find_map(|form| NaiveDate::parse_from_str(text, form).ok()))
}

fn place(token: &str) -> Option<usize> {
    String::from_utf8(BASE64_STANDARD.decode(token).ok()?).ok()?.strip_prefix(TOKEN_MARK)?.parse().ok()
}

/// As in the documentation's samples.
fn written(entry: &Entry, index: usize, auditing: &AuditLogOptions) -> Value {
    let date = entry.at.to_utc().format("%Y-%m-%dT%H:%M:%S%.3f0000Z").to_string();
    let (operation, customer_id, customer_name, new_value) = match &entry.what {
        What::Raw(record) => {
            let mut record = record.clone();
            if let Some(record) = record.as_object_mut() {
                record.entry("operationDate").or_insert(date.into());
            }
            return record;
        }
        What::Done { operation, customer_id, customer_name, new_value } => {
            (*operation, customer_id, customer_name, new_value)
        }
    };
    let operation = match auditing.words {
        Some(Keys::Pascal) => operation.split('_').map(capital).collect(),
        Some(Keys::Lower) => operation.replace('_', ""),
        Some(Keys::Upper) => operation.to_uppercase(),
        Some(Keys::Camel) | None => operation.to_owned(),
    };
    let mut record = json!({
        "partnerId": "3b7d9c52-6c0f-4a43-9c62-4f6f7a0b7d10", "customerId": customer_id, "customerName": customer_name,
        "userPrincipalName": "sales@partner.example", "applicationId": "portal", "resourceType": "customer",
        "resourceOldValue": "", "resourceNewValue": new_value, "operationType": operation,
        "originalCorrelationId": "00000000-0000-0000-0000-000000000000", "operationDate": date,
        "operationStatus": "succeeded", "customizedData": [],
        "attributes": {"objectType": "AuditRecord"},
    });
    if !auditing.without_ids {
        record["id"] = format!("record-{index}").into();
    }
    record
}

fn capital(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(characters).collect()
}

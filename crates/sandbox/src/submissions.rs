//! Submissions: which ones Partner Center accepts and rejects. The codes of rejections are undocumented; those marked
//! here are made up.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::body;
use super::engine::Call;
use super::entry::{EDUCATION, Entry, GOVERNMENT, STATE_OWNED, Vetting};
use super::errors::{self, Reply};
use super::log::{Progress, RequestLog};
use super::response_options::{BodyOptions, DateFormat, DateName, Shape};
use vetwatch_core::qualification::key;

const ATTEMPTS: u32 = 3;
const NAMES: [&str; 3] = [EDUCATION, GOVERNMENT, STATE_OWNED];

#[derive(Debug)]
pub(super) struct Submissions {
    /// The response to `GET /v1/customers/all/validations`.
    pub(super) codes: Vec<Value>,
    /// Attempts for Education, by customer in lower case.
    attempts: HashMap<String, u32>,
    /// Request bodies and responses by `MS-RequestId`: a repetition gets the same response and has no other effect.
    answered: HashMap<Uuid, (Bytes, Reply)>,
    /// The latest sequence number of each `MS-RequestId`.
    last_seq: HashMap<Uuid, u64>,
}

impl Default for Submissions {
    fn default() -> Self {
        let code = json!({
            "partnerId": "5a4d0b1e-0c5c-4c8e-9f0e-2f6d3b1a7c11", "organizationName": "Contoso, Inc.",
            "validationId": "123456", "maxCreates": 5, "remainingCreates": 5,
            "eTag": "W/\"datetime'2018-10-10T18%3A49%3A58.727348Z'\"",
        });
        Self { codes: vec![code], attempts: HashMap::new(), answered: HashMap::new(), last_seq: HashMap::new() }
    }
}

impl Submissions {
    pub(super) fn attempts_of(&self, customer: &str) -> u32 {
        self.attempts.get(&customer.to_lowercase()).copied().unwrap_or(0)
    }

    /// The qualification of a submission that is accepted. `Err` is the reply to any other one, and to a repetition.
    pub(super) fn take(
        &mut self,
        customer: &str,
        call: &Call,
        id: Option<Uuid>,
        entries: &[Entry],
    ) -> Result<&'static str, Box<Reply>> {
        if let Some((body, reply)) = id.and_then(|id| self.answered.get(&id))
            && *body == call.body
        {
            return Err(Box::new(reply.clone()));
        }
        let checked = self.check(customer, call, entries);
        let name = checked.map_err(|(status, code, text)| Box::new(errors::standard(status, code, text)))?;
        if name == EDUCATION {
            *self.attempts.entry(customer.to_lowercase()).or_default() += 1;
        }
        Ok(name)
    }

    /// The submitted qualification, or the error to respond with.
    fn check(
        &mut self,
        customer: &str,
        call: &Call,
        entries: &[Entry],
    ) -> Result<&'static str, (StatusCode, u32, &'static str)> {
        let invalid = |text| (StatusCode::BAD_REQUEST, 3000, text);
        // Made up: only the status 409 is documented.
        let conflict = |code, text| (StatusCode::CONFLICT, code, text);
        if !call.query.is_empty() {
            return Err((StatusCode::BAD_REQUEST, 800_002, "The request input is invalid."));
        }
        let body = fields(call).ok_or(invalid("The request body is not valid."))?;
        let text = |name| field(&body, name).and_then(Value::as_str);
        let name = text("qualification").unwrap_or_default();
        let known = NAMES.into_iter().find(|known| key(known) == key(name));
        let name = known.ok_or((StatusCode::BAD_REQUEST, 900_126, "The qualification is invalid."))?;
        let has = |name: &str, is_status: fn(&Vetting) -> bool| {
            entries.iter().any(|entry| entry.is_of(name) && is_status(&entry.vetting))
        };
        let is_in_review: fn(&Vetting) -> bool = |vetting| matches!(vetting, Vetting::InReview { .. });
        let is_held: fn(&Vetting) -> bool =
            |vetting| matches!(vetting, Vetting::InReview { .. } | Vetting::Approved { .. });
        let excluded = if name == EDUCATION { GOVERNMENT } else { EDUCATION };
        match name {
            EDUCATION if !matches!(text("educationSegment"), Some("K12" | "HigherEducation")) => {
                return Err(invalid("The property educationSegment is invalid."));
            }
            EDUCATION | GOVERNMENT if has(excluded, is_held) => {
                return Err(conflict(900_602, "Education and GovernmentCommunityCloud cannot be combined."));
            }
            _ if has(name, is_in_review) => return Err(conflict(900_600, "The qualification is being vetted.")),
            EDUCATION if self.attempts_of(customer) >= ATTEMPTS => {
                return Err(conflict(900_601, "The number of vetting requests is exhausted."));
            }
            GOVERNMENT => {
                let wanted = text("validationCode").unwrap_or_default();
                let is_it = |code: &&mut Value| code["validationId"].as_str() == Some(wanted);
                let left = self.codes.iter_mut().find(is_it).map(|code| &mut code["remainingCreates"]);
                let left = left.filter(|left| left.as_u64().is_some_and(|left| left > 0));
                let left = left.ok_or(invalid("The property validationCode is invalid."))?;
                *left = json!(left.as_u64().unwrap_or(1) - 1);
            }
            _ => {}
        }
        Ok(name)
    }

    /// Remembers the response to an accepted submission.
    pub(super) fn keep(&mut self, id: Option<Uuid>, call: &Call, reply: &Reply) {
        if let Some(id) = id {
            self.answered.insert(id, (call.body.clone(), reply.clone()));
        }
    }

    /// An id may be repeated with the same body until the service behind the gateway has responded.
    pub(super) fn problem(
        &mut self,
        id: Uuid,
        is_new: bool,
        log: &RequestLog,
        call: &Call,
        seq: u64,
    ) -> Option<String> {
        let last = self.last_seq.insert(id, seq);
        let end = last.and_then(|last| log.end_of(last));
        let is_answered = matches!(end, Some((Progress::Answered, Some(status))) if !matches!(status, 408 | 502..=504));
        let is_other = self.answered.get(&id).is_some_and(|(body, _)| *body != call.body);
        match (is_new, last) {
            (true, _) => None,
            (false, Some(_)) if !is_answered && !is_other => None,
            (false, _) => Some(format!("MS-RequestId {id} was used before")),
        }
    }
}

/// 201 and the new entry, as documented, or in another shape.
pub(super) fn answer(qualification: &str, entries: &[Entry], writing: &BodyOptions) -> Reply {
    let new: Vec<_> = entries.iter().filter(|entry| entry.is_of(qualification)).cloned().collect();
    let shape = writing.shape.unwrap_or(Shape::Object);
    let (status, shown) = match shape {
        Shape::Wrapper => (StatusCode::OK, entries),
        Shape::Array | Shape::Object => (StatusCode::CREATED, new.as_slice()),
    };
    let writing = BodyOptions {
        shape: Some(shape),
        date: writing.date.or(Some(DateFormat::Seconds)),
        date_name: writing.date_name.or(Some(DateName::Create)),
        ..writing.clone()
    };
    Reply::new(status, errors::JSON, body::body(shown, &writing))
}

fn fields(call: &Call) -> Option<Map<String, Value>> {
    match serde_json::from_slice(&call.body) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Deviations of a submission from the contract since May 2023.
pub(super) fn of_another_contract(call: &Call) -> Vec<String> {
    let Some(fields) = fields(call) else { return vec!["a submission that is no JSON object".into()] };
    let mut problems = Vec::new();
    let is_json = call.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    if !is_json {
        problems.push("a submission's Content-Type is application/json".into());
    }
    let name = field(&fields, "qualification").and_then(Value::as_str).unwrap_or_default();
    let (needed, allowed): (&[&str], &[&str]) = match NAMES.into_iter().find(|known| *known == name) {
        Some(EDUCATION) => (&["educationSegment"], &["qualification", "educationSegment", "website"]),
        Some(GOVERNMENT) => (&["validationCode"], &["qualification", "validationCode"]),
        Some(_) => (&[], &["qualification"]),
        None => {
            problems.push(format!("{name:?} cannot be submitted"));
            return problems;
        }
    };
    problems.extend(needed.iter().filter(|name| !fields.contains_key(**name)).map(|name| format!("{name} is missing")));
    let unused = fields.iter().filter(|(name, value)| !allowed.contains(&name.as_str()) || !value.is_string());
    problems.extend(unused.map(|(name, _)| format!("{name} has no place in this submission")));
    problems
}

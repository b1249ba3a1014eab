//! Handles one request without the network: logs it, checks it, applies faults and quirks, and builds the response.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode};
use tokio::sync::watch;
use uuid::Uuid;

use super::Options;
use super::audit;
use super::body;
use super::entra::{Authorization, Document, Entra, MfaRefusal};
use super::entry::Entry;
use super::errors::{self, Reply};
use super::fault::{self, Fault, Faults, Match};
use super::listener::Disconnect;
use super::log::{Kind, Progress, Record, RequestLog, Shown, Violation};
use super::operation::Operation;
use super::pages;
use super::quirk::{AppliedQuirks, Quirk};
use super::response_options::Unqualified;
use super::rule::Rules;
use super::submissions::{self, Submissions};
use super::throttle::Throttle;
use super::transport;
use super::world::{State, World};
use vetwatch_core::time::Timestamp;

/// A parsed request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The last value of a parameter of the query, whatever its case.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let all = url::form_urlencoded::parse(self.query.as_bytes());
        all.filter(|(key, _)| key.eq_ignore_ascii_case(name)).last().map(|(_, value)| value.into_owned())
    }

    fn target(&self) -> Target<'_> {
        let segments: Vec<&str> = self.path.trim_end_matches('/').split('/').skip(1).collect();
        // Microsoft's servers compare paths without regard to case.
        let words: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let tenant = segments.first().copied().unwrap_or_default();
        let id = segments.get(2).copied().unwrap_or_default();
        match (self.method.as_str(), words.as_slice()) {
            ("POST", [_, "oauth2", "token"]) => Target::Token { tenant, v2: false },
            ("POST", [_, "oauth2", "v2.0", "token"]) => Target::Token { tenant, v2: true },
            ("POST", [_, "oauth2", "v2.0", "devicecode"]) => Target::DeviceCode { tenant },
            ("GET", [_, "oauth2", "v2.0", "authorize"]) => Target::Authorization { tenant },
            ("GET", [_, ".well-known", "openid-configuration"]) => {
                Target::Document(Document::Configuration { tenant, v2: false })
            }
            ("GET", [_, "v2.0", ".well-known", "openid-configuration"]) => {
                Target::Document(Document::Configuration { tenant, v2: true })
            }
            ("GET", [_, "discovery", "keys"] | [_, "discovery", "v2.0", "keys"]) => {
                Target::Document(Document::Keys { tenant })
            }
            ("GET", ["common", "discovery", "instance"]) => Target::Document(Document::Instance),
            ("GET", ["v1" | "v1.0", "customers"]) => Target::Customers,
            ("GET", ["v1" | "v1.0", "auditrecords"]) => Target::AuditRecords,
            ("GET", ["v1" | "v1.0", "customers", _, "qualifications"]) => Target::Qualifications(id),
            ("POST", ["v1" | "v1.0", "customers", _, "qualifications"]) => Target::Submission(id),
            ("GET", ["v1" | "v1.0", "customers", "all", "validations"]) => Target::Validations,
            _ => Target::Unknown,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Target<'a> {
    Token { tenant: &'a str, v2: bool },
    DeviceCode { tenant: &'a str },
    Authorization { tenant: &'a str },
    Document(Document<'a>),
    Customers,
    Qualifications(&'a str),
    Submission(&'a str),
    Validations,
    AuditRecords,
    Unknown,
}

impl Target<'_> {
    fn kind(self) -> Kind {
        match self {
            Self::Token { .. } | Self::DeviceCode { .. } => Kind::Token,
            Self::Authorization { .. } | Self::Document(_) => Kind::SignIn,
            Self::Customers => Kind::Customers,
            Self::Qualifications(_) => Kind::Qualifications,
            Self::Submission(_) => Kind::Submissions,
            Self::Validations => Kind::Validations,
            Self::AuditRecords => Kind::AuditRecords,
            Self::Unknown => Kind::Unknown,
        }
    }
}

/// A request that has been logged.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) seq: u64,
    pub(super) kind: Kind,
    authorization: Authorization,
    quirks: Option<Box<AppliedQuirks>>,
}

/// How to respond to a request.
pub(super) enum Plan {
    Answer(Reply),
    /// Respond after the pause: with this, or with the state by then.
    Wait(Pause, Option<Reply>),
    Sever(Disconnect),
}

pub(super) enum Pause {
    For(Duration),
    /// Until the sender is dropped.
    Held(watch::Receiver<()>),
    Forever,
}

/// The sandbox's state, behind one mutex.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) world: World,
    pub(super) entra: Entra,
    pub(super) faults: Faults,
    pub(super) quirks: Rules<Quirk>,
    pub(super) throttle: Throttle,
    pub(super) log: RequestLog,
    pub(super) submissions: Submissions,
}

impl Engine {
    pub(super) fn new(options: &Options) -> Self {
        let Options { tenant, client_id, client_secret, .. } = options.clone();
        Self {
            world: World::default(),
            entra: Entra::new(tenant, client_id, client_secret, options.token_lifetime),
            faults: Faults::default(),
            quirks: Rules::default(),
            throttle: Throttle::of(options.throttle),
            log: RequestLog::new(options.log_capacity),
            submissions: Submissions::default(),
        }
    }

    pub(super) fn arrive(&mut self, call: &Call, now: Timestamp) -> (Arrival, Plan) {
        let target = call.target();
        let kind = target.kind();
        let customer = if let Target::Qualifications(id) | Target::Submission(id) = target { Some(id) } else { None };
        let authorization = if matches!(kind, Kind::Token | Kind::SignIn) {
            Authorization::NotNeeded
        } else {
            self.entra.check(call.header(AUTHORIZATION.as_str()), now)
        };
        let throttled = if kind.is_api() { self.throttle.refuse(now) } else { None };
        let met = if throttled.is_none() { self.faults.first_match(kind, customer, now) } else { None };
        let quirks = if throttled.is_none() { self.quirks.applied(kind, customer, now) } else { None };
        let seq = self.log.arrive(Record {
            seq: 0,
            at: now,
            method: call.method.to_string(),
            path: if call.query.is_empty() { call.path.clone() } else { format!("{}?{}", call.path, call.query) },
            kind,
            customer: customer.map(str::to_owned),
            authorization,
            request_id: call.header("ms-requestid").map(str::to_owned),
            correlation_id: call.header("ms-correlationid").map(str::to_owned),
            fault: throttled.map(|_| "throttle".to_owned()).or_else(|| met.as_ref().map(|met| met.fault.name())),
            shown: quirks.as_ref().map(|quirks| quirks.shown).unwrap_or_default(),
            status: None,
            progress: Progress::Open,
            body: Bytes::new(),
        });
        for problem in self.problems(call, target, seq) {
            self.log.violation(Violation { seq, at: now, path: call.path.clone(), problem });
        }
        let arrival = Arrival { seq, kind, authorization, quirks };
        let plan = match (throttled, met) {
            (Some(wait_s), _) => Plan::Answer(self.throttle.answer(wait_s, now)),
            (None, Some(met)) => self.spoil(met, call, &arrival, now),
            (None, None) => Plan::Answer(self.answer(call, &arrival, now)),
        };
        (arrival, plan)
    }

    fn spoil(&mut self, met: Match, call: &Call, arrival: &Arrival, now: Timestamp) -> Plan {
        if let Some(reply) = met.fault.reply(now) {
            // A custom 2xx response means that the submission was carried out.
            if arrival.kind == Kind::Submissions && reply.status.is_success() {
                self.answer(call, arrival, now);
            }
            return Plan::Answer(dressed(reply, call, arrival));
        }
        let mut now_if = |stale: bool| stale.then(|| self.answer(call, arrival, now));
        match met.fault {
            Fault::Hold { stale } => {
                let early = now_if(stale);
                // Without a sender, it was released in the meantime.
                Plan::Wait(met.released.map_or(Pause::For(Duration::ZERO), Pause::Held), early)
            }
            Fault::Delay { by, stale } => Plan::Wait(Pause::For(by), now_if(stale)),
            Fault::Cut => Plan::Answer(fault::cut(self.answer(call, arrival, now))),
            Fault::Lost => {
                self.answer(call, arrival, now);
                Plan::Sever(Disconnect::Close)
            }
            Fault::Close => Plan::Sever(Disconnect::Close),
            Fault::Reset => Plan::Sever(Disconnect::Reset),
            _ => Plan::Wait(Pause::Forever, None),
        }
    }

    /// Partner Center's regular response, with the quirks that apply.
    pub(super) fn answer(&mut self, call: &Call, arrival: &Arrival, now: Timestamp) -> Reply {
        let refusal = if arrival.kind.is_api() {
            refuse(arrival.authorization, self.entra.users.settings.mfa_refusal)
        } else {
            None
        };
        let reply = refusal.unwrap_or_else(|| {
            let usual = AppliedQuirks::default();
            let quirks = arrival.quirks.as_deref().unwrap_or(&usual);
            let host = call.header("host").unwrap_or_default();
            match call.target() {
                Target::Token { tenant, v2 } => self.entra.answer(tenant, v2, host, &call.body, now),
                Target::DeviceCode { tenant } => self.entra.device_code(tenant, host, &call.body, now),
                Target::Authorization { tenant } => self.entra.authorize(tenant, &call.query, now),
                Target::Document(document) => self.entra.document(document, host),
                Target::Customers => pages::answer(&self.world, call, &quirks.pagination),
                Target::AuditRecords => audit::answer(&self.world.audit, call, &quirks.audit_log, now),
                Target::Qualifications(id) => self.qualifications(id, quirks, now),
                Target::Submission(id) => self.submission(id, call, quirks, now),
                Target::Validations => Reply::json(StatusCode::OK, &self.submissions.codes),
                Target::Unknown => errors::standard(StatusCode::NOT_FOUND, 1000, "Resource not found."),
            }
        });
        dressed(reply, call, arrival)
    }

    fn submission(&mut self, id: &str, call: &Call, quirks: &AppliedQuirks, now: Timestamp) -> Reply {
        if !self.entra.is_user(call.header(AUTHORIZATION.as_str())) {
            return errors::standard(StatusCode::FORBIDDEN, 900_329, "App-only access is not supported.");
        }
        let Some(customer) = self.world.get(id) else { return unknown(id) };
        if customer.state.ended {
            return no_relationship();
        }
        let request_id = guid(call.header("ms-requestid"));
        let (entries, writing) = (&customer.state.entries, &quirks.body);
        let qualification = match self.submissions.take(id, call, request_id, entries) {
            Ok(qualification) => qualification,
            Err(reply) => return *reply,
        };
        // The customer exists, and this operation cannot fail.
        let _ = self.world.apply(id, Operation::Submit { qualification: qualification.to_owned() }, now);
        let entries = self.world.get(id).map(|customer| customer.state.entries.as_slice()).unwrap_or_default();
        let reply = submissions::answer(qualification, entries, writing);
        self.submissions.keep(request_id, call, &reply);
        reply
    }

    fn qualifications(&self, id: &str, quirks: &AppliedQuirks, now: Timestamp) -> Reply {
        let Some(customer) = self.world.get(id) else { return unknown(id) };
        let State { ended, entries, body } = match quirks.shown {
            Shown::Past => self.world.state_at(customer, now.before(quirks.ago)),
            Shown::Present | Shown::Nothing => &customer.state,
        };
        if *ended {
            return no_relationship();
        }
        let ok = |body: Vec<u8>| Reply::new(StatusCode::OK, errors::JSON, body);
        match (body, quirks.shown, quirks.body.unqualified) {
            (_, Shown::Nothing, _) => ok(body::body(&[], &quirks.body)),
            (Some(raw), ..) => {
                let mut reply = ok(raw.bytes.clone());
                reply.headers.clear();
                reply.with(axum::http::header::CONTENT_TYPE, &raw.content_type)
            }
            (None, _, Some(unqualified)) if entries.is_empty() => match unqualified {
                Unqualified::None => ok(body::body(&[Entry::none()], &quirks.body)),
                Unqualified::Null => ok(b"null".to_vec()),
                Unqualified::Braces => ok(b"{}".to_vec()),
                Unqualified::Empty => ok(Vec::new()),
                Unqualified::NoContent => Reply::empty(StatusCode::NO_CONTENT),
                Unqualified::NotFound => errors::standard(StatusCode::NOT_FOUND, 1000, "Resource not found."),
            },
            (None, ..) => ok(body::body(entries, &quirks.body)),
        }
    }

    /// Checks what a careful client would do differently.
    fn problems(&mut self, call: &Call, target: Target<'_>, seq: u64) -> Vec<String> {
        let mut problems = Vec::new();
        match target {
            Target::Authorization { .. } | Target::Document(_) => {}
            Target::Unknown => problems.push(format!("{} is not known here", call.method)),
            Target::Token { .. } | Target::DeviceCode { .. } => {
                let form = call.header("content-type").unwrap_or_default();
                if !form.starts_with("application/x-www-form-urlencoded") {
                    problems.push("a token is asked for with a form".into());
                }
                if !call.query.is_empty() {
                    problems.push("the token endpoint takes nothing in the query: it ends up in logs".into());
                }
            }
            _ => {
                let accepts = call.header(ACCEPT.as_str()).unwrap_or_default();
                if !accepts.contains("application/json") {
                    problems.push("Accept is not application/json: the service can answer XML as well".into());
                }
                match guid(call.header("ms-requestid")) {
                    None => problems.push("MS-RequestId is not a GUID".into()),
                    Some(id) if matches!(target, Target::Submission(_)) => {
                        let is_new = self.log.is_new(id);
                        problems.extend(self.submissions.problem(id, is_new, &self.log, call, seq));
                    }
                    Some(id) if !self.log.is_new(id) => problems.push(format!("MS-RequestId {id} was used before")),
                    Some(_) => {}
                }
                if guid(call.header("ms-correlationid")).is_none() {
                    problems.push("MS-CorrelationId is not a GUID".into());
                }
                match target {
                    Target::Customers => problems.extend(pages::problems(call)),
                    Target::AuditRecords => problems.extend(audit::problems(call)),
                    _ if !call.query.is_empty() => problems.push("qualifications take no query".into()),
                    _ => {}
                }
                if matches!(target, Target::Submission(_)) {
                    problems.extend(submissions::of_another_contract(call));
                }
            }
        }
        problems
    }
}

fn unknown(id: &str) -> Reply {
    if Uuid::try_parse(id).is_ok() {
        errors::standard(StatusCode::NOT_FOUND, 60003, "The customer was not found.")
    } else {
        errors::standard(StatusCode::BAD_REQUEST, 900_118, "The customer id is invalid.")
    }
}

fn no_relationship() -> Reply {
    let text = "There is no commerce relationship between the partner and the customer.";
    errors::standard(StatusCode::FORBIDDEN, 20002, text)
}

fn dressed(reply: Reply, call: &Call, arrival: &Arrival) -> Reply {
    let takes_gzip = call.header(ACCEPT_ENCODING.as_str()).is_some_and(|encodings| encodings.contains("gzip"));
    match arrival.quirks.as_ref().and_then(|quirks| quirks.transport.as_ref()) {
        Some(sending) => transport::dress(reply, sending, takes_gzip),
        None => reply,
    }
}

/// A GUID in a header is valid only with hyphens.
pub(super) fn guid(header: Option<&str>) -> Option<Uuid> {
    header.filter(|id| id.len() == 36).and_then(|id| Uuid::try_parse(id).ok())
}

fn refuse(authorization: Authorization, mfa: MfaRefusal) -> Option<Reply> {
    let (code, text) = match authorization {
        Authorization::Valid | Authorization::NotNeeded => return None,
        Authorization::Missing => (800_001, "The partner token is missing."),
        Authorization::WrongAudience => (900_420, "The token was issued for another audience."),
        Authorization::NoMfa if mfa == MfaRefusal::Header => {
            let mut reply = Reply::empty(StatusCode::UNAUTHORIZED);
            reply.reason = Some("Unauthorized - MFA required");
            return Some(reply.with(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""));
        }
        Authorization::NoMfa => (900_421, "The token was issued without multi-factor authentication."),
        Authorization::Unknown | Authorization::Expired | Authorization::Revoked => (400, "Access denied."),
    };
    Some(errors::standard(StatusCode::UNAUTHORIZED, code, text))
}

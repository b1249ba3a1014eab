//! The client of one partner: one over one budget, whose calls share connections and a token.

pub(crate) mod audit;
mod submission;
pub(crate) mod validation_codes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::header::{HeaderValue, LOCATION, WWW_AUTHENTICATE};
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

pub use self::audit::{Operation, OperationKind, OperationPage};
pub use self::submission::{NotSubmitted, Segment, Submission, Submitted};
pub use self::validation_codes::ValidationCode;
use crate::api_error::{ApiError, clean};
use crate::budget::{Budget, Promise, Reader};
use crate::entra::{RequestEpoch, Token, Tokens};
use crate::error::Error;
use crate::http::{Body, Failure, Http, Reply, SetupError, join_segments};
use crate::settings::PartnerSettings;
use crate::wire::{self, ListedCustomer, ParseError};
use vetwatch_core::qualification::Snapshot;
use vetwatch_core::time::{Clock, Timestamp};

/// The client of one partner. Its connections and its token are shared by all calls.
pub struct PartnerCenter {
    name: String,
    api_url: Url,
    budget: Arc<Budget>,
    http: Http,
    tokens: Tokens,
    deadline: Duration,
}

/// A response that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub snapshot: Snapshot,
    /// The body as received, at most the first 64 KiB. Must not be shown or stored before `redact::words`.
    pub raw: String,
    /// Generated here, new for each request.
    pub request_id: Uuid,
    /// The server's, or the one sent if it returned none.
    pub correlation_id: Uuid,
    /// When the answered request was sent (after a 401: the second one).
    pub began_at: Timestamp,
    pub ended_at: Timestamp,
}

/// One page of the customer list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerPage {
    pub customers: Vec<ListedCustomer>,
    /// `None` if this is the last page.
    pub next: Option<Continuation>,
}

/// Token for the next page. Valid only for the client that returned it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Continuation(HeaderValue);

/// Whole call: at most one token request and two requests.
const CALL_TIMEOUT: Duration = Duration::from_mins(1);
/// One response: no longer than a customer in review may be late.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
const PAGE_SIZE: usize = 500;
const QUALIFICATIONS_MAX_BYTES: usize = 1024 * 1024;
const PAGE_MAX_BYTES: usize = 16 * 1024 * 1024;
const RAW_MAX_BYTES: usize = 64 * 1024;
const CORRELATION_HEADER: &str = "MS-CorrelationId";

const WEB_PAGE: &str = "a web page, and not the API's answer";

/// A 401 with this code is for another audience; renewing the token does not help.
const WRONG_AUDIENCE: &str = "900420";

impl PartnerCenter {
    /// Sends nothing.
    ///
    /// # Errors
    /// If the system's certificates cannot be read, or a URL of the settings cannot be extended by a path.
    pub fn new(mut settings: PartnerSettings, budget: Arc<Budget>, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let http = Http::new(Some(Arc::clone(&budget)), settings.proxy.as_ref(), clock)?;
        // `/v1` is added to every path, so it must not be in the setting as well.
        if settings.api_url.path().trim_end_matches('/').ends_with("/v1") {
            settings.api_url.path_segments_mut().map_err(|()| SetupError::Address("api_url"))?.pop_if_empty().pop();
        }
        join_segments(&settings.api_url, &["v1"]).ok_or(SetupError::Address("api_url"))?;
        let tokens = Tokens::new(http.clone(), &settings.application(), settings.credential.user)?;
        Ok(Self { name: settings.name, api_url: settings.api_url, budget, http, tokens, deadline: CALL_TIMEOUT })
    }

    /// Sets the timeout of a whole call, token included. The default is a minute.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The partner's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fetches a token unless a valid one is cached.
    ///
    /// # Errors
    /// If no token can be obtained.
    pub async fn sign_in(&self) -> Result<(), Error> {
        self.tokens.current(self.tokens.mark(), Instant::now() + self.deadline).await.map(drop)
    }

    /// Fetches a customer's qualifications. Sends at most two requests (a 401 renews the token once) and two token
    /// requests.
    ///
    /// # Errors
    /// If there is no response or it was not understood. Nothing is known about the customer then.
    pub async fn qualifications(&self, customer_id: &str) -> Result<Answer, Error> {
        self.promised_qualifications(customer_id, None).await
    }

    /// As [`Self::qualifications`], for a request with a reserved budget, which is released when the request is sent.
    ///
    /// # Errors
    /// As [`Self::qualifications`].
    pub async fn promised_qualifications(&self, customer_id: &str, promise: Option<Promise>) -> Result<Answer, Error> {
        let url = join_segments(&self.api_url, &["v1", "customers", customer_id, "qualifications"]);
        let call = self.get(url, None, QUALIFICATIONS_MAX_BYTES, promise).await?;
        let snapshot = wire::qualifications(&call.reply.body).map_err(|why| call.unreadable(why))?;
        let raw = call.raw();
        let Call { reply, request_id, correlation_id, .. } = call;
        Ok(Answer { snapshot, raw, request_id, correlation_id, began_at: reply.began_at, ended_at: reply.ended_at })
    }

    /// Fetches a page of at most 500 customers: the first one, or the one after `after`.
    ///
    /// # Errors
    /// If there is no page or it was not understood. The list is incomplete then.
    pub async fn customers(&self, after: Option<&Continuation>) -> Result<CustomerPage, Error> {
        let url = join_segments(&self.api_url, &["v1", "customers"]);
        let Some(call) = self.page(Reader::CustomerList, url, after).await? else {
            return Ok(CustomerPage { customers: Vec::new(), next: None });
        };
        let listed = wire::customers(&call.reply.body, PAGE_SIZE).map_err(|why| call.unreadable(why))?;
        let next = call.continuation(listed.next, after)?;
        Ok(CustomerPage { customers: listed.customers, next })
    }

    /// Fetches a page of the list at `url`. `None` if there is no page after the last one.
    async fn page(
        &self,
        reader: Reader,
        url: Option<Url>,
        after: Option<&Continuation>,
    ) -> Result<Option<Call>, Error> {
        self.budget.reads(reader, self.http.now());
        let url = url.map(|mut url| {
            url.query_pairs_mut().append_pair("size", &PAGE_SIZE.to_string());
            if after.is_some() {
                url.query_pairs_mut().append_pair("seekOperation", "Next");
            }
            url
        });
        match self.get(url, after, PAGE_MAX_BYTES, None).await {
            // Microsoft's own tool treats this as the end: the last page may carry a token, too.
            Err(Error::Refused(answer))
                if after.is_some() && (answer.status(), answer.code()) == (400, Some("2000")) =>
            {
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    /// Sends one GET, and a second one with another token if the first token was rejected.
    async fn get(
        &self,
        url: Option<Url>,
        after: Option<&Continuation>,
        body_max: usize,
        promise: Option<Promise>,
    ) -> Result<Call, Error> {
        let url = url.ok_or_else(invalid_url)?;
        let request = || {
            let request = self.http.client().get(url.clone());
            after.iter().fold(request, |request, after| request.header(wire::CONTINUATION_HEADER, &after.0))
        };
        let body = Body::Whole(body_max);
        let until = Instant::now() + self.deadline;
        let mark = self.tokens.mark();
        let token = self.tokens.current(mark, until).await?;
        drop(promise); // from here on `send` counts the request
        let call = self.exchange(request(), token, Uuid::new_v4(), body, until).await?;
        if call.reply.status != 401 {
            return call.into_answer();
        }
        let token = self.replace_token(&call, mark, until).await?;
        self.exchange(request(), token, Uuid::new_v4(), body, until).await?.into_answer()
    }

    /// Replaces a token that was rejected with a 401, unless no other token can help.
    async fn replace_token(&self, call: &Call, mark: RequestEpoch, until: Instant) -> Result<Arc<Token>, Error> {
        let refusal = call.refusal();
        if refusal.is_missing_mfa() {
            // A person may sign in again; the next call must see that.
            self.tokens.forget(&call.token);
        }
        if refusal.code() == Some(WRONG_AUDIENCE) || refusal.is_missing_mfa() {
            return Err(Error::Credential(refusal));
        }
        self.tokens.replace_rejected(&call.token, mark, until).await?.ok_or(Error::Credential(refusal))
    }

    /// Sends one request. After an error other than [`Error::Unreachable`] and [`Error::NoDescriptor`] it may have arrived.
    async fn exchange(
        &self,
        request: RequestBuilder,
        token: Arc<Token>,
        request_id: Uuid,
        body: Body,
        until: Instant,
    ) -> Result<Call, Error> {
        let correlation_id = Uuid::new_v4();
        let request = request
            .bearer_auth(token.expose())
            .header("Accept", "application/json")
            .header("MS-RequestId", request_id.to_string())
            .header(CORRELATION_HEADER, correlation_id.to_string())
            // The language of the reasons (display text) is otherwise undocumented.
            .header("X-Locale", "en-US")
            .header("MS-PartnerCenter-Application", "vetwatch");
        let after = self.deadline.min(RESPONSE_TIMEOUT);
        let until = until.min(Instant::now() + after);
        let reply = self.http.send(request, body, until).await.map_err(|failure| match failure {
            Failure::TimedOut => Error::TimedOut { after, correlation_id: Some(correlation_id) },
            Failure::Unreachable(why) => Error::Unreachable(why),
            Failure::NoDescriptor => Error::NoDescriptor,
            Failure::Broken(what) => Error::Unreadable { what, correlation_id: Some(correlation_id) },
        })?;
        if reply.status != 401 {
            token.mark_accepted();
        }
        let correlation_id = reply.id(CORRELATION_HEADER).unwrap_or(correlation_id);
        Ok(Call { url: self.api_url.clone(), reply, token, request_id, correlation_id })
    }
}

impl fmt::Debug for PartnerCenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartnerCenter").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Continuation")
    }
}

struct Call {
    reply: Reply,
    url: Url,
    token: Arc<Token>,
    request_id: Uuid,
    correlation_id: Uuid,
}

impl Call {
    fn into_answer(self) -> Result<Self, Error> {
        if self.reply.is_success() { Ok(self) } else { Err(Error::of(self.refusal(), self.reply.retry_after())) }
    }

    fn refusal(&self) -> ApiError {
        let Reply { status, body, .. } = &self.reply;
        let refusal = ApiError::read(*status, body, Some(self.correlation_id));
        match status {
            // Some servers explain a rejected token only here.
            401 => {
                let header = self.reply.header(WWW_AUTHENTICATE.as_str());
                let why: Vec<&str> = self.reply.reason.as_deref().into_iter().chain(header).collect();
                refusal.or_message(&clean(&why.join("; ")))
            }
            300..=399 => {
                let target = self.reply.header(LOCATION.as_str()).and_then(|to| self.url.join(to).ok());
                let to = target.map(|to| format!(" to {}", clean(&to.origin().ascii_serialization())));
                refusal.or_message(&format!(
                    "a redirect{}, which is not followed: check `api_url`",
                    to.unwrap_or_default()
                ))
            }
            400..=499 if self.is_web_page() => refusal.or_message(WEB_PAGE),
            _ => refusal,
        }
    }

    fn is_web_page(&self) -> bool {
        let start = &self.reply.body[..self.reply.body.len().min(512)];
        start.trim_ascii_start().starts_with(b"<") && String::from_utf8_lossy(start).to_lowercase().contains("html")
    }

    fn unreadable(&self, why: ParseError) -> Error {
        if self.is_web_page() {
            return Error::Unreadable { what: WEB_PAGE.to_owned(), correlation_id: Some(self.correlation_id) };
        }
        // A 200 may carry an error that says more than the parse failure.
        let error = ApiError::read(self.reply.status, &self.reply.body, None);
        let what = if error.code().is_some() { format!("{}: {error}", why.0) } else { why.0.to_owned() };
        Error::Unreadable { what, correlation_id: Some(self.correlation_id) }
    }

    /// The continuation token, checked against the one just used.
    fn continuation(&self, next: Option<String>, after: Option<&Continuation>) -> Result<Option<Continuation>, Error> {
        let Some(next) = next else { return Ok(None) };
        let invalid = |_| self.unreadable(ParseError("a continuation token that fits no header"));
        let next = HeaderValue::try_from(next).map(Continuation).map_err(invalid)?;
        if Some(&next) == after {
            return Err(self.unreadable(ParseError("a page that names itself as the next one")));
        }
        Ok(Some(next))
    }

    fn raw(&self) -> String {
        let body = &self.reply.body;
        let mut raw = String::from_utf8_lossy(&body[..body.len().min(RAW_MAX_BYTES)]).into_owned();
        raw.truncate(raw.floor_char_boundary(RAW_MAX_BYTES));
        raw
    }
}

/// `..` and the like would address another resource.
fn invalid_url() -> Error {
    Error::Refused(ApiError::ours("the customer's id makes no address"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests;

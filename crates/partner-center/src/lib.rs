//! Partner Center's REST API: one client for each partner, over one budget.
//!
//! Only a 2xx answer of a documented shape becomes an [`Answer`]; everything else is an [`Error`], told apart by what
//! the caller does about it. No call takes longer than its deadline, and none leaves the hosts of the configuration:
//! redirects and links are not followed, proxies of the environment are not used.

pub mod application;
mod audit;
mod auth;
pub mod budget;
mod certificate;
mod credential;
mod date;
mod device;
mod error;
mod http;
mod json;
mod login;
mod error_codes;
mod connectivity;
mod refresh;
mod api_error;
mod submission;
mod text;
mod token_file;
mod validation;
mod wire;
mod x509;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

pub use self::api_error::ApiError;
pub use self::audit::{Operation, OperationKind, OperationPage};
use self::auth::{RequestEpoch, Token, Tokens};
pub use self::budget::{Budget, Promise, Reader};
pub use self::certificate::{Certificate, CertificateError};
pub use self::connectivity::{Stage, reach};
pub use self::credential::{ClientAuth, Credential, Expiry};
pub use self::device::{DeviceLogin, Prompt, SignInError, SignedIn};
pub use self::error::Error;
use self::http::{Failure, Http, Reply};
use self::login::Login;
pub use self::submission::{NotSubmitted, Segment, Submission, Submitted};
pub use self::token_file::TokenFile;
pub use self::validation::ValidationCode;
pub use self::wire::ListedCustomer;
use self::wire::ParseError;
pub use self::x509::X509;
use vetwatch_core::qualification::Snapshot;
use vetwatch_core::redact;
use vetwatch_core::time::{Clock, Timestamp};

/// `[[partner]]`: one tenant of Partner Center.
#[derive(Debug, Clone)]
pub struct PartnerSettings {
    pub name: String,
    pub tenant: String,
    pub client_id: String,
    pub api_url: Url,
    pub login_url: Url,
    /// What tokens are asked for: the API's own address in its cloud, whatever way leads there. Tokens do not work
    /// across clouds.
    pub resource: &'static str,
    pub credential: Credential,
    /// Who asks for what only users may: submitting. Reading does without.
    pub user_credential: Option<Credential>,
    pub requests_per_minute: u32,
    pub max_in_flight: usize,
    pub customers: Customers,
}

impl PartnerSettings {
    /// The same for what only users may; `None`: no user is configured.
    #[must_use]
    pub fn as_user(&self) -> Option<Self> {
        let credential = [self.user_credential.as_ref(), Some(&self.credential)].into_iter().flatten();
        let credential = credential.into_iter().find(|credential| credential.user.is_some())?.clone();
        Some(Self { credential, user_credential: None, ..self.clone() })
    }
}

/// Where the roster comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Customers {
    /// Partner Center's list, synced.
    Synced,
    /// Only those added by hand.
    Manual,
}

/// The client of one partner. Its connections and its token are shared by all calls.
pub struct PartnerCenter {
    name: String,
    api_url: Url,
    http: Http,
    tokens: Tokens,
    deadline: Duration,
}

/// An answer that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub snapshot: Snapshot,
    /// The body as it was received, of a larger one the first 64 KiB. Not to be shown or stored as it is: see
    /// `redact::words`.
    pub raw: String,
    /// Ours: new for each request.
    pub request_id: Uuid,
    /// The server's, or ours if it named none.
    pub correlation_id: Uuid,
    /// When the request that was answered began (after a 401: the second one).
    pub began_at: Timestamp,
    pub ended_at: Timestamp,
}

/// One page of the customer list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerPage {
    pub customers: Vec<ListedCustomer>,
    /// `None`: the list ended as documented.
    pub next: Option<Continuation>,
}

/// What asks for the next page. Of use only to the client that gave it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Continuation(HeaderValue);

/// A client that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the system's certificates cannot be used")]
    Tls(#[from] reqwest::Error),
    /// The setting's name.
    #[error("`{0}` does not make an address")]
    Address(&'static str),
}

/// What tokens are for, in every cloud but China's: the US Government cloud signs in elsewhere and asks the same API.
pub const RESOURCE: &str = "https://api.partnercenter.microsoft.com";
pub const RESOURCE_IN_CHINA: &str = "https://partner.partnercenterapi.microsoftonline.cn";

/// For a call, which is a token now and then and one or two questions.
const DEADLINE: Duration = Duration::from_mins(1);
/// For one answer: no longer than who is in review may be late.
const ANSWER: Duration = Duration::from_secs(30);
const PAGE: usize = 500;
const QUALIFICATIONS_MAX: usize = 1024 * 1024;
const PAGE_MAX: usize = 16 * 1024 * 1024;
const RAW_MAX: usize = 64 * 1024;
/// Of what is shown of an answer, in characters, before secrets are taken out.
const LONGEST: usize = 2000;
/// Microsoft's cloud in China, run by 21Vianet.
const CHINA: &str = "partner.partnercenterapi.microsoftonline.cn";
const CORRELATION: &str = "MS-CorrelationId";

/// A 401 with this is no matter of the token's age: it is for another audience.
const WRONG_AUDIENCE: &str = "900420";

impl PartnerCenter {
    /// Sends nothing.
    ///
    /// # Errors
    /// When the system's certificates cannot be read, or an URL of the settings cannot be extended by a path.
    pub fn new(mut settings: PartnerSettings, budget: Arc<Budget>, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let http = Http::new(budget, clock)?;
        // `/v1` is part of what is asked for. Written into the setting as well, it would be there twice.
        if settings.api_url.path().trim_end_matches('/').ends_with("/v1") {
            settings.api_url.path_segments_mut().map_err(|()| SetupError::Address("api_url"))?.pop_if_empty().pop();
        }
        join_segments(&settings.api_url, &["v1"]).ok_or(SetupError::Address("api_url"))?;
        let Credential { proof, user } = settings.credential.clone();
        let tokens = Tokens::new(Login::new(http.clone(), &settings, proof)?, user);
        Ok(Self { name: settings.name, api_url: settings.api_url, http, tokens, deadline: DEADLINE })
    }

    /// How long a call may take, its token included, instead of a minute.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The partner's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gets a token, unless there is one that holds.
    ///
    /// # Errors
    /// When there is none.
    pub async fn sign_in(&self) -> Result<(), Error> {
        self.tokens.current(self.tokens.mark(), Instant::now() + self.deadline).await.map(drop)
    }

    /// A customer's qualifications. At most two questions (a 401 renews the token once) and one or two token requests.
    ///
    /// # Errors
    /// When there is no answer, or none that was understood: nothing is known about the customer then.
    pub async fn qualifications(&self, customer_id: &str) -> Result<Answer, Error> {
        self.promised_qualifications(customer_id, None).await
    }

    /// The same for a question that the budget was told of: its promise ends when the question leaves.
    ///
    /// # Errors
    /// As [`Self::qualifications`].
    pub async fn promised_qualifications(&self, customer_id: &str, promise: Option<Promise>) -> Result<Answer, Error> {
        let url = join_segments(&self.api_url, &["v1", "customers", customer_id, "qualifications"]);
        let call = self.get(url, None, QUALIFICATIONS_MAX, promise).await?;
        let snapshot = wire::qualifications(&call.reply.body).map_err(|why| call.unreadable(why))?;
        let raw = call.raw();
        let Call { reply, request_id, correlation_id, .. } = call;
        Ok(Answer { snapshot, raw, request_id, correlation_id, began_at: reply.began_at, ended_at: reply.ended_at })
    }

    /// A page of the partner's customers, 500 at most: the first, or the one that `after` asks for.
    ///
    /// # Errors
    /// When there is no page, or none that was understood: the list is not complete then.
    pub async fn customers(&self, after: Option<&Continuation>) -> Result<CustomerPage, Error> {
        self.http.reads(Reader::CustomerList);
        let url = join_segments(&self.api_url, &["v1", "customers"]).map(|mut url| {
            url.query_pairs_mut().append_pair("size", &PAGE.to_string());
            if after.is_some() {
                url.query_pairs_mut().append_pair("seekOperation", "Next");
            }
            url
        });
        let Some(call) = self.page(url, after).await? else {
            return Ok(CustomerPage { customers: Vec::new(), next: None });
        };
        let listed = wire::customers(&call.reply.body, PAGE).map_err(|why| call.unreadable(why))?;
        let next = call.continuation(listed.next, after)?;
        Ok(CustomerPage { customers: listed.customers, next })
    }

    /// `None`: there is no page behind the last one.
    async fn page(&self, url: Option<Url>, after: Option<&Continuation>) -> Result<Option<Call>, Error> {
        match self.get(url, after, PAGE_MAX, None).await {
            // Microsoft's own tool takes this for the end: a token may be handed out on the last page.
            Err(Error::Refused(answer))
                if after.is_some() && (answer.status(), answer.code()) == (400, Some("2000")) =>
            {
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    /// One GET with a token; a second one with another token if the first was refused.
    async fn get(
        &self,
        url: Option<Url>,
        after: Option<&Continuation>,
        body_max: usize,
        promise: Option<Promise>,
    ) -> Result<Call, Error> {
        let url = url.ok_or_else(invalid_url)?;
        let until = Instant::now() + self.deadline;
        let mark = self.tokens.mark();
        let token = self.tokens.current(mark, until).await?;
        drop(promise); // the question leaves, and is counted
        let call = self.ask(&url, token, after, body_max, until).await?;
        if call.reply.status != 401 {
            return call.into_answer();
        }
        let token = self.token_instead(&call, mark, until).await?;
        self.ask(&url, token, after, body_max, until).await?.into_answer()
    }

    /// Another token in place of the one that was refused with a 401, if another one can help.
    async fn token_instead(&self, call: &Call, mark: RequestEpoch, until: Instant) -> Result<Arc<Token>, Error> {
        let refusal = call.refusal();
        if refusal.is_missing_mfa() {
            // Somebody may sign in anew: the next call shall see that.
            self.tokens.forget(&call.token);
        }
        if refusal.code() == Some(WRONG_AUDIENCE) || refusal.is_missing_mfa() {
            return Err(Error::Credential(refusal));
        }
        self.tokens.replace_rejected(&call.token, mark, until).await?.ok_or(Error::Credential(refusal))
    }

    async fn ask(
        &self,
        url: &Url,
        token: Arc<Token>,
        after: Option<&Continuation>,
        body_max: usize,
        until: Instant,
    ) -> Result<Call, Error> {
        let (request_id, correlation_id) = (Uuid::new_v4(), Uuid::new_v4());
        let mut request = with_headers(self.http.client().get(url.clone()), &token, request_id, correlation_id);
        if let Some(Continuation(token)) = after {
            request = request.header(wire::CONTINUATION, token.clone());
        }
        let after = self.deadline.min(ANSWER);
        let until = until.min(Instant::now() + after);
        let reply = self.http.send(request, body_max, until).await.map_err(|failure| match failure {
            Failure::TimedOut => Error::TimedOut { after, correlation_id: Some(correlation_id) },
            Failure::Unreachable(why) => Error::Unreachable(why),
            Failure::Broken(why) => Error::Unreadable { what: why, correlation_id: Some(correlation_id) },
        })?;
        if reply.status != 401 {
            token.mark_accepted();
        }
        let correlation_id = reply.id(CORRELATION).unwrap_or(correlation_id);
        Ok(Call { reply, token, request_id, correlation_id })
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

/// A reply, and what asked for it.
struct Call {
    reply: Reply,
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
            // Some say what is wrong with a token only here.
            401 => {
                let header = self.reply.header(WWW_AUTHENTICATE.as_str());
                let why: Vec<&str> = self.reply.reason.as_deref().into_iter().chain(header).collect();
                refusal.or_message(&redact::words(&text::clean(&why.join("; "), LONGEST)))
            }
            300..=399 => refusal.or_message("a redirect, which is not followed: check `api_url`"),
            _ => refusal,
        }
    }

    fn unreadable(&self, why: ParseError) -> Error {
        // An error in a 200 may say more than that it is no answer.
        let said = ApiError::read(self.reply.status, &self.reply.body, None);
        let what = if said.code().is_some() { format!("{}: {said}", why.0) } else { why.0.to_owned() };
        Error::Unreadable { what, correlation_id: Some(self.correlation_id) }
    }

    /// What asks for the page behind the one that `after` asked for.
    fn continuation(&self, next: Option<String>, after: Option<&Continuation>) -> Result<Option<Continuation>, Error> {
        let Some(next) = next else { return Ok(None) };
        let unfit = |_| self.unreadable(ParseError("a continuation token that fits no header"));
        let next = HeaderValue::try_from(next).map(Continuation).map_err(unfit)?;
        if Some(&next) == after {
            return Err(self.unreadable(ParseError("a page that names itself as the next one")));
        }
        Ok(Some(next))
    }

    fn raw(&self) -> String {
        let body = &self.reply.body;
        let mut raw = String::from_utf8_lossy(&body[..body.len().min(RAW_MAX)]).into_owned();
        raw.truncate(raw.floor_char_boundary(RAW_MAX));
        raw
    }
}

fn with_headers(request: RequestBuilder, token: &Token, request_id: Uuid, correlation_id: Uuid) -> RequestBuilder {
    request
        .bearer_auth(token.expose())
        .header("Accept", "application/json")
        .header("MS-RequestId", request_id.to_string())
        .header(CORRELATION, correlation_id.to_string())
        // Reasons are display text; in which language is not documented.
        .header("X-Locale", "en-US")
        .header("MS-PartnerCenter-Application", "vetwatch")
}

/// `..` and the like would ask for something else.
fn invalid_url() -> Error {
    Error::Refused(ApiError::read(0, b"\"the customer's id makes no address\"", None))
}

/// The address of `segments` below `base`, each of them exactly one segment of the path. `None` if one is empty or
/// would be taken for a step (`.`, `..`), or if `base` cannot be extended.
fn join_segments(base: &Url, segments: &[&str]) -> Option<Url> {
    if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
        return None;
    }
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.path_segments_mut().ok()?.pop_if_empty().extend(segments);
    Some(url)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests;

//! Submissions: the only thing that vetwatch writes at Partner Center, and only for `vetwatch submit`.
//!
//! Education may be submitted three times, so a request must not arrive twice by mistake. Partner Center recognises a
//! repetition by `MS-RequestId`: it stays the same until there is a response, and is new after one.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Answer, Call, PartnerCenter, QUALIFICATIONS_MAX_BYTES, invalid_url};
use crate::error::Error;
use crate::http::join_segments;
use crate::{error_codes, http, wire};
use vetwatch_core::qualification::key;
use vetwatch_core::redact::{self, Known};
use vetwatch_core::time::Timestamp;

/// Pauses before a request without a response is repeated, one per repetition.
const REPEAT_PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// A submission; only these three exist.
#[derive(Debug, Clone)]
pub enum Submission {
    Education {
        segment: Segment,
        /// Optional; speeds up the review.
        website: Option<String>,
    },
    /// The code of the customer's eligibility form; see [`PartnerCenter::validation_codes`].
    GovernmentCommunityCloud { validation_code: SecretString },
    /// A self-declaration.
    StateOwnedEntity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    K12,
    HigherEducation,
}

impl Segment {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::K12 => "K12",
            Self::HigherEducation => "HigherEducation",
        }
    }
}

/// The contract since May 2023. Unused keys are omitted, as in Microsoft's own client.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    qualification: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    education_segment: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    website: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_code: Option<&'a str>,
}

impl Submission {
    #[must_use]
    pub const fn qualification(&self) -> &'static str {
        match self {
            Self::Education { .. } => "Education",
            Self::GovernmentCommunityCloud { .. } => "GovernmentCommunityCloud",
            Self::StateOwnedEntity => "StateOwnedEntity",
        }
    }

    fn validation_code(&self) -> Option<&str> {
        match self {
            Self::GovernmentCommunityCloud { validation_code } => Some(validation_code.expose_secret()),
            Self::Education { .. } | Self::StateOwnedEntity => None,
        }
    }

    fn body(&self) -> Body<'_> {
        let (education_segment, website) = match self {
            Self::Education { segment, website } => (Some(segment.as_str()), website.as_deref()),
            Self::GovernmentCommunityCloud { .. } | Self::StateOwnedEntity => (None, None),
        };
        let (qualification, validation_code) = (self.qualification(), self.validation_code());
        Body { qualification, education_segment, website, validation_code }
    }
}

/// Partner Center accepted the submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The submitted qualification's entry; the customer's others may be missing. `None` if the body, which is
    /// optional, was not understood.
    pub answer: Option<Answer>,
    pub request_id: Uuid,
    pub correlation_id: Uuid,
    pub ended_at: Timestamp,
}

/// Partner Center did not confirm the submission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct NotSubmitted {
    pub error: Error,
    /// A request was sent and its outcome is unknown: the submission may have arrived.
    pub may_have_arrived: bool,
}

impl NotSubmitted {
    /// What the error means for a submission and what to do about it, beyond the error's own text.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match &self.error {
            Error::Refused(answer) | Error::NotFound(answer) | Error::NoRelationship(answer) => {
                error_codes::of_submission(answer)
            }
            _ => None,
        }
    }
}

impl From<Error> for NotSubmitted {
    /// Nothing was sent.
    fn from(error: Error) -> Self {
        Self { error, may_have_arrived: false }
    }
}

impl PartnerCenter {
    /// Submits a qualification of the customer for review, as a user. Sends one request; at most two repetitions with
    /// the same id if there was no response (no connection, a timeout, or a gateway error); one more with a new id and
    /// another token if the first token was rejected. Takes at most twice the deadline.
    ///
    /// # Errors
    /// If Partner Center did not confirm it; the error tells whether it may have arrived.
    pub async fn submit(&self, customer_id: &str, submission: &Submission) -> Result<Submitted, NotSubmitted> {
        let segments = ["v1", "customers", customer_id, "qualifications"];
        let url = join_segments(&self.api_url, &segments).ok_or_else(invalid_url)?;
        let _known = Known::of(submission.validation_code());
        let until = Instant::now() + self.deadline * 2;
        let mark = self.tokens.mark();
        let mut token = self.tokens.current(mark, Instant::now() + self.deadline).await?;
        let mut request_id = Uuid::new_v4();
        let (mut is_renewed, mut may_have_arrived) = (false, false);
        let mut pauses = REPEAT_PAUSES.into_iter();
        loop {
            let request = self.http.client().post(url.clone()).json(&submission.body());
            let body = http::Body::Optional(QUALIFICATIONS_MAX_BYTES);
            let error = match self.exchange(request, Arc::clone(&token), request_id, body, until).await {
                Ok(call) if call.reply.is_success() => return Ok(submitted(call, submission)),
                // Rejected before anything was carried out, so a new request is no second attempt. After one with an
                // unknown outcome it could be.
                Ok(call) if call.reply.status == 401 && !is_renewed && !may_have_arrived => {
                    token = self.replace_token(&call, mark, until).await?;
                    (request_id, is_renewed) = (Uuid::new_v4(), true);
                    continue;
                }
                Ok(call) => {
                    let status = call.reply.status;
                    let is_turned_away = status == 503 && call.reply.retry_after().is_some();
                    may_have_arrived |= matches!(status, 408 | 500..=599) && !is_turned_away;
                    let error = Error::of(call.refusal(), call.reply.retry_after());
                    // A gateway's status: the server behind it has not responded.
                    if is_turned_away || !matches!(status, 408 | 502..=504) {
                        return Err(NotSubmitted { error, may_have_arrived });
                    }
                    error
                }
                Err(error) => {
                    may_have_arrived |= !matches!(error, Error::Unreachable(_) | Error::NoDescriptor);
                    error
                }
            };
            match pauses.next() {
                Some(pause) if Instant::now() + pause < until => sleep(pause).await,
                _ => return Err(NotSubmitted { error, may_have_arrived }),
            }
        }
    }
}

/// Any 2xx is a success: 201 with the new entry is documented, 200 with all entries is in the API's own description,
/// and a truncated response is still one.
fn submitted(call: Call, submission: &Submission) -> Submitted {
    let raw = redact::words(&call.raw());
    let Call { reply, request_id, correlation_id, .. } = call;
    let (began_at, ended_at) = (reply.began_at, reply.ended_at);
    let understood = wire::qualifications(&reply.body).ok();
    let answer = understood.filter(|snapshot| snapshot.get(&key(submission.qualification())).is_some());
    let answer = answer.map(|snapshot| Answer { snapshot, raw, request_id, correlation_id, began_at, ended_at });
    Submitted { answer, request_id, correlation_id, ended_at }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests;

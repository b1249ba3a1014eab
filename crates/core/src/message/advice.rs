//! What to do next, for each verdict and each reason that Microsoft documents.
//!
//! The facts are from Partner Center's documentation ("Sell to education customers", the API change log, "Get special
//! pricing for offers"); what partners merely report is worded as such. Reasons are display text, not codes: they are
//! compared without case, and an unknown one gets advice that is sound for any denial.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::event::{EventType, VettingChange};
use crate::qualification;
use crate::text;

/// Microsoft verifies an education customer at most three times.
pub const EDUCATION_ATTEMPTS: u32 = 3;

/// Something to do next. Written and serialized, it is a sentence or two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub text: String,
    /// What Microsoft's support asks for with it.
    pub correlation_id: Option<String>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.correlation_id {
            None => f.write_str(&self.text),
            Some(id) => write!(f, "{} Give them this correlation ID: {id}", self.text),
        }
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Education,
    Government,
    Other,
}

fn kind(change: &VettingChange) -> Kind {
    match qualification::key(&change.qualification).as_str() {
        "education" => Kind::Education,
        "governmentcommunitycloud" => Kind::Government,
        _ => Kind::Other,
    }
}

/// Whether the limit of three applies.
#[must_use]
pub fn is_education(change: &VettingChange) -> bool {
    kind(change) == Kind::Education
}

/// The steps in order; empty if there is nothing to do.
#[must_use]
pub fn steps(event: EventType, change: &VettingChange) -> Vec<Step> {
    match event {
        EventType::Approved => approved(change),
        EventType::Denied => denied(change),
        EventType::Revoked => revoked(change),
        EventType::Vanished if change.to.as_deref().is_some_and(|to| qualification::key(to) != "absent") => vec![
            step("Look at the customer's account page in Partner Center: is the request there?"),
            support("If it is not, open a support request in Partner Center and ask what became of it.", change),
            step("Ask for the vetting again only when that is answered."),
        ],
        EventType::Vanished => vanished(change),
        EventType::Submitted => vec![
            step("Wait; do not submit again. Microsoft promises no time; partners report up to 3 business days."),
            step("Nothing else to do: you hear from vetwatch when the review has ended."),
        ],
        EventType::Overdue => vec![
            step("Do not submit again: that does not speed it up, and may use up a request."),
            support("Open a support request in Partner Center and ask how the review stands.", change),
        ],
        _ if change.from.as_deref().is_some_and(|from| qualification::key(from) == "denied") => vec![step(
            "Nothing, if the entry is gone: Partner Center goes back to \"None\" some time after a denial. It is no \
             approval.",
        )],
        _ => vec![step("Look at the customer's account page in Partner Center.")],
    }
}

fn step(text: impl Into<String>) -> Step {
    Step { text: text.into(), correlation_id: None }
}

/// A step that leads to Microsoft's support, which asks for the correlation id.
fn support(text: impl Into<String>, change: &VettingChange) -> Step {
    Step { correlation_id: correlation_id(change), ..step(text) }
}

/// The correlation id of the answer, if there is one to be seen.
pub(super) fn correlation_id(change: &VettingChange) -> Option<String> {
    change.correlation_id.as_deref().map(|id| text::line(id, 80)).filter(|id| !id.is_empty())
}

fn approved(change: &VettingChange) -> Vec<Step> {
    let tell = step("Tell the customer, and release orders that were waiting for this.");
    match kind(change) {
        Kind::Education => vec![
            step(
                "Education offers can be ordered for this customer now: licence-based services and perpetual software \
                 (not Azure, not software subscriptions).",
            ),
            tell,
        ],
        Kind::Government => {
            vec![step("Government Community Cloud offers can be ordered for this customer now, and only those."), tell]
        }
        Kind::Other => vec![tell],
    }
}

/// A reason normalised for comparison: case, repeated spaces and kinds of dashes are ignored.
fn reason_key(reason: &str) -> String {
    let plain: String = reason.chars().map(|c| if matches!(c, '–' | '—' | '‑') { '-' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn denied(change: &VettingChange) -> Vec<Step> {
    if kind(change) == Kind::Government {
        return vec![
            step("Check that the customer's eligibility form was sent and that the validation code is the right one."),
            support("Ask Microsoft's GCC team what is missing: usgcce@microsoft.com.", change),
        ];
    }
    let reason = change.vetting_reason.as_deref().map(reason_key).unwrap_or_default();
    let mut steps = match reason.as_str() {
        "not an education customer" => vec![step(CORRECT_DATA), again(change)],
        "not an academic domain" => vec![
            step(
                "The domain does not look like a school's. In the customer's Microsoft 365 admin center, add and verify \
                 the institution's own domain and make it the primary one (not onmicrosoft.com, no free mail); the \
                 contact's e-mail address must belong to it.",
            ),
            again(change),
        ],
        "not an eligible library" => vec![not_eligible("library"), again(change)],
        "not an eligible museum" => vec![not_eligible("museum"), again(change)],
        "no longer an education customer" => return no_longer(change),
        "not an education customer - after review" => {
            return vec![
                step(
                    "This is the outcome of a manual review: asking again with the same data will not help, and uses up \
                     one of 3 requests.",
                ),
                support(
                    "If the customer can prove that it is an education institution (accreditation, registration), open \
                     a support request in Partner Center and attach the proof.",
                    change,
                ),
                step("Otherwise offer commercial licences."),
            ];
        }
        "restricted being an education customer" => {
            return vec![
                step("Microsoft restricts this customer: correcting data and asking again will not help."),
                support("Open a support request in Partner Center and ask what the restriction is.", change),
                step("Until that is answered, offer commercial licences."),
            ];
        }
        _ if is_education(change) => vec![step(CORRECT_DATA), again(change)],
        _ => vec![
            step("Read Microsoft's reason above and correct what it names."),
            step("Then ask again from the customer's account page in Partner Center."),
        ],
    };
    let used_up = is_education(change) && change.attempt >= EDUCATION_ATTEMPTS;
    if !used_up {
        steps.push(step(
            "If it is denied again, open a support request in Partner Center and ask for a manual verification.",
        ));
    }
    steps
}

const CORRECT_DATA: &str = "In the customer's Microsoft 365 admin center, correct legal name, address, website and \
     e-mail domain to match its official registration (needs the customer's Global Administrator; it cannot be done \
     in Partner Center). The primary domain should resemble the name.";

fn not_eligible(place: &str) -> Step {
    step(format!(
        "Microsoft does not take the customer for an eligible {place}. Check its name, address and website in the \
         customer's Microsoft 365 admin center against its official registration, and Microsoft's criteria for a {place}."
    ))
}

/// Advice on submitting again, depending on the requests that are left.
fn again(change: &VettingChange) -> Step {
    const ALLOWED: u32 = EDUCATION_ATTEMPTS;
    if !is_education(change) {
        return step("Then ask again from the customer's account page in Partner Center.");
    }
    match ALLOWED.saturating_sub(change.attempt) {
        0 => support(
            format!(
                "Do not press Update again: Microsoft allows {ALLOWED} requests, and they are used up as far as \
                 vetwatch saw. Open a support request in Partner Center and ask for a manual verification."
            ),
            change,
        ),
        1 => step(format!(
            "Then press Update on the customer's account page in Partner Center. This is the last of {ALLOWED} \
             requests, as far as vetwatch saw: be sure of the data first."
        )),
        left => step(format!(
            "Then press Update on the customer's account page in Partner Center ({left} requests are left, as far as \
             vetwatch saw)."
        )),
    }
}

fn no_longer(change: &VettingChange) -> Vec<Step> {
    vec![
        step(
            "Do not promise education offers: new orders of them will be refused. Running subscriptions usually go on, \
             partners report.",
        ),
        support(
            "If the customer still is an education institution, open a support request in Partner Center with proof \
             (accreditation, registration).",
            change,
        ),
        step("Otherwise plan its move to commercial licences."),
    ]
}

fn revoked(change: &VettingChange) -> Vec<Step> {
    if is_education(change) {
        return no_longer(change);
    }
    vec![
        step("Do not promise offers that need this qualification: new orders of them will be refused."),
        support("If it should still hold, open a support request in Partner Center.", change),
    ]
}

fn vanished(change: &VettingChange) -> Vec<Step> {
    let mut steps = vec![step(
        "Look at the customer's account page in Partner Center: after a denial it shows \"None\" and an Update button, \
         and no reason any more.",
    )];
    if is_education(change) {
        steps.extend([step(CORRECT_DATA), again(change)]);
    } else {
        steps.push(support("If you did not expect it, open a support request in Partner Center.", change));
    }
    steps
}

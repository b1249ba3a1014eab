//! What to do next, for each verdict and each reason that Microsoft documents.
//!
//! The facts are from Partner Center's documentation ("Sell to education customers", the API change log, "Get special
//! pricing for offers"); what partners merely report is worded as such. Reasons are display text, not codes: they are
//! compared without case, and an unknown one gets advice that is sound for any denial.

use crate::event::{EventType, VettingChange};
use crate::qualification;

/// Microsoft verifies an education customer at most three times.
pub const EDUCATION_ATTEMPTS: u32 = 3;

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
pub fn steps(event: EventType, change: &VettingChange) -> Vec<String> {
    match event {
        EventType::Approved => approved(change),
        EventType::Denied => denied(change),
        EventType::Revoked => revoked(change),
        EventType::Vanished if change.to.as_deref().is_some_and(|to| qualification::key(to) != "absent") => owned(&[
            "Look at the customer's account page in Partner Center: is the request there?",
            "If it is not, open a support request in Partner Center, ask what became of it and give the correlation ID \
             below. Ask again only when that is answered.",
        ]),
        EventType::Vanished => vanished(change),
        EventType::Submitted => owned(&[
            "Wait; do not submit again. Microsoft promises no time; partners report up to 3 business days.",
            "Nothing else to do: you hear from vetwatch when the review has ended.",
        ]),
        EventType::Overdue => owned(&[
            "Do not submit again: that does not speed it up, and may use up a request.",
            if change.correlation_id.is_some() {
                "Open a support request in Partner Center and ask how the review stands. Give them the correlation ID \
                 below."
            } else {
                "Open a support request in Partner Center and ask how the review stands."
            },
        ]),
        _ if change.from.as_deref().is_some_and(|from| qualification::key(from) == "denied") => owned(&[
            "Nothing, if the entry is gone: Partner Center goes back to \"None\" some time after a denial. It is \
                   no approval.",
        ]),
        _ => owned(&["Look at the customer's account page in Partner Center."]),
    }
}

fn owned(steps: &[&str]) -> Vec<String> {
    steps.iter().map(|step| (*step).to_owned()).collect()
}

fn approved(change: &VettingChange) -> Vec<String> {
    match kind(change) {
        Kind::Education => owned(&[
            "Education offers can be ordered for this customer now: licence-based services and perpetual software \
             (not Azure, not software subscriptions).",
            "Tell the customer, and release orders that were waiting for this.",
        ]),
        Kind::Government => owned(&[
            "Government Community Cloud offers can be ordered for this customer now, and only those.",
            "Tell the customer, and release orders that were waiting for this.",
        ]),
        Kind::Other => owned(&["Tell the customer, and release orders that were waiting for this."]),
    }
}

/// A reason normalised for comparison: case, repeated spaces and kinds of dashes are ignored.
fn reason_key(reason: &str) -> String {
    let plain: String = reason.chars().map(|c| if matches!(c, '–' | '—' | '‑') { '-' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn denied(change: &VettingChange) -> Vec<String> {
    if kind(change) == Kind::Government {
        return owned(&[
            "Check that the customer's eligibility form was sent and that the validation code is the right one.",
            "Ask Microsoft's GCC team what is missing: usgcce@microsoft.com. Give them the correlation ID below.",
        ]);
    }
    let reason = change.vetting_reason.as_deref().map(reason_key).unwrap_or_default();
    let mut steps = match reason.as_str() {
        "not an education customer" => vec![CORRECT_DATA.to_owned(), again(change)],
        "not an academic domain" => vec![
            "The domain does not look like a school's. In the customer's Microsoft 365 admin center, add and verify \
             the institution's own domain and make it the primary one (not onmicrosoft.com, no free mail); the \
             contact's e-mail address must belong to it."
                .to_owned(),
            again(change),
        ],
        "not an eligible library" => vec![not_eligible("library"), again(change)],
        "not an eligible museum" => vec![not_eligible("museum"), again(change)],
        "no longer an education customer" => return no_longer(),
        "not an education customer - after review" => {
            return owned(&[
                "This is the outcome of a manual review: asking again with the same data will not help, and uses up \
                 one of three requests.",
                "If the customer can prove that it is an education institution (accreditation, registration), open a \
                 support request in Partner Center, attach the proof and give the correlation ID below.",
                "Otherwise offer commercial licences.",
            ]);
        }
        "restricted being an education customer" => {
            return owned(&[
                "Microsoft restricts this customer: correcting data and asking again will not help.",
                "Open a support request in Partner Center, ask what the restriction is and give the correlation ID \
                 below.",
                "Until that is answered, offer commercial licences.",
            ]);
        }
        _ if is_education(change) => vec![CORRECT_DATA.to_owned(), again(change)],
        _ => owned(&[
            "Read Microsoft's reason above and correct what it names.",
            "Then ask again from the customer's account page in Partner Center.",
        ]),
    };
    let used_up = is_education(change) && change.attempt >= EDUCATION_ATTEMPTS;
    if !used_up {
        steps.push(
            "If it is denied again, open a support request in Partner Center and ask for a manual verification."
                .to_owned(),
        );
    }
    steps
}

const CORRECT_DATA: &str = "In the customer's Microsoft 365 admin center, correct legal name, address, website and \
     e-mail domain to match its official registration (needs the customer's Global Administrator; it cannot be done \
     in Partner Center). The primary domain should resemble the name.";

fn not_eligible(place: &str) -> String {
    format!(
        "Microsoft does not take the customer for an eligible {place}. Check its name, address and website in the \
         customer's Microsoft 365 admin center against its official registration, and Microsoft's criteria for a {place}."
    )
}

/// Advice on submitting again, depending on the requests that are left.
fn again(change: &VettingChange) -> String {
    if !is_education(change) {
        return "Then ask again from the customer's account page in Partner Center.".to_owned();
    }
    match EDUCATION_ATTEMPTS.saturating_sub(change.attempt) {
        0 => "Do not press Update again: Microsoft allows three requests, and they are used up as far as vetwatch saw. \
              Open a support request in Partner Center, ask for a manual verification and give the correlation ID below."
            .to_owned(),
        1 => "Then press Update on the customer's account page in Partner Center. This is the last of three requests, \
              as far as vetwatch saw: be sure of the data first."
            .to_owned(),
        left => format!(
            "Then press Update on the customer's account page in Partner Center ({left} of three requests are left, as \
             far as vetwatch saw)."
        ),
    }
}

fn no_longer() -> Vec<String> {
    owned(&[
        "Do not promise education offers: new orders of them will be refused. Running subscriptions usually go on, \
         partners report.",
        "If the customer still is an education institution, open a support request in Partner Center with proof \
         (accreditation, registration) and the correlation ID below.",
        "Otherwise plan its move to commercial licences.",
    ])
}

fn revoked(change: &VettingChange) -> Vec<String> {
    if is_education(change) {
        return no_longer();
    }
    owned(&[
        "Do not promise offers that need this qualification: new orders of them will be refused.",
        "If it should still hold, open a support request in Partner Center and give the correlation ID below.",
    ])
}

fn vanished(change: &VettingChange) -> Vec<String> {
    let mut steps =
        owned(&["Look at the customer's account page in Partner Center: after a denial it shows \"None\" and \
                           an Update button, and no reason any more."]);
    if is_education(change) {
        steps.push(CORRECT_DATA.to_owned());
        steps.push(again(change));
    } else {
        steps.push("If you did not expect it, open a support request and give the correlation ID below.".to_owned());
    }
    steps
}

//! What changed, and whether it is news. Pure: the rules stand here and nowhere else, and nothing here knows of
//! time, network or tables but what it is given.
//!
//! One [`QualificationState`] for each qualification of a customer; [`compare`] holds an answer against all of them.

use std::time::Duration;

use self::belief::is_equivalent;
pub use self::belief::{LastNotified, MASS_ABSENCE_DELAY, Pending, QualificationState, Review};
use crate::event::EventType;
use crate::qualification::{Entry, Snapshot, Status, Verdict, key};
use crate::time::Timestamp;

mod belief;

const HOUR: Duration = Duration::from_hours(1);

/// How a missing entry is written where a status is expected.
pub const ABSENT: &str = "absent";

/// A transition, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub event: EventType,
    pub qualification: String,
    pub from: Option<String>,
    pub to: Option<String>,
    pub reason: Option<String>,
    pub created_at: Option<Timestamp>,
    pub previous_reason: Option<String>,
    pub previous_created_at: Option<Timestamp>,
    pub review: Review,
    /// When it was last seen otherwise.
    pub last_seen_before_at: Option<Timestamp>,
    /// The customer was never seen before.
    pub first_seen: bool,
}

impl Change {
    /// Is there an entry still, which stands in the place of another?
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.to.as_deref() != Some(ABSENT)
    }
}

/// The circumstances of an answer.
#[derive(Debug, Clone, Copy)]
pub struct EvalContext {
    pub now: Timestamp,
    /// When the customer was last understood; `None`: this is its first sight.
    pub last_seen_at: Option<Timestamp>,
    /// Reviews submitted later than this are news even at first sight; `None`: whatever is found is.
    pub news_since: Option<Timestamp>,
    /// When something was last submitted for this customer, as the activity log has it.
    pub submitted_at: Option<Timestamp>,
    pub first_confirmation: Duration,
    pub second_confirmation: Duration,
    pub doubt: AbsencePolicy,
}

/// How far an answer is doubted that lacks an entry, or shows an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbsencePolicy {
    /// As many looks are needed as [`QualificationState`] says.
    Usual,
    /// Nothing is believed yet: others that hold an entry are to be asked first.
    SampleMissing,
    /// So much disappeared at once, since then, that only looks count that are taken an hour later, and then an hour
    /// apart.
    ImplausibleSince(Timestamp),
    /// What was missing then is gone, says a person.
    AcceptedAt(Timestamp),
}

/// Holds an answer against what is believed. Returns every belief as it is afterwards, with its change if there is
/// one. An answer that says the same returns no change, whatever its spelling or order.
#[must_use]
pub fn compare(
    before: &[QualificationState],
    answer: &Snapshot,
    look: &EvalContext,
) -> Vec<(QualificationState, Option<Change>)> {
    let known = before.iter().map(|belief| match answer.get(&key(&belief.qualification)) {
        Some(entry) if look.last_seen_at.is_none() && belief.entry.is_none() => {
            first_response_after_submission(belief, entry, look)
        }
        shown => step(belief, shown, look),
    });
    let is_known = |entry: &&Entry| before.iter().any(|belief| key(&belief.qualification) == entry.key());
    let new = answer.entries().iter().filter(|entry| !is_known(entry)).map(|entry| {
        let never = QualificationState::never(&entry.qualification, look.now);
        if look.last_seen_at.is_none() { first_sight(&never, entry, look) } else { step(&never, Some(entry), look) }
    });
    known.chain(new).collect()
}

/// One qualification: `shown` is believed at once, or waits until as many looks have shown it as it needs.
fn step(
    before: &QualificationState,
    shown: Option<&Entry>,
    look: &EvalContext,
) -> (QualificationState, Option<Change>) {
    let needed = before.looks_needed(shown, look);
    if needed == 1 || (shown.is_none() && before.entry.is_none()) {
        let after = before.pending_as(shown).map_or(look.last_seen_at, |pending| pending.after);
        return believed(before, shown, look, after);
    }
    let first = Pending {
        shows: shown.cloned(),
        since: look.now,
        after: look.last_seen_at,
        looks: 1,
        looked_at: look.now,
        until: look.now,
    };
    let mut pending = match before.pending_as(shown).cloned() {
        None => first,
        // The clock was set back: wait once more, not for days.
        Some(pending) if look.now < pending.looked_at => {
            Pending { since: pending.since.min(look.now), looked_at: look.now, ..pending }
        }
        Some(pending) if pending.is_accepted(look) || look.now < pending.next_look_at(look) => pending,
        Some(pending) if pending.must_restart(look) => Pending { since: pending.since, after: pending.after, ..first },
        Some(pending) => Pending { looks: pending.looks + 1, looked_at: look.now, ..pending },
    };
    let enough = if matches!(look.doubt, AbsencePolicy::ImplausibleSince(_)) { 2 } else { needed };
    let is_confirmed =
        pending.looks >= enough && !pending.must_restart(look) && look.doubt != AbsencePolicy::SampleMissing;
    if is_confirmed || pending.is_accepted(look) {
        return believed(before, shown, look, pending.after);
    }
    pending.until = pending.until(needed, look);
    (QualificationState { pending: Some(pending), ..before.clone() }, None)
}

/// What is believed once `shown` is; something else was last seen at `after`.
fn believed(
    before: &QualificationState,
    shown: Option<&Entry>,
    look: &EvalContext,
    after: Option<Timestamp>,
) -> (QualificationState, Option<Change>) {
    match shown {
        Some(entry) => present(before, entry, look, after),
        None => gone(before, look, after),
    }
}

/// The first sight of a customer is a silent baseline, unless its verdict is on a review that began on our watch.
fn first_sight(never: &QualificationState, entry: &Entry, look: &EvalContext) -> (QualificationState, Option<Change>) {
    let (belief, change) = present(never, entry, look, None);
    let is_verdict = matches!(entry.status(), Status::Verdict(_));
    let is_ours = look.news_since.is_none_or(|watching| {
        let is_later = |date: Option<Timestamp>| date.is_some_and(|date| date > watching);
        // An approval is often written without a date, and a date without its zone may be hours early; the activity log
        // has the submission's.
        let is_logged = look.submitted_at.is_some_and(|submitted| {
            entry.created_at.is_none_or(|created| submitted.since(created) < Duration::from_hours(24))
        });
        is_later(entry.created_at) || (is_later(look.submitted_at) && is_logged)
    });
    let news = change.filter(|_| is_verdict && is_ours).map(|change| Change { from: None, first_seen: true, ..change });
    let began_unseen = Review { submitted_at: entry.created_at, ..belief.review };
    (QualificationState { review: began_unseen, ..belief }, news)
}

/// The first sight of a customer, in a qualification that we know was submitted on our watch: whatever it shows is news,
/// and nobody knows what it was before.
fn first_response_after_submission(
    before: &QualificationState,
    entry: &Entry,
    look: &EvalContext,
) -> (QualificationState, Option<Change>) {
    let (belief, change) = present(before, entry, look, None);
    (belief, change.map(|change| Change { from: None, first_seen: true, ..change }))
}

fn present(
    before: &QualificationState,
    entry: &Entry,
    look: &EvalContext,
    after: Option<Timestamp>,
) -> (QualificationState, Option<Change>) {
    let (now, written) = (look.now, entry);
    let begins = before.begins(entry);
    let review = if begins {
        let seen_to_begin = (entry.status() == Status::InReview).then_some(now);
        Review {
            attempt: before.review.attempt + 1,
            created_at: entry.created_at,
            submitted_at: entry.created_at.or(seen_to_begin),
            seen_at: Some(now),
        }
    } else if let Some(told) = before.told.as_ref().filter(|_| before.takes_back(entry)) {
        let created_at = told.review_created_at.or(told.created_at);
        Review { attempt: told.attempt, created_at, submitted_at: created_at, seen_at: Some(told.at) }
    } else {
        before.review_with(entry)
    };
    // A date that was known stays known: an approval is often written without one.
    let same = before.entry.as_ref().filter(|old| old.status_key() == entry.status_key());
    let known = || same.and_then(|old| old.created_at).or(review.created_at);
    let created_at = entry.created_at.or_else(|| if begins { None } else { known() });
    let entry = &Entry { created_at, ..entry.clone() };
    let changed = begins || before.entry.as_ref().is_none_or(|old| !is_equivalent(old, entry));
    let same_status = same.is_some();
    let told = before.told.clone().map(|told| told.dated(written, &review));
    let belief = QualificationState {
        qualification: entry.qualification.clone(),
        entry: Some(entry.clone()),
        since: if same_status && !begins { before.since } else { now },
        review,
        told,
        pending: None,
    };
    if !changed {
        return (belief, None);
    }
    // By what is written: a date that is unknown is no difference to what was told.
    let event = event_of(before, written, &review, begins);
    let change = before.change(event, Some(entry), review, after);
    let told = match (event, entry.status()) {
        (EventType::Approved | EventType::Denied | EventType::Revoked, Status::Verdict(verdict)) => {
            Some(LastNotified {
                verdict,
                reason_key: entry.reason_key(),
                created_at: written.created_at,
                attempt: review.attempt,
                review_created_at: review.created_at,
                at: now,
            })
        }
        _ => belief.told.clone(),
    };
    (QualificationState { told, ..belief }, Some(change))
}

/// What a change to `entry` is called.
fn event_of(before: &QualificationState, entry: &Entry, review: &Review, begins: bool) -> EventType {
    match (entry.status(), &before.told) {
        // What stands is the verdict of before; the review in between is gone.
        (Status::Verdict(_), _) if before.is_replaced_by(entry) => EventType::Vanished,
        (Status::Verdict(verdict), Some(told)) if told.is(verdict, entry, review.attempt) => EventType::Changed,
        (Status::Verdict(Verdict::Denied), Some(told)) if told.verdict == Verdict::Approved => EventType::Revoked,
        (Status::Verdict(Verdict::Approved), _) => EventType::Approved,
        (Status::Verdict(Verdict::Denied), _) => EventType::Denied,
        (Status::InReview, _) if begins => EventType::Submitted,
        _ => EventType::Changed,
    }
}

/// An entry that is no longer there.
fn gone(
    before: &QualificationState,
    look: &EvalContext,
    after: Option<Timestamp>,
) -> (QualificationState, Option<Change>) {
    let event = match before.status() {
        None => return (QualificationState { pending: None, ..before.clone() }, None),
        Some(Status::InReview) => EventType::Vanished,
        Some(Status::Verdict(Verdict::Approved)) => EventType::Revoked,
        Some(_) => EventType::Changed,
    };
    let change = before.change(event, None, before.review, after);
    let told = before.told.clone().filter(|_| event != EventType::Revoked);
    (QualificationState { entry: None, since: look.now, told, pending: None, ..before.clone() }, Some(change))
}

impl QualificationState {
    fn change(&self, event: EventType, to: Option<&Entry>, review: Review, since: Option<Timestamp>) -> Change {
        let word = |entry: Option<&Entry>| match entry {
            Some(entry) => entry.vetting_status.clone(),
            None => Some(ABSENT.to_owned()),
        };
        let old = self.entry.as_ref();
        Change {
            event,
            qualification: to.map_or(&self.qualification, |entry| &entry.qualification).clone(),
            from: word(old),
            to: word(to),
            reason: to.and_then(|entry| entry.vetting_reason.clone()),
            created_at: to.and_then(|entry| entry.created_at),
            previous_reason: old.and_then(|entry| entry.vetting_reason.clone()),
            previous_created_at: old.and_then(|entry| entry.created_at),
            review,
            last_seen_before_at: since,
            first_seen: false,
        }
    }
}

#[cfg(test)]
mod tests;

//! Decides what changed and which event it is. Pure functions: no clock, network or database, and the only place with
//! these rules.
//!
//! There is one [`QualificationState`] per qualification of a customer; [`compare`] compares a response with all of them.

use std::time::Duration;

pub use self::pending::{AbsencePolicy, EvalContext, MASS_ABSENCE_DELAY, Pending};
use self::state::is_equivalent;
pub use self::state::{LastNotified, QualificationState, Review};
use crate::event::EventType;
use crate::qualification::{Entry, Snapshot, Status, Verdict, key};
use crate::time::Timestamp;

mod pending;
mod state;

/// The status of a missing entry.
pub const ABSENT: &str = "absent";

/// A transition and its event type.
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
    /// When the previous state was last seen.
    pub last_seen_before_at: Option<Timestamp>,
    /// This is the first response for the customer.
    pub first_seen: bool,
}

impl Change {
    /// True if another entry took the place of the old one.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.to.as_deref() != Some(ABSENT)
    }

    /// How the review ended that this change ends, or that an approval was taken back; `None` if neither, or if the end was
    /// not seen.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        let was_in_review = || self.from.as_deref().is_some_and(|from| key(from) == "inreview");
        match self.event {
            _ if self.first_seen => None,
            EventType::Approved => Some(Outcome::Approved),
            EventType::Denied => Some(Outcome::Denied),
            EventType::Vanished => Some(Outcome::Vanished),
            EventType::Revoked if self.is_replaced() && was_in_review() => Some(Outcome::Denied),
            EventType::Revoked => Some(Outcome::Revoked),
            _ => None,
        }
    }
}

/// How a review ended; or that its approval was taken back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Approved,
    Denied,
    Revoked,
    /// The entry is gone, or an older one is back, without a verdict.
    Vanished,
}

impl Outcome {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "Approved",
            Self::Denied => "Denied",
            Self::Revoked => "Revoked",
            Self::Vanished => "Vanished",
        }
    }

    /// True if Microsoft decided on a review.
    #[must_use]
    pub const fn is_verdict(self) -> bool {
        matches!(self, Self::Approved | Self::Denied)
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Approved, Self::Denied, Self::Revoked, Self::Vanished]
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
    }
}

/// Compares a response with the stored states. Returns every new state, with its change if there is one. An equivalent
/// response returns no change, whatever its spelling or order.
#[must_use]
pub fn compare(
    before: &[QualificationState],
    answer: &Snapshot,
    ctx: &EvalContext,
) -> Vec<(QualificationState, Option<Change>)> {
    let known = before.iter().map(|state| match answer.get(&key(&state.qualification)) {
        Some(entry) if ctx.last_seen_at.is_none() && state.entry.is_none() => {
            first_response_after_submission(state, entry, ctx)
        }
        shown => step(state, shown, ctx),
    });
    let is_known = |entry: &&Entry| before.iter().any(|state| key(&state.qualification) == entry.key());
    let new = answer.entries().iter().filter(|entry| !is_known(entry)).map(|entry| {
        let never = QualificationState::unseen(&entry.qualification, ctx.now);
        if ctx.last_seen_at.is_none() { first_response(&never, entry, ctx) } else { step(&never, Some(entry), ctx) }
    });
    known.chain(new).collect()
}

/// Compares one qualification: `shown` is accepted at once, or kept pending until it has enough confirmations.
fn step(before: &QualificationState, shown: Option<&Entry>, ctx: &EvalContext) -> (QualificationState, Option<Change>) {
    let needed = before.confirmations_needed(shown, ctx);
    if needed == 1 || (shown.is_none() && before.entry.is_none()) {
        let last_other_at = before.pending_as(shown).map_or(ctx.last_seen_at, |pending| pending.last_other_at);
        return accept(before, shown, ctx, last_other_at);
    }
    let first = Pending {
        shows: shown.cloned(),
        since: ctx.now,
        last_other_at: ctx.last_seen_at,
        confirmations: 1,
        last_confirmed_at: ctx.now,
        until: ctx.now,
    };
    let mut pending = match before.pending_as(shown).cloned() {
        None => first,
        // The clock was set back: wait one more interval, not for days.
        Some(pending) if ctx.now < pending.last_confirmed_at => {
            Pending { since: pending.since.min(ctx.now), last_confirmed_at: ctx.now, ..pending }
        }
        Some(pending) if pending.is_accepted(ctx) || ctx.now < pending.next_confirmation_at(ctx) => pending,
        Some(pending) if pending.must_restart(ctx) => {
            Pending { since: pending.since, last_other_at: pending.last_other_at, ..first }
        }
        Some(pending) => Pending { confirmations: pending.confirmations + 1, last_confirmed_at: ctx.now, ..pending },
    };
    let enough = if matches!(ctx.absence_policy, AbsencePolicy::MassAbsence(_)) { 2 } else { needed };
    let is_confirmed = pending.confirmations >= enough
        && !pending.must_restart(ctx)
        && ctx.absence_policy != AbsencePolicy::SampleMissing;
    if is_confirmed || pending.is_accepted(ctx) {
        return accept(before, shown, ctx, pending.last_other_at);
    }
    pending.until = pending.until(needed, ctx);
    (QualificationState { pending: Some(pending), ..before.clone() }, None)
}

/// The state once `shown` is accepted; anything else was last seen at `last_other_at`.
fn accept(
    before: &QualificationState,
    shown: Option<&Entry>,
    ctx: &EvalContext,
    last_other_at: Option<Timestamp>,
) -> (QualificationState, Option<Change>) {
    match shown {
        Some(entry) => entry_present(before, entry, ctx, last_other_at),
        None => entry_missing(before, ctx, last_other_at),
    }
}

/// The first response for a customer is stored silently, except for a verdict on a review submitted while watching.
fn first_response(
    never: &QualificationState,
    entry: &Entry,
    ctx: &EvalContext,
) -> (QualificationState, Option<Change>) {
    let (state, change) = entry_present(never, entry, ctx, None);
    let is_verdict = matches!(entry.status(), Status::Verdict(_));
    let is_ours = ctx.notify_since.is_none_or(|watching| {
        let is_later = |date: Option<Timestamp>| date.is_some_and(|date| date > watching);
        // An approval often has no date, and a date without its zone may be hours early; the activity log has the
        // submission's.
        let is_logged = ctx.submitted_at.is_some_and(|submitted| {
            entry.created_at.is_none_or(|created| submitted.since(created) < Duration::from_hours(24))
        });
        is_later(entry.created_at) || (is_later(ctx.submitted_at) && is_logged)
    });
    let loud = change.filter(|_| is_verdict && is_ours).map(|change| Change { from: None, first_seen: true, ..change });
    let review = Review { submitted_at: entry.created_at, ..state.review };
    (QualificationState { review, ..state }, loud)
}

/// The first response for a customer after a submission through vetwatch: any entry of that qualification is a change
/// with an unknown previous state.
fn first_response_after_submission(
    before: &QualificationState,
    entry: &Entry,
    ctx: &EvalContext,
) -> (QualificationState, Option<Change>) {
    let (state, change) = entry_present(before, entry, ctx, None);
    (state, change.map(|change| Change { from: None, first_seen: true, ..change }))
}

fn entry_present(
    before: &QualificationState,
    entry: &Entry,
    ctx: &EvalContext,
    last_other_at: Option<Timestamp>,
) -> (QualificationState, Option<Change>) {
    let (now, written) = (ctx.now, entry);
    let starts_review = before.starts_review(entry);
    let review = if starts_review {
        let seen_to_begin = (entry.status() == Status::InReview).then_some(now);
        Review {
            attempt: before.review.attempt + 1,
            created_at: entry.created_at,
            submitted_at: entry.created_at.or(seen_to_begin),
            seen_at: Some(now),
        }
    } else if let Some(last) = before.last_notified.as_ref().filter(|_| before.undoes_undated_review(entry)) {
        let created_at = last.review_created_at.or(last.created_at);
        Review { attempt: last.attempt, created_at, submitted_at: created_at, seen_at: Some(last.at) }
    } else {
        before.review_with(entry)
    };
    // Keep a known date: an approval often has none.
    let same = before.entry.as_ref().filter(|old| old.status_key() == entry.status_key());
    let known = || same.and_then(|old| old.created_at).or(review.created_at);
    let created_at = entry.created_at.or_else(|| if starts_review { None } else { known() });
    let entry = &Entry { created_at, ..entry.clone() };
    let changed = starts_review || before.entry.as_ref().is_none_or(|old| !is_equivalent(old, entry));
    let same_status = same.is_some();
    let last_notified = before.last_notified.clone().map(|last| last.with_date(written, &review));
    let state = QualificationState {
        qualification: entry.qualification.clone(),
        entry: Some(entry.clone()),
        since: if same_status && !starts_review { before.since } else { now },
        review,
        last_notified,
        pending: None,
    };
    if !changed {
        return (state, None);
    }
    // Uses the entry as written: an unknown date does not differ from the last notified verdict.
    let event = event_of(before, written, &review, starts_review);
    let change = before.change(event, Some(entry), review, last_other_at);
    let last_notified = match (event, entry.status()) {
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
        _ => state.last_notified.clone(),
    };
    (QualificationState { last_notified, ..state }, Some(change))
}

/// The event type of a change to `entry`.
fn event_of(before: &QualificationState, entry: &Entry, review: &Review, starts_review: bool) -> EventType {
    match (entry.status(), &before.last_notified) {
        // The previous verdict is shown again; the review in between vanished.
        (Status::Verdict(_), _) if before.is_replaced_by(entry) => EventType::Vanished,
        (Status::Verdict(verdict), Some(last)) if last.equals(verdict, entry, review.attempt) => EventType::Changed,
        (Status::Verdict(Verdict::Denied), Some(last)) if last.verdict == Verdict::Approved => EventType::Revoked,
        (Status::Verdict(Verdict::Approved), _) => EventType::Approved,
        (Status::Verdict(Verdict::Denied), _) => EventType::Denied,
        (Status::InReview, _) if starts_review => EventType::Submitted,
        _ => EventType::Changed,
    }
}

/// The state and change once an entry is confirmed absent.
fn entry_missing(
    before: &QualificationState,
    ctx: &EvalContext,
    last_other_at: Option<Timestamp>,
) -> (QualificationState, Option<Change>) {
    let event = match before.status() {
        None => return (QualificationState { pending: None, ..before.clone() }, None),
        Some(Status::InReview) => EventType::Vanished,
        Some(Status::Verdict(Verdict::Approved)) => EventType::Revoked,
        Some(_) => EventType::Changed,
    };
    let change = before.change(event, None, before.review, last_other_at);
    let last_notified = before.last_notified.clone().filter(|_| event != EventType::Revoked);
    (QualificationState { entry: None, since: ctx.now, last_notified, pending: None, ..before.clone() }, Some(change))
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

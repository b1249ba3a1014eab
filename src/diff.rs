//! What changed, and whether it is news. Pure: the rules stand here and nowhere else, and nothing here knows of
//! time, network or tables but what it is given.
//!
//! One [`Belief`] for each qualification of a customer; [`compare`] holds an answer against all of them.

use std::time::Duration;

use crate::event::EventType;
use crate::qualification::{Entry, Snapshot, Status, Verdict};
use crate::time::Timestamp;

/// How a missing entry is written where a status is expected.
pub const ABSENT: &str = "absent";

/// What is believed of one qualification of one customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belief {
    /// The name, as last spelled.
    pub qualification: String,
    /// `None`: confirmed absent.
    pub entry: Option<Entry>,
    /// When it was first seen in this status.
    pub since: Timestamp,
    pub review: Review,
    /// The last verdict that was told, or taken over silently at first sight. Forgotten when an approval vanished:
    /// its return is news.
    pub told: Option<Told>,
    pub missing: Option<Missing>,
}

/// The review that a belief is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Review {
    /// Counted from 1, as far as we saw; 0: no review was ever seen.
    pub attempt: u32,
    /// Its create date, if one was ever shown.
    pub created_at: Option<Timestamp>,
    /// The create date, or else when we saw it begin.
    pub submitted_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub verdict: Verdict,
    pub reason_key: Option<String>,
    pub created_at: Option<Timestamp>,
    pub attempt: u32,
}

/// The entry was not in the last answer, and that is not believed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    pub since: Timestamp,
    /// When the entry was last there.
    pub after: Option<Timestamp>,
    /// Looks that counted, and the last of them.
    pub looks: u32,
    pub looked_at: Timestamp,
}

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

/// The circumstances of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub now: Timestamp,
    /// When the customer was last understood; `None`: this is its first sight.
    pub last_seen_at: Option<Timestamp>,
    /// Reviews submitted later than this are news even at first sight; `None`: whatever is found is.
    pub news_since: Option<Timestamp>,
    /// When something was last submitted for this customer, as the activity log has it.
    pub submitted_at: Option<Timestamp>,
    pub second_look: Duration,
    pub third_look: Duration,
    pub doubt: Doubt,
}

/// How far an answer is doubted that lacks an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// A second look is needed, for an approval a third.
    Usual,
    /// So much disappeared at once, since then, that only looks count that are taken an hour later, and then an hour
    /// apart.
    ImplausibleSince(Timestamp),
    /// What was missing then is gone, says a person.
    AcceptedAt(Timestamp),
}

/// Holds an answer against what is believed. Returns every belief as it is afterwards, with its change if there is
/// one. An answer that says the same returns no change, whatever its spelling or order.
#[must_use]
pub fn compare(before: &[Belief], answer: &Snapshot, look: &Look) -> Vec<(Belief, Option<Change>)> {
    let known = before.iter().map(|belief| {
        match answer.entries().iter().find(|entry| entry.key() == crate::qualification::key(&belief.qualification)) {
            Some(entry) if look.last_seen_at.is_none() && belief.entry.is_none() => awaited(belief, entry, look),
            Some(entry) => present(belief, entry, look),
            None => missing(belief, look),
        }
    });
    let is_known = |entry: &&Entry| before.iter().any(|b| crate::qualification::key(&b.qualification) == entry.key());
    let new = answer.entries().iter().filter(|entry| !is_known(entry)).map(|entry| {
        let never = Belief::never(&entry.qualification, look.now);
        if look.last_seen_at.is_none() { first_sight(&never, entry, look) } else { present(&never, entry, look) }
    });
    known.chain(new).collect()
}

/// The first sight of a customer is a silent baseline, unless its verdict is on a review that began on our watch.
fn first_sight(never: &Belief, entry: &Entry, look: &Look) -> (Belief, Option<Change>) {
    let (belief, change) = present(never, entry, look);
    let is_verdict = matches!(entry.status(), Status::Verdict(_));
    // An approval is often written without a date; the activity log has the submission's.
    let submitted = entry.created_at.or(look.submitted_at);
    let is_ours = look.news_since.is_none_or(|watching| submitted.is_some_and(|submitted| submitted > watching));
    let news = change.filter(|_| is_verdict && is_ours).map(|change| Change { from: None, first_seen: true, ..change });
    let began_unseen = Review { submitted_at: entry.created_at, ..belief.review };
    (Belief { review: began_unseen, ..belief }, news)
}

/// The first sight of a customer, in a qualification that we know was submitted on our watch: whatever it shows is news,
/// and nobody knows what it was before.
fn awaited(before: &Belief, entry: &Entry, look: &Look) -> (Belief, Option<Change>) {
    let (belief, change) = present(before, entry, look);
    (belief, change.map(|change| Change { from: None, first_seen: true, ..change }))
}

fn present(before: &Belief, entry: &Entry, look: &Look) -> (Belief, Option<Change>) {
    let begins = before.begins(entry);
    let review = if begins {
        let seen_to_begin = (entry.status() == Status::InReview).then_some(look.now);
        Review {
            attempt: before.review.attempt + 1,
            created_at: entry.created_at,
            submitted_at: entry.created_at.or(seen_to_begin),
        }
    } else {
        let created_at = before.review.created_at.or(entry.created_at);
        Review { created_at, submitted_at: created_at.or(before.review.submitted_at), ..before.review }
    };
    // A date that was known stays known: an approval is often written without one.
    let same = before.entry.as_ref().filter(|old| old.status_key() == entry.status_key());
    let known = || same.and_then(|old| old.created_at).or(review.created_at);
    let created_at = entry.created_at.or_else(|| if begins { None } else { known() });
    let written = entry;
    let entry = &Entry { created_at, ..entry.clone() };
    let changed = begins || before.entry.as_ref().is_none_or(|old| !says_the_same(old, entry));
    let same_status = same.is_some();
    let after = Belief {
        qualification: entry.qualification.clone(),
        entry: Some(entry.clone()),
        since: if same_status && !begins { before.since } else { look.now },
        review,
        told: before.told.clone(),
        missing: None,
    };
    if !changed {
        return (after, None);
    }
    // By what is written: a date that is unknown is no difference to what was told.
    let event = event_of(before, written, &review, begins);
    let change = before.change(event, Some(entry), review, look.last_seen_at);
    let told = match (event, entry.status()) {
        (EventType::Approved | EventType::Denied | EventType::Revoked, Status::Verdict(verdict)) => {
            Some(Told { verdict, reason_key: entry.reason_key(), created_at, attempt: review.attempt })
        }
        _ => after.told.clone(),
    };
    (Belief { told, ..after }, Some(change))
}

/// What a change to `entry` is called.
fn event_of(before: &Belief, entry: &Entry, review: &Review, begins: bool) -> EventType {
    // A create date before this review's, by more than ways of writing it explain, or of a verdict that was told or of one
    // before it: a copy of the past (replicas lag), or what is left of an earlier review.
    let is_of_the_told = |told: &Told| {
        later(told.created_at, entry.created_at)
            || told.attempt < review.attempt && told.created_at.is_some() && !later(entry.created_at, told.created_at)
    };
    let is_other =
        review.created_at.zip(entry.created_at).is_some_and(|(review, entry)| !written_otherwise(review, entry));
    let is_past =
        later(review.created_at, entry.created_at) && (is_other || before.told.as_ref().is_some_and(is_of_the_told));
    match entry.status() {
        Status::Verdict(_) if is_past => EventType::Changed,
        Status::Verdict(verdict) => match (verdict, &before.told) {
            (Verdict::Denied, Some(told)) if told.verdict == Verdict::Approved => EventType::Revoked,
            (_, Some(told)) if told.is(verdict, entry, review) => EventType::Changed,
            (Verdict::Approved, _) => EventType::Approved,
            (Verdict::Denied, _) => EventType::Denied,
        },
        Status::InReview if begins => EventType::Submitted,
        _ => EventType::Changed,
    }
}

/// An entry that is not in the answer. It is believed gone at the second look, an approval at the third; a look
/// counts if it comes long enough after the one before.
fn missing(before: &Belief, look: &Look) -> (Belief, Option<Change>) {
    let Some(entry) = &before.entry else { return (before.clone(), None) };
    let first = Missing { since: look.now, after: look.last_seen_at, looks: 1, looked_at: look.now };
    let missing = match before.missing {
        None => first,
        // The clock was set back: wait once more, not for days.
        Some(missing) if look.now < missing.looked_at => Missing { looked_at: look.now, ..missing },
        Some(missing) if missing.is_accepted(look) => missing,
        Some(missing) if look.now < missing.next_look_at(look) => missing,
        Some(missing) if missing.begins_anew(look) => Missing { since: missing.since, after: missing.after, ..first },
        Some(missing) => Missing { looks: missing.looks + 1, looked_at: look.now, ..missing },
    };
    let was_approved = entry.status() == Status::Verdict(Verdict::Approved);
    let enough = match look.doubt {
        Doubt::Usual | Doubt::AcceptedAt(_) if was_approved => 3,
        _ => 2,
    };
    if !missing.is_accepted(look) && (missing.looks < enough || missing.begins_anew(look)) {
        return (Belief { missing: Some(missing), ..before.clone() }, None);
    }
    let event = match entry.status() {
        Status::InReview => EventType::Vanished,
        Status::Verdict(Verdict::Approved) => EventType::Revoked,
        _ => EventType::Changed,
    };
    let change = before.change(event, None, before.review, missing.after);
    let told = before.told.clone().filter(|_| event != EventType::Revoked);
    (Belief { entry: None, since: look.now, told, missing: None, ..before.clone() }, Some(change))
}

impl Belief {
    /// Of a qualification that was never seen.
    #[must_use]
    pub fn never(qualification: &str, now: Timestamp) -> Self {
        Self {
            qualification: qualification.to_owned(),
            entry: None,
            since: now,
            review: Review::default(),
            told: None,
            missing: None,
        }
    }

    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.entry.as_ref().map(Entry::status)
    }

    /// A status word that is not documented.
    #[must_use]
    pub fn unknown_word(&self) -> Option<&str> {
        let entry = self.entry.as_ref().filter(|entry| entry.status() == Status::Unknown)?;
        entry.vetting_status.as_deref()
    }

    /// Does a review begin with `entry`?
    fn begins(&self, entry: &Entry) -> bool {
        let after_the_end =
            self.entry.is_none() || self.told.as_ref().is_some_and(|told| told.attempt == self.review.attempt);
        match (entry.status(), self.review) {
            (Status::None, _) => false,
            (_, Review { attempt: 0, .. }) => true,
            (status, Review { created_at, .. }) => match (entry.created_at, created_at) {
                (Some(_), Some(_)) => later(entry.created_at, created_at),
                _ => status == Status::InReview && after_the_end && self.status() != Some(Status::InReview),
            },
        }
    }

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

impl Told {
    /// Was this told already? A date that is unknown on one side is no difference; nor is an approval's reason.
    fn is(&self, verdict: Verdict, entry: &Entry, review: &Review) -> bool {
        self.verdict == verdict
            && self.attempt == review.attempt
            && same_date(self.created_at, entry.created_at)
            && (verdict == Verdict::Approved || self.reason_key == entry.reason_key())
    }
}

/// While answers are implausible, looks count only after this long, and then this far apart.
pub const DOUBT: Duration = Duration::from_hours(1);

impl Missing {
    /// When the next look counts.
    #[must_use]
    pub fn next_look_at(&self, look: &Look) -> Timestamp {
        match look.doubt {
            Doubt::ImplausibleSince(since) if self.looked_at < since.after(DOUBT) => since.after(DOUBT),
            Doubt::ImplausibleSince(_) => self.looked_at.after(DOUBT),
            Doubt::Usual | Doubt::AcceptedAt(_) => {
                self.looked_at.after(if self.looks == 1 { look.second_look } else { look.third_look })
            }
        }
    }

    /// The looks so far were taken when answers had just become implausible: none of them counts.
    fn begins_anew(&self, look: &Look) -> bool {
        matches!(look.doubt, Doubt::ImplausibleSince(since) if self.looked_at < since.after(DOUBT))
    }

    fn is_accepted(&self, look: &Look) -> bool {
        matches!(look.doubt, Doubt::AcceptedAt(at) if self.since <= at)
    }
}

fn says_the_same(a: &Entry, b: &Entry) -> bool {
    a.status_key() == b.status_key() && a.reason_key() == b.reason_key() && same_date(a.created_at, b.created_at)
}

/// Equal to the second; an unknown date is no difference.
fn same_date(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    a.zip(b).is_none_or(|(a, b)| a.as_secs() == b.as_secs())
}

/// May `early` be the same create date as `late`, rounded, or written as a day?
fn written_otherwise(late: Timestamp, early: Timestamp) -> bool {
    let apart = late.since(early);
    apart <= Duration::from_secs(2) || (early.as_secs() % 86_400 == 0 && apart <= Duration::from_hours(48))
}

/// Both known, and `a` later by a second at least.
fn later(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    a.zip(b).is_some_and(|(a, b)| a.as_secs() > b.as_secs())
}

#[cfg(test)]
mod tests;

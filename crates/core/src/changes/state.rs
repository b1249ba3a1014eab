//! The stored state of one qualification, and the rules for attempts, for repeated verdicts, and for how many
//! confirmations a difference needs.

use std::time::Duration;

use super::pending::{AbsencePolicy, EvalContext, HOUR, Pending};
use crate::qualification::{Entry, Status, Verdict};
use crate::time::Timestamp;

/// Microsoft's programs write the date of the same verdict at most this far apart.
const SECONDS: Duration = Duration::from_mins(1);

/// The stored state of one qualification of one customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QualificationState {
    /// The name, as last spelled.
    pub qualification: String,
    /// `None` if confirmed absent.
    pub entry: Option<Entry>,
    /// When this status was first seen.
    pub since: Timestamp,
    pub review: Review,
    /// The last verdict that was notified, or stored silently with the first response. `None` again after an approval
    /// vanished, so that its return is notified.
    pub last_notified: Option<LastNotified>,
    /// What the last response showed instead, while it waits for confirmation.
    pub pending: Option<Pending>,
}

/// The review that a state belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Review {
    /// Counted from 1, as far as seen; 0 if no review was ever seen.
    pub attempt: u32,
    /// Its first create date.
    pub created_at: Option<Timestamp>,
    /// The create date, or else when it was seen to start.
    pub submitted_at: Option<Timestamp>,
    /// When it was first seen.
    pub seen_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastNotified {
    pub verdict: Verdict,
    pub reason_key: Option<String>,
    /// The verdict's own create date, if it ever showed one.
    pub created_at: Option<Timestamp>,
    pub attempt: u32,
    /// The create date of that attempt.
    pub review_created_at: Option<Timestamp>,
    /// When the verdict was seen.
    pub at: Timestamp,
}

impl QualificationState {
    #[must_use]
    pub fn unseen(qualification: &str, now: Timestamp) -> Self {
        Self {
            qualification: qualification.to_owned(),
            entry: None,
            since: now,
            review: Review::default(),
            last_notified: None,
            pending: None,
        }
    }

    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.entry.as_ref().map(Entry::status)
    }

    /// True if a verdict of the current review was neither notified nor stored silently.
    #[must_use]
    pub fn is_review_open(&self) -> bool {
        let told = self.last_notified.as_ref().map_or(0, |verdict| verdict.attempt);
        self.review.attempt > told
    }

    /// The status if it is not a documented one.
    #[must_use]
    pub fn unknown_status(&self) -> Option<&str> {
        let entry = self.entry.as_ref().filter(|entry| entry.status() == Status::Unknown)?;
        entry.vetting_status.as_deref()
    }

    /// The pending difference, if `shown` shows it again.
    #[must_use]
    pub fn pending_as(&self, shown: Option<&Entry>) -> Option<&Pending> {
        self.pending.as_ref().filter(|pending| match (&pending.shows, shown) {
            (None, None) => true,
            (Some(a), Some(b)) => is_equivalent(a, b),
            _ => false,
        })
    }

    /// True if the response loses the entry: it is missing, or replaced by one that may be older.
    #[must_use]
    pub fn loses(&self, shown: Option<&Entry>) -> bool {
        self.entry.is_some()
            && shown.is_none_or(|entry| self.is_rolled_back(entry) || self.confirmations_for(entry, self.since) > 1)
    }

    /// How many responses must show it before it is accepted; 1 is at once.
    pub(super) fn confirmations_needed(&self, shown: Option<&Entry>, ctx: &EvalContext) -> u32 {
        match shown {
            None if self.status() == Some(Status::Verdict(Verdict::Approved)) => 3,
            None => 2,
            Some(entry) => {
                let since = self.pending_as(shown).map_or(ctx.now, |pending| pending.since);
                let is_doubted =
                    matches!(ctx.absence_policy, AbsencePolicy::MassAbsence(_)) && self.is_rolled_back(entry);
                self.confirmations_for(entry, since).max(if is_doubted { 2 } else { 1 })
            }
        }
    }

    /// A verdict that stays is notified, whatever its date; until then an early one may be a stale copy.
    ///
    /// | polls | verdict |
    /// | --- | --- |
    /// | 3 | the last notified, in place of a later review; dated before the last notified; undated and the same as the last notified, though a review started since; an hour early while the review was first seen less than an hour ago |
    /// | 2 | dated an hour or more before the attempt |
    /// | 1 | any other, and one that equals the last notified within its attempt |
    fn confirmations_for(&self, entry: &Entry, since: Timestamp) -> u32 {
        let Status::Verdict(verdict) = entry.status() else { return 1 };
        if self.entry.as_ref().is_some_and(|shown| is_equivalent(shown, entry)) || self.undoes_undated_review(entry) {
            return 1;
        }
        let last = self.last_notified.as_ref();
        if entry.created_at.is_none() {
            let is_old =
                last.is_some_and(|last| last.attempt < self.review.attempt && last.has_same_verdict(verdict, entry));
            return if is_old { 3 } else { 1 };
        }
        let in_attempt = last.filter(|last| last.attempt == self.review.attempt);
        let is_known = in_attempt.is_some_and(|last| last.equals(verdict, entry, self.review.attempt));
        let is_past = last.is_some_and(|last| later(last.created_at, entry.created_at));
        if self.is_replaced_by(entry) || (is_past && !is_known) {
            return 3;
        }
        let is_shown = self.entry.as_ref().is_some_and(|shown| same_second(shown.created_at, entry.created_at));
        let is_early = hour_later(self.review.created_at, entry.created_at);
        if is_known || is_shown || !is_early {
            return 1;
        }
        let is_young = self.review.seen_at.is_some_and(|seen| since.since(seen) < HOUR);
        if is_young { 3 } else { 2 }
    }

    /// True if `entry` is dated at least an hour before the stored one.
    fn is_rolled_back(&self, entry: &Entry) -> bool {
        self.entry.as_ref().is_some_and(|shown| hour_later(shown.created_at, entry.created_at))
    }

    /// True if `entry` is the last notified verdict and the state shows a review that started later.
    pub(super) fn is_replaced_by(&self, entry: &Entry) -> bool {
        self.status() == Some(Status::InReview)
            && later(self.review.created_at, entry.created_at)
            && self
                .last_notified
                .as_ref()
                .is_some_and(|last| last.attempt < self.review.attempt && last.is_shown_by(entry))
    }

    /// True if `entry` is the last notified verdict, so the undated review that seemed to start since was a stale copy.
    pub(super) fn undoes_undated_review(&self, entry: &Entry) -> bool {
        self.review.created_at.is_none()
            && self
                .last_notified
                .as_ref()
                .is_some_and(|last| last.attempt + 1 == self.review.attempt && last.is_shown_by(entry))
    }

    /// True if a new review starts with `entry`.
    pub(super) fn starts_review(&self, entry: &Entry) -> bool {
        match (entry.status(), &self.review) {
            (Status::None, _) => false,
            (_, Review { attempt: 0, .. }) => true,
            (status, review) => match (entry.created_at, review.created_at) {
                (Some(created), Some(began)) => {
                    later(Some(created), Some(began)) && !self.is_of_this_review(entry, created, began)
                }
                _ => status == Status::InReview && self.is_over() && self.status() != Some(Status::InReview),
            },
        }
    }

    /// Two of Microsoft's programs write the date of one review: less than an hour from the attempt's date is the same
    /// review, unless a verdict or an absence lies between.
    fn is_of_this_review(&self, entry: &Entry, created: Timestamp, began: Timestamp) -> bool {
        let Some(shown) = &self.entry else { return false };
        let last = self.last_notified.as_ref().filter(|last| last.attempt == self.review.attempt);
        let is_between = match last {
            // A verdict seconds after a verdict is the same one, written by another program.
            Some(last) => {
                !matches!(entry.status(), Status::Verdict(_))
                    || created.as_secs() >= last.at.as_secs()
                    || !(within(SECONDS, began, created)
                        || last.created_at.is_some_and(|last| within(SECONDS, last, created)))
            }
            None => self.is_over(),
        };
        same_second(shown.created_at, Some(created)) || (near(began, created) && !is_between)
    }

    /// True if a verdict or an absence was seen since the review started.
    fn is_over(&self) -> bool {
        matches!(self.status(), None | Some(Status::Verdict(_)))
            || self.last_notified.as_ref().is_some_and(|last| last.attempt == self.review.attempt)
    }

    /// The review once `entry`, which starts none, is accepted. The first date is kept.
    pub(super) fn review_with(&self, entry: &Entry) -> Review {
        // The date of an earlier verdict, or one before it, does not belong to an undated review.
        let is_of_before = |last: &LastNotified| {
            last.attempt < self.review.attempt && !later(entry.created_at, last.created_at) && last.created_at.is_some()
        };
        let appears = entry.created_at.filter(|_| !self.last_notified.as_ref().is_some_and(is_of_before));
        let created_at = self.review.created_at.or(appears);
        Review { created_at, submitted_at: created_at.or(self.review.submitted_at), ..self.review }
    }
}

impl LastNotified {
    /// True if this verdict was notified already. Dates must be equal to the second or, within an attempt, less than an
    /// hour apart or missing. The reason of an approval is ignored.
    pub(super) fn equals(&self, verdict: Verdict, entry: &Entry, attempt: u32) -> bool {
        let is_same_date = match (self.created_at, entry.created_at) {
            (Some(a), Some(b)) => a.as_secs() == b.as_secs() || (self.attempt == attempt && near(a, b)),
            _ => self.attempt == attempt,
        };
        self.has_same_verdict(verdict, entry) && is_same_date
    }

    fn has_same_verdict(&self, verdict: Verdict, entry: &Entry) -> bool {
        self.verdict == verdict && (verdict == Verdict::Approved || self.reason_key == entry.reason_key())
    }

    /// True if `entry` is the same verdict with the same date, as written by any of Microsoft's programs.
    fn is_shown_by(&self, entry: &Entry) -> bool {
        let is_its_date = self.created_at.zip(entry.created_at).is_some_and(|(last, created)| {
            let is_older = created.as_secs() < self.at.as_secs();
            last.as_secs() == created.as_secs() || (is_older && within(SECONDS, last, created))
        });
        matches!(entry.status(), Status::Verdict(verdict) if self.has_same_verdict(verdict, entry)) && is_its_date
    }

    /// Adds a date that has appeared. One that is hours before the review may belong to another.
    pub(super) fn with_date(self, entry: &Entry, review: &Review) -> Self {
        let is_early = hour_later(review.created_at, entry.created_at);
        match entry.status() {
            Status::Verdict(verdict)
                if self.created_at.is_none() && !is_early && self.equals(verdict, entry, review.attempt) =>
            {
                Self { created_at: entry.created_at, review_created_at: review.created_at, ..self }
            }
            _ => self,
        }
    }
}

/// True for the same status and reason, and dates that differ by no more than the ways of writing one.
pub(super) fn is_equivalent(a: &Entry, b: &Entry) -> bool {
    let is_same_date = a.created_at.zip(b.created_at).is_none_or(|(a, b)| near(a, b));
    a.status_key() == b.status_key() && a.reason_key() == b.reason_key() && is_same_date
}

/// True if less than an hour apart, to the second.
fn near(a: Timestamp, b: Timestamp) -> bool {
    within(HOUR, a, b)
}

fn within(length: Duration, a: Timestamp, b: Timestamp) -> bool {
    a.as_secs().abs_diff(b.as_secs()) < length.as_secs()
}

/// True if both are known and equal to the second.
fn same_second(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    a.zip(b).is_some_and(|(a, b)| a.as_secs() == b.as_secs())
}

/// True if both are known and `a` is at least an hour later, to the second.
fn hour_later(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    a.zip(b).is_some_and(|(a, b)| a > b && !near(a, b))
}

/// True if both are known and `a` is at least a second later.
fn later(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    a.zip(b).is_some_and(|(a, b)| a.as_secs() > b.as_secs())
}

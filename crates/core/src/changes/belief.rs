//! What is believed of one qualification, and the rules of attempts, of verdicts that were told, and of how many looks
//! a difference needs.

use std::time::Duration;

use super::{AbsencePolicy, EvalContext, HOUR};
use crate::qualification::{Entry, Status, Verdict};
use crate::time::Timestamp;

/// Programs of Microsoft that write the date of one verdict do it seconds apart.
const SECONDS: Duration = Duration::from_mins(1);

/// What is believed of one qualification of one customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QualificationState {
    /// The name, as last spelled.
    pub qualification: String,
    /// `None`: confirmed absent.
    pub entry: Option<Entry>,
    /// When it was first seen in this status.
    pub since: Timestamp,
    pub review: Review,
    /// The last verdict that was told, or taken over silently at first sight. Forgotten when an approval vanished:
    /// its return is news.
    pub told: Option<LastNotified>,
    /// What the last answer showed instead, while that is not believed.
    pub pending: Option<Pending>,
}

/// The review that a belief is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Review {
    /// Counted from 1, as far as we saw; 0: no review was ever seen.
    pub attempt: u32,
    /// The first create date that was shown of it.
    pub created_at: Option<Timestamp>,
    /// The create date, or else when we saw it begin.
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

/// An answer showed something that may be a copy of the past: an absence, or a verdict with an early date. It is
/// believed once enough looks have shown it, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// `None`: the entry is missing.
    pub shows: Option<Entry>,
    pub since: Timestamp,
    /// When something else was last seen.
    pub after: Option<Timestamp>,
    /// Looks that counted, and the last of them.
    pub looks: u32,
    pub looked_at: Timestamp,
    /// When it will be believed, if it stays.
    pub until: Timestamp,
}

impl QualificationState {
    /// Of a qualification that was never seen.
    #[must_use]
    pub fn never(qualification: &str, now: Timestamp) -> Self {
        Self {
            qualification: qualification.to_owned(),
            entry: None,
            since: now,
            review: Review::default(),
            told: None,
            pending: None,
        }
    }

    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.entry.as_ref().map(Entry::status)
    }

    /// A status word that is not documented.
    #[must_use]
    pub fn unknown_status(&self) -> Option<&str> {
        let entry = self.entry.as_ref().filter(|entry| entry.status() == Status::Unknown)?;
        entry.vetting_status.as_deref()
    }

    /// What was shown before and is shown again, if it waits to be believed.
    #[must_use]
    pub fn pending_as(&self, shown: Option<&Entry>) -> Option<&Pending> {
        self.pending.as_ref().filter(|pending| match (&pending.shows, shown) {
            (None, None) => true,
            (Some(a), Some(b)) => is_equivalent(a, b),
            _ => false,
        })
    }

    /// Is an entry lost by what an answer shows: missing, or replaced by what may be an older one?
    #[must_use]
    pub fn loses(&self, shown: Option<&Entry>) -> bool {
        self.entry.is_some()
            && shown.is_none_or(|entry| self.is_rolled_back(entry) || self.looks(entry, self.since) > 1)
    }

    /// How many looks must show it before it is believed: 1 is at once.
    pub(super) fn looks_needed(&self, shown: Option<&Entry>, look: &EvalContext) -> u32 {
        match shown {
            None if self.status() == Some(Status::Verdict(Verdict::Approved)) => 3,
            None => 2,
            Some(entry) => {
                let since = self.pending_as(shown).map_or(look.now, |pending| pending.since);
                let is_doubted = matches!(look.doubt, AbsencePolicy::ImplausibleSince(_)) && self.is_rolled_back(entry);
                self.looks(entry, since).max(if is_doubted { 2 } else { 1 })
            }
        }
    }

    /// A verdict that stays is told, whatever its date; until it has stayed, an early one may be a copy of the past.
    ///
    /// | looks | which verdict |
    /// | --- | --- |
    /// | 3 | the last one told, in place of a later review; dated before the last one told; undated and the same as the last one told, though a review began since; an hour early while the review was first seen less than an hour ago |
    /// | 2 | dated an hour or more before the attempt |
    /// | 1 | any other, and what equals the last one told within its attempt |
    fn looks(&self, entry: &Entry, since: Timestamp) -> u32 {
        let Status::Verdict(verdict) = entry.status() else { return 1 };
        if self.entry.as_ref().is_some_and(|shown| is_equivalent(shown, entry)) || self.takes_back(entry) {
            return 1;
        }
        let told = self.told.as_ref();
        let Some(created) = entry.created_at else {
            let is_old = told.is_some_and(|told| told.attempt < self.review.attempt && told.says(verdict, entry));
            return if is_old { 3 } else { 1 };
        };
        let in_attempt = told.filter(|told| told.attempt == self.review.attempt);
        let is_known = in_attempt.is_some_and(|told| told.is(verdict, entry, self.review.attempt));
        let is_past = told.is_some_and(|told| later(told.created_at, entry.created_at));
        if self.is_replaced_by(entry) || (is_past && !is_known) {
            return 3;
        }
        let is_shown = self.entry.as_ref().is_some_and(|shown| same_second(shown.created_at, entry.created_at));
        let is_early = self.review.created_at.is_some_and(|began| !near(began, created) && began > created);
        if is_known || is_shown || !is_early {
            return 1;
        }
        let is_young = self.review.seen_at.is_some_and(|seen| since.since(seen) < HOUR);
        if is_young { 3 } else { 2 }
    }

    /// Dated an hour or more before what is believed now.
    fn is_rolled_back(&self, entry: &Entry) -> bool {
        let shown = self.entry.as_ref().and_then(|entry| entry.created_at);
        shown.zip(entry.created_at).is_some_and(|(shown, created)| shown > created && !near(shown, created))
    }

    /// Is `entry` the last verdict told, where a review is shown that began later?
    pub(super) fn is_replaced_by(&self, entry: &Entry) -> bool {
        self.status() == Some(Status::InReview)
            && later(self.review.created_at, entry.created_at)
            && self.told.as_ref().is_some_and(|told| told.attempt < self.review.attempt && told.returns_as(entry))
    }

    /// Is `entry` the last verdict told, so that the undated review that seemed to begin since was a copy of the past?
    pub(super) fn takes_back(&self, entry: &Entry) -> bool {
        self.review.created_at.is_none()
            && self.told.as_ref().is_some_and(|told| told.attempt + 1 == self.review.attempt && told.returns_as(entry))
    }

    /// Does a review begin with `entry`?
    pub(super) fn begins(&self, entry: &Entry) -> bool {
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

    /// Two programs of Microsoft write the date of one review: less than an hour from the attempt's is the attempt's,
    /// unless a verdict or an absence lies between.
    fn is_of_this_review(&self, entry: &Entry, created: Timestamp, began: Timestamp) -> bool {
        let Some(shown) = &self.entry else { return false };
        let told = self.told.as_ref().filter(|told| told.attempt == self.review.attempt);
        let is_between = match told {
            // A verdict after a verdict is the same one, written by another program, if seconds are between.
            Some(told) => {
                !matches!(entry.status(), Status::Verdict(_))
                    || created.as_secs() >= told.at.as_secs()
                    || !(within(SECONDS, began, created)
                        || told.created_at.is_some_and(|told| within(SECONDS, told, created)))
            }
            None => self.is_over(),
        };
        same_second(shown.created_at, Some(created)) || (near(began, created) && !is_between)
    }

    /// A verdict or an absence was seen since the review began.
    fn is_over(&self) -> bool {
        matches!(self.status(), None | Some(Status::Verdict(_)))
            || self.told.as_ref().is_some_and(|told| told.attempt == self.review.attempt)
    }

    /// The review that this is once `entry`, which begins none, is believed. Its first date stays its date.
    pub(super) fn review_with(&self, entry: &Entry) -> Review {
        // The date of an earlier verdict, or one before it, is not that of a review without date.
        let is_of_before = |told: &LastNotified| {
            told.attempt < self.review.attempt && !later(entry.created_at, told.created_at) && told.created_at.is_some()
        };
        let appears = entry.created_at.filter(|_| !self.told.as_ref().is_some_and(is_of_before));
        let created_at = self.review.created_at.or(appears);
        Review { created_at, submitted_at: created_at.or(self.review.submitted_at), ..self.review }
    }
}

impl LastNotified {
    /// Was this told already? Equal to the second is equal; so is, within an attempt, what lies less than an hour apart
    /// or has no date. An approval's reason makes no difference.
    pub(super) fn is(&self, verdict: Verdict, entry: &Entry, attempt: u32) -> bool {
        let is_same_date = match (self.created_at, entry.created_at) {
            (Some(a), Some(b)) => a.as_secs() == b.as_secs() || (self.attempt == attempt && near(a, b)),
            _ => self.attempt == attempt,
        };
        self.says(verdict, entry) && is_same_date
    }

    fn says(&self, verdict: Verdict, entry: &Entry) -> bool {
        self.verdict == verdict && (verdict == Verdict::Approved || self.reason_key == entry.reason_key())
    }

    /// The same verdict, with its own date, maybe as another program wrote it.
    fn returns_as(&self, entry: &Entry) -> bool {
        let is_its_date = self.created_at.zip(entry.created_at).is_some_and(|(told, created)| {
            let is_older = created.as_secs() < self.at.as_secs();
            told.as_secs() == created.as_secs() || (is_older && within(SECONDS, told, created))
        });
        matches!(entry.status(), Status::Verdict(verdict) if self.says(verdict, entry)) && is_its_date
    }

    /// The same, now that its date has appeared. One that is hours before its review may be that of another.
    pub(super) fn dated(self, entry: &Entry, review: &Review) -> Self {
        let is_early = review.created_at.zip(entry.created_at).is_some_and(|(a, b)| a > b && !near(a, b));
        match entry.status() {
            Status::Verdict(verdict)
                if self.created_at.is_none() && !is_early && self.is(verdict, entry, review.attempt) =>
            {
                Self { created_at: entry.created_at, review_created_at: review.created_at, ..self }
            }
            _ => self,
        }
    }
}

/// While answers are implausible, looks count only after this long, and then this far apart.
pub const MASS_ABSENCE_DELAY: Duration = HOUR;

impl Pending {
    /// When the next look counts.
    #[must_use]
    pub fn next_look_at(&self, look: &EvalContext) -> Timestamp {
        match look.doubt {
            AbsencePolicy::ImplausibleSince(since) if self.looked_at < since.after(MASS_ABSENCE_DELAY) => {
                since.after(MASS_ABSENCE_DELAY)
            }
            AbsencePolicy::ImplausibleSince(_) => self.looked_at.after(MASS_ABSENCE_DELAY),
            // Later and later: those who are to be asked first need the budget, too.
            AbsencePolicy::SampleMissing => {
                look.now.after(look.now.since(self.since).min(HOUR).max(look.first_confirmation))
            }
            AbsencePolicy::Usual | AbsencePolicy::AcceptedAt(_) => {
                self.looked_at.after(if self.looks == 1 { look.first_confirmation } else { look.second_confirmation })
            }
        }
    }

    /// When it is believed if it stays until so many looks have shown it.
    pub(super) fn until(&self, needed: u32, look: &EvalContext) -> Timestamp {
        let next = self.next_look_at(look);
        match look.doubt {
            AbsencePolicy::ImplausibleSince(_) if self.must_restart(look) => next.after(MASS_ABSENCE_DELAY),
            AbsencePolicy::ImplausibleSince(_) | AbsencePolicy::SampleMissing => next,
            _ if needed.saturating_sub(self.looks) > 1 => next.after(look.second_confirmation),
            _ => next,
        }
    }

    /// The looks so far were taken when answers had just become implausible: none of them counts.
    pub(super) fn must_restart(&self, look: &EvalContext) -> bool {
        matches!(look.doubt, AbsencePolicy::ImplausibleSince(since) if self.looked_at < since.after(MASS_ABSENCE_DELAY))
    }

    pub(super) fn is_accepted(&self, look: &EvalContext) -> bool {
        matches!(look.doubt, AbsencePolicy::AcceptedAt(at) if self.since <= at)
    }
}

/// The same status and reason, and dates that differ by no more than ways of writing one.
pub(super) fn is_equivalent(a: &Entry, b: &Entry) -> bool {
    let is_same_date = a.created_at.zip(b.created_at).is_none_or(|(a, b)| near(a, b));
    a.status_key() == b.status_key() && a.reason_key() == b.reason_key() && is_same_date
}

/// Less than an hour apart, to the second.
fn near(a: Timestamp, b: Timestamp) -> bool {
    within(HOUR, a, b)
}

fn within(length: Duration, a: Timestamp, b: Timestamp) -> bool {
    a.as_secs().abs_diff(b.as_secs()) < length.as_secs()
}

/// Both known, and equal to the second.
fn same_second(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    a.zip(b).is_some_and(|(a, b)| a.as_secs() == b.as_secs())
}

/// Both known, and `a` later by a second at least.
pub(super) fn later(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    a.zip(b).is_some_and(|(a, b)| a.as_secs() > b.as_secs())
}

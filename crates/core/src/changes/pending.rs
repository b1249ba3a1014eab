//! Differences that wait for confirmation.

use std::time::Duration;

use crate::qualification::Entry;
use crate::time::Timestamp;

pub(super) const HOUR: Duration = Duration::from_hours(1);
/// During a mass absence, confirmations count only after this long, and then this far apart.
pub const MASS_ABSENCE_DELAY: Duration = HOUR;

/// What [`compare`](super::compare) needs besides the stored states and the response.
#[derive(Debug, Clone, Copy)]
pub struct EvalContext {
    pub now: Timestamp,
    /// When the customer's last response was understood; `None` if this is the first one.
    pub last_seen_at: Option<Timestamp>,
    /// The first response notifies verdicts on reviews submitted after this; every verdict if `None`.
    pub notify_since: Option<Timestamp>,
    /// The last submission for this customer in the activity log.
    pub submitted_at: Option<Timestamp>,
    pub first_confirmation: Duration,
    pub second_confirmation: Duration,
    pub absence_policy: AbsencePolicy,
}

/// How a response that lacks an entry, or shows an older one, is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbsencePolicy {
    /// By as many confirmations as [`QualificationState`](super::QualificationState) requires.
    Confirm,
    /// Not yet: the control sample is to be polled first.
    SampleMissing,
    /// A mass absence since this time: only confirmations at least an hour later count, and they must be an hour apart.
    MassAbsence(Timestamp),
    /// An operator accepted all absences that were pending at this time.
    AcceptedAt(Timestamp),
}

/// A difference that may come from a stale copy, an absence or a verdict with an early date. It is accepted after
/// enough confirmations in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// `None` if the entry is missing.
    pub shows: Option<Entry>,
    pub since: Timestamp,
    /// When anything else was last seen.
    pub last_other_at: Option<Timestamp>,
    /// Polls that counted.
    pub confirmations: u32,
    pub last_confirmed_at: Timestamp,
    /// When it will be accepted if it stays.
    pub until: Timestamp,
}

impl Pending {
    /// When the next confirmation counts.
    #[must_use]
    pub fn next_confirmation_at(&self, ctx: &EvalContext) -> Timestamp {
        match ctx.absence_policy {
            AbsencePolicy::MassAbsence(since) if self.must_restart(ctx) => since.after(MASS_ABSENCE_DELAY),
            AbsencePolicy::MassAbsence(_) => self.last_confirmed_at.after(MASS_ABSENCE_DELAY),
            // At growing intervals: the control sample needs the budget, too.
            AbsencePolicy::SampleMissing => {
                ctx.now.after(ctx.now.since(self.since).min(HOUR).max(ctx.first_confirmation))
            }
            _ if self.confirmations == 1 => self.last_confirmed_at.after(ctx.first_confirmation),
            AbsencePolicy::Confirm | AbsencePolicy::AcceptedAt(_) => {
                self.last_confirmed_at.after(ctx.second_confirmation)
            }
        }
    }

    /// When it is accepted if it stays until `needed` responses have shown it.
    pub(super) fn until(&self, needed: u32, ctx: &EvalContext) -> Timestamp {
        let next = self.next_confirmation_at(ctx);
        match ctx.absence_policy {
            AbsencePolicy::MassAbsence(_) if self.must_restart(ctx) => next.after(MASS_ABSENCE_DELAY),
            AbsencePolicy::MassAbsence(_) | AbsencePolicy::SampleMissing => next,
            _ if needed.saturating_sub(self.confirmations) > 1 => next.after(ctx.second_confirmation),
            _ => next,
        }
    }

    /// True if no confirmation counts because all were taken less than an hour into the mass absence.
    pub(super) fn must_restart(&self, ctx: &EvalContext) -> bool {
        matches!(ctx.absence_policy, AbsencePolicy::MassAbsence(since) if self.last_confirmed_at < since.after(MASS_ABSENCE_DELAY))
    }

    pub(super) fn is_accepted(&self, ctx: &EvalContext) -> bool {
        matches!(ctx.absence_policy, AbsencePolicy::AcceptedAt(at) if self.since <= at)
    }
}

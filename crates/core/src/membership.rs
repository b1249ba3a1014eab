//! The membership of a customer: in Partner Center's list or missing from it, refused, departed, paused, removed. Pure.
//!
//! | event | membership | polls |
//! | --- | --- | --- |
//! | added by hand again | `manual`; one that departed is a customer again, whatever the list says | anew |
//! | in the list | not missing; one that departed, and is in it again, is a customer again | anew |
//! | not in a complete list | missing; missing for a day: departed (`missing`) | rarely, once no confirmation is pending |
//! | refused twice in a row | departed (`refused`) | rarely |
//! | understood response | not refused; one that departed because it was refused is a customer again | |
//! | departed for 90 days | given up | none |
//! | paused by a person | paused; no list ends it | none |
//! | resumed | active; one that was given up is a customer again | now, anew |

use std::time::Duration;

use crate::time::Timestamp;

/// How long a customer is missing before it has departed. Nightly lists are a day apart, less the hour of summer time and
/// the minutes that one is late.
pub const MIN_MISSING: Duration = Duration::from_hours(22);

/// How long a departed customer is polled, rarely, before it is given up.
pub const POLL_DEPARTED_FOR: Duration = Duration::from_hours(24 * 90);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Added by hand.
    Manual,
    /// From Partner Center's list, or its activity log.
    Synced,
}

impl Source {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Synced => "synced",
        }
    }
}

/// What the complete customer lists say. Only a customer that was in one can be missing from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InList {
    Never,
    Present,
    /// Since the first complete list in a row that lacks it.
    MissingSince(Timestamp),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepartureReason {
    /// Missing from complete lists a day apart.
    Missing,
    /// Partner Center said twice in a row that there is no relationship.
    Refused,
}

impl DepartureReason {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polling {
    Active,
    /// Paused by a person.
    PausedAt(Timestamp),
    /// It departed, and polling it was given up.
    GivenUpAt(Timestamp),
    RemovedAt(Timestamp),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    pub source: Source,
    pub in_list: InList,
    /// The first refusal since the last understood response.
    pub refused_since: Option<Timestamp>,
    pub departed: Option<(Timestamp, DepartureReason)>,
    /// When the departure was reported. Kept until the customer responds again, so that it is reported once.
    pub departure_reported_at: Option<Timestamp>,
    pub polling: Polling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Added by hand, though it is watched already.
    AddedByHand,
    InList,
    /// A complete list lacks it.
    NotInList,
    /// Partner Center said that there is no relationship (403/20002).
    Refused,
    /// Its response was understood.
    Responded,
    DepartureReported,
    /// It departed so long ago that it is no longer polled.
    GivenUp,
    Paused,
    Resumed,
    Removed,
}

/// What an event changes about the customer's polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollChange {
    Keep,
    /// Due now.
    Now,
    /// Due now, and the next response is compared in full, which sets class and interval.
    Anew,
    /// In the class `unqualified`.
    Rarely,
    /// In the class `unqualified`, unless a confirmation is pending.
    RarelyOnceConfirmed,
}

impl Membership {
    #[must_use]
    pub const fn new(source: Source) -> Self {
        Self {
            source,
            in_list: InList::Never,
            refused_since: None,
            departed: None,
            departure_reported_at: None,
            polling: Polling::Active,
        }
    }

    /// The membership after an event, and what it changes about the polls. A removed customer stays as it is.
    #[must_use]
    pub fn after(self, event: Event, now: Timestamp) -> (Self, PollChange) {
        use PollChange::{Anew, Keep, Now, Rarely, RarelyOnceConfirmed};

        let has_departed = self.departed.is_some();
        match event {
            _ if matches!(self.polling, Polling::RemovedAt(_)) => (self, Keep),
            Event::AddedByHand if has_departed => (Self { source: Source::Manual, ..self.returned() }, Anew),
            Event::AddedByHand => (Self { source: Source::Manual, ..self }, Keep),
            // Also one that no list had before: the relationship is a new one.
            Event::InList if has_departed && self.in_list != InList::Present => {
                (Self { in_list: InList::Present, ..self.returned() }, Anew)
            }
            Event::InList => (Self { in_list: InList::Present, ..self }, Keep),
            Event::NotInList => match self.in_list {
                InList::Never => (self, Keep),
                InList::MissingSince(since) if since <= now && now.since(since) < MIN_MISSING => (self, Keep),
                InList::MissingSince(since) if since <= now => {
                    (self.departed_for(DepartureReason::Missing, now), RarelyOnceConfirmed)
                }
                // Missing since a later time: the clock was set back.
                InList::Present | InList::MissingSince(_) => {
                    (Self { in_list: InList::MissingSince(now), ..self }, Keep)
                }
            },
            Event::Refused if self.refused_since.is_none() => {
                (Self { refused_since: Some(now), ..self }, if has_departed { Rarely } else { Keep })
            }
            Event::Refused if has_departed => (self, Rarely),
            Event::Refused => (self.departed_for(DepartureReason::Refused, now), Rarely),
            Event::Responded if matches!(self.departed, Some((_, DepartureReason::Missing))) => {
                (Self { refused_since: None, ..self }, Keep)
            }
            Event::Responded => {
                let polling = self.unless_given_up();
                (Self { refused_since: None, departed: None, departure_reported_at: None, polling, ..self }, Keep)
            }
            Event::DepartureReported if has_departed => (Self { departure_reported_at: Some(now), ..self }, Keep),
            Event::GivenUp if has_departed && self.polling == Polling::Active => {
                (Self { polling: Polling::GivenUpAt(now), ..self }, Keep)
            }
            // Of a customer that was given up, too: the pause is a person's then, and no list ends it.
            Event::Paused if !matches!(self.polling, Polling::PausedAt(_)) => {
                (Self { polling: Polling::PausedAt(now), ..self }, Keep)
            }
            Event::Resumed => match self.polling {
                Polling::GivenUpAt(_) => (self.returned(), Anew),
                Polling::PausedAt(_) => (Self { polling: Polling::Active, ..self }, Now),
                Polling::Active | Polling::RemovedAt(_) => (self, Keep),
            },
            Event::Removed => (Self { polling: Polling::RemovedAt(now), ..self }, Keep),
            Event::DepartureReported | Event::GivenUp | Event::Paused => (self, Keep),
        }
    }

    /// A departed customer is one again; no list is known to have it. Stays paused if a person paused it.
    fn returned(self) -> Self {
        let (departure_reported_at, polling) = (self.departure_reported_at, self.unless_given_up());
        Self { departure_reported_at, polling, ..Self::new(self.source) }
    }

    const fn unless_given_up(self) -> Polling {
        if matches!(self.polling, Polling::GivenUpAt(_)) { Polling::Active } else { self.polling }
    }

    fn departed_for(self, reason: DepartureReason, now: Timestamp) -> Self {
        let since = self.departed.map_or(now, |(since, _)| since);
        Self { departed: Some((since, reason)), ..self }
    }
}

#[cfg(test)]
mod tests;

//! The reference model: what Partner Center decides about its customers, and when.

use fastrand::Rng;
use serde_json::json;
use vetwatch::sandbox::{Created, Operation, Sandbox};
use vetwatch::time::Timestamp;

pub(super) const NO_LONGER: &str = "No longer an Education Customer";
const REASONS: [&str; 4] = [
    "Not an Education Customer",
    "Not an Academic Domain",
    "Not an eligible Library",
    "Restricted being an Education Customer",
];
const AFTER_REVIEW: &str = " - After Review";

/// The true state of one qualification. Reviews are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Absent,
    InReview { review: u32 },
    Approved { review: u32 },
    Denied { review: u32, reason: String },
}

impl State {
    /// As spelled in the views.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::InReview { .. } => "InReview",
            Self::Approved { .. } => "Approved",
            Self::Denied { .. } => "Denied",
        }
    }
}

/// Which entries of a customer show the create date of their review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dates {
    Always,
    /// As in the documentation's samples of Education.
    NotOnApproval,
    Never,
    /// Another program dates the verdicts, this many seconds earlier (or later) than the reviews.
    VerdictsEarlier(i64),
}

/// An entry as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) word: &'static str,
    pub(super) reason: String,
    /// In seconds.
    pub(super) date: Option<i64>,
}

impl Shown {
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.word == other.word && self.reason == other.reason
    }

    /// Dates less than an hour apart belong to one review; an unknown date equals any.
    pub(super) fn is_equivalent(&self, other: &Self) -> bool {
        self.is_like(other) && self.date.zip(other.date).is_none_or(|(a, b)| (a - b).abs() < 3600)
    }

    pub(super) fn equals(&self, other: &Self, same_attempt: bool) -> bool {
        let is_equal = self.date.is_some() && self.date == other.date;
        self.is_like(other) && (is_equal || (same_attempt && self.is_equivalent(other)))
    }
}

/// The history of one qualification of one customer.
#[derive(Debug)]
pub(super) struct Track {
    dates: Dates,
    pub(super) qualification: &'static str,
    /// Submission time of each review, oldest first.
    pub(super) created: Vec<Timestamp>,
    /// Each state, with the time it began.
    pub(super) story: Vec<(Timestamp, State)>,
    /// The last time that a verdict or an absence replaced a state that cannot be told from a later change: a lagging
    /// replica that still shows it looks like another change.
    pub(super) unlike_news_since: Timestamp,
}

impl Track {
    pub(super) fn now(&self) -> &State {
        &self.story.last().expect("a beginning").1
    }

    fn at(&self, time: Timestamp) -> &State {
        let begun = self.story.iter().rev().find(|(since, _)| *since <= time);
        &begun.unwrap_or(&self.story[0]).1
    }

    /// The entry shown at a time.
    pub(super) fn shown(&self, time: Timestamp) -> Option<Shown> {
        let state = self.at(time);
        let (review, reason) = match state {
            State::Absent => return None,
            State::InReview { review } | State::Approved { review } => (*review, String::new()),
            State::Denied { review, reason } => (*review, reason.clone()),
        };
        Some(Shown { word: state.word(), reason, date: self.date(state, review).map(Timestamp::as_secs) })
    }

    /// The create date shown in a state.
    fn date(&self, state: &State, review: u32) -> Option<Timestamp> {
        let created = self.created[review as usize - 1];
        match (self.dates, state) {
            (Dates::Never, _) | (Dates::NotOnApproval, State::Approved { .. }) => None,
            (Dates::VerdictsEarlier(by), State::Approved { .. } | State::Denied { .. }) => {
                Some(Timestamp::from_millis(created.as_millis() - by * 1000))
            }
            _ => Some(created),
        }
    }
}

#[derive(Debug)]
pub(super) struct Customer {
    pub(super) id: String,
    pub(super) dates: Dates,
    /// Its entries may vanish. Few do: a mass absence is not recorded, and has tests of its own.
    pub(super) fragile: bool,
    pub(super) tracks: Vec<Track>,
    changes: u32,
}

impl Customer {
    pub(super) fn new(id: String, dates: Dates, fragile: bool) -> Self {
        Self { id, dates, fragile, tracks: Vec::new(), changes: 0 }
    }

    /// Adds a qualification whose state is older than vetwatch.
    pub(super) fn hold(&mut self, qualification: &'static str, rng: &mut Rng, sandbox: &Sandbox, now: Timestamp) {
        let submitted = now.before(std::time::Duration::from_hours(rng.u64(1..200)));
        let (state, created) = match rng.u8(if self.fragile { 0..4 } else { 1..4 }) {
            0 => (State::Absent, vec![]),
            1 => (State::InReview { review: 1 }, vec![submitted]),
            2 => (State::Approved { review: 1 }, vec![submitted]),
            _ => (State::Denied { review: 1, reason: reason(rng) }, vec![submitted]),
        };
        self.tracks.push(Track {
            dates: self.dates,
            qualification,
            created,
            story: vec![(now, state.clone())],
            unlike_news_since: now,
        });
        if state != State::Absent {
            self.show(self.tracks.len() - 1, sandbox);
        }
    }

    /// Applies the next step of Microsoft or the customer to one of the qualifications.
    pub(super) fn go_on(&mut self, rng: &mut Rng, sandbox: &Sandbox, now: Timestamp) {
        // The sandbox stores 32 states of a customer.
        if self.changes > 28 {
            return;
        }
        self.changes += 1;
        let index = rng.usize(..self.tracks.len());
        let (fragile, track) = (self.fragile, &mut self.tracks[index]);
        let new_review = u32::try_from(track.created.len()).unwrap() + 1;
        let submitted = State::InReview { review: new_review };
        let before = track.story.len().checked_sub(2).map(|n| track.story[n].1.clone());
        let state = track.now().clone();
        let next = match (&state, rng.u8(..10)) {
            // The entry returns unchanged.
            (State::Absent, 0..=1) => match before {
                Some(before @ (State::InReview { .. } | State::Denied { .. })) => before,
                _ => submitted,
            },
            (State::InReview { .. } | State::Denied { .. }, 0..=1) | (State::Approved { .. }, 0..=2) if fragile => {
                State::Absent
            }
            (State::InReview { review }, 0..=5) => State::Denied { review: *review, reason: reason(rng) },
            (State::InReview { review }, _) => State::Approved { review: *review },
            (State::Approved { review }, 3..=6) => State::Denied { review: *review, reason: NO_LONGER.into() },
            (State::Denied { review, reason }, 6..=7) if reason != NO_LONGER && !reason.ends_with(AFTER_REVIEW) => {
                State::Denied { review: *review, reason: format!("{reason}{AFTER_REVIEW}") }
            }
            (State::Denied { review, reason }, 8..=9) if reason != NO_LONGER => State::Approved { review: *review },
            (State::Absent | State::Approved { .. } | State::Denied { .. }, _) => submitted,
        };
        let is_verdict = |state: &State| matches!(state, State::Approved { .. } | State::Denied { .. });
        if next == (State::InReview { review: new_review }) {
            track.created.push(now);
        }
        let looks_like_news = match (&state, &next) {
            (State::InReview { .. } | State::Approved { .. }, State::Absent) => false,
            (State::Absent, State::InReview { .. }) => true,
            (from, to) => !(is_verdict(from) && is_verdict(to)),
        };
        if !looks_like_news {
            track.unlike_news_since = now;
        }
        track.story.push((now, next));
        self.show(index, sandbox);
    }

    /// True if a replica's response as of that time can be distinguished from a change.
    pub(super) fn may_lag_to(&self, then: Timestamp) -> bool {
        self.dates == Dates::Always && self.tracks.iter().all(|track| track.unlike_news_since < then)
    }

    /// Sets a qualification's true state in the sandbox.
    fn show(&self, index: usize, sandbox: &Sandbox) {
        let track = &self.tracks[index];
        let set = |reason: Option<String>, review: u32| Operation::Set {
            qualification: track.qualification.into(),
            status: Some(track.now().word().into()),
            reason,
            created: track.date(track.now(), review).map(Created::At),
            beside: None,
        };
        let operation = match track.now() {
            State::Absent => Operation::Withdraw { qualification: track.qualification.into() },
            State::InReview { review } | State::Approved { review } => set(None, *review),
            State::Denied { review, reason } => set(Some(reason.clone()), *review),
        };
        sandbox.apply(&self.id, operation).unwrap();
    }

    /// Adds an entry that is never vetted.
    pub(super) fn declare(&self, sandbox: &Sandbox) {
        sandbox.set_entry(&self.id, json!({"qualification": "StateOwnedEntity"})).unwrap();
    }
}

fn reason(rng: &mut Rng) -> String {
    (*rng.choice(&REASONS).expect("reasons")).to_owned()
}

//! What a person would tell who reads the answers about one qualification one after the other and knows nothing but
//! what they show.

use std::time::Duration;

use vetwatch::time::Timestamp;

use super::truth::{Dates, State};

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct News {
    /// When it was seen, by our clock.
    pub(super) at: Timestamp,
    pub(super) text: String,
    /// How many reviews had begun by then, as far as dates show it.
    pub(super) attempt: Option<u32>,
    /// The create date, in seconds: an approval without one has that of its review.
    pub(super) created: Option<i64>,
    /// False: a replica that lagged behind showed it, and nobody else did. It may be told.
    pub(super) sure: bool,
}

/// An entry that was there and is not.
#[derive(Debug)]
struct Gone {
    looks: u32,
    waits_from: Timestamp,
}

#[derive(Debug)]
pub(super) struct Reader<'a> {
    dates: Dates,
    /// When each review was submitted.
    created: &'a [Timestamp],
    /// What the answers showed, absences only once they are believed. `None`: no answer yet.
    seen: Option<State>,
    /// The review that is going on or was the last.
    review: u32,
    attempts: u32,
    /// The last review whose date was shown.
    last_dated: Option<u32>,
    /// The last verdict that was told: review, word, reason.
    told: Option<(u32, &'static str, String)>,
    gone: Option<Gone>,
    pub(super) news: Vec<News>,
    /// Each change that was seen, news or not.
    pub(super) changes: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(dates: Dates, created: &'a [Timestamp]) -> Self {
        let (review, attempts, last_dated, told) = (0, 0, None, None);
        Self {
            dates,
            created,
            seen: None,
            review,
            attempts,
            last_dated,
            told,
            gone: None,
            news: vec![],
            changes: vec![],
        }
    }

    /// One more answer; `current`: not one from the past.
    pub(super) fn reads(&mut self, at: Timestamp, shows: &State, current: bool) {
        let first = self.seen.is_none();
        let before = self.seen.clone().unwrap_or(State::Absent);
        if *shows == State::Absent {
            self.seen.get_or_insert(State::Absent);
            if before != State::Absent {
                self.misses(at, &before);
            }
            return;
        }
        self.gone = None;
        let shown_review = self.review_of(shows, &before);
        let shows_date = match shows {
            State::Approved { .. } => self.dates == Dates::Always,
            _ => self.dates != Dates::Never,
        };
        if shows_date {
            self.last_dated = self.last_dated.max(Some(shown_review));
        }
        if shown_review > self.review {
            self.attempts += 1;
            self.review = shown_review;
        }
        if !self.says_the_same(&before, shows) && !first {
            self.changes.push(shows.word());
        }
        self.seen = Some(shows.clone());
        let (word, reason) = match shows {
            State::Approved { .. } => ("Approved", String::new()),
            State::Denied { reason, .. } => ("Denied", reason.clone()),
            State::InReview { .. } | State::Absent => return,
        };
        if shown_review < self.review {
            return; // what is left of an earlier review
        }
        let verdict = (shown_review, word, reason);
        if self.told.as_ref() == Some(&verdict) {
            if let Some(last) = self.news.last_mut() {
                last.sure |= current;
            }
            return;
        }
        let was_approved = self.told.as_ref().is_some_and(|(_, word, _)| *word == "Approved");
        let text = match (word, was_approved) {
            ("Denied", true) => format!("vetting.revoked {}", verdict.2),
            ("Denied", false) => format!("vetting.denied {}", verdict.2),
            _ => "vetting.approved -".to_owned(),
        };
        self.told = Some(verdict);
        if !first {
            let created = self.last_dated.map(|review| self.created[review as usize - 1].as_secs());
            self.tell(at, text, created, current);
        }
    }

    /// A second look after two minutes; for an approval a third one an hour later.
    fn misses(&mut self, at: Timestamp, before: &State) {
        let is_approved = matches!(before, State::Approved { .. });
        let gone = self.gone.get_or_insert(Gone { looks: 0, waits_from: at });
        let wait = match gone.looks {
            0 => Duration::ZERO,
            1 => Duration::from_mins(2),
            _ => Duration::from_hours(1),
        };
        if at < gone.waits_from {
            gone.waits_from = at; // our clock was set back
        } else if at >= gone.waits_from.after(wait) {
            *gone = Gone { looks: gone.looks + 1, waits_from: at };
        }
        if gone.looks < if is_approved { 3 } else { 2 } {
            return;
        }
        self.gone = None;
        self.seen = Some(State::Absent);
        self.changes.push("absent");
        match before {
            State::InReview { .. } => self.tell(at, "vetting.vanished -".into(), None, true),
            State::Approved { .. } => {
                self.told = None; // it would be news if it came back
                self.tell(at, "vetting.revoked -".into(), None, true);
            }
            State::Denied { .. } | State::Absent => {}
        }
    }

    fn tell(&mut self, at: Timestamp, text: String, created: Option<i64>, sure: bool) {
        let attempt = (self.dates == Dates::Always).then_some(self.attempts);
        self.news.push(News { at, text, attempt, created, sure });
    }

    /// To which review does an entry belong, as far as a reader can tell?
    fn review_of(&self, shows: &State, before: &State) -> u32 {
        match (self.dates, shows) {
            (Dates::Always, State::InReview { review } | State::Approved { review } | State::Denied { review, .. })
            | (Dates::NotOnApproval, State::InReview { review } | State::Denied { review, .. }) => *review,
            (Dates::Never, State::InReview { .. }) => {
                let is_decided = self.told.as_ref().is_some_and(|(review, ..)| *review == self.review);
                let is_next = !matches!(before, State::InReview { .. }) && (*before == State::Absent || is_decided);
                (self.review + u32::from(is_next)).max(1)
            }
            _ => self.review.max(1),
        }
    }

    fn says_the_same(&self, a: &State, b: &State) -> bool {
        match (self.dates, a, b) {
            (Dates::Never, State::Denied { reason: a, .. }, State::Denied { reason: b, .. }) => a == b,
            (Dates::Always, ..) | (Dates::NotOnApproval, State::InReview { .. } | State::Denied { .. }, _) => a == b,
            _ => a.word() == b.word(),
        }
    }
}

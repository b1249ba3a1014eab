//! The observer: what should be notified, judging only by the responses about one qualification, in order.

use std::time::Duration;

use vetwatch::time::Timestamp;

use super::truth::{Shown, Track};

const HOUR: i64 = 3600;

/// An expected notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct News {
    /// When it was observed, by our clock.
    pub(super) at: Timestamp,
    pub(super) text: String,
    /// Number of reviews begun by then, as far as the responses show.
    pub(super) attempt: u32,
    /// The create date, in seconds; an approval without one has that of its review.
    pub(super) created: Option<i64>,
    /// False if only a lagging replica showed it: the notification is optional.
    pub(super) sure: bool,
}

/// A response that differs from the state, and waits for confirmations.
#[derive(Debug)]
struct Waiting {
    shows: Option<Shown>,
    looks: u32,
    since: Timestamp,
    waits_from: Timestamp,
}

/// The last notified verdict, its attempt and when that began, and when it was observed.
#[derive(Debug, Clone)]
struct Told {
    verdict: Shown,
    attempt: u32,
    began: Option<i64>,
    at: Timestamp,
    passed: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The state; `None` before the first response.
    seen: Option<Shown>,
    has_begun: bool,
    attempt: u32,
    /// The first date of that attempt, and when it was first observed.
    began: Option<i64>,
    attempt_seen: Option<Timestamp>,
    told: Option<Told>,
    waiting: Option<Waiting>,
    /// Bit mask over the polls that confirm an absence while a control poll may be missing, in order from the lowest bit: it
    /// was, so a later one decides.
    delays: u32,
    pub(super) news: Vec<News>,
    /// Each observed change, notified or not.
    pub(super) changes: Vec<&'static str>,
}

impl Reader {
    /// Takes one response, with the time by our clock and by one that is never set. `current`: not from a lagging
    /// replica.
    pub(super) fn reads(
        &mut self,
        (at, passed): (Timestamp, Timestamp),
        shows: Option<Shown>,
        current: bool,
        lacks: impl Fn(Timestamp, Timestamp) -> bool,
    ) {
        if !std::mem::replace(&mut self.has_begun, true) {
            return shows.into_iter().for_each(|entry| self.takes((at, passed), None, entry, current, true));
        }
        let before = self.seen.clone();
        let needed = self.looks_needed(before.as_ref(), shows.as_ref(), passed);
        let is_lost = shows.is_none() || before.is_some();
        if needed > 1 && !self.has_waited(passed, shows.as_ref(), needed, |since| is_lost && lacks(since, passed)) {
            return;
        }
        self.waiting = None;
        match (before, shows) {
            (before, Some(entry)) => self.takes((at, passed), before.as_ref(), entry, current, false),
            (Some(before), None) => self.misses(at, &before),
            (None, None) => {}
        }
    }

    /// A first confirmation after two minutes, a second one an hour later.
    fn has_waited(
        &mut self,
        at: Timestamp,
        shows: Option<&Shown>,
        needed: u32,
        lacks: impl Fn(Timestamp) -> bool,
    ) -> bool {
        let is_other = self.waiting.as_ref().is_some_and(|waiting| match (&waiting.shows, shows) {
            (Some(a), Some(b)) => !a.is_equivalent(b),
            (a, b) => a.is_some() != b.is_some(),
        });
        if is_other {
            self.waiting = None;
        }
        let new = || Waiting { shows: shows.cloned(), looks: 0, since: at, waits_from: at };
        let waiting = self.waiting.get_or_insert_with(new);
        let wait = match waiting.looks {
            0 => Duration::ZERO,
            1 => Duration::from_mins(2),
            _ => Duration::from_hours(1),
        };
        if at >= waiting.waits_from.after(wait) {
            // Until the control polls have come no look confirms.
            if waiting.looks > 0 && lacks(waiting.since) {
                let is_too_early = self.delays & 1 == 1;
                self.delays >>= 1;
                if is_too_early {
                    return false;
                }
            }
            (waiting.looks, waiting.waits_from) = (waiting.looks + 1, at);
        }
        waiting.looks >= needed
    }

    fn looks_needed(&self, before: Option<&Shown>, entry: Option<&Shown>, at: Timestamp) -> u32 {
        let Some(shown) = entry else {
            return if before.is_some_and(|before| before.word == "Approved") { 3 } else { 2 };
        };
        let is_same = |other: &Shown| other.is_equivalent(shown);
        if shown.word == "InReview" || before.is_some_and(is_same) || self.takes_back(shown) {
            return 1;
        }
        let told = self.told.as_ref();
        let is_known = told.is_some_and(|told| told.attempt == self.attempt && told.verdict.is_equivalent(shown));
        let Some(date) = shown.date else {
            let is_old = told.is_some_and(|told| told.attempt < self.attempt && told.verdict.is_like(shown));
            return if is_old { 3 } else { 1 };
        };
        let is_before_told = told.and_then(|told| told.verdict.date).is_some_and(|told| date < told);
        let apart = self.began.map_or(0, |began| began - date);
        let first = self.waiting.as_ref().filter(|waiting| waiting.shows.as_ref().is_some_and(is_same));
        let first = first.map_or(at, |waiting| waiting.since);
        let is_young = self.attempt_seen.is_some_and(|seen| first.since(seen) < Duration::from_hours(1));
        match () {
            () if self.replaces(before, shown) || (is_before_told && !is_known) => 3,
            () if is_known || before.is_some_and(|before| before.date == shown.date) => 1,
            () if apart >= HOUR => 2 + u32::from(is_young),
            () => 1,
        }
    }

    /// True if the last notified verdict replaces a review that began later.
    fn replaces(&self, before: Option<&Shown>, shown: &Shown) -> bool {
        before.is_some_and(|before| before.word == "InReview")
            && self.began.zip(shown.date).is_some_and(|(began, date)| date < began)
            && self.returns(shown).is_some_and(|told| told.attempt < self.attempt)
    }

    fn takes_back(&self, shown: &Shown) -> bool {
        self.began.is_none() && self.returns(shown).is_some_and(|told| told.attempt + 1 == self.attempt)
    }

    /// The last notified verdict, if this is it, with its own date.
    fn returns(&self, shown: &Shown) -> Option<&Told> {
        let is_it = |told: &&Told| {
            told.verdict.is_like(shown)
                && told.verdict.date.zip(shown.date).is_some_and(|(told_date, date)| {
                    told_date == date || ((told_date - date).abs() < 60 && date < told.at.as_secs())
                })
        };
        self.told.as_ref().filter(is_it)
    }

    fn begins(&self, before: Option<&Shown>, shown: &Shown) -> bool {
        let told = self.told.as_ref().filter(|told| told.attempt == self.attempt);
        let is_verdict = |shown: &Shown| shown.word != "InReview";
        let is_over = before.is_none_or(is_verdict) || told.is_some();
        match (shown.date, self.began) {
            _ if self.attempt == 0 => true,
            (Some(date), Some(began)) => {
                let is_next = match (before, told) {
                    (None, _) => true,
                    (Some(_), Some(told)) => {
                        let is_other = |known: i64| (date - known).abs() >= 60;
                        let is_another = is_other(began) && told.verdict.date.is_none_or(is_other);
                        !is_verdict(shown) || date >= told.at.as_secs() || is_another
                    }
                    (Some(before), None) => is_verdict(before),
                };
                date > began
                    && before.is_none_or(|before| before.date != Some(date))
                    && (is_next || date - began >= HOUR)
            }
            _ => !is_verdict(shown) && is_over && before.is_none_or(is_verdict),
        }
    }

    fn takes(
        &mut self,
        (at, passed): (Timestamp, Timestamp),
        before: Option<&Shown>,
        shown: Shown,
        current: bool,
        first: bool,
    ) {
        let begins = self.begins(before, &shown);
        let replaces = self.replaces(before, &shown);
        if begins {
            (self.attempt, self.began, self.attempt_seen) = (self.attempt + 1, shown.date, Some(passed));
        } else if self.takes_back(&shown) {
            let told = self.told.as_ref().expect("a verdict that was told");
            (self.attempt, self.began, self.attempt_seen) = (told.attempt, told.began, Some(told.passed));
        } else {
            let is_of_before = self.told.as_ref().is_some_and(|told| {
                told.attempt < self.attempt
                    && told.verdict.date.is_some_and(|told| shown.date.is_none_or(|date| date <= told))
            });
            self.began = self.began.or(shown.date.filter(|_| !is_of_before));
        }
        let same_word = before.filter(|before| before.word == shown.word);
        let known = same_word.and_then(|before| before.date).or(self.began).filter(|_| !begins);
        let filled = Shown { date: shown.date.or(known), ..shown.clone() };
        let has_changed = begins || before.is_none_or(|before| !before.is_equivalent(&filled));
        if has_changed && !first {
            self.changes.push(shown.word);
        }
        self.seen = Some(filled.clone());
        if shown.word == "InReview" {
            return;
        }
        let told = self.told.as_ref();
        let is_told = told.is_some_and(|told| told.verdict.equals(&shown, told.attempt == self.attempt));
        let was_approved = told.is_some_and(|told| told.verdict.word == "Approved");
        if replaces && has_changed {
            let reason = if shown.reason.is_empty() { "-" } else { &shown.reason };
            return self.tell(at, format!("vetting.vanished {reason}"), filled.date, current);
        }
        if is_told {
            let told = self.told.as_mut().expect("a verdict that was told");
            if told.verdict.date.is_none() && shown.date.is_some() {
                (told.verdict.date, told.began) = (shown.date, self.began);
            }
            if let Some(last) = self.news.last_mut() {
                last.sure |= current;
            }
            return;
        }
        if !has_changed {
            return;
        }
        let text = match (shown.word, was_approved) {
            ("Denied", true) => format!("vetting.revoked {}", shown.reason),
            ("Denied", false) => format!("vetting.denied {}", shown.reason),
            _ => "vetting.approved -".to_owned(),
        };
        self.told = Some(Told { verdict: shown, attempt: self.attempt, began: self.began, at, passed });
        if !first {
            self.tell(at, text, filled.date, current);
        }
    }

    fn misses(&mut self, at: Timestamp, before: &Shown) {
        self.seen = None;
        self.changes.push("absent");
        match before.word {
            "InReview" => self.tell(at, "vetting.vanished -".into(), None, true),
            "Approved" => {
                self.told = None; // its return would be notified
                self.tell(at, "vetting.revoked -".into(), None, true);
            }
            _ => {}
        }
    }

    fn tell(&mut self, at: Timestamp, text: String, created: Option<i64>, sure: bool) {
        self.news.push(News { at, text, attempt: self.attempt, created, sure });
    }
}

/// Reads all responses about one qualification, each with its time by our clock and by one that is never set (for
/// waits), the time whose state it shows (`None`: no entry), and whether it was current.
///
/// An absence, or an entry in the place of a newer one, is recorded only after control polls of customers that hold an
/// entry. `lacks` says whether some customer has not been polled from a time until right before another one; whether it was
/// one of those is not known here, so `delays` says which polls came too early.
pub(super) fn read(
    track: &Track,
    answers: impl Iterator<Item = ((Timestamp, Timestamp), Option<Timestamp>, bool)>,
    delays: u32,
    lacks: impl Fn(Timestamp, Timestamp) -> bool,
) -> Reader {
    let mut reader = Reader { delays, ..Reader::default() };
    for (at, theirs, current) in answers {
        reader.reads(at, theirs.and_then(|theirs| track.shown(theirs)), current, &lacks);
    }
    reader
}

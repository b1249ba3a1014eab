//! Redacts secrets from what another side says: a server's response is shown, logged and stored only after [`words`].
//!
//! Servers repeat what they were sent: "Cannot POST /hooks/…", "500 unknown command AUTH PLAIN …", a proxy's page with
//! the login in it; verbatim, decoded, escaped for JSON or HTML, in capitals, in part. So the spellings of a secret are
//! not listed: the *text* is decoded in every known way (`reading`), and whatever shows eight consecutive characters
//! of a secret in one of these readings is cut out.
//!
//! The process's secrets are global, against the custom of this code: each is registered where it is read or obtained
//! (`pieces` derives the patterns), and code that shows a response need not know which ones could be in it. Passed
//! along as arguments, one of them would be forgotten on some path.

mod pieces;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::ops::Range;
use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use url::Url;

use self::pieces::{Gram, HEAD_BYTES, PART_BYTES, Pieces};
use self::reading::{Reading, Unit, forms, joined, readings};

pub use self::pieces::xoauth2;

const HIDDEN: &str = "[hidden]";
/// Shown if cutting does not help.
const NOT_SHOWN: &str = "(the answer repeats a secret; it is not shown)";
/// A secret of at most this length matches only as a whole word.
const WORD_MAX_BYTES: usize = 3;
/// In a fact (a customer's name) only longer secrets match: a short one may be part of any name.
const FACT_MAX_BYTES: usize = 24;
/// Number of replaced tokens that still match.
const RETIRED_MAX: usize = 8;
const SIEVE_BITS: usize = 1 << 19;

static ALL: LazyLock<RwLock<Secrets>> = LazyLock::new(RwLock::default);

#[derive(Default)]
struct Secrets {
    all: Set,
    /// The long ones among the short-lived secrets: tokens.
    long: Set,
    retired: VecDeque<Pieces>,
}

/// The patterns, and how many secrets need each.
#[derive(Default)]
struct Set {
    grams: HashMap<Gram, i32>,
    /// A bit for each gram ever added: a gram without one need not be looked up.
    sieve: Vec<u64>,
    heads: HashMap<Vec<u8>, i32>,
    short: HashMap<Vec<u8>, i32>,
}

/// Registers a secret for the life of the process: a file's content (a password, a key in PEM, a URL, several lines
/// that are one each), or the value of an `Authorization` header.
pub fn learn(text: &str) {
    learn_all(&Pieces::of_text(text));
}

/// Registers a URL's parts beyond scheme, host and port.
pub fn learn_url(url: &Url) {
    learn_all(&Pieces::of_url(url));
}

/// As [`learn_url`], for a URL whose path is no secret.
pub fn learn_login_of(url: &Url) {
    learn_all(&Pieces::of_login_of(url));
}

/// Registers a binary key.
pub fn learn_bytes(key: &[u8]) {
    learn_all(&[Pieces::of(key)]);
}

fn learn_all(pieces: &[Pieces]) {
    let mut secrets = write();
    for pieces in pieces {
        secrets.all.count(pieces, 1);
    }
}

/// Secrets with a shorter life than the process, registered until this is dropped, and a little longer.
pub struct Known(Vec<Pieces>);

impl Known {
    pub fn of<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Self {
        Self::registered(secrets.into_iter().flat_map(Pieces::of_text).collect())
    }

    /// A mail server's login, in the spellings that are sent. The name alone is no secret.
    pub fn login(name: &str, secret: &str) -> Self {
        Self::registered(Pieces::of_login(name, secret))
    }

    fn registered(known: Vec<Pieces>) -> Self {
        let mut secrets = write();
        for pieces in &known {
            secrets.count(pieces, 1);
        }
        Self(known)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let mut secrets = write();
        self.0.drain(..).for_each(|pieces| secrets.retire(pieces));
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Known")
    }
}

/// Redacts every secret, in any spelling, from what another side says.
#[must_use]
pub fn words(text: &str) -> String {
    read().all.hide(text)
}

/// As [`words`], for a customer's stored facts: only tokens match.
#[must_use]
pub fn fact(text: &str) -> String {
    let secrets = read();
    if text.len() < PART_BYTES || secrets.long.grams.is_empty() { text.to_owned() } else { secrets.long.hide(text) }
}

fn read() -> RwLockReadGuard<'static, Secrets> {
    ALL.read().unwrap_or_else(PoisonError::into_inner)
}

fn write() -> RwLockWriteGuard<'static, Secrets> {
    ALL.write().unwrap_or_else(PoisonError::into_inner)
}

impl Secrets {
    /// Counts a short-lived secret, by 1 or by -1.
    fn count(&mut self, pieces: &Pieces, by: i32) {
        self.all.count(pieces, by);
        if pieces.length > FACT_MAX_BYTES {
            self.long.count(pieces, by);
        }
    }

    /// A response to a request sent with it may still arrive.
    fn retire(&mut self, pieces: Pieces) {
        self.retired.push_back(pieces);
        if self.retired.len() > RETIRED_MAX
            && let Some(pieces) = self.retired.pop_front()
        {
            self.count(&pieces, -1);
        }
    }
}

impl Set {
    fn count(&mut self, pieces: &Pieces, by: i32) {
        fn each<K: Hash + Eq + Clone>(counts: &mut HashMap<K, i32>, keys: &[K], by: i32) {
            for key in keys {
                let count = counts.entry(key.clone()).or_default();
                *count += by;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
        each(&mut self.grams, &pieces.grams, by);
        each(&mut self.heads, &pieces.heads, by);
        each(&mut self.short, &pieces.short, by);
        self.sieve.resize(SIEVE_BITS / 64, 0);
        pieces.grams.iter().map(|gram| place(*gram)).for_each(|(word, bit)| self.sieve[word] |= bit);
    }

    /// Cuts secrets out of `text`. A cut may join two parts of another secret, so the text is searched again; if that
    /// does not end, nothing is shown.
    fn hide(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for _ in 0..3 {
            let found = self.found(&shown);
            if found.is_empty() {
                return shown;
            }
            shown = cut(&shown, found);
        }
        if self.found(&shown).is_empty() { shown } else { NOT_SHOWN.to_owned() }
    }

    /// The ranges that show a secret in any reading.
    fn found(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        if self.grams.is_empty() && self.short.is_empty() {
            return found;
        }
        let least =
            self.short.keys().map(Vec::len).filter(|length| *length > WORD_MAX_BYTES).min().unwrap_or(PART_BYTES);
        for reading in readings(text, least) {
            let forms = forms(&reading.units);
            for form in &forms {
                let hits = form.windows(PART_BYTES).filter(|window| self.knows(gram(window)));
                found.extend(hits.map(range));
            }
            // The form with all characters.
            if let Some(whole) = forms.first() {
                self.find_short(&reading, whole, &mut found);
            }
        }
        found
    }

    fn knows(&self, gram: Gram) -> bool {
        let (word, bit) = place(gram);
        self.sieve.get(word).is_some_and(|bits| bits & bit != 0) && self.grams.contains_key(&gram)
    }

    fn find_short(&self, reading: &Reading, form: &[Unit], found: &mut Vec<Range<usize>>) {
        for short in self.short.keys() {
            let same = |window: &[Unit]| window.iter().map(|unit| unit.byte).eq(short.iter().copied());
            let hits = form.windows(short.len()).enumerate().filter(|(_, window)| same(window));
            let alone = |at: usize| {
                let beside = [at.checked_sub(1), Some(at + short.len())].into_iter().flatten();
                beside.filter_map(|at| form.get(at)).all(|unit| !is_letter(unit.byte))
            };
            let shown = hits.filter(|(at, _)| short.len() > WORD_MAX_BYTES || (reading.is_text && alone(*at)));
            found.extend(shown.map(|(_, window)| range(window)));
        }
        if reading.is_text {
            let tails = HEAD_BYTES.filter_map(|length| form.len().checked_sub(length)).map(|from| &form[from..]);
            let bytes = |tail: &[Unit]| tail.iter().map(|unit| unit.byte).collect::<Vec<_>>();
            found.extend(tails.filter(|tail| self.heads.contains_key(&bytes(tail))).map(range));
        }
    }
}

/// The word and bit of a gram in the sieve.
fn place(gram: Gram) -> (usize, u64) {
    let mixed = u64::from_le_bytes(gram).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let at = usize::try_from(mixed).unwrap_or_default() % SIEVE_BITS;
    (at / 64, 1 << (at % 64))
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

fn gram(window: &[Unit]) -> Gram {
    std::array::from_fn(|at| window[at].byte)
}

/// The range of the text that a run of units came from.
fn range(units: &[Unit]) -> Range<usize> {
    let Unit { from, to, .. } = joined(units);
    from as usize..to as usize
}

/// Cuts out the ranges, with the rest of the words that they are in.
fn cut(text: &str, mut ranges: Vec<Range<usize>>) -> String {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '%' | '~' | '+');
    for range in &mut ranges {
        let before = text[..range.start].trim_end_matches(is_part).len();
        let after = &text[range.end..];
        *range = before..text.len() - after.trim_start_matches(is_part).trim_start_matches('=').len();
    }
    ranges.sort_by_key(|range| range.start);
    let (mut shown, mut done) = (String::new(), 0);
    for range in ranges {
        if range.start > done || done == 0 {
            shown.push_str(&text[done.min(range.start)..range.start]);
            shown.push_str(HIDDEN);
        }
        done = done.max(range.end);
    }
    shown.push_str(&text[done..]);
    shown
}

//! What another side says, without our secrets: whatever a server answers is shown, logged and stored only after it went
//! through [`words`].
//!
//! Servers repeat what they were sent: "Cannot POST /hooks/…", "500 unknown command AUTH PLAIN …", a proxy's page with the
//! login in it; as it was, decoded, escaped for JSON or HTML, in capitals, in part. So the spellings of a secret are not
//! listed: the *text* is read in every way that is known (`reading`), and what shows eight characters in a row of any
//! secret in one of these readings is cut out of it.
//!
//! The secrets of the process are kept in one place, against the custom of this code: each is registered where it is read or
//! obtained (`pieces` says what of it is looked for), and whoever shows an answer need not know which ones could be in it.
//! Handed from one to the next, one of them is forgotten on one of the ways.

mod pieces;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use url::Url;

use self::pieces::{Gram, HEADS, PART, Pieces};
use self::reading::{Reading, Unit, forms, readings};

pub use self::pieces::xoauth2;

const HIDDEN: &str = "[hidden]";
/// Where cutting out does not help.
const NOT_SHOWN: &str = "(the answer repeats a secret; it is not shown)";
/// Of a secret that is no longer than this, a part is looked for only as a word of its own.
const WORD: usize = 3;
/// In a fact (a customer's name) only secrets that are longer are looked for: a word of a short one may be in any name.
const LONG: usize = 24;
/// Tokens that were replaced a moment ago are still looked for: so many.
const RETIRED: usize = 8;
/// Bits: 64 KiB.
const SIEVE: usize = 1 << 19;

static ALL: LazyLock<RwLock<Secrets>> = LazyLock::new(RwLock::default);

/// The secrets of this process.
#[derive(Default)]
struct Secrets {
    all: Set,
    /// The long ones among those that are sent for a while: tokens.
    long: Set,
    retired: VecDeque<Pieces>,
}

/// What is looked for, and how many secrets want it.
#[derive(Default)]
struct Set {
    grams: HashMap<Gram, u32>,
    /// A bit for each gram that was ever added: what it does not know need not be looked up.
    sieve: Vec<u64>,
    heads: HashMap<Vec<u8>, u32>,
    short: HashMap<Vec<u8>, u32>,
}

/// Registers a secret for as long as the process lives: what a file holds (a password, a key in PEM, a URL, several lines
/// that are one each), or the value of an `Authorization` header.
pub fn learn(text: &str) {
    learn_all(&Pieces::of_text(text));
}

/// Registers what a URL holds beyond scheme, host and port.
pub fn learn_url(url: &Url) {
    learn_all(&Pieces::of_url(url));
}

/// The same of a URL whose path is no secret.
pub fn learn_login_of(url: &Url) {
    learn_all(&Pieces::of_login_of(url));
}

/// Registers a key that is no text.
pub fn learn_bytes(key: &[u8]) {
    learn_all(&[Pieces::of(key)]);
}

fn learn_all(pieces: &[Pieces]) {
    let mut secrets = write();
    for pieces in pieces {
        secrets.all.add(pieces);
    }
}

/// Secrets that live shorter than the process, registered until this is dropped, and a little longer.
pub struct Known(Vec<Pieces>);

impl Known {
    pub fn of<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Self {
        Self::registered(secrets.into_iter().flat_map(Pieces::of_text).collect())
    }

    /// A login at a mail server, in the spellings in which it is sent. The name alone is no secret.
    pub fn login(name: &str, secret: &str) -> Self {
        Self::registered(Pieces::of_login(name, secret))
    }

    fn registered(known: Vec<Pieces>) -> Self {
        let mut secrets = write();
        for pieces in &known {
            secrets.add(pieces);
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

/// What another side says, fit to be shown: without any secret, in whatever spelling.
#[must_use]
pub fn words(text: &str) -> String {
    read().all.hide(text)
}

/// The same for what another side says of a customer, which is kept as a fact: only tokens are looked for.
#[must_use]
pub fn fact(text: &str) -> String {
    let secrets = read();
    if text.len() < PART || secrets.long.grams.is_empty() { text.to_owned() } else { secrets.long.hide(text) }
}

fn read() -> RwLockReadGuard<'static, Secrets> {
    ALL.read().unwrap_or_else(PoisonError::into_inner)
}

fn write() -> RwLockWriteGuard<'static, Secrets> {
    ALL.write().unwrap_or_else(PoisonError::into_inner)
}

impl Secrets {
    fn add(&mut self, pieces: &Pieces) {
        self.all.add(pieces);
        if pieces.length > LONG {
            self.long.add(pieces);
        }
    }

    /// An answer to what was sent with it may still be on its way.
    fn retire(&mut self, pieces: Pieces) {
        self.retired.push_back(pieces);
        if self.retired.len() > RETIRED
            && let Some(pieces) = self.retired.pop_front()
        {
            self.all.remove(&pieces);
            if pieces.length > LONG {
                self.long.remove(&pieces);
            }
        }
    }
}

impl Set {
    fn add(&mut self, pieces: &Pieces) {
        fn more<K: std::hash::Hash + Eq + Clone>(counts: &mut HashMap<K, u32>, keys: &[K]) {
            for key in keys {
                *counts.entry(key.clone()).or_default() += 1;
            }
        }
        more(&mut self.grams, &pieces.grams);
        self.sieve.resize(SIEVE / 64, 0);
        pieces.grams.iter().map(|gram| place(*gram)).for_each(|(word, bit)| self.sieve[word] |= bit);
        more(&mut self.heads, &pieces.heads);
        more(&mut self.short, &pieces.short);
    }

    fn remove(&mut self, pieces: &Pieces) {
        fn less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, keys: &[K]) {
            for key in keys {
                if let Some(count) = counts.get_mut(key) {
                    *count -= 1;
                    if *count == 0 {
                        counts.remove(key);
                    }
                }
            }
        }
        less(&mut self.grams, &pieces.grams);
        less(&mut self.heads, &pieces.heads);
        less(&mut self.short, &pieces.short);
    }

    /// `text` without what shows a secret. To cut one out may bring two parts of another together, so it is looked again;
    /// where that does not end, nothing is shown.
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

    /// Where the text shows a secret in any reading.
    fn found(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        if self.grams.is_empty() && self.short.is_empty() {
            return found;
        }
        let least = self.short.keys().map(Vec::len).filter(|length| *length > WORD).min().unwrap_or(PART);
        for reading in readings(text, least) {
            let forms = forms(&reading.units);
            for form in &forms {
                let hits = form.windows(PART).filter(|window| self.knows(gram(window)));
                found.extend(hits.map(range));
            }
            // The form with every character.
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
            let told = hits.filter(|(at, _)| short.len() > WORD || (reading.is_text && alone(*at)));
            found.extend(told.map(|(_, window)| range(window)));
        }
        if reading.is_text {
            let tails = HEADS.filter_map(|length| form.len().checked_sub(length)).map(|from| &form[from..]);
            let bytes = |tail: &[Unit]| tail.iter().map(|unit| unit.byte).collect::<Vec<_>>();
            found.extend(tails.filter(|tail| self.heads.contains_key(&bytes(tail))).map(range));
        }
    }
}

/// Where a gram has its bit.
fn place(gram: Gram) -> (usize, u64) {
    let mixed = u64::from_le_bytes(gram).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let at = usize::try_from(mixed).unwrap_or_default() % SIEVE;
    (at / 64, 1 << (at % 64))
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

fn gram(window: &[Unit]) -> Gram {
    std::array::from_fn(|at| window[at].byte)
}

/// What of the text a run of units stands for.
fn range(units: &[Unit]) -> Range<usize> {
    let (from, to) = (units.first().map(|unit| unit.from), units.last().map(|unit| unit.to));
    from.unwrap_or_default() as usize..to.unwrap_or_default() as usize
}

/// Takes the ranges out, and what is left of the words that they are in.
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

//! Unforeseen responses and dates: those of `tests/data/answers.toml` bent, cut, glued and shuffled, and plain noise.
//! `tests/campaign fuzz 1000000` makes a million of them, the ordinary test run a few.
//!
//! Each must cause no hang, and pass the targets of [`fuzzing`]: no panic, and no status that is not in the response.

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use super::*;
use crate::ApiError;
use crate::fuzzing;

/// Defaults of `VETWATCH_CASES` and `VETWATCH_SEED`.
const CASES: u64 = 20_000;
const SEED: u64 = 20_201_203;

/// A case that takes longer hangs, however busy the machine is.
const HANG_AFTER: Duration = Duration::from_secs(20);

#[test]
fn hostile_answers_and_dates_cost_nothing() {
    let given = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |given| given.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (cases, seed) = (given("VETWATCH_CASES", CASES), given("VETWATCH_SEED", SEED));
    eprintln!("VETWATCH_SEED={seed}");
    let seeds = seeds();
    let (began, mut slowest, mut understood) = (Instant::now(), Duration::ZERO, 0_u64);
    for case in 0..cases {
        // A seed for each case: a failure can be repeated alone.
        let number = seed.wrapping_add(case);
        let mut rng = Rng::with_seed(number);
        let body = body(&mut rng, &seeds);
        let date = date_text(&mut rng);
        let started = Instant::now();
        let judged = catch_unwind(|| {
            fuzzing::lists(&body);
            let _ = ApiError::read(500, &body, None);
            fuzzing::dates(date.as_bytes());
            fuzzing::snapshot::judge(&body)
        });
        let took = started.elapsed();
        slowest = slowest.max(took);
        let repeat = || {
            let body = body.escape_ascii();
            format!("repeat with VETWATCH_SEED={number} VETWATCH_CASES=1\nbody: {body}\ndate: {date:?}")
        };
        match judged {
            Ok(Err(wrong)) => panic!("{wrong}; {}", repeat()),
            Ok(Ok(is_understood)) => understood += u64::from(is_understood),
            // The panic's message was printed already.
            Err(panic) => {
                eprintln!("it panicked; {}", repeat());
                std::panic::resume_unwind(panic);
            }
        }
        assert!(took < HANG_AFTER, "it took {took:?}; {}", repeat());
    }
    eprintln!("{cases} cases in {:?}, {understood} of them understood, the slowest took {slowest:?}", began.elapsed());
    assert!(cases < 1000 || understood > cases / 20, "hardly one of them came near an answer");
    assert!(cases < 1000 || understood < cases / 2, "hardly one of them was hostile");
}

fn seeds() -> Vec<String> {
    let table: toml::Table = include_str!("../../../../tests/data/answers.toml").parse().unwrap();
    let answers = table["answer"].as_array().unwrap();
    answers.iter().map(|answer| answer["body"].as_str().unwrap().to_owned()).collect()
}

/// One body: mostly derived from a real response.
fn body(rng: &mut Rng, seeds: &[String]) -> Vec<u8> {
    let (seed, other) = (&seeds[rng.usize(..seeds.len())], &seeds[rng.usize(..seeds.len())]);
    match rng.u8(..10) {
        0 => bytes(rng, 64),
        1 => random_json(rng).into_bytes(),
        2..=5 => mutated(rng, seed.as_bytes(), other.as_bytes()),
        _ => match serde_json::from_slice::<Value>(without_bom(seed.as_bytes())) {
            Ok(value) => shuffled(rng, value).into_bytes(),
            Err(_) => mutated(rng, seed.as_bytes(), b"{}"),
        },
    }
}

fn bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    (0..rng.usize(..=most)).map(|_| rng.u8(..)).collect()
}

/// Words that make noise resemble a response.
const WORDS: [&str; 26] = [
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    " ",
    "\"",
    "\\",
    "\"qualification\"",
    "\"qualifications\"",
    "\"vettingStatus\"",
    "\"VettingStatus\"",
    "\"vettingReason\"",
    "\"vettingCreateDate\"",
    "\"Education\"",
    "\"None\"",
    "\"Approved\"",
    "\"\\ud800\"",
    "null",
    "1",
    "1e999",
    "-0",
    "true",
    "\u{FEFF}",
    "é",
];

fn random_json(rng: &mut Rng) -> String {
    let mut soup = String::new();
    for _ in 0..rng.usize(..40) {
        let word = WORDS[rng.usize(..WORDS.len())];
        // Now and then deeper than any real response.
        let times = if rng.u8(..50) == 0 { 300 } else { 1 };
        soup += &word.repeat(times);
    }
    soup
}

/// Changes, drops, doubles and cuts bytes, and mixes in another response.
fn mutated(rng: &mut Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut body = seed.to_vec();
    for _ in 0..rng.usize(1..4) {
        let (at, to) = (rng.usize(..=body.len()), rng.usize(..=body.len()));
        let (at, to) = (at.min(to), at.max(to));
        match rng.u8(..8) {
            0 => body.truncate(to),
            1 => drop(body.drain(at..to)),
            2 => {
                let part = body[at..to].to_vec();
                let place = rng.usize(..=body.len());
                body.splice(place..place, part);
            }
            3 => {
                let end = rng.usize(..=other.len());
                body.splice(at..at, other[end / 2..end].iter().copied());
            }
            4 => {
                let word = WORDS[rng.usize(..WORDS.len())];
                body.splice(at..at, word.bytes());
            }
            5 if at < body.len() => body[at] = rng.u8(..),
            6 if at < body.len() => body[at] ^= 1 << rng.u8(..8),
            _ => {
                let noise = bytes(rng, 4);
                body.splice(at..at, noise);
            }
        }
    }
    body
}

/// A response with values swapped, and keys respelled, dropped or doubled; as JSON.
fn shuffled(rng: &mut Rng, mut value: Value) -> String {
    if let Value::Array(items) = &mut value
        && rng.u8(..4) == 0
        && !items.is_empty()
    {
        for _ in 0..rng.usize(1..4) {
            let copy = items[rng.usize(..items.len())].clone();
            items.insert(rng.usize(..=items.len()), copy);
        }
    }
    if rng.u8(..8) == 0 {
        value = match rng.u8(..4) {
            0 => json!({ "qualifications": value }),
            1 => json!([value]),
            2 => json!({ "value": value }),
            _ => json!([value, null]),
        };
    }
    let mut text = String::new();
    write(rng, &value, &mut text);
    text
}

fn write(rng: &mut Rng, value: &Value, into: &mut String) {
    if rng.u8(..24) == 0 {
        *into += &other_value(rng);
        return;
    }
    match value {
        Value::Array(items) => {
            *into += "[";
            for (n, item) in items.iter().enumerate() {
                *into += if n == 0 { "" } else { "," };
                write(rng, item, into);
            }
            *into += "]";
        }
        Value::Object(object) => {
            *into += "{";
            let mut first = true;
            for (key, value) in object {
                if rng.u8(..24) == 0 {
                    continue;
                }
                for _ in 0..if rng.u8(..24) == 0 { 2 } else { 1 } {
                    *into += if first { "" } else { "," };
                    first = false;
                    *into += &json!(spelled(rng, key)).to_string();
                    *into += ":";
                    if key.starts_with("vettingCreate") && rng.bool() {
                        let date = date_text(rng);
                        *into += &json!(date).to_string();
                    } else {
                        write(rng, value, into);
                    }
                }
            }
            *into += "}";
        }
        scalar => *into += &scalar.to_string(),
    }
}

fn spelled(rng: &mut Rng, key: &str) -> String {
    match rng.u8(..12) {
        0 => key.to_uppercase(),
        1 => key.chars().map(|c| if rng.bool() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect(),
        2 => key.replace("Create", "Created"),
        3 => format!("{key}s"),
        _ => key.to_owned(),
    }
}

fn other_value(rng: &mut Rng) -> String {
    let texts =
        ["Approved", "Denied", "InReview", "None", "none", "", " ", "a\u{202e}b", "\u{0}", "Education", "educ_ation"];
    match rng.u8(..8) {
        0 => "null".into(),
        1 => rng.i64(..).to_string(),
        2 => "[]".into(),
        3 => "{}".into(),
        4 => json!("x".repeat(rng.usize(..5000))).to_string(),
        5 => json!(date_text(rng)).to_string(),
        _ => json!(texts[rng.usize(..texts.len())]).to_string(),
    }
}

/// A date, a damaged one, or something similar.
fn date_text(rng: &mut Rng) -> String {
    const DATES: [&str; 12] = [
        "2020-12-03T10:37:38.885Z",
        "2020-12-04T20:54:24Z",
        "2021-05-06T19:59:56.6832021+00:00",
        "07/09/2020: 00:00:00",
        "07/25/2020: 23:59:60",
        "2021-07-14T18:02:00",
        "0001-01-01T00:00:00",
        "9999-12-31T23:59:59.9999999Z",
        "+262142-12-31T23:59:59-23:59",
        "-262143-01-01T00:00:00+23:59",
        "2021-05-06T19:59:56-0700",
        "2016-12-31T23:59:60Z",
    ];
    const DATE_CHARS: &[u8] = b"0123456789-+:/.TZ tz,Z0";
    let mut date = DATES[rng.usize(..DATES.len())].as_bytes().to_vec();
    match rng.u8(..6) {
        0 => {}
        1 => date = (0..rng.usize(..40)).map(|_| DATE_CHARS[rng.usize(..DATE_CHARS.len())]).collect(),
        2 => return String::from_utf8_lossy(&bytes(rng, 40)).into_owned(),
        3 => date.extend(std::iter::repeat_n(b'9', rng.usize(..400))),
        _ => {
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..date.len());
                match rng.u8(..3) {
                    0 if date.len() > 1 => drop(date.remove(at)),
                    1 => date.insert(at, DATE_CHARS[rng.usize(..DATE_CHARS.len())]),
                    _ => date[at] = DATE_CHARS[rng.usize(..DATE_CHARS.len())],
                }
            }
        }
    }
    String::from_utf8_lossy(&date).into_owned()
}

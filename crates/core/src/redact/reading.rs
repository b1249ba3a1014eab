//! The ways to decode a text. Each reading maps every byte to its range of the text.

use std::collections::HashSet;

/// A longer text is not decoded twice in a row: that is expensive.
const TWO_DECODERS_MAX_BYTES: usize = 8 * 1024;

/// A byte, and its range of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) byte: u8,
    pub(super) from: u32,
    pub(super) to: u32,
}

pub(super) struct Reading {
    pub(super) units: Vec<Unit>,
    /// Everything in the text's order; not just the contents of some runs.
    pub(super) is_text: bool,
}

type Decoder = fn(&[Unit]) -> Vec<Unit>;
type RunDecoder = fn(&[Unit], usize) -> Vec<Unit>;

/// Decoders that keep what they do not understand, with the bytes without which they change nothing.
const UNESCAPE: [(&[u8], Decoder); 11] = [
    (b"%", percent),
    (b"%", percents),
    (b"+%", form),
    (b"\\", backslash),
    (b"\\", stylesheet),
    (b"&", entity),
    (b"<\x1b", markup),
    (b"=", quoted_printable),
    (b".\n", replies),
    (b" \t\r\n\0", tight),
    (b"\xc2\xe2\xef", visible),
];
/// Decoders that extract runs only. Where a run begins is not known.
const RUNS: [RunDecoder; 8] =
    [base64::<0>, base64::<1>, base64::<2>, base64::<3>, hex::<0>, hex::<1>, listed::<10>, listed::<16>];

/// The text as it is, decoded once, decoded twice, and with all escapes removed repeatedly. Runs of fewer than `least`
/// bytes are skipped: they are words.
pub(super) fn readings(text: &str, least: usize) -> Vec<Reading> {
    let mut readings = Readings { all: Vec::new(), seen: HashSet::new() };
    let whole = units_of(text.as_bytes());
    readings.add_unescaped(&whole, true);
    readings.add(whole, true);
    let mut from = 0;
    for _ in 0..if text.len() > TWO_DECODERS_MAX_BYTES { 1 } else { 2 } {
        let end = readings.all.len();
        for at in from..end {
            for (needs, decode) in UNESCAPE {
                let Reading { units, is_text } = &readings.all[at];
                if units.iter().any(|unit| needs.contains(&unit.byte)) {
                    let (units, is_text) = (decode(units), *is_text);
                    readings.add_unescaped(&units, is_text);
                    readings.add(units, is_text);
                }
            }
            for decode in RUNS {
                let units = decode(&readings.all[at].units, least);
                readings.add_unescaped(&units, false);
                readings.add(units, false);
            }
        }
        from = end;
    }
    readings.all
}

struct Readings {
    all: Vec<Reading>,
    seen: HashSet<u64>,
}

impl Readings {
    /// Adds a reading unless it is there already.
    fn add(&mut self, units: Vec<Unit>, is_text: bool) {
        if !units.is_empty() && self.seen.insert(digest(&units)) {
            self.all.push(Reading { units, is_text });
        }
    }

    fn add_unescaped(&mut self, units: &[Unit], is_text: bool) {
        if units.iter().any(|unit| b"%\\&=".contains(&unit.byte)) {
            self.add(unescaped(units), is_text);
        }
    }
}

/// FNV-1a: a collision costs one spelling, and the text cannot be chosen for one.
fn digest(units: &[Unit]) -> u64 {
    let step = |hash: u64, unit: &Unit| (hash ^ u64::from(unit.byte)).wrapping_mul(0x0100_0000_01b3);
    units.iter().fold(0xcbf2_9ce4_8422_2325 ^ units.len() as u64, step)
}

pub(super) fn units_of(bytes: &[u8]) -> Vec<Unit> {
    let mut units = Vec::with_capacity(bytes.len());
    // Each byte of a character maps to the whole character.
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let from = units.len();
            let to = from + c.len_utf8();
            units.extend(c.encode_utf8(&mut [0; 4]).bytes().map(|byte| unit(byte, from, to)));
        }
        for byte in chunk.invalid() {
            let from = units.len();
            units.push(unit(*byte, from, from + 1));
        }
    }
    units
}

fn unit(byte: u8, from: usize, to: usize) -> Unit {
    // Responses are a few KiB.
    let place = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    Unit { byte, from: place(from), to: place(to) }
}

/// Lower-cased: with all characters, without white space, and letters and digits only. The first is always there.
pub(super) fn forms(units: &[Unit]) -> Vec<Vec<Unit>> {
    let whole = folded(units);
    let of = |keep: fn(u8) -> bool| whole.iter().copied().filter(|unit| keep(unit.byte)).collect::<Vec<_>>();
    let (closed, bare) = (of(|byte| !is_blank(byte)), of(|byte| byte.is_ascii_alphanumeric()));
    let mut forms = Vec::with_capacity(3);
    if bare.len() < closed.len() {
        forms.push(bare);
    }
    if closed.len() < whole.len() {
        forms.push(closed);
    }
    forms.push(whole);
    forms.reverse();
    forms
}

fn is_blank(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

fn folded(units: &[Unit]) -> Vec<Unit> {
    let bytes: Vec<u8> = units.iter().map(|unit| unit.byte).collect();
    if bytes.is_ascii() {
        return units.iter().map(|unit| Unit { byte: unit.byte.to_ascii_lowercase(), ..*unit }).collect();
    }
    let (mut folded, mut at) = (Vec::with_capacity(units.len()), 0);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let source = joined(&units[at..at + c.len_utf8()]);
            for small in c.to_lowercase() {
                folded.extend(small.encode_utf8(&mut [0; 4]).bytes().map(|byte| Unit { byte, ..source }));
            }
            at += c.len_utf8();
        }
        folded.extend_from_slice(&units[at..at + chunk.invalid().len()]);
        at += chunk.invalid().len();
    }
    folded
}

/// Joins several units; the byte has no meaning.
pub(super) fn joined(units: &[Unit]) -> Unit {
    let (from, to) = (units.first().map(|unit| unit.from), units.last().map(|unit| unit.to));
    Unit { byte: b' ', from: from.unwrap_or_default(), to: to.unwrap_or_default() }
}

/// Replaces what `read` understands: it returns the number of units consumed and the bytes that they mean.
fn replace(units: &[Unit], read: impl Fn(&[Unit]) -> Option<(usize, Vec<u8>)>) -> Vec<Unit> {
    let (mut read_out, mut at) = (Vec::with_capacity(units.len()), 0);
    while at < units.len() {
        match read(&units[at..]) {
            Some((taken, bytes)) if taken > 0 => {
                let source = joined(&units[at..at + taken]);
                read_out.extend(bytes.into_iter().map(|byte| Unit { byte, ..source }));
                at += taken;
            }
            _ => {
                read_out.push(units[at]);
                at += 1;
            }
        }
    }
    read_out
}

fn unescaped(units: &[Unit]) -> Vec<Unit> {
    let mut units = units.to_vec();
    for _ in 0..4 {
        let before = units.len();
        units = quoted_printable(&entity(&backslash(&percent(&units))));
        if units.len() == before {
            break;
        }
    }
    units
}

fn byte_at(units: &[Unit], at: usize) -> Option<u8> {
    units.get(at).map(|unit| unit.byte)
}

/// Parses a number; returns the count of its digits, too.
fn number(units: &[Unit], radix: u32, most: usize) -> Option<(usize, u32)> {
    let digits = units.iter().take(most).map_while(|unit| char::from(unit.byte).to_digit(radix));
    let (mut count, mut value) = (0, 0_u32);
    for digit in digits {
        (count, value) = (count + 1, value.checked_mul(radix)?.checked_add(digit)?);
    }
    (count > 0).then_some((count, value))
}

fn exactly(units: &[Unit], radix: u32, count: usize) -> Option<u32> {
    number(units, radix, count).filter(|(found, _)| *found == count).map(|(_, value)| value)
}

fn utf8(code: u32) -> Vec<u8> {
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).to_string().into_bytes()
}

fn low(value: u32) -> Vec<u8> {
    vec![u8::try_from(value & 0xff).unwrap_or_default()]
}

/// `%7E`, `%u007E`
pub(super) fn percent(units: &[Unit]) -> Vec<Unit> {
    replace(units, |rest| match (byte_at(rest, 0)?, byte_at(rest, 1)?) {
        (b'%', b'u' | b'U') => Some((6, utf8(exactly(&rest[2..], 16, 4)?))),
        (b'%', _) => Some((3, low(exactly(&rest[1..], 16, 2)?))),
        _ => None,
    })
}

/// Repeats `percent` until nothing changes.
fn percents(units: &[Unit]) -> Vec<Unit> {
    let mut units = percent(units);
    for _ in 0..3 {
        units = percent(&units);
    }
    units
}

/// Form encoding: a plus is a space.
fn form(units: &[Unit]) -> Vec<Unit> {
    let spaced: Vec<_> =
        units.iter().map(|unit| if unit.byte == b'+' { Unit { byte: b' ', ..*unit } } else { *unit }).collect();
    percent(&spaced)
}

/// `\u007e`, `\u{7e}`, `\x7e`, `\176`, `\/`: JSON, and how programs write strings.
fn backslash(units: &[Unit]) -> Vec<Unit> {
    replace(units, |rest| {
        if byte_at(rest, 0)? != b'\\' {
            return None;
        }
        match byte_at(rest, 1)? {
            b'u' | b'U' | b'x' | b'X' if byte_at(rest, 2) == Some(b'{') => {
                let (count, code) = number(&rest[3..], 16, 8)?;
                Some((4 + count, utf8(code)))
            }
            b'U' if exactly(&rest[2..], 16, 8).is_some() => Some((10, utf8(exactly(&rest[2..], 16, 8)?))),
            b'u' | b'U' => {
                let first = exactly(&rest[2..], 16, 4)?;
                let second = rest.get(6..).filter(|more| byte_at(more, 0) == Some(b'\\'));
                let second = second.and_then(|more| exactly(more.get(2..)?, 16, 4));
                match second.filter(|_| (0xd800..0xdc00).contains(&first)) {
                    Some(second) => Some((12, utf8(0x1_0000 + ((first - 0xd800) << 10) + (second & 0x3ff)))),
                    None => Some((6, utf8(first))),
                }
            }
            b'x' | b'X' => Some((4, low(exactly(&rest[2..], 16, 2)?))),
            b'0'..=b'7' => {
                let (count, code) = number(&rest[1..], 8, 3)?;
                Some((1 + count, low(code)))
            }
            b'n' | b'r' | b't' | b'b' | b'f' => Some((2, vec![b' '])),
            other => Some((2, vec![other])),
        }
    })
}

/// `\7e `, `\00007e`: CSS.
fn stylesheet(units: &[Unit]) -> Vec<Unit> {
    replace(units, |rest| {
        if byte_at(rest, 0)? != b'\\' {
            return None;
        }
        let (count, code) = number(&rest[1..], 16, 6)?;
        let end = 1 + count;
        Some((end + usize::from(byte_at(rest, end).is_some_and(is_blank)), utf8(code)))
    })
}

/// Removes tags, comments, and a terminal's colours.
fn markup(units: &[Unit]) -> Vec<Unit> {
    let begins = |rest: &[Unit], with: &str| with.bytes().enumerate().all(|(at, byte)| byte_at(rest, at) == Some(byte));
    replace(units, |rest| {
        let end = |is_end: fn(u8) -> bool| rest.iter().take(TAG_MAX_BYTES).skip(2).position(|unit| is_end(unit.byte));
        let taken = match (byte_at(rest, 0)?, byte_at(rest, 1)?) {
            (b'<', _) if begins(rest, "<![CDATA[") => 9,
            (b'<', _) if begins(rest, "<!--") => {
                (4..rest.len()).find(|at| begins(&rest[*at..], "-->")).map_or(4, |at| at + 3)
            }
            (b'<', b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'!' | b'?') => 3 + end(|byte| byte == b'>')?,
            (ESCAPE, b'[') => 3 + end(|byte| (b'@'..=b'~').contains(&byte))?,
            _ => return None,
        };
        Some((taken, Vec::new()))
    })
}

/// `&#126;`, `&#x7e;`, `&amp;`
fn entity(units: &[Unit]) -> Vec<Unit> {
    const NAMES: [(u8, &[&str]); 31] = [
        (b'&', &["amp"]),
        (b'<', &["lt"]),
        (b'>', &["gt"]),
        (b'"', &["quot"]),
        (b'\'', &["apos"]),
        (b' ', &["nbsp", "shy", "zwj", "zwnj", "zerowidthspace", "ensp", "emsp", "thinsp", "tab", "newline"]),
        (b'|', &["verbar", "vert"]),
        (b'_', &["underbar", "lowbar"]),
        (b'*', &["midast", "ast"]),
        (b'/', &["sol"]),
        (b'\\', &["bsol"]),
        (b'+', &["plus"]),
        (b'=', &["equals"]),
        (b'%', &["percnt"]),
        (b':', &["colon"]),
        (b';', &["semi"]),
        (b',', &["comma"]),
        (b'.', &["period"]),
        (b'!', &["excl"]),
        (b'#', &["num"]),
        (b'$', &["dollar"]),
        (b'(', &["lpar"]),
        (b')', &["rpar"]),
        (b'?', &["quest"]),
        (b'@', &["commat"]),
        (b'[', &["lsqb", "lbrack"]),
        (b']', &["rsqb", "rbrack"]),
        (b'^', &["hat"]),
        (b'`', &["grave"]),
        (b'{', &["lcub", "lbrace"]),
        (b'}', &["rcub", "rbrace"]),
    ];
    replace(units, |rest| {
        if byte_at(rest, 0)? != b'&' {
            return None;
        }
        if byte_at(rest, 1)? == b'#' {
            let radix = if matches!(byte_at(rest, 2)?, b'x' | b'X') { 16 } else { 10 };
            let begin = if radix == 16 { 3 } else { 2 };
            let (count, code) = number(rest.get(begin..)?, radix, 8)?;
            let end = begin + count;
            return Some((end + usize::from(byte_at(rest, end) == Some(b';')), utf8(code)));
        }
        let name: Vec<u8> = rest[1..].iter().take(16).map(|unit| unit.byte.to_ascii_lowercase()).collect();
        let end = name.iter().position(|byte| *byte == b';')?;
        let (byte, _) = NAMES.iter().find(|(_, names)| names.iter().any(|known| known.as_bytes() == &name[..end]))?;
        Some((end + 2, vec![*byte]))
    })
}

/// `=7E`, and lines that are broken by `=`
fn quoted_printable(units: &[Unit]) -> Vec<Unit> {
    replace(units, |rest| match (byte_at(rest, 0)?, byte_at(rest, 1)?, byte_at(rest, 2)) {
        (b'=', b'\r', Some(b'\n')) => Some((3, Vec::new())),
        (b'=', b'\n', _) => Some((2, Vec::new())),
        (b'=', ..) => Some((3, low(exactly(&rest[1..], 16, 2)?))),
        _ => None,
    })
}

/// Removes the prefix of each line of a mail server's reply: `550-5.7.1 `
fn replies(units: &[Unit]) -> Vec<Unit> {
    let mut kept = Vec::with_capacity(units.len());
    for line in units.split_inclusive(|unit| unit.byte == b'\n') {
        let coded = exactly(line, 10, 3).is_some() && matches!(byte_at(line, 3), Some(b' ' | b'-'));
        let line = if coded { &line[4..] } else { line };
        for word in line.split_inclusive(|unit| unit.byte == b' ') {
            let text: String = word.iter().map(|unit| char::from(unit.byte)).collect();
            let mut numbers = text.trim_end().split('.');
            let is_status = text.len() <= 12
                && numbers.clone().count() == 3
                && numbers.all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
            if !is_status {
                kept.extend_from_slice(word);
            }
        }
    }
    kept
}

/// Removes white space: a wrapped line breaks base64 as well.
fn tight(units: &[Unit]) -> Vec<Unit> {
    units.iter().copied().filter(|unit| !is_blank(unit.byte) || unit.byte == ESCAPE).collect()
}

/// Removes invisible characters, and makes full-width ones narrow.
fn visible(units: &[Unit]) -> Vec<Unit> {
    replace(units, |rest| {
        let bytes = (byte_at(rest, 0)?, byte_at(rest, 1)?, byte_at(rest, 2));
        Some(match bytes {
            // A soft hyphen.
            (0xc2, 0xad, _) => (2, Vec::new()),
            // Zero-width spaces and direction marks; a joiner; a byte order mark.
            (0xe2, 0x80, Some(0x8b..=0x8f)) | (0xe2, 0x81, Some(0xa0)) | (0xef, 0xbb, Some(0xbf)) => (3, Vec::new()),
            // U+FF01 to U+FF5E.
            (0xef, 0xbc, Some(last @ 0x81..=0xbf)) => (3, vec![last - 0x60]),
            (0xef, 0xbd, Some(last @ 0x80..=0x9e)) => (3, vec![last - 0x20]),
            _ => return None,
        })
    })
}

/// Decodes the runs of base64, each from its `SKIP`th character on. Left-over bits may be anything.
fn base64<const SKIP: usize>(units: &[Unit], least: usize) -> Vec<Unit> {
    let mut held = Vec::new();
    for run in units.split(|unit| sextet(unit.byte).is_none()) {
        if run.len() < (least * 8).div_ceil(6) + SKIP {
            continue;
        }
        for four in run[SKIP..].chunks(4) {
            let bits = (0..4).map(|at| four.get(at).and_then(|unit| sextet(unit.byte)).unwrap_or_default());
            let bits = bits.fold(0, |bits, sextet| (bits << 6) | u32::from(sextet));
            let source = joined(four);
            let bytes = bits.to_be_bytes().into_iter().skip(1).take(four.len() - 1);
            held.extend(bytes.map(|byte| Unit { byte, ..source }));
        }
        held.push(Unit { byte: 0xff, ..joined(run) });
    }
    held
}

/// The value of a base64 character, in either alphabet.
fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// Decodes runs of hexadecimal digits, in pairs from the `SKIP`th on; the pairs may be separated (`41:42`, `0x41,
/// 0x42`).
fn hex<const SKIP: usize>(units: &[Unit], least: usize) -> Vec<Unit> {
    let (mut held, mut run) = (Vec::new(), Vec::new());
    for unit in units.iter().chain([&END]) {
        match unit.byte {
            byte if byte.is_ascii_hexdigit() => run.push(*unit),
            b'x' | b'X' if run.last().is_some_and(|last| last.byte == b'0') => {
                run.pop();
            }
            byte if is_blank(byte) || matches!(byte, b':' | b',' | b'-') => {}
            _ => {
                if run.len() >= least * 2 + SKIP {
                    held.extend(run[SKIP..].chunks_exact(2).map(|pair| Unit {
                        byte: exactly(pair, 16, 2).and_then(|byte| u8::try_from(byte).ok()).unwrap_or_default(),
                        ..joined(pair)
                    }));
                    held.push(Unit { byte: 0xff, ..joined(&run) });
                }
                run.clear();
            }
        }
    }
    held
}

/// Decodes lists of byte values: `[126, 47]`, `CHAR(126,47)`, `chr(0x7e).chr(0x2f)`, `\126\047` in a zone's file.
fn listed<const RADIX: u32>(units: &[Unit], least: usize) -> Vec<Unit> {
    let (mut held, mut run, mut at) = (Vec::new(), Vec::new(), 0);
    let mut end = 0;
    loop {
        // The next number, wherever it begins.
        let begin = (at..units.len()).find(|at| match RADIX {
            16 => byte_at(units, *at) == Some(b'0') && matches!(byte_at(units, *at + 1), Some(b'x' | b'X')),
            _ => units[*at].byte.is_ascii_digit(),
        });
        let next = begin.map(|begin| {
            let from = if RADIX == 16 { begin + 2 } else { begin };
            let digits = units[from..].iter().take_while(|unit| char::from(unit.byte).is_digit(RADIX)).count();
            let value = exactly(&units[from..], RADIX, digits).and_then(|value| u8::try_from(value).ok());
            (begin, from + digits, value)
        });
        let goes_on = next.is_some_and(|(begin, _, value)| value.is_some() && begin - end <= LIST_GAP_MAX_BYTES);
        if !goes_on {
            if run.len() >= least {
                held.append(&mut run);
                held.push(Unit { byte: 0xff, ..joined(&held) });
            }
            run.clear();
        }
        let Some((begin, after, value)) = next else { return held };
        run.extend(value.map(|byte| Unit { byte, ..joined(&units[begin..after]) }));
        (at, end) = (after.max(begin + 1), after);
    }
}

/// Maximum gap between the numbers of a list: `) . chr(`, `)||CHAR(`.
const LIST_GAP_MAX_BYTES: usize = 12;
/// Starts a terminal's colour code.
const ESCAPE: u8 = 0x1b;
/// Maximum length of a tag with its attributes.
const TAG_MAX_BYTES: usize = 400;

/// Ends the last run.
const END: Unit = Unit { byte: 0xff, from: 0, to: 0 };

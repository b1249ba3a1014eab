use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;

fn set(secrets: &[&str]) -> Set {
    let mut set = Set::default();
    secrets.iter().flat_map(|secret| Pieces::of_text(secret)).for_each(|pieces| set.count(&pieces, 1));
    set
}

type Spelling = (&'static str, fn(&str) -> String);

fn each(text: &str, write: impl Fn(u8) -> String) -> String {
    text.bytes().map(write).collect::<Vec<_>>().concat()
}

fn each_character(text: &str, write: impl Fn(char) -> String) -> String {
    text.chars().map(write).collect::<Vec<_>>().concat()
}

fn wide(c: char) -> char {
    if c.is_ascii_graphic() { char::from_u32(u32::from(c) + 0xfee0).unwrap() } else { c }
}

/// How servers spell what they repeat.
const SPELLINGS: [Spelling; 37] = [
    ("as it is", str::to_owned),
    ("base64", |text| STANDARD.encode(text)),
    ("base64 without padding", |text| STANDARD_NO_PAD.encode(text)),
    ("base64 for URLs", |text| URL_SAFE.encode(text)),
    ("base64 for URLs without padding", |text| URL_SAFE_NO_PAD.encode(text)),
    ("base64 behind one byte", |text| STANDARD.encode(format!("\0{text}"))),
    ("base64 behind a name", |text| STANDARD.encode(format!("vetwatch:{text}"))),
    ("AUTH PLAIN", |text| STANDARD.encode(format!("\0vetwatch\0{text}"))),
    ("percent", |text| each(text, |byte| format!("%{byte:02X}"))),
    ("percent in small letters", |text| each(text, |byte| format!("%{byte:02x}"))),
    ("a form", |text| url::form_urlencoded::byte_serialize(text.as_bytes()).collect()),
    ("percent twice", |text| each(text, |byte| format!("%25{byte:02x}"))),
    ("JSON", |text| serde_json::to_string(text).unwrap().trim_matches('"').replace('/', "\\/")),
    ("JSON in numbers", |text| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat()),
    ("HTML in numbers", |text| each_character(text, |c| format!("&#x{:X};", u32::from(c)))),
    ("HTML", |text| text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;").replace('\'', "&#39;")),
    ("hexadecimal", |text| each(text, |byte| format!("{byte:02x}"))),
    ("hexadecimal apart", |text| each(text, |byte| format!("{byte:02X}:"))),
    ("quoted-printable", |text| each(text, |byte| format!("={byte:02X}"))),
    ("in small letters", str::to_lowercase),
    ("in capitals", str::to_uppercase),
    ("a list of bytes", |text| format!("{:?}", text.as_bytes())),
    ("a list of bytes in hexadecimal", |text| format!("{:#04x?}", text.as_bytes())),
    ("CHAR()", |text| each(text, |byte| format!("CHAR({byte})||")).trim_end_matches('|').to_owned()),
    ("chr() in hexadecimal", |text| each(text, |byte| format!("chr(0x{byte:02x}) . "))),
    ("numbers without anything", |text| each(text, |byte| format!("{byte:03} "))),
    ("a zone's file", |text| each(text, |byte| format!("\\{byte:03}"))),
    ("a stylesheet", |text| each_character(text, |c| format!("\\{:X} ", u32::from(c)))),
    ("a stylesheet in six digits", |text| each_character(text, |c| format!("\\{:06x}", u32::from(c)))),
    ("braces", |text| each_character(text, |c| format!("\\x{{{:x}}}", u32::from(c)))),
    ("Python", |text| each_character(text, |c| format!("\\U{:08x}", u32::from(c)))),
    ("soft hyphens", |text| each_character(text, |c| format!("{c}\u{ad}"))),
    ("places to break", |text| each_character(text, |c| format!("{c}<wbr>"))),
    ("tags", |text| each_character(text, |c| format!("<b class=\"a b\">{c}</b><!-- - -->"))),
    ("colours", |text| each_character(text, |c| format!("\u{1b}[1;31m{c}\u{1b}[0m"))),
    ("full width", |text| each_character(text, |c| wide(c).to_string())),
    ("lines", |text| text.chars().map(|c| c.to_string()).collect::<Vec<_>>().join("\r\n")),
];

/// True if more than the permitted seven consecutive characters of the secret are left, in any case or spacing.
fn shows(text: &str, secret: &str) -> bool {
    set(&[secret]).found(text).iter().any(|range| !text[range.clone()].contains(HIDDEN))
}

fn surrounded(echo: &str) -> String {
    format!("550 no such thing: {echo} (is it spelt well?)")
}

#[track_caller]
fn is_hidden(secret: &str, echo: &str, how: &str) {
    let redacted = set(&[secret]).hide(&surrounded(echo));
    assert!(redacted.contains(HIDDEN) || redacted == NOT_SHOWN, "{how} of {secret:?}: {redacted}");
    assert!(!redacted.contains(echo) && !shows(&redacted, secret), "{how} of {secret:?}: {redacted}");
}

#[test]
fn a_secret_is_hidden_in_every_spelling_and_every_two_of_them() {
    for secret in [
        "T0KEN~abc/x%7e+y",
        "hunter2hunter2",
        "pass word & \"quotes\"\\",
        "Pässwörter-öffnen",
        "!$()*,;:@?=&'\"<>",
        "hunter2",
    ] {
        for (one, write) in SPELLINGS {
            is_hidden(secret, &write(secret), one);
            // The other secrets consist of parts of these two.
            let others = if matches!(secret, "hunter2" | "T0KEN~abc/x%7e+y") { &SPELLINGS[..] } else { &[] };
            for (other, again) in others {
                // These cannot be decoded.
                let is_lost = matches!(
                    (*other, one),
                    ("in small letters" | "in capitals", "base64 behind a name")
                        | ("lines", "numbers without anything")
                        | ("tags", "tags")
                );
                if !is_lost {
                    is_hidden(secret, &again(&write(secret)), &format!("{other} of {one}"));
                }
            }
        }
    }
}

#[test]
fn a_part_of_eight_characters_gives_a_secret_away_and_a_shorter_one_at_the_end_too() {
    let secret = "kX9-vetwatch.Token_42";
    for from in 0..=secret.len() - 8 {
        for (how, write) in SPELLINGS {
            is_hidden(secret, &write(&secret[from..from + 8]), how);
        }
    }
    let secrets = set(&[secret]);
    assert_eq!(secrets.hide("cut off at kX9-vetw"), "cut off at [hidden]");
    assert_eq!(secrets.hide("watch is no secret, and neither is kX9"), "watch is no secret, and neither is kX9");
}

#[test]
fn a_login_is_hidden_as_it_is_sent_and_its_name_is_not() {
    let mut secrets = Set::default();
    for pieces in Pieces::of_login("vetting@contoso.example", "hunter2hunter2") {
        secrets.count(&pieces, 1);
    }
    let plain = STANDARD.encode("\0vetting@contoso.example\0hunter2hunter2");
    for part in [plain.as_str(), &plain[..20], &plain[8..30], &plain.to_lowercase()] {
        assert_eq!(secrets.hide(&format!("500 unknown: AUTH PLAIN {part}")), "500 unknown: AUTH PLAIN [hidden]");
    }
    assert_eq!(secrets.hide("got vetting@contoso.example:hunter2hunter2"), "got vetting@contoso.example:[hidden]");
    let harmless = "550 5.7.60 vetting@contoso.example may not send as that";
    assert_eq!(secrets.hide(harmless), harmless);
}

#[test]
fn a_secret_that_a_reply_breaks_into_lines_is_hidden() {
    let secrets = set(&["abcdefghijklmnop"]);
    for echo in [
        "550-abcdef\r\n550-ghijkl\r\n550 mnop",
        "550-5.7.1 abcdef\r\n550-5.7.1 ghijkl\r\n550 5.7.1 mnop",
        "abcdef 5.7.1 ghijkl 5.7.1 mnop",
    ] {
        let redacted = secrets.hide(echo);
        assert!(!redacted.contains("abcdef") && !redacted.contains("ghijkl"), "{redacted}");
    }
}

#[test]
fn of_a_url_everything_behind_the_host_is_hidden_but_not_the_words_of_a_service() {
    let secrets =
        set(&["https://hooks.slack.example/services/T0AAAAAAA/B0BBBBBBB/XyZzYxXyZzYx?sig=a%2Bb%2Fc%3Dd~e&v=1"]);
    let harmless = "no_service at hooks.slack.example: services are down, v=1, see https://hooks.slack.example/help";
    assert_eq!(secrets.hide(harmless), harmless);
    for echo in [
        "/services/T0AAAAAAA/B0BBBBBBB/XyZzYxXyZzYx",
        "T0AAAAAAA/B",
        "XyZzYxXy",
        "xyzzyxxyzz",
        "a+b/c=d~e",
        "a%2bb%2Fc=d%7ee",
    ] {
        assert!(secrets.hide(echo).contains(HIDDEN), "{echo}");
    }
}

#[test]
fn of_a_key_in_pem_only_the_private_part_is_one() {
    let pem = "-----BEGIN CERTIFICATE-----\nMIIBcertificate\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nMIIEprivateAAAA\nBBBBkeybytes\n-----END PRIVATE KEY-----\n";
    let secrets = set(&[pem]);
    assert_eq!(secrets.hide("BEGIN PRIVATE KEY MIIBcertificate"), "BEGIN PRIVATE KEY MIIBcertificate");
    assert_eq!(secrets.hide("vateAAAA\nBBBBkey"), "[hidden]");
}

#[test]
fn a_short_secret_is_hidden_as_a_whole_and_the_shortest_as_a_word() {
    let secrets = set(&["s3cr", "ab"]);
    assert_eq!(secrets.hide("it was s3cr, in base64 czNjcg=="), "it was [hidden], in base64 [hidden]");
    assert_eq!(secrets.hide("about ab, and absent"), "about [hidden], and absent");
}

#[test]
fn a_token_is_redacted_as_long_as_it_lives_and_a_little_longer() {
    let mut secrets = Secrets::default();
    let long = |number: usize| format!("{number:02}-token-token-token-token-{number:02}");
    for number in 0..20 {
        let pieces = Pieces::of_text(&long(number)).remove(0);
        secrets.count(&pieces, 1);
        assert!(secrets.long.hide(&long(number)).contains(HIDDEN));
        secrets.retire(pieces);
    }
    assert!(secrets.all.hide(&long(19)[20..]).contains(HIDDEN));
    assert_eq!(secrets.retired.len(), RETIRED_MAX);
    (0..RETIRED_MAX).for_each(|_| secrets.retire(Pieces::default()));
    assert!(secrets.all.grams.is_empty() && secrets.long.grams.is_empty(), "nothing grows for ever");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_reading_of_what_is_shown_shows_a_secret(
        secret in prop_oneof!["[ -~]{8,40}", "[a-z%/\"\\\\&<+= ]{8,24}", "\\PC{8,20}", "[a-zA-Z0-9]{4,7}"],
        around in "[ -~]{0,40}", one in 0..SPELLINGS.len(), other in 0..SPELLINGS.len(),
    ) {
        prop_assume!(secret.trim() == secret && !secret.is_empty());
        let (first, second) = (SPELLINGS[one], SPELLINGS[other]);
        let echo = second.1(&first.1(&secret));
        let redacted = set(&[&secret]).hide(&format!("{around} {echo} {around}"));
        prop_assert!(!shows(&redacted, &secret), "{} of {} of {secret:?}: {redacted}", second.0, first.0);
    }

    #[test]
    fn what_holds_no_secret_stays_as_it_is(text in "\\PC{0,200}", secret in "[0-9A-F]{32}") {
        prop_assert_eq!(set(&[&secret]).hide(&text), text);
    }
}

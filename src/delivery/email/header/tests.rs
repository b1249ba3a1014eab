use mail_parser::{Address as Parsed, MessageParser};
use proptest::prelude::*;

use super::*;
use crate::text;

fn mailbox(name: &str, address: &str) -> Mailbox {
    Mailbox::new(Some(name.to_owned()), address.parse().unwrap())
}

/// What an independent parser reads: the subject, and the names and addresses of `From` and `To`.
fn read(subject: &str, from: &Mailbox, recipients: &[Mailbox]) -> (String, Vec<(String, String)>) {
    let mut headers = lettre::message::header::Headers::new();
    headers.insert_raw(unstructured("Subject", subject));
    headers.insert_raw(super::from(from));
    let mail = format!("{headers}To: {}\r\n\r\nText\r\n", to(recipients));
    assert!(mail.is_ascii() && mail.lines().all(|line| line.len() <= 320), "{mail}");
    let parsed = MessageParser::default().parse(mail.as_bytes()).unwrap();
    let people = |list: Option<&Parsed<'_>>| {
        let all: Vec<_> = list.into_iter().flat_map(Parsed::iter).collect();
        all.into_iter()
            .map(|it| (it.name().unwrap_or_default().to_owned(), it.address().unwrap_or_default().to_owned()))
            .collect::<Vec<_>>()
    };
    let mut all = people(parsed.from());
    all.extend(people(parsed.to()));
    (parsed.subject().unwrap_or_default().to_owned(), all)
}

/// Encoded words, whole and broken, in all spellings, and what headers are made of.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("=?utf-8?b?QmNjOiBldmlsQGV4YW1wbGUuY29t?=".to_owned()),
        Just("=?UTF-8?Q?=0D=0ABcc:_evil?=".to_owned()),
        Just("=?iso-8859-1?q?=E9?=".to_owned()),
        Just("=?utf-8*en?B?4oCu?=".to_owned()),
        Just("=?".to_owned()),
        Just("?=".to_owned()),
        Just("=".to_owned()),
        Just("?".to_owned()),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just("(comment)".to_owned()),
        Just("<a@b.example>".to_owned()),
        Just(", ;:@".to_owned()),
        Just("x".repeat(90)),
        Just("\r\n ".to_owned()),
        Just(" ".to_owned()),
        "[a-zA-Z0-9.]{1,12}",
        "\\PC{1,8}",
    ];
    prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn every_subject_and_name_is_read_as_it_was_meant(subject in nasty(), from in nasty(), one in nasty(), two in nasty()) {
        let (subject, from) = (text::line(&subject, 200), text::line(&from, MAX_DISPLAY_NAME_BYTES));
        let names = [&one, &two].map(|name| text::line(name, MAX_DISPLAY_NAME_BYTES));
        prop_assume!(!subject.is_empty() && !from.is_empty() && names.iter().all(|name| !name.is_empty()));
        let recipients = [mailbox(&one, "a@contoso.example"), mailbox(&two, "b@contoso.example")];
        let (read_subject, people) = read(&subject, &mailbox(&from, "vetwatch@contoso.example"), &recipients);
        prop_assert_eq!(read_subject, subject);
        let expected = [
            (from, "vetwatch@contoso.example".to_owned()),
            (names[0].clone(), "a@contoso.example".to_owned()),
            (names[1].clone(), "b@contoso.example".to_owned()),
        ];
        prop_assert_eq!(people, expected);
    }
}

#[test]
fn plain_text_stays_readable_and_an_encoded_word_is_encoded() {
    let subject = |text: &str| folded("Subject", &words(text));
    assert_eq!(subject("Denied: Contoso School"), "Denied: Contoso School");
    assert_eq!(subject("Approved: =?utf-8?b?QQ==?="), "=?utf-8?b?QXBwcm92ZWQ6ID0/dXRmLTg/Yj9RUT09Pz0=?=");
    let name = |name: &str| mailbox_words(&mailbox(name, "a@b.example"), ",").join(" ");
    assert_eq!(name("IT operations"), "IT operations <a@b.example>,");
    assert_eq!(name("Müller"), "=?utf-8?b?TcO8bGxlcg==?= <a@b.example>,");
    assert_eq!(name("Smith, \"Jo\""), "\"Smith, \\\"Jo\\\"\" <a@b.example>,");
    assert_eq!(name("=?utf-8?q?x?="), "=?utf-8?b?PT91dGYtOD9xP3g/PQ==?= <a@b.example>,");
    assert_eq!(name(" \r\n"), "a@b.example,");
}

#[test]
fn a_list_of_recipients_is_folded_and_a_very_long_one_is_not_written() {
    let recipients = |count: usize| -> Vec<Mailbox> {
        let address = |n| format!("a.rather.long.name{n}@mail{n}.contoso.example").parse().unwrap();
        (0..count).map(|n| Mailbox::new(None, address(n))).collect()
    };
    let list = to(&recipients(250));
    assert!(format!("To: {list}").lines().all(|line| line.len() <= LINE), "{list}");
    assert_eq!(list.matches('@').count(), 250);
    assert_eq!(to(&recipients(2000)), "undisclosed-recipients:;");
}

#[test]
fn the_recipients_of_a_rendered_mail_are_replaced_and_nothing_else() {
    let new = [mailbox("New", "new@contoso.example")];
    let mail =
        "From: a@b.example\r\nTo: old@contoso.example,\r\n other@contoso.example\r\nSubject: To: x\r\n\r\nTo: you\r\n";
    let expected = "From: a@b.example\r\nTo: New <new@contoso.example>\r\nSubject: To: x\r\n\r\nTo: you\r\n";
    assert_eq!(with_recipients(mail, &new), expected);
    assert_eq!(with_recipients(expected, &new), expected);
    assert_eq!(with_recipients("no mail at all", &new), "no mail at all");
    assert_eq!(with_recipients("Subject: x\r\nTo: a@b.example", &new), "Subject: x\r\nTo: New <new@contoso.example>");
}

use super::*;
use crate::delivery::message::sample;
use crate::event::EventType;

/// An hour ahead of UTC in winter.
const ZONE: chrono_tz::Tz = chrono_tz::Europe::Amsterdam;

const ID: Uuid = Uuid::from_u128(0x0193_4a5b_6c7d_7000_8000_0000_0000_0002);

fn now() -> Timestamp {
    serde_json::from_value("2026-11-21T09:14:05.000Z".into()).unwrap()
}

fn event(kind: EventType, name: &str) -> Event {
    let mut event = sample::event(kind, Uuid::from_u128(1), "emea", now());
    event.data.test = false;
    if let EventPayload::Vetting(change) = &mut event.data.subject {
        change.customer.name = name.to_owned();
    }
    event
}

fn addresses() -> (Mailbox, Vec<Mailbox>) {
    let to = ["Jürgen Grüß <sales@contoso.example>", "it@contoso.example"].map(|text| text.parse().unwrap());
    ("vetwatch <vetwatch@contoso.example>".parse().unwrap(), to.to_vec())
}

fn render(events: &[Event]) -> String {
    let (from, to) = addresses();
    mail(&from, &to, &UnrenderedDelivery::new(ID, events.to_vec(), ZONE), now())
}

fn head(mail: &str) -> &str {
    mail.split_once("\r\n\r\n").unwrap().0
}

#[test]
fn the_head_of_a_mail() {
    let mail = render(&[event(EventType::Denied, "École Zürich")]);
    insta::assert_snapshot!(head(&mail).replace("\r\n", "\n"));
}

#[test]
fn the_html_form_of_a_mail() {
    let message = Message::of(&[event(EventType::Denied, "<script>alert('x')</script> & \"Sons\"")], ZONE);
    insta::assert_snapshot!(html(&message).unwrap());
}

#[test]
fn a_mail_is_ascii_with_whole_line_ends_and_short_lines() {
    for kind in EventType::ALL {
        let mail = render(&[event(*kind, "École\r\nBcc: x@example.com\n.\n 大学 \u{1b}[0m")]);
        assert!(mail.is_ascii(), "{kind}");
        assert_eq!(mail.matches('\n').count(), mail.matches("\r\n").count(), "{kind}: a bare line feed");
        assert_eq!(mail.matches('\r').count(), mail.matches("\r\n").count(), "{kind}: a bare carriage return");
        assert!(mail.lines().all(|line| line.len() <= 998), "{kind}: a line too long for SMTP");
        assert!(!head(&mail).lines().any(|line| line.to_lowercase().starts_with("bcc")), "{kind}: {}", head(&mail));
    }
}

#[test]
fn the_same_events_make_the_same_bytes() {
    let events = [event(EventType::Denied, "Contoso"), event(EventType::Approved, "Contoso")];
    assert_eq!(render(&events), render(&events));
}

#[test]
fn the_mails_of_a_customer_are_one_thread_and_those_of_several_are_none() {
    let thread = |events: &[Event]| thread(events, "contoso.example");
    let denied = thread(&[event(EventType::Denied, "Contoso")]);
    assert!(denied.is_some());
    assert_eq!(
        denied,
        thread(&[event(EventType::Approved, "Contoso Renamed"), event(EventType::Submitted, "Contoso")])
    );
    let mut other = event(EventType::Denied, "Contoso");
    other.data.partner = Some("apac".to_owned());
    assert_ne!(denied, thread(std::slice::from_ref(&other)));
    assert_eq!(thread(&[event(EventType::Denied, "Contoso"), other]), None);
    assert_eq!(thread(&[event(EventType::PartnerFailing, "")]), None);
    assert_eq!(thread(&[]), None);
}

#[test]
fn without_its_html_form_a_mail_is_plain_text() {
    let (from, to) = addresses();
    let delivery = UnrenderedDelivery::new(ID, vec![event(EventType::Denied, "Contoso")], ZONE);
    let mail = compose(&from, &to, &delivery, now(), &delivery.message(), None).unwrap();
    assert!(head(&mail).contains("Content-Type: text/plain"), "{}", head(&mail));
    assert!(mail.contains("Microsoft's reason: Not an Education Customer"), "{mail}");
}

#[test]
fn a_mail_that_cannot_be_composed_goes_in_its_simplest_form() {
    let (from, _) = addresses();
    let mail = mail(&from, &[], &UnrenderedDelivery::new(ID, vec![event(EventType::Denied, "Zürich")], ZONE), now()); // the library wants a recipient
    assert!(head(&mail).contains("Message-ID: <01934a5b-6c7d-7000-8000-000000000002@contoso.example>"));
    assert!(mail.is_ascii(), "{mail}");
    let body = mail.split_once("\r\n\r\n").unwrap().1.replace("\r\n", "");
    let text = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
    assert!(String::from_utf8(text).unwrap().starts_with("Denied: Zürich – Education"));
}

/// Many verdicts of all kinds, as at a month's end; some customers share a name.
fn month(count: u32) -> Vec<Event> {
    const KINDS: [EventType; 7] = [
        EventType::Approved,
        EventType::Denied,
        EventType::Approved,
        EventType::Revoked,
        EventType::Overdue,
        EventType::Denied,
        EventType::Vanished,
    ];
    const NAMES: [&str; 8] = [
        "Tailspin Institute",
        "Fabrikam College",
        "École Zürich",
        "Northwind Academy",
        "Alpine Ski School",
        "Contoso School",
        "Litware Museum of Art",
        "Adventure Works School",
    ];
    const REASONS: [&str; 2] = ["Not an Academic Domain", "Not an Education Customer"];
    let of = |n: u32| {
        let at = |list: usize| usize::try_from(n).unwrap() % list;
        let mut event = event(KINDS[at(7)], NAMES[at(8)]);
        if let EventPayload::Vetting(change) = &mut event.data.subject {
            change.customer.id = Uuid::from_u128(u128::from(n)).to_string();
            change.customer.domain = format!("school{n}.example");
            change.attempt = n % 3 + 1;
            if event.kind == EventType::Denied {
                change.vetting_reason = Some(REASONS[at(9) / 8].to_owned());
            }
        }
        event
    };
    (0..count).map(of).collect()
}

#[test]
fn the_html_form_of_a_digest() {
    let message = Message::of(&month(9), ZONE).with_note("Sent here because sales-mail has not taken it since 08:00.");
    insta::assert_snapshot!(html(&message).unwrap());
}

#[test]
fn every_event_of_a_digest_is_in_both_forms_with_its_link() {
    for count in [4, 60, 500] {
        let message = Message::of(&month(count), ZONE);
        let (text, html) = (message.text(), html(&message).unwrap());
        for n in 0..count {
            let link = format!("/customers/{}/account", Uuid::from_u128(u128::from(n)));
            assert_eq!(text.matches(&link).count(), 1, "{n} of {count}");
            assert_eq!(html.replace("&#x2f;", "/").matches(&link).count(), 1, "{n} of {count}");
        }
    }
}

#[test]
fn five_hundred_events_with_the_longest_names_are_less_than_a_megabyte_and_load_nothing() {
    for character in ["x", "&", "学"] {
        let mut events = month(500);
        for (n, event) in events.iter_mut().enumerate() {
            if let EventPayload::Vetting(change) = &mut event.data.subject {
                change.customer.name = format!("{n} {}", character.repeat(300));
                change.customer.domain = format!("{n}.{}", "x".repeat(300));
                change.vetting_reason = Some(format!("{n} {}", character.repeat(300)));
            }
        }
        let mail = render(&events);
        assert!(mail.len() < 1024 * 1024, "{character}: {} bytes", mail.len());
        assert!(mail.lines().all(|line| line.len() <= 998), "{character}: a line too long for SMTP");
        let html = html(&Message::of(&events, ZONE)).unwrap();
        for loads in ["src=", "url(", "<link", "<script", "@import"] {
            assert!(!html.contains(loads), "{loads}");
        }
    }
}

/// For the pictures of the documentation and `tests/campaign mail-looks`, which set the folder and draw the result. Each
/// mail has what a reader must see first beside it.
#[test]
fn mails_to_be_drawn() {
    let Some(folder) = std::env::var_os("VETWATCH_DRAW") else { return };
    let note = "Sent here because sales-mail has not taken it since 21 Nov 2026, 07:14 CET. It is still tried there.";
    let mut approved = event(EventType::Approved, "Fabrikam College");
    if let EventPayload::Vetting(change) = &mut approved.data.subject {
        "fabrikam.example".clone_into(&mut change.customer.domain);
    }
    let mut long = event(EventType::Denied, "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetzschule");
    if let EventPayload::Vetting(change) = &mut long.data.subject {
        change.customer.domain = format!("{}.example", "sehr-lange-".repeat(9));
        change.customer.tags = vec!["x".repeat(150)];
        change.vetting_reason = Some("W".repeat(120));
    }
    let mut test = event(EventType::Denied, "Contoso School");
    test.data.test = true;
    let mut mails = vec![
        ("denied".to_owned(), vec![event(EventType::Denied, "Contoso School")], None),
        ("approved".to_owned(), vec![approved], None),
        ("digest".to_owned(), month(9), None),
        ("digest-of-3".to_owned(), month(3), None),
        ("digest-of-500".to_owned(), month(500), None),
        ("long".to_owned(), vec![long], None),
        ("note".to_owned(), month(2), Some(note)),
        ("test".to_owned(), vec![test], Some(note)),
    ];
    let others = EventType::ALL.iter().filter(|kind| !matches!(kind, EventType::Denied | EventType::Approved));
    mails.extend(
        others.map(|kind| (kind.to_string().replace("vetting.", ""), vec![event(*kind, "Contoso School")], None)),
    );
    for (name, events, note) in mails {
        let message = Message::of(&events, ZONE);
        let message = if let Some(note) = note { message.with_note(note) } else { message };
        let path = std::path::Path::new(&folder).join(&name);
        std::fs::write(path.with_added_extension("html"), html(&message).unwrap()).unwrap();
        // Customer, qualification, outcome and reason; of a digest the counts and the worst.
        let first = match (message.items.as_slice(), Digest::of(&message)) {
            (_, Some(digest)) => format!("{}\n{}\n", digest.counts, digest.sections[0].rows[0].title),
            ([item, ..], None) => {
                format!(
                    "{}\n{}\n{}\n{}\n",
                    item.label,
                    item.title,
                    item.about,
                    item.reason.as_deref().unwrap_or_default()
                )
            }
            ([], None) => unreachable!("{name}"),
        };
        std::fs::write(path.with_added_extension("first"), first).unwrap();
    }
}

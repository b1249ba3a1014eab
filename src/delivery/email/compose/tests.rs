use super::super::MAX_EVENTS;
use super::*;
use crate::delivery::message::sample;
use crate::event::EventType;

/// An hour ahead of UTC in winter.
const ZONE: chrono_tz::Tz = chrono_tz::Europe::Amsterdam;

const PUBLIC_URL: &str = "https://vetting.contoso.example/behind/a/proxy/";

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

fn whole_html(message: &Message) -> String {
    html(message, Digest::of(message).as_ref()).unwrap()
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
    insta::assert_snapshot!(whole_html(&message));
}

/// The button to Partner Center stays the only one.
#[test]
fn the_html_form_of_a_mail_that_links_to_the_page() {
    let events = [EventType::Denied, EventType::EndpointFailing].map(|kind| event(kind, "Contoso School"));
    let message = Message::of(&events, ZONE).with_pages(Some(PUBLIC_URL));
    insta::assert_snapshot!(whole_html(&message) + &message.text());
    let digest = Message::of(&month(4), ZONE).with_pages(Some(PUBLIC_URL));
    insta::assert_snapshot!(whole_html(&digest) + &digest.text());
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
    let (from, to, message) = (from, to, delivery.message());
    let content = Content { digest: None, list: None };
    let mail = compose(&from, &to, &delivery, now(), &message, &content, None).unwrap();
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
    let text = STANDARD.decode(body).unwrap();
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
    insta::assert_snapshot!(whole_html(&message));
}

#[test]
fn every_event_of_a_digest_is_in_both_forms_with_its_link() {
    for count in [4, 60, 500] {
        let message = Message::of(&month(count), ZONE);
        let (text, html) = (message.text(), whole_html(&message));
        for n in 0..count {
            let link = format!("/customers/{}/account", Uuid::from_u128(u128::from(n)));
            assert_eq!(text.matches(&link).count(), 1, "{n} of {count}");
            assert_eq!(html.replace("&#x2f;", "/").matches(&link).count(), 1, "{n} of {count}");
        }
    }
}

/// As an independent parser reads it: the subject, the text, the HTML, and the attached list.
fn parsed(mail: &str) -> (String, String, String, Option<String>) {
    let parsed = mail_parser::MessageParser::default().parse(mail.as_bytes()).unwrap();
    let list = parsed.attachments().next().map(|part| {
        assert_eq!(mail_parser::MimeHeaders::attachment_name(part), Some("events.csv"));
        part.text_contents().unwrap().to_owned()
    });
    let body = |body: Option<std::borrow::Cow<'_, str>>| body.unwrap_or_default().into_owned();
    (parsed.subject().unwrap().to_owned(), body(parsed.body_text(0)), body(parsed.body_html(0)), list)
}

/// Each event with the longest texts, of one kind of character.
fn longest(count: u32, text: &str) -> Vec<Event> {
    let mut events = month(count);
    for (n, event) in events.iter_mut().enumerate() {
        if let EventPayload::Vetting(change) = &mut event.data.subject {
            change.customer.name = format!("{n} {}", text.repeat(300));
            change.customer.domain = format!("{n}.{}", text.repeat(300));
            change.customer.tags = vec![text.repeat(300)];
            change.qualification = text.repeat(300);
            change.vetting_reason = Some(format!("{n} {}", text.repeat(300)));
            change.correlation_id = Some(text.repeat(300));
        }
    }
    events
}

#[test]
fn a_mail_has_at_most_100_kilobytes_and_every_event_is_in_it() {
    let to: Vec<Mailbox> =
        (0..250).map(|n| format!("Jürgen Grüß {n} <r{n}@contoso.example>").parse().unwrap()).collect();
    let (from, few) = addresses();
    for count in [1, 2, 3, 4, 39, 41, MAX_EVENTS] {
        for text in ["", "x", "&", "学", "ж", "=?", "\u{1f3eb}", "a b ", "\"'<>"] {
            let events = if text.is_empty() { month(count) } else { longest(count, text) };
            for (to, public_url) in [(&few, None), (&to, None), (&few, Some(PUBLIC_URL.to_owned()))] {
                let has_page = public_url.is_some();
                let delivery = UnrenderedDelivery { public_url, ..UnrenderedDelivery::new(ID, events.clone(), ZONE) };
                let mail = mail(&from, to, &delivery, now());
                assert!(mail.len() <= MAX_MAIL_BYTES, "{count} of {text}: {} bytes", mail.len());
                assert!(mail.is_ascii() && mail.lines().all(|line| line.len() <= 320), "{count} of {text}");
                let (_, plain, html, list) = parsed(&mail);
                assert!(!html.is_empty(), "{count} of {text}: in its simplest form");
                for loads in ["src=", "url(", "<link", "<script", "@import"] {
                    assert!(!html.contains(loads), "{loads}");
                }
                let unescaped = html.replace("&#x2f;", "/");
                for n in 0..count {
                    let id = Uuid::from_u128(u128::from(n)).to_string();
                    let listed = list.as_ref().is_some_and(|list| list.contains(&id));
                    let shown = plain.contains(&id) && unescaped.contains(&id);
                    assert!(shown || listed, "{count} of {text}: {n} is not in the mail");
                    // Whatever is left out has its list beside it, with every event.
                    assert!(list.is_none() || listed, "{count} of {text}: {n} is not in the list");
                    let page = format!("{PUBLIC_URL}customer/emea/{id}");
                    let is_in = |part: &str| part.contains(&page);
                    let links = list.as_deref().is_some_and(is_in) || is_in(&plain) && is_in(&unescaped);
                    assert_eq!(links, has_page, "{count} of {text}: {n}");
                }
                assert_eq!(list.is_some(), plain.contains("events.csv"), "{count} of {text}: {plain}");
            }
        }
    }
}

#[test]
fn a_digest_of_many_shows_the_most_severe_and_has_all_attached() {
    let mut events = month(MAX_EVENTS);
    for event in &mut events {
        if let EventPayload::Vetting(change) = &mut event.data.subject {
            change.customer.name += &" of a name that goes on".repeat(3);
        }
    }
    let (subject, text, html, list) = parsed(&render(&events));
    assert!(subject.starts_with("14 revoked, 29 denied"), "{subject}");
    assert!(text.contains("REVOKED (14)") && text.contains("APPROVED (29)"), "{text}");
    assert!(text.contains("60 more are in the attached list, events.csv, which has all."), "{text}");
    assert!(html.contains("60 more are in the attached list"), "{html}");
    let list = list.unwrap();
    let list = list.strip_prefix('\u{feff}').expect("a byte order mark, for Excel");
    let mut reader = csv::Reader::from_reader(list.as_bytes());
    let header: Vec<_> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(header, ["Result", "Customer", "Domain", "About", "Reason", "When", "Microsoft ID"]);
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 100);
    assert_eq!(&rows[0][0], "Revoked");
    assert_eq!(&rows[99][0], "Approved");
    // What fits is shown in full, without a list.
    let (_, text, _, list) = parsed(&render(&month(60)));
    assert!(list.is_none() && !text.contains("attached"), "{text}");
}

#[test]
fn a_formula_in_a_name_is_text_in_the_attached_list() {
    let mut events = month(MAX_EVENTS);
    for event in &mut events {
        if let EventPayload::Vetting(change) = &mut event.data.subject {
            change.customer.domain = format!("{}.example", "long".repeat(20));
            change.customer.name = "=HYPERLINK(\"http://evil.example\")".to_owned();
        }
    }
    let list = parsed(&render(&events)).3.unwrap();
    assert!(list.contains("\"'=HYPERLINK(\"\"http://evil.example\"\")\""), "{list}");
}

/// More than a delivery holds; whatever happens, a mail that nobody's server takes is of no use.
#[test]
fn even_ten_thousand_events_are_a_mail_of_100_kilobytes() {
    for events in [month(500), longest(500, "学"), month(10_000)] {
        let mail = render(&events);
        assert!(mail.len() <= MAX_MAIL_BYTES, "{} bytes", mail.len());
        assert!(parsed(&mail).1.contains("EVOKED ("), "{mail}");
    }
}

#[test]
fn an_alert_with_endless_texts_is_a_mail_of_100_kilobytes() {
    for text in ["&", "学", "x"] {
        let alert = |_| {
            let mut alert = event(EventType::CustomersFailing, "");
            if let EventPayload::Monitor(notice) = &mut alert.data.subject {
                notice.summary = text.repeat(5000);
                notice.detail = format!("{}\n", text.repeat(50)).repeat(1000);
                notice.figures = (0..1000).map(|n| (format!("{text}{n}"), text.repeat(1000).into())).collect();
            }
            alert
        };
        for count in [1, 3, 4, MAX_EVENTS] {
            let mail = render(&(0..count).map(alert).collect::<Vec<_>>());
            assert!(mail.len() <= MAX_MAIL_BYTES, "{count} of {text}: {} bytes", mail.len());
        }
    }
}

#[test]
fn identifiers_of_a_domain_beyond_ascii_are_xn() {
    let from = crate::delivery::email::address::mailbox("Büro <vetting@büro.example>").unwrap();
    let to = [crate::delivery::email::address::mailbox("poststelle@schule-köln.example").unwrap()];
    let delivery = UnrenderedDelivery::new(ID, vec![event(EventType::Denied, "Contoso")], ZONE);
    let mail = mail(&from, &to, &delivery, now());
    for line in [
        "From: =?utf-8?b?QsO8cm8=?= <vetting@xn--bro-hoa.example>\r\n",
        "To: poststelle@xn--schule-kln-lcb.example\r\n",
        "Message-ID: <01934a5b-6c7d-7000-8000-000000000002@xn--bro-hoa.example>\r\n",
        "List-Id: vetwatch <vetwatch.xn--bro-hoa.example>\r\n",
    ] {
        assert!(mail.contains(line), "{line}{}", head(&mail));
    }
    assert!(!head(&mail).contains("utf-8?b?PD"), "an encoded identifier: {}", head(&mail));
}

/// A customer may call itself so that mail programs show something else.
#[test]
fn a_name_that_is_an_encoded_word_stays_what_it_is() {
    let name = "=?utf-8?b?4oCuQXBwcm92ZWQ=?=";
    let mail = render(&[event(EventType::Denied, name)]);
    let (subject, text, _, _) = parsed(&mail);
    assert_eq!(subject, format!("Denied: {name} – Education (Not an Education Customer)"));
    assert!(text.contains(name), "{text}");
    let mail = render(&[event(EventType::Submitted, name)]);
    assert!(!head(&mail).contains(name), "{}", head(&mail));
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
        ("denied-linked".to_owned(), vec![event(EventType::Denied, "Contoso School")], None),
        ("digest-linked".to_owned(), month(9), None),
    ];
    let others = EventType::ALL.iter().filter(|kind| !matches!(kind, EventType::Denied | EventType::Approved));
    mails.extend(
        others.map(|kind| (kind.to_string().replace("vetting.", ""), vec![event(*kind, "Contoso School")], None)),
    );
    for (name, events, note) in mails {
        let message = Message::of(&events, ZONE);
        let message = if let Some(note) = note { message.with_note(note) } else { message };
        let message = message.with_pages(name.ends_with("-linked").then_some(PUBLIC_URL));
        let path = std::path::Path::new(&folder).join(&name);
        std::fs::write(path.with_added_extension("html"), whole_html(&message)).unwrap();
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

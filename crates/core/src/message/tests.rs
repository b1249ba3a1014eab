use uuid::Uuid;

use super::*;
use crate::event::VettingChange;

/// An hour ahead of UTC in winter.
const ZONE: Tz = chrono_tz::Europe::Amsterdam;

const REASONS: [&str; 7] = [
    "Not an Education Customer",
    "No longer an Education Customer",
    "Not an Education Customer - After Review",
    "Restricted being an Education Customer",
    "Not an Academic Domain",
    "Not an eligible Library",
    "Not an eligible Museum",
];

fn event(kind: EventType) -> Event {
    let now = serde_json::from_value("2026-11-21T09:14:03.120Z".into()).unwrap();
    let mut event = sample::event(kind, Uuid::from_u128(0x0193_4a5b_6c7d_7000_8000_0000_0000_0001), "emea", now);
    event.data.test = false;
    event
}

fn vetting(kind: EventType, change: impl FnOnce(&mut VettingChange)) -> Event {
    let mut event = event(kind);
    match &mut event.data.subject {
        EventPayload::Vetting(vetting) => change(vetting),
        EventPayload::Monitor(_) | EventPayload::Summary(_) => panic!("{kind} is not of a customer"),
    }
    event
}

fn read(events: &[Event]) -> String {
    let message = Message::of(events, ZONE);
    format!("Subject: {}\n\n{}", message.subject, message.text())
}

#[test]
fn what_a_person_reads_of_each_event() {
    for kind in EventType::ALL {
        insta::assert_snapshot!(kind.as_str(), read(&[event(*kind)]));
    }
}

#[test]
fn every_documented_reason_has_advice_of_its_own() {
    let steps = |reason: &str| advice_for(reason, 1);
    for reason in REASONS {
        insta::assert_snapshot!(format!("denied.{}", reason.replace(' ', "_")), steps(reason).join("\n"));
        assert_eq!(steps(&format!(" {} ", reason.to_uppercase())), steps(reason), "{reason} is compared without case");
    }
    let all: std::collections::BTreeSet<_> = REASONS.iter().map(|reason| steps(reason)).collect();
    assert_eq!(all.len(), REASONS.len(), "two reasons share their advice");
    assert_eq!(steps("Not an Education Customer – After Review"), steps("Not an Education Customer - After Review"));
    assert_eq!(steps("Something that Microsoft thought of later"), steps("Not an Education Customer"));
}

fn advice_for(reason: &str, attempt: u32) -> Vec<String> {
    let event = vetting(EventType::Denied, |change| {
        change.vetting_reason = Some(reason.to_owned());
        change.attempt = attempt;
    });
    Message::of(&[event], ZONE).items.remove(0).steps.iter().map(ToString::to_string).collect()
}

#[test]
fn nobody_is_told_to_ask_again_when_the_three_requests_are_used_up() {
    for reason in REASONS {
        for attempt in [3, 4] {
            let steps = advice_for(reason, attempt).join("\n");
            assert!(!steps.contains("Then press Update"), "{reason}, attempt {attempt}: {steps}");
            assert!(steps.contains("support request"), "{reason}, attempt {attempt}: {steps}");
        }
    }
    assert!(advice_for(REASONS[0], 2).join("\n").contains("the last of 3 requests"));
    assert!(advice_for(REASONS[0], 1).join("\n").contains("2 requests are left"));
}

#[test]
fn an_approval_that_was_taken_back_without_a_word_says_what_is_known() {
    let event = vetting(EventType::Revoked, |change| {
        change.to = Some("absent".to_owned());
        change.vetting_reason = None;
    });
    insta::assert_snapshot!(read(&[event]));
}

#[test]
fn late_news_and_first_sight_are_said_in_words() {
    let event = vetting(EventType::Approved, |change| {
        change.qualification = "GovernmentCommunityCloud".to_owned();
        change.from = None;
        change.first_seen = true;
        change.attempt = 1;
        change.last_seen_before_at = Some(serde_json::from_value("2026-11-20T18:00:00Z".into()).unwrap());
    });
    insta::assert_snapshot!(read(&[event]));
}

#[test]
fn a_fourth_attempt_is_not_one_of_three() {
    let message = Message::of(&[vetting(EventType::Denied, |change| change.attempt = 4)], ZONE);
    assert!(
        message.items[0].about.ends_with("attempt 4, after the 3 that are allowed, as far as vetwatch saw"),
        "{}",
        message.items[0].about
    );
}

#[test]
fn several_events_make_one_message() {
    let other = vetting(EventType::Approved, |change| change.customer.name = "Fabrikam College".to_owned());
    insta::assert_snapshot!(read(&[event(EventType::Denied), other, event(EventType::Submitted)]));
    assert_eq!(Message::of(&[], ZONE).kind, DIGEST);
}

#[test]
fn a_test_message_says_so_in_the_subject_and_at_the_top() {
    let mut test = event(EventType::Denied);
    test.data.test = true;
    let message = Message::of(&[test], ZONE);
    assert!(message.subject.starts_with("[TEST] Denied: Contoso School"), "{}", message.subject);
    assert!(message.text().starts_with("THIS IS A TEST."), "{}", message.text());
}

#[test]
fn nothing_in_a_name_reaches_another_line_or_a_terminal() {
    let evil = "Evil\r\nBcc: all@example.com\r\n\r\n\u{1b}]0;owned\u{7}\u{202e}School";
    let event = vetting(EventType::Denied, |change| {
        change.customer.name = evil.to_owned();
        change.customer.domain = evil.to_owned();
        change.customer.id = "../evil?x=1&y#z\r\n".to_owned();
        change.customer.tags = vec![evil.to_owned()];
        change.qualification = evil.to_owned();
        change.vetting_reason = Some(evil.to_owned());
        change.correlation_id = Some(evil.to_owned());
        change.to = Some(evil.to_owned());
    });
    let message = Message::of(&[event], ZONE);
    let text = message.text();
    assert!(!text.chars().any(|c| c.is_control() && c != '\n') && !text.contains('\u{202e}'), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("Bcc")), "{text}");
    assert!(!message.subject.contains(['\r', '\n']), "{:?}", message.subject);
    let link = message.items[0].link.clone().unwrap();
    assert_eq!(
        link,
        "https://partner.microsoft.com/dashboard/v2/customers/%2E%2E%2Fevil%3Fx%3D1%26y%23z%0D%0A/account"
    );
}

#[test]
fn a_customer_without_a_visible_name_goes_by_its_domain() {
    let event = vetting(EventType::Approved, |change| change.customer.name = " \u{200b}\u{202e} ".to_owned());
    assert_eq!(Message::of(&[event], ZONE).subject, "Approved: contoso.example – Education");
}

#[test]
fn subjects_stay_readable_whatever_the_name() {
    let event = vetting(EventType::Denied, |change| change.customer.name = "Sehr lange Schule ".repeat(100));
    let subject = Message::of(&[event], ZONE).subject;
    assert!(subject.len() < 300, "{} bytes", subject.len());
    assert!(subject.contains("Not an Education Customer"), "{subject}");
}

#[test]
fn more_than_three_events_are_told_in_rows_the_worst_first() {
    let named = |kind, name: &str, attempt| {
        vetting(kind, |change| {
            name.clone_into(&mut change.customer.name);
            change.customer.id = name.replace(' ', "-");
            change.attempt = attempt;
        })
    };
    let reason = |mut event: Event, reason: &str| {
        if let EventPayload::Vetting(change) = &mut event.data.subject {
            change.vetting_reason = Some(reason.to_owned());
        }
        event
    };
    let events = [
        event(EventType::DeadLetter),
        named(EventType::Approved, "Tailspin Institute", 1),
        reason(named(EventType::Denied, "Northwind Academy", 3), REASONS[4]),
        reason(named(EventType::Denied, "Fabrikam College", 2), REASONS[4]),
        named(EventType::Approved, "Adventure Works School", 1),
        named(EventType::Changed, "Litware School", 1),
        named(EventType::Overdue, "Alpine Ski School", 1),
        named(EventType::Vanished, "Wingtip School", 2),
        named(EventType::Revoked, "Contoso School", 0),
    ];
    insta::assert_snapshot!(read(&events));
}

#[test]
fn two_or_three_events_are_told_in_full_the_worst_first() {
    let message =
        Message::of(&[event(EventType::Submitted), event(EventType::Approved), event(EventType::Revoked)], ZONE);
    let labels: Vec<_> = message.items.iter().map(|item| item.label.to_string()).collect();
    assert_eq!(labels, ["Revoked", "Approved", "In review"]);
    assert!(message.subject.starts_with("1 revoked, 1 approved, 1 in review: "), "{}", message.subject);
    assert!(message.text().contains("What to do next"), "{}", message.text());
}

#[test]
fn a_test_among_real_news_is_marked_and_does_not_call_the_news_a_test() {
    let mut test = event(EventType::Denied);
    test.data.test = true;
    let message = Message::of(&[test.clone(), event(EventType::Approved)], ZONE);
    assert_eq!((message.test, message.subject.contains("[TEST]")), (false, false), "{}", message.subject);
    assert!(message.items[1].headline.starts_with("Test: Denied: "), "{}", message.items[1].headline);
    let several = Message::of(&[test.clone(), event(EventType::Approved), test, event(EventType::Revoked)], ZONE);
    assert!(several.subject.starts_with("1 revoked, 1 approved, 2 test: denied: "), "{}", several.subject);
    assert!(several.text().contains("TEST: DENIED (2)"), "{}", several.text());
}

#[test]
fn a_note_stands_above_the_news() {
    let note = "Sent here because sales-mail has not taken it since 08:00.\r\nBcc: all@example.com";
    let message = Message::of(&[event(EventType::Denied)], ZONE).with_note(note);
    let first =
        "Sent here because sales-mail has not taken it since 08:00. Bcc: all@example.com\n\nDenied: Contoso School";
    assert!(message.text().starts_with(first), "{}", message.text());
    assert_eq!(Message::of(&[], ZONE).with_note(" \r\n").note, None);
}

#[test]
fn advice_is_said_once_for_a_reason_and_for_whom_it_holds() {
    let denied = |reason: &str, attempt: u32, id: &str| {
        vetting(EventType::Denied, |change| {
            change.vetting_reason = Some(reason.to_owned());
            change.attempt = attempt;
            id.clone_into(&mut change.customer.id);
        })
    };
    let events =
        [denied(REASONS[4], 2, "a"), denied(REASONS[4], 3, "b"), denied(REASONS[5], 1, "c"), denied("New", 1, "d")];
    let digest = Digest::of(&Message::of(&events, ZONE)).unwrap();
    let headings: Vec<_> = digest.advice.iter().map(|advice| advice.heading.as_str()).collect();
    assert_eq!(headings[0], "Denied: Not an Academic Domain (2 customers)", "{headings:?}");
    assert_eq!(headings.len(), 3, "{headings:?}");
    let steps = &digest.advice[0].steps;
    assert!(!steps[0].starts_with("After"), "{steps:?}");
    assert!(steps.iter().any(|step| step.starts_with("After attempt 3 of 3: Do not press Update again")), "{steps:?}");
    assert!(steps.iter().any(|step| step.starts_with("After attempt 2 of 3: Then press Update")), "{steps:?}");
    assert!(steps.iter().any(|step| step.ends_with("Give them the correlation ID beside its name.")), "{steps:?}");
    let rows: Vec<_> = digest.sections.iter().flat_map(|section| &section.rows).map(|row| &*row.small).collect();
    assert_eq!(rows.iter().filter(|small| small.starts_with("Correlation ID 7d24")).count(), 1, "{rows:?}");
}

#[test]
fn no_message_speaks_utc_but_where_it_is_compared_with_partner_center_or_a_log() {
    for kind in EventType::ALL {
        let text = read(&[event(*kind)]);
        assert!(text.contains("10:14 CET"), "{kind}: {text}");
        for line in text.lines().filter(|line| line.contains("UTC") || line.contains("Z\"")) {
            let compared = line.contains(" CET (") // beside the local time
                || ["Create date in Partner Center: ", "Correlation ID: ", "Seen: "].iter().any(|name| line.starts_with(name));
            assert!(compared, "{kind}: {line}");
        }
        assert!(!text.contains(".120Z"), "{kind}: {text}");
    }
    let digest = read(&[EventType::Denied; 4].map(event));
    assert!(digest.contains("10:14 CET") && !digest.contains("UTC"), "{digest}");
}

#[test]
fn a_correlation_id_is_asked_for_only_where_there_is_one_and_stands_in_the_sentence() {
    const ID: &str = "Give them this correlation ID: 7d24c9a2-51c8-4f6e-8a52-0c1f9b7e3d60";
    let mut asked = 0;
    for kind in EventType::ALL.iter().filter(|kind| kind.is_routed() && !kind.is_for_operators()) {
        for reason in REASONS {
            let of = |known: bool| {
                let event = vetting(*kind, |change| {
                    change.vetting_reason = Some(reason.to_owned());
                    change.attempt = 3;
                    change.correlation_id = change.correlation_id.take().filter(|_| known);
                });
                (
                    Message::of(std::slice::from_ref(&event), ZONE).text(),
                    Message::of(&vec![event.clone(); 4], ZONE).text(),
                )
            };
            let ((one, _), (unknown, unknown_digest)) = (of(true), of(false));
            asked += usize::from(one.contains(ID));
            assert!(!unknown.to_lowercase().contains("correlation id"), "{kind}: {unknown}");
            assert!(!unknown_digest.to_lowercase().contains("correlation id"), "{kind}: {unknown_digest}");
            assert!(!one.contains("below"), "{kind}: {one}");
        }
    }
    assert!(asked >= 8, "{asked}");
}

#[test]
fn the_attempt_is_told_once_and_in_figures() {
    for kind in [EventType::Approved, EventType::Denied, EventType::Vanished, EventType::Overdue, EventType::Submitted]
    {
        for attempt in 1..=3 {
            let text = read(&[vetting(kind, |change| change.attempt = attempt)]);
            assert_eq!(text.matches(&format!("{attempt} of 3")).count(), 1, "{kind}: {text}");
            assert!(!text.contains("three"), "{kind}: {text}");
        }
    }
}

#[test]
fn what_is_about_an_endpoint_names_no_partner() {
    for kind in [EventType::EndpointFailing, EventType::EndpointRecovered, EventType::DeadLetter] {
        assert!(!read(&[event(kind)]).contains("emea"), "{kind}");
    }
    assert!(read(&[event(EventType::PartnerFailing)]).contains("Partner Center account: emea"));
}

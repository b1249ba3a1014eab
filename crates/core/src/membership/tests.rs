use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_hours(1);

fn hour(n: u32) -> Timestamp {
    Timestamp::from_millis(1_795_262_400_000).after(HOUR * n)
}

/// The membership after events at these hours, and what the last one changed about the polls.
fn after(source: Source, events: &[(Event, u32)]) -> (Membership, PollChange) {
    events.iter().fold((Membership::new(source), PollChange::Keep), |(membership, _), (event, at)| {
        membership.after(*event, hour(*at))
    })
}

#[test]
fn the_words_in_the_database_are_these_and_a_departed_customer_is_polled_for_90_days() {
    assert_eq!([Source::Manual, Source::Synced].map(Source::as_str), ["manual", "synced"]);
    let reasons = [DepartureReason::Missing, DepartureReason::Refused];
    assert_eq!(reasons.map(DepartureReason::as_str), ["missing", "refused"]);
    assert_eq!(POLL_DEPARTED_FOR, HOUR * 24 * 90);
}

#[test]
fn a_customer_departs_after_a_day_of_lists_without_it_and_is_one_again_when_a_list_has_it() {
    let (missing, polls) = after(Source::Synced, &[(Event::InList, 0), (Event::NotInList, 24), (Event::NotInList, 45)]);
    assert_eq!((missing.in_list, missing.departed, polls), (InList::MissingSince(hour(24)), None, PollChange::Keep));
    let (departed, polls) = missing.after(Event::NotInList, hour(46));
    assert_eq!(departed.departed, Some((hour(46), DepartureReason::Missing)));
    assert_eq!(polls, PollChange::RarelyOnceConfirmed);
    // A response shows that the relationship is not quite gone; the list still lacks it.
    assert_eq!(departed.after(Event::Responded, hour(47)), (departed, PollChange::Keep));
    let (back, polls) = departed.after(Event::InList, hour(48));
    assert_eq!((back.in_list, back.departed, polls), (InList::Present, None, PollChange::Anew));
}

#[test]
fn a_removed_customer_stays_removed() {
    let (removed, polls) = after(Source::Synced, &[(Event::InList, 0), (Event::Removed, 1)]);
    assert_eq!((removed.polling, polls), (Polling::RemovedAt(hour(1)), PollChange::Keep));
    assert_eq!(removed.after(Event::InList, hour(2)), (removed, PollChange::Keep));
}

#[test]
fn a_list_that_has_a_customer_as_before_changes_no_poll_and_no_refusal() {
    let (listed, polls) = after(Source::Synced, &[(Event::Refused, 0), (Event::InList, 1), (Event::InList, 25)]);
    assert_eq!((listed.in_list, listed.refused_since, polls), (InList::Present, Some(hour(0)), PollChange::Keep));
    // Nor does it end a departure by refusals.
    let (departed, _) = listed.after(Event::Refused, hour(26));
    assert!(departed.departed.is_some());
    assert_eq!(departed.after(Event::InList, hour(27)), (departed, PollChange::Keep));
}

#[test]
fn a_departure_keeps_its_time_and_reason_and_is_reported_once() {
    let (missing, _) = after(Source::Synced, &[(Event::InList, 0), (Event::NotInList, 1), (Event::NotInList, 30)]);
    let (reported, _) = missing.after(Event::DepartureReported, hour(31));
    assert_eq!((missing.departure_reported_at, reported.departure_reported_at), (None, Some(hour(31))));
    let (refused, _) = reported.after(Event::Refused, hour(32));
    let (again, polls) = refused.after(Event::Refused, hour(33));
    assert_eq!((again, polls), (refused, PollChange::Rarely));
    assert_eq!(again.departed, Some((hour(30), DepartureReason::Missing)));
    assert_eq!(refused.after(Event::Responded, hour(33)).0, reported, "the refusals are not in a row any more");
    assert_eq!(
        reported.after(Event::InList, hour(34)).0.departure_reported_at,
        Some(hour(31)),
        "not told twice before it responds"
    );
    // Of one that has returned meanwhile there is nothing to report.
    let (back, _) = missing.after(Event::InList, hour(31));
    assert_eq!(back.after(Event::DepartureReported, hour(32)).0, back);
}

#[test]
fn a_list_without_a_customer_that_none_had_says_nothing() {
    let (manual, polls) = after(Source::Manual, &[(Event::NotInList, 0), (Event::NotInList, 48)]);
    assert_eq!((manual, polls), (Membership::new(Source::Manual), PollChange::Keep));
}

#[test]
fn a_clock_that_was_set_back_begins_the_day_again() {
    let (missing, _) = after(Source::Synced, &[(Event::InList, 0), (Event::NotInList, 100), (Event::NotInList, 40)]);
    assert_eq!((missing.in_list, missing.departed), (InList::MissingSince(hour(40)), None));
}

#[test]
fn two_refusals_in_a_row_are_a_departure_until_the_next_response() {
    let (refused, polls) = after(Source::Manual, &[(Event::Refused, 0), (Event::Responded, 1), (Event::Refused, 2)]);
    assert_eq!((refused.departed, polls), (None, PollChange::Keep));
    let (departed, polls) = refused.after(Event::Refused, hour(3));
    assert_eq!(departed.departed, Some((hour(3), DepartureReason::Refused)));
    assert_eq!(polls, PollChange::Rarely);
    let (reported, _) = departed.after(Event::DepartureReported, hour(4));
    assert_eq!(reported.after(Event::Responded, hour(5)).0, Membership::new(Source::Manual));
    // Given up, and then understood by a poll that was under way.
    let (given_up, _) = reported.after(Event::GivenUp, hour(5));
    assert_eq!(given_up.after(Event::Responded, hour(6)).0, Membership::new(Source::Manual));
}

#[test]
fn one_that_was_refused_and_given_up_is_a_customer_again_when_a_list_has_it_for_the_first_time() {
    let events = [(Event::Refused, 0), (Event::Refused, 1), (Event::GivenUp, 2), (Event::InList, 3)];
    let (back, polls) = after(Source::Manual, &events);
    assert_eq!((back.departed, back.polling, polls), (None, Polling::Active, PollChange::Anew));
}

#[test]
fn adding_by_hand_keeps_a_first_refusal_and_ends_a_departure() {
    let (refused, polls) = after(Source::Synced, &[(Event::Refused, 0), (Event::AddedByHand, 1)]);
    assert_eq!((refused.source, refused.refused_since, polls), (Source::Manual, Some(hour(0)), PollChange::Keep));
    let (departed, _) = refused.after(Event::Refused, hour(2));
    assert_eq!(departed.after(Event::AddedByHand, hour(3)), (Membership::new(Source::Manual), PollChange::Anew));
}

#[test]
fn only_a_person_ends_a_persons_pause() {
    let events = [(Event::InList, 0), (Event::NotInList, 1), (Event::NotInList, 30), (Event::GivenUp, 31)];
    let (given_up, _) = after(Source::Synced, &events);
    assert_eq!(given_up.after(Event::InList, hour(32)).0.polling, Polling::Active);
    assert_eq!(given_up.after(Event::Resumed, hour(32)).1, PollChange::Anew);
    let (paused, _) = given_up.after(Event::Paused, hour(33));
    for event in [Event::InList, Event::AddedByHand, Event::Responded, Event::GivenUp, Event::Paused] {
        assert_eq!(paused.after(event, hour(34)).0.polling, Polling::PausedAt(hour(33)), "{event:?}");
    }
    let (paused, _) = after(Source::Manual, &[(Event::Paused, 0)]);
    assert_eq!(paused.after(Event::Resumed, hour(1)), (Membership::new(Source::Manual), PollChange::Now));
}

fn event() -> impl Strategy<Value = Event> {
    prop::sample::select(vec![
        Event::AddedByHand,
        Event::InList,
        Event::NotInList,
        Event::Refused,
        Event::Responded,
        Event::DepartureReported,
        Event::GivenUp,
        Event::Paused,
        Event::Resumed,
        Event::Removed,
    ])
}

proptest! {
    #[test]
    fn whatever_happens_a_customer_is_never_stuck(
        events in prop::collection::vec((event(), 0_u32..200), 0..40),
        manual in any::<bool>(),
    ) {
        let mut membership = Membership::new(if manual { Source::Manual } else { Source::Synced });
        let mut refusals = 0;
        for (event, at) in events {
            let before = membership;
            let polls;
            (membership, polls) = before.after(event, hour(at));
            refusals = match event {
                Event::Refused => refusals + 1,
                Event::Responded => 0,
                _ => refusals,
            };
            // An event that is repeated changes nothing, but for a second refusal or list without the customer.
            if !matches!(event, Event::Refused | Event::NotInList) {
                prop_assert_eq!(membership.after(event, hour(at)).0, membership);
            }
            // Removal is final; nothing else removes or pauses.
            match membership.polling {
                _ if matches!(before.polling, Polling::RemovedAt(_)) => prop_assert_eq!((membership, polls), (before, PollChange::Keep)),
                Polling::RemovedAt(_) => prop_assert_eq!(event, Event::Removed),
                Polling::PausedAt(_) => prop_assert!(event == Event::Paused || membership.polling == before.polling),
                Polling::GivenUpAt(_) => prop_assert!(membership.departed.is_some()),
                Polling::Active => {}
            }
            // Departed: refused twice in a row, or missing for a day.
            if let (None, Some((_, reason))) = (before.departed, membership.departed) {
                match reason {
                    DepartureReason::Refused => prop_assert!(refusals >= 2),
                    DepartureReason::Missing => {
                        let InList::MissingSince(since) = membership.in_list else { panic!("{membership:?}") };
                        prop_assert!(hour(at).since(since) >= MIN_MISSING);
                    }
                }
                prop_assert!(matches!(polls, PollChange::Rarely | PollChange::RarelyOnceConfirmed));
            }
            // One that returns is polled anew, unless the response itself was the return.
            if before.departed.is_some() && membership.departed.is_none() {
                prop_assert!(event == Event::Responded || polls == PollChange::Anew);
            }
        }
        // A list that has it again and a response end every departure.
        let back = membership.after(Event::InList, hour(300)).0.after(Event::Responded, hour(301)).0;
        if !matches!(back.polling, Polling::RemovedAt(_) | Polling::PausedAt(_)) {
            prop_assert_eq!(back.refused_since, None);
            if membership.in_list != InList::Present {
                prop_assert_eq!((back.departed, back.polling), (None, Polling::Active));
            }
        }
    }
}

use uuid::Uuid;

use super::*;
use crate::calendar::Calendar;
use crate::message::sample;
use crate::quiet_hours::parse_hours;

const MINUTE: Duration = Duration::from_mins(1);

fn at(time: &str) -> Timestamp {
    serde_json::from_value(format!("2026-11-20T{time}:00.000Z").into()).unwrap()
}

fn event(kind: EventType) -> Event {
    sample::event(kind, Uuid::nil(), "emea", at("12:00"))
}

fn vetting(change: impl FnOnce(&mut VettingChange)) -> Event {
    let mut event = event(EventType::Denied);
    let EventPayload::Vetting(vetting) = &mut event.data.subject else { panic!("not of a customer") };
    change(vetting);
    event
}

fn route(name: &str, events: &[EventType], endpoints: &[&str]) -> Route {
    Route {
        name: name.to_owned(),
        filter: Filter { events: events.to_vec(), ..Filter::default() },
        endpoints: endpoints.iter().map(|name| (*name).to_owned()).collect(),
        ..Route::default()
    }
}

/// `ops`, `mail` and `customer` are read by people, `crm` is a program.
fn routes(routes: Vec<Route>) -> Routes {
    let people = EndpointProfile { max_events: 50, people: true, ..EndpointProfile::default() };
    let profiles = [
        ("ops", people.clone()),
        ("mail", EndpointProfile { contact: ContactPolicy::Beside, ..people.clone() }),
        ("customer", EndpointProfile { contact: ContactPolicy::Only, ..people }),
        ("crm", EndpointProfile { max_events: 100, ..EndpointProfile::default() }),
    ];
    Routes {
        routes,
        operators: ["ops", "crm", "ops"].map(str::to_owned).to_vec(),
        profiles: profiles.map(|(name, profile)| (name.to_owned(), profile)).into(),
        ..Routes::default()
    }
}

fn targets<'r>(routes: &'r Routes, event: &Event, contact: Option<&str>) -> Vec<Target<'r>> {
    routes.targets_for(&RoutingInput::from(event), contact, at("12:00"))
}

fn names(routes: &Routes, event: &Event, contact: Option<&str>) -> String {
    targets(routes, event, contact).iter().map(|target| target.endpoint).collect::<Vec<_>>().join(" ")
}

fn quiet(hours: &str) -> QuietHours {
    QuietHours { hours: Some(parse_hours(hours).unwrap()), working_days_only: false, calendar: Calendar::default() }
}

#[test]
fn operators_get_what_is_for_them_and_what_no_route_takes_unless_it_is_opt_in() {
    let both = &[EventType::Denied, EventType::PartnerFailing];
    let routes = routes(vec![route("north", both, &["mail"])]);
    assert_eq!(routes.operators(), ["ops", "crm"]);
    assert_eq!(names(&routes, &event(EventType::PartnerFailing), None), "ops crm mail");
    assert_eq!(names(&routes, &event(EventType::PartnerRecovered), None), "ops crm");
    assert_eq!(names(&routes, &event(EventType::Denied), None), "mail");
    assert_eq!(names(&routes, &event(EventType::Approved), None), "ops crm");
    assert_eq!(names(&routes, &event(EventType::Submitted), None), "");
    let operators = targets(&routes, &event(EventType::Approved), None);
    assert!(operators.iter().all(|target| target.why == "operators" && target.quiet.is_none()));
    assert_eq!(operators[0].group.as_deref(), Some("operators"), "people get a digest");
    assert_eq!((operators[1].group.as_deref(), operators[1].max_events), (None, 100));
    assert_eq!(routes.direct_target("gone", String::new(), String::new()).max_events, 1);
}

#[test]
fn a_contact_is_written_to_where_the_endpoint_says_so() {
    let all = routes(vec![route("all", &[EventType::Denied], &["mail", "customer", "crm"])]);
    let recipients = |contact: Option<&str>| {
        let targets = targets(&all, &event(EventType::Denied), contact);
        let each =
            targets.iter().map(|target| format!("{} {}", target.endpoint, target.recipient.as_deref().unwrap_or("-")));
        each.collect::<Vec<_>>()
    };
    let it = "it@school.example";
    assert_eq!(recipients(Some(it)), [format!("mail {it}"), format!("customer {it}"), "crm -".to_owned()]);
    assert_eq!(recipients(None), ["mail -", "crm -"]);
    // Nobody else would get it.
    let only = routes(vec![route("all", &[EventType::Denied], &["customer"])]);
    assert_eq!(names(&only, &event(EventType::Denied), None), "ops crm");
}

#[test]
fn of_several_routes_to_an_endpoint_the_earliest_counts_and_all_are_named() {
    let slow = Route { group_wait: Some(10 * MINUTE), ..route("slow", &[EventType::Denied], &["mail"]) };
    let fast = Route { group_wait: Some(5 * MINUTE), ..route("fast", &[EventType::Denied], &["mail"]) };
    for order in [[slow.clone(), fast.clone()], [fast.clone(), slow]] {
        let why = format!("{}, {}", order[0].name, order[1].name);
        let routes = routes(order.to_vec());
        let targets = targets(&routes, &event(EventType::Denied), None);
        assert_eq!(targets.len(), 1);
        assert_eq!((targets[0].due_at(at("12:00")), &targets[0].why), (at("12:05"), &why));
    }
    // Of two that are due at once, the first.
    let by_event = Route { group_by: vec![GroupBy::Event], ..fast.clone() };
    let both = routes(vec![by_event, fast.clone()]);
    let group = targets(&both, &event(EventType::Denied), None).remove(0).group.unwrap();
    assert!(group.contains("vetting.denied"), "{group}");
    // Of two that are due at once, the one without quiet hours: they could begin meanwhile.
    let night = Route { quiet: Some(quiet("18:00-07:00")), ..fast.clone() };
    for order in [vec![night.clone(), fast.clone()], vec![fast, night.clone()]] {
        assert_eq!(targets(&routes(order), &event(EventType::Denied), None)[0].quiet, None);
    }
    let routes = routes(vec![night]);
    let target = &targets(&routes, &event(EventType::Denied), None)[0];
    assert_eq!(target.due_at(at("17:54")), at("17:59"));
    assert_eq!(target.due_at(at("17:55")), at("18:00").after(13 * 60 * MINUTE), "what would be due in quiet hours");
}

#[test]
fn messages_are_shared_by_people_and_where_a_route_waits_unless_it_is_urgent() {
    let shares = |endpoint, group_wait, urgent: &[EventType]| {
        let denied = [EventType::Denied];
        let route = Route { group_wait, urgent: urgent.to_vec(), ..route("a", &denied, &[endpoint]) };
        let routes = routes(vec![route]);
        let target = targets(&routes, &event(EventType::Denied), None).remove(0);
        (target.group.is_some(), target.group_wait)
    };
    let wait = Some(5 * MINUTE);
    assert_eq!(shares("ops", None, &[]), (true, None));
    assert_eq!(shares("crm", None, &[]), (false, None));
    assert_eq!(shares("crm", wait, &[]), (true, wait));
    assert_eq!(shares("ops", Some(Duration::ZERO), &[]), (false, None));
    assert_eq!(shares("ops", wait, &[EventType::Denied]), (false, None));
    assert_eq!(shares("ops", wait, &[EventType::Approved]), (true, wait));
}

#[test]
fn events_that_differ_in_what_a_route_groups_by_share_no_message() {
    let usual = event(EventType::Denied);
    let group = |by: &[GroupBy], event: &Event, contact: Option<&str>| {
        let route = Route { group_by: by.to_vec(), ..route("a", &[event.kind], &["mail"]) };
        let routes = routes(vec![route]);
        targets(&routes, event, contact).remove(0).group.unwrap()
    };
    let other_partner = sample::event(EventType::Denied, Uuid::nil(), "apac", at("12:00"));
    for (by, other) in [
        (GroupBy::Event, event(EventType::Revoked)),
        (GroupBy::Partner, other_partner),
        (GroupBy::Qualification, vetting(|it| it.qualification = "Nonprofit".to_owned())),
        (GroupBy::Outcome, vetting(|it| it.to = Some("absent".to_owned()))),
        (GroupBy::Customer, vetting(|it| it.customer.id = "another".to_owned())),
        (GroupBy::Reason, vetting(|it| it.vetting_reason = None)),
        (GroupBy::Tags, vetting(|it| it.customer.tags = vec!["a-tag-of-its-own".to_owned()])),
    ] {
        assert_ne!(group(&[by], &usual, None), group(&[by], &other, None), "{by:?}");
        assert_eq!(group(&[], &usual, None), group(&[], &other, None), "{by:?}");
    }
    assert_ne!(group(&[], &usual, Some("it@school.example")), group(&[], &usual, None), "nobody reads another's news");
}

#[test]
fn only_what_every_route_defers_is_deferred() {
    let denied = [EventType::Denied];
    let night = Route { quiet: Some(quiet("18:00-07:00")), ..route("night", &denied, &["mail"]) };
    let late = Route { quiet: Some(quiet("19:00-06:00")), ..route("late", &denied, &["mail"]) };
    let until = |all: Vec<Route>, time| routes(all).deferred_until(&event(EventType::Denied), "mail", at(time));
    assert_eq!(until(vec![night.clone()], "20:00"), Some(at("07:00").after(24 * 60 * MINUTE)));
    assert_eq!(until(vec![night.clone(), late.clone()], "20:00"), Some(at("06:00").after(24 * 60 * MINUTE)));
    assert_eq!(until(vec![night.clone(), late], "18:30"), None, "the other one would send");
    assert_eq!(until(vec![night.clone(), route("b", &denied, &["mail"])], "20:00"), None);
    assert_eq!(until(vec![night.clone()], "12:00"), None);
    assert_eq!(until(vec![], "20:00"), None, "no route any more");
    // Other endpoints' routes, and those of other events, say nothing.
    let elsewhere = [route("b", &denied, &["crm"]), route("c", &[EventType::Approved], &["mail"])];
    assert!(until([vec![night.clone()], elsewhere.to_vec()].concat(), "20:00").is_some());
    let urgent = Route { urgent: denied.to_vec(), ..night.clone() };
    assert_eq!(until(vec![urgent], "20:00"), None);

    assert!(routes(vec![route("b", &denied, &["crm"]), night]).any_quiet_hours());
    assert!(!routes(vec![route("b", &denied, &["crm"])]).any_quiet_hours());
}

#[test]
fn what_a_route_delays_is_said_in_words() {
    let plain = route("a", &[EventType::Denied], &["mail"]);
    assert_eq!(plain.delay_summary(), None);
    assert_eq!(Route { urgent: vec![EventType::Denied], ..plain.clone() }.delay_summary(), None);
    let never = Route { group_wait: Some(Duration::ZERO), ..plain.clone() };
    assert_eq!(never.delay_summary().as_deref(), Some("never gathers"));
    let all = Route {
        group_wait: Some(5 * MINUTE),
        quiet: Some(quiet("18:00-07:00")),
        urgent: vec![EventType::Revoked, EventType::Vanished],
        ..plain
    };
    assert_eq!(
        all.delay_summary().as_deref(),
        Some("gathers for 5m; quiet 18:00-07:00 (UTC); except vetting.revoked, vetting.vanished")
    );
}

fn patterns(words: &[&str]) -> Patterns {
    Patterns::of(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn a_filter_names_the_first_condition_that_is_not_met() {
    let mismatch = |filter: Filter, event: &Event| filter.first_mismatch(&RoutingInput::from(event));
    let denied = || Filter { events: vec![EventType::Denied, EventType::PartnerFailing], ..Filter::default() };
    let school = vetting(|it| {
        it.customer.id = "B1".to_owned();
        it.customer.domain = "school.example".to_owned();
        it.customer.name = "Contoso School".to_owned();
        it.customer.tags = vec!["north".to_owned()];
        it.attempt = 2;
    });
    let no = || patterns(&["no such thing"]);
    assert_eq!(mismatch(denied(), &school), None);
    assert_eq!(mismatch(Filter::default(), &school), Some("events"));
    for (name, filter) in [
        ("partners", Filter { partners: no(), qualifications: no(), ..denied() }),
        ("qualifications", Filter { qualifications: no(), tags: no(), ..denied() }),
        ("outcomes", Filter { outcomes: no(), ..denied() }),
        ("tags", Filter { tags: no(), ..denied() }),
        ("customers", Filter { customers: no(), ..denied() }),
        ("reasons", Filter { reasons: no(), ..denied() }),
        ("attempts", Filter { attempts: vec![1..=1, 3..=u32::MAX], ..denied() }),
    ] {
        assert_eq!(mismatch(filter.clone(), &school), Some(name));
        assert!(!filter.matches(&RoutingInput::from(&school)), "{name}");
    }
    let all = Filter {
        partners: patterns(&["EMEA"]),
        qualifications: patterns(&["education"]),
        outcomes: patterns(&["denied"]),
        tags: patterns(&["south", "north"]),
        reasons: patterns(&["not an education*"]),
        attempts: vec![1..=1, 2..=3],
        ..denied()
    };
    for customer in ["b1", "school.example", "contoso  school"] {
        let filter = Filter { customers: patterns(&[customer]), ..all.clone() };
        assert_eq!(mismatch(filter.clone(), &school), None, "{customer}");
        assert!(filter.matches(&RoutingInput::from(&school)));
    }

    // An alert belongs to no customer, and what it lacks is no condition on it.
    let alert = event(EventType::PartnerFailing);
    let lacking = Filter { qualifications: no(), outcomes: no(), reasons: no(), attempts: vec![9..=9], ..denied() };
    assert_eq!(mismatch(lacking, &alert), None);
    assert_eq!(mismatch(Filter { tags: patterns(&["north"]), ..denied() }, &alert), Some("tags"));
    assert_eq!(mismatch(Filter { customers: patterns(&["*"]), ..denied() }, &alert), Some("customers"));
    assert_eq!(mismatch(Filter { partners: no(), ..denied() }, &alert), Some("partners"));
}

#[test]
fn the_conditions_of_a_filter_are_said_in_words() {
    assert_eq!(Filter { events: vec![EventType::Denied], ..Filter::default() }.conditions(), None);
    let all = Filter {
        partners: patterns(&["emea"]),
        qualifications: patterns(&["Education", "Nonprofit"]),
        tags: patterns(&["!north"]),
        customers: patterns(&["*School*", "*College*", "!*Test*"]),
        attempts: vec![1..=1, 2..=3, 4..=u32::MAX],
        ..Filter::default()
    };
    assert_eq!(
        all.conditions().as_deref(),
        Some(
            "partners: emea, qualifications: Education or Nonprofit, tags: not north, customers: *School* or *College*, not *Test*, attempts: 1 or 2-3 or 4+"
        )
    );
}

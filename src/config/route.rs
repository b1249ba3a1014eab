//! `[[route]]` and `[operators]`: which events go to which endpoints.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostics::Report;
use super::endpoint::Endpoints;
use super::section::Section;
use super::values::{self, did_you_mean, duration, quote, timezone};
use super::{EndpointSettings, http};
use crate::calendar::Calendar;
use crate::delivery::quiet_hours::{self, QuietHours};
use crate::delivery::route::matching::parse_range;
use crate::delivery::route::{Filter, GroupBy, MAX_GROUP_WAIT, Patterns, Route, Routes};
use crate::event::EventType;
use crate::heartbeat::Heartbeat;
use crate::qualification;
use crate::text::short_duration;

/// The documented ones. An open set: others are warned about, not rejected.
const QUALIFICATIONS: &[&str] = &["Education", "GovernmentCommunityCloud", "StateOwnedEntity", "Nonprofit"];

pub(super) fn read(
    root: &mut Section<'_>,
    endpoints: &Endpoints,
    partners: &[String],
    calendar: &Calendar,
) -> (Routes, Option<Heartbeat>) {
    let sections = root.sections("route").into_iter().enumerate();
    let routes = sections.map(|(place, section)| route(section, place, endpoints, partners, calendar));
    let routes: Vec<Route> = routes.collect();
    let given = root.has("operators");
    root.require_or(
        "operators",
        "is missing: add a section [operators], with the endpoints that are told when something fails",
    );
    let mut section = root.section("operators");
    if given {
        section.require(&["endpoints"]);
    }
    let operators = endpoint_list(&mut section, "endpoints", endpoints);
    for name in operators.iter().filter(|name| endpoints.takes_contacts_only(name)) {
        section.problem(
            "endpoints",
            format!("{name} has to_contact and no to: only customers get its mails, never an operator"),
        );
    }
    warn_single_operator(&section, &operators, endpoints);
    let heartbeat = section.secret("heartbeat_url_file").and_then(|secret| {
        let url = http::url_of(&secret);
        url.map_err(|problem| section.problem("heartbeat_url_file", format!("the text in the file {problem}"))).ok()
    });
    let routes =
        Routes { routes, operators, profiles: endpoints.profiles.clone(), zone: calendar.zone, public_url: None };
    (routes, heartbeat.map(Heartbeat))
}

fn route(
    mut section: Section<'_>,
    place: usize,
    endpoints: &Endpoints,
    partners: &[String],
    calendar: &Calendar,
) -> Route {
    section.require(&["events", "endpoints"]);
    let name = section.parsed("name", values::name).unwrap_or_else(|| (place + 1).to_string());
    let events = event_types(&mut section, "events");
    if section.has("events") && events.is_empty() {
        section.non_empty_strings("events");
    }
    for key in ["partners", "qualifications", "outcomes", "tags", "customers", "reasons", "attempts"] {
        section.no_empty_list(key);
    }
    let filter = Filter {
        partners: Patterns::of(known_partners(&mut section, partners)),
        qualifications: Patterns::of(qualifications(&mut section)),
        outcomes: Patterns::of(outcomes(&mut section)),
        tags: Patterns::of(section.strings("tags")),
        customers: Patterns::of(section.strings("customers")),
        reasons: Patterns::of(section.strings("reasons")),
        attempts: attempts(&mut section),
        events,
    };
    let group_by = group_by(&mut section);
    let urgent = event_types(&mut section, "urgent");
    for event in urgent.iter().filter(|event| !filter.events.contains(event)) {
        section.problem("urgent", format!("{event} is not among the events of this route"));
    }
    let group_wait = section.parsed("group_wait", group_wait);
    let quiet = quiet(&mut section, calendar);
    if !urgent.is_empty() && quiet.is_none() && group_wait.is_none_or(|wait| wait.is_zero()) {
        section.warning("urgent", "has no effect: the route has neither quiet_hours nor group_wait");
    }
    Route {
        name: format!("route {name}"),
        endpoints: endpoint_list(&mut section, "endpoints", endpoints),
        filter,
        group_wait,
        group_by,
        quiet,
        urgent,
    }
}

fn event_types(section: &mut Section<'_>, key: &'static str) -> Vec<EventType> {
    let names = section.non_empty_strings(key);
    let mut events = Vec::new();
    for (index, name) in names.iter().enumerate() {
        // `vetting.*`
        let family = name.strip_suffix('*').filter(|family| family.ends_with('.'));
        let meant: Vec<EventType> = match family {
            Some(family) => EventType::ALL.iter().copied().filter(|event| event.as_str().starts_with(family)).collect(),
            None => EventType::parse(name).into_iter().filter(|event| event.is_routed()).collect(),
        };
        if meant.is_empty() {
            let suggestion = if name == EventType::Summary.as_str() {
                " for routes: [summary] says where it goes".to_owned()
            } else if name == "*" {
                "; vetting.* and monitor.* are all of a kind".to_owned()
            } else {
                did_you_mean(name, EventType::ALL.iter().map(|event| event.as_str()))
            };
            section.problem(&format!("{key}[{index}]"), format!("there is no event {}{suggestion}", quote(name)));
        }
        events.extend(meant);
    }
    events
}

fn qualifications(section: &mut Section<'_>) -> Vec<String> {
    let names = section.strings("qualifications");
    for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.contains('*')) {
        let plain = name.trim_start_matches('!');
        if !QUALIFICATIONS.iter().any(|known| qualification::key(known) == qualification::key(plain)) {
            let suggestion = did_you_mean(plain, QUALIFICATIONS.iter().copied());
            let text = format!("Partner Center documents no qualification {}{suggestion}", quote(plain));
            section.warning(&format!("qualifications[{index}]"), text);
        }
    }
    names
}

/// A status that nobody documented may come; a misspelt one never does.
fn outcomes(section: &mut Section<'_>) -> Vec<String> {
    const KNOWN: [&str; 4] = ["Approved", "Denied", "InReview", "absent"];
    let words = section.strings("outcomes");
    for (index, word) in words.iter().enumerate().filter(|(_, word)| !word.contains('*')) {
        let plain = word.trim_start_matches('!');
        if !KNOWN.iter().any(|known| qualification::key(known) == qualification::key(plain)) {
            let suggestion = did_you_mean(plain, KNOWN);
            let text = format!("Partner Center documents no status {}{suggestion}", quote(plain));
            section.warning(&format!("outcomes[{index}]"), text);
        }
    }
    words
}

fn attempts(section: &mut Section<'_>) -> Vec<RangeInclusive<u32>> {
    let words = section.scalar_list("attempts");
    let read = words.iter().enumerate().filter_map(|(index, word)| {
        let attempts = parse_range(word);
        if attempts.is_none() {
            let text = format!("{} is not an attempt such as 1, 2-3 or 3+", quote(word));
            section.problem(&format!("attempts[{index}]"), text);
        }
        attempts
    });
    read.collect()
}

/// Reads `group_by`: events that differ in one of these do not share a message.
fn group_by(section: &mut Section<'_>) -> Vec<GroupBy> {
    const WORDS: [(&str, GroupBy); 7] = [
        ("event", GroupBy::Event),
        ("partner", GroupBy::Partner),
        ("qualification", GroupBy::Qualification),
        ("outcome", GroupBy::Outcome),
        ("customer", GroupBy::Customer),
        ("reason", GroupBy::Reason),
        ("tags", GroupBy::Tags),
    ];
    let words = section.strings("group_by");
    let read = words.iter().enumerate().filter_map(|(index, word)| {
        let by = WORDS.iter().find(|(known, _)| known == word).map(|(_, by)| *by);
        if by.is_none() {
            let suggestion = did_you_mean(word, WORDS.iter().map(|(known, _)| *known));
            let all = WORDS.map(|(known, _)| known).join(", ");
            section.problem(&format!("group_by[{index}]"), format!("{} is not one of {all}{suggestion}", quote(word)));
        }
        by
    });
    read.collect()
}

/// Zero is allowed: then every event is sent by itself.
fn group_wait(text: &str) -> Result<Duration, String> {
    if humantime::parse_duration(text) == Ok(Duration::ZERO) {
        return Ok(Duration::ZERO);
    }
    match duration(text)? {
        wait if wait > MAX_GROUP_WAIT => {
            Err(format!("{} is too long; the longest is {}", short_duration(wait), short_duration(MAX_GROUP_WAIT)))
        }
        wait => Ok(wait),
    }
}

fn quiet(section: &mut Section<'_>, calendar: &Calendar) -> Option<QuietHours> {
    let zone = section.parsed("timezone", timezone);
    let hours = section.parsed("quiet_hours", |text| {
        quiet_hours::parse_hours(text).map_err(|problem| format!("{} {problem}", quote(text)))
    });
    let working_days_only = section.boolean("working_days_only");
    if hours.is_none() && !working_days_only {
        if zone.is_some() {
            section.warning("timezone", "has no effect: the route has no quiet_hours");
        }
        return None;
    }
    let zone = zone.unwrap_or(calendar.zone);
    Some(QuietHours { hours, working_days_only, calendar: Calendar { zone, ..calendar.clone() } })
}

/// Reads a list of endpoints: present, not empty, and all of them exist.
pub(super) fn endpoint_list(section: &mut Section<'_>, key: &'static str, endpoints: &Endpoints) -> Vec<String> {
    let listed = section.non_empty_strings(key);
    let is_unknown = |name: &String| !endpoints.is_one_unnamed && !endpoints.names.contains(name);
    for (index, name) in listed.iter().enumerate().filter(|(_, name)| is_unknown(name)) {
        let suggestion = if name.contains(',') {
            ": each endpoint is an entry of its own".to_owned()
        } else {
            did_you_mean(name, endpoints.names.iter().map(String::as_str))
        };
        section.problem(&format!("{key}[{index}]"), format!("there is no endpoint {}{suggestion}", quote(name)));
    }
    listed
}

fn known_partners(section: &mut Section<'_>, names: &[String]) -> Vec<String> {
    let listed = section.strings("partners");
    for (index, name) in listed.iter().enumerate() {
        let plain = name.trim_start_matches('!');
        if !plain.contains('*') && !names.iter().any(|known| qualification::key(known) == qualification::key(plain)) {
            let suggestion = did_you_mean(plain, names.iter().map(String::as_str));
            section.problem(&format!("partners[{index}]"), format!("there is no partner {}{suggestion}", quote(plain)));
        }
    }
    listed
}

/// Warns if the operators have one endpoint only: its failure would go unnoticed.
fn warn_single_operator(section: &Section<'_>, operators: &[String], endpoints: &Endpoints) {
    // A misspelt one is not missing as well.
    if operators.iter().any(|name| !endpoints.names.contains(name)) {
        return;
    }
    let ways: HashSet<&String> = operators.iter().collect();
    let servers: Option<HashSet<&String>> = ways.iter().map(|name| endpoints.servers.get(*name)).collect();
    if ways.len() == 1 {
        section.warning(
            "endpoints",
            "names one endpoint only: when that fails, nobody is told. Add one that does not depend on it",
        );
    } else if let Some(server) = servers.filter(|servers| servers.len() == 1).into_iter().flatten().next() {
        let text = format!(
            "all use the mail server {}: when that fails, nobody is told. Add one that does not depend on it",
            quote(server)
        );
        section.warning("endpoints", text);
    }
}

/// Warns about events that are routed by default only, and endpoints that get none.
pub(super) fn warn_unrouted(report: &Report, routes: &Routes, endpoints: &[EndpointSettings]) {
    let taken: HashSet<EventType> =
        routes.routes.iter().flat_map(|route| route.filter.events.iter().copied()).collect();
    let meant =
        EventType::ALL.iter().filter(|event| event.is_routed() && !event.is_for_operators() && !event.is_opt_in());
    let untaken: Vec<&str> = meant.filter(|event| !taken.contains(event)).map(|event| event.as_str()).collect();
    if !untaken.is_empty() {
        report.warning("route".to_owned(), format!("no route takes {}: the operators get them", untaken.join(", ")));
    }
    let stands_in = routes.profiles.values().filter_map(|way| Some(&way.fallback.as_ref()?.endpoint));
    let used: HashSet<&String> =
        routes.routes.iter().flat_map(|route| &route.endpoints).chain(&routes.operators).chain(stands_in).collect();
    for (n, _) in endpoints.iter().enumerate().filter(|(_, endpoint)| !used.contains(&endpoint.name)) {
        let text = "is never used: neither a route, nor a fallback, nor [operators] names it";
        report.warning(format!("endpoint[{n}]"), text);
    }
}

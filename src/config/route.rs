//! `[[route]]` and `[operators]`: who is told.

use std::collections::HashSet;
use std::time::Duration;

use super::endpoint::Endpoints;
use super::http;
use super::section::{Section, did_you_mean, duration, shown};
use crate::delivery::route::{Route, Routes};
use crate::event::EventType;
use crate::heartbeat::Heartbeat;
use crate::qualification;

/// What Partner Center's documentation lists. An open set: others are a doubt, not a problem.
const QUALIFICATIONS: &[&str] = &["Education", "GovernmentCommunityCloud", "StateOwnedEntity", "Nonprofit"];

pub(super) fn read(root: &mut Section<'_>, endpoints: &Endpoints, partners: &[String]) -> (Routes, Option<Heartbeat>) {
    let sections = root.sections("route");
    let routes: Vec<Route> = sections.into_iter().map(|section| route(section, &endpoints.names, partners)).collect();
    let given = root.has("operators");
    root.demand_with("operators", "is missing: [operators] names the endpoints that hear of trouble");
    let mut section = root.section("operators");
    if given {
        section.demand(&["endpoints"]);
    }
    let operators = known(&mut section, "endpoints", &endpoints.names);
    doubt(&section, &operators, endpoints);
    let heartbeat = section.secret("heartbeat_url_file").and_then(|secret| {
        let url = http::url_of(&secret);
        url.map_err(|problem| section.problem("heartbeat_url_file", format!("the URL in the file {problem}"))).ok()
    });
    let routes = Routes { routes, operators };
    left_over(root, &routes, &endpoints.names);
    (routes, heartbeat.map(Heartbeat))
}

fn route(mut section: Section<'_>, endpoints: &[String], partners: &[String]) -> Route {
    section.demand(&["events", "endpoints"]);
    let names = section.some_strings("events");
    let mut events = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if let Some(event) = EventType::parse(name) {
            events.push(event);
        } else {
            let suggestion = did_you_mean(name, EventType::ALL.iter().map(|event| event.as_str()));
            section.problem(&format!("events[{index}]"), format!("{} is no event{suggestion}", shown(name)));
        }
    }
    let qualifications = section.strings("qualifications");
    for (index, name) in qualifications.iter().enumerate() {
        if !QUALIFICATIONS.iter().any(|known| qualification::key(known) == qualification::key(name)) {
            let suggestion = did_you_mean(name, QUALIFICATIONS.iter().copied());
            let text = format!("Partner Center's documentation knows no {}{suggestion}", shown(name));
            section.warning(&format!("qualifications[{index}]"), text);
        }
    }
    group_wait(&mut section);
    section.unsupported("quiet_hours", "leave it out");
    Route {
        events,
        endpoints: known(&mut section, "endpoints", endpoints),
        partners: known_partners(&mut section, partners),
        qualifications,
        tags: section.strings("tags"),
        group_wait: Duration::ZERO,
    }
}

/// Zero is the default and the only one that can be kept yet.
fn group_wait(section: &mut Section<'_>) {
    let wait = section.parsed("group_wait", |text| match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Ok(Duration::ZERO),
        _ => duration(text),
    });
    if wait.is_some_and(|wait| !wait.is_zero()) {
        section.problem("group_wait", "is not supported by this version yet; leave it out");
    }
}

/// A list of endpoints that is there, is not empty and names only those that exist.
fn known(section: &mut Section<'_>, key: &'static str, names: &[String]) -> Vec<String> {
    let listed = section.some_strings(key);
    for (index, name) in listed.iter().enumerate().filter(|(_, name)| !names.contains(name)) {
        let suggestion = did_you_mean(name, names.iter().map(String::as_str));
        section.problem(&format!("{key}[{index}]"), format!("there is no endpoint {}{suggestion}", shown(name)));
    }
    listed
}

fn known_partners(section: &mut Section<'_>, names: &[String]) -> Vec<String> {
    let listed = section.strings("partners");
    for (index, name) in listed.iter().enumerate() {
        if !names.iter().any(|known| qualification::key(known) == qualification::key(name)) {
            let suggestion = did_you_mean(name, names.iter().map(String::as_str));
            section.problem(&format!("partners[{index}]"), format!("there is no partner {}{suggestion}", shown(name)));
        }
    }
    listed
}

/// Trouble with the only way to the operators is trouble that nobody hears of.
fn doubt(section: &Section<'_>, operators: &[String], endpoints: &Endpoints) {
    let ways: HashSet<&String> = operators.iter().filter(|name| endpoints.names.contains(name)).collect();
    let servers: Option<HashSet<&String>> = ways.iter().map(|name| endpoints.servers.get(*name)).collect();
    if ways.len() == 1 {
        section.warning(
            "endpoints",
            "is one endpoint only: when it fails, nobody hears of it; better two that fail apart",
        );
    } else if let Some(server) = servers.filter(|servers| servers.len() == 1).into_iter().flatten().next() {
        let text = format!("all hang on the mail server {}: when it fails, nobody hears of it", shown(server));
        section.warning("endpoints", text);
    }
}

/// What reaches somebody by default only, or nobody.
fn left_over(root: &Section<'_>, routes: &Routes, endpoints: &[String]) {
    let taken: HashSet<EventType> = routes.routes.iter().flat_map(|route| route.events.iter().copied()).collect();
    let meant = EventType::ALL.iter().filter(|event| !event.is_for_operators() && !event.is_quiet());
    let untaken: Vec<&str> = meant.filter(|event| !taken.contains(event)).map(|event| event.as_str()).collect();
    if !untaken.is_empty() {
        root.warning("route", format!("no route takes {}: the operators get them", untaken.join(", ")));
    }
    let told: HashSet<&String> =
        routes.routes.iter().flat_map(|route| &route.endpoints).chain(&routes.operators).collect();
    for name in endpoints.iter().filter(|name| !told.contains(name)) {
        root.warning("endpoint", format!("{name} is never told of anything: neither a route nor [operators] names it"));
    }
}

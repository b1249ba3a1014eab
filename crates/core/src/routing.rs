//! Routing: which endpoints an event is sent to, when, and why. Pure.

pub mod matching;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;

use crate::event::{Event, EventPayload, EventType, VettingChange};
use crate::qualification;
use crate::quiet_hours::QuietHours;
use crate::time::Timestamp;

pub use matching::{Filter, Patterns};

/// The longest `group_wait`.
pub const MAX_GROUP_WAIT: Duration = Duration::from_hours(24);

/// `[[route]]`: sends events that match its filter to its endpoints.
#[derive(Debug, Clone, Default)]
pub struct Route {
    /// `route north`, or by position: `route 2`.
    pub name: String,
    pub filter: Filter,
    pub endpoints: Vec<String>,
    /// How long the first event of a group waits for others; `None`: see [`EndpointProfile::people`].
    pub group_wait: Option<Duration>,
    /// Events that differ in one of these do not share a message.
    pub group_by: Vec<GroupBy>,
    pub quiet: Option<QuietHours>,
    /// Events that wait neither for a group nor for quiet hours to end.
    pub urgent: Vec<EventType>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    Event,
    Partner,
    Qualification,
    Outcome,
    Customer,
    Reason,
    Tags,
}

/// What routing needs to know about an endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointProfile {
    /// The most events in one message.
    pub max_events: u32,
    /// People read its messages: bursts become digests. Programs get single events unless a route says otherwise.
    pub people: bool,
    pub contact: ContactPolicy,
    pub fallback: Option<Fallback>,
}

/// Whether the customer's `contact` gets the mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContactPolicy {
    #[default]
    No,
    Beside,
    /// The endpoint has no recipient of its own: it gets no events of a customer without contact.
    Only,
}

/// Where deliveries fail over to that an endpoint has not accepted in time.
#[derive(Debug, Clone)]
pub struct Fallback {
    pub endpoint: String,
    pub after: Duration,
}

/// What a route decides by.
#[derive(Debug, Clone, Copy)]
pub struct RoutingInput<'a> {
    pub event: EventType,
    pub partner: &'a str,
    /// `None` for an event about vetwatch itself.
    pub vetting: Option<&'a VettingChange>,
}

impl<'a> From<&'a Event> for RoutingInput<'a> {
    fn from(event: &'a Event) -> Self {
        let vetting = match &event.data.subject {
            EventPayload::Vetting(change) => Some(&**change),
            EventPayload::Monitor(_) | EventPayload::Summary(_) => None,
        };
        Self { event: event.kind, partner: event.data.partner.as_deref().unwrap_or_default(), vetting }
    }
}

/// An endpoint that an event is sent to.
#[derive(Debug, Clone, PartialEq)]
pub struct Target<'r> {
    pub endpoint: &'r str,
    /// The addresses of the customer's contact, separated by commas.
    pub recipient: Option<String>,
    /// `route north`, `operators`.
    pub why: String,
    pub group_wait: Option<Duration>,
    /// Events of one group may share a message; `None`: a message for each.
    pub group: Option<String>,
    pub max_events: u32,
    pub quiet: Option<&'r QuietHours>,
    /// The endpoint that this one stands in for.
    pub failover_from: Option<&'r str>,
}

impl Target<'_> {
    /// The earliest time of the first attempt.
    #[must_use]
    pub fn due_at(&self, now: Timestamp) -> Timestamp {
        let at = now.after(self.group_wait.unwrap_or_default());
        self.quiet.and_then(|quiet| quiet.until(at)).unwrap_or(at)
    }
}

/// All routes, and the operators' endpoints, which get what no route matches.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    pub routes: Vec<Route>,
    /// Endpoint names.
    pub operators: Vec<String>,
    /// By endpoint name.
    pub profiles: BTreeMap<String, EndpointProfile>,
    /// `[schedule] timezone`: the times that people read are in it.
    pub zone: Tz,
    /// `[web] public_url`, which ends with a slash: messages link to the page there.
    pub public_url: Option<String>,
}

impl Routes {
    /// The endpoints that an event is sent to, each once, in the order of the configuration. An event that no route
    /// matches goes to the operators, unless it is opt-in. If several routes lead to an endpoint, the earliest counts.
    #[must_use]
    pub fn targets_for(&self, input: &RoutingInput<'_>, contact: Option<&str>, now: Timestamp) -> Vec<Target<'_>> {
        let mut targets: Vec<Target<'_>> = Vec::new();
        if input.event.is_for_operators() {
            targets.extend(self.operator_targets());
        }
        for route in self.routes.iter().filter(|route| route.filter.matches(input)) {
            for endpoint in &route.endpoints {
                let Some(new) = self.route_target(route, endpoint, input, contact) else { continue };
                match targets.iter_mut().find(|known| known.endpoint == endpoint) {
                    Some(known) => known.join(new, now),
                    None => targets.push(new),
                }
            }
        }
        if targets.is_empty() && !input.event.is_opt_in() {
            targets.extend(self.operator_targets());
        }
        targets
    }

    /// Until when the routes, as configured now, defer an event that they send to an endpoint.
    #[must_use]
    pub fn deferred_until(&self, event: &Event, endpoint: &str, now: Timestamp) -> Option<Timestamp> {
        let input = RoutingInput::from(event);
        let matching = self
            .routes
            .iter()
            .filter(|route| route.endpoints.iter().any(|name| name == endpoint) && route.filter.matches(&input));
        // `None` if one of them does not defer it (or none matches any more).
        matching.map(|route| route.quiet_for(input.event)?.until(now)).min().flatten()
    }

    /// Whether any route has quiet hours.
    #[must_use]
    pub fn any_quiet_hours(&self) -> bool {
        self.routes.iter().any(|route| route.quiet.is_some())
    }

    /// The target for an endpoint that is chosen by name: for a test, or as a stand-in.
    #[must_use]
    pub fn direct_target<'r>(&'r self, endpoint: &'r str, why: String, group: String) -> Target<'r> {
        let profile = self.profiles.get(endpoint);
        Target {
            endpoint,
            recipient: None,
            why,
            group_wait: None,
            group: profile.filter(|it| it.people).map(|_| group),
            max_events: profile.map_or(1, |profile| profile.max_events),
            quiet: None,
            failover_from: None,
        }
    }

    /// The operators' endpoints, each once.
    #[must_use]
    pub fn operators(&self) -> Vec<String> {
        self.operator_targets().map(|targets| targets.endpoint.to_owned()).collect()
    }

    fn operator_targets(&self) -> impl Iterator<Item = Target<'_>> {
        let mut seen = std::collections::HashSet::new();
        let each = self.operators.iter().filter(move |name| seen.insert(*name));
        each.map(|name| self.direct_target(name, "operators".to_owned(), "operators".to_owned()))
    }

    fn route_target<'r>(
        &'r self,
        route: &'r Route,
        endpoint: &'r str,
        input: &RoutingInput<'_>,
        contact: Option<&str>,
    ) -> Option<Target<'r>> {
        let profile = self.profiles.get(endpoint);
        let recipient = match profile.map(|profile| profile.contact).unwrap_or_default() {
            ContactPolicy::No => None,
            ContactPolicy::Beside => contact.map(str::to_owned),
            ContactPolicy::Only => Some(contact?.to_owned()),
        };
        let urgent = route.urgent.contains(&input.event);
        let group_wait = route.group_wait.filter(|wait| !urgent && !wait.is_zero());
        let shares = group_wait.is_some() || (route.group_wait.is_none() && profile.is_some_and(|it| it.people));
        Some(Target {
            endpoint,
            group: shares.then(|| route.group(input, recipient.as_deref())),
            recipient,
            why: route.name.clone(),
            group_wait,
            max_events: profile.map_or(1, |profile| profile.max_events),
            quiet: route.quiet_for(input.event),
            failover_from: None,
        })
    }
}

impl Route {
    /// What is not sent at once, in words; `None` if everything is, except bursts.
    #[must_use]
    pub fn delay_summary(&self) -> Option<String> {
        let wait = self.group_wait.map(|wait| match wait {
            Duration::ZERO => "never gathers".to_owned(),
            wait => format!("gathers for {}", humantime::format_duration(wait)),
        });
        let quiet = self.quiet.as_ref().map(|quiet| format!("quiet {quiet}"));
        let both: Vec<_> = wait.into_iter().chain(quiet).collect();
        let urgent: Vec<_> = self.urgent.iter().map(|event| event.as_str()).collect();
        let except = if urgent.is_empty() { String::new() } else { format!("; except {}", urgent.join(", ")) };
        (!both.is_empty()).then(|| both.join("; ") + &except)
    }

    fn quiet_for(&self, event: EventType) -> Option<&QuietHours> {
        self.quiet.as_ref().filter(|_| !self.urgent.contains(&event))
    }

    /// What the events of a message have in common.
    fn group(&self, input: &RoutingInput<'_>, recipient: Option<&str>) -> String {
        let change = input.vetting;
        let value = |by: &GroupBy| match by {
            GroupBy::Event => input.event.as_str().to_owned(),
            GroupBy::Partner => input.partner.to_owned(),
            GroupBy::Qualification => change.map(|it| qualification::key(&it.qualification)).unwrap_or_default(),
            GroupBy::Outcome => change.and_then(|it| it.to.as_deref()).map(qualification::key).unwrap_or_default(),
            GroupBy::Customer => change.map(|it| qualification::key(&it.customer.id)).unwrap_or_default(),
            GroupBy::Reason => change.and_then(|it| it.vetting_reason.clone()).unwrap_or_default(),
            GroupBy::Tags => change.map(|it| it.customer.tags.join(",")).unwrap_or_default(),
        };
        let mut values: Vec<String> = self.group_by.iter().map(value).collect();
        values.push(recipient.unwrap_or_default().to_owned());
        serde_json::Value::from(values).to_string()
    }
}

impl Target<'_> {
    /// Merges in another route to the same endpoint.
    fn join(&mut self, other: Self, now: Timestamp) {
        let why = format!("{}, {}", self.why, other.why);
        let order = |target: &Self| (target.due_at(now), target.quiet.is_some());
        if order(&other) < order(self) {
            *self = other;
        }
        self.why = why;
    }
}

#[cfg(test)]
mod tests;

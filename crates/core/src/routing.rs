//! Who is told, when, and why. Pure.

pub mod matching;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::{Event, EventPayload, EventType, VettingChange};
use crate::qualification;
use crate::quiet_hours::QuietHours;
use crate::time::Timestamp;

pub use matching::{Filter, Patterns};

/// News that waits for longer is none.
pub const LONGEST_GROUP_WAIT: Duration = Duration::from_hours(24);

/// `[[route]]`: events that its filter takes go to its endpoints.
#[derive(Debug, Clone, Default)]
pub struct Route {
    /// `route north`, or by its place: `route 2`.
    pub name: String,
    pub filter: Filter,
    pub endpoints: Vec<String>,
    /// How long the first event of a group waits for others; none: nothing waits (but see [`EndpointProfile::people`]).
    pub group_wait: Option<Duration>,
    /// Events that differ in one of these do not share a message.
    pub group_by: Vec<GroupBy>,
    pub quiet: Option<QuietHours>,
    /// These neither wait for others nor for the morning.
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

/// What the routes must know of an endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointProfile {
    /// So many events fit into one message.
    pub most: u32,
    /// People read there: a flood is gathered into digests. What programs read comes one by one unless a route says
    /// otherwise.
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
    /// The endpoint has no recipient of its own: where a customer has no contact, it takes nothing.
    Only,
}

/// Who is told too of what an endpoint has held for too long.
#[derive(Debug, Clone)]
pub struct Fallback {
    pub endpoint: String,
    pub after: Duration,
}

/// What a route looks at.
#[derive(Debug, Clone, Copy)]
pub struct RoutingInput<'a> {
    pub event: EventType,
    pub partner: &'a str,
    /// None: it is news of vetwatch itself.
    pub vetting: Option<&'a VettingChange>,
}

impl<'a> From<&'a Event> for RoutingInput<'a> {
    fn from(event: &'a Event) -> Self {
        let vetting = match &event.data.subject {
            EventPayload::Vetting(news) => Some(&**news),
            EventPayload::Monitor(_) => None,
        };
        Self { event: event.kind, partner: &event.data.partner, vetting }
    }
}

/// One endpoint that is told of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Target<'r> {
    pub endpoint: &'r str,
    /// The customer's contact, as a mail address.
    pub recipient: Option<String>,
    /// `route north`, `operators`.
    pub why: String,
    pub group_wait: Option<Duration>,
    /// Events of one group may share a message; none: each has its own.
    pub group: Option<String>,
    pub most: u32,
    pub quiet: Option<&'r QuietHours>,
}

impl Target<'_> {
    /// When it may be sent first.
    #[must_use]
    pub fn due_at(&self, now: Timestamp) -> Timestamp {
        let at = now.after(self.group_wait.unwrap_or_default());
        self.quiet.and_then(|quiet| quiet.until(at)).unwrap_or(at)
    }
}

/// All routes, and the operators who get what nobody else takes.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    pub routes: Vec<Route>,
    /// Endpoint names.
    pub operators: Vec<String>,
    /// By endpoint name.
    pub ways: BTreeMap<String, EndpointProfile>,
}

impl Routes {
    /// The endpoints that are told, each once, in the order of the configuration. News that no route takes goes to the
    /// operators; changes that nobody asked for go to nobody. Of several routes to an endpoint the soonest counts.
    #[must_use]
    pub fn targets_for(&self, matter: &RoutingInput<'_>, contact: Option<&str>, now: Timestamp) -> Vec<Target<'_>> {
        let mut told: Vec<Target<'_>> = Vec::new();
        if matter.event.is_for_operators() {
            told.extend(self.by_operators());
        }
        for route in self.routes.iter().filter(|route| route.filter.matches(matter)) {
            for endpoint in &route.endpoints {
                let Some(new) = self.by_route(route, endpoint, matter, contact) else { continue };
                match told.iter_mut().find(|known| known.endpoint == endpoint) {
                    Some(known) => known.join(new, now),
                    None => told.push(new),
                }
            }
        }
        if told.is_empty() && !matter.event.is_opt_in() {
            told.extend(self.by_operators());
        }
        told
    }

    /// How long the routes, as they are now, hold an event back from an endpoint that they send it to.
    #[must_use]
    pub fn deferred_until(&self, event: &Event, endpoint: &str, now: Timestamp) -> Option<Timestamp> {
        let matter = RoutingInput::from(event);
        let takers = self
            .routes
            .iter()
            .filter(|route| route.endpoints.iter().any(|name| name == endpoint) && route.filter.matches(&matter));
        // None: one of them does not hold it (or none takes it any more).
        takers.map(|route| route.quiet_for(matter.event)?.until(now)).min().flatten()
    }

    /// Whether any route holds anything back.
    #[must_use]
    pub fn any_quiet_hours(&self) -> bool {
        self.routes.iter().any(|route| route.quiet.is_some())
    }

    /// How an endpoint is told that is asked by its name: of a test, or in another one's place.
    #[must_use]
    pub fn direct_target<'r>(&'r self, endpoint: &'r str, why: String, group: String) -> Target<'r> {
        let way = self.ways.get(endpoint);
        Target {
            endpoint,
            recipient: None,
            why,
            group_wait: None,
            group: way.filter(|way| way.people).map(|_| group),
            most: way.map_or(1, |way| way.most),
            quiet: None,
        }
    }

    /// The operators' endpoints, each once.
    #[must_use]
    pub fn operators(&self) -> Vec<String> {
        self.by_operators().map(|told| told.endpoint.to_owned()).collect()
    }

    fn by_operators(&self) -> impl Iterator<Item = Target<'_>> {
        let mut seen = std::collections::HashSet::new();
        let each = self.operators.iter().filter(move |name| seen.insert(*name));
        each.map(|name| self.direct_target(name, "operators".to_owned(), "operators".to_owned()))
    }

    fn by_route<'r>(
        &'r self,
        route: &'r Route,
        endpoint: &'r str,
        matter: &RoutingInput<'_>,
        contact: Option<&str>,
    ) -> Option<Target<'r>> {
        let way = self.ways.get(endpoint);
        let recipient = match way.map(|way| way.contact).unwrap_or_default() {
            ContactPolicy::No => None,
            ContactPolicy::Beside => contact.map(str::to_owned),
            ContactPolicy::Only => Some(contact?.to_owned()),
        };
        let urgent = route.urgent.contains(&matter.event);
        let group_wait = route.group_wait.filter(|wait| !urgent && !wait.is_zero());
        let shares = group_wait.is_some() || (route.group_wait.is_none() && way.is_some_and(|way| way.people));
        Some(Target {
            endpoint,
            group: shares.then(|| route.group(matter, recipient.as_deref())),
            recipient,
            why: route.name.clone(),
            group_wait,
            most: way.map_or(1, |way| way.most),
            quiet: route.quiet_for(matter.event),
        })
    }
}

impl Route {
    /// What does not go out at once, in words; none: all of it does, but for a flood.
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
    fn group(&self, matter: &RoutingInput<'_>, recipient: Option<&str>) -> String {
        let news = matter.vetting;
        let value = |by: &GroupBy| match by {
            GroupBy::Event => matter.event.as_str().to_owned(),
            GroupBy::Partner => matter.partner.to_owned(),
            GroupBy::Qualification => news.map(|news| qualification::key(&news.qualification)).unwrap_or_default(),
            GroupBy::Outcome => news.and_then(|news| news.to.as_deref()).map(qualification::key).unwrap_or_default(),
            GroupBy::Customer => news.map(|news| qualification::key(&news.customer.id)).unwrap_or_default(),
            GroupBy::Reason => news.and_then(|news| news.vetting_reason.clone()).unwrap_or_default(),
            GroupBy::Tags => news.map(|news| news.customer.tags.join(",")).unwrap_or_default(),
        };
        let mut values: Vec<String> = self.group_by.iter().map(value).collect();
        values.push(recipient.unwrap_or_default().to_owned());
        serde_json::Value::from(values).to_string()
    }
}

impl Target<'_> {
    /// Another route sends it there as well.
    fn join(&mut self, other: Self, now: Timestamp) {
        let why = format!("{}, {}", self.why, other.why);
        let later = |told: &Self| (told.due_at(now), told.quiet.is_some());
        if later(&other) < later(self) {
            *self = other;
        }
        self.why = why;
    }
}

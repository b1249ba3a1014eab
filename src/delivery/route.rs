//! Who is told. Pure.

use std::time::Duration;

use crate::event::EventType;
use crate::qualification;

/// `[[route]]`: events that match all of its lists go to its endpoints. An empty list matches everything.
#[derive(Debug, Clone, Default)]
pub struct Route {
    pub events: Vec<EventType>,
    pub endpoints: Vec<String>,
    pub partners: Vec<String>,
    pub qualifications: Vec<String>,
    pub tags: Vec<String>,
    pub group_wait: Duration,
}

/// What a route looks at.
#[derive(Debug, Clone, Copy)]
pub struct Matter<'a> {
    pub event: EventType,
    pub partner: &'a str,
    pub qualification: Option<&'a str>,
    pub tags: &'a [String],
}

/// All routes, and the operators who get what nobody else takes.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    pub routes: Vec<Route>,
    /// Endpoint names.
    pub operators: Vec<String>,
}

impl Route {
    fn takes(&self, matter: &Matter<'_>) -> bool {
        let named = |list: &[String], name: &str| {
            list.is_empty() || list.iter().any(|known| qualification::key(known) == qualification::key(name))
        };
        self.events.contains(&matter.event)
            && named(&self.partners, matter.partner)
            && matter.qualification.is_none_or(|name| named(&self.qualifications, name))
            && (self.tags.is_empty() || self.tags.iter().any(|tag| matter.tags.contains(tag)))
    }
}

impl Routes {
    /// The endpoints that are told, each once, in the order of the configuration. News that no route takes goes
    /// to the operators; changes that nobody asked for go to nobody.
    #[must_use]
    pub fn endpoints(&self, matter: &Matter<'_>) -> Vec<&str> {
        let mut told: Vec<&str> = Vec::new();
        let taken = self.routes.iter().filter(|route| route.takes(matter)).flat_map(|route| &route.endpoints);
        let operators = &self.operators;
        if matter.event.is_for_operators() {
            told.extend(operators.iter().map(String::as_str));
        }
        told.extend(taken.map(String::as_str));
        if told.is_empty() && !matter.event.is_quiet() {
            told.extend(operators.iter().map(String::as_str));
        }
        let mut seen = std::collections::HashSet::new();
        told.retain(|name| seen.insert(*name));
        told
    }
}

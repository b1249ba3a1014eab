//! `[summary]`: when a summary is sent, and where.

use chrono_tz::Tz;

use super::endpoint::Endpoints;
use super::route::endpoint_list;
use super::schedule::cron;
use super::section::Section;
use crate::backup::Times;

/// `[summary]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummarySettings {
    pub endpoints: Vec<String>,
    pub times: Times,
}

/// Mondays at eight.
pub(super) const SCHEDULE: &str = "0 0 8 * * Mon";

/// Without the section there is none.
pub(super) fn summary(
    root: &mut Section<'_>,
    zone: Tz,
    endpoints: &Endpoints,
    loopback: bool,
) -> Option<SummarySettings> {
    if !root.has("summary") {
        return None;
    }
    let mut section = root.section("summary");
    section.require(&["endpoints"]);
    let schedule = section.parsed("schedule", |text| cron(text, loopback)).unwrap_or_else(|| SCHEDULE.to_owned());
    let endpoints_named = endpoint_list(&mut section, "endpoints", endpoints);
    for name in endpoints_named.iter().filter(|name| endpoints.takes_contacts_only(name)) {
        let text = format!(
            "{name} has to_contact and no to: only customers get its mails, and a summary is about all of them"
        );
        section.problem("endpoints", text);
    }
    Some(SummarySettings { endpoints: endpoints_named, times: Times { schedule, zone } })
}

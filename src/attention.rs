//! What needs a person: the one list of reasons, each with its threshold. `status`, its JSON, its exit code, the alerts
//! and the table in the README are made from it, so they cannot differ.
//!
//! Pure: [`needs`] depends on [`Facts`] only.

pub mod look;

use std::time::Duration;

use chrono_tz::{Tz, UTC};
use serde::Serialize;

use crate::delivery::message::time_format;
use crate::schedule::Intervals;
use crate::schedule::PollClass;
use crate::store::reports::{EndpointState, PartnerState};
use crate::store::waiting::LoneWait;
use crate::store::{ConfigurationState, LargeLog, Refused, UnclearReview};
use crate::text::short_duration;
use crate::time::Timestamp;

use vetwatch_core::descriptors::NONE_LEFT;
pub use vetwatch_core::reason::{Reason, table};

/// `status` lists credentials that expire within this time.
const CREDENTIAL_SOON: Duration = Duration::from_hours(24 * 14);
/// Backoffs in a row without a good response: more than a throttled minute.
const FAILING_AFTER_BACKOFFS: i64 = 2;
/// Of stuck deliveries, and of rejected recipients.
const MAX_NAMES: usize = 10;
/// How long `status` tells of a template that failed.
const TEMPLATE_FAILED_FOR: Duration = Duration::from_hours(24 * 7);
/// The least lateness, however short the interval.
const MIN_LATENESS: Duration = Duration::from_secs(30);

/// Something that needs a person now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    pub reason: Reason,
    /// The partner or the endpoint; empty for vetwatch as a whole.
    pub about: String,
    pub since: Option<Timestamp>,
    /// One sentence, with what to do where it is short.
    pub text: String,
}

#[derive(Debug, Default)]
pub struct Facts {
    /// `None` if this user may not know.
    pub daemon_running: Option<bool>,
    /// Another program holds the database, as far as this user can tell.
    pub database_held: bool,
    /// The `-wal` file is too large.
    pub large_log: Option<LargeLog>,
    /// Those that the configuration names are `true`.
    pub partners: Vec<(PartnerState, bool)>,
    /// Reviews with a status that is not known.
    pub unclear: Vec<UnclearReview>,
    /// Unreadable customers of configured partners.
    pub customers_failing: usize,
    pub late: Vec<Late>,
    /// Those that the configuration names are `true`.
    pub endpoints: Vec<(EndpointState, bool)>,
    pub lone_waits: Vec<LoneWait>,
    pub refused: Vec<Refused>,
    /// The configuration of the daemon.
    pub configuration: Option<ConfigurationState>,
    /// Since when the heartbeat is not accepted, and why.
    pub heartbeat_failing: Option<(Timestamp, String)>,
    /// Since when the daemon cannot listen for `[web]`, and why.
    pub page_failing: Option<(Timestamp, String)>,
}

/// Work that has been due for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    pub reason: Reason,
    pub about: String,
    /// When the oldest became due.
    pub since: Timestamp,
    /// How often such a customer is polled.
    pub interval: Option<Duration>,
    /// Why a backup or the replica failed.
    pub why: Option<String>,
}

/// Since when the oldest due customer waits, if for more than twice its interval, and that interval. Time before
/// `alive_since` does not count.
#[must_use]
pub fn polling_late(
    due: &[(PollClass, Timestamp)],
    intervals: &Intervals,
    alive_since: Timestamp,
    now: Timestamp,
) -> Option<(Timestamp, Duration)> {
    let late = due.iter().filter_map(|(class, due_at)| {
        let (since, interval) = ((*due_at).max(alive_since), intervals.promised(*class));
        (now.since(since) > (interval * 2).max(MIN_LATENESS)).then_some((since, interval))
    });
    late.min()
}

/// Since when the oldest due delivery of an endpoint waits, if too long.
#[must_use]
pub fn delivery_late(due_at: Timestamp, alive_since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let since = due_at.max(alive_since);
    (now.since(since) >= Reason::DeliveryLate.after()).then_some(since)
}

/// Everything that needs a person, in the order of the list.
#[must_use]
pub fn needs(facts: &Facts, now: Timestamp) -> Vec<Need> {
    let mut needs = Vec::new();
    let mut add = |reason, about: &str, since, text: String| {
        needs.push(Need { reason, about: about.to_owned(), since, text });
    };
    if facts.daemon_running == Some(false) {
        let text = "no daemon runs: nothing is polled and nothing is delivered (`systemctl start vetwatch`)";
        add(Reason::NotRunning, "", None, text.to_owned());
    }
    if facts.database_held {
        let text = "another program holds the database, so vetwatch can write nothing: end it";
        add(Reason::DatabaseHeld, "", None, text.to_owned());
    }
    let refused = facts.configuration.as_ref().filter(|_| facts.daemon_running != Some(false));
    if let Some((state, since)) = refused.and_then(|state| Some((state, state.refused_at?))) {
        let text = format!(
            "the configuration file is refused since {}, and that of {} goes on{}: `vetwatch check` names every problem, \
             then `vetwatch reload`",
            time_format::moment(since, UTC),
            state.loaded_at_in_words(),
            state.lines.first().map(|line| format!(" ({line})")).unwrap_or_default()
        );
        add(Reason::ConfigurationRefused, "", Some(since), text);
    }
    if let Some(log) = &facts.large_log {
        add(Reason::LogLarge, "", None, log.to_string());
    }
    for (state, _) in facts.partners.iter().filter(|(_, configured)| *configured) {
        if let Some((reason, since, text)) = of_partner(state, now) {
            add(reason, &state.partner, since, text);
        }
        if let Some(since) = list_failing_since(state.list_failing_since, now) {
            let text = format!(
                "{}: the customer list could not be read since {}: new customers are not watched",
                state.partner,
                time_format::moment(since, UTC)
            );
            add(Reason::CustomerListFailing, &state.partner, Some(since), text);
        }
    }
    for unclear in facts.unclear.iter().take(MAX_NAMES) {
        let UnclearReview { partner, customer, qualification, status, since } = unclear;
        let since_when = time_format::moment(*since, UTC);
        let shows = match status {
            Some(status) => format!("\"{status}\" since {since_when}, a status that vetwatch does not know"),
            None => format!("no status since {since_when}"),
        };
        let text = format!("{customer}, {qualification}: the review shows {shows}: look at it in Partner Center");
        add(Reason::UnknownStatus, partner, Some(*since), text);
    }
    match facts.customers_failing {
        0 => {}
        1 => add(Reason::CustomersFailing, "", None, "1 customer cannot be read".into()),
        n => add(Reason::CustomersFailing, "", None, format!("{n} customers cannot be read")),
    }
    // Without a daemon everything is late. The customer lists were listed with the partners.
    let is_listed = |late: &&Late| facts.daemon_running != Some(false) && late.reason != Reason::CustomerListFailing;
    for late in facts.late.iter().filter(is_listed) {
        add(late.reason, &late.about, Some(late.since), late.summary(now, UTC));
    }
    for (state, configured) in &facts.endpoints {
        for (reason, since, text) in of_endpoint(state, *configured, now) {
            add(reason, &state.endpoint, since, text);
        }
    }
    for wait in facts.lone_waits.iter().take(MAX_NAMES) {
        let why = wait.last_error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let text = format!(
            "a message waits for {} since {}, though the endpoint works{why}; `vetwatch deliveries show {}`",
            wait.endpoint,
            time_format::moment(wait.since, UTC),
            wait.id
        );
        add(Reason::MessageWaitsAlone, &wait.endpoint, Some(wait.since), text);
    }
    for refused in facts.refused.iter().take(MAX_NAMES) {
        let text = format!(
            "{} refused {} of {} for good: {}; correct the address, then `vetwatch deliveries redrive {}`",
            refused.address,
            if refused.messages == 1 { "a message".to_owned() } else { format!("{} messages", refused.messages) },
            refused.endpoint,
            refused.reply,
            refused.delivery
        );
        add(Reason::RecipientRefused, &refused.endpoint, None, text);
    }
    let dead = facts.endpoints.iter().map(|(endpoint, _)| endpoint.dead).sum::<i64>();
    if dead > 0 {
        let what = if dead == 1 { "1 message was".to_owned() } else { format!("{dead} messages were") };
        add(Reason::DeadLetter, "", None, format!("{what} given up: `vetwatch deliveries list --state dead`"));
    }
    for (state, _) in &facts.partners {
        for end in state.credentials.iter().filter(|end| end.at <= now.after(CREDENTIAL_SOON)) {
            let verb = if end.at <= now { "ended" } else { "ends" };
            let text = format!("{}: its {} {verb} on {}", state.partner, end.of, time_format::moment(end.at, UTC));
            add(Reason::CredentialExpiring, &state.partner, Some(end.at), text);
        }
    }
    let heartbeat = facts.heartbeat_failing.as_ref().filter(|_| facts.daemon_running != Some(false));
    if let Some((since, why)) = heartbeat.filter(|(since, _)| now.since(*since) >= Reason::HeartbeatFailing.after()) {
        let text = format!(
            "the heartbeat is not accepted since {}: {why}; correct the URL in heartbeat_url_file, then `vetwatch reload`",
            time_format::moment(*since, UTC)
        );
        add(Reason::HeartbeatFailing, "", Some(*since), text);
    }
    if let Some((since, why)) = facts.page_failing.as_ref().filter(|_| facts.daemon_running != Some(false)) {
        let text = format!("the page is not served since {}: {why}", time_format::moment(*since, UTC));
        add(Reason::PageNotServed, "", Some(*since), text);
    }
    needs
}

/// Since when the customer list cannot be read, if for too long.
#[must_use]
pub fn list_failing_since(since: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    since.filter(|since| now.since(*since) >= Reason::CustomerListFailing.after())
}

fn of_partner(state: &PartnerState, now: Timestamp) -> Option<(Reason, Option<Timestamp>, String)> {
    let partner = &state.partner;
    let why = state.last_failure.as_ref().or(state.backoff_reason.as_ref());
    if let Some(why) = why.filter(|why| state.failing_since.is_some() && why.contains(NONE_LEFT)) {
        return Some((Reason::OutOfDescriptors, state.failing_since, format!("{partner}: not polled: {why}")));
    }
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    if let Some(since) = state.mass_absence_since {
        let text = format!(
            "{partner}: implausible answers since {}: {} customers lost an entry at once or show an older one, so none is \
             recorded as gone until two polls an hour apart agree, or `vetwatch poll --accept --partner {partner}`",
            time_format::moment(since, UTC),
            state.missing
        );
        return Some((Reason::ImplausibleAnswers, Some(since), text));
    }
    let long = state.failing_since.filter(|since| now.since(*since) >= Reason::PartnerFailing.after());
    if let Some(since) = state.failing_reported_since.or(long) {
        let text = format!("{partner}: no good answer since {}{why}", time_format::moment(since, UTC));
        return Some((Reason::PartnerFailing, Some(since), text));
    }
    let text = format!("{partner}: no good answer after {} pauses in a row{why}", state.backoffs);
    (state.backoffs >= FAILING_AFTER_BACKOFFS).then_some((Reason::PartnerFailing, state.failing_since, text))
}

fn of_endpoint(state: &EndpointState, configured: bool, now: Timestamp) -> Vec<(Reason, Option<Timestamp>, String)> {
    let name = &state.endpoint;
    let wait = |n: i64| if n == 1 { "1 message waits".to_owned() } else { format!("{n} messages wait") };
    let why = state.last_error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let mut needs = Vec::new();
    if !configured {
        if state.pending > 0 {
            let text = format!(
                "{} for {name}, which is not configured: was it renamed? `vetwatch deliveries redrive --endpoint \
                 {name} --to ENDPOINT`",
                wait(state.pending)
            );
            needs.push((Reason::EndpointNotConfigured, state.oldest_pending_at, text));
        }
        return needs;
    }
    if state.unreadable > 0 {
        let text = format!(
            "{} for {name}, because what is stored cannot be read: `vetwatch deliveries list --state pending --endpoint \
             {name}` says what",
            wait(state.unreadable)
        );
        needs.push((Reason::MessageUnreadable, None, text));
    }
    let waiting = state.waiting_since.filter(|since| now.since(*since) >= Reason::MessagesWaiting.after());
    if let Some(since) = state.paused_at {
        let text = format!(
            "{name} says that it is gone: nothing is sent until its configuration changes or `vetwatch deliveries \
             redrive --endpoint {name}`"
        );
        needs.push((Reason::EndpointGone, Some(since), text));
    } else if let Some(since) = failing_since(state, now).filter(|_| state.pending > 0) {
        let text =
            format!("{name} has not delivered since {}{why}; {}", time_format::moment(since, UTC), wait(state.pending));
        let reason = if why.contains(NONE_LEFT) { Reason::OutOfDescriptors } else { Reason::EndpointFailing };
        needs.push((reason, Some(since), text));
    } else if let Some(since) = waiting {
        let text =
            format!("{} for {name}, the oldest since {}{why}", wait(state.pending), time_format::moment(since, UTC));
        needs.push((Reason::MessagesWaiting, Some(since), text));
    }
    let failed = state.template_failed_at.filter(|at| now.since(*at) < TEMPLATE_FAILED_FOR);
    if let (Some(at), Some(why)) = (failed, &state.template_error) {
        let text = format!(
            "the template of {name} failed on a message, the last one on {}, which was sent in its built-in form: {why}; \
             correct the template, then `vetwatch reload`",
            time_format::moment(at, UTC)
        );
        needs.push((Reason::TemplateFailed, Some(at), text));
    }
    needs
}

/// Since when an endpoint does not deliver. One that accepts connections and never replies only counts after a while.
fn failing_since(state: &EndpointState, now: Timestamp) -> Option<Timestamp> {
    let long = |since: &Timestamp| now.since(*since) >= Reason::EndpointFailing.after();
    let unconfirmed = state.unconfirmed_since.filter(|_| state.pending > 0).filter(long);
    state.closed_since.or(unconfirmed).or(state.failing_reported_at)
}

impl Late {
    /// One sentence: what is late, and by how much.
    #[must_use]
    pub fn summary(&self, now: Timestamp, zone: Tz) -> String {
        let (about, waited) =
            (&self.about, humantime::format_duration(Duration::from_secs(now.since(self.since).as_secs())));
        match (self.reason, self.interval) {
            (Reason::CannotWrite, _) => format!(
                "vetwatch has been able to write nothing for {waited}: the disk is full, or the database cannot be written to"
            ),
            (Reason::DatabaseDamaged, _) => "The database is damaged: not all that is stored can be read".to_owned(),
            (Reason::CustomerListFailing, _) => {
                format!(
                    "The customer list of {about} could not be read since {}",
                    time_format::with_utc(self.since, zone)
                )
            }
            (Reason::DeliveryLate, _) => format!("A message to {about} has been due for {waited} and was not tried"),
            (Reason::BackupFailed, _) => {
                let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                format!("No backup has been made since {}{why}", time_format::with_utc(self.since, zone))
            }
            (Reason::ReplicaLate, _) => {
                let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                format!("The replica has lacked the newest changes for {waited}{why}")
            }
            (Reason::NoStandby, _) => {
                let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                format!("No other host could have taken over for {waited}{why}")
            }
            (_, interval) => format!(
                "Customers of {about} are polled late: the oldest has been due for {waited}, at an interval of {}",
                short_duration(interval.unwrap_or_default())
            ),
        }
    }
}

#[cfg(test)]
mod tests;

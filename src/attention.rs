//! What needs a person: the one list of reasons, each with its threshold. `status`, its JSON, its exit code, the alerts
//! and the table in the README are made from it, so they cannot differ.
//!
//! Pure: [`needs`] depends on [`Facts`] only.

pub mod look;

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::delivery::message::time_format;
use crate::event::EventType;
use crate::schedule::Intervals;
use crate::schedule::PollClass;
use crate::store::Refused;
use crate::store::reports::{EndpointState, PartnerState};
use crate::store::waiting::LoneWait;
use crate::time::Timestamp;

const fn minutes(n: u64) -> Duration {
    Duration::from_mins(n)
}

macro_rules! reasons {
    ($($variant:ident = $name:literal, $after:expr, $event:expr, $listed:literal, $reported:literal, $remedy:literal;)*) => {
        /// Why a person is needed. The names are public: `status --json` and the README use them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($variant,)* }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How long it lasts before the operators are notified.
            #[must_use]
            pub const fn after(self) -> Duration {
                match self { $(Self::$variant => $after,)* }
            }

            /// The event for the operators; `None` if vetwatch cannot report it itself.
            #[must_use]
            pub const fn event(self) -> Option<EventType> {
                match self { $(Self::$variant => $event,)* }
            }

            /// When `status` lists it, when the operators are notified, and the remedy, in Markdown.
            #[must_use]
            pub const fn words(self) -> [&'static str; 3] {
                match self { $(Self::$variant => [$listed, $reported, $remedy],)* }
            }
        }
    };
}

reasons! {
    NotRunning = "not_running", Duration::ZERO, None,
        "no daemon runs on the database",
        "nobody can be told by a daemon that does not run: the heartbeat stays away",
        "`systemctl start vetwatch`, and `journalctl -u vetwatch` says why it ended";
    DatabaseHeld = "database_held", Duration::ZERO, Some(EventType::PollingLate),
        "another program holds the database, so nothing can be written",
        "when polling or delivering is late by that",
        "end the other program; nothing is lost but time";
    CannotWrite = "cannot_write", minutes(3), Some(EventType::PollingLate),
        "the daemon runs and has noted nothing for 3 minutes: the disk is full, or the database cannot be written to",
        "then, past the outbox",
        "free the disk; the log says what fails";
    DatabaseDamaged = "database_damaged", Duration::ZERO, Some(EventType::PollingLate),
        "the daemon met pages of the database that are damaged, or another program writes over it (if not even `status` can \
         read it, `status` says only that, and exits with 1)",
        "at once, past the outbox if need be",
        "stop vetwatch, keep the file with its -wal and -shm aside, and put a backup (or what `sqlite3 .recover` saves) in its \
         place";
    PartnerFailing = "partner_failing", minutes(30), Some(EventType::PartnerFailing),
        "a partner gave no good answer after two pauses in a row",
        "after 30 minutes without a good answer, while polling",
        "the reason stands beside it; a refused credential needs a new one, all else is tried again";
    ImplausibleAnswers = "implausible_answers", Duration::ZERO, Some(EventType::PartnerFailing),
        "so many customers lost an entry at once that nothing is recorded as absent",
        "at once",
        "look at some of them in Partner Center; `vetwatch poll --accept` if it is true";
    CustomerListFailing = "customer_list_failing", Duration::from_hours(24), Some(EventType::PartnerFailing),
        "the customer list of a partner could not be read for 24 hours: new customers are not watched",
        "then",
        "the reason stands in `status`; it is tried again";
    CustomersFailing = "customers_failing", Duration::from_hours(1), Some(EventType::CustomersFailing),
        "a customer failed three polls in a row over at least an hour while others answer",
        "then, those of 20 minutes together",
        "`vetwatch status CUSTOMER` says why; pause or remove who is a customer no more";
    PollingLate = "polling_late", Duration::ZERO, Some(EventType::PollingLate),
        "the oldest due customer of a partner waits for more than twice its interval (and 30 s): the schedule asks for \
         more than the budget, the disk is full, or the database is held",
        "then",
        "`vetwatch check` says whether the schedule fits; free the disk";
    DeliveryLate = "delivery_late", minutes(15), Some(EventType::PollingLate),
        "the oldest due message of an endpoint that could be tried has waited for 15 minutes",
        "then",
        "the log says why; free the disk";
    EndpointFailing = "endpoint_failing", minutes(15), Some(EventType::EndpointFailing),
        "an endpoint could not deliver and is only probed, or has answered no message for 15 minutes",
        "after 15 minutes, over another endpoint",
        "the last answer stands in `status`; mend the server or the login (and restart for that)";
    EndpointGone = "endpoint_gone", Duration::ZERO, Some(EventType::EndpointFailing),
        "an endpoint said that it is gone (410), and is paused",
        "at once, over another endpoint",
        "mend its URL and restart, or `vetwatch deliveries redrive --endpoint NAME`";
    MessagesWaiting = "messages_waiting", minutes(15), Some(EventType::EndpointFailing),
        "a message has waited for 15 minutes (quiet hours and digests that gather do not count)",
        "with the endpoint, or with the message once it is given up or waits alone",
        "`vetwatch deliveries list --state pending` shows the last answer";
    EndpointNotConfigured = "endpoint_not_configured", Duration::ZERO, Some(EventType::DeadLetter),
        "messages wait for an endpoint that the configuration does not name",
        "at the start; after 15 minutes what waits is told to the operators instead",
        "`vetwatch deliveries redrive --endpoint NAME --to ENDPOINT`, or name it again";
    MessageWaitsAlone = "message_waits_alone", Duration::from_hours(24), Some(EventType::DeadLetter),
        "a message has waited for 24 hours though its endpoint works (mostly it has taken later ones)",
        "then",
        "`vetwatch deliveries show ID` has its answers; `redrive ID --to ENDPOINT`";
    MessageUnreadable = "message_unreadable", Duration::ZERO, Some(EventType::DeadLetter),
        "a message waits because its row in the database cannot be read",
        "at the next look, over every endpoint",
        "`vetwatch deliveries show ID` names the row; restore a backup, or mend the row";
    RecipientRefused = "recipient_refused", Duration::ZERO, Some(EventType::DeadLetter),
        "a mail server refused one of several recipients for good",
        "after a minute, over another endpoint",
        "correct the address, then `vetwatch deliveries redrive ID` sends it to that recipient alone";
    DeadLetter = "dead_letter", Duration::ZERO, Some(EventType::DeadLetter),
        "a message was given up",
        "after a minute, those of an endpoint together, over another endpoint",
        "`vetwatch deliveries list --state dead`, mend the cause, `vetwatch deliveries redrive ID`";
    CredentialExpiring = "credential_expiring", Duration::ZERO, Some(EventType::CredentialExpiring),
        "a secret, certificate or refresh token ends within 14 days",
        "30, 14, 7, 3 and 1 days before, and when it has ended",
        "make a new one; `vetwatch login PARTNER` for a refresh token";
}

/// `status` lists credentials that expire within this time.
const CREDENTIAL_SOON: Duration = Duration::from_hours(24 * 14);
/// Backoffs in a row without a good response: more than a throttled minute.
const FAILING_AFTER_BACKOFFS: i64 = 2;
/// Of stuck deliveries, and of rejected recipients.
const MAX_NAMES: usize = 10;
/// The least lateness, however short the interval.
const MIN_LATENESS: Duration = Duration::from_secs(30);

/// The reasons as a Markdown table. A test compares it with the README.
#[must_use]
pub fn table() -> String {
    let mut table =
        "| `reason` | `status` lists it when | operators are told | with | remedy |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    for reason in Reason::ALL {
        let [listed, reported, remedy] = reason.words();
        let with = reason.event().map_or("nothing".to_owned(), |event| format!("`{event}`"));
        let _ = writeln!(table, "| `{reason}` | {listed} | {reported} | {with} | {remedy} |"); // a String takes everything
    }
    table
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

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
    /// Those that the configuration names are `true`.
    pub partners: Vec<(PartnerState, bool)>,
    /// Unreadable customers of configured partners.
    pub customers_failing: usize,
    pub late: Vec<Late>,
    /// Those that the configuration names are `true`.
    pub endpoints: Vec<(EndpointState, bool)>,
    pub lone_waits: Vec<LoneWait>,
    pub refused: Vec<Refused>,
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
    for (state, _) in facts.partners.iter().filter(|(_, configured)| *configured) {
        if let Some((reason, since, text)) = of_partner(state, now) {
            add(reason, &state.partner, since, text);
        }
        if let Some(since) = list_failing_since(state.list_failing_since, now) {
            let text = format!(
                "{}: the customer list could not be read since {}: new customers are not watched",
                state.partner,
                time_format::moment(since)
            );
            add(Reason::CustomerListFailing, &state.partner, Some(since), text);
        }
    }
    match facts.customers_failing {
        0 => {}
        1 => add(Reason::CustomersFailing, "", None, "1 customer cannot be read".into()),
        n => add(Reason::CustomersFailing, "", None, format!("{n} customers cannot be read")),
    }
    // Without a daemon everything is late.
    for late in facts.late.iter().filter(|_| facts.daemon_running != Some(false)) {
        add(late.reason, &late.about, Some(late.since), late.summary(now));
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
            time_format::moment(wait.since),
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
    match facts.endpoints.iter().map(|(endpoint, _)| endpoint.dead).sum::<i64>() {
        0 => {}
        1 => {
            add(Reason::DeadLetter, "", None, "1 message was given up: `vetwatch deliveries list --state dead`".into());
        }
        n => add(
            Reason::DeadLetter,
            "",
            None,
            format!("{n} messages were given up: `vetwatch deliveries list --state dead`"),
        ),
    }
    for (state, _) in &facts.partners {
        for end in state.credentials.iter().filter(|end| end.at <= now.after(CREDENTIAL_SOON)) {
            let verb = if end.at <= now { "ended" } else { "ends" };
            let text = format!("{}: its {} {verb} on {}", state.partner, end.of, time_format::moment(end.at));
            add(Reason::CredentialExpiring, &state.partner, Some(end.at), text);
        }
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
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    if let Some(since) = state.mass_absence_since {
        let text = format!(
            "{partner}: implausible answers since {}: {} customers lost an entry at once, so none is recorded as gone \
             until two polls an hour apart agree, or `vetwatch poll --accept --partner {partner}`",
            time_format::moment(since),
            state.missing
        );
        return Some((Reason::ImplausibleAnswers, Some(since), text));
    }
    let long = state.failing_since.filter(|since| now.since(*since) >= Reason::PartnerFailing.after());
    if let Some(since) = state.failing_reported_since.or(long) {
        let text = format!("{partner}: no good answer since {}{why}", time_format::moment(since));
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
            format!("{name} has not delivered since {}{why}; {}", time_format::moment(since), wait(state.pending));
        needs.push((Reason::EndpointFailing, Some(since), text));
    } else if let Some(since) = waiting {
        let text = format!("{} for {name}, the oldest since {}{why}", wait(state.pending), time_format::moment(since));
        needs.push((Reason::MessagesWaiting, Some(since), text));
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
    pub fn summary(&self, now: Timestamp) -> String {
        let (about, waited) =
            (&self.about, humantime::format_duration(Duration::from_secs(now.since(self.since).as_secs())));
        match (self.reason, self.interval) {
            (Reason::CannotWrite, _) => format!(
                "vetwatch has been able to write nothing for {waited}: the disk is full, or the database cannot be written to"
            ),
            (Reason::DatabaseDamaged, _) => "The database is damaged: not all that is stored can be read".to_owned(),
            (Reason::CustomerListFailing, _) => {
                format!("The customer list of {about} could not be read since {}", time_format::moment(self.since))
            }
            (Reason::DeliveryLate, _) => format!("A message to {about} has been due for {waited} and was not tried"),
            (_, interval) => format!(
                "Customers of {about} are polled late: the oldest has been due for {waited}, at an interval of {}",
                humantime::format_duration(interval.unwrap_or_default())
            ),
        }
    }
}

#[cfg(test)]
mod tests;

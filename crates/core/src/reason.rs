//! The reasons why a person is needed, each with its threshold, its event and its remedy: one table for `status`, the
//! alerts and the documentation.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::event::EventType;

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

            /// The event for the operators; `None` if there is none.
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
        "stop vetwatch, and `vetwatch restore FILE` puts a backup in its place and keeps the damaged file aside";
    ConfigurationRefused = "configuration_refused", Duration::ZERO, None,
        "the configuration file was refused at a reload: the one before goes on, and the next start would fail",
        "not; `vetwatch reload`, the log and `systemctl status` say so",
        "`vetwatch check` names every problem; correct them, then `vetwatch reload`";
    OutOfDescriptors = "out_of_descriptors", Duration::ZERO, Some(EventType::PartnerFailing),
        "no connection could be made, because the daemon may open no more files",
        "when a partner or an endpoint fails by that",
        "raise the limit: `LimitNOFILE=` of the unit, or `ulimit -n`; then restart";
    LogLarge = "log_large", Duration::ZERO, None,
        "the `-wal` file beside the database is larger than 64 MB: a program has read the database for long without an end",
        "not; the daemon logs it once",
        "end the program that `status` names; nothing is lost but disk";
    PartnerFailing = "partner_failing", minutes(30), Some(EventType::PartnerFailing),
        "a partner gave no good answer after two pauses in a row",
        "after 30 minutes without a good answer, while polling",
        "the reason stands beside it; a refused credential needs a new one, all else is tried again";
    ImplausibleAnswers = "implausible_answers", Duration::ZERO, Some(EventType::PartnerFailing),
        "so many customers lost an entry at once, or show an older one, that nothing is recorded as absent",
        "at once",
        "look at some of them in Partner Center; `vetwatch poll --accept` if it is true";
    UnknownStatus = "unknown_status", Duration::ZERO, Some(EventType::UnknownStatus),
        "a review shows a status that vetwatch does not know, or none any more: it may have ended",
        "once for each word and partner, ten minutes later; not of a missing one",
        "look at the customer in Partner Center; it is polled as if it were in review. Is there a newer vetwatch?";
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
        "the last answer stands in `status`; mend the server or the login (then `vetwatch reload`)";
    EndpointGone = "endpoint_gone", Duration::ZERO, Some(EventType::EndpointFailing),
        "an endpoint said that it is gone (410), and is paused",
        "at once, over another endpoint",
        "mend its URL and `vetwatch reload`, or `vetwatch deliveries redrive --endpoint NAME`";
    MessagesWaiting = "messages_waiting", minutes(15), Some(EventType::EndpointFailing),
        "a message has waited for 15 minutes (quiet hours and digests that gather do not count)",
        "with the endpoint, or with the message once it is given up or waits alone",
        "`vetwatch deliveries list --state pending` shows the last answer";
    EndpointNotConfigured = "endpoint_not_configured", Duration::ZERO, Some(EventType::DeadLetter),
        "messages wait for an endpoint that the configuration does not name",
        "at the start; after 15 minutes what waits is told to the operators instead",
        "`vetwatch deliveries redrive --endpoint NAME --to ENDPOINT`, `discard --endpoint NAME`, or name it again";
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
        "`vetwatch deliveries list --state dead`, mend the cause, `vetwatch deliveries redrive ID`; or `discard ID`";
    TemplateFailed = "template_failed", Duration::ZERO, None,
        "an endpoint's template failed on a message within 7 days, and the template is still the same",
        "the message itself was sent, in its built-in form",
        "`vetwatch deliveries show ID` has the error; correct the template, then `vetwatch reload`";
    CredentialExpiring = "credential_expiring", Duration::ZERO, Some(EventType::CredentialExpiring),
        "a secret, certificate or refresh token ends within 14 days",
        "30, 14, 7, 3 and 1 days before, and when it has ended",
        "make a new one; `vetwatch login PARTNER` for a refresh token";
    BackupFailed = "backup_failed", Duration::ZERO, Some(EventType::BackupFailed),
        "the last backup by `[backup]` failed, or the last good one is older than twice its period",
        "at once",
        "the reason stands beside it: free the disk, or make the directory writable for the service; it is tried again every hour";
    ReplicaLate = "replica_late", minutes(1), Some(EventType::StandbyFailing),
        "with `[standby]`: the replica has lacked the newest changes for a minute",
        "then",
        "the reason stands beside it: mend the place of the replicas or the way to it; it is tried again all the time";
    NoStandby = "no_standby", minutes(10), Some(EventType::StandbyFailing),
        "with `[standby]`: no other host could have taken over for 10 minutes",
        "then",
        "`vetwatch status` on the other host says why it does not stand by";
    NoLeader = "no_leader", Duration::ZERO, None,
        "with `[standby]`: this host stands by, and no host leads",
        "nobody polls or sends, so the heartbeat stays away",
        "the reason stands beside it: mostly etcd cannot be reached, or the replica cannot be restored";
    HeartbeatFailing = "heartbeat_failing", minutes(3), None,
        "the dead man's switch has not accepted the heartbeat for 3 minutes",
        "the switch misses it, and raises the alert itself",
        "`vetwatch check --live` tries it; correct the URL in `heartbeat_url_file`, then `vetwatch reload`";
    PageNotServed = "page_not_served", Duration::ZERO, None,
        "the daemon cannot listen at the address of `[web]`, so there is no page, no feed and no `/metrics`",
        "not; the log says so, and whatever watches `/healthz` or `/metrics` misses them",
        "end the other program at that address, or correct `listen`, then `vetwatch reload`; it is tried again every minute";
}

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

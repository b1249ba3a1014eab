//! Every metric, with its labels and what it means: for `/metrics` and for `docs/monitoring.md`.

use std::fmt::Write as _;

/// Values of the label `outcome` of polls.
pub const POLL_OUTCOMES: [&str; 11] = [
    "answered",
    "throttled",
    "credential_refused",
    "no_token",
    "forbidden",
    "no_relationship",
    "unreadable",
    "server_error",
    "timed_out",
    "unreachable",
    "refused",
];

#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:literal $name:literal $labels:expr, $help:literal;)*) => {
        $(pub const $constant: Metric = Metric { name: $name, kind: $kind, labels: &$labels, help: $help };)*
        pub const ALL: &[Metric] = &[$($constant,)*];
    };
}

metrics! {
    BUILD_INFO = "gauge" "vetwatch_build_info" ["version"], "Always 1, with the version that runs.";
    ATTENTION = "gauge" "vetwatch_attention" ["reason"],
        "1 if something needs a person for this reason, else 0: the list of `vetwatch status`.";

    POLLS = "counter" "vetwatch_polls_total" ["partner", "outcome"],
        "Polls of customers that have ended, by outcome; `answered` is the good one.";
    POLL_SECONDS = "histogram" "vetwatch_poll_duration_seconds" ["partner"],
        "How long a poll took, with the wait for a token and for the budget.";
    LAST_ANSWER = "gauge" "vetwatch_last_answer_timestamp_seconds" ["partner"],
        "When a customer was last polled well; 0 if never.";
    BACKOFF_UNTIL = "gauge" "vetwatch_backoff_until_timestamp_seconds" ["partner"],
        "Nothing is requested before this time. No series if the partner does not back off.";
    CUSTOMERS = "gauge" "vetwatch_customers" ["partner", "status"],
        "Customers by how they are polled: `in_review`, `settled`, `unqualified`, or `paused`.";
    DUE_CUSTOMERS = "gauge" "vetwatch_due_customers" ["partner"],
        "Customers that are due to be polled and were not yet.";
    OLDEST_DUE = "gauge" "vetwatch_oldest_due_timestamp_seconds" ["partner"],
        "When the first of the due customers became due. No series if none is.";
    CREDENTIAL_EXPIRY = "gauge" "vetwatch_credential_expiry_timestamp_seconds" ["partner", "credential"],
        "When a client secret, certificate or refresh token ends, where that is known.";

    REVIEWS = "gauge" "vetwatch_reviews" ["partner"],
        "Qualifications in review.";
    OLDEST_REVIEW = "gauge" "vetwatch_oldest_review_timestamp_seconds" ["partner"],
        "Since when the oldest of them is in review. No series if none is.";
    TRANSITIONS = "counter" "vetwatch_transitions_total" ["partner", "type"],
        "Changes that were recorded, by type of event.";

    DELIVERIES = "counter" "vetwatch_deliveries_total" ["endpoint", "outcome"],
        "Attempts to deliver a message, by what became of it: `delivered`, `retried` later, or given up as `rejected` or \
         `expired`.";
    ATTEMPT_SECONDS = "histogram" "vetwatch_attempt_duration_seconds" ["endpoint"],
        "How long an attempt took.";
    VERDICT_SECONDS = "histogram" "vetwatch_verdict_latency_seconds" ["endpoint"],
        "From the poll that saw a verdict until the endpoint took its message. Digests and quiet hours count.";
    PENDING = "gauge" "vetwatch_pending_messages" ["endpoint"],
        "Messages that are not delivered yet.";
    OLDEST_PENDING = "gauge" "vetwatch_oldest_pending_timestamp_seconds" ["endpoint"],
        "When the oldest of them was made. No series if there is none.";
    DEAD = "gauge" "vetwatch_dead_letters" ["endpoint"],
        "Messages that were given up, and that nobody has redriven or discarded.";
    ENDPOINT_CLOSED = "gauge" "vetwatch_endpoint_closed_timestamp_seconds" ["endpoint"],
        "Since when the endpoint is only probed, or paused because it said that it is gone. No series if it is neither.";
    LAST_ACCEPTED = "gauge" "vetwatch_last_accepted_timestamp_seconds" ["endpoint"],
        "When the endpoint last took a message; 0 if never.";

    DATABASE_UP = "gauge" "vetwatch_database_up" [],
        "1 if the database could be read for this scrape. If it is 0, everything that is read from it is missing.";
    DATABASE_BYTES = "gauge" "vetwatch_database_bytes" [], "Size of the database's file.";
    WAL_BYTES = "gauge" "vetwatch_database_wal_bytes" [], "Size of the `-wal` file beside it.";
    BACKUP = "gauge" "vetwatch_backup_last_success_timestamp_seconds" [],
        "When the last backup of `[backup]` was made; 0 if never. No series without `[backup]`.";
    LEADER = "gauge" "vetwatch_leader_info" ["host", "epoch"],
        "1: this host leads. No series without `[standby]`.";
    LEADER_SINCE = "gauge" "vetwatch_leader_since_timestamp_seconds" [],
        "When this host was elected. No series without `[standby]`.";
    STANDBY_HOSTS = "gauge" "vetwatch_standby_hosts" [],
        "How many other hosts could take over. No series without `[standby]`.";
    REPLICA_SYNCED = "gauge" "vetwatch_replica_last_sync_timestamp_seconds" [],
        "When the replica last had everything; 0 if never. No series without `[standby]`.";
    UNREPLICATED = "gauge" "vetwatch_unreplicated_attempts" [],
        "First attempts since this host was elected that did not wait for the replica, because it failed. No series without `[standby]`.";
    RELOAD_SUCCESSFUL = "gauge" "vetwatch_config_last_reload_successful" [],
        "1 if the last reload, or the start, took the configuration; 0 if it was refused.";
    RELOADED = "gauge" "vetwatch_config_last_reload_success_timestamp_seconds" [],
        "When the configuration in force was read.";
}

impl Metric {
    /// From the end of its name.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        let ends = |end: &str| self.name.ends_with(end);
        match self.kind {
            _ if ends("_timestamp_seconds") => "Unix time",
            _ if ends("_seconds") => "seconds",
            _ if ends("_bytes") => "bytes",
            _ if ends("_info") || ends("_up") || ends("_attention") || ends("_successful") => "0 or 1",
            _ => "number",
        }
    }
}

/// The table of `docs/monitoring.md`, in Markdown.
#[must_use]
pub fn table() -> String {
    let mut text = "| metric | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for metric in ALL {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, unit, labels, help) =
            (metric.name, metric.kind, metric.unit(), labels.join(", "), metric.help);
        let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {labels} | {help} |");
    }
    text
}

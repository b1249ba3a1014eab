//! vetwatch tells a Cloud Solution Provider that Microsoft has decided on a customer's qualification.
//!
//! Microsoft vets a customer for days and then, silently, sets `vettingStatus` in Partner Center. vetwatch polls it,
//! records each transition in SQLite, and sends a mail or a signed webhook when a review has ended.
//!
//! One process, one SQLite file, one writer. This page is the map; read the modules in the order below.
//!
//! ```text
//!                cron job ──poke──┐                                 ┌──poke── after each commit that enqueued something
//!              due time ──────────┤                                 ├──────── due time of the earliest delivery
//!                                 ▼                                 ▼
//!  ┌─ poller: a loop per partner ────────────────┐   ┌─ dispatcher: a loop per endpoint ──────────────────┐
//!  │ claim_due(now, budget, shares)   [write tx] │   │ claim_due(endpoint, now)              [write tx 2] │
//!  │   │  leased before they are polled          │   │   │  records the attempt, sets the next one        │
//!  │   ▼                                         │   │   ▼                                                │
//!  │ client.promised_qualifications(customer) *  │   │ channel.deliver(message) ──► SMTP / HTTPS       *  │
//!  │   │ JSON → Snapshot                         │   │   │ AttemptResult { outcome, detail, … }           │
//!  │   ▼                                         │   │   ▼                                                │
//!  │ record(response)               [write tx 1] │   │ retry.next(outcome, index, waited, now, chance)    │
//!  │   changes = compare(states, snapshot)       │   │   ▼                                                │
//!  │   state, transition, event, deliveries      │   │ finish(delivery, result, decision)    [write tx 3] │
//!  │   customer.next_poll_at ← later             │   └────────────────────────────────────────────────────┘
//!  └─────────────────────────────────────────────┘     no write transaction is open during network I/O
//! ```
//!
//! \* In tasks of their own: a missing response delays no other customer, and a mail server that is slow with its final
//! reply delays no other message by more than five seconds.
//!
//! Invariants, and where to find them:
//!
//! - **No verdict is lost**: [`recording`] commits a transition and all its deliveries in one transaction; [`store`]'s
//!   `claim_due` records an attempt before anything is sent and sets the next one after a lease, so the work of a process
//!   that dies falls due by itself. There is no "running" state, and nothing to clean up.
//! - **Nothing is sent twice under two ids**: a message is rendered at its first attempt and never changed; its id is the
//!   delivery's.
//! - **No false alarm**: only an `Ok(Answer)` of [`partner_center`] reaches [`changes`]; the rules for events are pure code
//!   there, beside the table that tests them.
//! - **States come from polls only**: the customer list and the activity log ([`customer_sync`], [`activity_log`]) only say
//!   who is a customer and who is polled sooner.
//! - **Quiet hours and digests are only a due time**: [`delivery::route`] decides who is notified and when, `enqueue` adds an
//!   event to a pending message of its group, and `claim_due` defers what has to wait. Nothing is dropped.
//! - **Failures are reported**: the poller and the dispatchers record what fails; [`alerts`] notifies the operators once, and
//!   once more when it is over; [`heartbeat`] stops when vetwatch itself is dead. [`attention`] is the one list of what needs
//!   a person, for `status`, the alerts and the README.
//! - **Activation takes no input**: a poke, a due time and a restart run the same round ([`worker_loop`]). Rounds are
//!   bounded; tests call them and never sleep.
//! - **What must survive a restart is a row**: the backoff of a partner or an endpoint, since when an entry is missing, when
//!   watching started.
//! - **Text from others holds no secret**: `redact` removes every spelling of each secret before text is logged, stored or
//!   shown.
//! - **Time, chance and addresses are arguments**: [`time::Clock`] is the one trait. The tests run the real HTTP, SMTP and
//!   SQLite code against [`sandbox`], a simulated Partner Center.

// The rules, the client and the simulator: crates of their own.
pub use vetwatch_core::{calendar, changes, event, ids, qualification, redact, schedule, text, time};
pub use vetwatch_partner_center as partner_center;
pub use vetwatch_sandbox as sandbox;

// From Partner Center into the database.
pub mod store;
pub mod recording;
pub mod poller;
pub mod customer_sync;
pub mod activity_log;
// From the database to people.
pub mod attention;
pub mod forecast;
pub mod overview;
pub mod report;
pub mod alerts;
pub mod delivery;
// Assembly.
pub mod backup;
pub mod standby;
pub mod summary;
pub mod integrity;
pub mod config;
pub mod clock_watch;
pub mod metrics;
pub mod descriptors;
pub mod instance_lock;
pub mod worker_loop;
pub mod heartbeat;
pub mod token_keepalive;
pub mod in_force;
mod log_control;
pub mod web;
pub mod daemon;
pub mod cli;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "a panic is what a fuzz target finds")]
pub mod fuzzing;

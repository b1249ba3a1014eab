//! vetwatch tells a Cloud Solution Provider that Microsoft has decided on a customer's qualification.
//!
//! Microsoft vets a customer for days and then, silently, sets `vettingStatus` in Partner Center. vetwatch asks again
//! and again, records each transition in SQLite, and sends a mail or a signed webhook when a review has ended.
//!
//! One process, one SQLite file, one writer. This page is the map; the modules below stand in the order in which a
//! newcomer should read them.
//!
//! ```text
//!             cron alarm ──poke──┐                                 ┌──poke── after each commit that queued something
//!             due time ──────────┤                                 ├──────── due time of the earliest delivery
//!                                ▼                                 ▼
//!  ┌─ poller: a loop for each partner ──────────┐   ┌─ dispatcher: a loop for each endpoint ────────┐
//!  │ take(now, budget, shares)       [write tx] │   │ claim_due(endpoint, now)          [write tx 2] │
//!  │   │  moved ahead before they are asked     │   │   │  the attempt is opened, the next one set  │
//!  │   ▼                                        │   │   ▼                                           │
//!  │ partner_center.qualifications(customer) *  │   │ channel.deliver(message) ──► SMTP / HTTPS  *  │
//!  │   │ JSON → Snapshot                        │   │   │ Report { outcome, detail, settled }       │
//!  │   ▼                                        │   │   ▼                                           │
//!  │ record(answer)               [write tx 1]  │   │ retry.next(outcome, retry_index, waited, chance)     │
//!  │   changes = diff(beliefs, snapshot)        │   │   ▼                                           │
//!  │   belief, transition, event, delivery each │   │ finish(delivery, outcome)         [write tx 3] │
//!  │   customer.next_poll_at ← later            │   └───────────────────────────────────────────────┘
//!  └────────────────────────────────────────────┘     no write transaction is alive in a box that talks to the network
//! ```
//!
//! \* Tasks of their own: an answer that does not come keeps no other customer from being polled, and a mail server that
//! is slow with its final reply keeps no other message waiting for longer than five seconds.
//!
//! What stays true, and where to see it:
//!
//! - **No verdict is lost**: [`recording`] commits a transition and every message it causes in one transaction;
//!   [`store`]'s `claim_due` opens an attempt before anything is sent and moves the next one a lease ahead, so the work
//!   of a process that dies falls due by itself. There is no "running" state and nobody who has to clean up.
//! - **Nothing is sent twice under two names**: a message is rendered and frozen at its first attempt; its id is the
//!   delivery's, whatever happens.
//! - **No false alarm**: only an `Ok(Answer)` of [`partner_center`] reaches [`changes`]; the rules of what is news are pure
//!   code there, beside the table that tests them.
//! - **Only a customer's own answer is believed**: the customer list and the activity log ([`customer_sync`], [`activity_log`])
//!   only say who is a customer and who is asked sooner.
//! - **Quiet hours and digests are only a due time**: [`delivery::route`] says who is told and when, `enqueue` puts an event
//!   into a message of its group that is not begun, and `claim_due` holds back what has to wait. Nothing is dropped.
//! - **It says when it is blind**: the poller and the dispatchers write down what fails; [`alerts`] tells the operators of
//!   it once, and once more when it is over, and [`heartbeat`] stays away when vetwatch itself is dead. [`attention`] is the
//!   one list of what needs a person, for `status`, the alarms and the README.
//! - **Activation takes no input**: a poke, a due time and a restart run the same round ([`worker_loop`]). Rounds are
//!   bounded; tests call them and never sleep.
//! - **What a restart must not forget is a row**: a partner's gate, an endpoint's closure, since when an entry is
//!   missing, when watching began.
//! - **What others say holds no secret**: `redact` takes every spelling of each secret out of it before it is logged,
//!   stored or shown.
//! - **Time, chance and addresses are arguments**: [`time::Clock`] is the one trait. The tests run the real HTTP, SMTP and
//!   SQLite code against [`sandbox`], a simulated Partner Center.
#![forbid(unsafe_code)]

// The rules, the client and the simulator: crates of their own.
pub use vetwatch_core::{calendar, changes, event, ids, qualification, redact, schedule, time};
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
pub mod alerts;
pub mod delivery;
// Put together.
pub mod config;
pub mod clock_watch;
pub mod instance_lock;
pub mod worker_loop;
pub mod heartbeat;
pub mod token_keepalive;
pub mod daemon;
pub mod cli;

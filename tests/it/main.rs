//! The tests that need more than one part, in one binary: a file a theme.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod activity_log;
mod alarms;
mod answers;
mod asking;
mod budget;
mod chat;
mod cli;
mod contention;
mod crash;
mod damage;
mod credentials;
mod delivery;
mod demo;
mod email;
mod held;
mod lost;
mod model;
mod mute;
mod overdue;
mod peers;
mod plausibility;
mod polling;
mod process;
mod readme;
mod restore;
mod roster;
mod routing;
mod sequence;
mod service;
mod signals;
mod upgrade;
mod verdicts;
mod webhook;
mod week;
mod world;

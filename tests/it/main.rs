//! The tests that need more than one part, in one binary: a file a theme.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod activity_log;
mod alarms;
mod answers;
mod budget;
mod chat;
mod cli;
mod contention;
mod crash;
mod credentials;
mod delivery;
mod demo;
mod email;
mod model;
mod mute;
mod overdue;
mod peers;
mod plausibility;
mod polling;
mod privileges;
mod process;
mod readme;
mod roster;
mod routing;
mod sequence;
mod service;
mod upgrade;
mod webhook;
mod week;
mod world;

//! The tests that need more than one part, in one binary: a file a theme.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod answers;
mod cli;
mod contention;
mod crash;
mod credentials;
mod delivery;
mod demo;
mod email;
mod peers;
mod polling;
mod process;
mod readme;
mod sequence;
mod service;
mod webhook;
mod world;

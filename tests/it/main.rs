//! The tests that need more than one part, in one binary: a file a theme.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod cli;
mod delivery;
mod email;
mod peers;
mod polling;
mod readme;
mod sequence;
mod webhook;
mod world;

//! The tests that need more than one part, in one binary: a file a theme.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod delivery;
mod demo;
mod email;
mod peers;
mod polling;
mod webhook;
mod world;

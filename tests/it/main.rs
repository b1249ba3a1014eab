//! The integration tests, one binary.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod email;
mod peers;
mod webhook;

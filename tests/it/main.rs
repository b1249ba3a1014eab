//! The tests that need more than one part, in one binary: a file a theme.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod delivery;
mod polling;
mod world;

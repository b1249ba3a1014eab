//! The tests that need more than one part, in one binary: a file a theme.

mod delivery;
mod email;
mod peers;
mod polling;
mod webhook;
mod world;

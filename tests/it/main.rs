//! The integration tests, one binary.

mod email;
mod peers;
mod zz_dump;
mod webhook;

//! vetwatch tells a Cloud Solution Provider that Microsoft has decided on a customer's qualification.
//!
//! (The map of the crate is written below, last; see the modules in order.)
#![forbid(unsafe_code)]

pub mod activity;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod delivery;
pub mod diff;
pub mod event;
pub mod partner_center;
pub mod poller;
pub mod qualification;
pub mod record;
pub mod roster;
pub mod sandbox;
pub mod store;
pub mod time;

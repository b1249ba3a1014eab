//! The rules of vetwatch: what is news, when customers are polled, who is notified, when a delivery is retried, and what
//! a message says. Nothing here waits, stores or talks to anybody: time and chance are arguments.

pub mod calendar;
pub mod changes;
pub mod csv;
pub mod descriptors;
pub mod egress_policy;
pub mod event;
pub mod forecast;
pub mod ids;
pub mod membership;
pub mod message;
pub mod page;
pub mod qualification;
pub mod quiet_hours;
pub mod reason;
pub mod redact;
pub mod report;
pub mod retry;
pub mod routing;
pub mod schedule;
pub mod summary;
pub mod text;
pub mod time;

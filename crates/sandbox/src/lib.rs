//! The simulated Partner Center: stateful, on loopback, and as awkward as the real one.
//!
//! The tests and `vetwatch demo` run against it, and `vetwatch sandbox` offers it for rehearsals. Nothing is reserved
//! for the tests: the [control API](control) can cause every failure that they can.
//!
//! ```text
//!  HTTP ──► server ──► engine ──► world (customers, entries, timelines)   pure state; time is an argument
//!             │          ├──────► entra (tokens)
//!             │          ├──────► faults, quirks, throttle
//!             │          └──────► log (requests, counters, violations)
//!             └─ waits, cuts, severs: what the engine planned
//! ```
//!
//! All state is behind one mutex, and the cost of a request does not depend on the number of customers. Delays take
//! real time; dates follow the [`Clock`].
//!
//! [`smtp_server`] and [`webhook_receiver`] are the other two peers.

mod api;
mod audit;
mod body;
mod bulk;
pub mod control;
mod duration_serde;
mod engine;
mod entra;
pub mod entry;
mod errors;
mod fault;
mod history;
mod hourly_counts;
mod imds;
mod inbox;
mod listener;
mod log;
mod operation;
mod pages;
mod quirk;
mod respond;
pub mod response_options;
mod rule;
mod server;
pub mod smtp_server;
mod submissions;
mod throttle;
mod transport;
pub mod webhook_receiver;
mod world;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

pub use api::CustomerView;
pub use bulk::Bulk;
pub use entra::{Authorization, Decision, Device, MfaRefusal, Rotation, SignIns};
pub use errors::ErrorShape;
pub use fault::{ErrorFault, Fault, FaultRule};
pub use hourly_counts::Hour;
pub use log::{Counts, Kind, Progress, Record, RequestLog, Shown, Violation};
pub use operation::{Created, Operation, Place, Step, When};
pub use pages::LARGEST_PAGE;
pub use quirk::{Quirk, QuirkRule};
pub use response_options::{AuditLogOptions, BodyOptions, Order, PaginationOptions, TransportOptions};
pub use throttle::{RetryAfter, ThrottleSettings, Window};
pub use world::{CustomerDetails, WorldError};

use engine::Engine;
use listener::{FREE_PORT, Port};
use server::Shared;
use vetwatch_core::time::Clock;

/// Address, credentials and limits of a sandbox.
#[derive(Clone)]
pub struct Options {
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    pub tenant: String,
    pub client_id: String,
    pub client_secret: String,
    /// Lifetime of an access token, in whole seconds.
    pub token_lifetime: Duration,
    pub throttle: Option<ThrottleSettings>,
    /// Maximum records in the request log; with 0, requests are only counted.
    pub log_capacity: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: FREE_PORT,
            tenant: "5a4d0b1e-0c5c-4c8e-9f0e-2f6d3b1a7c11".into(),
            client_id: "8c2f4a76-3b0d-4d4f-8d53-7e1b6c9a0f22".into(),
            client_secret: "sandbox-secret".into(),
            token_lifetime: Duration::from_secs(3599),
            throttle: None,
            log_capacity: 10_000,
        }
    }
}

// The secret protects nothing here, but examples form habits.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("listen", &self.listen)
            .field("tenant", &self.tenant)
            .field("client_id", &self.client_id)
            .field("token_lifetime", &self.token_lifetime)
            .field("throttle", &self.throttle)
            .field("log_capacity", &self.log_capacity)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} is not a loopback address: the sandbox has no protection of its own")]
    NotLoopback(SocketAddr),
    #[error("the sandbox cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("not seen within {within:?}; the last requests were:\n{last}")]
    TimedOut { within: Duration, last: String },
}

/// A running sandbox. Dropping it stops it.
pub struct Sandbox {
    port: Port,
    shared: Arc<Shared>,
}

impl Sandbox {
    /// Starts listening, without any customers.
    ///
    /// # Errors
    /// If the address is not a loopback address, or cannot be listened on.
    pub async fn start(options: Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let address = options.listen;
        if !address.ip().is_loopback() {
            return Err(Error::NotLoopback(address));
        }
        let shared = Arc::new(Shared::new(Engine::new(&options), clock));
        let port = Port::open_http(address, server::router(Arc::clone(&shared)))
            .await
            .map_err(|source| Error::Listen { address, source })?;
        Ok(Self { port, shared })
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The base URL of both the API and the token endpoint.
    pub fn url(&self) -> Url {
        self.port.url("/")
    }

    /// Simulates an outage: closes every connection and refuses new ones until [`Self::start_again`].
    pub async fn stop(&self) -> io::Result<()> {
        self.port.stop().await
    }

    /// Listens again on the same port. Timelines have continued meanwhile.
    pub async fn start_again(&self) -> io::Result<()> {
        self.port.start_again().await
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.port.accepted()
    }

    /// Stops the sandbox; returns when its connections are closed.
    pub async fn shutdown(self) {
        // Fails only if the port cannot be rebound, and it is not needed any more.
        let _ = self.port.stop().await;
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("address", &self.address()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

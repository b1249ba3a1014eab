//! What the loops of the daemon as a whole look at.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::config::Config;
use crate::worker_loop::Progress;

/// The configuration in force, and the loops that run with it.
#[derive(Debug)]
pub struct InForce {
    pub config: Arc<Config>,
    /// Of every loop that runs.
    pub progress: Vec<Arc<Progress>>,
    /// Wakes the loops of partners and endpoints.
    pub pokes: Vec<Arc<Notify>>,
    /// The configuration file was refused since, in words for `systemctl status`.
    pub refused: Option<String>,
}

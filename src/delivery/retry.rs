//! When a message is tried again. Pure.

use std::time::Duration;

/// `[retry]`.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The pauses after the first, second, … failure; the last one repeats.
    pub schedule: Vec<Duration>,
    /// A message becomes a dead letter when this much time has passed since it first became due.
    pub give_up_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            schedule: [5, 30, 120, 600, 1800, 3600].map(Duration::from_secs).to_vec(),
            give_up_after: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

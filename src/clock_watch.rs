//! Whether the clock was set, so that what is stored in its terms can follow.

use tokio::sync::Mutex;

use crate::time::{Clock, Timestamp};

/// Notices that the clock was set.
#[derive(Debug)]
pub struct ClockWatch {
    /// What time it was when the machine came up, as the clock said at the last look.
    came_up_at: Mutex<Timestamp>,
}

impl ClockWatch {
    /// What is less is a correction that matters to nobody.
    const LEAST_MS: i64 = 60_000;

    #[must_use]
    pub fn new(clock: &dyn Clock) -> Self {
        Self { came_up_at: Mutex::new(clock.now().before(clock.up())) }
    }

    /// Has `correct` follow if the clock was set since the last look; it is given by how many milliseconds. As long as
    /// that fails, the next look finds the same.
    ///
    /// # Errors
    /// Those of `correct`.
    pub async fn look<E, F: Future<Output = Result<(), E>>>(
        &self,
        clock: &dyn Clock,
        correct: impl FnOnce(i64) -> F,
    ) -> Result<(), E> {
        let mut came_up_at = self.came_up_at.lock().await;
        let said_now = clock.now().before(clock.up());
        let by = said_now.as_millis().saturating_sub(came_up_at.as_millis());
        if by.saturating_abs() >= Self::LEAST_MS {
            correct(by).await?;
            *came_up_at = said_now;
        }
        Ok(())
    }
}

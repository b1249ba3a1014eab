//! Detects that the clock was set, so that stored times can be corrected.

use tokio::sync::Mutex;

use crate::time::{Clock, Timestamp};

/// Detects that the clock was set.
#[derive(Debug)]
pub struct ClockWatch {
    /// The time of boot according to the clock at the last check.
    came_up_at: Mutex<Timestamp>,
}

impl ClockWatch {
    /// Smaller corrections are ignored.
    const MIN_STEP_MS: i64 = 60_000;

    #[must_use]
    pub fn new(clock: &dyn Clock) -> Self {
        Self { came_up_at: Mutex::new(clock.now().before(clock.up())) }
    }

    /// Calls `correct` with the number of milliseconds if the clock was set since the last check. If it fails, the next
    /// check calls it again.
    ///
    /// # Errors
    /// Those of `correct`.
    pub async fn check<E, F: Future<Output = Result<(), E>>>(
        &self,
        clock: &dyn Clock,
        correct: impl FnOnce(i64) -> F,
    ) -> Result<(), E> {
        let mut came_up_at = self.came_up_at.lock().await;
        let said_now = clock.now().before(clock.up());
        let by = said_now.as_millis().saturating_sub(came_up_at.as_millis());
        if by.saturating_abs() >= Self::MIN_STEP_MS {
            correct(by).await?;
            *came_up_at = said_now;
        }
        Ok(())
    }
}

//! When the next customer is due, also after a change of the clock or the schedule.

use std::time::Duration;

use tracing::warn;

use super::{LEASE, Poller};
use crate::changes;
use crate::schedule::PollClass;
use crate::store;
use crate::time::Timestamp;

impl Poller {
    /// The earliest due time. Moves up due times beyond the schedule, after the clock was set back or an interval became
    /// shorter.
    pub(super) async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, store::Error> {
        let mut next = None;
        for (class, first, last) in self.store.due_times(self.partner.id).await? {
            let latest = now.after(self.longest_pause(class));
            if last > latest {
                warn!(
                    partner = self.partner.name,
                    class = class.as_str(),
                    "customers due later than their interval allows are polled within it: was the clock set back?"
                );
                let spread = match class {
                    PollClass::Confirming | PollClass::InReview => Duration::ZERO,
                    class => self.intervals().of(class),
                };
                let mut tx = self.store.begin().await?;
                tx.clamp_polls(self.partner.id, class, latest, now, spread).await?;
                tx.commit().await?;
                next = Some(now);
            }
            next = [next, Some(first)].into_iter().flatten().min();
        }
        Ok(next)
    }

    fn longest_pause(&self, class: PollClass) -> Duration {
        let intervals = self.intervals();
        let usual = match class {
            PollClass::Confirming => {
                intervals.first_confirmation.max(intervals.second_confirmation).max(changes::MASS_ABSENCE_DELAY)
            }
            PollClass::Unqualified => intervals.unqualified,
            class => intervals.of(class),
        };
        usual.max(LEASE)
    }
}

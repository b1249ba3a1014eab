//! Who is a customer: Partner Center's list, taken over by cron. Nobody is removed by an answer.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono_tz::Tz;
use tracing::{info, warn};

use crate::partner_center::{self, PartnerCenter};
use crate::store::{self, ListedCustomer, Store};
use crate::time::{Clock, Timestamp};

/// A list that could not be read is asked for again after this long.
const RETRY: Duration = Duration::from_mins(5);
const LONGEST_WAIT: Duration = Duration::from_hours(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the customer list could not be read")]
    PartnerCenter(#[from] partner_center::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Keeps one partner's roster.
pub struct Roster {
    pub partner: i64,
    pub name: String,
    pub client: Arc<PartnerCenter>,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    /// Cron with seconds, in `zone`.
    pub cron: String,
    pub zone: Tz,
    /// After a failure nothing is asked before this time, however often a round comes.
    pub retry_at: Mutex<Option<Timestamp>>,
}

/// What a sync found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Customers in the list.
    pub listed: u64,
    /// Of these, not watched before.
    pub added: u64,
}

impl Roster {
    /// Syncs if it is time to.
    pub async fn round(&self) -> Result<Option<Timestamp>, store::Error> {
        let now = self.clock.now();
        let due = match self.store.last_synced_at(self.partner).await? {
            // A sync from the future: the clock was set back.
            Some(last) if last <= now => self.next_after(last),
            _ => Some(now),
        };
        if due.is_none_or(|due| due > now) {
            return Ok(due);
        }
        // Whoever was told to stay away stays away with all questions. A time farther ahead
        // than any that was asked for means that the clock was set back.
        let gate = self.store.gate(self.partner).await?.map(|gate| gate.closed_until);
        if let Some(at) = gate.max(self.retry_at()).filter(|at| *at > now && *at <= now.after(LONGEST_WAIT)) {
            return Ok(Some(at));
        }
        match self.sync().await {
            Ok(summary) => {
                info!(partner = self.name, listed = summary.listed, added = summary.added, "customer list taken over");
                Ok(self.next_after(now))
            }
            Err(Error::PartnerCenter(error)) => {
                warn!(partner = self.name, "the customer list could not be read; nothing was changed: {error}");
                let wait = match error {
                    partner_center::Error::Throttled { wait: Some(wait), .. } => wait.max(RETRY),
                    _ => RETRY,
                };
                let at = Some(now.after(wait));
                *self.retry_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
                Ok(at)
            }
            Err(Error::Store(error)) => Err(error),
        }
    }

    /// Takes over the whole list: all of it in one transaction, or nothing.
    pub async fn sync(&self) -> Result<Summary, Error> {
        let mut pages: Vec<Vec<ListedCustomer>> = Vec::new();
        let mut after = None;
        loop {
            let page = self.client.customers(after.as_ref()).await?;
            let listed = page.customers.into_iter().map(|customer| ListedCustomer {
                id: customer.id,
                name: customer.name,
                domain: customer.domain,
            });
            pages.push(listed.collect());
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let added = tx.take_over_list(self.partner, &pages, now).await?;
        tx.commit().await?;
        let listed: usize = pages.iter().map(Vec::len).sum();
        Ok(Summary { listed: u64::try_from(listed).unwrap_or(u64::MAX), added })
    }

    fn retry_at(&self) -> Option<Timestamp> {
        *self.retry_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_after(&self, last: Timestamp) -> Option<Timestamp> {
        let cron = croner::Cron::from_str(&self.cron).ok()?;
        let next = cron.find_next_occurrence(&last.to_utc().with_timezone(&self.zone), false).ok()?;
        Some(next.to_utc().into())
    }
}

impl std::fmt::Debug for Roster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").field("partner", &self.name).finish_non_exhaustive()
    }
}

//! Syncs the customers from Partner Center's list, on a cron schedule. No response removes a customer.
//!
//! Each page is applied at once: an entry is a customer, whatever happens to the rest of the list. Only a complete list
//! (see `completeness`) marks customers as missing, and only a second one a day later as departed; even then they are still
//! polled, rarely.

mod completeness;

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use tracing::{debug, info, warn};
use vetwatch_core::membership::{Event, PollChange};
use vetwatch_core::retry::is_logged;

use self::completeness::{Completeness, measure};
use crate::partner_center::{self, Budget, PartnerCenter, Reader};
use crate::poller::{MAX_BACKOFF, backoff_ended, is_ahead, log_backoff, pause, retry_pause};
use crate::qualification::key;
use crate::store::{self, Backoff, CustomerId, PartnerId, Store, customers::ImportedCustomer};
use crate::time::{Clock, Timestamp};

/// Pause after a failed sync, once it has failed at short pauses; doubles with each failure.
const RETRY: Duration = Duration::from_mins(5);
/// Five million customers. A longer list is treated as malformed.
const MAX_PAGES: u32 = 10_000;
/// A customer inserted during a sync may shift others onto the next page, but not this many times in a row.
const MAX_PAGES_WITHOUT_NEW: u32 = 20;
const MAX_MISSING_NAMES: usize = 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `read` is the number of customers on the pages before, which were applied.
    #[error("the customer list could not be read")]
    PartnerCenter { source: partner_center::Error, read: u64 },
    #[error("the partner is backing off until {}: {}", .0.backoff_until, .0.reason)]
    BackingOff(Backoff),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Syncs the customers of one partner.
pub struct CustomerSync {
    pub partner: PartnerId,
    pub name: String,
    pub client: Arc<PartnerCenter>,
    pub budget: Arc<Budget>,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    /// Cron with seconds, in `zone`.
    pub cron: String,
    pub zone: Tz,
    /// A customer missing from the list has departed; `false` if customers are added by hand.
    pub synced: bool,
    /// The interval in review, which bounds the backoff.
    pub in_review: Duration,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Distinct customers in the list.
    pub listed: u64,
    /// Of these, unknown before.
    pub added: u64,
    /// Of these, missing from the last complete list.
    pub returned: u64,
    /// True if the list is not much shorter than the last complete one.
    pub complete: bool,
    /// Size of the last complete list before.
    pub expected: Option<u64>,
    /// Known customers, in a list before and not in this one; without departed ones.
    pub missing: u64,
    /// The first ten of them.
    pub missing_names: Vec<String>,
    /// Of the missing, departed after a day: polled rarely from now on.
    pub left: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub pages: u32,
    pub customers: usize,
}

impl CustomerSync {
    /// Syncs if due.
    ///
    /// # Errors
    /// When the database fails. A failure of Partner Center is recorded and retried later.
    pub async fn round(&self) -> Result<Option<Timestamp>, store::Error> {
        self.round_with(|_| {}).await
    }

    /// [`Self::round`], with a call after each page.
    ///
    /// # Errors
    /// As [`Self::round`].
    pub async fn round_with(&self, progress: impl Fn(Progress)) -> Result<Option<Timestamp>, store::Error> {
        let now = self.clock.now();
        let state = self.store.list_state(self.partner).await?;
        let due = match state.read_at {
            // A sync in the future: the clock was set back.
            Some(last) if last <= now => self.next_after(last),
            _ => Some(now),
        };
        if due.is_none_or(|due| due > now) {
            return Ok(due);
        }
        if let Some(at) = state.retry_at.filter(|at| is_ahead(*at, now)) {
            return Ok(Some(at));
        }
        match self.sync(progress).await {
            Ok(summary) => {
                self.log(&summary);
                Ok(self.next_after(now))
            }
            Err(Error::BackingOff(backoff)) => Ok(Some(backoff.backoff_until)),
            Err(Error::PartnerCenter { source, read }) => {
                let state = self.store.list_state(self.partner).await?;
                let (partner, failures) = (&self.name, state.failures);
                if is_logged(failures) {
                    warn!(
                        partner,
                        read,
                        failures,
                        "the customer list could not be read to its end; nobody is counted as missing: {source}"
                    );
                } else {
                    debug!(partner, read, failures, "the customer list could not be read to its end: {source}");
                }
                Ok(state.retry_at)
            }
            Err(Error::Store(error)) => Err(error),
        }
    }

    /// Reads the whole list and applies it. Respects the partner's backoff.
    ///
    /// # Errors
    /// [`Error::BackingOff`] while the partner backs off; [`Error::PartnerCenter`] if the list could not be read to its end:
    /// the pages read are applied, no customer is marked as missing, and a retry is scheduled.
    pub async fn sync(&self, progress: impl Fn(Progress)) -> Result<Summary, Error> {
        let backoff = self.store.backoff(self.partner).await?;
        if let Some(backoff) = backoff.as_ref().filter(|backoff| is_ahead(backoff.backoff_until, self.clock.now())) {
            return Err(Error::BackingOff(backoff.clone()));
        }
        let mut summary = Summary::default();
        let mut listed = HashSet::new();
        if let Err(error) = self.read(&mut summary, &mut listed, progress).await {
            if let Error::PartnerCenter { source, .. } = &error {
                self.failed(source, backoff.as_ref()).await?;
            }
            return Err(error);
        }
        self.end(&mut summary, &listed, backoff.is_some()).await?;
        Ok(summary)
    }

    /// Applies page after page. Collects the normalised ids in `listed`.
    async fn read(
        &self,
        summary: &mut Summary,
        listed: &mut HashSet<String>,
        progress: impl Fn(Progress),
    ) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let mut after = None;
        let mut pages_without_new = 0;
        for pages in 1.. {
            let failed = |source| Error::PartnerCenter { source, read: summary.listed };
            // Polls go first, and leave pages their share.
            let now = self.clock.now();
            tokio::time::sleep(self.budget.page_at(Reader::CustomerList, now).since(now)).await;
            let page = self.client.customers(after.as_ref()).await.map_err(failed)?;
            let before = listed.len();
            listed.extend(page.customers.iter().map(|customer| key(&customer.id)));
            pages_without_new = if listed.len() > before { 0 } else { pages_without_new + 1 };
            let customers = page.customers.into_iter().map(|customer| ImportedCustomer {
                id: customer.id,
                name: Some(customer.name),
                domain: Some(customer.domain),
                ..ImportedCustomer::default()
            });
            let customers: Vec<_> = customers.collect();
            if !customers.is_empty() {
                let mut tx = self.store.begin().await?;
                let applied = tx.apply_page(self.partner, &customers, self.clock.now()).await?;
                tx.commit().await?;
                summary.added += applied.added;
                summary.returned += applied.returned;
            }
            summary.listed = count(listed.len());
            progress(Progress { pages, customers: listed.len() });
            let Some(next) = page.next else { break };
            if pages >= MAX_PAGES || pages_without_new >= MAX_PAGES_WITHOUT_NEW || !seen.insert(next.clone()) {
                let what = format!("the customer list goes in a circle; {pages} pages were read");
                let source = partner_center::Error::Unreadable { what, correlation_id: None };
                return Err(Error::PartnerCenter { source, read: summary.listed });
            }
            after = Some(next);
        }
        Ok(())
    }

    /// Applies a list that was read to its end, in one transaction.
    async fn end(
        &self,
        summary: &mut Summary,
        listed: &HashSet<String>,
        ends_backoff: bool,
    ) -> Result<(), store::Error> {
        let now = self.clock.now();
        let state = self.store.list_state(self.partner).await?;
        let completeness = measure(summary.listed, state.size, state.short, now);
        summary.expected = state.size;
        summary.complete = completeness == Completeness::Complete;
        let mut missing = Vec::new();
        if summary.complete && self.synced {
            missing = self.store.unlisted(self.partner, listed).await?;
            missing.retain(|customer| !customer.left);
        }
        let rows: Vec<CustomerId> = missing.iter().map(|customer| customer.row).collect();

        let mut tx = self.store.begin().await?;
        if ends_backoff {
            tx.clear_backoff(self.partner).await?;
            backoff_ended(&self.name);
        }
        match completeness {
            Completeness::Complete => {
                let applied = tx.apply_membership(&rows, Event::NotInList, now).await?;
                summary.left = count(applied.iter().filter(|customer| customer.polls != PollChange::Keep).count());
                tx.record_complete_list(self.partner, summary.listed, now).await?;
            }
            Completeness::Short { since, size } => tx.record_short_list(self.partner, (since, size), now).await?,
        }
        tx.commit().await?;
        summary.missing = count(missing.len());
        summary.missing_names = missing.into_iter().take(MAX_MISSING_NAMES).map(|customer| customer.label).collect();
        Ok(())
    }

    /// Schedules a retry. A failure that affects all customers starts the partner's backoff as well.
    async fn failed(&self, error: &partner_center::Error, backoff: Option<&Backoff>) -> Result<(), store::Error> {
        let now = self.clock.now();
        let failures = self.store.list_state(self.partner).await?.failures;
        let mut wait = retry_pause(error, RETRY, failures).min(MAX_BACKOFF);
        let mut tx = self.store.begin().await?;
        if error.affects_partner() {
            let pause = pause(error, backoff.map_or(0, |backoff| backoff.backoffs), self.in_review);
            log_backoff(&self.name, now.after(pause), error);
            tx.start_backoff(self.partner, now.after(pause), &error.to_string(), error.is_throttling()).await?;
            wait = wait.max(pause);
        }
        tx.list_failed(self.partner, now.after(wait), &error.to_string(), now).await?;
        tx.commit().await
    }

    fn log(&self, summary: &Summary) {
        let Summary { listed, added, returned, missing, left, .. } = summary;
        if summary.complete {
            info!(partner = self.name, listed, added, returned, missing, left, "customer list taken over");
        } else {
            let expected = summary.expected.unwrap_or(0);
            warn!(
                partner = self.name,
                listed,
                expected,
                added,
                returned,
                "the customer list is much shorter than the last one; nobody is counted as missing by it"
            );
        }
    }

    fn next_after(&self, last: Timestamp) -> Option<Timestamp> {
        let cron = croner::Cron::from_str(&self.cron).ok()?;
        let next = cron.find_next_occurrence(&last.to_utc().with_timezone(&self.zone), false).ok()?;
        Some(next.to_utc().into())
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for CustomerSync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CustomerSync").field("partner", &self.name).finish_non_exhaustive()
    }
}

//! Who is a customer: Partner Center's list, taken over by cron. Nobody is removed by an answer.
//!
//! A list is taken over page by page: whoever is in it is a customer, whatever becomes of the rest. Only a list that is
//! complete (see `completeness`) says of anybody that it is missing, and only the second one a day later that it left; even
//! then it is still asked, seldom.

mod completeness;

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use tracing::{info, warn};

use self::completeness::{A_DAY, Completeness, measure};
use crate::partner_center::{self, Budget, PartnerCenter, Reader};
use crate::poller::{LONGEST_GATE, pause};
use crate::qualification::key;
use crate::store::{self, Backoff, ListedCustomer, Store};
use crate::time::{Clock, Timestamp};

/// A list that could not be read is asked for again after this long, then after twice as long.
const RETRY: Duration = Duration::from_mins(5);
/// Five million customers. A list that goes on is none.
const PAGES: u32 = 10_000;
/// Somebody may be inserted while the list is read, and shift others onto the next page; not so many times in a row.
const MAX_PAGES_WITHOUT_NEW: u32 = 20;
/// So many of those who are missing are named.
const MAX_NAMES: usize = 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `read`: customers of the pages before, who were taken over.
    #[error("the customer list could not be read")]
    PartnerCenter { source: partner_center::Error, read: u64 },
    #[error("nothing is asked of Partner Center before {}: {}", .0.backoff_until, .0.reason)]
    Closed(Backoff),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Keeps one partner's roster.
pub struct Roster {
    pub partner: i64,
    pub name: String,
    pub client: Arc<PartnerCenter>,
    pub budget: Arc<Budget>,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    /// Cron with seconds, in `zone`.
    pub cron: String,
    pub zone: Tz,
    /// The roster follows the list: who is missing from it, left.
    pub synced: bool,
    /// How long the gate closes depends on it.
    pub in_review: Duration,
}

/// What a sync found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Customers in the list, each once.
    pub listed: u64,
    /// Of these, not on the roster before.
    pub added: u64,
    /// Of these, missing from the last complete list.
    pub returned: u64,
    /// Whether the list counts: it is not much shorter than the last complete one.
    pub complete: bool,
    /// How many customers the last complete list before held.
    pub expected: Option<u64>,
    /// On the roster, in a list before, and not in this one; who left already does not count.
    pub missing: u64,
    /// The first ten of them.
    pub missing_names: Vec<String>,
    /// Of the missing, so for a day: they left. Asked seldom from now on.
    pub left: u64,
}

/// How far a sync got.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub pages: u32,
    pub customers: usize,
}

impl Roster {
    /// Syncs if it is time to.
    ///
    /// # Errors
    /// When the database fails. What Partner Center refuses is noted and tried again later.
    pub async fn round(&self) -> Result<Option<Timestamp>, store::Error> {
        self.round_with(|_| {}).await
    }

    /// The same; says of each page that it was taken over.
    ///
    /// # Errors
    /// As [`Self::round`].
    pub async fn round_with(&self, progress: impl Fn(Progress)) -> Result<Option<Timestamp>, store::Error> {
        let now = self.clock.now();
        let state = self.store.list_state(self.partner).await?;
        let due = match state.read_at {
            // A sync from the future: the clock was set back.
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
            Err(Error::Closed(gate)) => Ok(Some(gate.backoff_until)),
            Err(Error::PartnerCenter { source, read }) => {
                warn!(
                    partner = self.name,
                    read, "the customer list could not be read to its end; nobody is counted as missing: {source}"
                );
                Ok(self.store.list_state(self.partner).await?.retry_at)
            }
            Err(Error::Store(error)) => Err(error),
        }
    }

    /// Reads the whole list and takes it over. Whoever was told to stay away stays away with this question as well.
    ///
    /// # Errors
    /// [`Error::Closed`] while the partner's gate is closed; [`Error::PartnerCenter`] if the list did not come to its
    /// end: whoever was in it is taken over, nobody is counted as missing, and it is noted when to try again.
    pub async fn sync(&self, progress: impl Fn(Progress)) -> Result<Summary, Error> {
        let gate = self.store.backoff(self.partner).await?;
        if let Some(gate) = gate.as_ref().filter(|gate| is_ahead(gate.backoff_until, self.clock.now())) {
            return Err(Error::Closed(gate.clone()));
        }
        let mut summary = Summary::default();
        let mut listed = HashSet::new();
        if let Err(error) = self.read(&mut summary, &mut listed, progress).await {
            if let Error::PartnerCenter { source, .. } = &error {
                self.failed(source, gate.as_ref()).await?;
            }
            return Err(error);
        }
        self.end(&mut summary, &listed, gate.is_some()).await?;
        Ok(summary)
    }

    /// Takes page after page over. `listed`: the ids, as compared.
    async fn read(
        &self,
        summary: &mut Summary,
        listed: &mut HashSet<String>,
        progress: impl Fn(Progress),
    ) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let mut after = None;
        let mut without_news = 0;
        for pages in 1.. {
            let failed = |source| Error::PartnerCenter { source, read: summary.listed };
            // The polls go first, and leave a page its share.
            let now = self.clock.now();
            tokio::time::sleep(self.budget.page_at(Reader::CustomerList, now).since(now)).await;
            let page = self.client.customers(after.as_ref()).await.map_err(failed)?;
            let before = listed.len();
            listed.extend(page.customers.iter().map(|customer| key(&customer.id)));
            without_news = if listed.len() > before { 0 } else { without_news + 1 };
            let customers: Vec<_> = page
                .customers
                .into_iter()
                .map(|customer| ListedCustomer { id: customer.id, name: customer.name, domain: customer.domain })
                .collect();
            if !customers.is_empty() {
                let mut tx = self.store.begin().await?;
                let taken = tx.apply_page(self.partner, &customers, self.clock.now()).await?;
                tx.commit().await?;
                summary.added += taken.added;
                summary.returned += taken.returned;
            }
            summary.listed = u64::try_from(listed.len()).unwrap_or(u64::MAX);
            progress(Progress { pages, customers: listed.len() });
            let Some(next) = page.next else { break };
            if pages >= PAGES || without_news >= MAX_PAGES_WITHOUT_NEW || !seen.insert(next.clone()) {
                let what = format!("the customer list goes in a circle; {pages} pages were read");
                let source = partner_center::Error::Unreadable { what, correlation_id: None };
                return Err(Error::PartnerCenter { source, read: summary.listed });
            }
            after = Some(next);
        }
        Ok(())
    }

    /// What follows from a list that ended as documented, in one transaction.
    async fn end(&self, summary: &mut Summary, listed: &HashSet<String>, opens_gate: bool) -> Result<(), store::Error> {
        let now = self.clock.now();
        let state = self.store.list_state(self.partner).await?;
        let measured = measure(summary.listed, state.size, state.short, now);
        summary.expected = state.size;
        summary.complete = measured == Completeness::Complete;
        let mut missing = Vec::new();
        if summary.complete && self.synced {
            missing = self.store.unlisted(self.partner, listed).await?;
            missing.retain(|customer| !customer.left);
        }
        // Since later than now: the clock was set back.
        let is_new = |since: Option<Timestamp>| since.is_none_or(|since| since > now);
        let new: Vec<i64> =
            missing.iter().filter(|customer| is_new(customer.since)).map(|customer| customer.row).collect();
        let is_long = |since: Timestamp| now.since(since) >= A_DAY;
        let left = missing.iter().filter(|customer| customer.since.is_some_and(is_long));
        let left: Vec<i64> = left.map(|customer| customer.row).collect();

        let mut tx = self.store.begin().await?;
        if opens_gate {
            tx.clear_backoff(self.partner).await?;
        }
        match measured {
            Completeness::Complete => {
                tx.mark_missing(&new, now).await?;
                tx.mark_departed(&left, now).await?;
                tx.record_complete_list(self.partner, summary.listed, now).await?;
            }
            Completeness::Short { since, size } => tx.record_short_list(self.partner, (since, size), now).await?,
        }
        tx.commit().await?;
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        (summary.missing, summary.left) = (count(missing.len()), count(left.len()));
        summary.missing_names = missing.into_iter().take(MAX_NAMES).map(|customer| customer.label).collect();
        Ok(())
    }

    /// What concerns everybody closes the partner's gate; either way the list is left alone for a while.
    async fn failed(&self, error: &partner_center::Error, gate: Option<&Backoff>) -> Result<(), store::Error> {
        let now = self.clock.now();
        let failures = self.store.list_state(self.partner).await?.failures;
        let mut wait = RETRY.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(LONGEST_GATE);
        let mut tx = self.store.begin().await?;
        if error.affects_partner() {
            let closed = pause(error, gate.map_or(0, |gate| gate.backoffs), self.in_review);
            warn!(partner = self.name, until = %now.after(closed), "nothing is asked of Partner Center for a while: {error}");
            tx.start_backoff(self.partner, now.after(closed), &error.to_string()).await?;
            wait = wait.max(closed);
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

/// A time farther ahead than any that was asked for means that the clock was set back.
fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    at > now && at <= now.after(LONGEST_GATE)
}

impl std::fmt::Debug for Roster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").field("partner", &self.name).finish_non_exhaustive()
    }
}

//! Syncing Partner Center's customer list: customers that are new, returned or missing, and how complete a list is.

use std::collections::HashSet;

use vetwatch_core::membership::{Event, InList};

use super::customers::ImportedCustomer;
use super::membership::Applied;
use super::{CustomerId, Error, PartnerId, Store, WriteTx, unreadable};
use crate::time::Timestamp;

/// The outcome of applying a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TakenPage {
    /// Customers that were not in the database.
    pub added: u64,
    /// Customers that were missing from the last complete list.
    pub returned: u64,
}

/// The state of a partner's customer list sync.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListState {
    /// When a list was last read to its end, complete or not.
    pub read_at: Option<Timestamp>,
    /// When the last complete list was applied, and how many customers it held.
    pub complete_at: Option<Timestamp>,
    pub size: Option<u64>,
    /// The first of several lists that were too short and agree: when it was read, and how many customers it held.
    pub short: Option<(Timestamp, u64)>,
    /// After a failure: when to retry, and the failures in a row.
    pub retry_at: Option<Timestamp>,
    pub failures: u32,
}

/// A watched customer that was in an earlier list and is not in this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlisted {
    pub row: CustomerId,
    /// Its name, domain or id.
    pub label: String,
    /// It is marked as departed already.
    pub left: bool,
}

impl Store {
    pub async fn list_state(&self, partner: PartnerId) -> Result<ListState, Error> {
        let row = sqlx::query!(
            "select coalesce(list_read_at, last_synced_at) as read_at, last_synced_at, list_size, list_short_since, list_short_size,
                    list_retry_at, list_failures
             from partner where id = ?",
            partner
        )
        .fetch_one(&self.read)
        .await?;
        let at = |ms: Option<i64>| ms.map(Timestamp::from_millis);
        let count = |column, n: Option<i64>| {
            n.map(|n| u64::try_from(n).map_err(unreadable("partner", partner, column))).transpose()
        };
        Ok(ListState {
            read_at: at(row.read_at),
            complete_at: at(row.last_synced_at),
            size: count("list_size", row.list_size)?,
            short: at(row.list_short_since).zip(count("list_short_size", row.list_short_size)?),
            retry_at: at(row.list_retry_at),
            failures: u32::try_from(row.list_failures).unwrap_or(u32::MAX),
        })
    }

    /// Customers that were in an earlier list and are not in `listed` (normalised ids), by name.
    pub async fn unlisted(&self, partner: PartnerId, listed: &HashSet<String>) -> Result<Vec<Unlisted>, Error> {
        let mut unlisted = Vec::new();
        let mut after = String::new();
        // In pages, on a reader: scanning all of a large partner takes a second.
        loop {
            let rows = sqlx::query!(
                r#"select id as "id!: CustomerId", customer_key,
                          coalesce(nullif(name, ''), nullif(domain, ''), customer_id) as "label!: String",
                          departed_reason is 'missing' as "left!: bool", was_in_list
                   from customer where partner = ?1 and removed_at is null and customer_key > ?2
                   order by customer_key limit 2000"#,
                partner,
                after
            )
            .fetch_all(&self.read)
            .await?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.customer_key);
            let missing = rows.into_iter().filter(|row| row.was_in_list == 1 && !listed.contains(&row.customer_key));
            unlisted.extend(missing.map(|row| Unlisted { row: row.id, label: row.label, left: row.left }));
        }
        unlisted.sort_by(|a, b| a.label.cmp(&b.label));
        Ok(unlisted)
    }
}

impl WriteTx {
    /// Adds new customers, updates names, and clears the absence of returned customers: those keep their state, and are
    /// due now if they had departed. Removes nobody, and does not bring back customers that were removed by hand.
    pub async fn apply_page(
        &mut self,
        partner: PartnerId,
        page: &[ImportedCustomer],
        now: Timestamp,
    ) -> Result<TakenPage, Error> {
        let upserted = self.upsert(partner, page, Event::InList, now).await?;
        let was_missing = |known: &&Applied| matches!(known.before.in_list, InList::MissingSince(_));
        let returned = upserted.known.iter().filter(was_missing).count() as u64;
        Ok(TakenPage { added: upserted.added, returned })
    }

    /// Records a complete list of `size` customers, which the next one is measured against.
    pub async fn record_complete_list(&mut self, partner: PartnerId, size: u64, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            // An empty list is no baseline for new customers: the right to read it may just have been granted.
            "update partner
             set last_synced_at = ?2, first_synced_at = case when ?3 > 0 then coalesce(first_synced_at, ?2) else first_synced_at end,
                 list_size = ?3, list_read_at = ?2, list_short_since = null, list_short_size = null,
                 list_retry_at = null, list_failures = 0, list_error = null, list_failing_since = null
             where id = ?1",
            partner,
            now.as_millis(),
            i64::try_from(size).unwrap_or(i64::MAX)
        ))
        .await
    }

    /// Records a list that ended and was too short; `since` and `size` are those of the first that agrees with it.
    pub async fn record_short_list(
        &mut self,
        partner: PartnerId,
        (since, size): (Timestamp, u64),
        now: Timestamp,
    ) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner
             set list_read_at = ?2, list_short_since = ?3, list_short_size = ?4,
                 list_retry_at = null, list_failures = 0, list_error = null, list_failing_since = null
             where id = ?1",
            partner,
            now.as_millis(),
            since.as_millis(),
            i64::try_from(size).unwrap_or(i64::MAX)
        ))
        .await
    }

    /// Records a failed sync. It says nothing about the customers in the list.
    pub async fn list_failed(
        &mut self,
        partner: PartnerId,
        retry_at: Timestamp,
        error: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner
             set list_retry_at = ?2, list_failures = list_failures + 1, list_error = ?3,
                 list_failing_since = min(coalesce(list_failing_since, ?4), ?4)
             where id = ?1",
            partner,
            retry_at.as_millis(),
            error,
            now.as_millis()
        ))
        .await
    }
}

//! Partner Center's customer list, taken over: who is new, who is back, who is missing, and how a list measures.

use std::collections::HashSet;

use serde::Serialize;

use super::{Error, Store, WriteTx, json, unreadable};
use crate::qualification::key;
use crate::time::Timestamp;

/// A customer of the list.
#[derive(Debug, Clone, Serialize)]
pub struct ListedCustomer {
    pub id: String,
    pub name: String,
    pub domain: String,
}

/// As the statements read it.
#[derive(Serialize)]
struct Row<'a> {
    /// The id, as compared.
    key: String,
    #[serde(flatten)]
    customer: &'a ListedCustomer,
}

/// What a page came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TakenPage {
    /// Not on the roster before.
    pub added: u64,
    /// Missing from the last complete list, and here again.
    pub returned: u64,
}

/// How a partner's list stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListState {
    /// When a list was last read to its end, complete or not.
    pub read_at: Option<Timestamp>,
    /// When the last complete one was taken over, and how many customers it held.
    pub complete_at: Option<Timestamp>,
    pub size: Option<u64>,
    /// The first of the lists that were too short and agree, and how many customers that held.
    pub short: Option<(Timestamp, u64)>,
    /// It could not be read: not before this time again; how many times in a row.
    pub retry_at: Option<Timestamp>,
    pub failures: u32,
}

/// A customer of the roster that was in a list once, and is not in this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlisted {
    pub row: i64,
    /// Its name, or what there is instead.
    pub label: String,
    /// The first complete list in a row that it is missing from; `None`: this one.
    pub since: Option<Timestamp>,
    /// That it left was noted already.
    pub left: bool,
}

impl Store {
    pub async fn list_state(&self, partner: i64) -> Result<ListState, Error> {
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

    /// Who was in a list once and is not among these (ids as compared), by name.
    pub async fn unlisted(&self, partner: i64, listed: &HashSet<String>) -> Result<Vec<Unlisted>, Error> {
        let mut unlisted = Vec::new();
        let mut after = String::new();
        // A piece at a time, and beside whoever writes: going through all of a large roster takes a second.
        loop {
            let rows = sqlx::query!(
                r#"select id as "id!", customer_key,
                          coalesce(nullif(name, ''), nullif(domain, ''), customer_id) as "label!: String",
                          missing_from_list_since, departed_reason is 'missing' as "left!: bool", was_in_list
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
            unlisted.extend(missing.map(|row| Unlisted {
                row: row.id,
                label: row.label,
                since: row.missing_from_list_since.map(Timestamp::from_millis),
                left: row.left,
            }));
        }
        unlisted.sort_by(|a, b| a.label.cmp(&b.label));
        Ok(unlisted)
    }
}

impl WriteTx {
    /// Adds who is new, renames who was renamed, and notes who is back: that customer goes on where it was, and is
    /// asked now if it had left. Nobody is removed, and who was removed by hand does not come back by itself.
    pub async fn apply_page(
        &mut self,
        partner: i64,
        page: &[ListedCustomer],
        now: Timestamp,
    ) -> Result<TakenPage, Error> {
        let rows: Vec<_> = page.iter().map(|customer| Row { key: key(&customer.id), customer }).collect();
        let (rows, now) = (json(&rows)?, now.as_millis());
        sqlx::query!(
            // Written so that the list is gone through once, each customer looked up: SQLite's own choice is to go
            // through all of the list for each customer, and nobody else can write for as long as that takes.
            "with j as materialized (
                 select c.id, value ->> 'name' as name, value ->> 'domain' as domain
                 from json_each(?2) cross join customer c
                   on c.partner = ?1 and c.customer_key = value ->> 'key' and c.removed_at is null
                 where c.name is not value ->> 'name' or c.domain is not value ->> 'domain' or c.was_in_list = 0)
             update customer set name = j.name, domain = j.domain, was_in_list = 1 from j where customer.id = j.id",
            partner,
            rows
        )
        .execute(&mut *self.tx)
        .await?;
        let returned = sqlx::query!(
            // Without its last answer the next one is looked at anew, and with it how often it is asked.
            "update customer
             set missing_from_list_since = null,
                 response = case when departed_since is null then response end,
                 next_poll_at = case when departed_since is null then next_poll_at else ?3 end,
                 paused_at = case when given_up_at is null then paused_at end, given_up_at = null,
                 departed_since = null, departed_reason = null
             where id in (select c.id
                          from json_each(?2) cross join customer c
                            on c.partner = ?1 and c.customer_key = value ->> 'key' and c.removed_at is null
                          where c.missing_from_list_since is not null)",
            partner,
            rows,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        let added = sqlx::query!(
            "insert into customer (partner, customer_id, customer_key, name, domain, source, was_in_list, added_at, next_poll_at)
             select ?1, value ->> 'id', value ->> 'key', value ->> 'name', value ->> 'domain', 'synced', 1, ?3, ?3
             from json_each(?2)
             where not exists (select 1 from customer c where c.partner = ?1 and c.customer_key = value ->> 'key')
             group by value ->> 'key'",
            partner,
            rows,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(TakenPage { added: added.rows_affected(), returned: returned.rows_affected() })
    }

    /// These are missing from a complete list for the first time.
    pub async fn mark_missing(&mut self, rows: &[i64], now: Timestamp) -> Result<(), Error> {
        let (rows, now) = (super::reports::json_list(rows), now.as_millis());
        sqlx::query!(
            "update customer set missing_from_list_since = ?2 where id in (select value from json_each(?1))",
            rows,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// These are missing still: they left. From their next answer on they are asked seldom, whatever it says.
    pub async fn mark_departed(&mut self, rows: &[i64], now: Timestamp) -> Result<(), Error> {
        let (rows, now) = (super::reports::json_list(rows), now.as_millis());
        sqlx::query!(
            // A second look that is under way comes to its end first.
            "update customer
             set departed_since = coalesce(departed_since, ?2), departed_reason = 'missing', unreadable_since = null, unreadable_reported_at = null,
                 poll_class = case poll_class when 'confirming' then poll_class else 'unqualified' end
             where id in (select value from json_each(?1))",
            rows,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// A complete list of so many customers was taken over: the measure for the next one.
    pub async fn list_was_complete(&mut self, partner: i64, size: u64, now: Timestamp) -> Result<(), Error> {
        let (size, now) = (i64::try_from(size).unwrap_or(i64::MAX), now.as_millis());
        sqlx::query!(
            // Of an empty list nobody can be new: the right to read it may just have been given.
            "update partner
             set last_synced_at = ?2, first_synced_at = case when ?3 > 0 then coalesce(first_synced_at, ?2) else first_synced_at end,
                 list_size = ?3, list_read_at = ?2, list_short_since = null, list_short_size = null,
                 list_retry_at = null, list_failures = 0, list_error = null, list_failing_since = null
             where id = ?1",
            partner,
            now,
            size
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// A list ended and was too short; `since` and `size` are those of the first of its kind.
    pub async fn list_was_short(
        &mut self,
        partner: i64,
        (since, size): (Timestamp, u64),
        now: Timestamp,
    ) -> Result<(), Error> {
        let (since, size, now) = (since.as_millis(), i64::try_from(size).unwrap_or(i64::MAX), now.as_millis());
        sqlx::query!(
            "update partner
             set list_read_at = ?2, list_short_since = ?3, list_short_size = ?4,
                 list_retry_at = null, list_failures = 0, list_error = null, list_failing_since = null
             where id = ?1",
            partner,
            now,
            since,
            size
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// The list could not be read. Says nothing of anybody in it.
    pub async fn list_failed(
        &mut self,
        partner: i64,
        retry_at: Timestamp,
        error: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (retry_at, now) = (retry_at.as_millis(), now.as_millis());
        sqlx::query!(
            "update partner
             set list_retry_at = ?2, list_failures = list_failures + 1, list_error = ?3,
                 list_failing_since = min(coalesce(list_failing_since, ?4), ?4)
             where id = ?1",
            partner,
            retry_at,
            error,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }
}

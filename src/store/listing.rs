//! Partner Center's customer list, taken over.

use serde::Serialize;

use super::{Error, WriteTx};
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

impl WriteTx {
    /// Adds who is new and renames who was renamed. Nobody is removed, and who was removed by hand does not come
    /// back by itself. Returns how many are new.
    pub async fn take_over_list(
        &mut self,
        partner: i64,
        pages: &[Vec<ListedCustomer>],
        now: Timestamp,
    ) -> Result<u64, Error> {
        let mut added = 0;
        // Page by page: as one text, a large list would cost more memory than all else, and the allocator keeps it.
        for page in pages {
            added += self.take_over_page(partner, page, now).await?;
        }
        let (now, has_any) = (now.as_millis(), pages.iter().any(|page| !page.is_empty()));
        sqlx::query!(
            "update partner set last_synced_at = ?1, first_synced_at = case when ?3 then coalesce(first_synced_at, ?1) else first_synced_at end
             where id = ?2",
            now,
            partner,
            // Of an empty list nobody can be new: the right to read it may just have been given.
            has_any
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(added)
    }

    async fn take_over_page(&mut self, partner: i64, page: &[ListedCustomer], now: Timestamp) -> Result<u64, Error> {
        let rows: Vec<_> = page.iter().map(|customer| Row { key: key(&customer.id), customer }).collect();
        let (rows, now) = (serde_json::to_string(&rows).unwrap_or_default(), now.as_millis());
        sqlx::query!(
            // Written so that the list is gone through once, each customer looked up: SQLite's own choice is to go
            // through all of the list for each customer, and nobody else can write for as long as that takes.
            "with j as materialized (
                 select c.id, value ->> 'name' as name, value ->> 'domain' as domain
                 from json_each(?2) cross join customer c
                   on c.partner = ?1 and c.customer_key = value ->> 'key' and c.removed_at is null
                 where c.name is not value ->> 'name' or c.domain is not value ->> 'domain')
             update customer set name = j.name, domain = j.domain from j where customer.id = j.id",
            partner,
            rows
        )
        .execute(&mut *self.tx)
        .await?;
        let added = sqlx::query!(
            "insert into customer (partner, customer_id, customer_key, name, domain, source, added_at, next_poll_at)
             select ?1, value ->> 'id', value ->> 'key', value ->> 'name', value ->> 'domain', 'synced', ?3, ?3
             from json_each(?2)
             where not exists (select 1 from customer c where c.partner = ?1 and c.customer_key = value ->> 'key')
             group by value ->> 'key'",
            partner,
            rows,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(added.rows_affected())
    }
}

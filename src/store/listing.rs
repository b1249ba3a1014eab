//! Partner Center's customer list, taken over.

use serde::Serialize;

use super::{Error, WriteTx};
use crate::time::Timestamp;

/// A customer of the list.
#[derive(Debug, Clone, Serialize)]
pub struct ListedCustomer {
    pub id: String,
    /// The id, as compared.
    pub key: String,
    pub name: String,
    pub domain: String,
}

impl WriteTx {
    /// Adds who is new and renames who was renamed. Nobody is removed, and who was removed by hand does not come
    /// back by itself. Returns how many are new.
    pub async fn take_over_list(
        &mut self,
        partner: i64,
        listed: &[ListedCustomer],
        now: Timestamp,
    ) -> Result<u64, Error> {
        let (rows, now) = (serde_json::to_string(listed).unwrap_or_default(), now.as_millis());
        sqlx::query!(
            "update customer set name = j.name, domain = j.domain
             from (select value ->> 'key' as key, value ->> 'name' as name, value ->> 'domain' as domain from json_each(?2)) j
             where customer.partner = ?1 and customer.customer_key = j.key and customer.removed_at is null
               and (customer.name is not j.name or customer.domain is not j.domain)",
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
        .await?
        .rows_affected();
        sqlx::query!(
            "update partner set first_synced_at = coalesce(first_synced_at, ?1), last_synced_at = ?1 where id = ?2",
            now,
            partner
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(added)
    }
}

//! What the shells' completions offer.

use super::{Error, Store, doing};

/// A customer that is offered.
#[derive(Debug)]
pub struct OfferedCustomer {
    pub id: String,
    pub domain: String,
    pub name: String,
}

impl Store {
    /// At most `limit` watched customers whose id, domain or name begins with `typed` (lower case).
    pub async fn complete_customer(&self, typed: &str, limit: u32) -> Result<Vec<OfferedCustomer>, Error> {
        let customers = sqlx::query_as!(
            OfferedCustomer,
            r#"select customer_id as id, domain, name from customer
               where removed_at is null
                 and (substr(customer_key, 1, length(?1)) = ?1 or substr(lower(domain), 1, length(?1)) = ?1
                      or substr(lower(name), 1, length(?1)) = ?1)
               order by name limit ?2"#,
            typed,
            limit
        );
        customers.fetch_all(&self.read).await.map_err(doing("complete a customer"))
    }

    /// At most `limit` of the newest deliveries whose id begins with `typed`: id, and state and endpoint.
    pub async fn complete_delivery(&self, typed: &str, limit: u32) -> Result<Vec<(String, String)>, Error> {
        let ids = sqlx::query!(
            r#"select id, state || ' ' || endpoint as "about!: String" from delivery
               where id >= ?1 and id < ?1 || '~' order by sequence desc limit ?2"#,
            typed,
            limit
        );
        let ids = ids.fetch_all(&self.read).await.map_err(doing("complete a message"))?;
        Ok(ids.into_iter().map(|row| (row.id, row.about)).collect())
    }

    /// At most `limit` of the newest events whose id begins with `typed`: id and type.
    pub async fn complete_event(&self, typed: &str, limit: u32) -> Result<Vec<(String, String)>, Error> {
        let ids = sqlx::query!(
            r#"select id as "id!: String", type as about from event
               where substr(id, 1, length(?1)) = ?1 order by occurred_at desc limit ?2"#,
            typed,
            limit
        );
        let ids = ids.fetch_all(&self.read).await.map_err(doing("complete an event"))?;
        Ok(ids.into_iter().map(|row| (row.id, row.about)).collect())
    }
}

//! Pending verdicts: seen, and waiting for confirmation.

use serde::Serialize;

use crate::store::columns::Time;
use crate::store::{CustomerId, Error, Store};
use crate::time::Timestamp;

/// A verdict that may be stale, until enough polls confirm it.
#[derive(Debug, Clone, Serialize)]
pub struct PendingRow {
    pub partner: String,
    pub customer_id: String,
    pub customer_name: String,
    pub qualification: String,
    pub vetting_status: String,
    pub vetting_reason: Option<String>,
    pub seen_at: Timestamp,
    /// When it will be recorded, if it stays.
    pub confirmed_by: Timestamp,
}

impl Store {
    /// The pending verdicts of these customers, or with `None` of all; oldest first.
    pub async fn pending_verdicts(&self, customers: Option<&[CustomerId]>) -> Result<Vec<PendingRow>, Error> {
        let pending = sqlx::query_as!(
            PendingRow,
            r#"select p.name as partner, c.customer_id, c.name as customer_name, o.qualification,
                      coalesce(o.pending_status, '') as "vetting_status!: String", o.pending_reason as vetting_reason,
                      o.pending_since as "seen_at!: Time",
                      coalesce(o.pending_until, o.pending_since) as "confirmed_by!: Time"
               from qualification_state o join customer c on c.id = o.customer join partner p on p.id = c.partner
               where o.pending_since is not null and c.removed_at is null
                 and (?1 is null or c.id in (select value from json_each(?1)))
               order by o.pending_since, o.id"#,
            customers.map(super::json_list)
        );
        Ok(pending.fetch_all(&self.read).await?)
    }
}

//! Muting customers: their events are recorded and not sent.

use super::{CustomerId, Error, WriteTx};
use crate::time::Timestamp;

impl WriteTx {
    /// Mutes a customer until `until`, or with `None` until it is unmuted: its events are recorded and not sent.
    /// Deliveries that are enqueued already are still sent. False if nothing changed.
    pub async fn mute(&mut self, row: CustomerId, until: Option<Timestamp>, now: Timestamp) -> Result<bool, Error> {
        Ok(self
            .change(sqlx::query!(
                "update customer
             set muted_at = case when muted_at is null or muted_until <= ?3 then ?3 else muted_at end, muted_until = ?2
             where id = ?1 and removed_at is null and (muted_at is null or muted_until is not ?2)",
                row,
                until.map(Timestamp::as_millis),
                now.as_millis()
            ))
            .await?
            > 0)
    }

    /// Unmutes a customer. Events recorded while it was muted are not sent. False if it was not muted.
    pub async fn unmute(&mut self, row: CustomerId, now: Timestamp) -> Result<bool, Error> {
        let was = sqlx::query_scalar!(
            r#"select muted_at is not null and (muted_until is null or muted_until > ?2) as "was!: bool"
               from customer where id = ?1 and removed_at is null"#,
            row,
            now.as_millis()
        )
        .fetch_optional(&mut *self.tx)
        .await?;
        self.run(sqlx::query!("update customer set muted_at = null, muted_until = null where id = ?", row)).await?;
        Ok(was.unwrap_or(false))
    }
}

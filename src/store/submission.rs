//! Watching a customer closely after a vetting was submitted.

use super::{CustomerId, Error, WriteTx};
use crate::time::Timestamp;

/// A customer that is watched closely, and how it was polled before.
#[derive(Debug, Clone)]
pub struct Expected {
    pub customer: CustomerId,
    until: i64,
    before: Option<i64>,
    class: String,
}

impl WriteTx {
    /// Polls the customer like one in review until `until`, and not later than `due_at`. `None` if it was removed.
    pub async fn watch_closely(
        &mut self,
        customer: CustomerId,
        until: Timestamp,
        due_at: Timestamp,
    ) -> Result<Option<Expected>, Error> {
        let until = until.as_millis();
        let row = sqlx::query!(
            "select watch_closely_until, poll_class from customer where id = ? and removed_at is null",
            customer
        )
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        self.run(sqlx::query!(
            "update customer
             set watch_closely_until = ?1, next_poll_at = min(next_poll_at, ?2),
                 poll_class = case poll_class when 'confirming' then poll_class else 'in_review' end
             where id = ?3",
            until,
            due_at.as_millis(),
            customer
        ))
        .await?;
        let (before, class) = (row.watch_closely_until, row.poll_class);
        Ok(Some(Expected { customer, until, before, class }))
    }

    /// Undoes that, unless the watch has ended meanwhile. The customer stays due once.
    pub async fn restore_watch(&mut self, expected: &Expected) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update customer set watch_closely_until = ?1, poll_class = ?2
             where id = ?3 and watch_closely_until = ?4 and poll_class = 'in_review'",
            expected.before,
            expected.class,
            expected.customer,
            expected.until
        ))
        .await
    }

    /// Records a submission that was sent: responses to polls that began before `now` are stale, and the next response
    /// is compared in full, whatever the last one said.
    pub async fn submitted(&mut self, expected: &Expected, now: Timestamp, due_at: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update customer
             set watch_closely_until = ?1, next_poll_at = ?2, response_requested_at = ?3,
                 response = case when response is not null then '' end,
                 poll_class = case poll_class when 'confirming' then poll_class else 'in_review' end
             where id = ?4",
            expected.until,
            due_at.as_millis(),
            now.as_millis(),
            expected.customer
        ))
        .await
    }
}

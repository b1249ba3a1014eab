//! Deliveries with a damaged row. They wait and are reported to the operators. A damaged row must not leave an event
//! out of a message, nor send a message again.

use std::error::Error as _;
use std::time::Duration;

use tracing::error;

use super::{Claim, Error, Store, WriteTx};
use crate::time::Timestamp;

/// How long an unreadable delivery is deferred. After a repair, a redrive makes it due at once.
const UNREADABLE_DELAY: Duration = Duration::from_mins(10);

/// Unreadable deliveries to an endpoint that were not reported yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub endpoint: String,
    pub count: i64,
    /// The oldest of them: its id as stored, and what cannot be read.
    pub id: String,
    pub error: String,
    /// When others of this endpoint were last reported.
    pub reported_at: Option<Timestamp>,
}

impl Store {
    /// Unreported unreadable deliveries by endpoint; without `monitor.dead_letter` events, or reports would never end.
    pub async fn unreadable_deliveries(&self) -> Result<Vec<Unreadable>, Error> {
        let rows = sqlx::query!(
            // With a single min(), SQLite takes bare columns from the row that holds it. The id may be what cannot be read.
            r#"select d.endpoint as "endpoint!", count(*) as "count!: i64", min(d.sequence) as "first!: i64",
                      cast(d.id as blob) as "id!: Vec<u8>", d.last_error,
                      (select max(t.unreadable_reported_at) from delivery t
                       where t.endpoint = d.endpoint and t.unreadable_since is not null) as "reported_at: i64"
               from delivery d
               where d.unreadable_since is not null and d.unreadable_reported_at is null and d.state = 'pending'
                 and not exists (select 1 from delivery_event de join event e on e.id = de.event
                                 where de.delivery = d.id and (e.type = 'monitor.dead_letter' or e.test = 1))
               group by d.endpoint order by d.endpoint"#
        )
        .fetch_all(&self.read)
        .await?;
        let found = rows.into_iter().map(|row| Unreadable {
            endpoint: row.endpoint,
            count: row.count,
            id: String::from_utf8_lossy(&row.id).into_owned(),
            error: row.last_error.unwrap_or_default(),
            reported_at: row.reported_at.map(Timestamp::from_millis),
        });
        Ok(found.collect())
    }
}

impl WriteTx {
    /// Defers a delivery that cannot be read, and stores the error.
    pub(super) async fn set_aside(&mut self, sequence: i64, claim: Claim<'_>, error: Error) -> Result<(), Error> {
        let error = error.while_doing(format_args!("write a message to {}", claim.endpoint));
        let why = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        error!(endpoint = claim.endpoint, delivery.sequence = sequence, "{why}; it waits until the row is mended");
        self.run(sqlx::query!(
            "update delivery set last_error = ?1, unreadable_since = coalesce(unreadable_since, ?2) where sequence = ?3",
            why,
            claim.now.as_millis(),
            sequence
        ))
        .await?;
        // Deferred, so that it is not used as a probe, and the time does not count towards giving up.
        self.defer(sequence, claim.now, claim.now.after(UNREADABLE_DELAY)).await
    }

    /// Marks the endpoint's unreadable deliveries as reported.
    pub async fn mark_unreadable_reported(&mut self, endpoint: &str, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery set unreadable_reported_at = ?1
             where endpoint = ?2 and unreadable_since is not null and unreadable_reported_at is null",
            now.as_millis(),
            endpoint
        ))
        .await
    }
}

//! The proof trail of an event: the response that showed it, the transition, its deliveries and their replies.

use serde::Serialize;
use serde_json::Value;

use super::deliveries::shown;
use super::{AttemptRow, DeliveryFilter, DeliveryRow, EventRow};
use crate::store::columns::{NullableTime, Time};
use crate::store::{Error, Store, doing};
use crate::time::Timestamp;

/// Everything known about one event.
#[derive(Debug, Clone, Serialize)]
pub struct EventTrace {
    #[serde(flatten)]
    pub event: EventRow,
    pub partner: String,
    /// Sent by `test-send`: it is not about any customer.
    pub test: bool,
    /// Not sent, because its customer is muted.
    pub muted: bool,
    /// Null if it reports no transition.
    pub transition: Option<TransitionEvidence>,
    /// In the order in which they were enqueued.
    pub deliveries: Vec<DeliveryTrace>,
}

/// A transition with its evidence.
#[derive(Debug, Clone, Serialize)]
pub struct TransitionEvidence {
    pub transition_id: i64,
    pub customer_id: String,
    pub customer_name: String,
    pub qualification: String,
    /// Null for an entry without status, or (`from`) one never seen before.
    pub from_status: Option<String>,
    pub to_status: Option<String>,
    pub vetting_reason: Option<String>,
    pub previous_reason: Option<String>,
    pub vetting_created_at: Option<Timestamp>,
    pub previous_created_at: Option<Timestamp>,
    pub attempt: i64,
    pub first_seen: bool,
    pub last_seen_before_at: Option<Timestamp>,
    pub observed_at: Timestamp,
    pub request_id: Option<String>,
    pub correlation_id: Option<String>,
    /// As Partner Center sent it.
    pub raw_answer: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct DeliveryTrace {
    #[serde(flatten)]
    pub delivery: DeliveryRow,
    /// Why it was sent to this endpoint; null if not known.
    pub why: Option<String>,
    pub attempts_made: Vec<AttemptRow>,
    /// The final reply of each recipient that has one.
    pub final_replies: Value,
}

impl Store {
    /// At most `limit` event ids that begin with `prefix` (lower case).
    pub async fn event_ids(&self, prefix: &str, limit: u32) -> Result<Vec<String>, Error> {
        // Ids are hexadecimal digits and hyphens, all of which sort before `g`.
        let rows = sqlx::query_scalar!(
            "select id from event where id >= ?1 and id < ?1 || 'g' order by id limit ?2",
            prefix,
            limit,
        );
        rows.fetch_all(&self.read).await.map_err(doing("look an event up"))
    }

    /// Everything about the event with this full id.
    pub async fn proof(&self, event: &str) -> Result<Option<EventTrace>, Error> {
        let row = sqlx::query!(
            r#"select e.type as kind, e.occurred_at, e.data as "data: Vec<u8>", e.transition, p.name as partner,
                      e.test as "test!: bool", e.muted as "muted!: bool"
               from event e join partner p on p.id = e.partner where e.id = ?1"#,
            event,
        );
        let Some(row) = row.fetch_optional(&self.read).await.map_err(doing("explain an event"))? else {
            return Ok(None);
        };
        let transition = match row.transition {
            Some(transition) => Some(self.transition_evidence(transition).await?),
            None => None,
        };
        let delivered = sqlx::query!(
            r#"select de.delivery, de.why, d.final_replies as "final_replies: Vec<u8>"
               from delivery_event de join delivery d on d.id = de.delivery
               where de.event = ?1 order by d.sequence"#,
            event,
        );
        let mut deliveries = Vec::new();
        for delivered in delivered.fetch_all(&self.read).await.map_err(doing("explain an event"))? {
            // Without its events and its text, which of a digest are many.
            let filter = DeliveryFilter { id: Some(&delivered.delivery), ..DeliveryFilter::default() };
            let Some(delivery) = self.deliveries(filter).await?.pop() else { continue };
            deliveries.push(DeliveryTrace {
                delivery,
                why: delivered.why,
                attempts_made: self.attempts(&delivered.delivery).await?,
                final_replies: shown(&delivered.final_replies),
            });
        }
        Ok(Some(EventTrace {
            event: EventRow {
                event_id: event.to_owned(),
                event_type: row.kind,
                occurred_at: Timestamp::from_millis(row.occurred_at),
                data: shown(&row.data),
            },
            partner: row.partner,
            test: row.test,
            muted: row.muted,
            transition,
            deliveries,
        }))
    }

    /// A transition with its evidence.
    pub async fn transition_evidence(&self, id: i64) -> Result<TransitionEvidence, Error> {
        let transition = sqlx::query_as!(
            TransitionEvidence,
            r#"select t.id as transition_id, c.customer_id, c.name as customer_name, t.qualification, t.from_status, t.to_status,
                      t.vetting_reason, t.previous_reason, t.vetting_created_at as "vetting_created_at!: NullableTime",
                      t.previous_created_at as "previous_created_at!: NullableTime", t.attempt,
                      t.first_seen as "first_seen!: bool", t.last_seen_before_at as "last_seen_before_at!: NullableTime",
                      t.observed_at as "observed_at!: Time", t.request_id, t.correlation_id, t.raw_answer
               from transition t join customer c on c.id = t.customer where t.id = ?1"#,
            id,
        );
        transition.fetch_one(&self.read).await.map_err(doing("explain an event"))
    }
}

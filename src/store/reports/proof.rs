//! The proof trail of an event: the response that showed it, the transition, its deliveries and their replies.

use serde::Serialize;
use serde_json::Value;

use super::deliveries::shown;
use super::{AttemptRow, DeliveryRow, EventRow};
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
            "select de.delivery, de.why from delivery_event de join delivery d on d.id = de.delivery
             where de.event = ?1 order by d.sequence",
            event,
        );
        let mut deliveries = Vec::new();
        for delivered in delivered.fetch_all(&self.read).await.map_err(doing("explain an event"))? {
            let Some(detail) = self.delivery(&delivered.delivery).await? else { continue };
            deliveries.push(DeliveryTrace {
                delivery: detail.delivery,
                why: delivered.why,
                attempts_made: detail.attempts_made,
                final_replies: detail.final_replies,
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

    async fn transition_evidence(&self, id: i64) -> Result<TransitionEvidence, Error> {
        let row = sqlx::query!(
            r#"select t.qualification, t.from_status, t.to_status, t.vetting_reason, t.previous_reason, t.vetting_created_at,
                      t.previous_created_at, t.attempt, t.first_seen as "first_seen!: bool", t.last_seen_before_at,
                      t.observed_at, t.request_id, t.correlation_id, t.raw_answer, c.customer_id, c.name
               from transition t join customer c on c.id = t.customer where t.id = ?1"#,
            id,
        );
        let row = row.fetch_one(&self.read).await.map_err(doing("explain an event"))?;
        let at = |time: Option<i64>| time.map(Timestamp::from_millis);
        Ok(TransitionEvidence {
            transition_id: id,
            customer_id: row.customer_id,
            customer_name: row.name,
            qualification: row.qualification,
            from_status: row.from_status,
            to_status: row.to_status,
            vetting_reason: row.vetting_reason,
            previous_reason: row.previous_reason,
            vetting_created_at: at(row.vetting_created_at),
            previous_created_at: at(row.previous_created_at),
            attempt: row.attempt,
            first_seen: row.first_seen,
            last_seen_before_at: at(row.last_seen_before_at),
            observed_at: Timestamp::from_millis(row.observed_at),
            request_id: row.request_id,
            correlation_id: row.correlation_id,
            raw_answer: row.raw_answer,
        })
    }
}

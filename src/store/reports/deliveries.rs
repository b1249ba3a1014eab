//! Reports on deliveries.

use serde::Serialize;
use serde_json::Value;

use crate::store::columns::{NullableTime, Time};
use crate::store::{Error, Store, doing};
use crate::time::Timestamp;

/// A row of `v_deliveries`, and what it is about.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryRow {
    #[serde(skip)]
    pub sequence: i64,
    pub delivery_id: String,
    pub endpoint: String,
    pub state: String,
    pub attempts: i64,
    pub events: i64,
    pub created_at: String,
    pub next_attempt_at: Option<String>,
    pub finished_at: Option<String>,
    /// Its events were sent to another endpoint instead (`redrive --to`): it needs no attention.
    pub redirected_at: Option<String>,
    /// A person discarded it: it needs no attention.
    pub discarded_at: Option<String>,
    pub last_error: Option<String>,
    /// The first of its events: its type, and the customer or the summary.
    pub about: Option<String>,
}

/// Filters deliveries; the default is all of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeliveryFilter<'a> {
    pub state: Option<&'a str>,
    pub endpoint: Option<&'a str>,
    /// Created at or after this.
    pub since: Option<Timestamp>,
    /// At most this many, the newest.
    pub limit: Option<u32>,
    /// Enqueued before the delivery with this sequence number.
    pub before: Option<i64>,
    /// Only this one; also by a former id.
    pub id: Option<&'a str>,
    /// Without those that were redirected or discarded.
    pub unhandled: bool,
}

/// Everything known about one delivery. Never holds a secret.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryDetail {
    #[serde(flatten)]
    pub delivery: DeliveryRow,
    pub first_due_at: Timestamp,
    pub events_told: Vec<EventRow>,
    pub attempts_made: Vec<AttemptRow>,
    /// The final reply of each recipient that has one.
    pub final_replies: Value,
    /// As every attempt sends it; null before the first attempt.
    pub message: Option<String>,
    /// Why the message is in its built-in form; null if the endpoint's template did not fail.
    pub template_error: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct EventRow {
    pub event_id: String,
    pub event_type: String,
    pub occurred_at: Timestamp,
    pub data: Value,
}

#[derive(Debug, Clone, Serialize)]
pub struct AttemptRow {
    pub number: i64,
    pub began_at: Timestamp,
    /// Null if it is open, or the process died in it.
    pub ended_at: Option<Timestamp>,
    pub outcome: Option<String>,
    pub response: Option<String>,
}

macro_rules! delivery_rows {
    ($state:tt, $filter:expr, $value:expr) => {
        sqlx::query_as!(
            DeliveryRow,
            r#"select d.sequence as "sequence!: i64", v.delivery_id as "delivery_id!", v.endpoint as "endpoint!", v.state as "state!",
                      v.attempts as "attempts!: i64", v.events as "events!: i64", v.created_at as "created_at!: String",
                      v.next_attempt_at as "next_attempt_at: String", v.finished_at as "finished_at: String",
                      v.redirected_at as "redirected_at: String", v.discarded_at as "discarded_at: String",
                      v.last_error as "last_error: String",
                      concat_ws(' ', e.type || ':', c.name,
                                case when json_valid(e.data) then e.data ->> '$.qualification' end,
                                case when c.id is null and json_valid(e.data) then e.data ->> '$.summary' end,
                                case when v.events > 1 then '(+' || (v.events - 1) || ')' end) as "about: String"
               from delivery d
               join v_deliveries v on v.delivery_id = d.id
               left join event e on e.id = (select f.id from delivery_event de join event f on f.id = de.event
                                            where de.delivery = d.id order by f.occurred_at, f.rowid limit 1)
               left join customer c on c.id = e.customer
               where "# + $state + r#" and (?2 is null or d.endpoint = ?2) and d.created_at >= ?3
                 and (?4 is null or d.sequence = coalesce((select sequence from delivery where id = ?4),
                                                          (select delivery from delivery_former_id where id = ?4)))
                 and not (?6 and (d.redirected_at is not null or d.discarded_at is not null))
                 and d.sequence < ?7
               order by d.sequence desc
               limit ?5"#,
            $value,
            $filter.endpoint,
            $filter.since.map_or(i64::MIN, Timestamp::as_millis),
            $filter.id,
            $filter.limit.map_or(-1, i64::from),
            $filter.unhandled,
            $filter.before.unwrap_or(i64::MAX),
        )
    };
}

impl Store {
    /// Deliveries, newest first.
    pub async fn deliveries(&self, filter: DeliveryFilter<'_>) -> Result<Vec<DeliveryRow>, Error> {
        let doing = doing("list messages");
        // Few have a state other than delivered, and there is an index.
        let Some(state) = filter.state else {
            return delivery_rows!("?1 is null", filter, None::<&str>).fetch_all(&self.read).await.map_err(doing);
        };
        delivery_rows!("d.state = ?1", filter, state).fetch_all(&self.read).await.map_err(doing)
    }

    /// At most `limit` ids of deliveries whose id, present or former, begins with `prefix` (lower case).
    pub async fn delivery_ids(&self, prefix: &str, limit: u32) -> Result<Vec<String>, Error> {
        // Ids are hexadecimal digits and hyphens, all of which sort before `g`.
        let rows = sqlx::query_scalar!(
            r#"select id as "id!" from delivery where id >= ?1 and id < ?1 || 'g'
               union
               select d.id from delivery_former_id f join delivery d on d.sequence = f.delivery
               where f.id >= ?1 and f.id < ?1 || 'g'
               order by 1 limit ?2"#,
            prefix,
            limit,
        );
        rows.fetch_all(&self.read).await.map_err(doing("look a message up"))
    }

    /// Everything about the delivery with this full id, present or former.
    pub async fn delivery(&self, id: &str) -> Result<Option<DeliveryDetail>, Error> {
        let Some(delivery) = self.deliveries(DeliveryFilter { id: Some(id), ..DeliveryFilter::default() }).await?.pop()
        else {
            return Ok(None);
        };
        let id = &delivery.delivery_id;
        let frozen = sqlx::query!(
            r#"select first_due_at, final_replies as "final_replies: Vec<u8>", message as "message: Vec<u8>", template_error from delivery where id = ?1"#,
            id
        );
        let frozen = frozen.fetch_one(&self.read).await.map_err(doing("show a message"))?;
        let events = sqlx::query!(
            r#"select e.id, e.type as kind, e.occurred_at, e.data as "data: Vec<u8>" from event e
               join delivery_event de on de.event = e.id
               where de.delivery = ?1 order by e.occurred_at, e.rowid"#,
            id,
        );
        let events_told =
            events.fetch_all(&self.read).await.map_err(doing("show a message"))?.into_iter().map(|row| EventRow {
                event_id: row.id,
                event_type: row.kind,
                occurred_at: Timestamp::from_millis(row.occurred_at),
                data: shown(&row.data),
            });
        let attempts_made = self.attempts(id).await?;
        Ok(Some(DeliveryDetail {
            delivery,
            first_due_at: Timestamp::from_millis(frozen.first_due_at),
            events_told: events_told.collect(),
            attempts_made,
            final_replies: shown(&frozen.final_replies),
            message: frozen.message.map(|message| String::from_utf8_lossy(&message).into_owned()),
            template_error: frozen.template_error,
        }))
    }
}

impl Store {
    /// The events of the delivery with this full id, oldest first.
    pub async fn events_of(&self, delivery: &str) -> Result<Vec<String>, Error> {
        let ids = sqlx::query_scalar!(
            r#"select e.id as "id!" from event e join delivery_event de on de.event = e.id
               where de.delivery = ?1 order by e.occurred_at, e.rowid"#,
            delivery,
        );
        ids.fetch_all(&self.read).await.map_err(doing("look a message up"))
    }

    pub(super) async fn attempts(&self, delivery: &str) -> Result<Vec<AttemptRow>, Error> {
        let attempts = sqlx::query_as!(
            AttemptRow,
            r#"select number, began_at as "began_at!: Time", ended_at as "ended_at!: NullableTime", outcome, response
               from attempt where delivery = ?1 order by number"#,
            delivery,
        );
        attempts.fetch_all(&self.read).await.map_err(doing("show a message"))
    }
}

/// A column that holds JSON. Invalid JSON is returned as text, so that what is broken can be seen.
pub(super) fn shown(column: &[u8]) -> Value {
    serde_json::from_slice(column).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(column).into_owned()))
}

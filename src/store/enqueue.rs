//! Into the outbox: an event gets a message of its own at an endpoint, or joins one that is not begun.

use std::time::Duration;

use uuid::Uuid;

use super::{Error, WriteTx};
use crate::event::Event;
use crate::time::Timestamp;

/// How an event is to reach an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    pub endpoint: &'a str,
    /// The customer's contact, as a mail address.
    pub recipient: Option<&'a str>,
    pub why: &'a str,
    /// Events of one group may share a message; none: it has its own.
    pub group: Option<&'a str>,
    /// So many events fit into one.
    pub most: u32,
    /// Not before this.
    pub due_at: Timestamp,
    /// Quiet hours hold it back, whenever it is tried.
    pub may_wait: bool,
    /// The endpoint in whose place this one is told.
    pub instead_of: Option<&'a str>,
}

/// What a message of its own is for.
enum Shared {
    With(String),
    Alone { due_at: Timestamp },
}

/// So many events of a group within so long go each at once. More are a flood: they are gathered for a while.
const FLOOD_FROM: u32 = 10;
const FLOOD_WITHIN: Duration = Duration::from_mins(1);
const FLOOD_WAIT: Duration = Duration::from_secs(15);

impl WriteTx {
    /// Queues an event for an endpoint. Only here, in the transaction of what it tells, does a delivery begin; or the
    /// event joins one of its group that is not begun. Joining never makes that one later.
    pub async fn enqueue(&mut self, event: &Event, parcel: &Parcel<'_>, now: Timestamp) -> Result<(), Error> {
        let event_id = event.data.event_id.to_string();
        let delivery = match self.shared(parcel, now).await? {
            Shared::With(delivery) => delivery,
            Shared::Alone { due_at } => self.begin_delivery(parcel, due_at, now).await?,
        };
        sqlx::query!(
            "insert into delivery_event (delivery, endpoint, event, why) values (?, ?, ?, ?)",
            delivery,
            parcel.endpoint,
            event_id,
            parcel.why
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    async fn begin_delivery(
        &mut self,
        parcel: &Parcel<'_>,
        due_at: Timestamp,
        now: Timestamp,
    ) -> Result<String, Error> {
        let (id, held_until) = (Uuid::now_v7().to_string(), (due_at > now).then_some(due_at.as_millis()));
        let (due_at, now) = (due_at.as_millis(), now.as_millis());
        sqlx::query!(
            "insert into delivery (id, endpoint, recipient, group_key, state, created_at, first_due_at, next_attempt_at,
                                   held_until, may_wait, instead_of)
             values (?1, ?2, ?3, ?4, 'pending', ?5, ?6, ?6, ?7, ?8, ?9)",
            id,
            parcel.endpoint,
            parcel.recipient,
            parcel.group,
            now,
            due_at,
            held_until,
            parcel.may_wait,
            parcel.instead_of
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(id)
    }

    /// The message of its group that an event joins. A single event goes at once and alone; the eleventh within a minute
    /// is a flood, and what a closed endpoint holds has time to be gathered.
    async fn shared(&mut self, parcel: &Parcel<'_>, now: Timestamp) -> Result<Shared, Error> {
        let mut due_at = parcel.due_at.max(now);
        let Some(group) = parcel.group else { return Ok(Shared::Alone { due_at }) };
        if due_at == now {
            if self.is_flood(parcel.endpoint, group, now).await? {
                due_at = now.after(FLOOD_WAIT);
            } else if !self.is_closed(parcel.endpoint).await? {
                return Ok(Shared::Alone { due_at });
            }
        }
        let latest = due_at.as_millis();
        let open = sqlx::query_scalar!(
            "select id from delivery d
             where endpoint = ?1 and group_key = ?2 and state = 'pending' and attempts = 0 and message is null
               and recipient is ?3 and may_wait = ?4 and instead_of is ?5 and next_attempt_at <= ?6
               and (select count(*) from delivery_event de where de.delivery = d.id) < ?7
             order by sequence desc limit 1",
            parcel.endpoint,
            group,
            parcel.recipient,
            parcel.may_wait,
            parcel.instead_of,
            latest,
            parcel.most
        )
        .fetch_optional(&mut *self.tx)
        .await?;
        Ok(open.map_or(Shared::Alone { due_at }, Shared::With))
    }

    async fn is_flood(&mut self, endpoint: &str, group: &str, now: Timestamp) -> Result<bool, Error> {
        let (from, now) = (now.before(FLOOD_WITHIN).as_millis(), now.as_millis());
        let lately = sqlx::query_scalar!(
            r#"select count(*) as "count!: u32" from (
                 select 1 from event e
                 join delivery_event de on de.event = e.id and de.endpoint = ?1
                 join delivery d on d.id = de.delivery
                 where e.occurred_at > ?3 and e.occurred_at <= ?4 and d.group_key = ?2 limit ?5)"#,
            endpoint,
            group,
            from,
            now,
            FLOOD_FROM
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(lately >= FLOOD_FROM)
    }

    async fn is_closed(&mut self, endpoint: &str) -> Result<bool, Error> {
        let state = sqlx::query_scalar!(
            r#"select closed_since is not null or paused_at is not null as "closed!: bool" from endpoint where name = ?"#,
            endpoint
        );
        Ok(state.fetch_optional(&mut *self.tx).await?.unwrap_or(false))
    }
}

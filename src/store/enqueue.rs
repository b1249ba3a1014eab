//! Into the outbox: an event gets a message of its own at an endpoint, or joins one that is not begun.

use std::time::Duration;

use uuid::Uuid;

use super::{Error, WriteTx};
use crate::event::Event;
use crate::ids;
use crate::time::Timestamp;

/// How an event is to reach an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct NewDelivery<'a> {
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
    pub respects_quiet_hours: bool,
    /// The endpoint in whose place this one is told.
    pub failover_from: Option<&'a str>,
}

/// Which message an event goes into: the sequence of one that is there, or its own.
enum Grouping {
    With(i64),
    Alone { due_at: Timestamp },
}

/// So many events of a group within so long go each at once. More are a flood: they are gathered for a while.
const FLOOD_FROM: u32 = 10;
const FLOOD_WITHIN: Duration = Duration::from_mins(1);
const FLOOD_WAIT: Duration = Duration::from_secs(15);

impl WriteTx {
    /// Queues an event for an endpoint. Only here, in the transaction of what it tells, does a delivery begin; or the
    /// event joins one of its group that is not begun. Joining never makes that one later, and gives it another id: an
    /// id is over all that a message tells.
    pub async fn enqueue(&mut self, event: &Event, parcel: &NewDelivery<'_>, now: Timestamp) -> Result<(), Error> {
        let event_id = event.data.event_id.to_string();
        let (delivery, joins) = match self.shared(parcel, now).await? {
            Grouping::With(delivery) => (delivery, true),
            Grouping::Alone { due_at } => (self.begin_delivery(&event_id, parcel, due_at, now).await?, false),
        };
        sqlx::query!(
            "insert into delivery_event (delivery, endpoint, event, why) select id, ?2, ?3, ?4 from delivery where sequence = ?1",
            delivery,
            parcel.endpoint,
            event_id,
            parcel.why
        )
        .execute(&mut *self.tx)
        .await?;
        if joins {
            self.rename_delivery(delivery, parcel).await?;
        }
        Ok(())
    }

    /// Gives a message that is not begun the id of what it tells now. It is found by the id that it had, too.
    async fn rename_delivery(&mut self, sequence: i64, parcel: &NewDelivery<'_>) -> Result<(), Error> {
        let events = sqlx::query_scalar!(
            "select de.event from delivery d join delivery_event de on de.delivery = d.id where d.sequence = ?",
            sequence
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let id = self.free_delivery_id(parcel, &events).await?;
        sqlx::query!(
            "insert into delivery_former_id (id, delivery) select id, sequence from delivery where sequence = ?
             on conflict (id) do update set delivery = excluded.delivery",
            sequence
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!("update delivery set id = ? where sequence = ?", id, sequence).execute(&mut *self.tx).await?;
        Ok(())
    }

    /// The id of a message that tells these events. Should another one have it, the next one that is free: no verdict
    /// waits for that.
    async fn free_delivery_id(&mut self, parcel: &NewDelivery<'_>, events: &[String]) -> Result<String, Error> {
        for ordinal in 1..=u32::MAX {
            let id = ids::delivery(parcel.endpoint, parcel.recipient, events, ordinal).to_string();
            let taken =
                sqlx::query_scalar!(r#"select exists (select 1 from delivery where id = ?) as "taken!: bool""#, id);
            if !taken.fetch_one(&mut *self.tx).await? {
                return Ok(id);
            }
        }
        Ok(Uuid::now_v7().to_string())
    }

    /// Returns the message's sequence.
    async fn begin_delivery(
        &mut self,
        event: &String,
        parcel: &NewDelivery<'_>,
        due_at: Timestamp,
        now: Timestamp,
    ) -> Result<i64, Error> {
        let id = self.free_delivery_id(parcel, std::slice::from_ref(event)).await?;
        let deferred_until = (due_at > now).then_some(due_at.as_millis());
        let (due_at, now) = (due_at.as_millis(), now.as_millis());
        let done = sqlx::query!(
            "insert into delivery (id, endpoint, recipient, group_key, state, created_at, first_due_at, next_attempt_at,
                                   deferred_until, respects_quiet_hours, failover_from)
             values (?1, ?2, ?3, ?4, 'pending', ?5, ?6, ?6, ?7, ?8, ?9)",
            id,
            parcel.endpoint,
            parcel.recipient,
            parcel.group,
            now,
            due_at,
            deferred_until,
            parcel.respects_quiet_hours,
            parcel.failover_from
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(done.last_insert_rowid())
    }

    /// The message of its group that an event joins. A single event goes at once and alone; the eleventh within a minute
    /// is a flood, and what a closed endpoint holds has time to be gathered.
    async fn shared(&mut self, parcel: &NewDelivery<'_>, now: Timestamp) -> Result<Grouping, Error> {
        let mut due_at = parcel.due_at.max(now);
        let Some(group) = parcel.group else { return Ok(Grouping::Alone { due_at }) };
        if due_at == now {
            if self.is_flood(parcel.endpoint, group, now).await? {
                due_at = now.after(FLOOD_WAIT);
            } else if !self.is_closed(parcel.endpoint).await? {
                return Ok(Grouping::Alone { due_at });
            }
        }
        let latest = due_at.as_millis();
        let open = sqlx::query_scalar!(
            "select sequence from delivery d
             where endpoint = ?1 and group_key = ?2 and state = 'pending' and attempts = 0 and message is null
               and recipient is ?3 and respects_quiet_hours = ?4 and failover_from is ?5 and next_attempt_at <= ?6
               and (select count(*) from delivery_event de where de.delivery = d.id) < ?7
             order by sequence desc limit 1",
            parcel.endpoint,
            group,
            parcel.recipient,
            parcel.respects_quiet_hours,
            parcel.failover_from,
            latest,
            parcel.most
        )
        .fetch_optional(&mut *self.tx)
        .await?;
        Ok(open.map_or(Grouping::Alone { due_at }, Grouping::With))
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

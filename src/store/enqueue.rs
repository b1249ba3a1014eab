//! Enqueues events: each gets its own delivery at an endpoint, or joins one that was not attempted yet.

use std::time::Duration;

use uuid::Uuid;

use super::{Error, WriteTx};
use crate::event::Event;
use crate::ids;
use crate::time::Timestamp;
use vetwatch_core::routing::Target;

/// The delivery that an event goes into: an existing one, by its sequence, or a new one.
enum Grouping {
    Join(i64),
    New { due_at: Timestamp },
}

/// Up to this many events of a group within the window are sent at once, singly. More are a burst, and gathered.
const BURST_AFTER_EVENTS: u32 = 10;
const BURST_WINDOW: Duration = Duration::from_mins(1);
const BURST_WAIT: Duration = Duration::from_secs(15);

impl WriteTx {
    /// Enqueues an event for an endpoint, in the transaction that records the event. Nothing else creates deliveries.
    /// An event that joins a delivery of its group never delays it, and changes its id: the id covers all events of a
    /// message.
    pub async fn enqueue(&mut self, event: &Event, target: &Target<'_>, now: Timestamp) -> Result<(), Error> {
        let event_id = event.data.event_id.to_string();
        let (delivery, joins) = match self.grouping(target, now).await? {
            Grouping::Join(delivery) => (delivery, true),
            Grouping::New { due_at } => (self.begin_delivery(&event_id, target, due_at, now).await?, false),
        };
        self.run(sqlx::query!(
            "insert into delivery_event (delivery, endpoint, event, why) select id, ?2, ?3, ?4 from delivery where sequence = ?1",
            delivery,
            target.endpoint,
            event_id,
            target.why
        ))
        .await?;
        if joins {
            self.rename_delivery(delivery, target).await?;
        }
        Ok(())
    }

    /// Gives a delivery the id of its present events. Its former id still finds it.
    async fn rename_delivery(&mut self, sequence: i64, target: &Target<'_>) -> Result<(), Error> {
        let events = sqlx::query_scalar!(
            "select de.event from delivery d join delivery_event de on de.delivery = d.id where d.sequence = ?",
            sequence
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let id = self.free_delivery_id(target, &events).await?;
        self.run(sqlx::query!(
            "insert into delivery_former_id (id, delivery) select id, sequence from delivery where sequence = ?
             on conflict (id) do update set delivery = excluded.delivery",
            sequence
        ))
        .await?;
        self.run(sqlx::query!("update delivery set id = ? where sequence = ?", id, sequence)).await
    }

    /// The first of these ids, by ordinal, that neither an event nor a delivery has.
    pub(super) async fn free_id(&mut self, id: impl Fn(u32) -> Uuid) -> Result<Uuid, Error> {
        for ordinal in 1..=u32::MAX {
            let id = id(ordinal);
            let taken = sqlx::query_scalar!(
                r#"select exists (select 1 from event where id = ?1 union all select 1 from delivery where id = ?1) as "taken!: bool""#,
                id.to_string()
            );
            if !taken.fetch_one(&mut *self.tx).await? {
                return Ok(id);
            }
        }
        Ok(Uuid::now_v7())
    }

    /// The id of a message with these events. If it is taken, the next free one: no verdict waits for that.
    async fn free_delivery_id(&mut self, target: &Target<'_>, events: &[String]) -> Result<String, Error> {
        let recipient = target.recipient.as_deref();
        let id = self.free_id(|ordinal| ids::delivery(target.endpoint, recipient, events, ordinal)).await?;
        Ok(id.to_string())
    }

    /// Returns the delivery's sequence.
    async fn begin_delivery(
        &mut self,
        event: &String,
        target: &Target<'_>,
        due_at: Timestamp,
        now: Timestamp,
    ) -> Result<i64, Error> {
        let id = self.free_delivery_id(target, std::slice::from_ref(event)).await?;
        let done = sqlx::query!(
            "insert into delivery (id, endpoint, recipient, group_key, state, created_at, first_due_at, next_attempt_at,
                                   deferred_until, respects_quiet_hours, failover_from)
             values (?1, ?2, ?3, ?4, 'pending', ?5, ?6, ?6, ?7, ?8, ?9)",
            id,
            target.endpoint,
            target.recipient,
            target.group,
            now.as_millis(),
            due_at.as_millis(),
            (due_at > now).then_some(due_at.as_millis()),
            target.quiet.is_some(),
            target.failover_from
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(done.last_insert_rowid())
    }

    /// The delivery that an event joins. A single event is sent at once and alone; the eleventh within a minute is a
    /// burst, and what waits for an endpoint that is backing off has time to be gathered.
    async fn grouping(&mut self, target: &Target<'_>, now: Timestamp) -> Result<Grouping, Error> {
        let mut due_at = target.due_at(now).max(now);
        let Some(group) = target.group.as_deref() else { return Ok(Grouping::New { due_at }) };
        if due_at == now {
            if self.is_burst(target.endpoint, group, now).await? {
                due_at = now.after(BURST_WAIT);
            } else if !self.is_closed(target.endpoint).await? {
                return Ok(Grouping::New { due_at });
            }
        }
        let open = sqlx::query_scalar!(
            "select sequence from delivery d
             where endpoint = ?1 and group_key = ?2 and state = 'pending' and attempts = 0 and message is null
               and recipient is ?3 and respects_quiet_hours = ?4 and failover_from is ?5 and next_attempt_at <= ?6
               and (select count(*) from delivery_event de where de.delivery = d.id) < ?7
             order by sequence desc limit 1",
            target.endpoint,
            group,
            target.recipient,
            target.quiet.is_some(),
            target.failover_from,
            due_at.as_millis(),
            target.max_events
        )
        .fetch_optional(&mut *self.tx)
        .await?;
        Ok(open.map_or(Grouping::New { due_at }, Grouping::Join))
    }

    async fn is_burst(&mut self, endpoint: &str, group: &str, now: Timestamp) -> Result<bool, Error> {
        let lately = sqlx::query_scalar!(
            r#"select count(*) as "count!: u32" from (
                 select 1 from event e
                 join delivery_event de on de.event = e.id and de.endpoint = ?1
                 join delivery d on d.id = de.delivery
                 where e.occurred_at > ?3 and e.occurred_at <= ?4 and d.group_key = ?2 limit ?5)"#,
            endpoint,
            group,
            now.before(BURST_WINDOW).as_millis(),
            now.as_millis(),
            BURST_AFTER_EVENTS
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(lately >= BURST_AFTER_EVENTS)
    }

    async fn is_closed(&mut self, endpoint: &str) -> Result<bool, Error> {
        let state = sqlx::query_scalar!(
            r#"select closed_since is not null or paused_at is not null as "closed!: bool" from endpoint where name = ?"#,
            endpoint
        );
        Ok(state.fetch_optional(&mut *self.tx).await?.unwrap_or(false))
    }
}

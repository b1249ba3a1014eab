//! Deliveries that need nobody any more: redirected to another endpoint, or discarded.

use super::redrive::Redrive;
use super::{Error, WriteTx, doing};
use crate::time::Timestamp;
use vetwatch_core::routing::Target;

/// What became of the deliveries that a person chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended<T> {
    Done(T),
    NothingMatched,
    /// An attempt is open, or the process died in it.
    UnderWay,
    /// Everybody has it.
    Delivered,
}

/// The result of a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirected {
    /// The deliveries that were redirected: id and endpoint, oldest first.
    pub moved: Vec<(String, String)>,
    /// How many events the other endpoint is sent; it has the rest already.
    pub events: u32,
}

/// A delivery that was discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded {
    pub delivery_id: String,
    pub endpoint: String,
    /// Its verdicts and other news of customers that no delivery has delivered.
    pub not_told: Vec<NotTold>,
}

/// News that no recipient has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotTold {
    pub event_id: String,
    pub event_type: String,
    pub customer: Option<String>,
    pub qualification: Option<String>,
    /// An endpoint that it still waits for.
    pub waits_for: Option<String>,
}

impl WriteTx {
    /// Sends the events of these deliveries to another endpoint, except those that it was told, and ends the deliveries:
    /// `redirected_at` is set, and `last_error` says where to. Where the other endpoint has a dead delivery of an event,
    /// that one is redriven. A delivery that only some recipients rejected stays `delivered`.
    ///
    /// With an endpoint in `selection`, its pending deliveries are redirected as well; otherwise dead ones, partly
    /// rejected ones, and pending ones of endpoints that are paused or not configured.
    pub async fn redirect(
        &mut self,
        selection: Redrive<'_>,
        target: &Target<'_>,
        now: Timestamp,
    ) -> Result<Ended<Redirected>, Error> {
        let ids = match self.endable(selection, Some(target.endpoint)).await? {
            Ended::Done(ids) => ids,
            Ended::NothingMatched => return Ok(Ended::NothingMatched),
            Ended::UnderWay => return Ok(Ended::UnderWay),
            Ended::Delivered => return Ok(Ended::Delivered),
        };
        let (mut moved, mut events) = (Vec::new(), 0);
        for id in ids {
            let row = sqlx::query!(r#"select endpoint, sequence as "sequence!: i64" from delivery where id = ?"#, id);
            let row = row.fetch_one(&mut *self.tx).await?;
            if row.endpoint == target.endpoint {
                continue;
            }
            let target = Target { failover_from: Some(&row.endpoint), ..target.clone() };
            for event in self.events_missing_at(target.endpoint, row.sequence).await? {
                self.enqueue(&event, &target, now).await?;
                events += 1;
            }
            events += self.redrive_dead_copies(target.endpoint, row.sequence, now).await?;
            self.end_redirected(&id, target.endpoint, now).await?;
            moved.push((id, row.endpoint));
        }
        Ok(if moved.is_empty() { Ended::NothingMatched } else { Ended::Done(Redirected { moved, events }) })
    }

    /// Puts deliveries away: `discarded_at` is set, and no attempt, alert or failover follows. Chosen as for
    /// [`WriteTx::redirect`], except that with an endpoint in `selection` only what waits without an end in sight is
    /// discarded with the dead ones: for an endpoint that is paused or not configured.
    pub async fn discard(&mut self, selection: Redrive<'_>, now: Timestamp) -> Result<Ended<Vec<Discarded>>, Error> {
        let ids = match self.endable(selection, None).await? {
            Ended::Done(ids) => ids,
            Ended::NothingMatched => return Ok(Ended::NothingMatched),
            Ended::UnderWay => return Ok(Ended::UnderWay),
            Ended::Delivered => return Ok(Ended::Delivered),
        };
        let mut discarded = Vec::new();
        for id in &ids {
            self.run(sqlx::query!(
                "update delivery
                 set state = case state when 'delivered' then state else 'dead' end, next_attempt_at = null,
                     finished_at = coalesce(finished_at, ?2), discarded_at = coalesce(discarded_at, ?2), refused = '{}',
                     unreadable_since = null, operators_notified_at = coalesce(operators_notified_at, ?2),
                     failed_over_at = coalesce(failed_over_at, ?2)
                 where id = ?1",
                id,
                now.as_millis()
            ))
            .await?;
        }
        // After all are ended, or one would seem to wait that is discarded next.
        for id in ids {
            let endpoint = sqlx::query_scalar!("select endpoint from delivery where id = ?", id);
            let endpoint = endpoint.fetch_one(&mut *self.tx).await?;
            let not_told = self.not_told(&id).await?;
            discarded.push(Discarded { delivery_id: id, endpoint, not_told });
        }
        Ok(Ended::Done(discarded))
    }

    /// The ids that `selection` means. `to`: the endpoint that they are redirected to.
    async fn endable(&mut self, selection: Redrive<'_>, to: Option<&str>) -> Result<Ended<Vec<String>>, Error> {
        let ids = match selection {
            Redrive::One { id, .. } => match self.state_of(id).await? {
                None => return Ok(Ended::NothingMatched),
                Some(state) if state.state == "pending" && state.under_way => return Ok(Ended::UnderWay),
                Some(state) if state.state == "delivered" && !state.partly => return Ok(Ended::Delivered),
                Some(state) => vec![state.id],
            },
            Redrive::Dead { endpoint, since } => {
                let ids = sqlx::query_scalar!(
                    "select id from delivery d
                     where (?1 is null or endpoint = ?1) and endpoint is not ?3 and created_at >= ?2
                       and ((state = 'dead' and redirected_at is null and discarded_at is null)
                            or (state = 'delivered' and refused <> '{}')
                            or (state = 'pending'
                                and ((?1 is not null and ?3 is not null)
                                     or exists (select 1 from endpoint e where e.name = d.endpoint
                                                and (e.paused_at is not null or e.unconfigured_since is not null)))
                                and not exists (select 1 from attempt a where a.delivery = d.id and a.ended_at is null)))
                     order by sequence",
                    endpoint,
                    since.map_or(i64::MIN, Timestamp::as_millis),
                    to
                );
                ids.fetch_all(&mut *self.tx).await.map_err(doing("choose messages"))?
            }
        };
        Ok(if ids.is_empty() { Ended::NothingMatched } else { Ended::Done(ids) })
    }

    async fn end_redirected(&mut self, id: &str, to: &str, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery
             set state = case state when 'delivered' then state else 'dead' end, next_attempt_at = null,
                 finished_at = coalesce(finished_at, ?2), redirected_at = ?2, discarded_at = null, refused = '{}',
                 unreadable_since = null, last_error = 'redirected to ' || ?3 || coalesce('; before that: ' || last_error, ''),
                 operators_notified_at = coalesce(operators_notified_at, ?2), failed_over_at = coalesce(failed_over_at, ?2)
             where id = ?1",
            id,
            now.as_millis(),
            to
        ))
        .await
    }

    /// The news of customers in this delivery that no recipient of any delivery has accepted.
    async fn not_told(&mut self, id: &str) -> Result<Vec<NotTold>, Error> {
        let rows = sqlx::query_as!(
            NotTold,
            r#"select e.id as "event_id!: String", e.type as "event_type!: String", c.name as "customer: String",
                      case when json_valid(e.data) then e.data ->> '$.qualification' end as "qualification: String",
                      (select min(d.endpoint) from delivery_event de join delivery d on d.id = de.delivery
                       where de.event = e.id and d.state = 'pending') as "waits_for: String"
               from delivery_event mine
               join event e on e.id = mine.event
               left join customer c on c.id = e.customer
               where mine.delivery = ?1 and e.type like 'vetting.%' and e.test = 0
                 and not exists (select 1 from delivery_event de join delivery d on d.id = de.delivery
                                 where de.event = e.id
                                   and (d.state = 'delivered'
                                        or exists (select 1 from attempt a where a.delivery = d.id and a.outcome = 'accepted')
                                        or (json_valid(d.final_replies)
                                            and exists (select 1 from json_each(d.final_replies) where value like '2%'))))
               order by e.occurred_at, e.rowid"#,
            id
        );
        rows.fetch_all(&mut *self.tx).await.map_err(doing("see who was told"))
    }
}

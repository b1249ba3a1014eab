//! Redirecting dead and waiting deliveries to another endpoint.

use super::redrive::Redrive;
use super::{Error, WriteTx};
use crate::time::Timestamp;
use vetwatch_core::routing::Target;

/// The result of a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirected {
    Done {
        /// The deliveries that were redirected: id and endpoint, oldest first.
        moved: Vec<(String, String)>,
        /// How many events were enqueued for the other endpoint; it has the rest already.
        events: usize,
        /// Not redirected, because the other endpoint has a dead delivery of one of their events.
        left: Vec<(String, String)>,
    },
    NothingMatched,
    UnderWay,
    Delivered,
}

impl WriteTx {
    /// Enqueues the events of these deliveries for another endpoint, except those it has already, and ends the
    /// deliveries as `dead`; `last_error` says where to. With an endpoint in `selection`, its pending deliveries are moved
    /// as well; otherwise dead ones, and pending ones of endpoints that are paused or not configured.
    pub async fn redirect(
        &mut self,
        selection: Redrive<'_>,
        target: &Target<'_>,
        now: Timestamp,
    ) -> Result<Redirected, Error> {
        let ids = match selection {
            Redrive::One { id, .. } => match self.state_of(id).await? {
                None => return Ok(Redirected::NothingMatched),
                Some(state) if state.state == "pending" && state.under_way => return Ok(Redirected::UnderWay),
                Some(state) if state.state == "delivered" => return Ok(Redirected::Delivered),
                Some(state) => vec![state.id],
            },
            Redrive::Dead { endpoint, since } => self.redirectable(endpoint, since, target.endpoint).await?,
        };
        if ids.is_empty() {
            return Ok(Redirected::NothingMatched);
        }
        let (mut moved, mut events, mut left) = (Vec::new(), 0, Vec::new());
        for id in ids {
            let row = sqlx::query!(r#"select endpoint, sequence as "sequence!: i64" from delivery where id = ?"#, id);
            let row = row.fetch_one(&mut *self.tx).await?;
            let (from, sequence) = (row.endpoint, row.sequence);
            if self.is_dead_at(&id, target.endpoint).await? {
                left.push((id, from));
                continue;
            }
            let target = Target { failover_from: Some(&from), ..target.clone() };
            for event in self.events_missing_at(target.endpoint, sequence).await? {
                self.enqueue(&event, &target, now).await?;
                events += 1;
            }
            self.end_redirected(&id, target.endpoint, now).await?;
            moved.push((id, from));
        }
        Ok(Redirected::Done { moved, events, left })
    }

    async fn redirectable(
        &mut self,
        endpoint: Option<&str>,
        since: Option<Timestamp>,
        to: &str,
    ) -> Result<Vec<String>, Error> {
        let ids = sqlx::query_scalar!(
            "select id from delivery d
             where (?1 is null or endpoint = ?1) and endpoint <> ?3 and created_at >= ?2
               and ((state = 'dead' and redirected_at is null)
                    or (state = 'pending'
                        and (?1 is not null
                             or exists (select 1 from endpoint e where e.name = d.endpoint
                                        and (e.paused_at is not null or e.unconfigured_since is not null)))
                        and not exists (select 1 from attempt a where a.delivery = d.id and a.ended_at is null)))
             order by sequence",
            endpoint,
            since.map_or(i64::MIN, Timestamp::as_millis),
            to
        );
        Ok(ids.fetch_all(&mut *self.tx).await?)
    }

    /// True if `to` has a dead delivery of one of its events.
    async fn is_dead_at(&mut self, id: &str, to: &str) -> Result<bool, Error> {
        let found = sqlx::query_scalar!(
            r#"select exists (select 1 from delivery_event mine
                              join delivery_event theirs on theirs.event = mine.event and theirs.endpoint = ?2
                              join delivery d on d.id = theirs.delivery
                              where mine.delivery = ?1 and d.state = 'dead') as "is!: bool""#,
            id,
            to
        );
        Ok(found.fetch_one(&mut *self.tx).await?)
    }

    async fn end_redirected(&mut self, id: &str, to: &str, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery
             set state = 'dead', next_attempt_at = null, finished_at = coalesce(finished_at, ?2), redirected_at = ?2,
                 last_error = 'redirected to ' || ?3 || coalesce('; before that: ' || last_error, ''),
                 operators_notified_at = coalesce(operators_notified_at, ?2), failed_over_at = coalesce(failed_over_at, ?2)
             where id = ?1",
            id,
            now.as_millis(),
            to
        ))
        .await
    }
}

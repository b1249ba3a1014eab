//! Telling another endpoint instead of the one that a message waits for, or was given up at.

use super::redrive::Redrive;
use super::{Error, NewDelivery, WriteTx};
use crate::time::Timestamp;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirected {
    Done {
        /// Ended: id and endpoint, oldest first.
        moved: Vec<(String, String)>,
        /// How many events the other endpoint is told of; it has messages of the others.
        events: usize,
        /// Not moved: the other endpoint has a message of theirs that was given up itself.
        left: Vec<(String, String)>,
    },
    NothingMatched,
    UnderWay,
    Delivered,
}

impl WriteTx {
    /// Sends what these deliveries tell to another endpoint, as far as it has no message of it, and ends them: their
    /// state is `dead`, `last_error` says where to. Of an endpoint that is named, also what waits is moved; else only
    /// what was given up, and what waits for an endpoint that is not configured or said that it is gone.
    pub async fn redirect(
        &mut self,
        which: Redrive<'_>,
        parcel: &NewDelivery<'_>,
        now: Timestamp,
    ) -> Result<Redirected, Error> {
        let ids = match which {
            Redrive::One { id, .. } => match self.state_of(id).await? {
                None => return Ok(Redirected::NothingMatched),
                Some(state) if state.state == "pending" && state.under_way => return Ok(Redirected::UnderWay),
                Some(state) if state.state == "delivered" => return Ok(Redirected::Delivered),
                Some(state) => vec![state.id],
            },
            Redrive::Dead { endpoint, since } => self.redirectable(endpoint, since, parcel.endpoint).await?,
        };
        if ids.is_empty() {
            return Ok(Redirected::NothingMatched);
        }
        let (mut moved, mut events, mut left) = (Vec::new(), 0, Vec::new());
        for id in ids {
            let row = sqlx::query!(r#"select endpoint, sequence as "sequence!: i64" from delivery where id = ?"#, id);
            let row = row.fetch_one(&mut *self.tx).await?;
            let (from, sequence) = (row.endpoint, row.sequence);
            if self.is_given_up_at(&id, parcel.endpoint).await? {
                left.push((id, from));
                continue;
            }
            let parcel = NewDelivery { failover_from: Some(&from), ..*parcel };
            for event in self.events_unknown_to(parcel.endpoint, sequence).await? {
                self.enqueue(&event, &parcel, now).await?;
                events += 1;
            }
            self.end_redirected(&id, parcel.endpoint, now).await?;
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
        let since = since.map_or(i64::MIN, Timestamp::as_millis);
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
            since,
            to
        );
        Ok(ids.fetch_all(&mut *self.tx).await?)
    }

    /// Whether `to` was to be told of one of its events, and that was given up.
    async fn is_given_up_at(&mut self, id: &str, to: &str) -> Result<bool, Error> {
        let is = sqlx::query_scalar!(
            r#"select exists (select 1 from delivery_event mine
                              join delivery_event theirs on theirs.event = mine.event and theirs.endpoint = ?2
                              join delivery d on d.id = theirs.delivery
                              where mine.delivery = ?1 and d.state = 'dead') as "is!: bool""#,
            id,
            to
        );
        Ok(is.fetch_one(&mut *self.tx).await?)
    }

    async fn end_redirected(&mut self, id: &str, to: &str, now: Timestamp) -> Result<(), Error> {
        let now = now.as_millis();
        sqlx::query!(
            "update delivery
             set state = 'dead', next_attempt_at = null, finished_at = coalesce(finished_at, ?2), redirected_at = ?2,
                 last_error = 'redirected to ' || ?3 || coalesce('; before that: ' || last_error, ''),
                 operators_notified_at = coalesce(operators_notified_at, ?2), failed_over_at = coalesce(failed_over_at, ?2)
             where id = ?1",
            id,
            now,
            to
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }
}

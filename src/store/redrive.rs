//! Redriving dead deliveries.

use crate::store::{Error, WriteTx, doing};
use crate::time::Timestamp;

/// Which deliveries to redrive.
#[derive(Debug, Clone, Copy)]
pub enum Redrive<'a> {
    /// One delivery, by its full id. One that every recipient accepted only with `force`.
    One { id: &'a str, force: bool },
    /// The dead deliveries of an endpoint, since a time, or both, and those that some recipients rejected. With an
    /// endpoint that is paused, its pending ones too.
    Dead {
        endpoint: Option<&'a str>,
        /// Created at or after this.
        since: Option<Timestamp>,
    },
}

/// The state of a delivery.
pub(super) struct DeliveryState {
    /// The current id: it changes while a message waits for its group.
    pub(super) id: String,
    pub(super) state: String,
    /// Some recipients rejected it for good, whatever was done about it since.
    pub(super) partly: bool,
    /// An attempt is open.
    pub(super) under_way: bool,
}

/// A dead delivery of an event that another delivery holds as well.
struct DeadCopy {
    id: String,
    /// How many of the other's events it holds.
    events: u32,
    /// It was redirected or discarded.
    handled: bool,
}

/// What a reset changes beside the retry schedule.
struct Reset {
    /// Recipients that accepted the message get it again.
    all_recipients: bool,
    /// Its events may go to its endpoint's fallback once more.
    may_fail_over: bool,
}

/// The result of a redrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redriven {
    /// Now pending and due: id and endpoint, oldest first.
    Again(Vec<(String, String)>),
    /// No delivery matched.
    NothingMatched,
    /// An attempt is open, or the process died in it; then it is retried anyway.
    UnderWay,
    /// It was delivered; only `force` sends it again.
    Delivered,
}

impl WriteTx {
    /// Makes deliveries pending and due now, with the same id and message and a new retry schedule. Their endpoints are
    /// resumed, and probed now if backing off. Recipients that accepted the message are skipped; those that rejected it
    /// are tried again (the mailbox may exist by now), and with `force` all are.
    pub async fn redrive(&mut self, selection: Redrive<'_>, now: Timestamp) -> Result<Redriven, Error> {
        let (ids, all_recipients) = match selection {
            Redrive::One { id, force } => match self.state_of(id).await? {
                None => return Ok(Redriven::NothingMatched),
                Some(state) if state.state == "pending" && state.under_way => return Ok(Redriven::UnderWay),
                Some(state) if state.state == "delivered" && !state.partly && !force => return Ok(Redriven::Delivered),
                Some(state) => (vec![state.id], force && state.state == "delivered"),
            },
            Redrive::Dead { endpoint, since } => (self.dead(endpoint, since).await?, false),
        };
        if ids.is_empty() {
            return Ok(Redriven::NothingMatched);
        }
        let redriven = self.reset_deliveries(&ids, all_recipients, now).await;
        redriven.map(Redriven::Again).map_err(|error| error.while_doing("send messages again"))
    }

    /// Redrives the dead deliveries of `endpoint` that hold events of the delivery `sequence`, because a person wants
    /// those sent there. Returns how many of the events they hold.
    pub(super) async fn redrive_dead_copies(
        &mut self,
        endpoint: &str,
        sequence: i64,
        now: Timestamp,
    ) -> Result<u32, Error> {
        let copies = self.dead_copies(endpoint, sequence).await?;
        let ids: Vec<_> = copies.iter().map(|copy| copy.id.clone()).collect();
        if !ids.is_empty() {
            self.reset_deliveries(&ids, false, now).await?;
        }
        Ok(copies.iter().map(|copy| copy.events).sum())
    }

    /// As `redrive_dead_copies`, but for a failover, which no person asked for: a paused endpoint stays
    /// paused, and what was redirected or discarded stays so. A copy that failed over does not a second time, or two
    /// endpoints that are each other's fallback would go on for ever.
    pub async fn fail_over_to_dead_copies(
        &mut self,
        endpoint: &str,
        sequence: i64,
        now: Timestamp,
    ) -> Result<u32, Error> {
        let mut copies = self.dead_copies(endpoint, sequence).await?;
        copies.retain(|copy| !copy.handled);
        let ids: Vec<_> = copies.iter().map(|copy| copy.id.clone()).collect();
        self.reset_rows(&ids, Reset { all_recipients: false, may_fail_over: false }, now).await?;
        Ok(copies.iter().map(|copy| copy.events).sum())
    }

    async fn dead_copies(&mut self, endpoint: &str, sequence: i64) -> Result<Vec<DeadCopy>, Error> {
        let copies = sqlx::query_as!(
            DeadCopy,
            r#"select copy.id, count(*) as "events!: u32",
                      copy.redirected_at is not null or copy.discarded_at is not null as "handled!: bool"
               from delivery me
               join delivery_event mine on mine.delivery = me.id
               join delivery_event theirs on theirs.event = mine.event and theirs.endpoint = ?2
               join delivery copy on copy.id = theirs.delivery
               where me.sequence = ?1 and copy.state = 'dead' and copy.sequence <> me.sequence
               group by copy.id order by copy.sequence"#,
            sequence,
            endpoint
        );
        Ok(copies.fetch_all(&mut *self.tx).await?)
    }

    pub(super) async fn state_of(&mut self, id: &str) -> Result<Option<DeliveryState>, Error> {
        let row = sqlx::query_as!(
            DeliveryState,
            r#"select d.id, d.state, d.refused <> '{}' or d.redirected_at is not null or d.discarded_at is not null as "partly!: bool",
                      exists (select 1 from attempt a where a.delivery = d.id and a.ended_at is null) as "under_way!: bool"
               from delivery d
               where d.sequence = coalesce((select sequence from delivery where id = ?1),
                                           (select delivery from delivery_former_id where id = ?1))"#,
            id,
        );
        row.fetch_optional(&mut *self.tx).await.map_err(doing("send a message again"))
    }

    async fn dead(&mut self, endpoint: Option<&str>, since: Option<Timestamp>) -> Result<Vec<String>, Error> {
        let ids = sqlx::query_scalar!(
            "select id from delivery
             where (?1 is null or endpoint = ?1) and created_at >= ?2
               and ((state = 'dead' and redirected_at is null and discarded_at is null) or (state = 'delivered' and refused <> '{}')
                    or (state = 'pending' and endpoint = ?1
                        and exists (select 1 from endpoint e where e.name = ?1 and e.paused_at is not null)))
             order by sequence",
            endpoint,
            since.map_or(i64::MIN, Timestamp::as_millis),
        );
        ids.fetch_all(&mut *self.tx).await.map_err(doing("send messages again"))
    }

    async fn reset_rows(&mut self, ids: &[String], reset: Reset, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery
             set state = 'pending', next_attempt_at = ?2, first_due_at = ?2, deferred_until = null, respects_quiet_hours = 0, retry_index = 0, interrupted = 0,
                 finished_at = null, operators_notified_at = null, redirected_at = null, discarded_at = null,
                 failed_over_at = case when not ?4 then failed_over_at end, refused = '{}', refused_at = null,
                 refused_reported_at = null,
                 final_replies = case when ?3 then '{}'
                           when json_type(final_replies) <> 'object' then final_replies -- not to be read: nobody is mailed again for that
                           else (select json_group_object(key, value) from json_each(final_replies) where value like '2%') end
             where id in (select value from json_each(?1))",
            serde_json::json!(ids).to_string(),
            now.as_millis(),
            reset.all_recipients,
            reset.may_fail_over,
        ))
        .await
    }

    async fn reset_deliveries(
        &mut self,
        ids: &[String],
        all_recipients: bool,
        at: Timestamp,
    ) -> Result<Vec<(String, String)>, Error> {
        self.reset_rows(ids, Reset { all_recipients, may_fail_over: true }, at).await?;
        let now = at.as_millis();
        let list = serde_json::json!(ids).to_string();
        self.run(sqlx::query!(
            "update endpoint set probe_at = case when closed_since is not null then ?2 end
             where name in (select endpoint from delivery where id in (select value from json_each(?1)))",
            list,
            now,
        ))
        .await?;
        let paused = sqlx::query_scalar!(
            "select name from endpoint
             where paused_at is not null
               and name in (select endpoint from delivery where id in (select value from json_each(?)))",
            list
        );
        for endpoint in paused.fetch_all(&mut *self.tx).await? {
            self.resume_endpoint(&endpoint, at).await?;
        }
        let redriven = sqlx::query!(
            "select id, endpoint from delivery where id in (select value from json_each(?1)) order by sequence",
            list,
        );
        let redriven = redriven.fetch_all(&mut *self.tx).await?;
        Ok(redriven.into_iter().map(|row| (row.id, row.endpoint)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::reports::fixture::{self, now};
    use crate::store::reports::{DeliveryDetail, DeliveryFilter};

    const DELIVERED: &str = "0193b000-0000-7000-8000-000000000001";
    const DEAD_MAIL: &str = "0193b000-0000-7000-8000-000000000002";
    const PENDING: &str = "0193b000-0000-7000-8000-000000000003";
    const DEAD_WEBHOOK: &str = "0193b000-0000-7000-8000-000000000004";
    const UNDER_WAY: &str = "0193c000-0000-7000-8000-000000000005";

    async fn redrive(store: &Store, selection: Redrive<'_>) -> Redriven {
        let mut tx = store.begin().await.unwrap();
        let redriven = tx.redrive(selection, now()).await.unwrap();
        tx.commit().await.unwrap();
        redriven
    }

    async fn shown(store: &Store, id: &str) -> DeliveryDetail {
        store.delivery(id).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_redrive_is_the_same_row_and_body_with_a_new_retry_schedule() {
        let filled = fixture::filled().await;
        let stuck = sqlx::query!("update delivery set retry_index = 4, interrupted = 3 where id = ?1", DEAD_MAIL);
        stuck.execute(&filled.store.write).await.unwrap();
        let before = shown(&filled.store, DEAD_MAIL).await;
        let one = Redrive::One { id: DEAD_MAIL, force: false };
        let again = Redriven::Again(vec![(DEAD_MAIL.into(), "sales-mail".into())]);
        assert_eq!(redrive(&filled.store, one).await, again);
        let after = shown(&filled.store, DEAD_MAIL).await;
        assert_eq!((after.message, after.delivery.attempts), (before.message, before.delivery.attempts));
        assert_eq!(
            (after.delivery.state.as_str(), after.delivery.next_attempt_at),
            ("pending", Some(now().to_string()))
        );
        let retry = sqlx::query!("select retry_index, interrupted from delivery where id = ?1", DEAD_MAIL);
        let retry = retry.fetch_one(&filled.store.read).await.unwrap();
        assert_eq!((retry.retry_index, retry.interrupted), (0, 0));
        assert_eq!((after.first_due_at, after.delivery.finished_at), (now(), None));
        // Recipients that accepted it are skipped; those that rejected it are tried again.
        assert_eq!(after.final_replies, serde_json::json!({ "a@contoso.example": "250 queued" }));
    }

    #[tokio::test]
    async fn a_delivered_message_goes_out_again_only_by_force_and_one_under_way_never() {
        let filled = fixture::filled().await;
        let delivered = |force| Redrive::One { id: DELIVERED, force };
        assert_eq!(redrive(&filled.store, delivered(false)).await, Redriven::Delivered);
        assert!(matches!(redrive(&filled.store, delivered(true)).await, Redriven::Again(_)));
        assert_eq!(shown(&filled.store, DELIVERED).await.final_replies, serde_json::json!({}));
        let under_way = Redrive::One { id: UNDER_WAY, force: true };
        assert_eq!(redrive(&filled.store, under_way).await, Redriven::UnderWay);
        let unknown = Redrive::One { id: "ffffffff", force: true };
        assert_eq!(redrive(&filled.store, unknown).await, Redriven::NothingMatched);
    }

    #[tokio::test]
    async fn dead_deliveries_are_chosen_by_endpoint_and_by_time() {
        let filled = fixture::filled().await;
        let since = Some(Timestamp::from_millis(now().as_millis() - 2 * 24 * 3_600_000));
        // It is paused: its pending deliveries are sent again as well.
        let paused = Redrive::Dead { endpoint: Some("crm"), since };
        assert_eq!(redrive(&filled.store, paused).await, Redriven::Again(vec![(PENDING.into(), "crm".into())]));
        let none = Redrive::Dead { endpoint: Some("crm"), since };
        assert_eq!(redrive(&filled.store, none).await, Redriven::NothingMatched);
        let lately = Redrive::Dead { endpoint: None, since };
        assert_eq!(
            redrive(&filled.store, lately).await,
            Redriven::Again(vec![(DEAD_MAIL.into(), "sales-mail".into())])
        );
        let crm = Redrive::Dead { endpoint: Some("crm"), since: None };
        assert_eq!(redrive(&filled.store, crm).await, Redriven::Again(vec![(DEAD_WEBHOOK.into(), "crm".into())]));
        let dead = DeliveryFilter { state: Some("dead"), ..DeliveryFilter::default() };
        assert!(filled.store.deliveries(dead).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_redrive_opens_an_endpoint_that_was_paused_and_probes_a_closed_one_now() {
        let filled = fixture::filled().await;
        assert!(matches!(redrive(&filled.store, Redrive::One { id: PENDING, force: false }).await, Redriven::Again(_)));
        let endpoints = filled.store.endpoint_states(now()).await.unwrap();
        let crm = endpoints.iter().find(|endpoint| endpoint.endpoint == "crm").unwrap();
        assert_eq!(crm.paused_at, None);
        assert!(crm.closed_since.is_some(), "only a success opens it");
        let probe = sqlx::query_scalar!("select probe_at from endpoint where name = 'crm'");
        assert_eq!(probe.fetch_one(&filled.store.read).await.unwrap(), Some(now().as_millis()));
    }
}

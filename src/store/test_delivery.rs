//! Test messages: ordinary deliveries, which an endpoint that is backing off is probed with first.

use super::columns::NullableTime;
use super::{Claim, ClaimedDelivery, Error, Rendered, Store, UnrenderedDelivery, WriteTx, doing};
use crate::event::Event;
use crate::time::Timestamp;

impl Store {
    /// The state of a test and its last ended attempt; `None` if there is no such delivery.
    pub async fn test_delivery(&self, delivery: &str) -> Result<Option<TestDelivery>, Error> {
        let test = sqlx::query_as!(
            TestDelivery,
            r#"select d.state, d.next_attempt_at as "next_attempt_at!: NullableTime", a.number as "attempt?: i64",
                      a.outcome as "outcome?: String", a.response as "response?: String",
                      exists (select 1 from endpoint e where e.name = d.endpoint and e.paused_at is not null) as "gone!: bool"
               from delivery d
               left join attempt a on a.delivery = d.id and a.ended_at is not null
               where d.id = ? order by a.number desc limit 1"#,
            delivery
        );
        test.fetch_optional(&self.read).await.map_err(doing("see what became of a test"))
    }
}

/// The state of a test message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestDelivery {
    pub state: String,
    pub next_attempt_at: Option<Timestamp>,
    /// The last attempt that has ended.
    pub attempt: Option<i64>,
    pub outcome: Option<String>,
    pub response: Option<String>,
    /// The endpoint is paused: no attempt is made.
    pub gone: bool,
}

impl WriteTx {
    /// The delivery of an event to an endpoint.
    pub async fn delivery_of(&mut self, event: &Event, endpoint: &str) -> Result<Option<String>, Error> {
        let id = sqlx::query_scalar!(
            "select delivery from delivery_event where event = ? and endpoint = ?",
            event.data.event_id.to_string(),
            endpoint
        );
        id.fetch_optional(&mut *self.tx).await.map_err(doing("queue a test"))
    }

    /// Makes a test possible now: the endpoint is resumed, and probed at once if it was paused or backing off.
    pub async fn force_probe(&mut self, endpoint: &str, at: Timestamp) -> Result<(), Error> {
        sqlx::query!(
            "update endpoint set closed_since = case when paused_at is not null then coalesce(closed_since, ?2) else closed_since end,
                                 probe_at = case when closed_since is not null or paused_at is not null then ?2 end
             where name = ?1",
            endpoint,
            at.as_millis()
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("queue a test"))?;
        self.resume_endpoint(endpoint, at).await
    }

    /// The oldest test that was not tried yet: an endpoint that is backing off is probed with it first.
    pub(super) async fn waiting_test(&mut self, endpoint: &str) -> Result<Option<i64>, Error> {
        let sequence = sqlx::query_scalar!(
            // Tests are few, however many deliveries wait: the cross join begins with them.
            "select d.sequence from event e
             cross join delivery_event de on de.event = e.id
             cross join delivery d on d.id = de.delivery
             where e.test = 1 and d.endpoint = ? and d.state = 'pending' and d.attempts = 0 and d.unreadable_since is null
             order by d.sequence limit 1",
            endpoint
        );
        sequence.fetch_optional(&mut *self.tx).await.map_err(doing("look for a test"))
    }

    /// Claims this delivery, as [`WriteTx::claim_due`] does. `None` if it is not pending, or an attempt is open.
    pub async fn claim_one(
        &mut self,
        id: &str,
        claim: Claim<'_>,
        render: impl Fn(&UnrenderedDelivery) -> Rendered,
    ) -> Result<Option<ClaimedDelivery>, Error> {
        let free = sqlx::query_scalar!(
            "select sequence from delivery d
             where id = ? and state = 'pending'
               and not exists (select 1 from attempt a where a.delivery = d.id and a.ended_at is null)",
            id
        );
        match free.fetch_optional(&mut *self.tx).await.map_err(doing("send a test"))? {
            Some(sequence) => self.claim(sequence, claim, render).await.map(Some),
            None => Ok(None),
        }
    }
}

//! Open reviews and their reminders.

use super::columns::{Count, NullableTime, Time};
use super::{CustomerId, Error, PartnerId, Store, WriteTx};
use crate::time::Timestamp;

/// An open review that was seen recently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReview {
    pub state_row: i64,
    pub customer: CustomerId,
    pub qualification: String,
    /// As spelled.
    pub status: String,
    pub created_at: Option<Timestamp>,
    pub attempt: u32,
    /// The create date that it started with; `None` if none was ever shown.
    pub attempt_created_at: Option<Timestamp>,
    /// The create date, or when it was submitted, or when it was first seen.
    pub since: Timestamp,
    /// When it was first seen in review, and when the customer was first seen.
    pub status_since: Timestamp,
    pub customer_since: Timestamp,
    pub last_seen_at: Timestamp,
    /// Up to when reminders about this review were sent.
    pub reminded_until: Option<Timestamp>,
    /// Of the response that showed the review; Microsoft's support asks for it.
    pub correlation_id: Option<String>,
}

impl Store {
    /// The open reviews of a partner's customers that were read at or after `seen_after`; without paused, removed and
    /// departed customers, and without pending absences and verdicts. Reads as many rows as there are reviews.
    pub async fn open_reviews(&self, partner: PartnerId, seen_after: Timestamp) -> Result<Vec<OpenReview>, Error> {
        let reviews = sqlx::query_as!(
            OpenReview,
            r#"select o.id as "state_row!", c.id as "customer!: CustomerId", o.qualification, o.vetting_status as "status!: String",
                      o.vetting_created_at as "created_at!: NullableTime", o.attempt as "attempt!: Count",
                      o.attempt_created_at as "attempt_created_at!: NullableTime", o.status_since as "status_since!: Time",
                      coalesce(o.vetting_created_at, o.submitted_at, o.status_since) as "since!: Time",
                      coalesce(c.first_seen_at, o.status_since) as "customer_since!: Time",
                      c.last_seen_at as "last_seen_at!: Time",
                      case when o.overdue_attempt = o.attempt then o.overdue_until end as "reminded_until!: NullableTime",
                      (select t.correlation_id from transition t
                       where t.customer = c.id and t.attempt = o.attempt and t.qualification = o.qualification
                       order by t.id desc limit 1) as correlation_id
               from customer c join qualification_state o on o.customer = c.id
               where c.partner = ?1 and c.poll_class = 'in_review' and c.removed_at is null and c.paused_at is null
                 and c.departed_since is null and c.last_seen_at >= ?2
                 and o.present = 1 and o.missing_since is null and o.pending_since is null
                 and replace(lower(trim(o.vetting_status)), '_', '') = 'inreview'
                 -- A stale copy of a review that is decided is no review.
                 and o.notified_attempt is not o.attempt
               order by coalesce(o.vetting_created_at, o.submitted_at, o.status_since), o.id"#,
            partner,
            seen_after.as_millis()
        );
        Ok(reviews.fetch_all(&self.read).await?)
    }
}

impl WriteTx {
    /// Records up to when reminders were sent. False if the review ended or restarted, or they were recorded already.
    pub async fn mark_reminded(&mut self, review: &OpenReview, until: Timestamp) -> Result<bool, Error> {
        Ok(self
            .change(sqlx::query!(
                "update qualification_state set overdue_attempt = attempt, overdue_until = ?1
             where id = ?2 and attempt = ?3 and present = 1 and missing_since is null and pending_since is null
               and replace(lower(trim(vetting_status)), '_', '') = 'inreview'
               and case when overdue_attempt = attempt then overdue_until end is ?4",
                until.as_millis(),
                review.state_row,
                review.attempt,
                review.reminded_until.map(Timestamp::as_millis)
            ))
            .await?
            > 0)
    }
}

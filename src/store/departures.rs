//! Departed customers and the initial sync of a partner, each reported once.

use vetwatch_core::membership::Event;

use super::columns::Time;
use super::{CustomerId, Error, PartnerId, Store, WriteTx};
use crate::time::Timestamp;

/// A review that can no longer be followed, because its customer departed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostReview {
    pub customer_id: String,
    /// Its name, domain or id.
    pub label: String,
    pub qualification: String,
    /// When it was submitted, or first seen in review.
    pub since: Timestamp,
    /// True if missing from the list; false if Partner Center refuses to answer about it.
    pub unlisted: bool,
}

/// What the report on the initial sync counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaselineCounts {
    pub watched: i64,
    pub paused: i64,
    /// Customers whose polls have all failed so far.
    pub unpolled: i64,
    /// Customers with at least one such entry.
    pub in_review: i64,
    pub approved: i64,
    pub denied: i64,
    /// Open reviews, oldest first: customer, qualification, since when.
    pub reviews: Vec<(String, String, Timestamp)>,
}

impl Store {
    /// True if a departed customer was not reported yet. One index lookup.
    pub async fn has_unreported_departures(&self, partner: PartnerId) -> Result<bool, Error> {
        let any = sqlx::query_scalar!(
            r#"select exists (select 1 from customer
                              where partner = ? and departed_since is not null and departure_reported_at is null and removed_at is null
                             ) as "any!: bool""#,
            partner
        );
        Ok(any.fetch_one(&self.read).await?)
    }

    /// True if a customer that departed at or before `before` is still polled. One index lookup.
    pub async fn has_long_departed(&self, partner: PartnerId, before: Timestamp) -> Result<bool, Error> {
        let any = sqlx::query_scalar!(
            r#"select exists (select 1 from customer
                              where partner = ?1 and departed_since <= ?2 and departed_since is not null and removed_at is null
                                and paused_at is null) as "any!: bool""#,
            partner,
            before.as_millis()
        );
        Ok(any.fetch_one(&self.read).await?)
    }

    /// True if all customers were polled once and that was not reported; with `synced`, also once a list was applied.
    pub async fn is_initial_sync_due(&self, partner: PartnerId, synced: bool) -> Result<bool, Error> {
        let due = sqlx::query_scalar!(
            // In this order it takes one or two lookups: an unseen customer is found at once. Customers that have been
            // unreadable for an hour are not waited for.
            r#"select case
                   when p.initial_sync_reported_at is not null or (?2 and p.first_synced_at is null) then 0
                   when exists (select 1 from customer
                                where partner = ?1 and poll_class = 'unseen' and removed_at is null
                                  and paused_at is null and unreadable_since is null and departed_since is null) then 0
                   else exists (select 1 from customer
                                where partner = ?1 and removed_at is null and paused_at is null
                                  and last_seen_at is not null)
               end as "due!: bool"
               from partner p where p.id = ?1"#,
            partner,
            synced
        );
        Ok(due.fetch_one(&self.read).await?)
    }
}

impl WriteTx {
    /// Takes the open reviews of departed, unreported customers, oldest first, and marks these as reported.
    pub async fn take_unreported_departures(
        &mut self,
        partner: PartnerId,
        now: Timestamp,
    ) -> Result<Vec<LostReview>, Error> {
        let lost = sqlx::query_as!(
            LostReview,
            r#"select c.customer_id, o.qualification, c.departed_reason is 'missing' as "unlisted!: bool",
                      coalesce(nullif(c.name, ''), nullif(c.domain, ''), c.customer_id) as "label!: String",
                      coalesce(o.vetting_created_at, o.submitted_at, o.status_since) as "since!: Time"
               from customer c join qualification_state o on o.customer = c.id
               where c.partner = ?1 and c.departed_since is not null and c.departure_reported_at is null and c.removed_at is null
                 and o.present = 1 and replace(lower(trim(o.vetting_status)), '_', '') = 'inreview'
               order by coalesce(o.vetting_created_at, o.submitted_at, o.status_since), c.id"#,
            partner
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let departed = sqlx::query_scalar!(
            r#"select id as "id!: CustomerId" from customer
               where partner = ?1 and departed_since is not null and departure_reported_at is null and removed_at is null"#,
            partner
        );
        let departed = departed.fetch_all(&mut *self.tx).await?;
        self.apply_membership(&departed, Event::DepartureReported, now).await?;
        Ok(lost)
    }

    /// Stops polling customers that departed at or before `before`. Returns how many.
    pub async fn give_up_departed(
        &mut self,
        partner: PartnerId,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<usize, Error> {
        let departed = sqlx::query_scalar!(
            r#"select id as "id!: CustomerId" from customer
               where partner = ?1 and departed_since <= ?2 and departed_since is not null and removed_at is null and paused_at is null"#,
            partner,
            before.as_millis()
        );
        let departed = departed.fetch_all(&mut *self.tx).await?;
        Ok(self.apply_membership(&departed, Event::GivenUp, now).await?.len())
    }

    /// Marks the initial sync as reported. False if it was already.
    pub async fn mark_initial_sync_reported(&mut self, partner: PartnerId, now: Timestamp) -> Result<bool, Error> {
        Ok(self
            .change(sqlx::query!(
                "update partner set initial_sync_reported_at = ?2 where id = ?1 and initial_sync_reported_at is null",
                partner,
                now.as_millis()
            ))
            .await?
            > 0)
    }

    /// The counts for the report on the initial sync. Scans all customers of the partner.
    pub async fn baseline_counts(&mut self, partner: PartnerId) -> Result<BaselineCounts, Error> {
        let counts = sqlx::query!(
            r#"select count(*) as "watched!: i64", count(paused_at) as "paused!: i64",
                      count(*) filter (where last_seen_at is null and poll_failures > 0) as "unpolled!: i64",
                      count(*) filter (where c.id in (select customer from qualification_state where present = 1 and replace(lower(trim(vetting_status)), '_', '') = 'inreview')) as "in_review!: i64",
                      count(*) filter (where c.id in (select customer from qualification_state where present = 1 and replace(lower(trim(vetting_status)), '_', '') = 'approved')) as "approved!: i64",
                      count(*) filter (where c.id in (select customer from qualification_state where present = 1 and replace(lower(trim(vetting_status)), '_', '') = 'denied')) as "denied!: i64"
               from customer c where partner = ? and removed_at is null"#,
            partner
        )
        .fetch_one(&mut *self.tx)
        .await?;
        let reviews = sqlx::query!(
            r#"select coalesce(nullif(c.name, ''), nullif(c.domain, ''), c.customer_id) as "label!: String",
                      o.qualification, coalesce(o.vetting_created_at, o.submitted_at, o.status_since) as "since!: i64"
               from qualification_state o join customer c on c.id = o.customer
               where c.partner = ? and c.removed_at is null and o.present = 1
                 and replace(lower(trim(o.vetting_status)), '_', '') = 'inreview'
               order by "since!: i64", c.id"#,
            partner
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let reviews = reviews.into_iter().map(|row| (row.label, row.qualification, Timestamp::from_millis(row.since)));
        Ok(BaselineCounts {
            watched: counts.watched,
            paused: counts.paused,
            unpolled: counts.unpolled,
            in_review: counts.in_review,
            approved: counts.approved,
            denied: counts.denied,
            reviews: reviews.collect(),
        })
    }
}

//! The mass absence guard, and unknown statuses.

use std::time::Duration;

use super::columns::{NullableTime, Time};
use super::{CustomerId, Error, PartnerId, Store, WriteTx, doing};
use crate::schedule::PollClass;
use crate::time::Timestamp;

const HOUR: Duration = Duration::from_hours(1);

/// What keeps missing entries from being recorded.
#[derive(Debug, Clone, Copy)]
pub struct MassAbsence {
    /// Since when too many entries are missing at once.
    pub mass_absence_since: Option<Timestamp>,
    /// When a person accepted that the missing entries are gone.
    pub accepted_at: Option<Timestamp>,
}

/// A status that was not reported yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownStatus {
    pub status_key: String,
    pub status: String,
    /// Watched customers that have it now.
    pub customers: i64,
}

/// A review that shows a status that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnclearReview {
    pub partner: String,
    pub customer: String,
    pub qualification: String,
    /// `None` if the entry has none.
    pub status: Option<String>,
    pub since: Timestamp,
}

impl WriteTx {
    pub async fn mass_absence(&mut self, partner: PartnerId) -> Result<MassAbsence, Error> {
        let guard = sqlx::query_as!(
            MassAbsence,
            r#"select mass_absence_since as "mass_absence_since!: NullableTime",
                      absence_accepted_at as "accepted_at!: NullableTime"
               from partner where id = ?"#,
            partner
        );
        Ok(guard.fetch_one(&mut *self.tx).await?)
    }

    pub async fn set_mass_absence_since(&mut self, partner: PartnerId, since: Option<Timestamp>) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update partner set mass_absence_since = ? where id = ?",
            since.map(Timestamp::as_millis),
            partner
        ))
        .await
    }

    /// Counts customers (except `besides`) that miss an entry or show an older one in its place, or lost one within the
    /// hour; at most `max`. Entries that were missing or gone when a person accepted the absence do not count.
    pub async fn customers_missing_entries(
        &mut self,
        partner: PartnerId,
        besides: Option<CustomerId>,
        now: Timestamp,
        accepted: Option<Timestamp>,
        max: u64,
    ) -> Result<u64, Error> {
        // Confirmations are at most an hour apart; a customer that is polled no longer says nothing.
        let lost = sqlx::query_scalar!(
            r#"select count(*) as "n!: i64" from (
                   select distinct c.id from (
                       select customer from qualification_state
                       where missing_since is not null and missing_confirmed_at >= ?2 and missing_since > coalesce(?3, 0)
                       union all
                       select customer from qualification_state
                       where pending_since is not null and pending_confirmed_at >= ?2 and pending_since > coalesce(?3, 0)
                         and present = 1
                       union all
                       select customer from qualification_state where present = 0 and status_since >= ?1 and ?3 is null
                       union all
                       select customer from transition
                       where observed_at >= ?1 and previous_created_at - vetting_created_at >= 3600000 and ?3 is null) lost
                   join customer c on c.id = lost.customer
                   where c.partner = ?4 and c.id is not ?5 and c.removed_at is null and c.paused_at is null
                     and c.departed_since is null
                   limit ?6)"#,
            now.before(HOUR).as_millis(),
            now.before(2 * HOUR).as_millis(),
            accepted.map(Timestamp::as_millis),
            partner,
            besides,
            i64::try_from(max).unwrap_or(i64::MAX)
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(u64::try_from(lost).unwrap_or(0))
    }

    /// Makes at most `max` other customers that have an entry due, those in review first; `besides` is left out.
    pub async fn schedule_control_polls(
        &mut self,
        partner: PartnerId,
        besides: Option<CustomerId>,
        max: u32,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut left = u64::from(max);
        for class in [PollClass::InReview, PollClass::Settled] {
            let done = self
                .change(sqlx::query!(
                    "update customer set next_poll_at = ?1 where id in (
                     select c.id from customer c
                     where c.partner = ?2 and c.poll_class = ?3 and c.removed_at is null and c.paused_at is null
                       and c.next_poll_at > ?1 and c.poll_failures = 0 and c.polling_since is null and c.id is not ?4
                       and exists (select 1 from qualification_state o where o.customer = c.id and o.present = 1)
                     order by c.next_poll_at desc limit ?5)",
                    now.as_millis(),
                    partner,
                    class.as_str(),
                    besides,
                    i64::try_from(left).unwrap_or(i64::MAX)
                ))
                .await?;
            left = left.saturating_sub(done);
        }
        Ok(())
    }

    /// True if the control sample is incomplete: fewer than `max` other customers that have an entry, or than all that
    /// can be polled, were read at or after `since`.
    pub async fn is_sample_missing(
        &mut self,
        partner: PartnerId,
        besides: CustomerId,
        since: Timestamp,
        max: u32,
    ) -> Result<bool, Error> {
        let max = i64::from(max);
        let sampled = sqlx::query_scalar!(
            r#"select count(*) as "n!: i64" from (
                   select 1 from customer c
                   where c.partner = ?1 and c.id <> ?2 and c.last_seen_at >= ?3 and c.removed_at is null
                     and exists (select 1 from qualification_state o where o.customer = c.id and o.present = 1)
                   limit ?4)"#,
            partner,
            besides,
            since.as_millis(),
            max
        )
        .fetch_one(&mut *self.tx)
        .await?;
        if sampled >= max {
            return Ok(false);
        }
        let left = sqlx::query_scalar!(
            r#"select exists (
                   select 1 from customer c
                   where c.partner = ?1 and c.id <> ?2 and c.last_seen_at < ?3 and c.poll_class in ('in_review', 'settled')
                     and c.removed_at is null and c.paused_at is null and c.poll_failures = 0
                     and exists (select 1 from qualification_state o where o.customer = c.id and o.present = 1)) as "any!: bool""#,
            partner,
            besides,
            since.as_millis()
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(left)
    }

    /// Accepts that missing entries are gone; the next response records it. Returns the customers now due for it.
    pub async fn accept_absence(&mut self, partner: Option<&str>, now: Timestamp) -> Result<Vec<CustomerId>, Error> {
        self.run(sqlx::query!(
            "update partner set absence_accepted_at = ?1, mass_absence_since = null where ?2 is null or name = ?2",
            now.as_millis(),
            partner
        ))
        .await?;
        let due = sqlx::query_scalar!(
            r#"update customer set next_poll_at = ?1
               where removed_at is null and paused_at is null
                 and id in (select customer from qualification_state where missing_since is not null or pending_since is not null)
                 and partner in (select id from partner where ?2 is null or name = ?2)
               returning id as "row!: CustomerId""#,
            now.as_millis(),
            partner
        )
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(due)
    }

    /// Records a status that is not documented.
    pub async fn unknown_status(
        &mut self,
        partner: PartnerId,
        key: &str,
        spelled: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.run(sqlx::query!(
            "insert into unknown_status (partner, status_key, status, first_seen_at) values (?, ?, ?, ?) on conflict do nothing",
            partner,
            key,
            spelled,
            now.as_millis()
        ))
        .await
    }

    /// Takes the statuses first seen at or before `before` that were not reported, and marks them as reported.
    pub async fn take_unknown_statuses(
        &mut self,
        partner: PartnerId,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<UnknownStatus>, Error> {
        let statuses = sqlx::query_as!(
            UnknownStatus,
            r#"select w.status_key, w.status,
                      (select count(distinct c.id) from qualification_state o join customer c on c.id = o.customer
                       where c.partner = w.partner and c.removed_at is null and o.present = 1
                         and replace(lower(trim(o.vetting_status)), '_', '') = w.status_key) as "customers!: i64"
               from unknown_status w where w.partner = ?1 and w.reported_at is null and w.first_seen_at <= ?2"#,
            partner,
            before.as_millis()
        )
        .fetch_all(&mut *self.tx)
        .await?;
        self.run(sqlx::query!(
            "update unknown_status set reported_at = ?1 where partner = ?2 and reported_at is null and first_seen_at <= ?3",
            now.as_millis(),
            partner,
            before.as_millis()
        ))
        .await?;
        Ok(statuses)
    }
}

impl Store {
    /// Since when too many entries are missing at once.
    pub async fn mass_absence_since(&self, partner: PartnerId) -> Result<Option<Timestamp>, Error> {
        let since = sqlx::query_scalar!("select mass_absence_since from partner where id = ?", partner)
            .fetch_one(&self.read)
            .await?;
        Ok(since.map(Timestamp::from_millis))
    }

    /// The reviews whose status is not known, oldest first, at most 100. Their customers are polled as in review.
    pub async fn unclear_reviews(&self) -> Result<Vec<UnclearReview>, Error> {
        let rows = sqlx::query_as!(
            UnclearReview,
            r#"select p.name as "partner!", c.name as "customer!", s.qualification as "qualification!",
                      nullif(trim(s.vetting_status), '') as "status: String", s.status_since as "since!: Time"
               from partner p
               cross join customer c on c.partner = p.id and c.poll_class = 'in_review'
               cross join qualification_state s on s.customer = c.id
               where c.removed_at is null and s.present = 1 and s.attempt > coalesce(s.notified_attempt, 0)
                 and replace(lower(trim(coalesce(s.vetting_status, ''))), '_', '') not in ('inreview', 'approved', 'denied')
               order by s.status_since limit 100"#
        );
        rows.fetch_all(&self.read).await.map_err(doing("list what has a status that is not known"))
    }

    /// True if a status first seen at or before `before` was not reported.
    pub async fn has_unknown_statuses(&self, partner: PartnerId, before: Timestamp) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(
            r#"select exists (select 1 from unknown_status where partner = ? and reported_at is null and first_seen_at <= ?) as "any!: bool""#,
            partner,
            before.as_millis()
        )
        .fetch_one(&self.read)
        .await?)
    }
}

//! How much disappears at once, and words that nobody knows.

use std::time::Duration;

use super::{Error, Store, WriteTx};
use crate::schedule::PollClass;
use crate::time::Timestamp;

const HOUR: Duration = Duration::from_hours(1);

/// What stands against believing that entries are gone.
#[derive(Debug, Clone, Copy)]
pub struct MassAbsence {
    /// Since when the partner's answers are implausible.
    pub mass_absence_since: Option<Timestamp>,
    /// When a person said that what was missing was gone.
    pub accepted_at: Option<Timestamp>,
}

/// A word that waits to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownStatus {
    pub status_key: String,
    pub status: String,
    /// Watched customers that have it now.
    pub customers: i64,
}

impl WriteTx {
    pub async fn mass_absence(&mut self, partner: i64) -> Result<MassAbsence, Error> {
        let row = sqlx::query!("select mass_absence_since, absence_accepted_at from partner where id = ?", partner)
            .fetch_one(&mut *self.tx)
            .await?;
        Ok(MassAbsence {
            mass_absence_since: row.mass_absence_since.map(Timestamp::from_millis),
            accepted_at: row.absence_accepted_at.map(Timestamp::from_millis),
        })
    }

    pub async fn set_implausible_since(&mut self, partner: i64, since: Option<Timestamp>) -> Result<(), Error> {
        let since = since.map(Timestamp::as_millis);
        sqlx::query!("update partner set mass_absence_since = ? where id = ?", since, partner)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Customers (other than this one) that miss an entry or show an older one in its place, or lost one so within the
    /// hour; counted up to `most`. What was missing when a person accepted that, and what is gone since, does not count.
    pub async fn customers_that_lost(
        &mut self,
        partner: i64,
        besides: Option<i64>,
        now: Timestamp,
        accepted: Option<Timestamp>,
        most: u64,
    ) -> Result<u64, Error> {
        // Looks at what is missing are an hour apart at most; who is not looked at any more says nothing.
        let (gone, looked) = (now.before(HOUR).as_millis(), now.before(2 * HOUR).as_millis());
        let accepted = accepted.map(Timestamp::as_millis);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
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
            gone,
            looked,
            accepted,
            partner,
            besides,
            most
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(u64::try_from(lost).unwrap_or(0))
    }

    /// Makes up to `most` other customers due that hold an entry: those in review first.
    pub async fn schedule_control_polls(
        &mut self,
        partner: i64,
        besides: Option<i64>,
        most: u32,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (now, mut left) = (now.as_millis(), u64::from(most));
        for class in [PollClass::InReview, PollClass::Settled] {
            let (class, most) = (class.as_str(), i64::try_from(left).unwrap_or(i64::MAX));
            let done = sqlx::query!(
                "update customer set next_poll_at = ?1 where id in (
                     select c.id from customer c
                     where c.partner = ?2 and c.poll_class = ?3 and c.removed_at is null and c.paused_at is null
                       and c.next_poll_at > ?1 and c.poll_failures = 0 and c.polling_since is null and c.id is not ?4
                       and exists (select 1 from qualification_state o where o.customer = c.id and o.present = 1)
                     order by c.next_poll_at desc limit ?5)",
                now,
                partner,
                class,
                besides,
                most
            )
            .execute(&mut *self.tx)
            .await?;
            left = left.saturating_sub(done.rows_affected());
        }
        Ok(())
    }

    /// Were others to be asked, and were not since then? So many of those that hold an entry, or all that can be asked.
    pub async fn is_sample_missing(
        &mut self,
        partner: i64,
        besides: i64,
        since: Timestamp,
        most: u32,
    ) -> Result<bool, Error> {
        let (since, most) = (since.as_millis(), i64::from(most));
        let asked = sqlx::query_scalar!(
            r#"select count(*) as "n!: i64" from (
                   select 1 from customer c
                   where c.partner = ?1 and c.id <> ?2 and c.last_seen_at >= ?3 and c.removed_at is null
                     and exists (select 1 from qualification_state o where o.customer = c.id and o.present = 1)
                   limit ?4)"#,
            partner,
            besides,
            since,
            most
        )
        .fetch_one(&mut *self.tx)
        .await?;
        if asked >= most {
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
            since
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(left)
    }

    /// What is missing from answers is gone, says a person; the next look believes it. Returns who is due for it now.
    pub async fn accept_absence(&mut self, partner: Option<&str>, now: Timestamp) -> Result<Vec<i64>, Error> {
        let now = now.as_millis();
        sqlx::query!(
            "update partner set absence_accepted_at = ?1, mass_absence_since = null where ?2 is null or name = ?2",
            now,
            partner
        )
        .execute(&mut *self.tx)
        .await?;
        let due = sqlx::query_scalar!(
            r#"update customer set next_poll_at = ?1
               where removed_at is null and paused_at is null
                 and id in (select customer from qualification_state where missing_since is not null or pending_since is not null)
                 and partner in (select id from partner where ?2 is null or name = ?2)
               returning id as "row!""#,
            now,
            partner
        )
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(due)
    }

    /// Notes a status word that is not documented.
    pub async fn unknown_status(
        &mut self,
        partner: i64,
        word: &str,
        spelled: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let now = now.as_millis();
        sqlx::query!(
            "insert into unknown_status (partner, status_key, status, first_seen_at) values (?, ?, ?, ?) on conflict do nothing",
            partner,
            word,
            spelled,
            now
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Takes the words that are to be told, once: first seen before `before`.
    pub async fn take_unknown_statuses(
        &mut self,
        partner: i64,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<UnknownStatus>, Error> {
        let (before, now) = (before.as_millis(), now.as_millis());
        let words = sqlx::query_as!(
            UnknownStatus,
            r#"select w.status_key, w.status,
                      (select count(distinct c.id) from qualification_state o join customer c on c.id = o.customer
                       where c.partner = w.partner and c.removed_at is null and o.present = 1
                         and replace(lower(trim(o.vetting_status)), '_', '') = w.status_key) as "customers!: i64"
               from unknown_status w where w.partner = ?1 and w.reported_at is null and w.first_seen_at <= ?2"#,
            partner,
            before
        )
        .fetch_all(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update unknown_status set reported_at = ?1 where partner = ?2 and reported_at is null and first_seen_at <= ?3",
            now,
            partner,
            before
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(words)
    }
}

impl Store {
    /// Since when so much is missing that it is not believed.
    pub async fn mass_absence_since(&self, partner: i64) -> Result<Option<Timestamp>, Error> {
        let since = sqlx::query_scalar!("select mass_absence_since from partner where id = ?", partner)
            .fetch_one(&self.read)
            .await?;
        Ok(since.map(Timestamp::from_millis))
    }

    /// Is there a word to be told?
    pub async fn has_unknown_statuses(&self, partner: i64, before: Timestamp) -> Result<bool, Error> {
        let before = before.as_millis();
        Ok(sqlx::query_scalar!(
            r#"select exists (select 1 from unknown_status where partner = ? and reported_at is null and first_seen_at <= ?) as "any!: bool""#,
            partner,
            before
        )
        .fetch_one(&self.read)
        .await?)
    }
}

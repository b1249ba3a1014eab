//! How much disappears at once, and words that nobody knows.

use super::{Error, Store, WriteTx};
use crate::time::Timestamp;

/// A word that waits to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord {
    pub word: String,
    pub spelled: String,
    /// Watched customers that have it now.
    pub customers: i64,
}

impl WriteTx {
    /// Since when the partner's answers are implausible; `None` also while a person accepts them.
    pub async fn implausible_since(
        &mut self,
        partner: i64,
        now: Timestamp,
    ) -> Result<(Option<Timestamp>, bool), Error> {
        let now = now.as_millis();
        let row = sqlx::query!(
            r#"select implausible_since, coalesce(absence_accepted_until > ?1, false) as "accepted!: bool"
               from partner where id = ?2"#,
            now,
            partner
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok((row.implausible_since.map(Timestamp::from_millis), row.accepted))
    }

    pub async fn set_implausible_since(&mut self, partner: i64, since: Option<Timestamp>) -> Result<(), Error> {
        let since = since.map(Timestamp::as_millis);
        sqlx::query!("update partner set implausible_since = ? where id = ?", since, partner)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Customers other than this one that miss an entry now, or lost one since.
    pub async fn customers_that_lost(&mut self, partner: i64, besides: i64, since: Timestamp) -> Result<u64, Error> {
        let since = since.as_millis();
        let lost = sqlx::query_scalar!(
            r#"select count(*) as "n!: i64" from (
                   select o.customer from observation o where o.missing_since is not null
                   union
                   select o.customer from observation o where o.present = 0 and o.status_since >= ?1)
               l join customer c on c.id = l.customer
               where c.partner = ?2 and c.id <> ?3 and c.removed_at is null"#,
            since,
            partner,
            besides
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(u64::try_from(lost).unwrap_or(0))
    }

    /// Entries that are missing are gone, says a person, until then.
    pub async fn accept_absence(&mut self, partner: i64, until: Timestamp) -> Result<(), Error> {
        let until = until.as_millis();
        sqlx::query!(
            "update partner set absence_accepted_until = ?, implausible_since = null where id = ?",
            until,
            partner
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Notes a status word that is not documented.
    pub async fn unknown_word(&mut self, partner: i64, word: &str, spelled: &str, now: Timestamp) -> Result<(), Error> {
        let now = now.as_millis();
        sqlx::query!(
            "insert into unknown_word (partner, word, spelled, first_seen_at) values (?, ?, ?, ?) on conflict do nothing",
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
    pub async fn take_unknown_words(
        &mut self,
        partner: i64,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<UnknownWord>, Error> {
        let (before, now) = (before.as_millis(), now.as_millis());
        let words = sqlx::query_as!(
            UnknownWord,
            r#"select w.word, w.spelled,
                      (select count(distinct c.id) from observation o join customer c on c.id = o.customer
                       where c.partner = w.partner and c.removed_at is null and o.present = 1
                         and replace(lower(trim(o.vetting_status)), '_', '') = w.word) as "customers!: i64"
               from unknown_word w where w.partner = ?1 and w.told_at is null and w.first_seen_at <= ?2"#,
            partner,
            before
        )
        .fetch_all(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update unknown_word set told_at = ?1 where partner = ?2 and told_at is null and first_seen_at <= ?3",
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
    /// Is there a word to be told?
    pub async fn has_unknown_words(&self, partner: i64, before: Timestamp) -> Result<bool, Error> {
        let before = before.as_millis();
        Ok(sqlx::query_scalar!(
            r#"select exists (select 1 from unknown_word where partner = ? and told_at is null and first_seen_at <= ?) as "any!: bool""#,
            partner,
            before
        )
        .fetch_one(&self.read)
        .await?)
    }
}

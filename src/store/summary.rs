//! What summaries are made from, and until when they were sent.

use super::{Error, Store, WriteTx, doing};
use crate::time::Timestamp;

/// How far summaries have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The last summary told until then, or none was to be sent.
    pub until: Timestamp,
    /// The next one is due at the first time of the schedule after this.
    pub from: Timestamp,
    pub schedule: String,
}

impl Store {
    /// `None` before the first start with `[summary]`.
    pub async fn summaries_told(&self) -> Result<Option<Told>, Error> {
        let row = sqlx::query!(
            r#"select summary_until as "until!: i64", summary_from as "start!: i64", summary_schedule as "schedule!"
               from daemon where summary_until is not null"#
        );
        let row = row.fetch_optional(&self.read).await.map_err(doing("see when the last summary was sent"))?;
        Ok(row.map(|row| Told {
            until: Timestamp::from_millis(row.until),
            from: Timestamp::from_millis(row.start),
            schedule: row.schedule,
        }))
    }

    /// How many approvals, denials, approvals taken back and reviews that vanished were seen from `since` on and before
    /// `until`.
    pub async fn count_outcomes(&self, since: Timestamp, until: Timestamp) -> Result<[u64; 4], Error> {
        let row = sqlx::query!(
            r#"select count(*) filter (where outcome = 'Approved') as "approved!: u32",
                      count(*) filter (where outcome = 'Denied') as "denied!: u32",
                      count(*) filter (where outcome = 'Revoked') as "revoked!: u32",
                      count(*) filter (where outcome = 'Vanished') as "vanished!: u32"
               from transition where observed_at >= ?1 and observed_at < ?2 and outcome is not null"#,
            since.as_millis(),
            until.as_millis()
        );
        let row = row.fetch_one(&self.read).await.map_err(doing("count decisions"))?;
        Ok([row.approved, row.denied, row.revoked, row.vanished].map(u64::from))
    }

    pub async fn count_reviews(&self) -> Result<u64, Error> {
        let count = sqlx::query_scalar!(
            r#"select count(*) as "count!: u32" from qualification_state o join customer c on c.id = o.customer
               where o.present = 1 and c.removed_at is null and replace(lower(trim(o.vetting_status)), '_', '') = 'inreview'"#
        );
        Ok(count.fetch_one(&self.read).await.map_err(doing("count what is in review"))?.into())
    }

    /// The first partner: events that are about none need one all the same.
    pub async fn any_partner(&self) -> Result<Option<super::PartnerId>, Error> {
        let row = sqlx::query_scalar!(r#"select id as "id!: super::PartnerId" from partner order by id limit 1"#);
        row.fetch_optional(&self.read).await.map_err(doing("look a partner up"))
    }
}

impl WriteTx {
    /// Notes how far summaries have come.
    pub async fn note_summaries(&mut self, told: &Told, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "insert into daemon (id, alive_at, summary_until, summary_from, summary_schedule) values (1, ?4, ?1, ?2, ?3)
             on conflict (id) do update set summary_until = ?1, summary_from = ?2, summary_schedule = ?3",
            told.until.as_millis(),
            told.from.as_millis(),
            told.schedule,
            now.as_millis()
        ))
        .await
    }

    /// Forgets it: without `[summary]` nothing is owed.
    pub async fn forget_summaries(&mut self) -> Result<(), Error> {
        self.run(sqlx::query!("update daemon set summary_until = null, summary_from = null, summary_schedule = null"))
            .await
    }

    pub async fn has_event(&mut self, id: uuid::Uuid) -> Result<bool, Error> {
        let known = sqlx::query_scalar!(
            r#"select exists (select 1 from event where id = ?) as "known!: bool""#,
            id.to_string()
        );
        known.fetch_one(&mut *self.tx).await.map_err(doing("look an event up"))
    }
}

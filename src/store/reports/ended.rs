//! Reviews that ended and those that go on, for `report`.

use futures_util::TryStreamExt as _;
use vetwatch_core::changes::Outcome;
use vetwatch_core::report::{Ended, Open};

use crate::store::{Error, Store, doing};
use crate::time::Timestamp;

impl Store {
    /// Gives every review in review to `take`, of one partner or of all.
    pub async fn each_open(&self, partner: Option<&str>, mut take: impl FnMut(Open<'_>)) -> Result<(), Error> {
        let rows = sqlx::query!(
            r#"select o.customer as "customer!: i64", o.qualification as "qualification!",
                      coalesce(o.vetting_created_at, o.status_since) as "since!: i64"
               from qualification_state o
               join customer c on c.id = o.customer
               where o.present = 1 and replace(lower(trim(o.vetting_status)), '_', '') = 'inreview' and c.removed_at is null
                 and (?1 is null or c.partner = (select id from partner where name = ?1))"#,
            partner
        );
        for row in rows.fetch_all(&self.read).await.map_err(doing("list what is in review"))? {
            let since = Timestamp::from_millis(row.since);
            take(Open { customer: row.customer, qualification: &row.qualification, since });
        }
        Ok(())
    }

    /// Gives the reviews that were seen to end from `since` on to `take`, newest first, until it returns false.
    pub async fn each_ended(
        &self,
        since: Timestamp,
        partner: Option<&str>,
        mut take: impl FnMut(Ended<'_>) -> bool,
    ) -> Result<(), Error> {
        let since = since.as_millis();
        let mut rows = sqlx::query!(
            r#"select t.customer as "customer!: i64", t.qualification as "qualification!", t.attempt as "attempt!: i64",
                      t.submitted_at as "submitted_at: i64", t.observed_at as "observed_at!: i64",
                      t.vetting_reason as "vetting_reason: String", t.outcome as "outcome!: String"
               from transition t
               where t.observed_at >= ?1 and t.outcome is not null
                 and (?2 is null or ?2 = (select p.name from customer c join partner p on p.id = c.partner where c.id = t.customer))
               order by t.observed_at desc, t.id desc"#,
            since,
            partner
        )
        .fetch(&self.read);
        while let Some(row) = rows.try_next().await.map_err(doing("list decisions"))? {
            let Some(outcome) = Outcome::parse(&row.outcome) else { continue };
            let more = take(Ended {
                customer: row.customer,
                qualification: &row.qualification,
                attempt: row.attempt,
                submitted_at: row.submitted_at.map(Timestamp::from_millis),
                observed_at: Timestamp::from_millis(row.observed_at),
                outcome,
                reason: row.vetting_reason.as_deref(),
            });
            if !more {
                break;
            }
        }
        Ok(())
    }
}

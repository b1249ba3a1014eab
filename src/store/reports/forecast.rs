//! What forecasts are made from.

use crate::store::columns::Time;
use crate::store::{Error, Store, doing};
use crate::time::Timestamp;

/// An open review.
#[derive(Debug)]
pub struct OpenSince {
    /// As compared.
    pub qualification_key: String,
    pub since: Timestamp,
}

/// A review that was seen to end.
#[derive(Debug)]
pub struct Finished {
    pub submitted_at: Timestamp,
    pub observed_at: Timestamp,
}

impl Store {
    /// At most `limit` open reviews.
    pub async fn open_since(&self, limit: u32) -> Result<Vec<OpenSince>, Error> {
        let rows = sqlx::query_as!(
            OpenSince,
            r#"select o.qualification_key, coalesce(o.vetting_created_at, o.status_since) as "since!: Time"
               from qualification_state o
               where o.present = 1 and replace(lower(trim(o.vetting_status)), '_', '') = 'inreview' limit ?1"#,
            limit
        );
        rows.fetch_all(&self.read).await.map_err(doing("list open reviews"))
    }

    /// The newest reviews of a qualification, as compared, that were seen to end and whose beginning is known.
    pub async fn finished_reviews(&self, qualification_key: &str, limit: u32) -> Result<Vec<Finished>, Error> {
        let rows = sqlx::query_as!(
            Finished,
            r#"select t.submitted_at as "submitted_at!: Time", t.observed_at as "observed_at!: Time"
               from transition t indexed by transition_decided
               where replace(lower(t.qualification), '_', '') = ?1 and t.submitted_at is not null
                 and t.outcome in ('Approved', 'Denied')
               order by t.observed_at desc limit ?2"#,
            qualification_key,
            limit
        );
        rows.fetch_all(&self.read).await.map_err(doing("list finished reviews"))
    }
}

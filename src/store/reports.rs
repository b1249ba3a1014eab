//! Reports: the read-only queries behind the commands.
//!
//! Rows of a view have the view's column names, because `--json` prints them as they are and analysts meet the same
//! names in SQL. Their times are the view's texts; times that only the commands need are [`Timestamp`]s.

#[macro_use] // before what uses its macros
mod rows;
mod deliveries;
mod ended;
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
pub(crate) mod fixture;
mod forecast;
mod overview;
mod pages;
mod pending;
mod proof;

use crate::store::CustomerId;
use serde::Serialize;

pub use deliveries::{AttemptRow, DeliveryDetail, DeliveryFilter, DeliveryRow, EventRow};
pub use overview::{EndpointState, PartnerState};
pub use pages::{CustomerKey, HistoryRow, ReviewRow, Step, VerdictRow};
pub use pending::PendingRow;
pub use proof::{DeliveryTrace, EventTrace, TransitionEvidence};

use crate::store::{Error, Store, doing};
use crate::time::Timestamp;

/// A row of `v_current`.
#[derive(Debug, Clone, Serialize)]
pub struct CurrentRow {
    pub partner: String,
    pub customer_id: String,
    pub customer_name: String,
    pub customer_domain: String,
    pub qualification: String,
    pub vetting_status: Option<String>,
    pub vetting_reason: Option<String>,
    pub vetting_created_at: Option<String>,
    pub status_since: String,
    pub attempt: i64,
    pub last_seen_at: Option<String>,
    pub next_poll_at: Option<String>,
    pub missing_since: Option<String>,
}

/// A row of `v_transitions`.
#[derive(Debug, Clone, Serialize)]
pub struct TransitionRow {
    pub transition_id: i64,
    pub observed_at: String,
    pub last_seen_before_at: Option<String>,
    pub partner: String,
    pub customer_id: String,
    pub customer_name: String,
    pub qualification: String,
    pub from_status: Option<String>,
    pub to_status: Option<String>,
    pub vetting_reason: Option<String>,
    pub vetting_created_at: Option<String>,
    pub attempt: i64,
    pub event_type: Option<String>,
    pub event_id: Option<String>,
    pub correlation_id: Option<String>,
}

/// A row of `v_decisions`; also of an approval that was taken back (`Revoked`), or a review that vanished (`Vanished`).
#[derive(Debug, Clone, Serialize)]
pub struct DecisionRow {
    pub partner: String,
    pub customer_id: String,
    pub customer_name: String,
    pub qualification: String,
    pub attempt: i64,
    pub submitted_at: Option<String>,
    pub decided_after: Option<String>,
    pub decided_before: String,
    pub outcome: String,
    pub vetting_reason: Option<String>,
    pub hours_in_review: Option<f64>,
}

/// A row of `v_customers`.
#[derive(Debug, Clone, Serialize)]
pub struct CustomerRow {
    #[serde(skip)]
    pub row: CustomerId,
    pub partner: String,
    pub customer_id: String,
    pub name: String,
    pub domain: String,
    /// Joined by commas; empty if none.
    pub tags: String,
    /// May be empty.
    pub contact: String,
    pub paused: bool,
    pub last_seen_at: Option<String>,
    pub next_poll_at: Option<String>,
    pub poll_failures: i64,
    /// The first failed poll since the last good one.
    pub failing_since: Option<String>,
    /// Since when it counts as unreadable.
    pub unreadable_since: Option<String>,
    pub last_error: Option<String>,
    pub poll_class: String,
    pub added_at: String,
    /// It is no longer in Partner Center's list, or Partner Center refuses to answer about it.
    pub departed_since: Option<String>,
    /// Muted since and until; without an end, until `customers unmute`.
    pub muted_since: Option<String>,
    pub muted_until: Option<String>,
}

/// A customer as it can be named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCustomer {
    /// The row; each `add` after a `remove` makes a new one.
    pub row: CustomerId,
    pub partner: String,
    pub customer_id: String,
    pub customer_key: String,
    pub name: String,
    pub domain: String,
    pub removed: bool,
    pub paused: bool,
}

/// Filters transitions; the default is all of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct TransitionFilter<'a> {
    /// Observed at or after this.
    pub since: Option<Timestamp>,
    /// Recorded after this transition.
    pub after: Option<i64>,
    /// Rows of `customer`.
    pub customers: Option<&'a [CustomerId]>,
    pub partner: Option<&'a str>,
    /// At most this many, the newest.
    pub limit: Option<u32>,
}

/// Which rows of a long list; the default is all of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page {
    pub limit: Option<u32>,
    pub skip: u32,
}

impl Store {
    /// Reads the newest row of each table that grows. A page of them may be damaged, and the indexes beside it be whole.
    ///
    /// # Errors
    /// If one cannot be read.
    pub async fn read_newest_rows(&self) -> Result<(), Error> {
        let newest = sqlx::query_scalar!(
            r#"select coalesce((select created_at from delivery where sequence = (select max(sequence) from delivery)), 0)
                      + coalesce((select observed_at from transition where id = (select max(id) from transition)), 0)
                      + coalesce((select occurred_at from event where rowid = (select max(rowid) from event)), 0)
                      + coalesce((select added_at from customer where id = (select max(id) from customer)), 0) as "newest!: i64""#
        );
        newest.fetch_one(&self.read).await.map_err(doing("read the newest rows"))?;
        Ok(())
    }

    /// The id of the transition that was recorded last; 0 without one.
    pub async fn newest_transition(&self) -> Result<i64, Error> {
        let newest = sqlx::query_scalar!(r#"select coalesce(max(id), 0) as "newest!: i64" from transition"#);
        newest.fetch_one(&self.read).await.map_err(doing("read the history"))
    }

    /// The names of all partners that were ever watched.
    pub async fn partner_names(&self) -> Result<Vec<String>, Error> {
        let names = sqlx::query_scalar!("select name from partner order by name");
        names.fetch_all(&self.read).await.map_err(doing("read the partners"))
    }

    /// The number of watched customers, and when one of them was last read.
    pub async fn watching(&self) -> Result<(i64, Option<Timestamp>), Error> {
        let row = sqlx::query!(
            r#"select count(*) as customers, max(last_seen_at) as "last_seen_at: i64"
               from customer where removed_at is null and paused_at is null"#
        );
        let row = row.fetch_one(&self.read).await?;
        Ok((row.customers, row.last_seen_at.map(Timestamp::from_millis)))
    }

    /// All customers, removed ones included, oldest row first.
    pub async fn known_customers(&self) -> Result<Vec<FoundCustomer>, Error> {
        let rows = sqlx::query_as!(
            FoundCustomer,
            r#"select c.id as "row!: CustomerId", p.name as partner, c.customer_id, c.customer_key, c.name, c.domain,
                      c.removed_at is not null as "removed!: bool", c.paused_at is not null as "paused!: bool"
               from customer c join partner p on p.id = c.partner
               order by c.id"#,
        );
        rows.fetch_all(&self.read).await.map_err(doing("read the customers"))
    }

    /// These rows of watched customers.
    pub async fn customers(&self, rows: &[CustomerId]) -> Result<Vec<CustomerRow>, Error> {
        let found = customer_rows!("c.id in (select value from json_each(?1))", json_list(rows));
        found.fetch_all(&self.read).await.map_err(doing("read a customer"))
    }

    /// Watched customers by name, of one partner or with a tag.
    pub async fn customer_page(
        &self,
        partner: Option<&str>,
        tag: Option<&str>,
        page: Page,
    ) -> Result<Vec<CustomerRow>, Error> {
        let found = customer_rows!(
            "(?1 is null or p.name = ?1)
             and (?2 is null or exists (select 1 from json_each(c.tags) where lower(value) = lower(?2)))
             order by p.name, lower(c.name), c.customer_id limit ?3 offset ?4",
            partner,
            tag,
            page.limit.map_or(-1, i64::from),
            page.skip,
        );
        found.fetch_all(&self.read).await.map_err(doing("list customers"))
    }

    /// Unreadable customers, the longest unreadable first.
    pub async fn unreadable_customers(&self) -> Result<Vec<CustomerRow>, Error> {
        let found =
            customer_rows!("c.unreadable_since is not null and c.paused_at is null order by c.unreadable_since",);
        found.fetch_all(&self.read).await.map_err(doing("list the customers that cannot be read"))
    }

    /// The current qualifications of these rows of customers, or with `None` of all.
    pub async fn current(&self, customers: Option<&[CustomerId]>) -> Result<Vec<CurrentRow>, Error> {
        let doing = doing("read the current qualifications");
        let Some(rows) = customers else {
            let all = current_rows!("true order by p.name, lower(c.name), c.customer_id, o.qualification",);
            return all.fetch_all(&self.read).await.map_err(doing);
        };
        let of = current_rows!(
            "c.id in (select value from json_each(?1)) order by p.name, lower(c.name), c.customer_id, o.qualification",
            json_list(rows)
        );
        of.fetch_all(&self.read).await.map_err(doing)
    }

    /// What is in review now, by submission (or first sight, where that is unknown), oldest first.
    pub async fn in_review(&self) -> Result<Vec<CurrentRow>, Error> {
        let found = current_rows!(
            "replace(lower(trim(o.vetting_status)), '_', '') = 'inreview'
             order by coalesce(o.vetting_created_at, o.status_since), p.name, c.customer_id, o.qualification",
        );
        found.fetch_all(&self.read).await.map_err(doing("list what is in review"))
    }

    /// Verdicts, approvals taken back and reviews that vanished, seen at or after `since`, newest first.
    pub async fn decisions(&self, since: Timestamp) -> Result<Vec<DecisionRow>, Error> {
        let rows = decision_rows!(
            "t.observed_at >= ?1 and t.outcome is not null
             order by t.observed_at desc, t.id desc",
            since.as_millis(),
        );
        rows.fetch_all(&self.read).await.map_err(doing("list decisions"))
    }

    /// Transitions, newest first.
    pub async fn transitions(&self, filter: TransitionFilter<'_>) -> Result<Vec<TransitionRow>, Error> {
        let rows = sqlx::query_as!(
            TransitionRow,
            r#"select transition_id as "transition_id!: i64", observed_at as "observed_at!: String",
                      last_seen_before_at as "last_seen_before_at: String", partner as "partner!",
                      customer_id as "customer_id!", customer_name as "customer_name!", qualification as "qualification!",
                      from_status as "from_status: String", to_status as "to_status: String",
                      vetting_reason as "vetting_reason: String", vetting_created_at as "vetting_created_at: String",
                      attempt as "attempt!: i64", event_type as "event_type: String", event_id as "event_id: String",
                      correlation_id as "correlation_id: String"
               from v_transitions
               where transition_id in (select t.id from transition t
                                       where t.observed_at >= ?1 and t.id > ?5
                                         and (?2 is null or t.customer in (select value from json_each(?2))))
                 and (?3 is null or partner = ?3)
               order by observed_at desc, transition_id desc
               limit ?4"#,
            filter.since.map_or(i64::MIN, Timestamp::as_millis),
            filter.customers.map(json_list),
            filter.partner,
            filter.limit.map_or(-1, i64::from),
            filter.after.unwrap_or(-1),
        );
        rows.fetch_all(&self.read).await.map_err(doing("read the history"))
    }
}

/// A list for `json_each`: SQLite has no array parameters.
pub(super) fn json_list(rows: &[CustomerId]) -> String {
    serde_json::json!(rows).to_string()
}

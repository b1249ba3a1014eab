//! Reports: the read-only queries behind the commands.
//!
//! Rows of a view have the view's column names, because `--json` prints them as they are and analysts meet the same
//! names in SQL. Their times are the view's texts; times that only the commands need are [`Timestamp`]s.

mod deliveries;
#[cfg(test)]
pub(crate) mod fixture;
mod overview;
mod pending;
mod proof;

use crate::store::CustomerId;
use serde::Serialize;

pub use deliveries::{AttemptRow, DeliveryDetail, DeliveryFilter, DeliveryRow, EventRow};
pub use overview::{EndpointState, PartnerState};
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

/// A row of `v_decisions`.
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
    /// Rows of `customer`.
    pub customers: Option<&'a [CustomerId]>,
    pub partner: Option<&'a str>,
    /// At most this many, the newest.
    pub limit: Option<u32>,
}

impl Store {
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

    /// Watched customers by name; `rows` narrows them to these rows, `tag` to those that carry it.
    pub async fn customers(
        &self,
        rows: Option<&[CustomerId]>,
        partner: Option<&str>,
        tag: Option<&str>,
    ) -> Result<Vec<CustomerRow>, Error> {
        let found = sqlx::query_as!(
            CustomerRow,
            r#"select v.partner as "partner!", v.customer_id as "customer_id!", v.name as "name!", v.domain as "domain!",
                      v.tags as "tags!: String", v.contact as "contact!", v.paused as "paused!: bool", v.last_seen_at as "last_seen_at: String",
                      v.next_poll_at as "next_poll_at: String", v.poll_failures as "poll_failures!: i64",
                      v.failing_since as "failing_since: String",
                      v.unreadable_since as "unreadable_since: String", v.last_error as "last_error: String",
                      v.poll_class as "poll_class!", v.added_at as "added_at!: String", v.departed_since as "departed_since: String",
                      v.muted_since as "muted_since: String", v.muted_until as "muted_until: String"
               from v_customers v
               join partner p on p.name = v.partner
               join customer c on c.partner = p.id and c.customer_key = lower(v.customer_id) and c.removed_at is null
               where (?1 is null or c.id in (select value from json_each(?1)))
                 and (?2 is null or p.name = ?2)
                 and (?3 is null or exists (select 1 from json_each(c.tags) where lower(value) = lower(?3)))
               order by v.partner, lower(v.name), v.customer_id"#,
            rows.map(json_list),
            partner,
            tag,
        );
        found.fetch_all(&self.read).await.map_err(doing("list customers"))
    }

    /// Unreadable customers, the longest unreadable first.
    pub async fn unreadable_customers(&self) -> Result<Vec<CustomerRow>, Error> {
        let mut unreadable = self.customers(None, None, None).await?;
        unreadable.retain(|customer| customer.unreadable_since.is_some() && !customer.paused);
        unreadable.sort_by(|a, b| a.unreadable_since.cmp(&b.unreadable_since));
        Ok(unreadable)
    }

    /// The current qualifications of one customer (partner and normalised id), or with `None` of all.
    pub async fn current(&self, customer: Option<(&str, &str)>) -> Result<Vec<CurrentRow>, Error> {
        self.current_rows(customer, false).await
    }

    /// What is in review now, by submission (or first sight, where that is unknown), oldest first.
    pub async fn in_review(&self) -> Result<Vec<CurrentRow>, Error> {
        self.current_rows(None, true).await
    }

    async fn current_rows(&self, customer: Option<(&str, &str)>, in_review: bool) -> Result<Vec<CurrentRow>, Error> {
        let (partner, key) = customer.unzip();
        let rows = sqlx::query_as!(
            CurrentRow,
            r#"select partner as "partner!", customer_id as "customer_id!", customer_name as "customer_name!",
                      customer_domain as "customer_domain!", qualification as "qualification!",
                      vetting_status as "vetting_status: String", vetting_reason as "vetting_reason: String",
                      vetting_created_at as "vetting_created_at: String", status_since as "status_since!: String",
                      attempt as "attempt!: i64", last_seen_at as "last_seen_at: String",
                      next_poll_at as "next_poll_at: String", missing_since as "missing_since: String"
               from v_current
               where (?1 is null or (partner = ?1 and lower(customer_id) = ?2))
                 and (not ?3 or vetting_status in (select vetting_status from qualification_state where replace(lower(trim(vetting_status)), '_', '') = 'inreview'))
               order by case when ?3 then coalesce(vetting_created_at, status_since) end,
                        partner, case when not ?3 then lower(customer_name) end, customer_id, qualification"#,
            partner,
            key,
            in_review,
        );
        rows.fetch_all(&self.read).await.map_err(doing("read the current qualifications"))
    }

    /// Verdicts seen at or after `since`, newest first.
    pub async fn decisions(&self, since: Timestamp) -> Result<Vec<DecisionRow>, Error> {
        let rows = sqlx::query_as!(
            DecisionRow,
            r#"select partner as "partner!", customer_id as "customer_id!", customer_name as "customer_name!",
                      qualification as "qualification!", attempt as "attempt!: i64",
                      submitted_at as "submitted_at: String", decided_after as "decided_after: String",
                      decided_before as "decided_before!: String", outcome as "outcome!: String",
                      vetting_reason as "vetting_reason: String", hours_in_review as "hours_in_review: f64"
               from v_decisions where decided_before >= ?1
               order by decided_before desc"#,
            since.to_string(),
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
                                       where t.observed_at >= ?1
                                         and (?2 is null or t.customer in (select value from json_each(?2))))
                 and (?3 is null or partner = ?3)
               order by observed_at desc, transition_id desc
               limit ?4"#,
            filter.since.map_or(i64::MIN, Timestamp::as_millis),
            filter.customers.map(json_list),
            filter.partner,
            filter.limit.map_or(-1, i64::from),
        );
        rows.fetch_all(&self.read).await.map_err(doing("read the history"))
    }
}

/// A list for `json_each`: SQLite has no array parameters.
pub(super) fn json_list(rows: &[CustomerId]) -> String {
    serde_json::json!(rows).to_string()
}

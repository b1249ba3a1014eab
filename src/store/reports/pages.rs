//! Lists page by page, for the page of `[web]`: each query takes an index, begins behind the last row of the page before,
//! and reads no more than it shows.

use serde::Serialize;

use super::{CurrentRow, CustomerRow, DecisionRow, json_list};
use crate::store::{CustomerId, Error, Store, doing};

/// The statuses that are current, oldest first.
#[derive(Debug, Clone, Serialize)]
pub struct ReviewRow {
    #[serde(flatten)]
    pub row: CurrentRow,
    /// Where the next page begins.
    #[serde(skip)]
    pub key: (i64, i64),
}

/// A verdict.
#[derive(Debug, Clone, Serialize)]
pub struct VerdictRow {
    #[serde(flatten)]
    pub row: DecisionRow,
    pub event_id: String,
    #[serde(skip)]
    pub key: (i64, i64),
}

/// Where a list of customers begins: behind this name and id of this partner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomerKey {
    pub partner: String,
    /// As the index has it.
    pub name: String,
    pub id: String,
}

/// A step in a customer's history: an event, or a transition without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub at: i64,
    /// The row of the event, or of the transition, negative.
    pub row: i64,
}

/// A step with the ids that lead to its evidence.
#[derive(Debug, Clone)]
pub struct HistoryRow {
    pub step: Step,
    pub event_id: Option<String>,
    pub transition: Option<i64>,
}

impl Store {
    /// What is in review, oldest first, behind `after`.
    pub async fn reviews(&self, after: Option<(i64, i64)>, limit: u32) -> Result<Vec<ReviewRow>, Error> {
        let (since, id) = after.unwrap_or((i64::MIN, i64::MIN));
        let rows = sqlx::query!(
            r#"select o.id as "id!: i64", coalesce(o.vetting_created_at, o.status_since) as "since!: i64",
                      p.name as "partner!", c.customer_id as "customer_id!", c.name as "customer_name!",
                      c.domain as "customer_domain!", o.qualification as "qualification!",
                      o.vetting_status as "vetting_status: String", o.vetting_reason as "vetting_reason: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', o.vetting_created_at / 1000.0, 'unixepoch') as "vetting_created_at: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', o.status_since / 1000.0, 'unixepoch') as "status_since!: String",
                      o.attempt as "attempt!: i64",
                      strftime('%Y-%m-%dT%H:%M:%fZ', c.last_seen_at / 1000.0, 'unixepoch') as "last_seen_at: String",
                      case when c.paused_at is null
                           then strftime('%Y-%m-%dT%H:%M:%fZ', c.next_poll_at / 1000.0, 'unixepoch') end as "next_poll_at: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', o.missing_since / 1000.0, 'unixepoch') as "missing_since: String"
               from qualification_state o
               join customer c on c.id = o.customer
               join partner p on p.id = c.partner
               where o.present = 1 and c.removed_at is null and replace(lower(trim(o.vetting_status)), '_', '') = 'inreview'
                 and (coalesce(o.vetting_created_at, o.status_since), o.id) > (?1, ?2)
               order by coalesce(o.vetting_created_at, o.status_since), o.id limit ?3"#,
            since,
            id,
            limit
        );
        let rows = rows.fetch_all(&self.read).await.map_err(doing("list what is in review"))?;
        let rows = rows.into_iter().map(|row| ReviewRow {
            key: (row.since, row.id),
            row: CurrentRow {
                partner: row.partner,
                customer_id: row.customer_id,
                customer_name: row.customer_name,
                customer_domain: row.customer_domain,
                qualification: row.qualification,
                vetting_status: row.vetting_status,
                vetting_reason: row.vetting_reason,
                vetting_created_at: row.vetting_created_at,
                status_since: row.status_since,
                attempt: row.attempt,
                last_seen_at: row.last_seen_at,
                next_poll_at: row.next_poll_at,
                missing_since: row.missing_since,
            },
        });
        Ok(rows.collect())
    }

    /// Verdicts, newest first, behind `before`.
    pub async fn verdicts(&self, before: Option<(i64, i64)>, limit: u32) -> Result<Vec<VerdictRow>, Error> {
        let (observed_at, id) = before.unwrap_or((i64::MAX, i64::MAX));
        let rows = sqlx::query!(
            r#"select t.id as "id!: i64", t.observed_at as "at!: i64", e.id as "event_id!",
                      p.name as "partner!", c.customer_id as "customer_id!", c.name as "customer_name!",
                      t.qualification as "qualification!", t.attempt as "attempt!: i64",
                      strftime('%Y-%m-%dT%H:%M:%fZ', t.submitted_at / 1000.0, 'unixepoch') as "submitted_at: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', t.last_seen_before_at / 1000.0, 'unixepoch') as "decided_after: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', t.observed_at / 1000.0, 'unixepoch') as "decided_before!: String",
                      case lower(t.to_status) when 'approved' then 'Approved' else 'Denied' end as "outcome!: String",
                      t.vetting_reason as "vetting_reason: String",
                      round((t.observed_at - t.submitted_at) / 3600000.0, 2) as "hours_in_review: f64"
               from transition t
               join event e on e.transition = t.id
               join customer c on c.id = t.customer
               join partner p on p.id = c.partner
               where t.observed_at <= ?1 and (t.observed_at, t.id) < (?1, ?2) and t.first_seen = 0
                 and (e.type in ('vetting.approved', 'vetting.denied')
                      or (e.type = 'vetting.revoked' and lower(t.to_status) = 'denied' and lower(t.from_status) = 'inreview'))
               order by t.observed_at desc, t.id desc limit ?3"#,
            observed_at,
            id,
            limit
        );
        let rows = rows.fetch_all(&self.read).await.map_err(doing("list decisions"))?;
        let rows = rows.into_iter().map(|row| VerdictRow {
            key: (row.at, row.id),
            event_id: row.event_id,
            row: DecisionRow {
                partner: row.partner,
                customer_id: row.customer_id,
                customer_name: row.customer_name,
                qualification: row.qualification,
                attempt: row.attempt,
                submitted_at: row.submitted_at,
                decided_after: row.decided_after,
                decided_before: row.decided_before,
                outcome: row.outcome,
                vetting_reason: row.vetting_reason,
                hours_in_review: row.hours_in_review,
            },
        });
        Ok(rows.collect())
    }

    /// Watched customers by partner and name, behind `after`; with `words`, those whose name, domain, id or tags hold one of
    /// these spellings. Returns the key of each.
    pub async fn customers_behind(
        &self,
        after: &CustomerKey,
        words: &[String],
        limit: u32,
    ) -> Result<Vec<(CustomerKey, CustomerRow)>, Error> {
        let words = (!words.is_empty()).then(|| serde_json::json!(words).to_string());
        let mut keys: Vec<(CustomerId, CustomerKey)> = Vec::new();
        for partner in self.partner_names().await?.into_iter().filter(|name| *name >= after.partner) {
            let (name, id) = if partner == after.partner { (&*after.name, &*after.id) } else { ("", "") };
            let left = i64::from(limit) - i64::try_from(keys.len()).unwrap_or(i64::MAX);
            let rows = sqlx::query!(
                r#"select c.id as "row!: CustomerId", lower(c.name) as "name!: String", c.customer_id as "id!"
                   from customer c indexed by customer_name
                   where c.partner = (select id from partner where name = ?1) and c.removed_at is null
                     and (lower(c.name), c.customer_id) > (?2, ?3)
                     and (?4 is null
                          or exists (select 1 from json_each(?4)
                                     where instr(lower(c.name), value) or instr(lower(c.domain), value)
                                        or instr(lower(c.customer_id), value) or instr(lower(c.tags), value)))
                   order by lower(c.name), c.customer_id limit ?5"#,
                partner,
                name,
                id,
                words,
                left
            );
            let rows = rows.fetch_all(&self.read).await.map_err(doing("list customers"))?;
            keys.extend(rows.into_iter().map(|row| {
                let key = CustomerKey { partner: partner.clone(), name: row.name, id: row.id };
                (row.row, key)
            }));
            if keys.len() >= limit as usize {
                break;
            }
        }
        let ids: Vec<_> = keys.iter().map(|(row, _)| *row).collect();
        let mut rows = self.customers(&ids).await?;
        let found = keys.into_iter().filter_map(|(id, key)| {
            let at = rows.iter().position(|row| row.row == id)?;
            Some((key, rows.swap_remove(at)))
        });
        Ok(found.collect())
    }

    /// The rows of a customer, removed ones included, oldest first.
    pub async fn rows_of(&self, partner: &str, customer: &str) -> Result<Vec<CustomerId>, Error> {
        let key = customer.to_lowercase();
        let rows = sqlx::query_scalar!(
            r#"select c.id as "row!: CustomerId" from customer c join partner p on p.id = c.partner
               where c.customer_key = ?1 and p.name = ?2 order by c.id"#,
            key,
            partner
        );
        rows.fetch_all(&self.read).await.map_err(doing("look a customer up"))
    }

    /// What happened to a customer, newest first, behind `before`.
    pub async fn steps(&self, rows: &[CustomerId], before: Option<Step>, limit: u32) -> Result<Vec<HistoryRow>, Error> {
        let before = before.unwrap_or(Step { at: i64::MAX, row: i64::MAX });
        let rows = sqlx::query!(
            r#"select occurred_at as "at!: i64", row as "row!: i64", event as "event: String", transition_id as "transition: i64"
               from (select e.occurred_at, e.rowid as row, e.id as event, e.transition as transition_id
                     from event e
                     where e.customer in (select value from json_each(?1)) and (e.occurred_at, e.rowid) < (?2, ?3)
                     union all
                     select t.observed_at, -t.id, null, t.id
                     from transition t
                     where t.customer in (select value from json_each(?1)) and (t.observed_at, -t.id) < (?2, ?3)
                       and not exists (select 1 from event e where e.transition = t.id))
               order by occurred_at desc, row desc limit ?4"#,
            json_list(rows),
            before.at,
            before.row,
            limit
        );
        let rows = rows.fetch_all(&self.read).await.map_err(doing("read the history"))?;
        let rows = rows.into_iter().map(|row| HistoryRow {
            step: Step { at: row.at, row: row.row },
            event_id: row.event,
            transition: row.transition,
        });
        Ok(rows.collect())
    }
}

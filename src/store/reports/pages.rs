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
    /// What is in review, oldest first, behind `after`, of one partner or of all.
    pub async fn reviews(
        &self,
        after: Option<(i64, i64)>,
        partner: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ReviewRow>, Error> {
        let (since, id) = after.unwrap_or((i64::MIN, i64::MIN));
        let keys = sqlx::query!(
            r#"select o.id as "id!: i64", coalesce(o.vetting_created_at, o.status_since) as "since!: i64"
               from qualification_state o
               join customer c on c.id = o.customer
               where o.present = 1 and c.removed_at is null and replace(lower(trim(o.vetting_status)), '_', '') = 'inreview'
                 and (coalesce(o.vetting_created_at, o.status_since), o.id) > (?1, ?2)
                 and (?3 is null or c.partner = (select id from partner where name = ?3))
               order by coalesce(o.vetting_created_at, o.status_since), o.id limit ?4"#,
            since,
            id,
            partner,
            limit
        );
        let keys = keys.fetch_all(&self.read).await.map_err(doing("list what is in review"))?;
        let keys: Vec<_> = keys.into_iter().map(|row| (row.since, row.id)).collect();
        let rows = current_rows!(
            "o.id in (select value from json_each(?1)) order by coalesce(o.vetting_created_at, o.status_since), o.id",
            ids(&keys)
        );
        let rows = rows.fetch_all(&self.read).await.map_err(doing("list what is in review"))?;
        Ok(rows.into_iter().zip(keys).map(|(row, key)| ReviewRow { row, key }).collect())
    }

    /// Verdicts, approvals taken back and reviews that vanished, newest first, behind `before`.
    pub async fn verdicts(&self, before: Option<(i64, i64)>, limit: u32) -> Result<Vec<VerdictRow>, Error> {
        let (observed_at, id) = before.unwrap_or((i64::MAX, i64::MAX));
        let keys = sqlx::query!(
            r#"select t.id as "id!: i64", t.observed_at as "at!: i64", e.id as "event_id!"
               from transition t
               join event e on e.transition = t.id
               where t.observed_at <= ?1 and (t.observed_at, t.id) < (?1, ?2) and t.outcome is not null
               order by t.observed_at desc, t.id desc limit ?3"#,
            observed_at,
            id,
            limit
        );
        let keys = keys.fetch_all(&self.read).await.map_err(doing("list decisions"))?;
        let (keys, events): (Vec<_>, Vec<_>) = keys.into_iter().map(|row| ((row.at, row.id), row.event_id)).unzip();
        let rows = decision_rows!(
            "t.id in (select value from json_each(?1)) order by t.observed_at desc, t.id desc",
            ids(&keys)
        );
        let rows = rows.fetch_all(&self.read).await.map_err(doing("list decisions"))?;
        let rows = rows.into_iter().zip(events).zip(keys);
        Ok(rows.map(|((row, event_id), key)| VerdictRow { row, event_id, key }).collect())
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

/// The second of each, for `json_each`.
fn ids(keys: &[(i64, i64)]) -> String {
    serde_json::json!(keys.iter().map(|(_, id)| id).collect::<Vec<_>>()).to_string()
}

//! Customers as people change them on the command line.

use serde::Serialize;

use crate::store::{Error, WriteTx, doing};
use crate::time::Timestamp;

/// A customer to watch.
#[derive(Debug, Clone, Copy)]
pub struct NewCustomer<'a> {
    pub partner: &'a str,
    /// The tenant id, as spelled.
    pub id: &'a str,
    /// `None` keeps what is stored; empty for a new customer.
    pub name: Option<&'a str>,
    pub domain: Option<&'a str>,
    pub tags: Option<&'a [String]>,
}

/// The result of [`WriteTx::add_customer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    New,
    /// It was watched already; its name, domain and tags were updated.
    Known {
        paused: bool,
    },
}

/// A customer of an import. `None` keeps what is stored; empty for a new customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedCustomer {
    /// The tenant id, as spelled.
    pub id: String,
    pub name: Option<String>,
    pub domain: Option<String>,
    pub tags: Option<Vec<String>>,
    pub contact: Option<String>,
}

/// The counts of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    pub added: u64,
    /// How many of those added had been removed before.
    pub returned: u64,
    pub updated: u64,
    /// Watched already, with the same values.
    pub unchanged: u64,
}

impl WriteTx {
    /// Adds a customer, due now. One that is watched already is only renamed and tagged; one that was removed gets a
    /// new row, without its history. Creates the partner if it is new.
    pub async fn add_customer(&mut self, customer: NewCustomer<'_>, now: Timestamp) -> Result<Added, Error> {
        let now = now.as_millis();
        let key = customer.id.to_lowercase();
        let tags = customer.tags.map(|tags| serde_json::json!(tags).to_string());
        sqlx::query!(
            "insert into partner (name, watching_since) values (?1, ?2) on conflict (name) do nothing",
            customer.partner,
            now,
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("add a customer"))?;
        let known = sqlx::query!(
            r#"update customer
               set name = coalesce(?3, name), domain = coalesce(?4, domain), tags = coalesce(?5, tags), source = 'manual',
                   -- Added by hand: a departed customer is polled again, whatever the list says.
                   was_in_list = case when departed_since is null then was_in_list else 0 end,
                   missing_from_list_since = case when departed_since is null then missing_from_list_since end,
                   response = case when departed_since is null then response end,
                   next_poll_at = case when departed_since is null then next_poll_at else ?6 end,
                   paused_at = case when given_up_at is null then paused_at end,
                   given_up_at = null, departed_since = null, departed_reason = null, refused_since = null
               where partner = (select id from partner where name = ?1) and customer_key = ?2 and removed_at is null
               returning paused_at is not null as "paused!: bool""#,
            customer.partner,
            key,
            customer.name,
            customer.domain,
            tags,
            now,
        )
        .fetch_optional(&mut *self.tx)
        .await.map_err(doing("add a customer"))?;
        if let Some(known) = known {
            return Ok(Added::Known { paused: known.paused });
        }
        sqlx::query!(
            "insert into customer (partner, customer_id, customer_key, name, domain, tags, source, added_at, next_poll_at)
             select id, ?2, ?3, coalesce(?4, ''), coalesce(?5, ''), coalesce(?6, '[]'), 'manual', ?7, ?7
             from partner where name = ?1",
            customer.partner,
            customer.id,
            key,
            customer.name,
            customer.domain,
            tags,
            now,
        )
        .execute(&mut *self.tx)
        .await.map_err(doing("add a customer"))?;
        Ok(Added::New)
    }

    /// Adds many customers as [`add_customer`](Self::add_customer) does one, and their counts. The ids must be
    /// distinct.
    pub async fn import_customers(
        &mut self,
        partner: &str,
        customers: &[ImportedCustomer],
        now: Timestamp,
        imported: &mut Imported,
    ) -> Result<(), Error> {
        let (rows, now) = (as_rows(customers)?, now.as_millis());
        sqlx::query!(
            "insert into partner (name, watching_since) values (?1, ?2) on conflict (name) do nothing",
            partner,
            now,
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("import customers"))?;
        let partner = sqlx::query_scalar!(r#"select id as "id!" from partner where name = ?1"#, partner)
            .fetch_one(&mut *self.tx)
            .await
            .map_err(doing("import customers"))?;
        let known = sqlx::query!(
            r#"select count(*) filter (where is_watched) as "watched!: i64",
                      count(*) filter (where not is_watched and was_watched) as "returned!: i64"
               from (
                   select exists (select 1 from customer c
                                  where c.partner = ?1 and c.customer_key = value ->> 'key' and c.removed_at is null) as is_watched,
                          exists (select 1 from customer c
                                  where c.customer_key = value ->> 'key' and c.partner = ?1) as was_watched
                   from json_each(?2)
               )"#,
            partner,
            rows,
        )
        .fetch_one(&mut *self.tx)
        .await.map_err(doing("import customers"))?;
        let updated = sqlx::query!(
            // The cross joins set the order: SQLite would scan the whole list for each customer.
            "with j as materialized (
                 select c.id as row, value ->> 'name' as name, value ->> 'domain' as domain, value ->> 'tags' as tags,
                        value ->> 'contact' as contact
                 from json_each(?2)
                 cross join customer c on c.partner = ?1 and c.customer_key = value ->> 'key' and c.removed_at is null
             )
             update customer
             set name = coalesce(j.name, customer.name), domain = coalesce(j.domain, customer.domain),
                 tags = coalesce(j.tags, customer.tags), contact = coalesce(j.contact, customer.contact)
             from j
             where customer.id = j.row
               and (customer.name <> j.name or customer.domain <> j.domain or customer.tags <> j.tags
                    or customer.contact <> j.contact)",
            partner,
            rows,
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("import customers"))?
        .rows_affected();
        // Customers that only came from the list are now manual too; departed ones are polled again.
        sqlx::query!(
            "update customer
             set source = 'manual',
                 was_in_list = case when departed_since is null then was_in_list else 0 end,
                 missing_from_list_since = case when departed_since is null then missing_from_list_since end,
                 response = case when departed_since is null then response end,
                 next_poll_at = case when departed_since is null then next_poll_at else ?3 end,
                 paused_at = case when given_up_at is null then paused_at end,
                 given_up_at = null, departed_since = null, departed_reason = null,
                 refused_since = case when departed_since is null then refused_since end
             where (source <> 'manual' or departed_since is not null) and id in (
                 select c.id
                 from json_each(?2)
                 cross join customer c on c.partner = ?1 and c.customer_key = value ->> 'key' and c.removed_at is null
             )",
            partner,
            rows,
            now,
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("import customers"))?;
        let added = sqlx::query!(
            "insert into customer (partner, customer_id, customer_key, name, domain, tags, contact, source, added_at, next_poll_at)
             select ?1, value ->> 'id', value ->> 'key', coalesce(value ->> 'name', ''), coalesce(value ->> 'domain', ''),
                    coalesce(value ->> 'tags', '[]'), coalesce(value ->> 'contact', ''), 'manual', ?3, ?3
             from json_each(?2)
             where not exists (select 1 from customer c
                               where c.partner = ?1 and c.customer_key = value ->> 'key' and c.removed_at is null)",
            partner,
            rows,
            now,
        )
        .execute(&mut *self.tx)
        .await.map_err(doing("import customers"))?
        .rows_affected();
        let watched = u64::try_from(known.watched).unwrap_or(0);
        imported.added += added;
        imported.returned += u64::try_from(known.returned).unwrap_or(0);
        imported.updated += updated;
        imported.unchanged += watched.saturating_sub(updated);
        Ok(())
    }

    /// Removes a customer; its history stays. False if it was removed already.
    pub async fn remove_customer(&mut self, row: i64, now: Timestamp) -> Result<bool, Error> {
        let now = now.as_millis();
        let done = sqlx::query!("update customer set removed_at = ?2 where id = ?1 and removed_at is null", row, now)
            .execute(&mut *self.tx)
            .await
            .map_err(doing("remove a customer"))?;
        Ok(done.rows_affected() > 0)
    }

    /// Pauses a customer, which is then not polled. False if it is paused already, or not watched.
    pub async fn pause(&mut self, row: i64, now: Timestamp) -> Result<bool, Error> {
        let now = now.as_millis();
        let done = sqlx::query!(
            // Pausing a customer that vetwatch stopped polling makes the pause manual: a sync does not undo it then.
            "update customer set paused_at = ?2, given_up_at = null
             where id = ?1 and removed_at is null and (paused_at is null or given_up_at is not null)",
            row,
            now,
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("pause a customer"))?;
        Ok(done.rows_affected() > 0)
    }

    /// Resumes a customer with its stored state, due now. False if it is not paused, or not watched.
    pub async fn resume(&mut self, row: i64, now: Timestamp) -> Result<bool, Error> {
        let now = now.as_millis();
        let done = sqlx::query!(
            // A customer that vetwatch stopped polling is polled for another 90 days.
            "update customer
             set paused_at = null, next_poll_at = ?2,
                 was_in_list = case when given_up_at is null then was_in_list else 0 end,
                 missing_from_list_since = case when given_up_at is null then missing_from_list_since end,
                 response = case when given_up_at is null then response end,
                 departed_since = case when given_up_at is null then departed_since end,
                 departed_reason = case when given_up_at is null then departed_reason end,
                 refused_since = case when given_up_at is null then refused_since end,
                 given_up_at = null
             where id = ?1 and removed_at is null and paused_at is not null",
            row,
            now,
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("resume a customer"))?;
        Ok(done.rows_affected() > 0)
    }

    /// Makes watched customers due now: the given rows, or with `None` all of `partner`, or all. Paused ones stay
    /// paused, and a partner's backoff stays in force. Returns how many are due.
    pub async fn make_due(
        &mut self,
        rows: Option<&[i64]>,
        partner: Option<&str>,
        now: Timestamp,
    ) -> Result<u64, Error> {
        let now = now.as_millis();
        let rows = rows.map(super::reports::json_list);
        let done = sqlx::query!(
            "update customer set next_poll_at = min(next_poll_at, ?3)
             where removed_at is null and paused_at is null
               and (?1 is null or id in (select value from json_each(?1)))
               and (?2 is null or partner = (select id from partner where name = ?2))",
            rows,
            partner,
            now,
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("make customers due"))?;
        Ok(done.rows_affected())
    }
}

/// The JSON that the statements read.
fn as_rows(customers: &[ImportedCustomer]) -> Result<String, Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: &'a str,
        key: String,
        name: Option<&'a str>,
        domain: Option<&'a str>,
        /// A JSON list, as stored.
        tags: Option<String>,
        contact: Option<&'a str>,
    }
    fn row(customer: &ImportedCustomer) -> Row<'_> {
        Row {
            key: customer.id.to_lowercase(),
            id: &customer.id,
            name: customer.name.as_deref(),
            domain: customer.domain.as_deref(),
            tags: customer.tags.as_ref().map(|tags| serde_json::json!(tags).to_string()),
            contact: customer.contact.as_deref(),
        }
    }
    crate::store::json(&customers.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::Store;
    use crate::store::reports::fixture::{self, now};
    use crate::store::reports::{CustomerRow, TransitionFilter};

    const CONTOSO: NewCustomer<'static> = NewCustomer {
        partner: "emea",
        id: "C0000000-0000-4000-8000-000000000001",
        name: None,
        domain: None,
        tags: None,
    };

    async fn add(store: &Store, customer: NewCustomer<'_>) -> Added {
        let mut tx = store.begin().await.unwrap();
        let added = tx.add_customer(customer, now()).await.unwrap();
        tx.commit().await.unwrap();
        added
    }

    async fn contoso(store: &Store) -> CustomerRow {
        let mut rows = store.customers(None, Some("emea"), None).await.unwrap();
        rows.retain(|row| row.customer_id.eq_ignore_ascii_case(CONTOSO.id));
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    }

    #[tokio::test]
    async fn a_new_customer_is_due_now_and_its_id_stays_as_spelled() {
        let empty = fixture::empty().await;
        let tags = ["north".to_owned()];
        let new = NewCustomer { name: Some("Contoso"), tags: Some(&tags), ..CONTOSO };
        assert_eq!(add(&empty.store, new).await, Added::New);
        let row = contoso(&empty.store).await;
        assert_eq!((row.customer_id.as_str(), row.name.as_str(), row.tags.as_str()), (CONTOSO.id, "Contoso", "north"));
        assert_eq!((row.next_poll_at, row.poll_class.as_str()), (Some(now().to_string()), "unseen"));
    }

    #[tokio::test]
    async fn adding_one_that_is_watched_changes_only_what_was_said() {
        let filled = fixture::filled().await;
        let id = CONTOSO.id.to_lowercase();
        let renamed = NewCustomer { id: &id, name: Some("Contoso Elementary"), ..CONTOSO };
        assert_eq!(add(&filled.store, renamed).await, Added::Known { paused: false });
        let row = contoso(&filled.store).await;
        assert_eq!(
            (row.name.as_str(), row.domain.as_str(), row.tags.as_str()),
            ("Contoso Elementary", "contoso.example", "north")
        );
        assert_eq!((row.customer_id.as_str(), row.poll_class.as_str()), (CONTOSO.id, "in_review"));
    }

    #[tokio::test]
    async fn a_removed_customer_keeps_its_history_and_begins_anew_when_added() {
        let filled = fixture::filled().await;
        let mut tx = filled.store.begin().await.unwrap();
        assert!(tx.remove_customer(1, now()).await.unwrap());
        assert!(!tx.remove_customer(1, now()).await.unwrap());
        tx.commit().await.unwrap();
        assert!(filled.store.current(Some(("emea", &CONTOSO.id.to_lowercase()))).await.unwrap().is_empty());
        let history = TransitionFilter { customers: Some(&[1]), ..TransitionFilter::default() };
        assert_eq!(filled.store.transitions(history).await.unwrap().len(), 3);

        assert_eq!(add(&filled.store, CONTOSO).await, Added::New);
        assert_eq!(contoso(&filled.store).await.last_seen_at, None);
    }

    #[tokio::test]
    async fn pausing_and_resuming_twice_changes_nothing_more() {
        let filled = fixture::filled().await;
        let later = now().after(Duration::from_hours(1));
        let mut tx = filled.store.begin().await.unwrap();
        assert_eq!((tx.pause(1, now()).await.unwrap(), tx.pause(1, later).await.unwrap()), (true, false));
        assert_eq!((tx.resume(1, now()).await.unwrap(), tx.resume(1, later).await.unwrap()), (true, false));
        tx.commit().await.unwrap();
        let row = contoso(&filled.store).await;
        assert_eq!((row.paused, row.next_poll_at), (false, Some(now().to_string())));
    }

    #[tokio::test]
    async fn everybody_but_the_paused_becomes_due_and_nobody_later_than_before() {
        let filled = fixture::filled().await;
        let mut tx = filled.store.begin().await.unwrap();
        assert_eq!(tx.make_due(Some(&[1, 4, 5]), None, now()).await.unwrap(), 1);
        assert_eq!(tx.make_due(None, Some("amer"), now()).await.unwrap(), 1);
        assert_eq!(tx.make_due(None, None, now()).await.unwrap(), 4);
        tx.commit().await.unwrap();
        let due = filled.store.partner_states(now()).await.unwrap();
        assert_eq!(due.iter().map(|partner| partner.due).collect::<Vec<_>>(), [1, 3]);
        // École was overdue already and stays ahead of the others.
        assert_eq!(due[1].due_since, Some(now().before(Duration::from_hours(1))));
    }
}

//! Customers as they are added and updated, by hand and from Partner Center, and as people change them.

use serde::Serialize;
use vetwatch_core::membership::{Event, InList, Membership, Polling, Source};

use super::membership::Applied;
use super::{CustomerId, Error, PartnerId, WriteTx, json};
use crate::qualification::key;
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
    pub contact: Option<&'a str>,
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

/// A customer of an import or of Partner Center's list. `None` keeps what is stored; empty for a new customer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

/// The outcome of [`WriteTx::upsert`].
pub(super) struct Upserted {
    pub(super) added: u64,
    pub(super) updated: u64,
    /// What the event did to the customers that were watched already.
    pub(super) known: Vec<Applied>,
}

impl WriteTx {
    /// Adds a customer, due now. One that is watched already is only renamed and tagged; one that was removed gets a
    /// new row, without its history. Creates the partner if it is new.
    pub async fn add_customer(&mut self, customer: NewCustomer<'_>, now: Timestamp) -> Result<Added, Error> {
        let NewCustomer { partner, id, name, domain, tags, contact } = customer;
        let customer = ImportedCustomer {
            id: id.to_owned(),
            name: name.map(str::to_owned),
            domain: domain.map(str::to_owned),
            tags: tags.map(<[String]>::to_vec),
            contact: contact.map(str::to_owned),
        };
        let doing = |error: Error| error.while_doing("add a customer");
        let partner = self.partner(partner, now).await.map_err(doing)?.id;
        let upserted = self.upsert(partner, &[customer], Event::AddedByHand, now).await.map_err(doing)?;
        Ok(upserted
            .known
            .first()
            .map_or(Added::New, |known| Added::Known { paused: known.after.polling != Polling::Active }))
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
        let doing = |error: Error| error.while_doing("import customers");
        let partner = self.partner(partner, now).await.map_err(doing)?.id;
        let ids = json(&customers.iter().map(|customer| key(&customer.id)).collect::<Vec<_>>())?;
        let returned = sqlx::query_scalar!(
            r#"select count(*) as "returned!: i64" from json_each(?2)
               where exists (select 1 from customer c where c.partner = ?1 and c.customer_key = value)
                 and not exists (select 1 from customer c
                                 where c.partner = ?1 and c.customer_key = value and c.removed_at is null)"#,
            partner,
            ids,
        );
        let returned = returned.fetch_one(&mut *self.tx).await.map_err(|error| doing(error.into()))?;
        let upserted = self.upsert(partner, customers, Event::AddedByHand, now).await.map_err(doing)?;
        imported.added += upserted.added;
        imported.returned += u64::try_from(returned).unwrap_or(0);
        imported.updated += upserted.updated;
        imported.unchanged += (upserted.known.len() as u64).saturating_sub(upserted.updated);
        Ok(())
    }

    /// Inserts the customers that are new, due now, and updates the others, to whose membership the event is applied.
    /// Customers of Partner Center's list are not inserted if a person removed them.
    pub(super) async fn upsert(
        &mut self,
        partner: PartnerId,
        customers: &[ImportedCustomer],
        event: Event,
        now: Timestamp,
    ) -> Result<Upserted, Error> {
        let rows = as_rows(customers)?;
        let known = sqlx::query_scalar!(
            // `cross join` keeps the JSON as the outer loop, with an index lookup per customer. SQLite's own choice scans
            // all customers for each, which blocks all writers for as long.
            r#"select c.id as "id!: CustomerId" from json_each(?2)
               cross join customer c on c.partner = ?1 and c.customer_key = value ->> 'key' and c.removed_at is null"#,
            partner,
            rows,
        );
        let known = known.fetch_all(&mut *self.tx).await?;
        let known = self.apply_membership(&known, event, now).await?;
        let update = sqlx::query!(
            "with j as materialized (
                 select c.id as row, value ->> 'name' as name, value ->> 'domain' as domain, value ->> 'tags' as tags,
                        value ->> 'contact' as contact
                 from json_each(?2)
                 cross join customer c on c.partner = ?1 and c.customer_key = value ->> 'key' and c.removed_at is null
                 where c.name <> value ->> 'name' or c.domain <> value ->> 'domain' or c.tags <> value ->> 'tags'
                    or c.contact <> value ->> 'contact')
             update customer
             set name = coalesce(j.name, customer.name), domain = coalesce(j.domain, customer.domain),
                 tags = coalesce(j.tags, customer.tags), contact = coalesce(j.contact, customer.contact)
             from j where customer.id = j.row",
            partner,
            rows,
        );
        let updated = self.change(update).await?;
        let (new, _) =
            Membership::new(if event == Event::InList { Source::Synced } else { Source::Manual }).after(event, now);
        let insert = sqlx::query!(
            "insert into customer (partner, customer_id, customer_key, name, domain, tags, contact, source, was_in_list,
                                   added_at, next_poll_at)
             select ?1, value ->> 'id', value ->> 'key', coalesce(value ->> 'name', ''), coalesce(value ->> 'domain', ''),
                    coalesce(value ->> 'tags', '[]'), coalesce(value ->> 'contact', ''), ?3, ?4, ?5, ?5
             from json_each(?2)
             where not exists (select 1 from customer c
                               where c.partner = ?1 and c.customer_key = value ->> 'key'
                                 and (c.removed_at is null or ?3 = 'synced'))
             group by value ->> 'key' order by min(json_each.key)",
            partner,
            rows,
            new.source.as_str(),
            new.in_list == InList::Present,
            now.as_millis(),
        );
        let added = self.change(insert).await?;
        Ok(Upserted { added, updated, known })
    }

    /// Removes a customer; its history stays. False if it was removed already.
    pub async fn remove_customer(&mut self, row: CustomerId, now: Timestamp) -> Result<bool, Error> {
        self.apply_to(row, Event::Removed, now, "remove a customer").await
    }

    /// Pauses a customer, which is then not polled. False if it is paused already, or not watched.
    pub async fn pause(&mut self, row: CustomerId, now: Timestamp) -> Result<bool, Error> {
        self.apply_to(row, Event::Paused, now, "pause a customer").await
    }

    /// Resumes a customer with its stored state, due now. False if it is not paused, or not watched.
    pub async fn resume(&mut self, row: CustomerId, now: Timestamp) -> Result<bool, Error> {
        self.apply_to(row, Event::Resumed, now, "resume a customer").await
    }

    async fn apply_to(&mut self, row: CustomerId, event: Event, now: Timestamp, action: &str) -> Result<bool, Error> {
        let applied = self.apply_membership(&[row], event, now).await.map_err(|error| error.while_doing(action))?;
        Ok(applied.iter().any(|customer| customer.changes()))
    }

    /// Makes watched customers due now: the given rows, or with `None` all of `partner`, or all. Paused ones stay
    /// paused, and a partner's backoff stays in force. Returns how many are due.
    pub async fn make_due(
        &mut self,
        rows: Option<&[CustomerId]>,
        partner: Option<&str>,
        now: Timestamp,
    ) -> Result<u64, Error> {
        let done = sqlx::query!(
            "update customer set next_poll_at = min(next_poll_at, ?3)
             where removed_at is null and paused_at is null
               and (?1 is null or id in (select value from json_each(?1)))
               and (?2 is null or partner = (select id from partner where name = ?2))",
            rows.map(super::reports::json_list),
            partner,
            now.as_millis(),
        )
        .execute(&mut *self.tx)
        .await
        .map_err(super::doing("make customers due"))?;
        Ok(done.rows_affected())
    }
}

/// The JSON that the statements read.
fn as_rows(customers: &[ImportedCustomer]) -> Result<String, Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: &'a str,
        /// The id, normalised for comparison.
        key: String,
        name: Option<&'a str>,
        domain: Option<&'a str>,
        /// A JSON list, as stored.
        tags: Option<String>,
        contact: Option<&'a str>,
    }
    fn row(customer: &ImportedCustomer) -> Row<'_> {
        Row {
            key: key(&customer.id),
            id: &customer.id,
            name: customer.name.as_deref(),
            domain: customer.domain.as_deref(),
            tags: customer.tags.as_ref().map(|tags| serde_json::json!(tags).to_string()),
            contact: customer.contact.as_deref(),
        }
    }
    json(&customers.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::Store;
    use crate::store::reports::fixture::{self, now};
    use crate::store::reports::{CustomerRow, Page, TransitionFilter};

    const CONTOSO: NewCustomer<'static> = NewCustomer {
        partner: "emea",
        id: "C0000000-0000-4000-8000-000000000001",
        name: None,
        domain: None,
        tags: None,
        contact: None,
    };

    async fn add(store: &Store, customer: NewCustomer<'_>) -> Added {
        let mut tx = store.begin().await.unwrap();
        let added = tx.add_customer(customer, now()).await.unwrap();
        tx.commit().await.unwrap();
        added
    }

    async fn contoso(store: &Store) -> CustomerRow {
        let mut rows = store.customer_page(Some("emea"), None, Page::default()).await.unwrap();
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
        assert!(tx.remove_customer(CustomerId(1), now()).await.unwrap());
        assert!(!tx.remove_customer(CustomerId(1), now()).await.unwrap());
        tx.commit().await.unwrap();
        let held = filled.store.current(None).await.unwrap();
        assert!(!held.iter().any(|row| row.customer_id.eq_ignore_ascii_case(CONTOSO.id)), "{held:?}");
        let history = TransitionFilter { customers: Some(&[CustomerId(1)]), ..TransitionFilter::default() };
        assert_eq!(filled.store.transitions(history).await.unwrap().len(), 3);

        assert_eq!(add(&filled.store, CONTOSO).await, Added::New);
        assert_eq!(contoso(&filled.store).await.last_seen_at, None);
    }

    #[tokio::test]
    async fn pausing_and_resuming_twice_changes_nothing_more() {
        let filled = fixture::filled().await;
        let later = now().after(Duration::from_hours(1));
        let mut tx = filled.store.begin().await.unwrap();
        assert_eq!(
            (tx.pause(CustomerId(1), now()).await.unwrap(), tx.pause(CustomerId(1), later).await.unwrap()),
            (true, false)
        );
        assert_eq!(
            (tx.resume(CustomerId(1), now()).await.unwrap(), tx.resume(CustomerId(1), later).await.unwrap()),
            (true, false)
        );
        tx.commit().await.unwrap();
        let row = contoso(&filled.store).await;
        assert_eq!((row.paused, row.next_poll_at), (false, Some(now().to_string())));
    }

    #[tokio::test]
    async fn everybody_but_the_paused_becomes_due_and_nobody_later_than_before() {
        let filled = fixture::filled().await;
        let mut tx = filled.store.begin().await.unwrap();
        assert_eq!(tx.make_due(Some(&[1, 4, 5].map(CustomerId)), None, now()).await.unwrap(), 1);
        assert_eq!(tx.make_due(None, Some("amer"), now()).await.unwrap(), 1);
        assert_eq!(tx.make_due(None, None, now()).await.unwrap(), 4);
        tx.commit().await.unwrap();
        let due = filled.store.partner_states(now()).await.unwrap();
        assert_eq!(due.iter().map(|partner| partner.due).collect::<Vec<_>>(), [1, 3]);
        // École was overdue already and stays ahead of the others.
        assert_eq!(due[1].due_since, Some(now().before(Duration::from_hours(1))));
    }
}

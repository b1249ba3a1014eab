//! Recipients that rejected a message for good while others accepted it or may still accept it.

use std::collections::BTreeMap;

use super::{Error, Store, WriteTx, json, unreadable};
use crate::time::Timestamp;

/// A recipient of an endpoint, and the messages that it rejected for good and was not sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub endpoint: String,
    /// As in the endpoint's configuration or the customer's contact; its domain is ASCII.
    pub address: String,
    pub messages: i64,
    /// The reply to the newest of them, and its delivery id.
    pub reply: String,
    pub delivery: String,
    /// The contacts, as now, of the customers that these messages are about, if the messages went to a contact.
    pub contacts: Vec<String>,
}

/// A message that a recipient rejected for good, not reported yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub delivery: String,
    pub refused_at: Timestamp,
    pub replies: BTreeMap<String, String>,
}

impl Store {
    /// Rejections by endpoint and address; without dead deliveries (reported as such) and tests (the command shows
    /// them).
    pub async fn refused_recipients(&self) -> Result<Vec<Refused>, Error> {
        let rows = sqlx::query!(
            // With a single max(), SQLite takes bare columns from the row that holds it.
            r#"with refusal as (
                 select d.endpoint, d.id, d.sequence, cast(r.key as text) as address, cast(r.value as text) as reply,
                        case when d.recipient is not null then
                          (select c.contact from delivery_event de join event e on e.id = de.event
                           join customer c on c.id = e.customer
                           where de.delivery = d.id and c.removed_at is null limit 1) end as contact
                 from delivery d, json_each(d.refused) r
                 where d.refused <> '{}' and d.state <> 'dead'
                   and exists (select 1 from delivery_event de join event e on e.id = de.event
                               where de.delivery = d.id and e.test = 0))
               select endpoint as "endpoint!: String", address as "address!: String", reply as "reply!: String",
                      id as "delivery!: String", max(sequence) as "newest!: i64", count(*) as "messages!: i64",
                      contact as "contact: String"
               from refusal group by endpoint, address, contact order by endpoint, address, max(sequence)"#
        );
        let mut all: Vec<Refused> = Vec::new();
        for row in rows.fetch_all(&self.read).await? {
            let contacts = row.contact.into_iter().collect();
            let new = Refused {
                endpoint: row.endpoint,
                address: row.address,
                messages: row.messages,
                reply: row.reply,
                delivery: row.delivery,
                contacts,
            };
            match all.last_mut().filter(|last| (&last.endpoint, &last.address) == (&new.endpoint, &new.address)) {
                Some(last) => {
                    last.messages += new.messages;
                    last.contacts.extend(new.contacts);
                    (last.reply, last.delivery) = (new.reply, new.delivery);
                }
                None => all.push(new),
            }
        }
        Ok(all)
    }

    /// An endpoint's rejections that were not reported, newest first, at most 1000; and when some were last reported.
    /// Without those of `monitor.dead_letter` events, or reports would never end.
    pub async fn unreported_refusals(&self, endpoint: &str) -> Result<(Vec<Refusal>, Option<Timestamp>), Error> {
        let rows = sqlx::query!(
            r#"select d.id, d.refused, d.refused_at as "refused_at!: i64" from delivery d
               where d.endpoint = ? and d.refused <> '{}' and d.refused_at is not null and d.refused_reported_at is null
                 and d.state <> 'dead'
                 and exists (select 1 from delivery_event de join event e on e.id = de.event
                             where de.delivery = d.id and e.type <> 'monitor.dead_letter' and e.test = 0)
               order by d.refused_at desc limit 1000"#,
            endpoint
        );
        let reported = sqlx::query_scalar!(
            r#"select max(refused_reported_at) as "at: i64" from delivery where endpoint = ? and refused <> '{}'"#,
            endpoint
        );
        let refusals = rows.fetch_all(&self.read).await?.into_iter().map(|row| {
            let replies = serde_json::from_str(&row.refused).map_err(unreadable("delivery", &row.id, "refused"))?;
            Ok(Refusal { delivery: row.id, refused_at: Timestamp::from_millis(row.refused_at), replies })
        });
        let refusals = refusals.collect::<Result<_, Error>>()?;
        Ok((refusals, reported.fetch_one(&self.read).await?.map(Timestamp::from_millis)))
    }
}

impl WriteTx {
    /// Stores the recipients that rejected a delivery for good, the last of them now.
    pub(super) async fn save_refusals(
        &mut self,
        id: &str,
        refused: &BTreeMap<&String, &String>,
        now: i64,
    ) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery set refused = ?2, refused_at = ?3, refused_reported_at = null where id = ?1",
            id,
            json(refused)?,
            now
        ))
        .await
    }

    /// Marks the endpoint's rejections up to `until` as reported.
    pub async fn refusals_reported(&mut self, endpoint: &str, until: Timestamp, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery set refused_reported_at = ?3
             where endpoint = ?1 and refused <> '{}' and refused_at <= ?2 and refused_reported_at is null",
            endpoint,
            until.as_millis(),
            now.as_millis()
        ))
        .await
    }

    /// Deletes rejections by an address that is no longer in use.
    pub async fn forget_refusals(&mut self, endpoint: &str, address: &str) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery
             set refused = (select json_group_object(key, value) from json_each(refused) where key <> ?2)
             where endpoint = ?1 and refused <> '{}' and exists (select 1 from json_each(refused) where key = ?2)",
            endpoint,
            address
        ))
        .await
    }
}

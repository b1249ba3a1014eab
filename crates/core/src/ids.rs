//! Deterministic ids. The same verdict has the same event id in every copy of the database, and a delivery of the same
//! events the same delivery id: after a restored backup, what is sent again has ids that receivers know.
//!
//! An id is the first 16 bytes of the SHA-256 of its fields, as a UUID of version 8. The encoding of the fields is injective:
//! the length in bytes as decimal digits, a colon, the field in UTF-8, a comma; a null field is `-,`. `docs/endpoints/webhook.md`
//! shows a vector, and the test below verifies it.

use std::fmt::Write as _;

use uuid::{Builder, Uuid};

use crate::changes::Change;
use crate::event::EventType;
use crate::qualification;
use crate::time::Timestamp;

/// The identity of an event about a review. Excludes the event type, which a later version may rename.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventKey {
    /// The encoded fields without the ordinal.
    fields: String,
}

impl EventKey {
    /// The key of an approval, a denial, a revocation or a vanished review. `None` for other changes, whose events get a
    /// random id.
    ///
    /// `partner` is the name in the configuration, as in the database: two partners of one tenant have separate events.
    #[must_use]
    pub fn of_change(partner: &str, customer_id: &str, change: &Change) -> Option<Self> {
        if !matches!(change.event, EventType::Approved | EventType::Denied | EventType::Revoked | EventType::Vanished) {
            return None;
        }
        // `absent` counts as a status.
        let to = change.to.as_deref().map(qualification::key);
        let reason = change.reason.as_deref().and_then(qualification::reason_key);
        let date = date(change.created_at.or(change.review.created_at), change.review.attempt);
        Some(Self::new(partner, customer_id, &change.qualification, [to.as_deref(), Some(&date), reason.as_deref()]))
    }

    /// The key of a reminder: the review, and the number of the reminder.
    #[must_use]
    pub fn of_reminder(
        partner: &str,
        customer_id: &str,
        qualification: &str,
        (attempt, began_at): (u32, Option<Timestamp>),
        number: u32,
    ) -> Self {
        let (date, number) = (date(began_at, attempt), number.to_string());
        Self::new(partner, customer_id, qualification, [Some("overdue"), Some(&date), Some(&number)])
    }

    fn new(partner: &str, customer_id: &str, qualification: &str, what: [Option<&str>; 3]) -> Self {
        let (customer, qualification) = (qualification::key(customer_id), qualification::key(qualification));
        let whose = [Some("vetwatch-event-1"), Some(partner), Some(&customer), Some(&qualification)];
        Self { fields: encoded(whose.into_iter().chain(what)) }
    }

    /// The event's id. `ordinal` counts from 1 and distinguishes otherwise equal events: an approval that returns with its
    /// old date, a customer that was removed and added again.
    #[must_use]
    pub fn id(&self, ordinal: u32) -> Uuid {
        hashed(&format!("{}{}", self.fields, encoded([Some(ordinal.to_string().as_str())])))
    }
}

/// The id of a delivery of these events to an endpoint, in any order.
///
/// An endpoint gets an event in one delivery only, so no two have the same fields. If the id is taken nevertheless, one more
/// field distinguishes them: `ordinal`, from 2 on.
#[must_use]
pub fn delivery(endpoint: &str, recipient: Option<&str>, events: &[String], ordinal: u32) -> Uuid {
    let mut events: Vec<&str> = events.iter().map(String::as_str).collect();
    events.sort_unstable();
    let ordinal = (ordinal > 1).then(|| ordinal.to_string());
    let fields = [Some("vetwatch-delivery-1"), Some(endpoint), recipient].into_iter();
    hashed(&encoded(fields.chain(events.into_iter().map(Some)).chain(ordinal.as_deref().map(Some))))
}

/// The id of the summary of a time.
#[must_use]
pub fn summary(partners: &[String], at: Timestamp) -> Uuid {
    let at = at.as_secs().to_string();
    let fields = [Some("vetwatch-summary-1"), Some(&at)].into_iter();
    hashed(&encoded(fields.chain(partners.iter().map(|name| Some(name.as_str())))))
}

/// Identifies a review or its entry: the create date in whole seconds, or the attempt if there never was a date.
fn date(known: Option<Timestamp>, attempt: u32) -> String {
    known.map_or_else(|| format!("attempt:{attempt}"), |at| at.as_secs().to_string())
}

fn encoded<'a>(fields: impl IntoIterator<Item = Option<&'a str>>) -> String {
    let mut text = String::new();
    for field in fields {
        match field {
            Some(field) => {
                let _ = write!(text, "{}:{field},", field.len()); // writing to a String does not fail
            }
            None => text.push_str("-,"),
        }
    }
    text
}

fn hashed(text: &str) -> Uuid {
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let mut bytes = [0; 16];
    for (byte, hashed) in bytes.iter_mut().zip(hash.as_ref()) {
        *byte = *hashed;
    }
    Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::changes::Review;

    fn denied() -> Change {
        Change {
            event: EventType::Denied,
            qualification: "Education".to_owned(),
            from: Some("InReview".to_owned()),
            to: Some("Denied".to_owned()),
            reason: Some("Not an Education Customer".to_owned()),
            created_at: Some(Timestamp::from_millis(1_763_462_258_885)),
            previous_reason: None,
            previous_created_at: None,
            review: Review {
                attempt: 2,
                created_at: Some(Timestamp::from_millis(1_763_462_258_885)),
                submitted_at: None,
                seen_at: None,
            },
            last_seen_before_at: None,
            first_seen: false,
        }
    }

    const CUSTOMER: &str = "B1D5A3C0-7E6F-4F0E-9C1B-2A8D54E7F913";

    fn id(change: &Change) -> Uuid {
        EventKey::of_change("emea", CUSTOMER, change).unwrap().id(1)
    }

    #[test]
    fn the_vector_of_the_readme_is_what_the_ids_are_made_of() {
        let readme = include_str!("../../../docs/endpoints/webhook.md");
        let key = EventKey::of_change("emea", CUSTOMER, &denied()).unwrap();
        let event = "16:vetwatch-event-1,4:emea,36:b1d5a3c0-7e6f-4f0e-9c1b-2a8d54e7f913,9:education,6:denied,10:1763462258,\
                     25:not an education customer,1:1,";
        assert_eq!(format!("{}1:1,", key.fields), event);
        let id = key.id(1).to_string();
        assert_eq!(id, "347b7301-55b7-8187-8b20-b9c8bc227ca7");
        let delivery = format!("19:vetwatch-delivery-1,3:crm,-,36:{id},");
        assert_eq!(hashed(&delivery), super::delivery("crm", None, std::slice::from_ref(&id), 1));
        let message = super::delivery("crm", None, std::slice::from_ref(&id), 1).to_string();
        assert_eq!(message, "2ab1ba4f-15d8-8ddf-bc9a-0c995f5b2b8c");
        for shown in [event, &id, &delivery, &message] {
            assert!(readme.contains(shown), "docs/endpoints/webhook.md does not show {shown}");
        }
        assert_eq!((key.id(1).get_version_num(), key.id(1).get_variant()), (8, uuid::Variant::RFC4122));
    }

    #[test]
    fn spelling_and_what_the_event_is_called_do_not_change_an_id() {
        let same = Change {
            event: EventType::Revoked,
            qualification: "education_".to_owned(),
            from: None,
            to: Some("DENIED".to_owned()),
            reason: Some(" not an education CUSTOMER ".to_owned()),
            created_at: Some(Timestamp::from_millis(1_763_462_258_001)),
            first_seen: true,
            last_seen_before_at: Some(Timestamp::from_millis(1)),
            ..denied()
        };
        assert_eq!(id(&same), id(&denied()));
        let respelled = EventKey::of_change("emea", &CUSTOMER.to_lowercase(), &same).unwrap();
        assert_eq!(respelled.id(1), id(&denied()));
    }

    #[test]
    fn the_date_is_the_entrys_own_else_the_reviews_else_which_review_it_is() {
        let at = |ms| Some(Timestamp::from_millis(ms));
        let of_review = Change { created_at: None, ..denied() };
        assert_eq!(id(&of_review), id(&denied()));
        let undated = |attempt| Change {
            created_at: None,
            review: Review { attempt, created_at: None, submitted_at: at(5), seen_at: None },
            ..denied()
        };
        let ids = [id(&denied()), id(&undated(1)), id(&undated(2)), id(&Change { created_at: at(0), ..denied() })];
        assert!((1..ids.len()).all(|n| !ids[..n].contains(&ids[n])), "{ids:?}");
    }

    #[test]
    fn what_differs_has_another_id() {
        let change = denied();
        let key =
            |partner: &str, customer: &str, change: &Change| EventKey::of_change(partner, customer, change).unwrap();
        let ids = [
            key("emea", CUSTOMER, &change).id(1),
            key("emea", CUSTOMER, &change).id(2),
            key("amer", CUSTOMER, &change).id(1), // two partners of one tenant
            key("emea", "B1D5A3C0-7E6F-4F0E-9C1B-2A8D54E7F914", &change).id(1),
            id(&Change { qualification: "GovernmentCommunityCloud".to_owned(), ..denied() }),
            id(&Change { to: Some("Approved".to_owned()), ..denied() }),
            id(&Change { to: Some("absent".to_owned()), ..denied() }),
            id(&Change { to: None, ..denied() }),
            id(&Change { reason: None, ..denied() }),
            id(&Change { reason: Some("Not an Education Customer - After Review".to_owned()), ..denied() }),
            id(&Change { created_at: Some(Timestamp::from_millis(1_763_462_259_000)), ..denied() }),
            EventKey::of_reminder("emea", CUSTOMER, "Education", (2, denied().created_at), 1).id(1),
            EventKey::of_reminder("emea", CUSTOMER, "Education", (2, denied().created_at), 2).id(1),
        ];
        assert!((1..ids.len()).all(|n| !ids[..n].contains(&ids[n])), "{ids:?}");
    }

    #[test]
    fn only_verdicts_and_reminders_have_an_id_that_lasts() {
        let lasts = |event| EventKey::of_change("emea", CUSTOMER, &Change { event, ..denied() }).is_some();
        let lasting: Vec<_> = EventType::ALL.iter().copied().filter(|event| lasts(*event)).collect();
        assert_eq!(lasting, [EventType::Approved, EventType::Denied, EventType::Revoked, EventType::Vanished]);
    }

    #[test]
    fn a_message_is_known_by_its_endpoint_its_recipient_and_all_of_its_events_in_any_order() {
        let events = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let (one, two, three) = (events(&["a"]), events(&["a", "b"]), events(&["a", "c"]));
        assert_eq!(delivery("crm", None, &two, 1), delivery("crm", None, &events(&["b", "a"]), 1));
        let ids = [
            delivery("crm", None, &one, 1),
            delivery("crm", None, &one, 2),
            delivery("crm", None, &two, 1),
            delivery("crm", None, &three, 1),
            delivery("crm", Some(""), &two, 1),
            delivery("crm", Some("a"), &events(&["b"]), 1),
            delivery("mail", None, &two, 1),
        ];
        assert!((1..ids.len()).all(|n| !ids[..n].contains(&ids[n])), "{ids:?}");
    }

    fn decoded(mut text: &str) -> Vec<Option<String>> {
        let mut fields = Vec::new();
        while !text.is_empty() {
            if let Some(rest) = text.strip_prefix("-,") {
                fields.push(None);
                text = rest;
                continue;
            }
            let (length, rest) = text.split_once(':').unwrap();
            let (field, rest) = rest.split_at(length.parse().unwrap());
            fields.push(Some(field.to_owned()));
            text = rest.strip_prefix(',').unwrap();
        }
        fields
    }

    fn field() -> impl Strategy<Value = Option<String>> {
        // Mostly the characters of the encoding itself.
        prop::option::of(prop_oneof![any::<String>(), "[-0-9:,]{0,6}"])
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_two_lists_of_fields_give_the_same_bytes(fields in prop::collection::vec(field(), 0..8)) {
            // Decodable, so no other list has the same bytes.
            let text = encoded(fields.iter().map(Option::as_deref));
            prop_assert_eq!(decoded(&text), fields);
        }
    }
}

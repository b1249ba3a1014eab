//! Status words that nobody knows: told to the operators once for each word and partner.

use std::time::Duration;

use uuid::Uuid;

use crate::delivery::route::{Matter, Routes};
use crate::event::{Event, EventData, EventType, MonitorNews, Subject};
use crate::store::{self, PartnerRow, Store};
use crate::time::Timestamp;

/// A word is told so much later, so that it can be said how many customers have it.
const LATER: Duration = Duration::from_mins(10);

/// Queues what is to be told of unknown words. Returns how many messages that are.
pub async fn tell(store: &Store, partner: &PartnerRow, routes: &Routes, now: Timestamp) -> Result<usize, store::Error> {
    let before = now.before(LATER);
    if !store.has_unknown_words(partner.id, before).await? {
        return Ok(0);
    }
    let mut queued = 0;
    let mut tx = store.begin().await?;
    for word in tx.take_unknown_words(partner.id, before, now).await? {
        let customers = if word.customers == 1 {
            "1 customer has".to_owned()
        } else {
            format!("{} customers have", word.customers)
        };
        let news = MonitorNews {
            summary: format!("Partner Center writes a vetting status that vetwatch does not know: {}", word.spelled),
            detail: format!(
                "{customers} it now. It is kept and shown as it is, and never taken for a verdict: nobody is told when a \
                 review ends with this word. Look at what it means in Partner Center, and whether there is a newer \
                 vetwatch. This is told once for each word."
            ),
            figures: serde_json::Map::from_iter([
                ("vetting_status".to_owned(), word.spelled.clone().into()),
                ("customers".to_owned(), word.customers.into()),
            ]),
        };
        let event = Event {
            kind: EventType::Unrecognized,
            occurred_at: now,
            data: EventData {
                event_id: Uuid::now_v7(),
                partner: partner.name.clone(),
                subject: Subject::Monitor(news),
                observed_at: now,
                test: false,
            },
        };
        tx.insert_event(&event, partner.id, None, None).await?;
        let matter = Matter { event: event.kind, partner: &partner.name, qualification: None, tags: &[] };
        for endpoint in routes.endpoints(&matter) {
            tx.enqueue(&event, endpoint, now).await?;
            queued += 1;
        }
    }
    tx.commit().await?;
    Ok(queued)
}

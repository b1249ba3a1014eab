//! `vetwatch explain`: why a message was sent or not, from Partner Center's response to the receivers' replies.

mod page;

use crate::cli::{Context, Exit, Failure, lookup};
use crate::store::Store;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An event's id or a message's, or enough of its beginning
    #[arg(value_name = "EVENT")]
    pub id: String,
}

pub(super) async fn explain(context: &Context, args: Args) -> Result<Exit, Failure> {
    let outline = context.outline()?;
    let store = context.reading_store(&outline.database).await?;
    let mut proofs = Vec::new();
    for id in events(&store, &args.id).await? {
        proofs.extend(store.proof(&id).await?);
    }
    if context.json {
        // A message may hold several events, so it is always a list.
        context.out.json(&proofs)?;
    } else {
        let pages: Vec<String> = proofs.iter().map(|proof| page::of(context.out.style, proof)).collect();
        context.out.write(&pages.join("\n"))?;
    }
    Ok(Exit::Done)
}

/// Resolves an id's prefix to an event, or to the events of a message.
///
/// # Errors
/// [`Exit::NotFound`] if nothing matches, or several events do; they are listed.
async fn events(store: &Store, prefix: &str) -> Result<Vec<String>, Failure> {
    let events = lookup::ids(prefix, async |wanted, limit| store.event_ids(wanted, limit).await).await?;
    let deliveries = lookup::ids(prefix, async |wanted, limit| store.delivery_ids(wanted, limit).await).await?;
    // All matches may belong to one event.
    let mut meant = events.clone();
    for delivery in &deliveries {
        for event in store.events_of(delivery).await? {
            if !meant.contains(&event) {
                meant.push(event);
            }
        }
    }
    match (meant.len(), events.len(), deliveries.len()) {
        (1, _, _) | (_, 0, 1) => Ok(meant),
        (_, 0, 0) => Err(Failure::new(Exit::NotFound, format!("there is neither an event nor a message \"{prefix}\""))
            .advise("`vetwatch history` shows what changed, with the beginning of each event's id")),
        _ => Err(Failure::new(Exit::NotFound, format!("several ids begin with \"{prefix}\""))
            .listing(events.iter().map(|id| format!("event    {id}")))
            .listing(deliveries.iter().map(|id| format!("message  {id}")))
            .advise("write more of the id")),
    }
}

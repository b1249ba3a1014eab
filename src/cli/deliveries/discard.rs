//! `vetwatch deliveries discard`: puts away what nobody will send any more.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;

use super::redrive::Selection;
use crate::cli::output::Style;
use crate::cli::{Context, Exit, Failure};
use crate::config::PublicConfig;
use crate::store::redirect::{Discarded, Ended, NotTold};
use crate::text;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub selection: Selection,
}

pub(super) async fn discard(context: &Context, outline: &PublicConfig, args: &Args) -> Result<Exit, Failure> {
    let store = context.existing_store(&outline.database).await?;
    let (id, now) = (args.selection.resolved(outline, &store).await?, context.now());
    let mut tx = store.begin().await?;
    let ended = tx.discard(args.selection.which(id.as_deref(), false, now), now).await?;
    tx.commit().await?;
    let name = id.as_deref().unwrap_or_default();
    match ended {
        Ended::Done(discarded) => say(context, &discarded),
        Ended::NothingMatched => Err(Failure::new(Exit::NotFound, "nothing is discarded")
            .because("no dead message matches, nor one that waits for an endpoint that is paused or not configured")
            .advise("`vetwatch deliveries list --state dead` shows the dead ones; one that is pending is discarded by its id")),
        Ended::Delivered => {
            Err(Failure::new(Exit::Failed, format!("{name} is not discarded")).because("it was delivered"))
        }
        Ended::UnderWay => Err(Failure::new(Exit::TryAgain, format!("{name} is not discarded"))
            .because("an attempt is under way, or the process ended in one")
            .advise(format!("`vetwatch deliveries show {name}` shows what comes of it"))),
    }
}

fn say(context: &Context, discarded: &[Discarded]) -> Result<Exit, Failure> {
    if context.json {
        let rows: Vec<_> = discarded
            .iter()
            .map(|one| {
                let not_told: Vec<_> = one.not_told.iter().map(news).collect();
                json!({ "delivery_id": one.delivery_id, "endpoint": one.endpoint, "not_told": not_told })
            })
            .collect();
        context.out.json(&json!({ "discarded": rows }))?;
    } else {
        context.out.write(&page_of(context.out.style, discarded))?;
    }
    Ok(Exit::Done)
}

fn news(event: &NotTold) -> serde_json::Value {
    json!({
        "event_id": event.event_id,
        "event_type": event.event_type,
        "customer": event.customer,
        "qualification": event.qualification,
        "waits_for": event.waits_for,
    })
}

fn page_of(style: Style, discarded: &[Discarded]) -> String {
    let mut page = String::new();
    let mut nobody = BTreeSet::new();
    for one in discarded {
        let _ = writeln!(page, "{}  to {}", one.delivery_id, text::terminal(&one.endpoint));
        for event in &one.not_told {
            let about: Vec<_> =
                [&event.customer, &event.qualification].into_iter().flatten().map(|it| text::terminal(it)).collect();
            let told = if let Some(endpoint) = &event.waits_for {
                format!("not told yet, it waits for {}", text::terminal(endpoint))
            } else {
                nobody.insert(&event.event_id);
                style.bad("nobody was told")
            };
            let _ = writeln!(page, "    {}: {}: {told}", event.event_type, about.join(", "));
        }
    }
    let messages =
        if discarded.len() == 1 { "1 message was".to_owned() } else { format!("{} messages were", discarded.len()) };
    let _ = writeln!(page, "{messages} discarded; `vetwatch deliveries redrive ID` undoes that.");
    if !nobody.is_empty() {
        let events = if nobody.len() == 1 { "1 event".to_owned() } else { format!("{} events", nobody.len()) };
        let _ = writeln!(
            page,
            "Nobody was told of {events}: tell it yourself, or `vetwatch deliveries redrive ID --to ENDPOINT`."
        );
    }
    page
}

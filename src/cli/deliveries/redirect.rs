//! `vetwatch deliveries redrive --to ENDPOINT`: sends to another endpoint instead.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::redrive;
use crate::cli::{Context, Exit, Failure};
use crate::config::PublicConfig;
use crate::delivery::route::{ContactPolicy, Target};
use crate::store::redirect::{Ended, Redirected};
use crate::text;

/// Messages moved together are grouped.
const GROUP_FOR: Duration = Duration::from_secs(1);

pub(super) async fn redirect(
    context: &Context,
    outline: &PublicConfig,
    args: &redrive::Args,
    to: &str,
) -> Result<Exit, Failure> {
    let here = || outline.endpoints.iter().cloned();
    if !outline.endpoints.iter().any(|known| known == to) {
        return Err(Failure::new(Exit::NotFound, format!("there is no endpoint \"{to}\" to send to"))
            .because("the configuration does not name it; it has")
            .listing(here()));
    }
    if args.selection.endpoint.as_deref() == Some(to) {
        return Err(Failure::new(Exit::Usage, format!("\"{to}\" is the endpoint itself"))
            .because("--to names another one")
            .advise(format!("`vetwatch deliveries redrive --endpoint {to}` sends to it again")));
    }
    let routes = context.config()?.routes;
    if routes.profiles.get(to).is_some_and(|way| way.contact == ContactPolicy::Only) {
        return Err(Failure::new(Exit::Usage, format!("nothing can be redirected to \"{to}\""))
            .because("it has no recipient of its own, only each customer's contact"));
    }
    let store = context.existing_store(&outline.database).await?;
    let (id, now) = (args.selection.resolved(outline, &store).await?, context.now());
    if let Some(id) = &id
        && store.delivery(id).await?.is_some_and(|detail| detail.delivery.endpoint == to)
    {
        return Err(Failure::new(Exit::Usage, format!("{id} is a message to \"{to}\" itself"))
            .because("--to names another endpoint")
            .advise(format!("`vetwatch deliveries redrive {id}` sends it again")));
    }
    let target = routes.direct_target(to, "redrive --to".to_owned(), "redirected".to_owned());
    let target = Target { group_wait: Some(GROUP_FOR), ..target };
    let mut tx = store.begin().await?;
    let redirected = tx.redirect(args.selection.which(id.as_deref(), false, now), &target, now).await?;
    tx.commit().await?;
    let name = id.as_deref().unwrap_or_default();
    match redirected {
        Ended::Done(redirected) => say(context, to, &redirected),
        Ended::NothingMatched => Err(Failure::new(Exit::NotFound, "nothing is redirected")
            .because("no dead or pending message matches")
            .advise("`vetwatch deliveries list` shows them")),
        Ended::Delivered => {
            Err(Failure::new(Exit::Failed, format!("{name} is not redirected")).because("it was delivered"))
        }
        Ended::UnderWay => Err(Failure::new(Exit::TryAgain, format!("{name} is not redirected"))
            .because("an attempt is under way, or the process ended in one")
            .advise(format!("`vetwatch deliveries show {name}` shows what comes of it"))),
    }
}

fn say(context: &Context, to: &str, redirected: &Redirected) -> Result<Exit, Failure> {
    let Redirected { moved, events } = redirected;
    if context.json {
        let rows: Vec<_> =
            moved.iter().map(|(id, endpoint)| json!({ "delivery_id": id, "endpoint": endpoint })).collect();
        context.out.json(&json!({ "to": to, "redirected": rows, "events_queued": events }))?;
        return Ok(Exit::Done);
    }
    let mut page = String::new();
    for (id, endpoint) in moved {
        let _ = writeln!(page, "{id}  from {}", text::terminal(endpoint));
    }
    let messages = if moved.len() == 1 { "1 message was".to_owned() } else { format!("{} messages were", moved.len()) };
    let queued = match events {
        0 => format!("nothing is queued for {to}, which has a message of each event already; tests are not sent again"),
        1 => format!("1 event is queued for {to}; the daemon sends it"),
        n => format!("{n} events are queued for {to}; the daemon sends them"),
    };
    let _ = writeln!(page, "{messages} redirected: {queued}.");
    context.out.write(&page)?;
    Ok(Exit::Done)
}

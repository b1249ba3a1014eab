//! `vetwatch customers` `remove`, `pause`, `resume`, `mute` and `unmute`.

use std::time::Duration;

use serde_json::json;

use crate::cli::lookup::{self, Customer, Scope};
use crate::cli::{Context, Exit, Failure, time_args};
use crate::config;
use crate::store::Store;
use crate::text;
use crate::time::Timestamp;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tenant ids, domains or names
    #[arg(value_name = "CUSTOMER", required = true)]
    pub customers: Vec<String>,
    /// The partner of the configuration, where a name alone is ambiguous
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct MuteArgs {
    #[command(flatten)]
    pub who: Args,
    /// Only for this time, such as `7d` or `12h`; without it, until `unmute`
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    pub time: Option<Duration>,
}

fn length(text: &str) -> Result<Duration, String> {
    config::duration(text).map_err(|_| "write a length of time, such as 7d or 12h".into())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Remove,
    Pause,
    Resume,
    /// `None` means until it is unmuted.
    Mute {
        until: Option<Timestamp>,
    },
    Unmute,
}

/// Applies the change to all named customers or, if one name is unknown, to none.
pub(super) async fn change(context: &Context, who: &Args, change: Change) -> Result<Exit, Failure> {
    let outline = context.outline()?;
    let store = context.existing_store(&outline.database).await?;
    lookup::partner(&outline.partners, &store, who.partner.as_deref()).await?;
    let found = lookup::customers(&store, &who.customers, who.partner.as_deref(), Scope::Watched).await?;
    let changed = apply(context, &store, &found, change).await?;
    if context.json {
        let results = found.iter().zip(&changed).map(|(customer, changed)| {
            json!({ "partner": customer.partner, "customer_id": customer.id, "name": customer.name, "changed": changed })
        });
        context.out.json(&results.collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    for (customer, changed) in found.iter().zip(changed) {
        context.out.line(&summary(customer, change, changed))?;
    }
    Ok(Exit::Done)
}

async fn apply(context: &Context, store: &Store, found: &[Customer], change: Change) -> Result<Vec<bool>, Failure> {
    let now = context.now();
    let mut changed = Vec::new();
    let mut tx = store.begin().await?;
    for row in found.iter().filter_map(|customer| customer.watched) {
        changed.push(match change {
            Change::Remove => tx.remove_customer(row, now).await?,
            Change::Pause => tx.pause(row, now).await?,
            Change::Resume => tx.resume(row, now).await?,
            Change::Mute { until } => tx.mute(row, until, now).await?,
            Change::Unmute => tx.unmute(row, now).await?,
        });
    }
    tx.commit().await?;
    Ok(changed)
}

fn summary(customer: &Customer, change: Change, changed: bool) -> String {
    let label = text::terminal(customer.label());
    match (change, changed) {
        (Change::Remove, _) => format!(
            "{label} is not watched any more; its history stays. No sync brings it back: \
             `vetwatch customers add {}` does, and begins anew.",
            customer.id
        ),
        (Change::Pause, true) => format!("{label} is paused: it is not polled."),
        (Change::Pause, false) => format!("{label} was paused already."),
        (Change::Resume, true) => format!("{label} is polled again, now."),
        (Change::Resume, false) => format!("{label} was not paused."),
        (Change::Mute { until: Some(until) }, _) => format!(
            "{label} is muted until {} UTC: what happens is recorded and told to nobody. What is queued is still sent.",
            time_args::minute(until)
        ),
        (Change::Mute { until: None }, true) => {
            format!("{label} is muted: what happens is recorded and told to nobody. What is queued is still sent.")
        }
        (Change::Mute { until: None }, false) => format!("{label} was muted already."),
        (Change::Unmute, true) => {
            format!("{label} is told of again from now on. `vetwatch history {}` shows what happened.", customer.id)
        }
        (Change::Unmute, false) => format!("{label} was not muted."),
    }
}

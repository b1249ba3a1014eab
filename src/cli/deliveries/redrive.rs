//! `vetwatch deliveries redrive`.

use std::fmt::Write as _;

use clap::ArgGroup;
use serde_json::json;

use super::known_endpoint;
use crate::cli::time_args::Since;
use crate::cli::{Context, Exit, Failure, lookup};
use crate::config::PublicConfig;
use crate::store::Store;
use crate::store::redrive::{Redrive, Redriven};
use crate::text;
use crate::time::Timestamp;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub selection: Selection,
    /// Send even what was delivered; its recipients get it twice, under the same id
    #[arg(long, requires = "id")]
    pub force: bool,
    /// Send to this endpoint instead, as a new message; what is pending for the old one is moved as well
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "force")]
    pub to: Option<String>,
}

/// Which messages.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(group(ArgGroup::new("which").required(true).multiple(true).args(["id", "endpoint", "since"])))]
pub struct Selection {
    /// Its id, or enough of the beginning
    #[arg(conflicts_with_all = ["endpoint", "since"])]
    pub id: Option<String>,
    /// All dead messages of this endpoint, those that some recipients refused, and what waits if it is paused
    #[arg(long, value_name = "NAME")]
    pub endpoint: Option<String>,
    /// All dead messages made since then
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
}

impl Selection {
    /// Checks the endpoint, and resolves the id's prefix.
    pub(super) async fn resolved(&self, outline: &PublicConfig, store: &Store) -> Result<Option<String>, Failure> {
        if let Some(name) = &self.endpoint {
            known_endpoint(outline, store, name).await?;
        }
        match &self.id {
            Some(prefix) => lookup::delivery(store, prefix).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn which<'a>(&'a self, id: Option<&'a str>, force: bool, now: Timestamp) -> Redrive<'a> {
        match id {
            Some(id) => Redrive::One { id, force },
            None => Redrive::Dead { endpoint: self.endpoint.as_deref(), since: self.since.map(|since| since.at(now)) },
        }
    }
}

pub(super) async fn redrive(context: &Context, outline: &PublicConfig, args: &Args) -> Result<Exit, Failure> {
    // Changes something, so it waits for another writer and needs the right to write.
    let store = context.existing_store(&outline.database).await?;
    let (id, now) = (args.selection.resolved(outline, &store).await?, context.now());
    let mut tx = store.begin().await?;
    let redriven = tx.redrive(args.selection.which(id.as_deref(), args.force, now), now).await?;
    tx.commit().await?;
    let name = id.as_deref().unwrap_or_default();
    match redriven {
        Redriven::Again(again) => targets_for(context, outline, &again),
        Redriven::NothingMatched => Err(Failure::new(Exit::NotFound, "nothing is sent again")
            .because("no dead message matches")
            .advise("`vetwatch deliveries list --state dead` shows them")),
        Redriven::Delivered => Err(Failure::new(Exit::Failed, format!("{name} is not sent again"))
            .because("it was delivered")
            .advise("with --force its receivers get it once more, under the same id")),
        Redriven::UnderWay => Err(Failure::new(Exit::TryAgain, format!("{name} is not sent again"))
            .because("an attempt is under way, or the process ended in one; it is tried again by itself")
            .advise(format!("`vetwatch deliveries show {name}` shows what comes of it"))),
    }
}

fn targets_for(context: &Context, outline: &PublicConfig, again: &[(String, String)]) -> Result<Exit, Failure> {
    if context.json {
        let again = again.iter().map(|(id, endpoint)| json!({ "delivery_id": id, "endpoint": endpoint }));
        context.out.json(&json!({ "redriven": again.collect::<Vec<_>>() }))?;
        return Ok(Exit::Done);
    }
    let mut page = String::new();
    for (id, endpoint) in again {
        let _ = writeln!(page, "{id}  to {}", text::terminal(endpoint));
    }
    let _ = match again.len() {
        1 => writeln!(page, "1 message is due now; the daemon sends it."),
        messages => writeln!(page, "{messages} messages are due now; the daemon sends them."),
    };
    let mut gone: Vec<_> =
        again.iter().map(|(_, name)| name).filter(|name| !outline.endpoints.contains(name)).collect();
    gone.sort_unstable();
    gone.dedup();
    for name in gone {
        let _ =
            writeln!(page, "The configuration has no endpoint \"{}\": until it does, they wait.", text::terminal(name));
    }
    context.out.write(&page)?;
    Ok(Exit::Done)
}

//! `vetwatch deliveries`: shows messages and sends them again.

mod list;
mod redirect;
mod redrive;
mod show;

use clap::Subcommand;

use crate::cli::{Context, Exit, Failure};
use crate::config::PublicConfig;
use crate::store::Store;

pub(super) use list::lines_of;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Messages, newest first
    #[command(after_help = "Examples:\n  vetwatch deliveries list --state dead\n  \
                            vetwatch deliveries list --endpoint crm --since 2d --json")]
    List(list::Args),
    /// One message: its events, each attempt, and what was or will be sent
    #[command(after_help = "Examples:\n  vetwatch deliveries show 0193b7c2-51aa")]
    Show {
        /// Its id, or enough of the beginning
        id: String,
    },
    /// Send dead messages again: the same message under the same id
    #[command(after_help = "Examples:\n  vetwatch deliveries redrive 0193b7c2-51aa\n  \
                            vetwatch deliveries redrive --endpoint crm\n  vetwatch deliveries redrive --since 2026-11-20\n  \
                            vetwatch deliveries redrive --endpoint old-mail --to sales-mail")]
    Redrive(redrive::Args),
}

pub(super) async fn deliveries(context: &Context, command: Command) -> Result<Exit, Failure> {
    let outline = context.outline()?;
    match command {
        Command::List(args) => list::list(context, &outline, &args).await,
        Command::Show { id } => show::show(context, &outline, &id).await,
        Command::Redrive(args) => match &args.to {
            Some(to) => redirect::redirect(context, &outline, &args, to).await,
            None => redrive::redrive(context, &outline, &args).await,
        },
    }
}

/// Fails for an unknown name: a mistyped one is not an endpoint without messages.
async fn known_endpoint(outline: &PublicConfig, store: &Store, name: &str) -> Result<(), Failure> {
    if outline.endpoints.iter().any(|known| known == name) || store.has_endpoint(name).await? {
        return Ok(());
    }
    Err(Failure::new(Exit::NotFound, format!("there is no endpoint \"{name}\""))
        .because("neither the configuration nor any message names it; the configuration has")
        .listing(outline.endpoints.iter().cloned()))
}

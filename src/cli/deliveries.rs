//! `vetwatch deliveries`: shows messages, sends them again, puts them away.

mod discard;
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
    #[command(
        override_usage = "vetwatch deliveries redrive [OPTIONS] <ID|--endpoint NAME|--since TIME>",
        after_help = "Examples:\n  vetwatch deliveries redrive 0193b7c2-51aa\n  \
                            vetwatch deliveries redrive --endpoint crm\n  vetwatch deliveries redrive --since 2026-11-20\n  \
                            vetwatch deliveries redrive --endpoint old-mail --to sales-mail"
    )]
    Redrive(redrive::Args),
    /// Put away messages that nobody needs any more: they stay in the database, and `status` no longer counts them
    ///
    /// Takes dead messages, those that some recipients refused, and what waits for an endpoint that is paused or not
    /// configured; with an id, any message that was not delivered. Prints what was discarded, and of which events nobody was told.
    /// `redrive` undoes it.
    #[command(
        override_usage = "vetwatch deliveries discard [OPTIONS] <ID|--endpoint NAME|--since TIME>",
        after_help = "Examples:\n  vetwatch deliveries discard 0193b7c2-51aa\n  \
                            vetwatch deliveries discard --endpoint old-mail\n  vetwatch deliveries discard --since 30d"
    )]
    Discard(discard::Args),
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
        Command::Discard(args) => discard::discard(context, &outline, &args).await,
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

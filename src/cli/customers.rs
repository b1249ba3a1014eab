//! `vetwatch customers`: the customers that are watched.

mod add;
mod change;
pub(crate) mod import;
mod list;

use clap::Subcommand;

use self::change::Change;
use crate::cli::{Context, Exit, Failure, sync};

pub(super) use add::{guid, spelled};
pub(super) use list::is_muted;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the customers
    #[command(after_help = "Examples:\n  vetwatch customers list\n  vetwatch customers list --tag north --json")]
    List(list::Args),
    /// Watch a customer from now on; if it is watched already, change name, domain and tags
    #[command(
        after_help = "Examples:\n  vetwatch customers add 8a2c4f6e-1b3d-4c5a-9e7f-0123456789ab --name \"Contoso School\" \
                            --domain contoso.onmicrosoft.com --tag north"
    )]
    Add(add::Args),
    /// Stop watching; the history stays. A sync does not bring the customer back; a later `add` does, and starts over
    #[command(after_help = "Examples:\n  vetwatch customers remove contoso.onmicrosoft.com")]
    Remove(change::Args),
    /// Do not poll a customer for the time being
    #[command(after_help = "Examples:\n  vetwatch customers pause \"Contoso School\"")]
    Pause(change::Args),
    /// Resume a paused customer where it was
    #[command(after_help = "Examples:\n  vetwatch customers resume \"Contoso School\"")]
    Resume(change::Args),
    /// Record what happens to a customer, and send nothing
    ///
    /// Nothing is sent to routes or operators, then or later; `history` and `explain` show it. Messages that are queued
    /// already are still sent. Events about vetwatch itself (`monitor.*`) are sent as ever.
    #[command(
        after_help = "Examples:\n  vetwatch customers mute \"Contoso School\"\n  vetwatch customers mute contoso.onmicrosoft.com --for 7d"
    )]
    Mute(change::MuteArgs),
    /// Send again what happens to a muted customer, from now on
    #[command(after_help = "Examples:\n  vetwatch customers unmute \"Contoso School\"")]
    Unmute(change::Args),
    /// Watch the customers of a CSV file; if watched already, change what the file says
    ///
    /// The first line names the columns, in any order: `id` (the tenant id), and any of `name`, `domain`, `tags`
    /// (separated by `;` or `|`) and `contact`. If a customer is watched already, an empty cell changes nothing. If one
    /// line is wrong, nothing is imported, and every wrong line is shown.
    #[command(after_help = "Examples:\n  vetwatch customers import customers.csv --dry-run\n  \
                            vetwatch customers import customers.csv --partner emea\n  \
                            crm-export | vetwatch customers import -")]
    Import(import::Args),
    /// Take over Partner Center's list of customers now
    #[command(after_help = "Examples:\n  vetwatch customers sync\n  vetwatch customers sync --partner emea")]
    Sync {
        /// Only this partner of the configuration
        #[arg(long, value_name = "NAME")]
        partner: Option<String>,
    },
}

pub(super) async fn customers(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Sync { partner } => sync::sync(context, partner.as_deref()).await,
        Command::List(args) => list::list(context, &args).await,
        Command::Import(args) => import::import(context, &args).await,
        Command::Add(args) => add::add(context, &args).await,
        Command::Remove(who) => change::change(context, &who, Change::Remove).await,
        Command::Pause(who) => change::change(context, &who, Change::Pause).await,
        Command::Resume(who) => change::change(context, &who, Change::Resume).await,
        Command::Mute(args) => {
            let until = args.time.map(|time| context.now().after(time));
            change::change(context, &args.who, Change::Mute { until }).await
        }
        Command::Unmute(who) => change::change(context, &who, Change::Unmute).await,
    }
}

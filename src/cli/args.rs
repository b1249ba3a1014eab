//! The arguments. Their doc comments are the manual: `--help`, the manual pages and the completions.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::cli::time_args::Since;
use crate::cli::{check, demo, explain, login, route, run, sandbox, submit, test_send, validation};

const EXIT_CODES: &str = "\
Exit codes:
  0 done · 1 failed · 2 usage · 3 `status`: attention needed · 4 not found
  5 refused by Partner Center · 75 try again later · 78 configuration";

/// Tells a Cloud Solution Provider that Microsoft has decided on a customer's qualification
#[derive(Debug, Parser)]
#[command(name = "vetwatch", version, max_term_width = 100, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "VETWATCH_CONFIG",
        default_value = "/etc/vetwatch/vetwatch.toml"
    )]
    pub config: PathBuf,
    /// Print JSON instead of text; errors too, as one object on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Log what vetwatch does; twice: what its libraries do as well. `RUST_LOG` is finer
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show everything on this machine: a simulated Partner Center, mail and webhooks; nothing to configure
    #[command(after_help = "Examples:\n  vetwatch demo\n  vetwatch demo --duration 20s\n  vetwatch demo --keep ./demo")]
    Demo(demo::Args),
    /// Run the daemon in the foreground
    #[command(after_help = "Examples:\n  vetwatch run\n  vetwatch --config ./vetwatch.toml run -v")]
    Run(run::Args),
    /// Validate the configuration: every problem at once
    #[command(after_help = "Examples:\n  vetwatch check\n  sudo vetwatch check --live")]
    Check(check::Args),
    /// Sign in a user (App+User), with a code to type into a browser; stores the refresh token
    #[command(after_help = "Examples:\n  vetwatch login\n  sudo vetwatch login emea")]
    Login(login::Args),
    /// The customers that are watched
    #[command(subcommand)]
    Customers(CustomersCommand),
    /// Poll all customers now, or those named
    ///
    /// Records and queues as the daemon does. If a daemon runs, the customers become due instead, and the daemon polls
    /// them within its budget.
    #[command(
        after_help = "Examples:\n  vetwatch poll\n  vetwatch poll contoso.onmicrosoft.com \"Fabrikam University\""
    )]
    Poll(PollArgs),
    /// One screen: in review, decided lately, what cannot be read or delivered; exit 3 if that needs attention
    #[command(
        after_help = "Examples:\n  vetwatch status\n  vetwatch status \"Contoso School\"\n  vetwatch status --json | jq .attention"
    )]
    Status(CustomerArgs),
    /// What changed, newest first
    #[command(after_help = "Examples:\n  vetwatch history --since 30d\n  vetwatch history \"Contoso School\"\n  \
                            vetwatch history --since 2026-11-01 --format csv > november.csv")]
    History(HistoryArgs),
    /// Why an event was sent, or was not: Partner Center's answer, what changed, each message, attempt and reply
    #[command(after_help = "Examples:\n  vetwatch explain 0193b7c2-51aa\n  vetwatch explain 0193b7c2-51aa --json")]
    Explain(explain::Args),
    /// Send a marked test message to an endpoint, down the real path
    ///
    /// It is queued, tried and shown like any message. Beside a running daemon the daemon sends it; else this command
    /// does, and leaves alone what else waits. Exit 0: accepted; 75: not this time, it stays queued; 1: refused.
    #[command(
        after_help = "Examples:\n  vetwatch test-send sales-mail\n  vetwatch test-send crm --event monitor.partner_failing"
    )]
    TestSend(test_send::Args),
    /// The routes: where an event would be sent
    #[command(subcommand)]
    Route(RouteCommand),
    /// Messages: pending, delivered, dead
    #[command(subcommand)]
    Deliveries(DeliveriesCommand),
    /// Submit a customer's qualification to Microsoft for review, as a user (App+User)
    ///
    /// The only command that writes at Partner Center. Shows what will be sent and asks for confirmation; the verdict
    /// is sent like any other. Education may be submitted three times per customer: a fourth attempt, as far as
    /// vetwatch saw, is refused here, and so is one during a review.
    #[command(
        after_help = "Examples:\n  vetwatch submit \"Contoso School\" Education --segment K12 --website contoso.edu\n  \
                            vetwatch submit contoso.onmicrosoft.com StateOwnedEntity --yes\n  \
                            pass show gcc-code | vetwatch submit \"City of Contoso\" GovernmentCommunityCloud --validation-code - --yes"
    )]
    Submit(submit::Args),
    /// Codes for `GovernmentCommunityCloud`, and how many uses are left
    #[command(after_help = "Examples:\n  vetwatch validation-codes\n  vetwatch validation-codes --partner amer --json")]
    ValidationCodes(validation::Args),
    /// Run the simulated Partner Center on its own, for rehearsals
    #[command(
        after_help = "Examples:\n  vetwatch sandbox\n  vetwatch sandbox --listen 127.0.0.1:8765 --customers 50 --in-review 5 --settled 20"
    )]
    Sandbox(sandbox::Args),
    /// Print the completions for a shell
    #[command(after_help = "Examples:\n  vetwatch completions bash > /etc/bash_completion.d/vetwatch")]
    Completions { shell: Shell },
    /// Write the manual pages into a directory
    #[command(after_help = "Examples:\n  vetwatch man /usr/local/share/man/man1")]
    Man {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// One customer, or all.
#[derive(Debug, Args)]
pub struct CustomerArgs {
    /// A tenant id, a domain or a name
    pub customer: Option<String>,
    /// Only this partner of the configuration
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
}

#[derive(Debug, Args)]
pub struct PollArgs {
    /// Tenant ids, domains or names; without any, all customers
    #[arg(value_name = "CUSTOMER")]
    pub customers: Vec<String>,
    /// Only this partner of the configuration
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
    /// Accept that the entries missing from the responses are gone, however many: polls those customers
    #[arg(long, conflicts_with = "customers")]
    pub accept: bool,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    #[command(flatten)]
    pub who: CustomerArgs,
    /// Since then: `30d`, `12h`, `2026-11-01`, `2026-11-01T08:00:00Z`. Dates without a zone are UTC
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// How to print it
    #[arg(long, value_enum)]
    pub format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// An array of the rows of the view `v_transitions`
    Json,
    /// The same rows for a spreadsheet
    Csv,
}

#[derive(Debug, Subcommand)]
pub enum RouteCommand {
    /// Show where an event would be sent, when, why, and the exact message; nothing is sent
    #[command(after_help = "Examples:\n  vetwatch route test\n  \
                            vetwatch route test --event vetting.denied --customer \"Contoso School\" --reason \"Not an Academic Domain\"\n  \
                            vetwatch route test --event vetting.revoked --at 2026-12-24T20:00:00Z")]
    Test(route::Args),
}

#[derive(Debug, Subcommand)]
pub enum CustomersCommand {
    /// List the customers
    #[command(after_help = "Examples:\n  vetwatch customers list\n  vetwatch customers list --tag north --json")]
    List {
        /// Only those with this tag
        #[arg(long)]
        tag: Option<String>,
        /// Only this partner of the configuration
        #[arg(long, value_name = "NAME")]
        partner: Option<String>,
    },
    /// Watch a customer from now on; if it is watched already, change name, domain and tags
    #[command(
        after_help = "Examples:\n  vetwatch customers add 8a2c4f6e-1b3d-4c5a-9e7f-0123456789ab --name \"Contoso School\" \
                            --domain contoso.onmicrosoft.com --tag north"
    )]
    Add(AddArgs),
    /// Stop watching; the history stays. A sync does not bring the customer back; a later `add` does, and starts over
    #[command(after_help = "Examples:\n  vetwatch customers remove contoso.onmicrosoft.com")]
    Remove(SomeCustomers),
    /// Do not poll a customer for the time being
    #[command(after_help = "Examples:\n  vetwatch customers pause \"Contoso School\"")]
    Pause(SomeCustomers),
    /// Resume a paused customer where it was
    #[command(after_help = "Examples:\n  vetwatch customers resume \"Contoso School\"")]
    Resume(SomeCustomers),
    /// Record what happens to a customer, and send nothing
    ///
    /// Nothing is sent to routes or operators, then or later; `history` and `explain` show it. Messages that are queued
    /// already are still sent. Events about vetwatch itself (`monitor.*`) are sent as ever.
    #[command(
        after_help = "Examples:\n  vetwatch customers mute \"Contoso School\"\n  vetwatch customers mute contoso.onmicrosoft.com --for 7d"
    )]
    Mute(MuteArgs),
    /// Send again what happens to a muted customer, from now on
    #[command(after_help = "Examples:\n  vetwatch customers unmute \"Contoso School\"")]
    Unmute(SomeCustomers),
    /// Watch the customers of a CSV file; if watched already, change what the file says
    ///
    /// The first line names the columns, in any order: `id` (the tenant id), and any of `name`, `domain`, `tags`
    /// (separated by `;` or `|`) and `contact`. If a customer is watched already, an empty cell changes nothing. If one
    /// line is wrong, nothing is imported, and every wrong line is shown.
    #[command(after_help = "Examples:\n  vetwatch customers import customers.csv --dry-run\n  \
                            vetwatch customers import customers.csv --partner emea\n  \
                            crm-export | vetwatch customers import -")]
    Import(ImportArgs),
    /// Take over Partner Center's list of customers now
    #[command(after_help = "Examples:\n  vetwatch customers sync\n  vetwatch customers sync --partner emea")]
    Sync {
        /// Only this partner of the configuration
        #[arg(long, value_name = "NAME")]
        partner: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct AddArgs {
    /// The customer's tenant id, a GUID
    #[arg(value_name = "ID")]
    pub id: String,
    /// The customer's name, as messages show it
    #[arg(long)]
    pub name: Option<String>,
    /// The tenant's domain
    #[arg(long)]
    pub domain: Option<String>,
    /// For routes and lists; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// The partner of the configuration; needed where there are several
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A CSV file in UTF-8; `-` is standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The partner of the configuration; needed where there are several
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
}

#[derive(Debug, Args)]
pub struct SomeCustomers {
    /// Tenant ids, domains or names
    #[arg(value_name = "CUSTOMER", required = true)]
    pub customers: Vec<String>,
    /// The partner of the configuration, where a name alone is ambiguous
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
}

#[derive(Debug, Args)]
pub struct MuteArgs {
    #[command(flatten)]
    pub who: SomeCustomers,
    /// Only for this time, such as `7d` or `12h`; without it, until `unmute`
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    pub time: Option<Duration>,
}

/// Parses a duration of more than zero and at most ten years.
fn length(text: &str) -> Result<Duration, String> {
    const MAX_LENGTH: Duration = Duration::from_hours(10 * 365 * 24);
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() && time <= MAX_LENGTH => Ok(time),
        _ => Err("write a length of time, such as 7d or 12h".into()),
    }
}

#[derive(Debug, Subcommand)]
pub enum DeliveriesCommand {
    /// Messages, newest first
    #[command(after_help = "Examples:\n  vetwatch deliveries list --state dead\n  \
                            vetwatch deliveries list --endpoint crm --since 2d --json")]
    List {
        #[arg(long, value_enum)]
        state: Option<State>,
        /// Only to this endpoint
        #[arg(long, value_name = "NAME")]
        endpoint: Option<String>,
        /// Made since then: `2d`, `2026-11-01`, `2026-11-01T08:00:00Z`
        #[arg(long, value_name = "TIME")]
        since: Option<Since>,
        /// Show at most this many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
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
    Redrive(RedriveArgs),
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("which").required(true).multiple(true).args(["id", "endpoint", "since"])))]
pub struct RedriveArgs {
    /// Its id, or enough of the beginning
    #[arg(conflicts_with_all = ["endpoint", "since"])]
    pub id: Option<String>,
    /// All dead messages of this endpoint
    #[arg(long, value_name = "NAME")]
    pub endpoint: Option<String>,
    /// All dead messages made since then
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// Send even what was delivered; its recipients get it twice, under the same id
    #[arg(long, requires = "id")]
    pub force: bool,
    /// Send to this endpoint instead, as a new message; what is pending for the old one is moved as well
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "force")]
    pub to: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    Pending,
    Delivered,
    Dead,
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

//! The commands and global options; each command's arguments are in its own file. Their doc comments are the manual:
//! `--help`, the manual pages and the completions.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::cli::{
    backup, check, customers, deliveries, demo, explain, history, init, login, page, poll, report, route, run, sandbox,
    status, submit, support_bundle, test_send, validation,
};

/// The configuration's usual path.
pub(super) const CONFIG: &str = "/etc/vetwatch/vetwatch.toml";

const GLOBAL: &str = "Global options";

const EXIT_CODES: &str = "\
Exit codes:
  0 done · 1 failed · 2 usage · 3 `status`: attention needed · 4 not found
  5 refused by Partner Center · 75 try again later · 78 configuration";

/// Tells a Cloud Solution Provider that Microsoft has decided on a customer's qualification
#[derive(Debug, Parser)]
#[command(
    name = "vetwatch",
    version,
    max_term_width = 100,
    after_help = EXIT_CODES,
    arg_required_else_help = true,
    disable_help_flag = true
)]
pub struct Cli {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "VETWATCH_CONFIG",
        default_value = CONFIG,
        value_hint = clap::ValueHint::FilePath,
        help_heading = GLOBAL
    )]
    pub config: PathBuf,
    /// Print JSON instead of text; errors too, as one object on stderr
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Log what vetwatch does; twice: what its libraries do as well. `RUST_LOG` is finer
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = GLOBAL)]
    pub verbose: u8,
    /// Print help
    #[arg(short, long, global = true, action = clap::ArgAction::Help, help_heading = GLOBAL)]
    help: Option<bool>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show everything on this machine, with nothing to configure
    ///
    /// A simulated Partner Center, a mailbox, chats and a webhook receiver, and the real daemon between them. On a terminal
    /// keys approve and deny, switch the mail server off, and kill the daemon.
    #[command(after_help = "Examples:\n  vetwatch demo\n  vetwatch demo --duration 20s\n  vetwatch demo --keep ./demo")]
    Demo(demo::Args),
    /// Ask for what the configuration needs, try it, and write it
    ///
    /// Tenant, application, mail server, addresses: each answer is tried at once. Writes the configuration and the files
    /// of its secrets, sends a test to the operators, and prints what to run next. Every question is an option; what is
    /// given is not asked, and without a terminal nothing is. No secret is an option's value: options name files, or `-`
    /// for stdin.
    #[command(
        after_help = "Examples:\n  sudo vetwatch init\n  vetwatch init --entra-commands --tenant contoso.onmicrosoft.com\n  \
                            vetwatch --config ./vetwatch.toml init"
    )]
    Init(Box<init::Args>),
    /// Run the daemon in the foreground
    #[command(after_help = "Examples:\n  vetwatch run\n  vetwatch --config ./vetwatch.toml run -v")]
    Run(run::Args),
    /// Have the running daemon take over the configuration
    ///
    /// Waits for the outcome. The daemon checks all of it first; with any problem the configuration that it runs with
    /// goes on, every problem is printed, and the exit code is 78.
    #[command(after_help = "Examples:\n  sudo vetwatch reload\n  sudo vetwatch check && sudo vetwatch reload")]
    Reload,
    /// Validate the configuration: every problem at once
    #[command(after_help = "Examples:\n  vetwatch check\n  sudo vetwatch check --live")]
    Check(check::Args),
    /// Sign in a user (App+User), and store the refresh token
    ///
    /// Shows a code to type into a browser. Where Conditional Access blocks such codes, `--browser` signs in with a browser on this machine, or on one that
    /// forwards a port to it.
    #[command(
        after_help = "Examples:\n  vetwatch login\n  sudo vetwatch login emea\n  sudo vetwatch login --browser --port 8400"
    )]
    Login(login::Args),
    /// The customers that are watched
    #[command(
        subcommand,
        after_help = "Examples:\n  vetwatch customers list\n  vetwatch customers import customers.csv"
    )]
    Customers(customers::Command),
    /// Poll all customers now, or those named
    ///
    /// Records and queues as the daemon does. If a daemon runs, the customers become due instead, and the daemon polls
    /// them within its budget.
    #[command(
        after_help = "Examples:\n  vetwatch poll\n  vetwatch poll contoso.onmicrosoft.com \"Fabrikam University\""
    )]
    Poll(poll::Args),
    /// One screen that begins with what needs a person
    ///
    /// In review, decided lately, what cannot be read or delivered. Exit 3 if a person is needed.
    #[command(
        after_help = "Examples:\n  vetwatch status\n  vetwatch status \"Contoso School\"\n  vetwatch status --json | jq .attention"
    )]
    Status(status::Args),
    /// What changed, newest first
    #[command(after_help = "Examples:\n  vetwatch history --since 30d\n  vetwatch history \"Contoso School\"\n  \
                            vetwatch history --since 2026-11-01 --format csv > november.csv")]
    History(history::Args),
    /// What was decided: how much, how fast, and why not
    ///
    /// Verdicts by qualification and month, approval rate, time to decision, success by attempt, Microsoft's reasons and how
    /// often trying again cured them, the longest in review. Months and days are those of `[schedule] timezone`.
    #[command(after_help = "Examples:\n  vetwatch report\n  vetwatch report --since 90d --partner emea\n  \
                            vetwatch report --format html > report.html\n  \
                            vetwatch report --format csv --table reasons > reasons.csv")]
    Report(report::Args),
    /// Write the page as static files, or one customer's alone
    ///
    /// In review, decided lately, the report and health, as `[web]` serves them, for any web space or to open from the disk. With
    /// `--customer`, one customer's status and history and nothing of anybody else: no messages, endpoints or request
    /// ids. The folder appears whole or not at all; one that this command wrote before is replaced.
    #[command(
        after_help = "Examples:\n  vetwatch page ./page\n  vetwatch page ./contoso-school --customer \"Contoso School\""
    )]
    Page(page::Args),
    /// Show the addresses of the feeds of `[web]`
    ///
    /// Verdicts as Atom, expected decisions as a calendar. If the page needs a token the addresses hold a secret in its
    /// place, because few programs that subscribe can send one. Nothing else shows them.
    #[command(after_help = "Examples:\n  vetwatch feeds")]
    Feeds,
    /// Why an event was sent, or was not
    ///
    /// Partner Center's answer, what it changed, each message, each attempt and its reply.
    #[command(after_help = "Examples:\n  vetwatch explain 0193b7c2-51aa\n  vetwatch explain 0193b7c2-51aa --json")]
    Explain(explain::Args),
    /// Send a marked test message, down the real path
    ///
    /// It is queued, tried and shown like any message. Beside a running daemon the daemon sends it; else this command
    /// does, and leaves alone what else waits. Exit 0: accepted; 75: not this time, it stays queued; 1: refused.
    #[command(
        after_help = "Examples:\n  vetwatch test-send sales-mail\n  vetwatch test-send crm --event monitor.partner_failing"
    )]
    TestSend(test_send::Args),
    /// The routes: where an event would be sent
    #[command(subcommand, after_help = "Examples:\n  vetwatch route test --event vetting.denied")]
    Route(route::Command),
    /// Messages: show them, send them again, put them away
    #[command(
        subcommand,
        after_help = "Examples:\n  vetwatch deliveries list --state dead\n  vetwatch deliveries redrive --endpoint crm"
    )]
    Deliveries(deliveries::Command),
    /// Submit a qualification to Microsoft for review (App+User)
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
    /// The codes for `GovernmentCommunityCloud`, and what is left
    #[command(after_help = "Examples:\n  vetwatch validation-codes\n  vetwatch validation-codes --partner amer --json")]
    ValidationCodes(validation::Args),
    /// Copy the database into a file, and check the copy
    ///
    /// The daemon may run meanwhile, and waits for nothing. The file gets its name once it is complete and checked; a
    /// backup of that name is replaced, any other file is not.
    #[command(after_help = "Examples:\n  sudo vetwatch backup /root/vetwatch.db\n  \
                            sudo vetwatch backup /srv/analysts/vetwatch.db --for-readers")]
    Backup(backup::BackupArgs),
    /// Put a backup in the place of the database
    ///
    /// No daemon may run. The backup is copied and checked first, and stays where it is; the old database is kept under
    /// another name beside the new one.
    #[command(after_help = "Examples:\n  sudo systemctl stop vetwatch\n  \
                            sudo vetwatch restore /var/lib/vetwatch/backups/vetwatch-2026-11-28T013000Z.db\n  \
                            sudo systemctl start vetwatch")]
    Restore(backup::RestoreArgs),
    /// Run the simulated Partner Center alone, for rehearsals
    #[command(
        after_help = "Examples:\n  vetwatch sandbox\n  vetwatch sandbox --listen 127.0.0.1:8765 --customers 50 --in-review 5 --settled 20"
    )]
    Sandbox(sandbox::Args),
    /// Collect what another person needs to help, without secrets
    ///
    /// One file without customers' names, unless they are asked for.
    /// Versions, the configuration without secrets, what `check` and `status` say, figures of the database, and the
    /// newest 2000 lines of the journal. Works without a daemon, and with a broken configuration or database: what could
    /// not be had is named.
    #[command(after_help = "Examples:\n  sudo vetwatch support-bundle /tmp/vetwatch-support.tar.gz\n  \
                            sudo vetwatch support-bundle ./support.tar.gz --with-customers")]
    SupportBundle(support_bundle::Args),
    /// Print the completions for a shell
    ///
    /// The script asks `vetwatch` for what it offers: partners, endpoints, customers, messages. After an update write it
    /// anew.
    #[command(
        after_help = "Examples:\n  vetwatch completions bash > /usr/share/bash-completion/completions/vetwatch\n  \
                            vetwatch completions zsh > /usr/share/zsh/vendor-completions/_vetwatch\n  \
                            vetwatch completions fish > /usr/share/fish/vendor_completions.d/vetwatch.fish"
    )]
    Completions { shell: Shell },
    /// Write the manual pages into a directory
    ///
    /// vetwatch(1), one for each command, vetwatch.toml(5) and vetwatch(7), below DIR as `man` looks for them.
    #[command(after_help = "Examples:\n  sudo vetwatch man /usr/local/share/man\n  \
                            vetwatch man ./man && man -M ./man vetwatch.toml")]
    Man {
        /// The directory for the pages; `man1`, `man5` and `man7` are made in it
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

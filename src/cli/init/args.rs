//! The arguments of `init`: each question is one of them.

use std::path::PathBuf;

use serde::Serialize;

const ENTRA: &str = "Entra ID and Partner Center";
const MAIL: &str = "Mail";
const MORE: &str = "More";

/// The application's credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    ClientSecret,
    Certificate,
    ManagedIdentity,
    WorkloadIdentity,
}

/// Microsoft's clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cloud {
    Commercial,
    UsGovernment,
    China,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    Starttls,
    Implicit,
    None,
}

/// What is told beside the mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chat {
    None,
    Teams,
    Slack,
    Webhook,
}

#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Your partner tenant: its domain or its GUID
    #[arg(long, value_name = "TENANT", help_heading = ENTRA)]
    pub tenant: Option<String>,
    /// The application's client id
    #[arg(long, value_name = "GUID", help_heading = ENTRA)]
    pub client_id: Option<String>,
    /// The application's credential [default: client-secret]
    #[arg(long, value_name = "KIND", value_enum, help_heading = ENTRA)]
    pub credential: Option<Kind>,
    /// The file with the client secret; `-` for stdin
    #[arg(long, value_name = "FILE", help_heading = ENTRA)]
    pub client_secret_file: Option<PathBuf>,
    /// The day on which the client secret ends, such as 2027-01-31
    #[arg(long, value_name = "DAY", help_heading = ENTRA)]
    pub client_secret_expires: Option<String>,
    /// The certificate, in PEM
    #[arg(long, value_name = "FILE", help_heading = ENTRA)]
    pub certificate_file: Option<PathBuf>,
    /// Its key, if it is not in the same file
    #[arg(long, value_name = "FILE", help_heading = ENTRA)]
    pub private_key_file: Option<PathBuf>,
    /// The client id of the user-assigned managed identity
    #[arg(long, value_name = "GUID", help_heading = ENTRA)]
    pub managed_identity_client_id: Option<String>,
    /// The file into which the platform writes its token; it is not copied
    #[arg(long, value_name = "FILE", help_heading = ENTRA)]
    pub federated_token_file: Option<PathBuf>,
    /// Microsoft's cloud [default: commercial]
    #[arg(long, value_enum, conflicts_with_all = ["api_url", "login_url"], help_heading = ENTRA)]
    pub cloud: Option<Cloud>,
    /// Partner Center's address, for a rehearsal with `vetwatch sandbox`
    #[arg(long, value_name = "URL", requires = "login_url", help_heading = ENTRA)]
    pub api_url: Option<String>,
    /// The login server's address, for a rehearsal
    #[arg(long, value_name = "URL", requires = "api_url", help_heading = ENTRA)]
    pub login_url: Option<String>,
    /// The metadata service's address, for a rehearsal
    #[arg(long, value_name = "URL", help_heading = ENTRA)]
    pub imds_url: Option<String>,
    /// The partner's name in messages and tables [default: the first part of a tenant's domain]
    #[arg(id = "partner_name", long = "partner", value_name = "NAME", help_heading = ENTRA)]
    pub partner: Option<String>,
    /// The mail server's host
    #[arg(long, value_name = "HOST", help_heading = MAIL)]
    pub smtp_host: Option<String>,
    /// Its port [default: 587, 465 or 25, whichever answers]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), help_heading = MAIL)]
    pub smtp_port: Option<u16>,
    /// Its encryption; none only on this machine [default: what the server speaks]
    #[arg(long, value_name = "TLS", value_enum, help_heading = MAIL)]
    pub smtp_tls: Option<Tls>,
    /// Authorities that signed its certificate, in PEM, beside the system's
    #[arg(long, value_name = "FILE", help_heading = MAIL)]
    pub smtp_ca_file: Option<PathBuf>,
    /// The login; leave it out for a relay that wants none
    #[arg(long, value_name = "NAME", help_heading = MAIL)]
    pub smtp_username: Option<String>,
    /// The file with its password; `-` for stdin
    #[arg(long, value_name = "FILE", help_heading = MAIL)]
    pub smtp_password_file: Option<PathBuf>,
    /// For Exchange Online: the client id of the application that sends as the mailbox `--smtp-username`
    #[arg(long, value_name = "GUID", conflicts_with = "smtp_password_file", help_heading = MAIL)]
    pub smtp_client_id: Option<String>,
    /// The file with its client secret; `-` for stdin. Not needed if it is the application that reads
    #[arg(long, value_name = "FILE", requires = "smtp_client_id", help_heading = MAIL)]
    pub smtp_client_secret_file: Option<PathBuf>,
    /// The sender's address
    #[arg(long, value_name = "ADDRESS", help_heading = MAIL)]
    pub from: Option<String>,
    /// Who gets the verdicts; several times, or with commas
    // By the ids `to` and `partner` the completions offer what the configuration has.
    #[arg(id = "recipients", long = "to", value_name = "ADDRESS", help_heading = MAIL)]
    pub to: Vec<String>,
    /// Who is told about trouble with vetwatch itself; likewise
    #[arg(long, value_name = "ADDRESS", help_heading = MAIL)]
    pub operators: Vec<String>,
    /// Also tell a chat or a webhook [default: none]
    #[arg(long, value_name = "KIND", value_enum, help_heading = MORE)]
    pub chat: Option<Chat>,
    /// The file with its URL; `-` for stdin
    #[arg(long, value_name = "FILE", help_heading = MORE)]
    pub chat_url_file: Option<PathBuf>,
    /// The time zone of mails and of working days [default: this machine's]
    #[arg(long, value_name = "ZONE", help_heading = MORE)]
    pub timezone: Option<String>,
    /// The database [default: below /var/lib/vetwatch; of another configuration, beside it]
    #[arg(long, value_name = "FILE", help_heading = MORE)]
    pub database: Option<PathBuf>,
    /// Replace an existing configuration; the old one is kept as .bak
    #[arg(long, help_heading = MORE)]
    pub force: bool,
    /// Write the files without trying the answers, and send no test
    #[arg(long, help_heading = MORE)]
    pub no_check: bool,
    /// Print the commands that register the application in Entra ID, and end
    #[arg(long, help_heading = MORE)]
    pub entra_commands: bool,
}

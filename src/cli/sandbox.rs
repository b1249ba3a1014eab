//! `vetwatch sandbox`: runs the simulated Partner Center alone, for rehearsals.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::cli::failure::error_chain;
use crate::cli::mime::DecodedMail;
use crate::cli::{Context, Exit, Failure, run};
use crate::daemon::Signals;
use crate::sandbox::smtp_server::SmtpServer;
use crate::sandbox::{Bulk, Error, Options, RetryAfter, Sandbox, ThrottleSettings, Window};
use crate::text;

const FOR_EVER: Duration = Duration::from_hours(24 * 365);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A loopback address; without it a free port of 127.0.0.1
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Number of invented customers; 0, or as many as the next two options need
    #[arg(long, value_name = "N")]
    pub customers: Option<usize>,
    /// Number of them with Education in review
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub in_review: usize,
    /// Number of them with Education approved or denied
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub settled: usize,
    /// Lifetime of an access token
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub token_lifetime: Duration,
    /// Answer 429 beyond this many requests a minute
    #[arg(long, value_name = "RPM", value_parser = clap::value_parser!(u32).range(1..))]
    pub throttle: Option<u32>,
    /// Take the client secret from this file; do not use a real one
    #[arg(long, value_name = "FILE")]
    pub client_secret_file: Option<PathBuf>,
}

pub(super) async fn sandbox(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut signals = Signals::of_program().map_err(|error| run::without_signals(&error))?;
    let needed = args.in_review.saturating_add(args.settled);
    let count = args.customers.unwrap_or(needed);
    if count < needed {
        return Err(Failure::new(Exit::Usage, format!("--customers {count} is too few"))
            .because(format!("{} in review and {} settled are {needed}", args.in_review, args.settled)));
    }
    let usual = Options::default();
    let client_secret = match &args.client_secret_file {
        Some(file) => secret(file)?,
        None => usual.client_secret.clone(),
    };
    let options = Options {
        listen: args.listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        client_secret,
        token_lifetime: args.token_lifetime,
        throttle: args.throttle.map(|requests_per_minute| ThrottleSettings {
            requests_per_minute,
            window: Window::default(),
            retry_after: RetryAfter::default(),
        }),
        ..usual
    };
    let sandbox = Sandbox::start(options.clone(), context.clock.clone()).await.map_err(failure)?;
    let made = sandbox.add_customers(Bulk { count, in_review: args.in_review, settled: args.settled });
    let mail = SmtpServer::start(context.clock.clone())
        .await
        .map_err(|error| Failure::new(Exit::Failed, "cannot start the mail server").because(error.to_string()))?;
    say(context, &sandbox, &mail, &options, args.client_secret_file.as_deref(), made.len())?;
    tokio::select! {
        shown = show_mails(context, &mail) => shown?,
        () = signals.end() => {}
    }
    tokio::select! {
        () = sandbox.shutdown() => {}
        () = signals.end() => {}
    }
    Ok(Exit::Done)
}

/// Shows each mail that arrives, for ever.
async fn show_mails(context: &Context, mail: &SmtpServer) -> Result<(), Failure> {
    let mut seen = 0;
    loop {
        let Ok(arrived) = mail.wait_for_those(seen + 1, FOR_EVER, |mail| mail.acknowledged).await else { continue };
        for mail in arrived.iter().skip(seen).filter(|_| !context.json) {
            let subject = DecodedMail::read(&mail.text()).subject;
            context.out.line(&text::terminal(&format!("mail to {}: {subject}", mail.to.join(", "))))?;
        }
        seen = arrived.len();
    }
}

fn failure(error: Error) -> Failure {
    match error {
        Error::NotLoopback(_) => Failure::new(Exit::Usage, error.to_string()),
        error => Failure::new(Exit::Failed, "cannot start")
            .because(error_chain(&error))
            .advise("without --listen it takes a free port; another program, or another sandbox, may have this one"),
    }
}

fn secret(file: &Path) -> Result<String, Failure> {
    let failed = |why: String| Failure::new(Exit::Failed, format!("cannot use {}", file.display())).because(why);
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.trim().is_empty() || secret.contains('\n') {
        return Err(failed("it must hold one line, the secret".to_owned()));
    }
    Ok(secret.to_owned())
}

/// Shows its address, the accepted credentials, and the commands to try. A secret from a file is not repeated.
fn say(
    context: &Context,
    sandbox: &Sandbox,
    mail: &SmtpServer,
    options: &Options,
    secret_file: Option<&Path>,
    count: usize,
) -> Result<(), Failure> {
    let Options { tenant, client_id, client_secret, .. } = options;
    let url = sandbox.url();
    if context.json {
        let mut object = json!({
            "url": url, "tenant": tenant, "client_id": client_id, "control": format!("{url}control"), "customers": count,
            "mail_server": mail.address(),
        });
        match secret_file {
            Some(file) => object["client_secret_file"] = json!(file),
            None => object["client_secret"] = json!(client_secret),
        }
        return context.out.json_line(&object);
    }
    let style = context.out.style;
    let path = secret_file.unwrap_or(Path::new("sandbox-secret"));
    let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned();
    let (secret, write) = if secret_file.is_some() {
        (format!("the one in {file}"), String::new())
    } else {
        (
            client_secret.clone(),
            format!("\nThe secret in its file:\n  (umask 077; echo {client_secret} > sandbox-secret)\n"),
        )
    };
    // A shell's word.
    let quoted = format!("'{}'", file.replace('\'', "'\\''"));
    let (pipe, given) = match secret_file {
        Some(_) => (String::new(), quoted),
        None => (format!("echo {client_secret} | "), "-".to_owned()),
    };
    let customers = match count {
        0 => "no customers yet".to_owned(),
        1 => "one customer".to_owned(),
        count => format!("{count} customers"),
    };
    let page = include_str!("sandbox.txt")
        .replace("{url}", url.as_str())
        .replace("{tenant}", tenant)
        .replace("{client_id}", client_id)
        .replace("{customers}", &customers)
        .replace("{new}", "11111111-2222-4333-8444-555555555555")
        .replace("{mail_host}", &mail.address().ip().to_string())
        .replace("{mail_port}", &mail.address().port().to_string())
        .replace("{init}", &style.heading("A configuration for it, in another terminal"))
        .replace("{pipe}", &pipe)
        .replace("{given}", &given)
        .replace("{configuration}", &style.heading("Or into a configuration that there is"))
        .replace("{rehearsal}", &style.heading("To rehearse"))
        .replace("{all}", &style.heading("All that can be done"))
        .replace("{write}", &write)
        .replace("{secret}", &secret)
        .replace("{file}", &toml::Value::from(file).to_string());
    context.out.write_exact(&page)
}

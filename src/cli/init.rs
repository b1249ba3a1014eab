//! `vetwatch init`: asks for what the configuration needs, tries each answer, writes the files, and sends a test.
//!
//! Nothing is written before the last answer: until then every answer is in memory, and Ctrl-C leaves nothing behind.

mod args;
mod ask;
mod draft;
mod entra;
mod finish;
mod mail;
mod place;
mod wizard;

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde_json::json;

pub(super) use self::args::Args;
use self::args::{Cloud, Kind};
use self::ask::Asker;
use self::draft::{CERTIFICATE, CHAT_URL, CLIENT_SECRET, Draft, PRIVATE_KEY, SMTP_CLIENT_SECRET, SMTP_PASSWORD};
use self::place::Place;
use self::wizard::Wizard;
use crate::cli::{Context, Exit, Failure};

/// Larger than any key or certificate.
const SECRET_MAX_BYTES: u64 = 64 * 1024;
const UNCHANGED: &str = "nothing was written";

pub(super) async fn init(context: &Context, args: Args) -> Result<Exit, Failure> {
    if args.entra_commands {
        return print_commands(context, &args);
    }
    let mut place = Place::new(&context.config_path, args.database.as_deref());
    place.force = args.force;
    place.check(args.force)?;
    let draft = given(&args, &place)?;
    let asker = Asker::new(context.json);
    let mut wizard = Wizard { context, asker, place, draft, steps: Vec::new(), tries: !args.no_check };
    wizard.settle_options()?;
    if wizard.asker.asks {
        wizard.asker.say(&format!(
            "This writes {}. Enter alone takes what is in brackets; Ctrl-C ends, and nothing is written.",
            wizard.place.config.display()
        ));
    } else {
        wizard.complete()?;
    }
    wizard.tenant().await?;
    wizard.application().await?;
    wizard.mail_server(&args).await?;
    wizard.addresses()?;
    wizard.chat()?;
    wizard.timezone()?;
    wizard.finish().await
}

/// The answers on the command line.
fn given(args: &Args, place: &Place) -> Result<Draft, Failure> {
    let files =
        [&args.client_secret_file, &args.smtp_password_file, &args.smtp_client_secret_file, &args.chat_url_file];
    if files.into_iter().flatten().filter(|file| *file == Path::new("-")).count() > 1 {
        return Err(Failure::new(Exit::Usage, "only one secret can come from stdin")
            .advise("put the others into files, and delete those afterwards"));
    }
    if args.smtp_client_id.is_some() && args.cloud.is_some_and(|cloud| cloud != Cloud::Commercial) {
        return Err(Failure::new(Exit::Usage, "--smtp-client-id is for the commercial cloud")
            .because("the address of another cloud's mail server and its scope are not known here")
            .advise("leave it out, and write the section [smtp.office.oauth] by hand: docs/email.md"));
    }
    let credential = args.credential.or(match args {
        _ if args.certificate_file.is_some() => Some(Kind::Certificate),
        _ if args.managed_identity_client_id.is_some() => Some(Kind::ManagedIdentity),
        _ if args.federated_token_file.is_some() => Some(Kind::WorkloadIdentity),
        _ if args.client_secret_file.is_some() => Some(Kind::ClientSecret),
        _ => None,
    });
    // Another directory than the configuration's would be meant otherwise.
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let mut draft = Draft {
        partner: args.partner.clone(),
        tenant: args.tenant.clone(),
        client_id: args.client_id.clone(),
        credential,
        client_secret_expires: args.client_secret_expires.clone(),
        managed_identity_client_id: args.managed_identity_client_id.clone(),
        federated_token_file: args.federated_token_file.as_ref().map(absolute),
        cloud: args.cloud,
        api_url: args.api_url.clone(),
        login_url: args.login_url.clone(),
        imds_url: args.imds_url.clone(),
        smtp_host: args.smtp_host.clone(),
        smtp_port: args.smtp_port,
        smtp_tls: args.smtp_tls,
        smtp_ca_file: args.smtp_ca_file.as_ref().map(absolute),
        smtp_username: args.smtp_username.clone(),
        smtp_client_id: args.smtp_client_id.clone(),
        from: args.from.clone(),
        to: args.to.iter().flat_map(|text| addresses(text)).collect(),
        operators: args.operators.iter().flat_map(|text| addresses(text)).collect(),
        chat: args.chat,
        timezone: args.timezone.clone(),
        database: match &args.database {
            Some(path) => Some(path.display().to_string()),
            None if place.is_the_services => None,
            None => Some("vetwatch.db".to_owned()),
        },
        secrets: Vec::new(),
    };
    for (name, file) in [
        (CLIENT_SECRET, &args.client_secret_file),
        (CERTIFICATE, &args.certificate_file),
        (PRIVATE_KEY, &args.private_key_file),
        (SMTP_PASSWORD, &args.smtp_password_file),
        (SMTP_CLIENT_SECRET, &args.smtp_client_secret_file),
        (CHAT_URL, &args.chat_url_file),
    ] {
        if let Some(file) = file {
            draft.set_secret(name, read_secret(file)?);
        }
    }
    Ok(draft)
}

/// Reads a secret from a file, or from stdin.
fn read_secret(file: &Path) -> Result<SecretString, Failure> {
    let failed = |why: String| {
        let exit = Exit::Usage;
        Failure::new(exit, format!("cannot read the secret in {}", file.display())).because(why).advise(UNCHANGED)
    };
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(SECRET_MAX_BYTES).read_to_string(&mut text)
    } else {
        match fs::metadata(file) {
            Ok(found) if found.is_dir() => return Err(failed("it is a directory".to_owned())),
            _ => fs::File::open(file).and_then(|opened| opened.take(SECRET_MAX_BYTES).read_to_string(&mut text)),
        }
    };
    read.map_err(|error| failed(error.to_string()))?;
    let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() { Err(failed("it is empty".to_owned())) } else { Ok(text.into()) }
}

fn print_commands(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let tenant = args.tenant.as_deref().unwrap_or("contoso.onmicrosoft.com");
    let is_word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if tenant.is_empty() || !is_word(tenant) {
        return Err(Failure::new(
            Exit::Usage,
            "--tenant is neither a GUID nor a domain such as contoso.onmicrosoft.com",
        ));
    }
    let commands = entra::commands(tenant, args.credential.unwrap_or(Kind::ClientSecret), args.cloud, None);
    if context.json {
        context.out.json(&json!({"commands": commands.lines().collect::<Vec<_>>()}))?;
    } else {
        context.out.write_exact(&commands)?;
    }
    Ok(Exit::Done)
}

/// Splits at commas.
fn addresses(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect()
}

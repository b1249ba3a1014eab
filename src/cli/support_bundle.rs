//! `vetwatch support-bundle`: what another person needs to help, in one file, without secrets.

mod configuration;
mod replaced;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::cli::{Context, Exit, Failure, check, status};
use crate::config::{CredentialDirs, default_database};
use crate::store::Store;
use crate::time::Timestamp;
use crate::{redact, text};
use replaced::Replaced;

/// The newest lines of the log.
const LOG_LINES: u32 = 2000;
/// A part that takes longer is left out.
const MAX_WAIT: Duration = Duration::from_mins(2);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to write, a `.tar.gz`; it must not exist
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// Show customers' names, domains, contacts and tags; otherwise only their ids
    #[arg(long)]
    pub with_customers: bool,
}

/// Parts that name customers. Left out if it is not known who is one.
const NAMES: [&str; 3] = ["status.txt", "status.json", "log.txt"];

/// A file in the bundle: its content, or why there is none.
type Part = (&'static str, Result<String, String>);

pub(super) async fn write(context: &Context, args: &Args) -> Result<Exit, Failure> {
    // First, because a command that is run as root becomes another user below.
    let file = create(&args.file)?;
    let parts = parts(context, args).await;
    let missing: Vec<_> = parts.iter().filter_map(|(name, part)| Some((*name, part.as_ref().err()?.clone()))).collect();
    pack(file, &parts, context.now().as_millis()).map_err(|error| {
        // Half a bundle helps nobody.
        let _ = std::fs::remove_file(&args.file);
        Failure::new(Exit::Failed, format!("cannot write {}", args.file.display())).because(error.to_string())
    })?;
    if context.json {
        let missing = missing.iter().map(|(name, why)| json!({ "part": name, "why": why }));
        context.out.json(&json!({
            "file": args.file,
            "parts": parts.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "missing": missing.collect::<Vec<_>>(),
        }))?;
        return Ok(Exit::Done);
    }
    let mut page = format!("wrote {}\n", text::terminal(&args.file.display().to_string()));
    for (name, why) in missing {
        let _ = writeln!(page, "  without {name}: {}", text::terminal(why.lines().next().unwrap_or_default()));
    }
    let customers = if args.with_customers {
        "Customers are named in it."
    } else {
        "Customers are in it by their ids only, and people's mail addresses are hidden."
    };
    let _ =
        writeln!(page, "No secret is in it. {customers} Look through it before you send it: `tar -xOzf FILE | less`.");
    context.out.write(&page)?;
    Ok(Exit::Done)
}

fn create(path: &Path) -> Result<File, Failure> {
    File::options().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        let failure = Failure::new(Exit::Failed, format!("cannot write {}", path.display()));
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return failure.because("there is a file of this name").advise("name another one");
        }
        failure.because(error.to_string())
    })
}

async fn parts(context: &Context, args: &Args) -> Vec<Part> {
    let credentials = CredentialDirs::from_env();
    // Both register secrets: those in the file, and those in the files that it names.
    let configuration = configuration::redacted(&context.config_path, &credentials, args.with_customers);
    let (configuration, addresses) = match configuration {
        Ok((text, addresses)) => (Ok(text), addresses),
        Err(why) => (Err(why), Vec::new()),
    };
    let checked = check::page(&context.config_path, &credentials);
    let log = tokio::time::timeout(MAX_WAIT, tokio::task::spawn_blocking(log));
    let log = match log.await {
        Ok(Ok(log)) => log,
        _ => Err("journalctl did not end".to_owned()),
    };
    let outline = context.outline();
    let database = match &outline {
        Ok(outline) => outline.database.clone(),
        Err(_) => default_database().to_owned(),
    };
    let store = context.reading_store(&database).await.map_err(|failure| describe(&failure));
    let (figures, customers) = match &store {
        Ok(store) => (within(figures(store)).await, words(store, args.with_customers).await),
        Err(why) => (Err(why.clone()), if args.with_customers { Ok(Vec::new()) } else { Err(why.clone()) }),
    };
    let known = customers.as_ref().map(|_| ()).map_err(Clone::clone);
    let addresses = addresses.into_iter().map(|address| (configuration::hidden_address(&address), address));
    let replaced = Replaced::new(customers.unwrap_or_default().into_iter().chain(addresses));
    let status = match (&outline, &store) {
        (Ok(outline), Ok(store)) => {
            let shown = status::page_and_json(outline, store, context.now());
            within(async { shown.await.map_err(|failure| describe(&failure)) }).await
        }
        (Err(failure), _) => Err(describe(failure)),
        (_, Err(why)) => Err(why.clone()),
    };
    let (page, json) = match status {
        Ok((page, json)) => (Ok(page), Ok(without_customers(json, args.with_customers))),
        Err(why) => (Err(why.clone()), Err(why)),
    };
    let versions = versions(&store, context.now()).await;
    let mut parts: Vec<Part> = vec![
        ("versions.txt", Ok(versions)),
        ("configuration.toml", configuration),
        ("check.txt", Ok(checked)),
        ("status.txt", page),
        ("status.json", json),
        ("database.json", figures),
        ("log.txt", log),
    ];
    for (name, part) in &mut parts {
        let shown = |text: &str| match &replaced {
            Ok(replaced) => Ok(replaced.hide(&redacted(text))),
            Err(why) => Err(why.clone()),
        };
        *part = match (&*part, &known) {
            (Ok(_), Err(why)) if NAMES.contains(name) => Err(shown(&format!(
                "customers' names cannot be taken out of it, because the database cannot be read ({why})"
            ))
            .unwrap_or_else(|why| why)),
            (Ok(text), _) => shown(text),
            (Err(why), _) => Err(shown(why).unwrap_or_else(|why| why)),
        };
    }
    parts.insert(0, ("README.txt", Ok(contents(&parts, args.with_customers))));
    parts
}

/// Line by line, because a line in which nothing can be told apart is dropped as a whole.
fn redacted(text: &str) -> String {
    text.lines().map(|line| redact::words(line) + "\n").collect()
}

fn describe(failure: &Failure) -> String {
    std::iter::once(failure.message()).chain(failure.list.iter().cloned()).collect::<Vec<_>>().join("\n")
}

async fn within<T>(part: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let ended = tokio::time::timeout(MAX_WAIT, part).await;
    ended.unwrap_or_else(|_| Err(format!("it took longer than {} s", MAX_WAIT.as_secs())))
}

async fn figures(store: &Store) -> Result<String, String> {
    let figures = store.figures().await.map_err(|error| describe(&Failure::from(error)))?;
    Ok(serde_json::to_string_pretty(&figures).unwrap_or_default())
}

/// Empty if customers may be shown.
async fn words(store: &Store, shown: bool) -> Result<Vec<(String, String)>, String> {
    if shown {
        return Ok(Vec::new());
    }
    store.customer_words().await.map_err(|error| describe(&Failure::from(error)))
}

/// Each row about a customer keeps its id alone.
fn without_customers(mut json: Value, shown: bool) -> String {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(object) => {
                if object.contains_key("customer_id") {
                    for key in ["customer_name", "customer_domain", "name", "domain", "contact", "tags"] {
                        object.remove(key);
                    }
                }
                object.values_mut().for_each(strip);
            }
            Value::Array(all) => all.iter_mut().for_each(strip),
            _ => {}
        }
    }
    if !shown {
        strip(&mut json);
    }
    text::inert_json(&serde_json::to_string_pretty(&json).unwrap_or_default())
}

async fn versions(store: &Result<Store, String>, now: Timestamp) -> String {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    let unknown = |error: std::io::Error| format!("unknown: {error}");
    let os = read("/etc/os-release").map(|text| {
        let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        name.unwrap_or("unknown").trim_matches('"').to_owned()
    });
    let sqlite = match store {
        Ok(store) => store.sqlite_version().await.unwrap_or_else(|error| format!("unknown: {error}")),
        Err(_) => "unknown: the database cannot be opened".to_owned(),
    };
    format!(
        "vetwatch {}\nSQLite {sqlite}\nkernel {}\nsystem {}\narchitecture {}\nwritten {}\n",
        env!("CARGO_PKG_VERSION"),
        read("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
        os.unwrap_or_else(unknown),
        std::env::consts::ARCH,
        now,
    )
}

/// The newest lines of the service's journal, with the fields of each.
fn log() -> Result<String, String> {
    let lines = LOG_LINES.to_string();
    let read =
        Command::new("journalctl").args(["-u", "vetwatch", "-n", &lines, "--no-pager", "-q", "-o", "json"]).output();
    let read = read.map_err(|error| {
        format!("journalctl cannot be run ({error}): the log is where stderr of `vetwatch run` goes")
    })?;
    if !read.status.success() {
        let why = String::from_utf8_lossy(&read.stderr);
        return Err(format!("journalctl failed: {}", text::line(&why, 300)));
    }
    let entries: Vec<Value> =
        String::from_utf8_lossy(&read.stdout).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if entries.is_empty() {
        return Err("the journal has no line of the unit vetwatch that this user may read".to_owned());
    }
    Ok(entries.iter().map(log_line).collect())
}

/// `2026-11-21T09:14:03Z 4 crm did not take a message … ENDPOINT=crm`
fn log_line(entry: &Value) -> String {
    // The journal writes what is not plain text as an array of bytes.
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => String::new(),
    };
    let field = |name: &str| entry.get(name).map(shown).unwrap_or_default();
    let at = field("__REALTIME_TIMESTAMP").parse().ok().and_then(chrono::DateTime::from_timestamp_micros);
    let at = at.map(|at| at.format("%FT%T%.3fZ").to_string()).unwrap_or_default();
    let mut line = format!("{at} {} {}", field("PRIORITY"), field("MESSAGE"));
    for (name, value) in entry.as_object().into_iter().flatten() {
        if let Some(name) = name.strip_prefix("F_") {
            let _ = write!(line, " {name}={}", shown(value));
        }
    }
    text::terminal(&line).into_owned() + "\n"
}

fn contents(parts: &[Part], with_customers: bool) -> String {
    let mut page = String::from(
        "A support bundle of vetwatch. Secrets are taken out, and values of the configuration that could be one are \
         [hidden].\n",
    );
    page += if with_customers { "Customers are named.\n\n" } else { "Customers are shown by their ids only.\n\n" };
    for (name, part) in parts {
        let _ = match part {
            Ok(_) => writeln!(page, "{name}"),
            Err(why) => writeln!(page, "{name} is missing: {why}"),
        };
    }
    page
}

fn pack(file: File, parts: &[Part], now_ms: i64) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, part) in parts {
        let Ok(text) = part else { continue };
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now_ms / 1000).unwrap_or_default());
        archive.append_data(&mut header, format!("vetwatch-support/{name}"), text.as_bytes())?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()
}

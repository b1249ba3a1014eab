//! `vetwatch reload`: has the daemon take over the configuration, and waits for the outcome.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cli::{Context, Exit, Failure};
use crate::config::{self, CredentialDirs, UNIT_PREFIX};
use crate::instance_lock;
use crate::standby::host_state::{self, HostState, Role};
use crate::store::{ConfigurationState, Store};

/// Less than the service manager waits.
const MAX_WAIT: Duration = Duration::from_secs(90);
/// Where systemd puts the credentials of the unit.
const LOADED: &str = "/run/credentials/vetwatch.service";
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn reload(context: &Context) -> Result<Exit, Failure> {
    let (database, unusable) = match context.outline() {
        Ok(outline) => (outline.database, None),
        // The daemon is told all the same: it says in `status` and to the service manager that the file is refused.
        Err(failure) => (config::default_database().to_owned(), Some(failure)),
    };
    let host = host_state::read(&database);
    if let Some(host) = host.filter(|host| host.role != Role::Leader && !host.is_old(context.now())) {
        return of_standby(context, &host);
    }
    // Before root's rights are dropped.
    let newer = newer_than_loaded();
    match ask(context, &database).await {
        Ok(state) => report(context, &state, &newer),
        Err(failure) => Err(unusable.unwrap_or(failure)),
    }
}

/// A host that stands by has nothing to reload: it reads its configuration again and again, which takes effect when it leads.
/// What matters until then is whether it could.
fn of_standby(context: &Context, host: &HostState) -> Result<Exit, Failure> {
    let newer = newer_than_loaded();
    let config = context.config()?;
    if context.json {
        let warnings = config.warnings.len();
        context.out.json(&json!({ "stands_by": host.host, "warnings": warnings, "needs_restart_for": newer }))?;
        return Ok(Exit::Done);
    }
    for warning in &config.warnings {
        context.out.line(&warning.to_string())?;
    }
    context.out.line(&format!(
        "{} is well. This host ({}) stands by, and reads it when it leads",
        context.config_path.display(),
        host.host
    ))?;
    if !newer.is_empty() {
        context.out.line(&restart_for(&newer))?;
    }
    Ok(Exit::Done)
}

/// Asks the daemon, and returns its state after the reload.
async fn ask(context: &Context, database: &Path) -> Result<ConfigurationState, Failure> {
    let failed = |why: &str| Failure::new(Exit::Failed, "cannot reload the configuration").because(why);
    let store = context.reading_store(database).await.map_err(|failure| match failure.exit {
        Exit::NotFound => Failure::new(Exit::Configuration, "cannot reload the configuration")
            .because(format!("{}, so no daemon runs on it", failure.what))
            .advise("if `path` in [database] was changed: that needs a restart (`systemctl restart vetwatch`)"),
        _ => failure,
    })?;
    let daemon = instance_lock::daemon(database).ok_or_else(|| match instance_lock::daemon_runs(database) {
        Some(false) => failed(&format!("no daemon runs on {}", database.display())).advise(
            "`systemctl start vetwatch` starts it with the configuration as it is; if `path` in [database] was changed \
                 while it runs: `systemctl restart vetwatch`",
        ),
        Some(true) => failed(
            "the daemon cannot be found: it starts just now, it runs in another container, this user may not know its \
             process id, or another command holds its lock",
        )
        .advise("run the command where the daemon runs, as root or as the daemon's user"),
        None => failed("this user may not know whether a daemon runs").advise("run the command as root"),
    })?;
    // Read before the daemon is asked: its reload may be another one's by then.
    let begun = state(&store, database).await?.begun;
    kill(Pid::from_raw(daemon), Signal::SIGHUP).map_err(|error| {
        failed(&format!("process {daemon} cannot be signalled: {error}"))
            .advise("run the command as root, or as the daemon's user")
    })?;
    let asked_at = Instant::now();
    while asked_at.elapsed() < MAX_WAIT {
        let now = state(&store, database).await?;
        if now.ended > begun {
            return Ok(now);
        }
        if instance_lock::daemon(database).is_some_and(|found| found != daemon)
            || instance_lock::daemon_runs(database) == Some(false)
        {
            return Err(failed("the daemon ended before it had reloaded")
                .advise("`journalctl -u vetwatch` says why; its next start reads the configuration anew"));
        }
        sleep(LOOK_EVERY).await;
    }
    let why = format!("the daemon has not answered for {}", humantime::format_duration(MAX_WAIT));
    Err(Failure::new(Exit::TryAgain, "the reload has not ended").because(why).advise(
        "it goes on: `journalctl -u vetwatch` has the outcome. While the database cannot be written to, nothing is reloaded",
    ))
}

async fn state(store: &Store, database: &Path) -> Result<ConfigurationState, Failure> {
    store.read_newest_rows().await?;
    store.configuration().await?.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("no daemon has run on {} yet", database.display()))
            .advise("`systemctl start vetwatch`")
    })
}

/// Files of credentials that the service does not have as they are now: it was given copies when it started. Empty for
/// a user who may not look.
fn newer_than_loaded() -> Vec<String> {
    let changed_at = |path: PathBuf| path.metadata().and_then(|found| found.modified()).ok();
    let loaded = Path::new(LOADED);
    let names = std::fs::read_dir(CredentialDirs::FALLBACK).into_iter().flatten().filter_map(Result::ok);
    let names = names.filter(|_| loaded.is_dir()).filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let copied_at = changed_at(loaded.join(format!("{UNIT_PREFIX}{name}")));
        (changed_at(entry.path()) > copied_at).then_some(name)
    });
    names.collect()
}

fn restart_for(newer: &[String]) -> String {
    format!(
        "the service has older copies of {} in {}: `systemctl restart vetwatch` gives it the new ones, a reload cannot",
        newer.join(", "),
        CredentialDirs::FALLBACK
    )
}

fn report(context: &Context, state: &ConfigurationState, newer: &[String]) -> Result<Exit, Failure> {
    if state.refused_at.is_some() {
        let file: PathBuf = context.config_path.clone();
        return Err(Failure::new(Exit::Configuration, format!("the daemon refused {}", file.display()))
            .because(format!("the configuration of {} goes on", state.loaded_at_in_words()))
            .listing(state.lines.iter().cloned())
            .advise(if newer.is_empty() {
                "correct it, then `vetwatch reload` again; `vetwatch check` tries it without the daemon".to_owned()
            } else {
                restart_for(newer)
            }));
    }
    if context.json {
        context
            .out
            .json(&json!({ "loaded_at": state.loaded_at, "changes": state.lines, "needs_restart_for": newer }))?;
        return Ok(Exit::Done);
    }
    let mut text = match state.lines.len() {
        0 => "reloaded: nothing has changed\n".to_owned(),
        1 => "reloaded, with 1 change:\n".to_owned(),
        n => format!("reloaded, with {n} changes:\n"),
    };
    for line in &state.lines {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    if !newer.is_empty() {
        text.push_str(&restart_for(newer));
        text.push('\n');
    }
    context.out.write(&text)?;
    Ok(Exit::Done)
}

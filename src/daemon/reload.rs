//! Reloads: the configuration is read and checked as a whole, its parts are built, and then it takes over at once. On any
//! problem the one in force goes on. One reload runs at a time; what is asked for meanwhile is one more.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tracing::{error, info, warn};
use vetwatch_core::message::time_format;

use super::kept::Kept;
use super::loops::{Loops, Prepared};
use super::parts::assemble;
use super::{Error, manager};
use crate::config::{Config, CredentialDirs, EndpointKind, Problem, Problems};
use crate::descriptors;
use crate::standby::{Current, ReadConfiguration};
use crate::store::{self, Store};
use crate::text::error_chain;
use crate::time::{Clock, Timestamp};

/// How often secrets are read again while something is refused.
const READ_SECRETS_EVERY: Duration = Duration::from_mins(1);
/// The pause before the database is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Reloads {
    store: Store,
    clock: Arc<dyn Clock>,
    kept: Arc<Kept>,
    /// When the configuration in force was read.
    loaded_at: Timestamp,
    asked: bool,
    under_way: Option<Pin<Box<dyn Future<Output = Outcome>>>>,
    secrets: Interval,
    /// Why secrets could not be read again the last time.
    secrets_unusable: String,
}

pub(super) enum Outcome {
    /// It can take over, and changes this.
    Ready {
        prepared: Box<Prepared>,
        changes: Vec<String>,
        only_files: bool,
    },
    Unchanged,
    Refused(Vec<String>),
    /// Secrets that cannot be read again.
    SecretsUnusable(String),
    Nothing,
}

impl Reloads {
    pub(super) fn new(store: &Store, clock: &Arc<dyn Clock>, kept: &Arc<Kept>) -> Self {
        let mut secrets = interval(READ_SECRETS_EVERY);
        secrets.set_missed_tick_behavior(MissedTickBehavior::Delay);
        secrets.reset();
        Self {
            store: store.clone(),
            clock: clock.clone(),
            kept: kept.clone(),
            loaded_at: clock.now(),
            asked: false,
            under_way: None,
            secrets,
            secrets_unusable: String::new(),
        }
    }

    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// Waits for the outcome of the next reload. May be dropped and called again meanwhile.
    pub(super) async fn next(&mut self, in_force: &Arc<Config>) -> Outcome {
        if self.under_way.is_none() && !self.asked {
            self.secrets.tick().await;
        }
        let (config, store, clock, kept) =
            (in_force.clone(), self.store.clone(), self.clock.clone(), self.kept.clone());
        let asked = &mut self.asked;
        let outcome = self.under_way.get_or_insert_with(|| {
            if std::mem::take(asked) {
                manager::reloading();
                Box::pin(reload(config, store, clock, kept))
            } else {
                Box::pin(read_secrets(config, store, clock, kept))
            }
        });
        let outcome = outcome.await;
        self.under_way = None;
        outcome
    }

    /// Has the outcome take effect, and records it.
    pub(super) fn apply(&mut self, outcome: Outcome, loops: &mut Loops) {
        let now = self.clock.now();
        let (refused, lines) = match outcome {
            Outcome::Nothing => return,
            Outcome::SecretsUnusable(why) => {
                if why != self.secrets_unusable {
                    warn!("something is refused, and the secrets cannot be read again: {why}");
                    self.secrets_unusable = why;
                }
                return;
            }
            Outcome::Ready { prepared, changes, only_files } => {
                loops.take_over(*prepared);
                self.secrets_unusable.clear();
                if changes.is_empty() {
                    info!("reloaded: nothing changed");
                }
                for change in &changes {
                    info!("{}: {change}", if only_files { "read anew" } else { "reloaded" });
                }
                if only_files {
                    return;
                }
                (false, changes)
            }
            Outcome::Unchanged => {
                info!("reloaded: nothing changed");
                (false, Vec::new())
            }
            Outcome::Refused(problems) => (true, problems),
        };
        if refused {
            let (at, since) =
                (time_format::moment(now, chrono_tz::UTC), time_format::moment(self.loaded_at, chrono_tz::UTC));
            error!("the configuration is refused, and that of {since} goes on:");
            for problem in &lines {
                error!("{problem}");
            }
            let problems = if lines.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", lines.len()) };
            loops.note_refused(Some(format!(
                "the configuration of {at} is refused ({problems}), that of {since} goes on"
            )));
        } else {
            self.loaded_at = now;
            loops.note_refused(None);
        }
        manager::notify(&NotifyState::Ready);
        let store = self.store.clone();
        self.under_way = Some(Box::pin(async move {
            until_stored(async || store.end_reload(refused, &lines, now).await).await;
            Outcome::Nothing
        }));
    }
}

/// Reads the configuration's file, and prepares what it says.
async fn reload(in_force: Arc<Config>, store: Store, clock: Arc<dyn Clock>, kept: Arc<Kept>) -> Outcome {
    // Before the file is read: who asked waits for a reload that began after that.
    until_stored(async || store.begin_reload().await).await;
    let path = in_force.content.path().to_owned();
    // A file may be on a disk that hangs.
    let loaded = tokio::task::spawn_blocking(move || Config::load(&path, &CredentialDirs::from_env())).await;
    match loaded {
        Ok(Ok(config)) => {
            let is_known =
                |warning: &&Problem| in_force.warnings.iter().any(|known| known.to_string() == warning.to_string());
            for warning in config.warnings.iter().filter(|warning| !is_known(warning)) {
                warn!("{warning}");
            }
            prepare(&in_force, config, &store, &clock, &kept, false).await
        }
        Ok(Err(problems)) => Outcome::Refused(lines(&problems)),
        Err(panic) => Outcome::Refused(vec![format!("the configuration cannot be read: {panic}")]),
    }
}

/// While something fails: reads the secrets again, and prepares the configuration in force with them if one is another.
async fn read_secrets(in_force: Arc<Config>, store: Store, clock: Arc<dyn Clock>, kept: Arc<Kept>) -> Outcome {
    if !store.is_anything_failing().await.unwrap_or(false) {
        return Outcome::Nothing;
    }
    let config = in_force.clone();
    let read = tokio::task::spawn_blocking(move || config.read_files_again(&CredentialDirs::from_env())).await;
    match read {
        Ok(Ok(config)) if in_force.content.is_same(&config.content) => Outcome::Nothing,
        Ok(Ok(config)) => match prepare(&in_force, config, &store, &clock, &kept, true).await {
            Outcome::Refused(problems) => Outcome::SecretsUnusable(problems.join("; ")),
            outcome => outcome,
        },
        Ok(Err(problems)) => Outcome::SecretsUnusable(lines(&problems).join("; ")),
        Err(panic) => Outcome::SecretsUnusable(panic.to_string()),
    }
}

async fn prepare(
    in_force: &Config,
    config: Config,
    store: &Store,
    clock: &Arc<dyn Clock>,
    kept: &Kept,
    only_files: bool,
) -> Outcome {
    let changes = in_force.content.changes_to(&config.content);
    if let Some(why) = needs_restart(in_force, &config) {
        return Outcome::Refused(vec![why]);
    }
    if in_force.content.is_same(&config.content) {
        return Outcome::Unchanged;
    }
    let (limit, needed) = (descriptors::raise_limit(), descriptors::needed(&config));
    if limit < needed {
        return Outcome::Refused(vec![Error::Descriptors { limit, needed }.to_string()]);
    }
    let config = Arc::new(config);
    loop {
        match build(in_force, &config, store, clock, kept).await {
            Ok(prepared) => return Outcome::Ready { prepared: Box::new(prepared), changes, only_files },
            Err(Error::Store(error)) if error.is_busy() => sleep(RETRY_AFTER).await,
            Err(error) => return Outcome::Refused(vec![error_chain(&error)]),
        }
    }
}

/// What a reload cannot change.
fn needs_restart(in_force: &Config, new: &Config) -> Option<String> {
    if new.database != in_force.database {
        let (new, old) = (new.database.display(), in_force.database.display());
        return Some(format!("database.path: {new} instead of {old} needs a restart: `systemctl restart vetwatch`"));
    }
    let is_same = in_force.content.section("standby") == new.content.section("standby");
    (!is_same).then(|| "[standby] was changed, which needs a restart: `systemctl restart vetwatch`".to_owned())
}

/// Reads the configuration of a host that stands by as it will be read once it leads.
pub(super) fn reader(in_force: Arc<Config>) -> ReadConfiguration {
    Arc::new(move || {
        let config = Config::load(in_force.content.path(), &CredentialDirs::from_env());
        let config = config.map_err(|problems| lines(&problems).join("; "))?;
        if let Some(why) = needs_restart(&in_force, &config) {
            return Err(why);
        }
        let (digests, fingerprint) = (config.content.digests(), config.content.fingerprint());
        Ok(Current { partners: config.partners, fingerprint, digests })
    })
}

async fn build(
    in_force: &Config,
    config: &Arc<Config>,
    store: &Store,
    clock: &Arc<dyn Clock>,
    kept: &Kept,
) -> Result<Prepared, Error> {
    let prepared = Prepared::new(config.clone(), assemble(config, store, clock, kept).await?, kept).await?;
    let now = clock.now();
    let has_changed = |section: &str| in_force.content.section(section) != config.content.section(section);
    let mut tx = store.begin().await?;
    for partner in config.partners.iter().filter(|partner| has_changed(&format!("partner \"{}\"", partner.name))) {
        tx.poll_partner_now(&partner.name, now).await?;
    }
    let servers_changed = in_force.content.has_other_mail_servers(&config.content);
    for endpoint in &config.endpoints {
        let is_mail = matches!(endpoint.kind, EndpointKind::Email(_));
        if has_changed(&format!("endpoint \"{}\"", endpoint.name)) || is_mail && servers_changed {
            tx.probe_now(&endpoint.name, now).await?;
        }
    }
    super::note_config(&mut tx, config, now).await?;
    tx.commit().await?;
    Ok(prepared)
}

/// Each problem with its place: `vetwatch.toml:12: endpoint "crm": …`.
fn lines(problems: &Problems) -> Vec<String> {
    problems.problems.iter().map(|problem| format!("{}{problem}", problem.position(&problems.file))).collect()
}

/// Repeats what is stored until it is: another program may hold the database, or the disk be full.
async fn until_stored(mut store: impl AsyncFnMut() -> Result<(), store::Error>) {
    let mut said = false;
    while let Err(error) = store().await {
        if !said && !error.is_busy() {
            warn!(error = &error as &dyn std::error::Error, "a reload cannot be recorded yet");
            said = true;
        }
        sleep(RETRY_AFTER).await;
    }
}

//! What every command needs: the configuration's path, the output, the clock.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::cli::output::Output;
use crate::cli::{Exit, Failure, privileges, run};
use crate::config::{Config, CredentialDirs, Problems, PublicConfig};
use crate::daemon::{self, Kept, Parts};
use crate::instance_lock;
use crate::standby::host_state::{self, HostState};
use crate::store::{self, Store};
use crate::time::{Clock, SystemClock, Timestamp};

const MAY_READ: &str = "may this user read it? Who reads it is a member of the service's group";
/// The longest that a command reads in one transaction.
const READ_WITHIN: Duration = Duration::from_mins(10);

pub(super) struct Context {
    pub config_path: PathBuf,
    /// Print JSON instead of text.
    pub json: bool,
    pub clock: Arc<dyn Clock>,
    pub out: Output,
    opened: Mutex<Option<Store>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("config_path", &self.config_path)
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

impl Context {
    #[must_use]
    pub(super) fn new(config_path: PathBuf, json: bool) -> Self {
        Self { config_path, json, clock: Arc::new(SystemClock), out: Output::stdout(), opened: Mutex::new(None) }
    }

    #[must_use]
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Loads the configuration with its secrets. Call it before [`Context::store`], which drops root's rights.
    ///
    /// # Errors
    /// [`Exit::Configuration`] with every problem at once.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        load_config(&self.config_path)
    }

    /// Opens the database as the service's user, creating it if missing.
    pub(super) async fn store(&self, database: &Path) -> Result<Store, Failure> {
        privileges::become_owner_of(database)?;
        must_lead(database)?;
        if store::was_deleted(database) {
            tracing::warn!("{}", daemon::new_database_warning(database));
        }
        let store = Store::open(database)
            .await
            .map_err(|error| unopened(database, error, "is its directory there, and may this user write to it?"))?;
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(store.clone());
        Ok(store)
    }

    /// Assembles the daemon's parts; none of them is started.
    pub(super) async fn assemble(&self, config: &Config, store: &Store) -> Result<Parts, Failure> {
        let kept = Kept::new(&*self.clock, CancellationToken::new());
        daemon::assemble(config, store, &self.clock, &kept).await.map_err(run::failure)
    }

    /// Closes the database if this command opened it. The last one to close leaves a single file.
    pub(super) async fn close(&self) {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        match opened {
            Some(store) if instance_lock::daemon_runs(store.path()) == Some(false) => {
                store.close().await;
            }
            Some(store) => store.close_connections().await,
            None => {}
        }
    }

    /// Opens an existing database read-only: it needs neither the writer's lock nor the right to write, so an analyst
    /// may.
    ///
    /// # Errors
    /// [`Exit::NotFound`] if there is none.
    pub(super) async fn reading_store(&self, database: &Path) -> Result<Store, Failure> {
        reading_path(database)?;
        let store = Store::open_to_read(database).await.map_err(|error| unopened(database, error, MAY_READ))?;
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(store.clone());
        Ok(store)
    }

    /// As [`Self::reading_store`]; everything is read in one transaction, so that it fits together.
    pub(super) async fn reading_snapshot(&self, database: &Path) -> Result<Store, Failure> {
        reading_path(database)?;
        let store = Store::open_snapshots(database).await.map_err(|error| unopened(database, error, MAY_READ))?;
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(store.clone());
        store.begin_reading(Instant::now() + READ_WITHIN).await?;
        Ok(store)
    }

    /// Loads the configuration without its secrets, which an analyst may not read.
    ///
    /// # Errors
    /// [`Exit::Configuration`] if this part cannot be read.
    pub(super) fn outline(&self) -> Result<PublicConfig, Failure> {
        PublicConfig::load(&self.config_path).map_err(|problems| unusable(&self.config_path, &problems))
    }

    /// Opens an existing database: a command that only changes rows does not create one.
    ///
    /// # Errors
    /// [`Exit::NotFound`] if there is none.
    pub(super) async fn existing_store(&self, database: &Path) -> Result<Store, Failure> {
        privileges::become_owner_of(database)?;
        must_lead(database)?;
        if !is_there(database)? {
            return Err(no_database(database));
        }
        self.store(database).await
    }
}

/// Names the database, if the error does not.
fn unopened(database: &Path, error: store::Error, advice: &'static str) -> Failure {
    let mut failure = Failure::from(error);
    if failure.exit == Exit::Failed {
        let path = database.display().to_string();
        if !failure.why.as_ref().is_some_and(|why| why.contains(&path)) {
            let what = format!("cannot open the database {path}");
            let message = std::mem::replace(&mut failure.what, what.clone());
            let cause = message.strip_prefix(&what).unwrap_or(&message).trim_start_matches([':', ' ']);
            if !cause.is_empty() {
                failure.why.get_or_insert(cause.to_owned());
            }
        }
        failure.advice.get_or_insert(advice.into());
    }
    failure
}

/// Loads the configuration with its secrets, or fails with every problem at once.
pub(super) fn load_config(path: &Path) -> Result<Config, Failure> {
    Config::load(path, &CredentialDirs::from_env()).map_err(|problems| unusable(path, &problems))
}

fn unusable(path: &Path, problems: &Problems) -> Failure {
    Failure::new(Exit::Configuration, format!("cannot use {}", path.display()))
        .listing(problems.problems.iter().map(|problem| format!("{}{problem}", problem.position(&problems.file))))
        .advise("`vetwatch check` shows this list; `--config FILE` or VETWATCH_CONFIG names another file")
}

/// Takes the daemon's lock. `None` if a daemon runs.
pub(super) fn lock(database: &Path) -> Result<Option<instance_lock::Lock>, Failure> {
    match daemon::take_lock(database) {
        Ok(held) => Ok(Some(held)),
        Err(daemon::Error::Locked(_)) => Ok(None),
        Err(error) => Err(run::failure(error)),
    }
}

/// Becomes the user that opens the database.
///
/// # Errors
/// [`Exit::NotFound`] if there is none.
pub(super) fn reading_path(database: &Path) -> Result<(), Failure> {
    privileges::become_owner_of(database)?;
    if is_there(database)? { Ok(()) } else { Err(no_database(database)) }
}

/// With `[standby]`, what a command wrote on a host that does not lead would be lost with the next leader.
fn must_lead(database: &Path) -> Result<(), Failure> {
    let Some(report) = host_state::read(database).filter(|_| instance_lock::daemon_runs(database) != Some(true)) else {
        return Ok(());
    };
    Err(does_not_lead(&report).because("with [standby] only the host that leads has the data"))
}

fn does_not_lead(report: &HostState) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("this host ({}) does not lead", report.host));
    match &report.leader {
        Some(leader) if leader.host != report.host => failure.advise(format!("run the command on {}", leader.host)),
        _ => failure.advise("start the daemon, and run the command on the host that leads: `vetwatch status` names it"),
    }
}

fn no_database(database: &Path) -> Failure {
    if let Some(report) = host_state::read(database) {
        return does_not_lead(&report).because("its database went to the host that leads");
    }
    Failure::new(Exit::NotFound, format!("there is no database at {}", database.display()))
        .advise("the daemon (`vetwatch run`) or `vetwatch customers add` creates it")
}

fn is_there(database: &Path) -> Result<bool, Failure> {
    database.try_exists().map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot look for the database {}", database.display()))
            .because(error.to_string())
            .advise("run the command as root or as a member of the service's group")
    })
}

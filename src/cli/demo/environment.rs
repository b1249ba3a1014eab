//! The demo's environment: the simulated peers in this process, a folder with a configuration that anyone can read, and
//! the real daemon between them, in a process of its own.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tempfile::TempDir;
use url::Url;

use super::daemon::Daemon;
use super::inbox::Inbox;
use super::pages::Pages;
use crate::cli::failure::error_chain;
use crate::cli::{Exit, Failure, run};
use crate::config::{Config, CredentialDirs};
use crate::daemon as real;
use crate::sandbox::smtp_server::SmtpServer;
use crate::sandbox::webhook_receiver::{Receiver, WebhookAction};
use crate::sandbox::{Options, Sandbox};
use crate::store::reports::{DeliveryFilter, DeliveryRow};
use crate::store::{self, Store};
use crate::time::Clock;

pub(super) const MAIL_ENDPOINT: &str = "sales-mail";
pub(super) const HOOK_ENDPOINT: &str = "crm";
/// The endpoints of the chats, each with its service's name and the path of its webhook.
pub(super) const CHATS: [(&str, &str, &str); 2] =
    [("sales-teams", "Teams", "/teams"), ("sales-slack", "Slack", "/slack")];
pub(super) const RECIPIENT: &str = "education-sales@adatum.example";

/// The running environment. Dropping it ends everything and removes the folder; [`Stage::end_daemon`] and [`Stage::end`] do
/// so in order.
pub(super) struct Stage {
    pub(super) daemon: Daemon,
    pub(super) sandbox: Sandbox,
    pub(super) mail: SmtpServer,
    mail_is_down: bool,
    pub(super) hook: Receiver,
    /// The incoming webhooks of Teams and Slack.
    pub(super) chat: Receiver,
    /// What arrived, and the pages that show it.
    pub(super) inbox: Arc<Inbox>,
    pub(super) pages: Pages,
    /// The page that the daemon serves.
    pub(super) page: Url,
    database: PathBuf,
    /// For reading only.
    pub(super) store: Store,
    folder: PathBuf,
    /// The same, unless it is kept.
    temporary: Option<TempDir>,
}

/// A new folder, or the empty one that is named; a temporary one is removed on drop.
fn make_folder(keep: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), Failure> {
    let Some(path) = keep else {
        let made = tempfile::Builder::new().prefix("vetwatch-demo-").tempdir();
        let folder = made.map_err(|error| {
            let parent = std::env::temp_dir();
            failed("cannot make a folder", &parent, &error).advise("TMPDIR or --keep names another place")
        })?;
        return Ok((folder.path().to_owned(), Some(folder)));
    };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(&path)
        .map_err(|error| failed("cannot make the folder", &path, &error))?;
    let mut files = path.read_dir().map_err(|error| failed("cannot look into the folder", &path, &error))?;
    if files.next().is_some() {
        return Err(Failure::new(Exit::Failed, format!("{} is not empty", path.display()))
            .advise("name a new folder: nothing is overwritten"));
    }
    Ok((path, None))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{what} {}", path.display())).because(error.to_string())
}

fn peer(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failed, "cannot start the simulated peers").because(error_chain(error))
}

/// A port that was free a moment ago, for the daemon to listen at: also when it is started again.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Stage {
    /// Starts everything but the daemon, which [`Stage::begin`] starts. `pace` is the poll interval in review.
    pub(super) async fn set(clock: Arc<dyn Clock>, keep: Option<&Path>, pace: Duration) -> Result<Self, Failure> {
        let (folder, temporary) = make_folder(keep)?;
        let options = Options::default();
        let (tenant, client_id) = (options.tenant.clone(), options.client_id.clone());
        write_secret(&folder.join("client-secret"), &options.client_secret)?;
        let signing_secret = signing_secret();
        write_secret(&folder.join("signing-secret"), &signing_secret)?;

        let sandbox = Sandbox::start(options, clock.clone()).await.map_err(|error| peer(&error))?;
        let mail = SmtpServer::start(clock.clone()).await.map_err(|error| peer(&error))?;
        let hook = Receiver::start(Some(&signing_secret), clock.clone()).await.map_err(|error| peer(&error))?;
        let chat = Receiver::start(None, clock.clone()).await.map_err(|error| peer(&error))?;
        // Slack's answer; Teams takes any.
        chat.script(WebhookAction::Answer { status: 200, headers: Vec::new(), body: "ok".to_owned() }, None);
        let web_port = free_port().map_err(|error| peer(&error))?;
        let inbox = Arc::new(Inbox::default());
        let pages = Pages::serve(Arc::clone(&inbox)).await.map_err(|error| peer(&error))?;
        let served = Url::parse(&format!("http://127.0.0.1:{web_port}/")).map_err(|error| peer(&error))?;
        let mut text = include_str!("vetwatch.toml")
            .replace("{tenant}", &tenant)
            .replace("{client_id}", &client_id)
            .replace("{api}", sandbox.url().as_str())
            .replace("{smtp_port}", &mail.address().port().to_string())
            .replace("{web_port}", &web_port.to_string())
            .replace("{hook}", hook.url().as_str())
            .replace("{recipient}", RECIPIENT)
            .replace("{pace}", &format!("{}ms", pace.as_millis()))
            .replace("{slow_pace}", &format!("{}ms", 2 * pace.as_millis()))
            .replace("{client_secret}", &toml_text(&folder.join("client-secret"))?)
            .replace("{signing_secret}", &toml_text(&folder.join("signing-secret"))?);
        for (endpoint, _, path) in CHATS {
            text = text.replace(&format!("{{{endpoint}}}"), &format!("http://{}{path}", chat.address()));
        }
        let path = folder.join("vetwatch.toml");
        std::fs::write(&path, text).map_err(|error| failed("cannot write", &path, &error))?;
        let config = Config::load(&path, &CredentialDirs::only(&folder)).map_err(|problems| {
            Failure::new(Exit::Failed, "the demo's own configuration is wrong; please report it")
                .listing(problems.problems.iter().map(ToString::to_string))
        })?;
        prepare_database(&config, &*clock).await?;
        Ok(Self {
            daemon: Daemon::new(&folder),
            sandbox,
            mail,
            mail_is_down: false,
            hook,
            chat,
            inbox,
            pages,
            page: served,
            store: Store::open_to_read(&config.database).await?,
            database: config.database,
            folder,
            temporary,
        })
    }

    /// Starts the daemon. The customers that exist by now are its baseline.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        self.daemon.start()
    }

    pub(super) fn config_path(&self) -> PathBuf {
        self.folder.join("vetwatch.toml")
    }

    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// The folder, if it is kept.
    pub(super) fn kept(&self) -> Option<&Path> {
        self.temporary.is_none().then_some(&*self.folder)
    }

    /// Ends the daemon in order, or `at_once` when that is ready. Then nothing changes any more, and can be counted.
    pub(super) async fn end_daemon(&mut self, at_once: impl Future<Output = ()>) -> Result<(), Failure> {
        // Closed meanwhile, so that the daemon can leave a single file.
        self.store.close().await;
        tokio::select! {
            () = self.daemon.end() => {}
            () = at_once => self.daemon.kill(),
        }
        self.store = Store::open_to_read(&self.database).await?;
        Ok(())
    }

    /// All messages.
    pub(super) async fn deliveries(&self) -> Result<Vec<DeliveryRow>, store::Error> {
        self.store.deliveries(DeliveryFilter::default()).await
    }

    /// Messages that are still pending.
    pub(super) async fn pending(&self) -> Result<Vec<DeliveryRow>, store::Error> {
        self.store.deliveries(DeliveryFilter { state: Some("pending"), ..DeliveryFilter::default() }).await
    }

    /// The status of a customer's only entry, as Partner Center has it.
    pub(super) fn status(&self, customer: &str) -> Option<String> {
        let entries = self.sandbox.customer(customer)?.entries;
        entries[0]["vettingStatus"].as_str().map(str::to_owned)
    }

    pub(super) fn mail_is_down(&self) -> bool {
        self.mail_is_down
    }

    /// Makes the mail server refuse connections.
    pub(super) async fn take_mail_down(&mut self) -> Result<(), Failure> {
        self.mail_is_down = true;
        self.mail.stop().await.map_err(|error| peer(&error))
    }

    /// Ends the outage. Returns false if there is none.
    pub(super) async fn bring_mail_up(&mut self) -> Result<bool, Failure> {
        let was_down = std::mem::replace(&mut self.mail_is_down, false);
        if was_down {
            self.mail.start_again().await.map_err(|error| peer(&error))?;
        }
        Ok(was_down)
    }

    /// Ends the peers. Removes the folder unless it is kept.
    pub(super) async fn end(self) -> Result<(), Failure> {
        self.store.close().await;
        self.sandbox.shutdown().await;
        // The ports cannot be reserved any longer, and are not needed.
        let _ = self.mail.stop().await;
        let _ = self.hook.stop().await;
        let _ = self.chat.stop().await;
        let removed = self.temporary.map_or(Ok(()), TempDir::close);
        removed.map_err(|error| failed("cannot remove", &self.folder, &error))
    }
}

/// Makes the database, in which the first sight of the customers counts as reported: the demo shows it itself, and only
/// changes are mailed.
async fn prepare_database(config: &Config, clock: &dyn Clock) -> Result<(), Failure> {
    let lock = real::take_lock(&config.database).map_err(run::failure)?;
    let store = Store::open(&config.database).await?;
    let mut tx = store.begin().await?;
    for partner in &config.partners {
        let partner = tx.partner(&partner.name, clock.now()).await?;
        tx.mark_initial_sync_reported(partner.id, clock.now()).await?;
    }
    tx.commit().await?;
    store.close().await;
    drop(lock);
    Ok(())
}

/// Generates a secret for this run: only the daemon can sign what the receiver accepts.
fn signing_secret() -> String {
    let bytes = [*uuid::Uuid::new_v4().as_bytes(), *uuid::Uuid::new_v4().as_bytes()].concat();
    format!("whsec_{}", BASE64_STANDARD.encode(bytes))
}

fn write_secret(path: &Path, secret: &str) -> Result<(), Failure> {
    let file = File::options().create_new(true).write(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| writeln!(file, "{secret}"));
    written.map_err(|error| failed("cannot write", path, &error))
}

/// Formats a path as a TOML string, quotes included.
fn toml_text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| {
        Failure::new(Exit::Failed, format!("{} is not UTF-8", path.display()))
            .advise("a configuration cannot name it; use another folder")
    })?;
    Ok(toml::Value::from(text).to_string())
}

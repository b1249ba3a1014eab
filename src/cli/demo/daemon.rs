//! The demo's daemon: `vetwatch run` as a process of its own, so that it can be killed.
//!
//! Its stdin is a pipe that this process holds, and it ends when that is closed: also if this process is killed. It has a
//! process group of its own, so that Ctrl-C reaches this process only.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use crate::cli::{Exit, Failure};
use crate::text;

/// This program, even if its file was replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";
/// How long the daemon may take to end in order.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// The end of its log that a failure shows.
const LOG_BYTES: u64 = 2000;

pub(super) struct Daemon {
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Starts nothing yet. `folder` holds the configuration and gets the log.
    pub(super) fn new(folder: &Path) -> Self {
        Self { config: folder.join("vetwatch.toml"), log: folder.join("vetwatch.log"), child: None }
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// The process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(super) fn start(&mut self) -> Result<(), Failure> {
        self.child = Some(
            self.spawn()
                .map_err(|error| Failure::new(Exit::Failed, "cannot start the daemon").because(error.to_string()))?,
        );
        Ok(())
    }

    fn spawn(&self) -> io::Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(PROGRAM);
        command.arg0("vetwatch").arg("--config").arg(&self.config).args(["run", "--until-stdin-ends"]);
        // They belong to whatever started the demo.
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn()
    }

    /// Kills it with SIGKILL: it can put nothing in order.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Fails if it has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) else {
            return Ok(());
        };
        self.child = None;
        Err(Failure::new(Exit::Failed, "the daemon ended by itself")
            .because(status.to_string())
            .listing(self.log_end().lines().map(str::to_owned)))
    }

    /// Lets it end in order.
    pub(super) async fn end(&mut self) {
        let Some(child) = &mut self.child else { return };
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let until = Instant::now() + END_TIMEOUT;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.kill();
    }

    /// The last lines of its log.
    fn log_end(&self) -> String {
        let read = || {
            let mut file = File::open(&self.log)?;
            let start = file.metadata()?.len().saturating_sub(LOG_BYTES);
            file.seek(SeekFrom::Start(start))?;
            let mut end = Vec::new();
            file.read_to_end(&mut end)?;
            io::Result::Ok(String::from_utf8_lossy(&end).into_owned())
        };
        let end = read().unwrap_or_else(|error| format!("cannot read {}: {error}", self.log.display()));
        text::terminal_lines(end.trim_end())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

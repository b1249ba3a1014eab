//! Questions on a terminal: one line each, the default in brackets. Without a terminal nothing is asked.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use tokio::task::AbortHandle;

use crate::cli::{Exit, Failure};
use crate::daemon::Signals;
use crate::text;

/// As a shell reports a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

pub(super) struct Asker {
    pub asks: bool,
    watch: Option<AbortHandle>,
}

impl Asker {
    /// Asks on a terminal. With `--json` a program runs the command.
    pub(super) fn new(json: bool) -> Self {
        let asks = !json && io::stdin().is_terminal() && io::stderr().is_terminal();
        let as_before = if asks { tcgetattr(io::stdin()).ok() } else { None };
        let signals = as_before.and_then(|as_before| Some((as_before, Signals::of_program().ok()?)));
        let watch = signals.map(|(as_before, signals)| tokio::spawn(end_on_signal(as_before, signals)).abort_handle());
        Self { asks, watch }
    }

    /// Asks nothing.
    pub(super) const SILENT: Self = Self { asks: false, watch: None };

    /// From now on a signal ends nothing.
    pub(super) fn is_done(&self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }

    /// Shows a line beside the questions. If it cannot be shown, the answers tell.
    pub(super) fn say(&self, line: &str) {
        if self.asks {
            let _ = writeln!(io::stderr(), "{}", text::terminal(line));
        }
    }

    /// Asks for a line. `None` for an empty one without a default.
    pub(super) fn line(question: &str, default: Option<&str>) -> Result<Option<String>, Failure> {
        let mut prompt = question.to_owned();
        if let Some(default) = default {
            let _ = write!(prompt, " [{default}]");
        }
        Ok(read(&prompt)?.or_else(|| default.map(str::to_owned)))
    }

    /// Asks for a secret, which is not shown. `None` for an empty answer.
    pub(super) fn secret(question: &str) -> Result<Option<SecretString>, Failure> {
        let failed = |error: nix::Error| {
            Failure::new(Exit::Failed, "cannot hide what is typed")
                .because(error.desc())
                .advise("give the secret in a file: `vetwatch init --help`")
        };
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        hidden.local_flags.insert(LocalFlags::ECHONL);
        // Before the question: what is pasted at once does not show either.
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &hidden).map_err(failed)?;
        let answer = read(&format!("{question} (not shown)"));
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &before).map_err(failed)?;
        Ok(answer?.map(SecretString::from))
    }

    /// Shows what is wrong with an answer, for the question to be asked again; without a terminal that is the end.
    pub(super) fn refuse(&self, problems: Vec<String>) -> Result<(), Failure> {
        if !self.asks {
            return Err(Failure::new(Exit::Usage, "an answer cannot be used")
                .listing(problems)
                .advise("nothing was written; `vetwatch init --help` describes each option"));
        }
        for problem in problems {
            self.say(&format!("  {problem}"));
        }
        Ok(())
    }
}

/// Reads a line. `None` if it is empty.
fn read(prompt: &str) -> Result<Option<String>, Failure> {
    let _ = io::stderr().write_all(format!("{}: ", text::terminal(prompt)).as_bytes());
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) => Err(Failure::new(Exit::Failed, "the answers ended").because("nothing was written")),
        Ok(_) => Ok(Some(line.trim()).filter(|answer| !answer.is_empty()).map(str::to_owned)),
        Err(error) => Err(Failure::new(Exit::Failed, "cannot read the answer").because(error.to_string())),
    }
}

/// Ends the program at a signal, with the terminal as it was: while a secret is typed it shows nothing.
async fn end_on_signal(as_before: Termios, mut signals: Signals) {
    signals.end().await;
    let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &as_before);
    let _ = io::stderr().write_all(b"\n");
    std::process::exit(INTERRUPTED);
}

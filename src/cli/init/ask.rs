//! Questions on a terminal: one line each, the default in brackets. Without a terminal nothing is asked.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use secrecy::SecretString;

use crate::cli::{Exit, Failure};
use crate::text;

pub(super) struct Asker {
    pub asks: bool,
}

impl Asker {
    /// Asks on a terminal. With `--json` a program runs the command.
    pub(super) fn new(json: bool) -> Self {
        Self { asks: !json && io::stdin().is_terminal() && io::stderr().is_terminal() }
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
        let _ = io::stderr().write_all(format!("{}: ", text::terminal(&prompt)).as_bytes());
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(0) => Err(ended()),
            Ok(_) => {
                let answer = line.trim();
                let answer = if answer.is_empty() { default.map(str::to_owned) } else { Some(answer.to_owned()) };
                Ok(answer)
            }
            Err(error) => Err(Failure::new(Exit::Failed, "cannot read the answer").because(error.to_string())),
        }
    }

    /// Asks for a secret, which is not shown. `None` for an empty answer.
    pub(super) fn secret(question: &str) -> Result<Option<SecretString>, Failure> {
        let answer = rpassword::prompt_password(format!("{} (not shown): ", text::terminal(question)));
        match answer {
            Ok(answer) if answer.trim().is_empty() => Ok(None),
            Ok(answer) => Ok(Some(SecretString::from(answer.trim()))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ended()),
            Err(error) => Err(Failure::new(Exit::Failed, "cannot read the answer").because(error.to_string())),
        }
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

fn ended() -> Failure {
    Failure::new(Exit::Failed, "the answers ended").because("nothing was written")
}

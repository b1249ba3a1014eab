//! The end: the files, the test, and what to run next.

use serde_json::json;

use super::UNCHANGED;
use super::args::{Chat, Kind};
use super::draft::{CERTIFICATE, CHAT_SECRET, CLIENT_SECRET, PRIVATE_KEY};
use super::wizard::Wizard;
use crate::cli::{Exit, Failure, run, test_send};
use crate::daemon::Signals;
use crate::instance_lock;
use crate::text;

/// The operators' mailbox gets the test; the others are not told of a rehearsal.
const TESTED: &str = "ops-mail";

impl Wizard<'_> {
    /// Writes everything, sends the test, and shows what to run next.
    pub(super) async fn finish(mut self) -> Result<Exit, Failure> {
        let (context, place) = (self.context, &self.place);
        let doubts = match self.draft.config(place) {
            Ok(config) => config.warnings,
            Err(problems) => {
                let lines = problems.iter().map(ToString::to_string);
                return Err(Failure::new(Exit::Configuration, "the answers make no configuration")
                    .listing(lines)
                    .advise(UNCHANGED));
            }
        };
        let keep = match self.draft.credential {
            Some(Kind::ClientSecret) => &[CLIENT_SECRET][..],
            Some(Kind::Certificate) => &[CERTIFICATE, PRIVATE_KEY][..],
            _ => &[],
        };
        for name in [CLIENT_SECRET, CERTIFICATE, PRIVATE_KEY] {
            if !keep.contains(&name) {
                self.draft.drop_secret(name);
            }
        }
        // A signal during the writing waits.
        let mut signals = Signals::of_program().map_err(|error| run::without_signals(&error))?;
        self.asker.is_done();
        let had_one = place.config.exists();
        let files = place.write(&self.draft.render(place), &self.draft.secrets)?;
        if !context.json {
            context.out.line("\nwritten:")?;
            for file in &files {
                context.out.line(&format!("  {}", file.display()))?;
            }
            for doubt in &doubts {
                context.out.line(&text::terminal(&format!("warning: {doubt}")))?;
            }
        }
        let option = place.option(&context.config_path);
        let daemon_runs = had_one && instance_lock::daemon_runs(&place.database) == Some(true);
        let (sent, failure) = if daemon_runs || !self.tries {
            (Vec::new(), None)
        } else {
            if !context.json {
                context.out.line("")?;
            }
            let names: Vec<&str> = [Some(TESTED), self.draft.chat().map(name_of)].into_iter().flatten().collect();
            let config = context.config()?;
            tokio::select! {
                tested = test_send::send(context, &config, &names) => {
                    tested.unwrap_or_else(|failure| (Vec::new(), Some(failure)))
                }
                () = signals.end() => {
                    return Err(Failure::new(Exit::Failed, "the test was interrupted")
                        .because("the configuration is written")
                        .advise(format!("`vetwatch {option}test-send --all` sends the test")));
                }
            }
        };
        if context.json {
            context.out.json(&json!({
                "config": place.config, "files": files, "live": self.steps, "tests": sent, "daemon_running": daemon_runs,
            }))?;
        }
        if let Some(failure) = failure {
            let advice = format!(
                "the configuration is written: correct it ({}), and send the test again with `vetwatch {option}test-send --all`",
                place.config.display()
            );
            return Err(failure.advise(advice));
        }
        if !context.json {
            self.show_next(&option, daemon_runs)?;
        }
        Ok(Exit::Done)
    }

    fn show_next(&self, option: &str, daemon_runs: bool) -> Result<(), Failure> {
        let out = &self.context.out;
        let mut next = vec![];
        if daemon_runs {
            out.line("\nA daemon runs with the former configuration; the test waits for the new one.")?;
        }
        next.push(match (option.is_empty(), daemon_runs) {
            (true, true) => "systemctl restart vetwatch".to_owned(),
            (true, false) => "systemctl enable --now vetwatch".to_owned(),
            (false, _) => format!("vetwatch {option}run"),
        });
        next.push(format!("vetwatch {option}status"));
        if daemon_runs || !self.tries {
            next.push(format!("vetwatch {option}test-send {TESTED}"));
        }
        next.push(format!("vetwatch {option}test-send sales-mail"));
        out.line(&format!("\n{}", out.style.heading("Next")))?;
        for command in next {
            out.line(&format!("  {command}"))?;
        }
        if self.draft.chat == Some(Chat::Webhook) {
            let file = self.place.file_of(CHAT_SECRET);
            out.line(&format!(
                "\nThe webhook's receiver checks the signatures with the secret in {}.",
                file.display()
            ))?;
        }
        Ok(())
    }
}

fn name_of(chat: Chat) -> &'static str {
    match chat {
        Chat::None => "",
        Chat::Teams => "teams",
        Chat::Slack => "slack",
        Chat::Webhook => "webhook",
    }
}

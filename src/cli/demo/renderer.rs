//! Renders the demo's output without a screen: a line for each event, the first messages in full; or JSON lines.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Deserializer, Serializer, Value, json};

use super::environment::{RECIPIENT, Stage};
use super::inbox::Arrival;
use super::observer::{DemoEvent, DemoEventKind};
use super::scenario::Story;
use super::stats::Summary;
use crate::cli::Failure;
use crate::cli::output::{Column, Output, Style};
use crate::event::EventType;
use crate::sandbox::webhook_receiver::{Signature, WebhookRequest};
use crate::store::reports::{CurrentRow, TransitionRow};
use crate::text;
use crate::time::Timestamp;

/// Maximum width of a message's lines; with the margin they fit 100 columns.
const MESSAGE_WIDTH: usize = 88;

pub(super) struct Show<'c> {
    out: &'c Output,
    json: bool,
    began: Timestamp,
    /// Event types with a mail that was shown in full.
    mails_shown: HashSet<&'static str>,
    webhook_shown: bool,
}

impl<'c> Show<'c> {
    pub(super) fn new(out: &'c Output, json: bool, began: Timestamp) -> Self {
        Self { out, json, began, mails_shown: HashSet::new(), webhook_shown: false }
    }

    fn object(&self, at: Timestamp, kind: &str, more: Value) -> Result<(), Failure> {
        let mut object = json!({"kind": kind, "at": at, "elapsed_ms": milliseconds(at.since(self.began))});
        if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
            object.extend(more);
        }
        self.out.json_line(&object)
    }

    /// Shows the addresses, and the commands to try.
    pub(super) fn stage(&self, stage: &Stage, story: &Story, now: Timestamp) -> Result<(), Failure> {
        let (api, hook) = (stage.sandbox.url(), stage.hook.url());
        let (smtp, config, database) = (stage.mail.address(), stage.config_path(), stage.database());
        if self.json {
            let more = json!({
                "partner_center": api, "mail_server": smtp, "webhook_receiver": hook, "config": config,
                "database": database, "kept": stage.kept().is_some(), "yours": story.yours.id,
                "page": stage.page, "arrived": stage.pages.url(), "log": stage.daemon.log(), "daemon": stage.daemon.pid(),
            });
            return self.object(now, "stage", more);
        }
        let style = self.out.style;
        let fate = if stage.kept().is_some() { "stays" } else { "gone at the end, unless you say --keep DIR" };
        let (program, config, database) = (program(), quoted(&config.to_string_lossy()), database.to_string_lossy());
        let command = |what: &str| format!("  {what}\n");
        let hand = |what: &str| format!("curl -X POST {api}control/customers/{}/{what}", story.yours.id);
        let lines = [
            style.heading("vetwatch demo") + "\n",
            "The real daemon, a process of its own, against a simulated Partner Center, a mail server, chats and a\n\
             webhook receiver in this process. All of it runs on this machine. The customers are invented.\n\n"
                .to_owned(),
            format!("  page              {}\n", stage.page),
            format!("  mails and cards   {}\n", stage.pages.url()),
            format!("  Partner Center    {api}\n"),
            format!("  mail server       {smtp}, takes the mails to {RECIPIENT}\n"),
            format!("  webhook receiver  {hook}, checks every signature\n"),
            format!("  configuration     {config}\n"),
            format!("  database          {}\n", quoted(&database)),
            format!("                    {}\n\n", style.faint(&format!("({fate})"))),
            "Try in another terminal, while it runs:\n".to_owned(),
            command(&format!("sqlite3 {} 'select * from v_transitions'", quoted(&database))),
            command(&format!("{program} --config {config} status")),
            command(&format!("curl {api}control")),
            format!("{} is yours to decide, with approve or deny:\n", story.yours.name),
            command(&hand("approve")),
        ];
        self.out.write(&(lines.concat() + "\n"))
    }

    /// Shows the first snapshots.
    pub(super) fn baseline(&self, rows: &[CurrentRow], customers: usize, now: Timestamp) -> Result<(), Failure> {
        if self.json {
            return self.object(now, "baseline", json!({"customers": customers, "qualifications": rows}));
        }
        let style = self.out.style;
        let cells = rows.iter().map(|row| {
            let reason = row.vetting_reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let status = row.vetting_status.clone().unwrap_or_else(|| "no status".to_owned());
            vec![row.customer_name.clone(), row.qualification.clone(), status + &reason]
        });
        let columns = [Column::cut("", 16), Column::cut("", 9), Column::cut("", 12)];
        let table = self.out.table(&columns, cells);
        let table: Vec<_> = table.lines().map(|line| format!("  {line}")).collect();
        let table = table.join("\n");
        let qualified: HashSet<_> = rows.iter().map(|row| &row.customer_id).collect();
        let without = customers.saturating_sub(qualified.len());
        let without = if without == 0 { String::new() } else { format!(", {without} of them without a qualification") };
        let heading = style.heading(&format!("The baseline: {customers} customers{without}"));
        self.out.write(&format!(
            "{heading}\n{table}\n\nHow it stands when vetwatch first looks is recorded, and is no news. From here on, changes are.\n\n"
        ))
    }

    pub(super) fn happening(&mut self, happening: &DemoEvent) -> Result<(), Failure> {
        let at = happening.at;
        if self.json {
            let (kind, mut more) = object(&happening.what);
            if let Some(number) = happening.number {
                more["number"] = number.into();
            }
            return self.object(at, kind, more);
        }
        let (who, what) = line(self.out.style, &happening.what);
        self.line(at, who, &what)?;
        match &happening.what {
            DemoEventKind::Mail { mail: decoded, .. } => {
                let kind = [EventType::Approved, EventType::Denied].map(EventType::as_str);
                let kind = kind.into_iter().find(|kind| *kind == decoded.kind);
                if kind.is_some_and(|kind| self.mails_shown.insert(kind)) {
                    let head = format!("To: {RECIPIENT}\nSubject: {}\n\n", decoded.subject);
                    self.document(&(head + &decoded.text))?;
                }
            }
            DemoEventKind::Webhook(hook) if !std::mem::replace(&mut self.webhook_shown, true) => {
                self.document(&request(hook))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn line(&self, at: Timestamp, who: &str, what: &str) -> Result<(), Failure> {
        let time = format!("{:6.1} s", at.since(self.began).as_secs_f64());
        self.out.line(&format!("{}  {who:<14}  {what}", self.out.style.faint(&time)))
    }

    /// Shows a message in full, with a margin.
    fn document(&self, document: &str) -> Result<(), Failure> {
        let margin = self.out.style.faint("│");
        let lines = text::terminal_lines(document);
        let lines = lines.lines().flat_map(wrap).map(|line| format!("          {margin} {line}").trim_end().to_owned());
        self.out.write(&(lines.collect::<Vec<_>>().join("\n") + "\n"))
    }

    pub(super) fn summary(&self, summary: &Summary, stage: &Stage, now: Timestamp) -> Result<(), Failure> {
        if self.json {
            let more = serde_json::to_value(summary).unwrap_or_default();
            return self.object(now, "summary", more);
        }
        let style = self.out.style;
        let transitions: u64 = summary.transitions.values().sum();
        let zero = |count: u64| if count == 0 { style.good("0") } else { style.bad(&count.to_string()) };
        // A daemon that was killed after a message was taken cannot know it: the same id lets the receiver drop it.
        let twice = format!("{}, under the same id", summary.repeated);
        let seconds = now.since(self.began).as_secs_f64();
        let kinds = summary.transitions.iter().map(|(kind, count)| format!("{count:>16} {kind}\n"));
        let mut lines = vec![
            format!("\n{}\n", style.heading(&format!("After {seconds:.1} s"))),
            format!("  transitions  {transitions}\n"),
            style.faint(&kinds.collect::<String>()),
            format!("  mails        {}\n", summary.mails),
            format!("  webhooks     {} ({} verified)\n", summary.webhooks, summary.signatures_verified),
            format!("  cards        {}\n", summary.cards),
            format!("  lost         {}\n", zero(summary.lost)),
            format!(
                "  sent twice   {}\n",
                if summary.kills == 0 || summary.repeated == 0 { zero(summary.repeated) } else { twice }
            ),
            format!("  two ids      {}\n", zero(summary.under_two_ids)),
        ];
        if summary.kills > 0 {
            lines.push(format!("  killed       {}, and started again\n", times(summary.kills)));
        }
        if summary.waiting > 0 {
            lines.push(format!("  waiting      {}, kept in the database for the next attempt\n", summary.waiting));
        }
        lines.push(match stage.kept() {
            Some(folder) => format!("\nKept: {}\n", quoted(&folder.to_string_lossy())),
            None => "\nNothing stays behind: the servers, the folder and the database are gone.\n".to_owned(),
        });
        self.out.write(&lines.concat())
    }
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn object(what: &DemoEventKind) -> (&'static str, Value) {
    match what {
        DemoEventKind::Partner(text) => ("partner_center", json!({"text": text})),
        DemoEventKind::MailServer(text) => ("mail_server", json!({"text": text})),
        DemoEventKind::Vetwatch(text) => ("vetwatch", json!({"text": text})),
        DemoEventKind::Daemon(text) => ("daemon", json!({"text": text})),
        DemoEventKind::Transition(row) => ("transition", json!({"transition": row})),
        DemoEventKind::Waits(row) => ("waits", json!({"delivery": row})),
        DemoEventKind::Mail { mail: decoded, attempts, waited, .. } => {
            ("mail", json!({"mail": decoded, "attempts": attempts, "waited_ms": milliseconds(*waited)}))
        }
        DemoEventKind::Webhook(hook) => {
            let verified = hook.signature == Signature::Valid;
            ("webhook", json!({"webhook_id": hook.id(), "signature_verified": verified, "body": hook.json()}))
        }
        DemoEventKind::Card(service, card) => ("card", json!({"service": service, "card": card.json()})),
    }
}

/// Who did something, and what, in a line.
pub(super) fn line(style: Style, what: &DemoEventKind) -> (&'static str, String) {
    match what {
        DemoEventKind::Partner(text) => ("Partner Center", text.clone()),
        DemoEventKind::MailServer(text) => ("mail server", text.clone()),
        DemoEventKind::Daemon(text) => ("daemon", text.clone()),
        DemoEventKind::Vetwatch(text) => ("vetwatch", text.clone()),
        DemoEventKind::Transition(row) => ("vetwatch", transition(style, row)),
        DemoEventKind::Waits(row) => {
            ("vetwatch", format!("cannot reach {}, keeps its message and tries again", row.endpoint))
        }
        DemoEventKind::Mail { mail: decoded, attempts, waited, .. } => {
            let late = if *attempts > 1 {
                style.faint(&format!("  (after {:.1} s)", waited.as_secs_f64()))
            } else {
                String::new()
            };
            ("mail", format!("{}{late}", text::terminal(&decoded.subject)))
        }
        DemoEventKind::Webhook(hook) => {
            let signature = match hook.signature {
                Signature::Valid => style.good("signature verified"),
                other => style.bad(&format!("signature not verified: {other:?}")),
            };
            let title = Arrival::Webhook(*hook.clone()).title();
            ("webhook", format!("{}, {signature}", text::terminal(&title)))
        }
        DemoEventKind::Card(service, card) => {
            let title = Arrival::Card(service, *card.clone()).title();
            (service, text::terminal(&title).into_owned())
        }
    }
}

fn transition(style: Style, row: &TransitionRow) -> String {
    let word = |status: &Option<String>| status.as_deref().unwrap_or("no status").to_owned();
    let to = word(&row.to_status);
    let to = match row.event_type.as_deref() {
        Some("vetting.approved") => style.good(&to),
        Some("vetting.denied" | "vetting.revoked") => style.bad(&to),
        _ => to,
    };
    let (customer, qualification) = (text::terminal(&row.customer_name), text::terminal(&row.qualification));
    let again = if row.attempt > 1 { format!(", attempt {}", row.attempt) } else { String::new() };
    let quiet = row.event_type.as_deref().and_then(EventType::parse).is_some_and(EventType::is_opt_in);
    let aside = if quiet { style.faint("  (no message)") } else { String::new() };
    format!("{customer}, {qualification}: {} → {to}{again}{aside}", word(&row.from_status))
}

/// Formats a webhook as received, its body indented.
fn request(hook: &WebhookRequest) -> String {
    let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers = headers.map(|name| format!("{name}: {}\n", hook.header(name).unwrap_or("-")));
    let body = indented(&String::from_utf8_lossy(&hook.body));
    format!("POST {}\n{}\n{}", hook.path, headers.concat(), text::inert_json(&body))
}

/// Indents JSON and keeps its order, which [`Value`] does not. Returns anything else unchanged.
pub(super) fn indented(json: &str) -> String {
    let mut text = Vec::new();
    let (from, to) = (&mut Deserializer::from_str(json), &mut Serializer::pretty(&mut text));
    let indented = serde_transcode::transcode(from, to).ok().and_then(|()| String::from_utf8(text).ok());
    indented.unwrap_or_else(|| json.to_owned())
}

/// Wraps a line at blanks; a list's lines are indented like its first one.
fn wrap(line: &str) -> impl Iterator<Item = String> + use<> {
    let indent = line.chars().take_while(|c| *c == ' ').count();
    let number = line.split_once(". ").map_or(0, |(number, _)| number.len() + 2);
    let hang = if line.starts_with(|c: char| c.is_ascii_digit()) && number <= 4 { number } else { 0 };
    let mut lines = vec![" ".repeat(indent)];
    let mut width = indent;
    for word in line.split(' ').skip(indent) {
        let length = word.chars().count();
        if width > indent && width + length >= MESSAGE_WIDTH {
            lines.push(" ".repeat(indent + hang));
            width = indent + hang;
        } else if width > indent {
            width += 1;
            if let Some(last) = lines.last_mut() {
                last.push(' ');
            }
        }
        width += length;
        if let Some(last) = lines.last_mut() {
            last.push_str(word);
        }
    }
    lines.into_iter()
}

/// The program's name as called, so that the commands can be copied.
fn program() -> String {
    let called = std::env::args().next().filter(|name| !name.contains(char::is_control));
    quoted(&called.unwrap_or_else(|| "vetwatch".to_owned()))
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    let plain = word.chars().all(|c| c.is_alphanumeric() || "/._-:=+,@%".contains(c)) && !word.is_empty();
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_broken_at_blanks_and_a_list_stays_a_list() {
        let long = format!("1. {}", "word ".repeat(40).trim_end());
        let lines: Vec<_> = wrap(&long).collect();
        assert!(lines.iter().all(|line| line.chars().count() <= MESSAGE_WIDTH), "{lines:?}");
        assert!(lines[0].starts_with("1. word") && lines[1].starts_with("   word"), "{lines:?}");
        let joined: Vec<_> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
        assert_eq!(joined.len(), 41);
        assert_eq!(wrap("").collect::<Vec<_>>(), [""]);
        assert_eq!(wrap("  \"a\": 1,").collect::<Vec<_>>(), ["  \"a\": 1,"]);
    }

    #[test]
    fn json_is_indented_in_its_own_order() {
        let json = r#"{"type":"a\"}{","data":{"tags":["x","y"],"none":[],"n":null}}"#;
        insta::assert_snapshot!(indented(json), @r#"
        {
          "type": "a\"}{",
          "data": {
            "tags": [
              "x",
              "y"
            ],
            "none": [],
            "n": null
          }
        }
        "#);
    }

    #[test]
    fn a_path_can_be_copied_into_a_shell() {
        assert_eq!(quoted("/tmp/vetwatch-demo-a1/x.db"), "/tmp/vetwatch-demo-a1/x.db");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
    }
}

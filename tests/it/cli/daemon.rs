//! Commands beside a daemon: status, history, deliveries.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use vetwatch::sandbox::smtp_server::{MailRule, SmtpAction, Stage};
use vetwatch::sandbox::webhook_receiver::WebhookAction;

use super::{Desk, EVIL, SECRETS};

const WAIT: Duration = Duration::from_secs(30);

/// `vetwatch run` as a child process, killed if the test ends first.
pub(super) struct Daemon(Child);

impl Daemon {
    pub(super) fn start(desk: &Desk, more: &[&str]) -> Self {
        // Into a file: a pipe would not be read meanwhile.
        let log = File::create(desk.path("log")).unwrap();
        Self(desk.command(&[&["run"], more].concat()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// Stops it and waits. Returns its log.
    pub(super) async fn stop(mut self, desk: &Desk) -> String {
        let asked = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(asked.success());
        let deadline = Instant::now() + WAIT;
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the daemon does not stop");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let log = fs::read_to_string(desk.path("log")).unwrap();
        desk.keep(&log);
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn what_happened_is_shown_on_the_screen_in_the_history_and_among_the_messages() {
    let mut desk = Desk::new().await;
    let (school, evil) = (desk.customer("Contoso School").await, desk.customer(EVIL).await);
    desk.sandbox.submit(&school).unwrap();
    desk.sandbox.submit(&evil).unwrap();
    let daemon = Daemon::start(&desk, &[]);
    desk.until("select vetting_status from v_current", &["InReview", "InReview"]).await;
    let screen = desk.run(&["status"]).await.exits(0).out;
    assert!(screen.contains("the daemon runs") && screen.contains("IN REVIEW (2)"), "{screen}");

    desk.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    desk.hook.wait_for(1, WAIT).await.unwrap();
    desk.mail.wait_for(1, WAIT).await.unwrap();
    desk.mail.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("550 5.1.1 no such user".into())));
    desk.sandbox.approve(&evil).unwrap();
    desk.until("select endpoint from v_deliveries where state = 'dead'", &["sales-mail"]).await;
    desk.until("select count(*) from v_deliveries where state = 'delivered'", &["3"]).await;

    let screen = desk.run(&["status"]).await.exits(3).out;
    for seen in ["1 message was given up", "Not an Academic Domain", "Denied", "Approved", "DECIDED IN 7 DAYS"] {
        assert!(screen.contains(seen), "{seen} is not on\n{screen}");
    }
    let status = desk.run(&["status", "--json"]).await.exits(3).json();
    assert_eq!((status["attention"].as_array().unwrap().len(), &status["daemon_running"]), (1, &Value::Bool(true)));
    desk.assert_columns(&status["decided"], "v_decisions", &[]).await;
    desk.assert_columns(&status["dead_letters"], "v_deliveries", &["about"]).await;
    let one = desk.json(&["status", "Contoso School"]).await;
    desk.assert_columns(&one["qualifications"], "v_current", &[]).await;
    desk.assert_columns(&one["transitions"], "v_transitions", &[]).await;
    desk.run(&["status", "nobody"]).await.exits(4);

    history(&desk).await;
    let dead = messages(&desk).await;

    // Put away, it needs nobody: the webhook has the verdict. A redrive undoes that.
    let put_away = desk.json(&["deliveries", "discard", "--endpoint", "sales-mail"]).await;
    assert_eq!(put_away["discarded"][0]["delivery_id"], dead.as_str());
    assert_eq!(put_away["discarded"][0]["not_told"], serde_json::json!([]));
    desk.run(&["status"]).await.exits(0);
    let shown = desk.run(&["deliveries", "show", &dead]).await.exits(0).out;
    assert!(shown.contains("  discarded  to sales-mail") && shown.contains("no such user"), "{shown}");
    desk.run(&["deliveries", "discard", "--endpoint", "sales-mail"]).await.exits(4);

    // Redriven, it is the same message, and the daemon notices that it is due.
    desk.mail.clear_script();
    let again = desk.json(&["deliveries", "redrive", &dead]).await;
    assert_eq!(again["redriven"][0]["delivery_id"], dead.as_str());
    desk.until("select count(*) from v_deliveries where state = 'delivered'", &["4"]).await;
    let mails = desk.mail.wait_for(2, WAIT).await.unwrap();
    assert!(mails[1].text().contains(&format!("Message-ID: <{dead}@")), "{}", mails[1].text());
    let screen = desk.run(&["status"]).await.exits(0).out;
    assert!(!screen.contains('!'), "{screen}");
    assert!(desk.run(&["deliveries", "redrive", &dead]).await.exits(1).err.contains("--force"));
    desk.run(&["deliveries", "redrive", &dead, "--force"]).await.exits(0);
    desk.mail.wait_for(3, WAIT).await.unwrap();
    desk.run(&["deliveries", "redrive", "--endpoint", "crm"]).await.exits(4);
    desk.run(&["deliveries", "redrive", "--endpoint", "pigeon"]).await.exits(4);

    // Beside a daemon, no command polls, and no second daemon runs.
    let asked = desk.json(&["poll", "Contoso School"]).await;
    assert_eq!((&asked["polled_by"], &asked["due"]), (&"daemon".into(), &1.into()));
    let second = desk.run(&["run", "--json"]).await.exits(1).err;
    // Earlier log lines are JSON objects, too.
    let lines: Vec<Value> = second.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let error = &lines.last().unwrap()["error"]["message"];
    assert!(error.as_str().unwrap().contains("another vetwatch runs"), "{second}");
    daemon.stop(&desk).await;
    let status = desk.run(&["status", "--json"]).await.exits(3).json();
    assert_eq!(
        (&status["reasons"][0]["reason"], status["reasons"].as_array().unwrap().len()),
        (&"not_running".into(), 1)
    );
}

#[tokio::test]
async fn while_mail_is_down_status_says_so_and_exits_with_3() {
    let mut desk = Desk::new().await;
    let school = desk.customer("Contoso School").await;
    desk.sandbox.submit(&school).unwrap();
    let daemon = Daemon::start(&desk, &[]);
    desk.until("select vetting_status from v_current", &["InReview"]).await;
    desk.run(&["status"]).await.exits(0);
    desk.mail.script(MailRule::at(Stage::Greeting, SmtpAction::Reply("421 4.3.2 not now".into())));
    desk.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    desk.until("select state, attempts > 0 from v_deliveries where endpoint = 'sales-mail'", &["pending | 1"]).await;
    desk.until("select name from endpoint where closed_since is not null", &["sales-mail"]).await;
    let status = desk.run(&["status", "--json"]).await.exits(3).json();
    let reason = &status["reasons"][0];
    assert_eq!((&reason["reason"], &reason["about"]), (&"endpoint_failing".into(), &"sales-mail".into()), "{status}");
    assert!(status["attention"][0].as_str().unwrap().contains("sales-mail has not delivered since"), "{status}");
    desk.mail.clear_script();
    desk.until("select state from v_deliveries where endpoint = 'sales-mail'", &["delivered"]).await;
    desk.run(&["status"]).await.exits(0);
    daemon.stop(&desk).await;
}

async fn history(desk: &Desk) {
    let table = desk.run(&["history"]).await.exits(0).out;
    assert!(table.contains("InReview → Denied") && table.contains("Not an Academic"), "{table}");
    let rows = desk.json(&["history"]).await;
    desk.assert_columns(&rows, "v_transitions", &[]).await;
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!(desk.run(&["history", "--format", "json"]).await.exits(0).json(), rows);
    let csv = desk.run(&["history", "contoso school", "--format", "csv"]).await.exits(0).out;
    let columns = desk.rows("select name from pragma_table_info('v_transitions')").await.join(",");
    assert_eq!(csv.split("\r\n").count(), 3, "{csv}");
    assert!(csv.starts_with(&columns) && csv.contains(",Denied,Not an Academic Domain,"), "{csv}");
    assert_eq!(desk.run(&["history", "--since", "2999-01-01"]).await.exits(0).out, "Nothing changed.\n");
    assert_eq!(desk.json(&["history", "--since", "1h"]).await, rows);
    desk.run(&["history", "--since", "yesterday"]).await.exits(2);
    desk.run(&["history", "--format", "csv", "--json"]).await.exits(2);
    desk.run(&["history", "nobody"]).await.exits(4);
}

/// Returns the id of the dead delivery.
async fn messages(desk: &Desk) -> String {
    let listed = desk.json(&["deliveries", "list"]).await;
    desk.assert_columns(&listed, "v_deliveries", &["about"]).await;
    assert_eq!(listed.as_array().unwrap().len(), 4);
    assert_eq!(desk.json(&["deliveries", "list", "--limit", "1"]).await[0], listed[0]);
    let dead = desk.json(&["deliveries", "list", "--state", "dead", "--endpoint", "sales-mail"]).await;
    let id = dead[0]["delivery_id"].as_str().unwrap().to_owned();
    let text = desk.run(&["deliveries", "list"]).await.exits(0).out;
    assert!(text.contains(&id) && text.contains("dead") && text.contains("no such user"), "{text}");
    desk.run(&["deliveries", "list", "--endpoint", "pigeon"]).await.exits(4);
    desk.run(&["deliveries", "list", "--state", "lost"]).await.exits(2);

    let page = desk.run(&["deliveries", "show", &id]).await.exits(0).out;
    assert!(page.contains("vetting.approved") && page.contains("no such user") && page.contains("Subject: "), "{page}");
    let shown = desk.json(&["deliveries", "show", &id[..id.len() - 1]]).await;
    assert_eq!((&shown["delivery_id"], &shown["state"]), (&dead[0]["delivery_id"], &"dead".into()));
    assert_eq!(shown["attempts_made"].as_array().unwrap().len(), 1);
    // As if two digests had started like this while grouping.
    let former = "insert into delivery_former_id select 'eeeeeeee-' || sequence, sequence from delivery order by sequence limit 2";
    let done = Command::new("sqlite3")
        .args(["-cmd", ".timeout 10000"])
        .arg(desk.path("vetwatch.db"))
        .arg(former)
        .status()
        .unwrap();
    assert!(done.success());
    let several = desk.run(&["deliveries", "show", "eeeeeeee", "--json"]).await.exits(4).error();
    assert_eq!(several["details"].as_array().unwrap().len(), 2, "{several}");
    desk.run(&["deliveries", "show", "ffff"]).await.exits(4);
    id
}

#[tokio::test]
async fn no_secret_is_logged_even_when_the_libraries_talk_and_everything_fails() {
    let mut desk = Desk::new().await;
    let school = desk.customer("Contoso School").await;
    desk.sandbox.submit(&school).unwrap();
    let daemon = Daemon::start(&desk, &["-vv"]);
    desk.until("select vetting_status from v_current", &["InReview"]).await;
    // A token is rejected, the receiver disconnects, and no error contains the webhook's address.
    desk.sandbox.revoke_tokens();
    desk.hook.stop().await.unwrap();
    desk.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    desk.until("select last_error is not null from v_deliveries where endpoint = 'crm'", &["1"]).await;
    desk.sandbox.set_client_secret("another");
    desk.sandbox.revoke_tokens();
    desk.until("select backoff_reason is not null from partner", &["1"]).await;
    let log = daemon.stop(&desk).await;
    assert!(log.contains("DEBUG"), "the libraries were to talk: {log}");
    // In a field of its own, beside the id: a log that leaves the house can be rid of it.
    let field = "customer.name=\"Contoso School\"";
    assert!(log.contains(field) && !log.replace(field, "").contains("Contoso School"), "{log}");
    assert!(log.contains(&school), "nobody can tell from the log who was decided about: {log}");
    for arguments in [["status", "-vv"], ["poll", "-vv"], ["history", "-vv"], ["check", "-vv"]] {
        desk.run(&arguments).await;
    }
}

#[tokio::test]
async fn what_others_repeat_of_a_secret_in_another_spelling_is_in_no_database_log_or_output() {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let mut desk = Desk::new().await;
    let school = desk.customer("Contoso School").await;
    desk.sandbox.submit(&school).unwrap();
    let [partners, hooks, signing, _] = SECRETS;
    let percent = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
    let numbers = |text: &str| text.bytes().map(|byte| format!("\\u{byte:04X}")).collect::<Vec<_>>().concat();
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat();
    let spellings = [
        percent(hooks),
        hooks.to_uppercase(),
        numbers(partners),
        hex(partners),
        BASE64_STANDARD.encode(partners),
        BASE64_STANDARD.encode(percent(signing)),
        signing.to_lowercase(),
        signing[9..20].to_owned(),
    ];
    let coloured = hooks.chars().map(String::from).collect::<Vec<_>>().join("\u{1b}[0m");
    let body = format!("{} or {coloured}", spellings.join(" or "));
    let answer = WebhookAction::Answer { status: 500, headers: vec![("location".into(), hooks.to_uppercase())], body };
    desk.hook.script(answer, Some(1_000));
    desk.mail.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply(format!("550 5.1.1 no such user {}", spellings[1]))));
    let daemon = Daemon::start(&desk, &["-vv"]);
    desk.until("select vetting_status from v_current", &["InReview"]).await;
    desk.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    desk.until("select count(*) >= 2 from v_deliveries where last_error like '%[hidden]%'", &["1"]).await;
    for id in desk.rows("select delivery_id from v_deliveries").await {
        let shown = desk.run(&["deliveries", "show", &id]).await.out;
        assert!(shown.contains("[hidden]"), "{shown}");
        let _ = desk.run(&["explain", &id]).await;
    }
    for command in [&["status"][..], &["deliveries", "list", "--json"], &["test-send", "crm"]] {
        let _ = desk.run(command).await;
    }
    let log = daemon.stop(&desk).await;
    assert!(log.contains("crm did not take a message") && log.contains("[hidden]"), "{log}");
    for spelling in spellings {
        desk.shows_nowhere(&spelling);
    }
    desk.shows_nowhere(&coloured.replace('\u{1b}', ""));
}

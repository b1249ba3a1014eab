//! `explain`, and `test-send`.

use std::time::Duration;

use vetwatch::sandbox::smtp_server::{MailRule, SmtpAction, Stage};
use vetwatch::sandbox::webhook_receiver::WebhookAction;

use super::Desk;
use super::daemon::Daemon;

const WAIT: Duration = Duration::from_secs(30);

impl Desk {
    /// Adds a school, and polls its denial.
    pub(super) async fn denied(&mut self, name: &str) -> String {
        let id = self.customer(name).await;
        self.sandbox.submit(&id).unwrap();
        self.run(&["poll"]).await.exits(0);
        self.sandbox.deny(&id, "Not an Academic Domain").unwrap();
        self.run(&["poll", &id]).await.exits(0);
        id
    }
}

#[tokio::test]
async fn an_event_is_explained_from_the_answer_to_the_receivers_replies() {
    let mut desk = Desk::new().await;
    desk.denied("Contoso School").await;
    let daemon = Daemon::start(&desk, &[]);
    desk.until("select count(*) from v_deliveries where state = 'delivered'", &["2"]).await;
    let history = desk.run(&["history"]).await.exits(0).out;
    let id = desk.rows("select event_id from v_transitions where event_type = 'vetting.denied'").await.remove(0);
    assert!(history.contains(&id[..13]), "the history shows how to ask:\n{history}");
    let page = desk.run(&["explain", &id[..13]]).await.exits(0).out;
    let correlation = desk.rows("select correlation_id from v_transitions where to_status = 'Denied'").await.remove(0);
    for seen in [&*id, &correlation, "InReview → Denied", "Not an Academic Domain", "to crm", "accepted", "HTTP 200"]
    {
        assert!(page.contains(seen), "{seen} is not on\n{page}");
    }
    let proof = desk.json(&["explain", &id]).await;
    assert_eq!(proof[0]["event_id"], *id);
    let raw = proof[0]["transition"]["raw_answer"].as_str().unwrap();
    assert!(raw.contains("Denied") && !page.contains('\u{1b}'), "{raw}");
    assert_eq!(proof[0]["deliveries"].as_array().unwrap().len(), 2);
    assert!(proof[0]["deliveries"][0]["why"].as_str().unwrap().starts_with("route"), "{proof}");
    let delivery = proof[0]["deliveries"][0]["delivery_id"].as_str().unwrap();
    assert_eq!(desk.json(&["explain", delivery]).await, proof, "a message's id leads to the same");
    assert!(desk.run(&["deliveries", "show", delivery]).await.exits(0).out.contains(&id));
    desk.run(&["explain", "ffffffff"]).await.exits(4);
    for _ in 0..2 {
        desk.run(&["test-send", "crm"]).await.exits(0); // the id of such an event starts with the time
    }
    assert_eq!(desk.run(&["explain", "0", "--json"]).await.exits(4).error()["kind"], "not_found");
    daemon.stop(&desk).await;
}

#[tokio::test]
async fn who_is_muted_is_listed_so_and_explained_so() {
    let mut desk = Desk::new().await;
    let id = desk.customer("Contoso School").await;
    desk.sandbox.submit(&id).unwrap();
    desk.run(&["poll"]).await.exits(0);
    let muted = desk.run(&["customers", "mute", "Contoso School", "--for", "7d"]).await.exits(0).out;
    assert!(muted.contains("recorded and told to nobody"), "{muted}");
    assert!(desk.run(&["customers", "list"]).await.exits(0).out.contains("; muted"));
    assert!(desk.run(&["status", &id]).await.exits(0).out.contains("nobody is told"));
    let one = &desk.json(&["customers", "list"]).await[0];
    assert!(one["muted_since"].is_string() && one["muted_until"].is_string(), "{one}");
    desk.sandbox.approve(&id).unwrap();
    desk.run(&["poll", &id]).await.exits(0);
    assert!(desk.rows("select * from v_deliveries").await.is_empty());
    let event = desk.rows("select event_id from v_transitions where to_status = 'Approved'").await.remove(0);
    let page = desk.run(&["explain", &event]).await.exits(0).out;
    assert!(page.contains("Nobody: the customer was muted"), "{page}");
    assert!(desk.run(&["customers", "unmute", &id]).await.exits(0).out.contains("told of again"));
    assert!(desk.run(&["customers", "unmute", &id]).await.exits(0).out.contains("was not muted"));
    desk.run(&["customers", "mute", "nobody"]).await.exits(4);
    desk.run(&["customers", "mute", &id, "--for", "soon"]).await.exits(2);
}

#[tokio::test]
async fn a_test_goes_down_the_real_path_is_marked_and_is_no_decision() {
    let mut desk = Desk::new().await;
    // It stays pending, for the daemon.
    desk.denied("Contoso School").await;
    let said = desk.run(&["test-send", "crm"]).await.exits(0).out;
    assert!(said.contains("accepted") && !said.contains("delivered"), "{said}");
    let hook = desk.hook.wait_for(1, WAIT).await.unwrap().remove(0);
    assert_eq!((&hook.json()["type"], &hook.json()["data"]["test"]), (&"vetting.denied".into(), &true.into()));
    let id = hook.id().unwrap().to_owned();
    assert!(said.contains(&id), "under which id:\n{said}");
    assert_eq!(desk.rows(&format!("select state from v_deliveries where delivery_id = '{id}'")).await, ["delivered"]);
    assert_eq!(desk.rows("select count(*) from v_deliveries where state = 'pending'").await, ["2"]);
    assert_eq!(desk.rows("select count(*) from v_decisions").await, ["1"], "the real one");
    assert!(desk.run(&["explain", &id]).await.exits(0).out.contains("somebody asked for it with `vetwatch test-send`"));

    let said = desk.json(&["test-send", "sales-mail", "--event", "monitor.partner_failing"]).await;
    assert_eq!((&said["outcome"], &said["event_type"]), (&"accepted".into(), &"monitor.partner_failing".into()));
    let mail = desk.mail.wait_for(1, WAIT).await.unwrap().remove(0).text();
    assert!(mail.to_lowercase().contains("test"), "{mail}");
    for kind in vetwatch::event::EventType::ALL {
        desk.run(&["test-send", "crm", "--event", kind.as_str()]).await.exits(0);
    }
}

#[tokio::test]
async fn beside_a_running_daemon_the_daemon_sends_the_test_even_where_the_endpoint_is_closed() {
    let mut desk = Desk::with("in_review = \"100ms\"\nsettled = \"24h\"", |text| {
        text + "[retry]\nschedule = [\"50ms\", \"50ms\", \"1h\"]"
    })
    .await;
    // The endpoint backs off after the third failure, and is probed five minutes later.
    desk.hook.script(WebhookAction::status(500), None);
    desk.denied("Contoso School").await;
    let daemon = Daemon::start(&desk, &[]);
    desk.until("select name from endpoint where closed_since is not null", &["crm"]).await;
    let failed = desk.run(&["test-send", "crm"]).await.exits(75).err;
    assert!(failed.contains("did not take the test this time") && failed.contains("stays queued"), "{failed}");
    desk.hook.clear_script();
    let said = desk.run(&["test-send", "crm"]).await.exits(0).out;
    assert!(said.contains("has in force") && !said.contains("has changed since"), "{said}");
    // A success ends the backoff: pending deliveries are sent.
    desk.until("select count(*) from v_deliveries where endpoint = 'crm' and state = 'delivered'", &["3"]).await;
    let config = desk.path("vetwatch.toml");
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + "\n# another\n").unwrap();
    let said = desk.run(&["test-send", "crm"]).await.exits(0).out;
    assert!(said.contains("vetwatch.toml has changed since the daemon read it"), "{said}");
    daemon.stop(&desk).await;
}

#[tokio::test]
async fn a_test_that_is_refused_says_so_and_raises_no_alert() {
    let mut desk = Desk::new().await;
    desk.customer("Contoso School").await;
    desk.mail.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("550 5.1.1 no such user".into())));
    let refused = desk.run(&["test-send", "sales-mail"]).await.exits(1).err;
    assert!(refused.contains("550 5.1.1 no such user"), "{refused}");
    assert_eq!(desk.rows("select state from v_deliveries").await, ["dead"]);
    desk.run(&["poll"]).await.exits(0);
    assert!(!desk.run(&["status"]).await.exits(3).out.contains("given up:"), "nothing that somebody should know of");
    desk.hook.script(WebhookAction::status(410), None);
    let gone = desk.run(&["test-send", "crm"]).await.exits(1).err;
    assert!(gone.contains("gone for good"), "{gone}");
    desk.hook.clear_script();
    desk.run(&["test-send", "crm"]).await.exits(0);
}

#[tokio::test]
async fn all_endpoints_are_tested_and_one_that_fails_keeps_no_other_from_it() {
    let desk = Desk::new().await;
    let said = desk.run(&["test-send", "--all"]).await.exits(0).out;
    assert_eq!(said.matches("accepted: ").count(), 2, "{said}");
    desk.mail.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("550 5.1.1 no such user".into())));
    let run = desk.run(&["test-send", "--all"]).await.exits(1);
    assert!(run.out.contains("FAILED: sales-mail refused") && run.out.contains("accepted: "), "{}", run.out);
    assert!(run.err.contains("1 of 2 endpoints did not take the test: sales-mail"), "{}", run.err);
    let run = desk.run(&["test-send", "--all", "--json"]).await.exits(1);
    let sent: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let outcomes = [("sales-mail", "failed"), ("crm", "accepted")];
    for (n, (endpoint, outcome)) in outcomes.into_iter().enumerate() {
        assert_eq!((&sent[n]["endpoint"], &sent[n]["outcome"]), (&endpoint.into(), &outcome.into()), "{sent}");
    }
    desk.run(&["test-send"]).await.exits(2);
    desk.run(&["test-send", "crm", "--all"]).await.exits(2);
}

#[tokio::test]
async fn a_name_that_is_not_known_is_met_with_one_that_is() {
    let desk = Desk::new().await;
    let said = desk.run(&["test-send", "sale-mail"]).await.exits(4).err;
    assert!(said.contains("did you mean sales-mail?"), "{said}");
    let said = desk.run(&["test-send", "nowhere"]).await.exits(4).err;
    assert!(said.contains("sales-mail") && said.contains("crm"), "{said}");
    let said = desk.run(&["test-send", "crm", "--event", "vetting.denid"]).await.exits(2).err;
    assert!(said.contains("did you mean vetting.denied?"), "{said}");
}

#[tokio::test]
async fn customers_contacts_get_no_test() {
    let contacts = |text: String| {
        text.replacen("to = [\"sales@contoso.example\"]", "to_contact = true", 1)
            .replace("[operators]\nendpoints = [\"sales-mail\", \"crm\"]", "[operators]\nendpoints = [\"crm\"]")
    };
    let desk = Desk::with("", contacts).await;
    let said = desk.run(&["test-send", "sales-mail"]).await.exits(2).err;
    assert!(said.contains("who are to get no test"), "{said}");
    assert!(desk.mail.mails().is_empty());
}

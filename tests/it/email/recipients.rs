//! Failures of one recipient, and of all.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use vetwatch::delivery::Outcome;
use vetwatch::delivery::email::{EmailChannel, EmailSettings, Tls};

use super::{deliver, deliver_after, plain, settings};
use crate::peers::MailServer;
use crate::world::World;

/// From the verdict to the mailboxes, over a real server.
#[tokio::test]
async fn a_mail_that_one_takes_one_refuses_and_one_takes_later_is_repeated_to_nobody() {
    // A second attempt would be accepted: it would show.
    let server = MailServer::plain(&json!({"rcpt": [
        ["^gone@", "550 5.1.1 no such mailbox", 1],
        ["^grey@", "451 4.7.1 greylisted, try again in a minute", 1],
    ]}));
    let mut world = World::edited("", "", |text| {
        let (before, rest) = text.split_once("[smtp.office]").unwrap();
        let (_, rest) = rest.split_once("[[endpoint]]").unwrap();
        let to = "to = [\"here@contoso.example\", \"gone@contoso.example\", \"grey@contoso.example\"]";
        let rest = rest.replace("to = [\"sales@contoso.example\"]", to);
        let port = server.port;
        format!("{before}[smtp.office]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n[[endpoint]]{rest}")
    })
    .await;
    let school = world.in_review("Contoso School").await;
    world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    world.poll_later().await;
    world.deliver().await;
    let state = "select state from v_deliveries where endpoint = 'sales-mail'";
    assert_eq!(world.rows(state).await, ["pending"]);
    assert_eq!(server.only().to(), ["here@contoso.example"]);
    world.pass(Duration::from_mins(2));
    world.deliver().await;
    assert_eq!(world.rows(state).await, ["delivered"]);
    let received = server.received();
    assert_eq!(
        received.iter().map(crate::peers::Received::to).collect::<Vec<_>>(),
        [["here@contoso.example"], ["grey@contoso.example"]]
    );
    let id = |text: &str| text.lines().filter(|line| line.starts_with("Message-ID")).collect::<String>();
    assert_eq!(id(&received[0].text()), id(&received[1].text()));
    world.pass(Duration::from_hours(24));
    world.deliver().await;
    assert_eq!(server.received().len(), 2);
}

#[tokio::test]
async fn what_a_server_says_of_every_message_ends_none() {
    let replies = [
        "554 5.2.252 SendAsDenied; vetting@contoso.example not allowed to send as vetwatch@contoso.example",
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
        "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message",
        "550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP",
    ];
    let server = MailServer::plain(&json!({ "data": replies }));
    let channel = plain(&server, &["a@contoso.example"]);
    for reply in replies {
        let report = deliver(&channel).await;
        assert_eq!((report.outcome, report.final_replies.len()), (Outcome::Blocked, 0), "{reply}");
        assert!(report.detail.contains(&reply[..40]), "{}", report.detail);
    }
    assert_eq!(deliver(&channel).await.outcome, Outcome::Accepted);

    // A message that is rejected must not block the others.
    let server = MailServer::plain(&json!({"data": ["554 5.7.1 rejected for its content"]}));
    let report = deliver(&plain(&server, &["a@contoso.example"])).await;
    assert_eq!((report.outcome, report.final_replies.len()), (Outcome::Refused, 1), "{}", report.detail);
    // Exim's text, without an enhanced status.
    let server = MailServer::plain(&json!({"rcpt": [["", "550 relay not permitted"]]}));
    let report = deliver(&plain(&server, &["a@contoso.example", "b@contoso.example"])).await;
    assert_eq!((report.outcome, report.final_replies.len()), (Outcome::Blocked, 0), "{}", report.detail);
}

#[tokio::test]
async fn an_address_that_the_server_does_not_understand_stops_no_other() {
    let server = MailServer::plain(&json!({"rcpt": [["^odd@", "500 5.5.2 what?"]]}));
    let report = deliver(&plain(&server, &["odd@contoso.example", "here@contoso.example"])).await;
    assert_eq!((report.outcome, report.final_replies.len()), (Outcome::Deferred, 1), "{}", report.detail);
    assert_eq!(server.only().to(), ["here@contoso.example"]);

    // This server has no SMTPUTF8. A domain has an ASCII form; a local part has none.
    let server = MailServer::plain(&json!({}));
    let to = ["jürgen@contoso.example", "it@schule-münchen.example", "here@contoso.example"];
    let channel = plain(&server, &to);
    let report = deliver(&channel).await;
    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    assert_eq!(server.only().to(), ["it@xn--schule-mnchen-3ob.example", "here@contoso.example"]);
    assert!(report.final_replies[to[0]].starts_with("553 5.6.7 "), "{:?}", report.final_replies);
    assert!(report.final_replies[to[1]].starts_with("250 "), "{:?}", report.final_replies);
    let again = deliver_after(&channel, &report.final_replies).await;
    assert_eq!((again.outcome, server.received().len()), (Outcome::Accepted, 1));
    // As the only recipient, it still does not make the endpoint fail.
    let alone =
        EmailChannel::new(EmailSettings { to: vec![to[0].parse().unwrap()], ..settings(server.port, Tls::None) });
    assert_eq!(deliver_after(&alone, &BTreeMap::new()).await.outcome, Outcome::Refused);
}

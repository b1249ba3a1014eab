//! Failures of one recipient, and of all.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use vetwatch::delivery::Outcome;
use vetwatch::delivery::email::address::Contact;
use vetwatch::delivery::email::{EmailChannel, EmailSettings, Tls};
use vetwatch::delivery::route::ContactPolicy;
use vetwatch::store::{ClaimedDelivery, UnrenderedDelivery};
use vetwatch::time::Timestamp;

use super::{ID, deliver, deliver_after, plain, render, settings};
use crate::peers::{MailServer, parse_mail};
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
    assert!(report.final_replies["it@xn--schule-mnchen-3ob.example"].starts_with("250 "), "{:?}", report.final_replies);
    let again = deliver_after(&channel, &report.final_replies).await;
    assert_eq!((again.outcome, server.received().len()), (Outcome::Accepted, 1));
    // As the only recipient, it still does not make the endpoint fail.
    let alone =
        EmailChannel::new(EmailSettings { to: vec![to[0].parse().unwrap()], ..settings(server.port, Tls::None) });
    assert_eq!(deliver_after(&alone, &BTreeMap::new()).await.outcome, Outcome::Refused);
}

/// A delivery to `count` recipients of `sales-mail`.
async fn world_with(server: &MailServer, count: usize) -> World {
    let to: Vec<_> = (0..count).map(|n| format!("r{n}@contoso.example")).collect();
    let (to, port) = (json!(to).to_string(), server.port);
    World::edited("", "", |text| {
        let (before, rest) = text.split_once("[smtp.office]").unwrap();
        let (_, rest) = rest.split_once("[[endpoint]]").unwrap();
        let rest = rest.replace("to = [\"sales@contoso.example\"]", &format!("to = {to}"));
        format!("{before}[smtp.office]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n[[endpoint]]{rest}")
    })
    .await
}

#[tokio::test]
async fn many_recipients_get_the_mail_in_transactions_of_a_hundred_under_one_id() {
    let server = MailServer::plain(&json!({"rcpt": [["^r42@", "550 5.1.1 no such mailbox"]]}));
    let mut world = world_with(&server, 250).await;
    let school = world.in_review("Contoso School").await;
    world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    world.poll_later().await;
    world.deliver().await;
    assert_eq!(
        world.rows("select state, attempts from v_deliveries where endpoint = 'sales-mail'").await,
        ["delivered | 1"]
    );
    let received = server.received();
    assert_eq!(received.iter().map(|mail| mail.to().len()).collect::<Vec<_>>(), [99, 100, 50]);
    assert!(received.iter().all(|mail| mail.text() == received[0].text()), "one mail, for all of them");
    let mail = parse_mail(&received[0].file);
    assert_eq!(mail["to"].as_array().unwrap().len(), 250);
    assert!(received[0].text().lines().all(|line| line.len() <= 78 || !line.contains(", ")), "not folded");
}

/// The process dies in the second transaction: those of the first one do not get it again.
#[tokio::test]
async fn a_crash_between_two_transactions_repeats_the_mail_to_nobody() {
    let server = MailServer::plain(&json!({"rcpt": [["^r42@", "550 5.1.1 no such mailbox"]], "data": [null, "hang"]}));
    let mut world = world_with(&server, 250).await;
    let school = world.in_review("Contoso School").await;
    world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    world.poll_later().await;
    {
        let delivering = world.deliver();
        let hangs = async {
            while server.received().len() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = hangs => {}
            () = delivering => panic!("the second transaction hangs"),
        }
    }
    let row = "select json_array_length(json_group_array(key)), sum(value like '5%'),
                      (select count(*) from delivery, json_each(refused) where endpoint = 'sales-mail')
               from delivery, json_each(final_replies) where endpoint = 'sales-mail'";
    assert_eq!(world.rows(row).await, ["100 | 1 | 1"], "what the first transaction said is stored");
    world.restart().await;
    world.deliver().await;
    assert_eq!(world.rows("select state from v_deliveries where endpoint = 'sales-mail'").await, ["delivered"]);
    let received = server.received();
    // The second one was handed over before the crash, which nobody can know.
    assert_eq!(received.iter().map(|mail| mail.to().len()).collect::<Vec<_>>(), [99, 100, 100, 50]);
    assert_eq!(received[1].to(), received[2].to());
}

#[tokio::test]
async fn a_server_with_a_lower_limit_gets_the_rest_in_further_transactions() {
    let server = MailServer::plain(&json!({"max_recipients": 30}));
    let to: Vec<_> = (0..70).map(|n| format!("r{n}@contoso.example")).collect();
    let to: Vec<_> = to.iter().map(String::as_str).collect();
    let report = deliver(&plain(&server, &to)).await;
    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    assert_eq!(report.final_replies.len(), 70);
    assert_eq!(server.received().iter().map(|mail| mail.to().len()).collect::<Vec<_>>(), [30, 30, 10]);
}

/// Both were closed by the same outage; the second one is probed at once, though it would be in minutes.
#[tokio::test]
async fn an_endpoint_that_comes_back_has_the_other_one_on_its_server_probed() {
    let more = "[[endpoint]]\nname = \"school-mail\"\nkind = \"email\"\nsmtp = \"office\"\nfrom = \"v@contoso.example\"\n\
                to = [\"school@contoso.example\"]\n\
                [[route]]\nevents = [\"vetting.denied\"]\nendpoints = [\"school-mail\"]\n";
    let mut world = World::edited("", more, |text| text).await;
    let school = world.in_review("Contoso School").await;
    world.mail.stop().await.unwrap();
    world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    world.poll_later().await;
    world.deliver().await;
    let closed = "select name from endpoint where closed_since is not null order by name";
    assert_eq!(world.rows(closed).await, ["sales-mail", "school-mail"]);
    // Its own next probe is far away.
    let now = vetwatch::time::Clock::now(&*world.clock).after(Duration::from_mins(5)).as_millis();
    world.execute(&format!("update endpoint set probe_at = {now} where name = 'school-mail'")).await;
    world.execute(&format!("update delivery set next_attempt_at = {now} where endpoint = 'school-mail'")).await;
    world.mail.start_again().await.unwrap();
    world.pass(Duration::from_mins(1));
    world.deliver().await;
    assert_eq!(world.rows(closed).await, [""; 0], "both are open");
    assert_eq!(world.rows("select state from v_deliveries where endpoint = 'school-mail'").await, ["delivered"]);
}

/// The endpoint's recipients are other ones when the mail is sent again.
#[tokio::test]
async fn a_mail_names_the_recipients_that_it_goes_to() {
    let server = MailServer::plain(&json!({}));
    let delivery = ClaimedDelivery::without_row(ID, render(&plain(&server, &["old@contoso.example"])));
    let now = plain(&server, &["new@contoso.example", "other@contoso.example"]);
    assert_eq!(now.deliver(&delivery).await.outcome, Outcome::Accepted);
    let received = server.only();
    assert_eq!(received.to(), ["new@contoso.example", "other@contoso.example"]);
    let mail = parse_mail(&received.file);
    assert_eq!(mail["to"], json!([["", "new@contoso.example"], ["", "other@contoso.example"]]));
    let changed = "To: new@contoso.example, other@contoso.example";
    let as_before = received.text().replace("\r\n", "\n").replace(changed, "To: old@contoso.example");
    assert_eq!(as_before.trim_end(), delivery.message.replace("\r\n", "\n").trim_end());
}

#[tokio::test]
async fn a_contact_of_several_addresses_gets_one_mail() {
    let server = MailServer::plain(&json!({}));
    let settings = EmailSettings { to: Vec::new(), contact: ContactPolicy::Only, ..settings(server.port, Tls::None) };
    let channel = EmailChannel::new(settings);
    let recipient = Contact::parse("Jan <jan@x.example>; mailto:it@schule-köln.example").recipient();
    let events = vec![super::denied(|_| ())];
    let delivery =
        UnrenderedDelivery { recipient: recipient.clone(), ..UnrenderedDelivery::new(ID, events, chrono_tz::UTC) };
    let message = channel.render(&delivery, Timestamp::from_millis(1_795_252_445_000));
    let claimed = ClaimedDelivery { recipient, ..ClaimedDelivery::without_row(ID, message) };
    assert_eq!(channel.deliver(&claimed).await.outcome, Outcome::Accepted);
    assert_eq!(server.only().to(), ["jan@x.example", "it@xn--schule-kln-lcb.example"]);
}

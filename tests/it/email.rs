//! Mail through a real server (aiosmtpd), read by an independent parser; faults it cannot produce are scripted.

mod recipients;
mod refused;
mod script;
mod slow;
mod token;
mod trust;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;
use vetwatch::delivery::email::{EmailChannel, EmailSettings, Login, LoginBy, SmtpSettings, Tls};
use vetwatch::delivery::message::sample;
use vetwatch::delivery::route::ContactPolicy;
use vetwatch::delivery::{AttemptResult, Outcome};
use vetwatch::event::{Event, EventPayload, EventType, VettingChange};
use vetwatch::store::{ClaimedDelivery, UnrenderedDelivery};
use vetwatch::time::Timestamp;

use self::script::{converse, scripted};
use crate::peers::{Certificates, MailServer, parse_mail};

const ID: Uuid = Uuid::from_u128(0x0193_4a5b_6c7d_7000_8000_0000_0000_0002);
const TRY_AGAIN: Outcome = Outcome::Retry { after: None };

fn settings(port: u16, tls: Tls) -> EmailSettings {
    EmailSettings {
        smtp: SmtpSettings { host: "localhost".to_owned(), port, tls, hello: None, login: None, ca_file: None },
        from: "vetwatch <vetwatch@contoso.example>".parse().unwrap(),
        to: vec!["sales@contoso.example".parse().unwrap()],
        contact: ContactPolicy::No,
    }
}

fn login(password: &str) -> Login {
    Login { username: "watch".to_owned(), by: LoginBy::Password(SecretString::from(password)) }
}

fn plain(server: &MailServer, to: &[&str]) -> EmailChannel {
    let to = to.iter().map(|to| to.parse().unwrap()).collect();
    EmailChannel::new(EmailSettings { to, ..settings(server.port, Tls::None) })
}

fn denied(change: impl FnOnce(&mut VettingChange)) -> Event {
    let now = serde_json::from_value("2026-11-21T09:14:03.120Z".into()).unwrap();
    let mut event = sample::event(EventType::Denied, Uuid::from_u128(1), "emea", now);
    event.data.test = false;
    if let EventPayload::Vetting(news) = &mut event.data.subject {
        change(news);
    }
    event
}

fn render(channel: &EmailChannel) -> String {
    channel.render(
        &UnrenderedDelivery::new(ID, vec![denied(|_| ())], chrono_tz::UTC),
        Timestamp::from_millis(1_795_252_445_000),
    )
}

async fn deliver(channel: &EmailChannel) -> AttemptResult {
    deliver_after(channel, &BTreeMap::new()).await
}

async fn deliver_after(channel: &EmailChannel, final_replies: &BTreeMap<String, String>) -> AttemptResult {
    let delivery = ClaimedDelivery::without_row(ID, render(channel));
    channel.deliver(&ClaimedDelivery { final_replies: final_replies.clone(), ..delivery }).await
}

fn header<'a>(mail: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = mail["headers"].as_array().unwrap();
    headers.iter().filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_mail_over_starttls_and_login_is_read_as_it_was_meant_whatever_the_name_holds() {
    let certificates = Certificates::new();
    let server = MailServer::secured("starttls", &certificates);
    let mut settings = settings(server.port, Tls::Starttls);
    settings.smtp.login = Some(login("pass word"));
    settings.smtp.ca_file = Some(certificates.ca());
    settings.to = vec!["Jürgen Grüß <sales@contoso.example>".parse().unwrap(), "it@contoso.example".parse().unwrap()];
    let channel = EmailChannel::new(settings);

    let event = denied(|news| {
        news.customer.name =
            "École\r\nBcc: everybody@contoso.example\r\n\r\n.\r\n<script>alert(1)</script> \u{1b}[2J\u{202e}大学"
                .to_owned();
        news.vetting_reason = Some("Not an Education Customer & \"more\"".to_owned());
    });
    let message = channel
        .render(&UnrenderedDelivery::new(ID, vec![event], chrono_tz::UTC), Timestamp::from_millis(1_795_252_445_000));
    let report = channel.deliver(&ClaimedDelivery::without_row(ID, message)).await;

    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    assert_eq!(report.final_replies.len(), 2);
    assert!(report.final_replies.values().all(|reply| reply.starts_with("250 ")), "{report:?}");
    let received = server.only();
    assert_eq!(received.envelope["tls"], true);
    assert_eq!(received.envelope["login"], "watch");
    assert_eq!(received.to(), ["sales@contoso.example", "it@contoso.example"]);

    let mail = parse_mail(&received.file);
    assert_eq!(mail["defects"], json!([]));
    assert_eq!(mail["to"], json!([["Jürgen Grüß", "sales@contoso.example"], ["", "it@contoso.example"]]));
    assert_eq!(mail["from"], json!(["vetwatch@contoso.example"]));
    assert_eq!(mail["type"], "multipart/alternative");
    assert_eq!(header(&mail, "Message-ID"), ["<01934a5b-6c7d-7000-8000-000000000002@contoso.example>"]);
    assert_eq!(header(&mail, "Auto-Submitted"), ["auto-generated"]);
    assert_eq!(header(&mail, "List-Id"), ["vetwatch <vetwatch.contoso.example>"]);
    assert_eq!(header(&mail, "X-Vetwatch-Event"), ["vetting.denied"]);
    assert_eq!(header(&mail, "In-Reply-To"), header(&mail, "References"));
    assert_eq!(header(&mail, "Bcc"), [""; 0]);
    let name = "École Bcc: everybody@contoso.example . <script>alert(1)</script> [2J大学";
    let headline = format!("Denied: {name} – Education (Not an Education Customer & \"more\")");
    assert_eq!(header(&mail, "Subject"), [headline.as_str()]);
    let content = |part: usize| mail["parts"][part]["content"].as_str().unwrap().to_owned();
    assert!(content(0).starts_with(&format!("{headline}\n")), "{}", content(0));
    assert!(!content(1).contains("<script>") && content(1).contains("&lt;script&gt;"), "{}", content(1));
    let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!content(0).contains(harmful) && !content(1).contains(harmful));
}

#[tokio::test]
async fn the_client_calls_itself_by_a_full_name_or_an_address() {
    let said = async |hello: Option<&str>| {
        let (port, server) = scripted("220 hello", &["250 localhost", "221 bye"]).await;
        let mut settings = settings(port, Tls::None);
        settings.smtp.hello = hello.map(str::to_owned);
        drop(EmailChannel::new(settings).probe().await);
        server.await.unwrap().remove(0)
    };
    assert_eq!(said(Some("vetwatch.contoso.example")).await, "EHLO vetwatch.contoso.example");
    // Without one it depends on this machine, which may have no full name.
    let usual = said(None).await;
    let name = usual.strip_prefix("EHLO ").unwrap();
    let is_literal = ["[127.0.0.1]", "[IPv6:::1]"].contains(&name);
    assert!(is_literal || vetwatch::delivery::email::is_full_name(name), "{usual}");
}

#[tokio::test]
async fn a_mail_over_implicit_tls_arrives() {
    let certificates = Certificates::new();
    let server = MailServer::secured("implicit", &certificates);
    let mut settings = settings(server.port, Tls::Implicit);
    settings.smtp.login = Some(login("pass word"));
    settings.smtp.ca_file = Some(certificates.ca());
    let channel = EmailChannel::new(settings);

    let report = deliver(&channel).await;
    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    assert_eq!(server.only().envelope["tls"], true);
    let probe = channel.probe().await.unwrap();
    assert_eq!(probe, format!("localhost:{}: reached, TLS, logged in as watch", server.port));
}

/// 465 and 587 swapped, a private authority, a certificate that is over or for another name.
#[tokio::test]
async fn each_cause_of_a_tls_failure_has_its_words() {
    let certificates = Certificates::new();
    let probe = async |server: &MailServer, tls: Tls, trusted: bool| {
        let mut settings = settings(server.port, tls);
        settings.smtp.ca_file = trusted.then(|| certificates.ca());
        EmailChannel::new(settings).probe().await.unwrap_err().to_string()
    };
    let server = MailServer::secured("implicit", &certificates);
    let said = probe(&server, Tls::Starttls, true).await;
    assert!(said.ends_with("it speaks TLS from the first byte: this port wants tls = \"implicit\""), "{said}");
    let said = probe(&server, Tls::Starttls, false).await;
    assert!(said.ends_with("this port wants tls = \"implicit\""), "{said}");
    let said = probe(&server, Tls::Implicit, false).await;
    assert!(said.contains("no authority that this machine trusts") && said.contains("ca_file"), "{said}");

    let server = MailServer::secured("starttls", &certificates);
    let said = probe(&server, Tls::Implicit, true).await;
    assert!(said.ends_with("it does not speak TLS at this port; it may want tls = \"starttls\""), "{said}");

    for (name, words) in [
        ("expired", "its certificate ended on 2025-01-31"),
        ("other", "its certificate is for another name: DnsName(\"mail.example\")"),
    ] {
        let server = MailServer::with_certificate("starttls", &certificates, name);
        let said = probe(&server, Tls::Starttls, true).await;
        assert!(said.ends_with(words), "{said}");
    }
}

#[tokio::test]
async fn each_recipient_has_an_answer_of_its_own() {
    let server = MailServer::plain(
        &json!({"rcpt": [["^gone@", "550 5.1.1 no such mailbox"], ["^full@", "452 4.2.2 mailbox full"]]}),
    );
    let channel = plain(&server, &["here@contoso.example", "gone@contoso.example", "full@contoso.example"]);

    let first = deliver(&channel).await;
    assert_eq!(first.outcome, Outcome::Deferred, "the endpoint works");
    assert_eq!(first.final_replies.keys().collect::<Vec<_>>(), ["gone@contoso.example", "here@contoso.example"]);
    assert!(first.final_replies["gone@contoso.example"].starts_with("550 5.1.1"), "{first:?}");
    assert!(first.final_replies["here@contoso.example"].starts_with("250 "), "{first:?}");
    assert!(first.detail.contains("full@contoso.example: 452 4.2.2 mailbox full"), "{}", first.detail);
    assert_eq!(server.only().to(), ["here@contoso.example"]);

    let second = deliver_after(&channel, &first.final_replies).await;
    assert_eq!((second.outcome, second.final_replies.len()), (Outcome::Deferred, 0));
    assert_eq!(server.received().len(), 1, "a recipient that has it must not get it again");
}

#[tokio::test]
async fn when_the_last_recipient_takes_it_the_mail_is_accepted() {
    let server = MailServer::plain(&json!({}));
    let channel = plain(&server, &["here@contoso.example", "gone@contoso.example", "full@contoso.example"]);
    let final_replies = BTreeMap::from([
        ("here@contoso.example".to_owned(), "250 2.0.0 queued".to_owned()),
        ("gone@contoso.example".to_owned(), "550 5.1.1 no such mailbox".to_owned()),
    ]);
    let report = deliver_after(&channel, &final_replies).await;
    assert_eq!(report.outcome, Outcome::Accepted);
    assert_eq!(report.final_replies.keys().collect::<Vec<_>>(), ["full@contoso.example"]);
    assert_eq!(server.only().to(), ["full@contoso.example"]);

    let mut all = final_replies;
    all.extend(report.final_replies);
    assert_eq!(deliver_after(&channel, &all).await.outcome, Outcome::Accepted);
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn a_mail_that_nobody_will_ever_take_is_refused() {
    let server = MailServer::plain(&json!({"rcpt": [["", "550 5.1.1 no such mailbox"]]}));
    let report = deliver(&plain(&server, &["a@contoso.example", "b@contoso.example"])).await;
    assert_eq!((report.outcome, report.final_replies.len()), (Outcome::Refused, 2));
    assert!(report.detail.contains("a@contoso.example: 550 5.1.1 no such mailbox"), "{}", report.detail);

    for reply in ["554 5.6.0 not this one", "552 5.3.4 too big"] {
        let server = MailServer::plain(&json!({"data": [reply]}));
        let report = deliver(&plain(&server, &["a@contoso.example"])).await;
        assert_eq!(report.outcome, Outcome::Refused);
        assert_eq!(report.final_replies["a@contoso.example"], reply);
    }
}

#[tokio::test]
async fn a_server_that_will_not_relay_is_the_endpoints_trouble_and_no_messages_end() {
    let server = MailServer::plain(&json!({"rcpt": [["^a@", "554 5.7.1 relay access denied"]]}));
    let report = deliver(&plain(&server, &["a@contoso.example"])).await;
    assert_eq!((report.outcome, report.final_replies.len()), (Outcome::Blocked, 0));
    assert!(report.detail.contains("554 5.7.1 relay access denied"), "{}", report.detail);
    // It accepts the message for another recipient, which has it; the endpoint works, and only the first one waits.
    let report = deliver(&plain(&server, &["a@contoso.example", "b@contoso.example"])).await;
    assert_eq!(report.outcome, Outcome::Deferred);
    assert_eq!(report.final_replies.keys().collect::<Vec<_>>(), ["b@contoso.example"]);
}

#[tokio::test]
async fn a_refused_sender_is_the_endpoints_trouble() {
    for (reply, outcome) in [
        ("550 5.7.60 not allowed to send as this", Outcome::AuthRejected),
        ("451 4.3.0 later", Outcome::Unavailable),
        ("421 4.3.2 shutting down", Outcome::Unavailable),
    ] {
        let server = MailServer::plain(&json!({"mail": [reply, reply]}));
        let report = deliver(&plain(&server, &["a@contoso.example"])).await;
        assert_eq!(report.outcome, outcome, "{reply}");
        assert!(report.detail.contains(reply), "{}", report.detail);
    }
}

#[tokio::test]
async fn a_mail_server_that_hangs_up_after_data_gets_the_message_again() {
    let server = MailServer::plain(&json!({"data": ["close", "451 4.3.0 later"]}));
    let channel = plain(&server, &["a@contoso.example"]);
    let first = deliver(&channel).await;
    assert_eq!((first.outcome, first.final_replies.len()), (Outcome::Unconfirmed, 0), "{}", first.detail);
    assert!(first.detail.contains("sending the message"), "{}", first.detail);
    assert!(first.detail.contains("whether it has taken the message is not known"), "{}", first.detail);
    assert_eq!(deliver(&channel).await.outcome, TRY_AGAIN);
    assert_eq!(deliver(&channel).await.outcome, Outcome::Accepted);
    let received = server.received();
    assert_eq!(received.len(), 3);
    assert!(received.iter().all(|message| message.text() == received[0].text()), "every attempt says the same");
    assert!(received[0].text().contains("Message-ID: <01934a5b-6c7d-7000-8000-000000000002@contoso.example>"));
}

#[tokio::test]
async fn one_connection_serves_several_mails_and_a_dead_one_costs_no_attempt() {
    let server = MailServer::plain(&json!({"rcpt": [["^gone@", "550 5.1.1 no such mailbox"]]}));
    let channel = plain(&server, &["gone@contoso.example", "a@contoso.example"]);
    for _ in 0..3 {
        assert_eq!(deliver(&channel).await.outcome, Outcome::Accepted);
    }
    let connections: std::collections::BTreeSet<_> =
        server.received().iter().map(|message| message.envelope["connection"].to_string()).collect();
    assert_eq!(connections.len(), 1, "a connection for each mail");

    // Each of these connections dies after its first mail, once silently and once with 421.
    for end in ["", "421 4.3.2 enough"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = tokio::spawn(async move {
            for connection in 0..2 {
                let (stream, _) = listener.accept().await.unwrap();
                let mut script = vec!["250 localhost", "250 sender", "250 rcpt", "354 go", "250 taken", end];
                script.truncate(if end.is_empty() { 5 } else { 6 });
                let said = converse(stream, "220 hello", &script).await;
                assert!(said.iter().any(|line| line == "DATA"), "connection {connection}: {said:?}");
            }
        });
        let channel = EmailChannel::new(settings(port, Tls::None));
        for _ in 0..2 {
            let report = deliver(&channel).await;
            assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
        }
        drop(channel);
        connections.await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let report = deliver(&EmailChannel::new(settings(port, Tls::Starttls))).await;
    assert_eq!(report.outcome, Outcome::Unavailable);
    assert!(report.detail.contains("connecting: "), "{}", report.detail);

    let mut settings = settings(25, Tls::Starttls);
    settings.smtp.host = "no-such-host.invalid".to_owned();
    let report = deliver(&EmailChannel::new(settings)).await;
    assert_eq!(report.outcome, Outcome::Unavailable);
    assert!(report.detail.contains("no-such-host.invalid:25, looking up its name"), "{}", report.detail);
}

#[tokio::test]
async fn every_attempt_ends_at_its_deadline_wherever_the_server_falls_silent() {
    let answers = ["250 localhost", "250 sender", "250 rcpt", "354 go"];
    let outcomes = [Outcome::Unavailable, Outcome::Unavailable, TRY_AGAIN, TRY_AGAIN, Outcome::Unconfirmed];
    for (answered, expected) in outcomes.into_iter().enumerate() {
        let (port, server) = scripted("220 hello", &answers[..answered]).await;
        let limit = Duration::from_millis(300);
        let channel = EmailChannel::new(settings(port, Tls::None)).with_deadline(limit).with_final_reply(limit);
        let begun = Instant::now();
        let report = deliver(&channel).await;
        assert_eq!(report.outcome, expected, "silent after {answered} answers: {}", report.detail);
        assert!(report.detail.contains("no answer within 300ms"), "{}", report.detail);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        server.abort();
    }
    let (port, server) = scripted("", &[]).await; // no greeting at all
    let channel = EmailChannel::new(settings(port, Tls::None)).with_deadline(Duration::from_millis(300));
    assert_eq!(deliver(&channel).await.outcome, Outcome::Unavailable);
    assert!(channel.probe().await.is_err());
    server.abort();
}

#[tokio::test]
async fn replies_that_are_no_ascii_or_have_no_end_do_no_harm() {
    let (port, server) =
        scripted("220 hello", &["250 localhost", "250 sender", "550 5.1.1 Empf\u{e4}nger \u{1b}[31munbekannt"]).await;
    let report = deliver(&EmailChannel::new(settings(port, Tls::None))).await;
    assert_eq!(report.outcome, Outcome::Refused, "{}", report.detail);
    assert!(report.detail.contains("Empf?nger [31munbekannt"), "{}", report.detail);
    server.abort();

    let endless = "5".repeat(1 << 20);
    let (port, server) = scripted("220 hello", &["250 localhost", "250 sender", &endless]).await;
    let report = deliver(&EmailChannel::new(settings(port, Tls::None))).await;
    assert_eq!(report.outcome, TRY_AGAIN, "{}", report.detail);
    assert!(report.detail.contains("a reply without end"), "{}", report.detail);
    server.abort();
}

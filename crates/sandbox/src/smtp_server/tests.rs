//! The mail server from a client's view.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::*;
use vetwatch_core::time::SystemClock;

const SOON: Duration = Duration::from_secs(10);

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(mailbox: &SmtpServer) -> io::Result<Self> {
        let mut client = Self(BufReader::new(TcpStream::connect(mailbox.address()).await?));
        client.reply().await?;
        client.say("EHLO client.example").await?;
        Ok(client)
    }

    async fn reply(&mut self) -> io::Result<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line.trim_end().to_owned());
            }
        }
    }

    async fn say(&mut self, line: &str) -> io::Result<String> {
        self.0.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await
    }

    async fn send(&mut self, to: &[&str], text: &str) -> io::Result<String> {
        self.say("MAIL FROM:<vetwatch@partner.example> SIZE=200").await?;
        for to in to {
            self.say(&format!("RCPT TO:<{to}>")).await?;
        }
        let reply = self.say("DATA").await?;
        if !reply.starts_with('3') {
            return Ok(reply);
        }
        self.say(&format!("{text}\r\n.")).await
    }
}

async fn mailbox() -> SmtpServer {
    SmtpServer::start(Arc::new(SystemClock)).await.unwrap()
}

#[tokio::test]
async fn a_message_is_kept_as_it_was_sent() {
    let mailbox = mailbox().await;
    let mut client = Client::connect(&mailbox).await.unwrap();
    let reply = client.send(&["anna@partner.example", "bob@partner.example"], "Subject: x\r\n\r\n..dot\r\nend").await;
    assert!(reply.unwrap().starts_with("250"));
    assert!(client.say("AUTH PLAIN").await.unwrap().starts_with("502"));
    assert!(client.say("DATA").await.unwrap().starts_with("503"), "the envelope is used up");
    assert!(client.say("QUIT").await.unwrap().starts_with("221"));
    let mails = mailbox.wait_for(1, SOON).await.unwrap();
    assert_eq!(mails[0].from, "vetwatch@partner.example");
    assert_eq!(mails[0].to, ["anna@partner.example", "bob@partner.example"]);
    assert_eq!(mails[0].text(), "Subject: x\r\n\r\n.dot\r\nend\r\n");
    assert!(mails[0].acknowledged);
    assert_eq!(mailbox.connections(), 1);
}

#[tokio::test]
async fn lettre_can_deliver_to_it() {
    use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
    let mailbox = mailbox().await;
    let address = mailbox.address();
    let transport =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string()).port(address.port()).build();
    let message = Message::builder()
        .from("vetwatch@partner.example".parse().unwrap())
        .to("Anna <anna@partner.example>".parse().unwrap())
        .subject("Grüße")
        .body("one\n.\ntwo\n".to_owned())
        .unwrap();
    transport.send(message.clone()).await.unwrap();
    // lettre appends one more line end to every message.
    assert_eq!(mailbox.mails()[0].raw, [&message.formatted()[..], b"\r\n"].concat());
    mailbox.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("550 5.1.1 nobody".into())).to("anna@partner.example"));
    assert!(transport.send(message).await.unwrap_err().is_permanent());
}

#[tokio::test]
async fn one_recipient_can_be_refused_and_the_others_served() {
    let mailbox = mailbox().await;
    let later = SmtpAction::Reply("451 4.7.1 later".into());
    mailbox.script(MailRule::at(Stage::Rcpt, later).to("bob@partner.example").times(1));
    let mut client = Client::connect(&mailbox).await.unwrap();
    for expected in [vec!["anna@partner.example"], vec!["anna@partner.example", "bob@partner.example"]] {
        client.send(&["anna@partner.example", "bob@partner.example"], "hi").await.unwrap();
        assert_eq!(mailbox.mails().last().unwrap().to, expected);
    }
}

#[tokio::test]
async fn after_the_message_anything_can_go_wrong() {
    let mailbox = mailbox().await;
    let to = ["anna@partner.example"];
    for (act, taken) in [
        (SmtpAction::Reply("554 5.7.1 spam".into()), false),
        (SmtpAction::Close, false),
        (SmtpAction::Reset, false),
        (SmtpAction::TakeThenClose, true),
    ] {
        mailbox.clear();
        mailbox.script(MailRule::at(Stage::Message, act.clone()).times(1));
        let reply = Client::connect(&mailbox).await.unwrap().send(&to, "hi").await;
        assert!(reply.is_err() || reply.unwrap().starts_with("554"), "{act:?}");
        let acknowledged: Vec<_> = mailbox.mails().iter().map(|mail| mail.acknowledged).collect();
        assert_eq!(acknowledged, vec![false; usize::from(taken)], "{act:?}");
    }
    mailbox.clear();
    mailbox.script(MailRule::at(Stage::Message, SmtpAction::TakeThenHang).times(1));
    let mut client = Client::connect(&mailbox).await.unwrap();
    let hanging = tokio::spawn(async move { client.send(&to, "hi").await });
    mailbox.wait_for(1, SOON).await.unwrap();
    assert!(!hanging.is_finished());
    mailbox.stop().await.unwrap();
    assert!(tokio::time::timeout(SOON, hanging).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn it_can_be_away_and_come_back() {
    let mailbox = mailbox().await;
    let mut idle = Client::connect(&mailbox).await.unwrap();
    mailbox.stop().await.unwrap();
    assert!(tokio::time::timeout(SOON, idle.say("NOOP")).await.unwrap().is_err());
    assert_eq!(Client::connect(&mailbox).await.err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
    mailbox.start_again().await.unwrap();
    Client::connect(&mailbox).await.unwrap().send(&["anna@partner.example"], "hi").await.unwrap();
    assert_eq!(mailbox.mails().len(), 1);
    let missing = mailbox.wait_for(2, Duration::from_millis(1)).await.unwrap_err();
    assert_eq!((missing.wanted, missing.arrived), (2, 1));
}

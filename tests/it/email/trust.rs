//! Which servers get a password, and which a mail.

use std::time::Duration;

use base64::Engine as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpListener;
use vetwatch::delivery::Outcome;
use vetwatch::delivery::email::{EmailChannel, Tls};

use super::script::scripted;
use super::{deliver, login, settings};
use crate::peers::{Certificates, MailServer};

#[tokio::test]
async fn a_wrong_password_is_the_endpoints_trouble_and_is_not_shown() {
    let certificates = Certificates::new();
    let server = MailServer::secured("starttls", &certificates);
    let mut settings = settings(server.port, Tls::Starttls);
    settings.smtp.login = Some(login("hunter2hunter2"));
    settings.smtp.ca_file = Some(certificates.ca());
    let channel = EmailChannel::new(settings);

    let report = deliver(&channel).await;
    assert_eq!(report.outcome, Outcome::AuthRejected);
    assert!(report.detail.contains("logging in: 535"), "{}", report.detail);
    let probe = channel.probe().await.unwrap_err().to_string();
    assert!(probe.contains("logging in: 535"), "{probe}");
    assert!(!format!("{report:?} {probe} {channel:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_server_that_repeats_the_login_does_not_bring_the_password_to_light() {
    let script = ["250-localhost\r\n250 AUTH PLAIN", "502 5.5.2 unknown command: {line}"];
    let (port, server) = scripted("220 hello", &script).await;
    let mut settings = settings(port, Tls::None);
    settings.smtp.login = Some(login("hunter2hunter2"));
    let report = deliver(&EmailChannel::new(settings)).await;
    assert_eq!(report.outcome, Outcome::AuthRejected);
    assert!(report.detail.contains("[hidden]"), "{}", report.detail);
    assert!(!report.detail.contains("aHVudGVyMmh1bnRlcjI") && !report.detail.contains("hunter2"), "{}", report.detail);
    let said = server.await.unwrap();
    assert!(said[1].starts_with("AUTH PLAIN"), "{said:?}");
}

/// At any point of a session, in any encoding: mail has base64, quoted-printable and multi-line replies.
#[tokio::test]
async fn a_server_that_repeats_the_password_in_another_spelling_does_not_bring_it_to_light() {
    let password = "Tr0ub4dor&3=correct";
    let base64 = base64::engine::general_purpose::STANDARD.encode(format!("\0vetwatch\0{password}"));
    for echo in [
        format!("535 5.7.8 wrong: {password}"),
        format!("535 5.7.8 wrong: {}", password.to_uppercase()),
        "535-5.7.8 wrong: Tr0ub4\r\n535-5.7.8 dor&3=\r\n535 5.7.8 correct".to_owned(),
        "535 5.7.8 wrong: Tr0ub4dor=263=3Dcorrect".to_owned(),
        format!("535 5.7.8 what is {}?", &base64[4..28]),
        format!("535 5.7.8 what is {}?", base64.to_lowercase()),
        "535 5.7.8 a part: ub4dor&3".to_owned(),
        format!("235 welcome vetwatch:{password}"),
    ] {
        let (port, server) = scripted("220 hello", &["250-localhost\r\n250 AUTH PLAIN", &echo, &echo]).await;
        let mut settings = settings(port, Tls::None);
        settings.smtp.login = Some(login(password));
        let report = deliver(&EmailChannel::new(settings).with_deadline(Duration::from_secs(3))).await;
        let small = report.detail.to_lowercase();
        let secrets = [password.to_lowercase(), base64.to_lowercase()];
        let parts = secrets.iter().flat_map(|secret| (0..secret.len() - 8).map(|at| &secret[at..at + 8]));
        assert_eq!(parts.filter(|part| small.contains(part)).collect::<Vec<_>>(), [""; 0], "{}", report.detail);
        assert!(!small.contains("tr0ub4") && !small.contains("correct"), "{}", report.detail);
        server.abort();
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_gets_no_mail() {
    let certificates = Certificates::new();
    for (mode, tls) in [("starttls", Tls::Starttls), ("implicit", Tls::Implicit)] {
        let server = MailServer::secured(mode, &certificates);
        let channel = EmailChannel::new(settings(server.port, tls));
        let report = deliver(&channel).await;
        assert_eq!(report.outcome, Outcome::Unavailable, "{mode}");
        assert!(report.detail.contains("(TLS)") && report.detail.contains("ca_file"), "{}", report.detail);
        assert!(server.received().is_empty());
    }
}

#[tokio::test]
async fn a_server_without_starttls_gets_neither_mail_nor_password() {
    let (port, server) = scripted("220 hello", &["250 localhost"]).await;
    let mut settings = settings(port, Tls::Starttls);
    settings.smtp.login = Some(login("pass word"));
    let report = deliver(&EmailChannel::new(settings)).await;
    assert_eq!(report.outcome, Outcome::Unavailable);
    assert!(report.detail.contains("does not offer STARTTLS"), "{}", report.detail);
    let said = server.await.unwrap();
    assert!(said.iter().all(|line| line.starts_with("EHLO")), "{said:?}");
}

/// An attacker appends replies to the plain-text one; read after the handshake, they would count as the server's.
#[tokio::test]
async fn what_was_sent_in_clear_after_starttls_is_not_an_answer() {
    let certificates = Certificates::new();
    let real = MailServer::secured("starttls", &certificates);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let between = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let mut client = BufStream::new(client);
        let server = tokio::net::TcpStream::connect(("127.0.0.1", real.port)).await.unwrap();
        let mut server = BufStream::new(server);
        loop {
            let mut answer = String::new();
            while answer.lines().last().is_none_or(|line| line.as_bytes().get(3) != Some(&b' ')) {
                server.read_line(&mut answer).await.unwrap();
            }
            let secured = answer.starts_with("220 Ready to start TLS");
            if secured {
                answer.push_str("250 AUTH PLAIN\r\n535 5.7.8 injected\r\n");
            }
            client.write_all(answer.as_bytes()).await.unwrap();
            client.flush().await.unwrap();
            if secured {
                break;
            }
            let mut command = String::new();
            client.read_line(&mut command).await.unwrap();
            server.write_all(command.as_bytes()).await.unwrap();
            server.flush().await.unwrap();
        }
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        drop(real);
    });
    let mut settings = settings(port, Tls::Starttls);
    settings.smtp.login = Some(login("pass word"));
    settings.smtp.ca_file = Some(certificates.ca());
    let report = deliver(&EmailChannel::new(settings)).await;
    assert!(!report.detail.contains("injected"), "{}", report.detail);
    between.abort();
}

#[tokio::test]
async fn a_server_that_knows_no_password_or_wants_one_is_the_endpoints_trouble() {
    let (port, server) = scripted("220 hello", &["250-localhost\r\n250 AUTH XOAUTH2"]).await;
    let mut with_login = settings(port, Tls::None);
    with_login.smtp.login = Some(login("pass word"));
    let report = deliver(&EmailChannel::new(with_login)).await;
    assert_eq!(report.outcome, Outcome::AuthRejected, "{}", report.detail);
    server.abort();

    for reply in ["530 5.7.0 Authentication required", "503 AUTH first"] {
        for (answers, outcome) in [
            (vec!["250 localhost", reply], Outcome::AuthRejected),
            (vec!["250 localhost", "250 sender", reply], Outcome::Blocked),
        ] {
            let (port, server) = scripted("220 hello", &answers).await;
            let report = deliver(&EmailChannel::new(settings(port, Tls::None))).await;
            assert_eq!((report.outcome, report.final_replies.len()), (outcome, 0), "{}", report.detail);
            server.abort();
        }
    }
}

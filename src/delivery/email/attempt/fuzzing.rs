//! The fuzz target of a mail server's replies.

use std::io::Cursor;

use uuid::Uuid;

use super::*;
use crate::delivery::email::auth::SmtpAuth;
use crate::delivery::email::{EmailSettings, SmtpSettings, Tls};
use crate::delivery::route::ContactPolicy;
use crate::fuzzing::{RUNTIME, SECRET, is_line, shows_secret};
use crate::redact::Known;

const LOGIN: &str = "vetting@contoso.example";

/// An attempt at a mail to two recipients. The first line is the login (`password`, `token`; none is any other), the rest
/// what the server says, all at once: before it was asked, and then it hangs up.
pub(crate) fn mail_replies(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let auth = match &input[..end] {
        b"password" => Some(SmtpAuth::Password(LOGIN, SECRET)),
        b"token" => Some(SmtpAuth::Token(LOGIN, SECRET)),
        _ => None,
    };
    let said = input.get(end + 1..).unwrap_or_default().to_vec();
    let _known = [Known::login(LOGIN, SECRET), Known::of([SECRET])];
    let to: Vec<_> = ["one@contoso.example", "two@contoso.example"].map(|to| to.parse().unwrap()).into();
    let smtp =
        SmtpSettings { host: "mail.example".into(), port: 25, tls: Tls::None, hello: None, login: None, ca_file: None };
    let from = "vetwatch@contoso.example".parse().unwrap();
    let channel = EmailChannel::new(EmailSettings { smtp, from, to, contact: ContactPolicy::default() });
    let mail = "Subject: x\r\nTo: one@contoso.example\r\n\r\nText.\r\n";
    let due = ClaimedDelivery::without_row(Uuid::nil(), mail.to_owned());
    let mut attempt = Attempt::new(None);
    let failure = RUNTIME.block_on(async {
        let stream = tokio::io::join(Cursor::new(said), tokio::io::sink());
        let mut session = Session::over(stream, auth, &mut attempt.step).await?;
        attempt.step = Step::Sender;
        session.sender(&channel.settings.from.email).await?;
        let open = channel.open_recipients(&due, &due.final_replies).collect();
        channel.send_message(&mut session, open, &due, &mut attempt).await
    });
    let result = channel.report(attempt, failure.err(), &due);
    assert!(result.detail.len() <= AttemptResult::DETAIL_MAX && is_line(&result.detail), "{}", result.detail);
    assert!(!shows_secret(&format!("{result:?}")), "{result:?}");
    let (took, refused): (Vec<_>, Vec<_>) = result.final_replies.values().partition(|reply| took(reply));
    assert!(refused.iter().all(|reply| reply.starts_with('5')), "{result:?}");
    // The greeting, EHLO, MAIL, RCPT, DATA (3xx) and the message; no mail is accepted with fewer.
    let lines_with = |digit: u8| input.split(|byte| *byte == b'\n').filter(|line| line.first() == Some(&digit)).count();
    assert!(took.is_empty() || lines_with(b'2') >= 5 && lines_with(b'3') >= 1, "{result:?}");
    match result.outcome {
        Outcome::Accepted => assert!(!took.is_empty(), "{result:?}"),
        Outcome::Refused => assert!(took.is_empty() && refused.len() == 2, "{result:?}"),
        _ => {}
    }
}

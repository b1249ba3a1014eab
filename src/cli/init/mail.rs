//! The mail server's questions, and where it answers.

use super::args::{Args, Tls};
use super::draft::{SMTP_CLIENT_SECRET, SMTP_PASSWORD};
use super::wizard::Wizard;
use crate::cli::Failure;
use crate::cli::connectivity_check::{self, Step};
use crate::config::EndpointKind;
use crate::delivery::email::EmailSettings;

impl Wizard<'_> {
    pub(super) async fn mail_server(&mut self, args: &Args) -> Result<(), Failure> {
        let (mut port, mut tls) = (args.smtp_port, args.smtp_tls);
        let (mut again, mut untrusted) = (false, false);
        loop {
            if self.asker.asks && (again || self.draft.smtp_host.is_none()) {
                // A port that was found is no answer.
                let default = self.draft.smtp_host.clone().map(|host| match port {
                    Some(port) => format!("{host}:{port}"),
                    None => host,
                });
                let answer =
                    self.required(default.as_deref(), true, "The mail server: its host, or host:port", None)?;
                let (host, named) = host_and_port(&answer);
                (self.draft.smtp_host, port) = (Some(host), named);
                tls = tls.filter(|_| !again);
            }
            self.login(again)?;
            if again && (untrusted || self.draft.smtp_ca_file.is_some()) {
                let question = "Authorities that signed its certificate, a file in PEM (Enter alone: the system's)";
                let given = self.draft.smtp_ca_file.as_ref().map(|path| path.display().to_string());
                self.draft.smtp_ca_file = self.optional(given, again, question)?.map(Into::into);
            }
            again = true;
            (self.draft.smtp_port, self.draft.smtp_tls) = (port, tls);
            if !self.accepts(&["smtp"])? {
                continue;
            }
            self.find_port(port, tls).await?;
            if !self.tries {
                return Ok(());
            }
            let Some(settings) = self.mail_settings()? else { continue };
            let steps = connectivity_check::try_mail(self.context, &settings).await?;
            untrusted = steps.iter().any(Step::is_untrusted);
            if self.passed(steps)? {
                return Ok(());
            }
        }
    }

    /// A password, or an application where the server takes none.
    fn login(&mut self, again: bool) -> Result<(), Failure> {
        let host = self.draft.smtp_host.as_deref().unwrap_or_default().to_ascii_lowercase();
        if self.draft.smtp_client_id.is_some() || (host.ends_with(".office365.com") && self.asker.asks) {
            let question = "The mailbox that the application sends as (Exchange Online takes no password)";
            self.draft.smtp_username =
                Some(self.required(self.draft.smtp_username.as_deref(), again, question, None)?);
            let question = "The client id of the application that sends; what it needs is in docs/email.md";
            let (given, usual) = (self.draft.smtp_client_id.clone(), self.draft.client_id.clone());
            self.draft.smtp_client_id = Some(self.required(given.as_deref(), again, question, usual.as_deref())?);
            if !self.draft.sends_and_reads() {
                self.hidden(SMTP_CLIENT_SECRET, again, "Its client secret's value")?;
            }
        } else {
            let login = if again { "The login there (- for none)" } else { "The login there (Enter alone: none)" };
            self.draft.smtp_username = self.optional(self.draft.smtp_username.clone(), again, login)?;
            if self.draft.smtp_username.as_deref() == Some("-") {
                self.draft.smtp_username = None;
            }
            if self.draft.smtp_username.is_some() {
                self.hidden(SMTP_PASSWORD, again, "Its password")?;
            }
        }
        self.draft.drop_unused_logins();
        Ok(())
    }

    /// Sets port and encryption to the first pair at which a mail server answers; to the usual one if none does.
    async fn find_port(&mut self, port: Option<u16>, tls: Option<Tls>) -> Result<(), Failure> {
        let host = self.draft.smtp_host.clone().unwrap_or_default();
        let is_here = matches!(&*host, "localhost" | "::1") || host.starts_with("127.");
        let pairs = pairs(port, tls, is_here);
        let mut found = if pairs.len() == 1 { pairs.first().copied() } else { None };
        if self.tries && pairs.len() > 1 {
            for pair in &pairs {
                (self.draft.smtp_port, self.draft.smtp_tls) = (Some(pair.0), Some(pair.1));
                let settings = self.mail_settings()?;
                if let Some(settings) = settings
                    && connectivity_check::is_mail_server(self.context, &settings).await
                {
                    found = Some(*pair);
                    break;
                }
            }
        }
        if found.is_none() && self.tries && pairs.len() > 1 {
            let mut ports: Vec<String> = pairs.iter().map(|(port, _)| port.to_string()).collect();
            ports.dedup();
            self.asker.say(&format!("  No mail server answers at {host}, port {}.", ports.join(" or ")));
        }
        if let Some((port, tls)) = found.or(pairs.first().copied()) {
            (self.draft.smtp_port, self.draft.smtp_tls) = (Some(port), Some(tls));
        }
        Ok(())
    }

    fn mail_settings(&self) -> Result<Option<EmailSettings>, Failure> {
        let endpoints = self.config()?.endpoints;
        Ok(endpoints.into_iter().find_map(|endpoint| match endpoint.kind {
            EndpointKind::Email(settings) => Some(settings),
            _ => None,
        }))
    }
}

/// `smtp.contoso.example:2525`; an IPv6 address has no port here.
fn host_and_port(text: &str) -> (String, Option<u16>) {
    let pair = text.rsplit_once(':').filter(|(host, _)| !host.contains(':'));
    match pair.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?))) {
        Some((host, port)) => (host, Some(port)),
        None => (text.to_owned(), None),
    }
}

/// The pairs of port and encryption to try, the safer ones first.
fn pairs(port: Option<u16>, tls: Option<Tls>, is_here: bool) -> Vec<(u16, Tls)> {
    let all = [(587, Tls::Starttls), (465, Tls::Implicit), (25, Tls::Starttls), (25, Tls::None)];
    let pairs: Vec<(u16, Tls)> = match (port, tls) {
        (Some(port), Some(tls)) => vec![(port, tls)],
        (Some(465), None) => vec![(465, Tls::Implicit), (465, Tls::Starttls), (465, Tls::None)],
        (Some(port), None) => vec![(port, Tls::Starttls), (port, Tls::Implicit), (port, Tls::None)],
        (None, Some(tls)) => all.into_iter().filter(|(_, other)| *other == tls).collect(),
        (None, None) => all.to_vec(),
    };
    // Asked for by name it is judged, and refused with the reason.
    pairs.into_iter().filter(|(_, other)| is_here || tls.is_some() || *other != Tls::None).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encrypted_ports_are_tried_first_and_plain_text_only_on_this_machine() {
        use Tls::{Implicit, None as Plain, Starttls};
        assert_eq!(pairs(None, None, false), [(587, Starttls), (465, Implicit), (25, Starttls)]);
        assert_eq!(pairs(None, None, true).last(), Some(&(25, Plain)));
        assert_eq!(pairs(Some(465), None, false), [(465, Implicit), (465, Starttls)]);
        assert_eq!(pairs(Some(2525), None, true), [(2525, Starttls), (2525, Implicit), (2525, Plain)]);
        assert_eq!(pairs(None, Some(Implicit), false), [(465, Implicit)]);
        assert_eq!(pairs(Some(2525), Some(Plain), false), [(2525, Plain)]);
    }

    #[test]
    fn a_host_may_have_a_port() {
        for (text, host, port) in [
            ("smtp.contoso.example", "smtp.contoso.example", None),
            ("smtp.contoso.example:2525", "smtp.contoso.example", Some(2525)),
            ("127.0.0.1:25", "127.0.0.1", Some(25)),
            ("::1", "::1", None),
            ("smtp.contoso.example:x", "smtp.contoso.example:x", None),
        ] {
            assert_eq!(host_and_port(text), (host.to_owned(), port), "{text}");
        }
    }
}

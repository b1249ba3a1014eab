//! An SMTP session: from name lookup to login, then one mail after another.
//!
//! lettre speaks SMTP; the connection below it is ours, for three reasons. What was sent in clear before STARTTLS must
//! not be read as a reply after it (lettre keeps its buffer over the handshake). Nagle's algorithm has to be off, or
//! each mail waits 40 ms for a delayed acknowledgement. And replies need to be sanitized: see [`StreamTransport`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use lettre::address::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset, Starttls};
use lettre::transport::smtp::extension::{ClientId, Extension};
use lettre::transport::smtp::response::Response;
use rustls::pki_types::ServerName;
#[cfg(any(test, fuzzing))]
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::auth::{self, SmtpAuth};
use super::hello;
use super::stream::StreamTransport;
use super::{SmtpSettings, Tls};
use crate::partner_center::tls;
use crate::redact::{self, Known};
use vetwatch_core::descriptors;

/// Timeout per address of the server: one that does not respond must not keep us from the next.
const CONNECT: Duration = Duration::from_secs(10);

/// A server greets sooner, mostly at once; some wait for a few seconds to unmask spammers.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);

/// The steps of a session, to say what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Token,
    Lookup,
    Connect,
    Greeting,
    Starttls,
    Handshake,
    Login,
    Sender,
    Recipients,
    Data,
    Content,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "getting a token for its login",
            Self::Lookup => "looking up its name",
            Self::Connect => "connecting",
            Self::Greeting => "waiting for its greeting",
            Self::Starttls => "asking for STARTTLS",
            Self::Handshake => "securing the connection (TLS)",
            Self::Login => "logging in",
            Self::Sender => "naming the sender",
            Self::Recipients => "naming the recipients",
            Self::Data => "announcing the message",
            Self::Content => "sending the message",
        })
    }
}

/// A server's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// The text, with the code.
    pub(super) text: String,
}

impl Reply {
    /// Redacts secrets that the server repeats.
    fn of(code: u16, text: &str) -> Self {
        Self { code, text: format!("{code} {}", redact::words(text)).trim().to_owned() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server rejected it: 4xx or 5xx.
    Refused(Reply),
    /// The server does not offer the login mechanism.
    NoLogin(&'static str),
    /// The login server refuses the token.
    NoToken(String),
    /// No usable reply: no connection, no (sensible) reply, or no trust.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(reply) => &reply.text,
            Self::NoLogin(why) => why,
            Self::NoToken(why) | Self::Broken(why) => why,
        })
    }
}

impl Failure {
    /// True if the login failed before the server judged it.
    pub(super) fn is_login(&self) -> bool {
        matches!(self, Self::NoLogin(_) | Self::NoToken(_))
    }
}

pub(super) struct Session {
    smtp: AsyncSmtpConnection,
    /// A reply was missing or made no sense: the connection is not used again.
    pub(super) broken: bool,
    _known: Option<Known>,
}

impl Session {
    /// Connects and logs in as `settings` says. With TLS configured nothing is sent in clear; a password only to
    /// loopback.
    pub(super) async fn open(
        settings: &SmtpSettings,
        auth: Option<SmtpAuth<'_>>,
        step: &mut Step,
    ) -> Result<Self, Failure> {
        // Registered from here on: a server may repeat it in another session.
        let known = auth.and_then(SmtpAuth::known);
        let (tcp, peer) = connect(settings, step).await?;
        let local = tcp.local_addr().map_err(|error| broken(error.to_string()))?;
        let hello = hello::client_id(settings.hello.as_deref(), local).await;
        *step = Step::Greeting;
        let smtp = match settings.tls {
            Tls::None => {
                if !peer.ip().is_loopback() {
                    return Err(broken("tls = \"none\" is for this machine only, and the server is another one"));
                }
                AsyncSmtpConnection::connect_with_transport(Box::new(StreamTransport::new(tcp, peer)), &hello).await
            }
            Tls::Implicit => {
                let tls = handshake(settings, tcp, step).await?;
                *step = Step::Greeting;
                AsyncSmtpConnection::connect_with_transport(Box::new(StreamTransport::new(tls, peer)), &hello).await
            }
            Tls::Starttls => {
                let tcp = starttls(tcp, peer, &hello, step).await?;
                let tls = handshake(settings, tcp, step).await?;
                *step = Step::Greeting;
                AsyncSmtpConnection::connect_with_transport(Box::new(StreamTransport::greeted(tls, peer)), &hello).await
            }
        };
        let smtp = smtp.map_err(|error| failure(&error))?;
        Self { smtp, broken: false, _known: known }.logged_in(auth, step).await
    }

    /// As [`Self::open`] without TLS, over a stream that is there.
    #[cfg(any(test, fuzzing))]
    pub(super) async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug + 'static,
        auth: Option<SmtpAuth<'_>>,
        step: &mut Step,
    ) -> Result<Self, Failure> {
        let (peer, known) = (SocketAddr::from(([127, 0, 0, 1], 25)), auth.and_then(SmtpAuth::known));
        *step = Step::Greeting;
        let hello = ClientId::Domain("vetwatch.example".to_owned());
        let smtp =
            AsyncSmtpConnection::connect_with_transport(Box::new(StreamTransport::new(stream, peer)), &hello).await;
        let smtp = smtp.map_err(|error| failure(&error))?;
        Self { smtp, broken: false, _known: known }.logged_in(auth, step).await
    }

    async fn logged_in(mut self, auth: Option<SmtpAuth<'_>>, step: &mut Step) -> Result<Self, Failure> {
        if let Some(auth) = auth {
            *step = Step::Login;
            self.login(auth).await?;
        }
        Ok(self)
    }

    async fn login(&mut self, auth: SmtpAuth<'_>) -> Result<(), Failure> {
        match auth {
            SmtpAuth::Password(username, password) => self.login_with_password(username, password).await,
            SmtpAuth::Token(username, token) => self.login_with_token(username, token).await,
        }
    }

    async fn login_with_password(&mut self, username: &str, password: &str) -> Result<(), Failure> {
        const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];
        if self.smtp.server_info().get_auth_mechanism(&MECHANISMS).is_none() {
            return Err(Failure::NoLogin("the server offers neither AUTH PLAIN nor AUTH LOGIN"));
        }
        let credentials = Credentials::new(username.to_owned(), password.to_owned());
        let answer = self.smtp.auth(&MECHANISMS, &credentials).await;
        self.reply(answer, 2).map(drop)
    }

    /// AUTH XOAUTH2. Not lettre's: a server may give its reason in a challenge (334), and waits for an empty line
    /// before it rejects. lettre gives up at the challenge, and a rejected login would look like a broken connection.
    async fn login_with_token(&mut self, username: &str, token: &str) -> Result<(), Failure> {
        if !self.smtp.server_info().supports_auth_mechanism(Mechanism::Xoauth2) {
            return Err(Failure::NoLogin("the server does not offer AUTH XOAUTH2"));
        }
        let mut answer = self.smtp.command(format!("AUTH XOAUTH2 {}\r\n", auth::xoauth2(username, token))).await;
        let mut why = None;
        if let Ok(challenge) = &answer
            && challenge.has_code(334)
        {
            why = challenge.first_word().and_then(auth::refusal);
            answer = self.smtp.command("\r\n").await;
        }
        self.reply(answer, 2).map(drop).map_err(|failure| match (failure, why) {
            (Failure::Refused(reply), Some(why)) => {
                Failure::Refused(Reply { text: format!("{} ({why})", reply.text), ..reply })
            }
            (failure, _) => failure,
        })
    }

    /// Whether the session can take another mail; resets what an earlier mail left unfinished.
    pub(super) async fn is_alive(&mut self) -> bool {
        !self.broken && self.smtp.command(Rset).await.is_ok()
    }

    /// `MAIL FROM` for a further mail, whatever the state of the one before.
    pub(super) async fn sender_again(&mut self, from: &Address) -> Result<Reply, Failure> {
        let answer = self.smtp.command(Rset).await;
        self.reply(answer, 2)?;
        self.sender(from).await
    }

    /// `MAIL FROM`. Addresses are ASCII, so it never needs SMTPUTF8.
    pub(super) async fn sender(&mut self, from: &Address) -> Result<Reply, Failure> {
        let answer = self.smtp.command(Mail::new(Some(from.clone()), Vec::new())).await;
        self.reply(answer, 2)
    }

    /// `RCPT TO`. An address beyond ASCII is not sent: a server that reads it as bytes would reject the command rather
    /// than the address, as it rejects clients that may not send at all.
    pub(super) async fn recipient(&mut self, to: &Address) -> Result<Reply, Failure> {
        if !to.to_string().is_ascii() {
            let text = "553 5.6.7 not sent: the address is not ASCII before the @";
            return Err(Failure::Refused(Reply { code: 553, text: text.to_owned() }));
        }
        let answer = self.smtp.command(Rcpt::new(to.clone(), Vec::new())).await;
        self.reply(answer, 2)
    }

    /// `DATA`, up to the server's "go ahead".
    pub(super) async fn announce(&mut self) -> Result<Reply, Failure> {
        let answer = self.smtp.command(Data).await;
        self.reply(answer, 3)
    }

    /// The message itself, up to the final reply.
    pub(super) async fn content(&mut self, message: &str) -> Result<Reply, Failure> {
        // lettre ends the last line itself.
        let message = message.strip_suffix("\r\n").unwrap_or(message);
        let answer = self.smtp.message(message.as_bytes()).await;
        self.reply(answer, 2)
    }

    pub(super) async fn quit(mut self) {
        let _ = timeout(Duration::from_secs(2), self.smtp.quit()).await; // it is over either way
    }

    /// The reply, if its first digit is the expected one.
    fn reply(&mut self, answer: Result<Response, lettre::transport::smtp::Error>, yes: u16) -> Result<Reply, Failure> {
        let answer = answer.map_err(|error| failure(&error)).and_then(|response| {
            let code = u16::from(response.code());
            let text: Vec<_> = response.message().collect();
            let reply = Reply::of(code, &text.join(" "));
            if code / 100 == yes { Ok(reply) } else { Err(broken(format!("an unexpected answer: {}", reply.text))) }
        });
        // 421: the server closes the connection.
        self.broken |= matches!(&answer, Err(Failure::Broken(_)))
            || matches!(&answer, Err(Failure::Refused(reply)) if reply.code == 421);
        answer
    }
}

fn broken(why: impl Into<String>) -> Failure {
    Failure::Broken(why.into())
}

fn failure(error: &lettre::transport::smtp::Error) -> Failure {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    match error.status() {
        Some(code) => {
            let code = u16::from(code);
            Failure::Refused(Reply::of(code, &cause.unwrap_or_default()))
        }
        None if cause.as_deref() == Some("incomplete response") => broken("the server closed the connection"),
        None => broken(redact::words(&cause.unwrap_or_else(|| error.to_string()))),
    }
}

/// Connects to the first address that responds.
async fn connect(settings: &SmtpSettings, step: &mut Step) -> Result<(TcpStream, SocketAddr), Failure> {
    *step = Step::Lookup;
    let addresses = tokio::net::lookup_host((settings.host.as_str(), settings.port)).await;
    let addresses = addresses.map_err(|error| not_connected(&error))?;
    *step = Step::Connect;
    let mut last = broken("the name has no address");
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                tcp.set_nodelay(true).map_err(|error| broken(error.to_string()))?;
                return Ok((tcp, address));
            }
            Ok(Err(error)) if descriptors::none_left(&error) => return Err(not_connected(&error)),
            Ok(Err(error)) => last = broken(format!("{}: {error}", address.ip())),
            Err(_) => last = broken(format!("{}: no answer", address.ip())),
        }
    }
    Err(last)
}

fn not_connected(error: &io::Error) -> Failure {
    broken(if descriptors::none_left(error) { descriptors::NONE_LEFT.to_owned() } else { error.to_string() })
}

/// The session in clear, up to the TLS handshake. All that it has buffered is dropped.
async fn starttls(tcp: TcpStream, peer: SocketAddr, hello: &ClientId, step: &mut Step) -> Result<TcpStream, Failure> {
    let io = |error: io::Error| broken(error.to_string());
    let tcp = tcp.into_std().map_err(io)?;
    let clear = TcpStream::from_std(tcp.try_clone().map_err(io)?).map_err(io)?;
    let mut clear = AsyncSmtpConnection::connect_with_transport(Box::new(StreamTransport::new(clear, peer)), hello)
        .await
        .map_err(|error| failure(&error))?;
    *step = Step::Starttls;
    if !clear.server_info().supports_feature(Extension::StartTls) {
        return Err(broken("the server does not offer STARTTLS, and nothing is sent in clear"));
    }
    clear.command(Starttls).await.map_err(|error| failure(&error))?;
    drop(clear);
    TcpStream::from_std(tcp).map_err(io)
}

async fn handshake(settings: &SmtpSettings, tcp: TcpStream, step: &mut Step) -> Result<TlsStream<TcpStream>, Failure> {
    *step = Step::Handshake;
    secure(settings, tcp).await?.map_err(|error| {
        let found = tls::cause(&error);
        // Plain text where TLS was expected.
        let other = match found {
            Some(rustls::Error::InvalidMessage(_)) if settings.tls == Tls::Implicit => {
                "; it may want tls = \"starttls\""
            }
            _ => "",
        };
        let problem = found.and_then(tls::problem).unwrap_or_else(|| redact::words(&error.to_string()));
        broken(format!("{problem}{other}"))
    })
}

async fn secure(settings: &SmtpSettings, tcp: TcpStream) -> Result<io::Result<TlsStream<TcpStream>>, Failure> {
    let name = match settings.host.parse::<IpAddr>() {
        Ok(ip) => ServerName::from(ip),
        Err(_) => ServerName::try_from(settings.host.clone()).map_err(|error| broken(error.to_string()))?,
    };
    let ca_file = settings.ca_file.clone();
    // Reads files, so that a renewed certificate is used from the next connection on.
    let config = tokio::task::spawn_blocking(move || tls::config(ca_file.as_deref(), None)).await;
    let config = config.map_err(|error| broken(error.to_string()))?.map_err(broken)?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, tcp).await)
}

/// Ends if a server that is to greet in clear has not done so for a while, and speaks TLS from the first byte instead.
pub(super) async fn wants_implicit_tls(settings: &SmtpSettings) -> Failure {
    tokio::time::sleep(GREETING_PATIENCE).await;
    if settings.tls == Tls::Starttls
        && let Ok((tcp, _)) = connect(settings, &mut Step::Connect.clone()).await
        && let Ok(secured) = secure(settings, tcp).await
    {
        // A certificate that is not trusted is reported by the session with the right setting.
        let speaks_tls = match &secured {
            Ok(_) => true,
            Err(error) => matches!(tls::cause(error), Some(rustls::Error::InvalidCertificate(_))),
        };
        if speaks_tls {
            return broken("it speaks TLS from the first byte: this port wants tls = \"implicit\"");
        }
    }
    std::future::pending().await
}

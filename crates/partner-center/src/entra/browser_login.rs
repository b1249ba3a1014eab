//! Signs in a user with a browser on this machine, or on one that forwards a port to it: authorization code with PKCE
//! (RFC 8252, RFC 7636). The browser is sent back to `http://localhost:PORT` with a code, which only this process can
//! redeem: it alone knows the verifier.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use url::Url;

use super::application::Application;
use super::login::Login;
use super::sign_in::{REQUEST_TIMEOUT, SignInError, SignedIn, store};
use super::token_file::TokenFile;
use crate::api_error::{ApiError, clean};
use crate::error::Error;
use crate::http::Http;
use vetwatch_core::redact::Known;
use vetwatch_core::text::short_line;
use vetwatch_core::time::Clock;

/// Of a person at a sign-in page with a second factor.
pub const BROWSER_LIFETIME: Duration = Duration::from_mins(15);
/// Of one request. Browsers open connections that they do not use.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Larger than the head of any request with a code.
const HEAD_MAX_BYTES: usize = 32 * 1024;

pub struct BrowserLogin {
    login: Login,
    file: TokenFile,
    listener: TcpListener,
    redirect_uri: String,
    state: String,
    verifier: SecretString,
}

/// What the browser was sent back with.
pub(super) enum Returned {
    Code(SecretString),
    Error { word: String, description: String },
}

impl BrowserLogin {
    /// Listens on `port` of 127.0.0.1 (0: any), and returns the address to open in a browser. The refresh token will be
    /// stored in `file`.
    ///
    /// # Errors
    /// If the port cannot be listened on.
    pub async fn begin(
        application: &Application,
        file: TokenFile,
        port: u16,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Url), SignInError> {
        let login = Login::new(Http::new(None, application.proxy.as_ref(), clock)?, application)?;
        let failed = |source| SignInError::Listen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(failed)?;
        // Entra ID ignores the port of this one, and takes no address in place of the name.
        let redirect_uri = format!("http://localhost:{}", listener.local_addr().map_err(failed)?.port());
        let (state, verifier) = (random()?, SecretString::from(random()?));
        let challenge = ring::digest::digest(&ring::digest::SHA256, verifier.expose_secret().as_bytes());
        let url = login.authorization_url(&[
            ("response_type", "code"),
            ("response_mode", "query"),
            ("redirect_uri", &redirect_uri),
            ("state", &state),
            ("code_challenge", &BASE64_URL_SAFE_NO_PAD.encode(challenge)),
            ("code_challenge_method", "S256"),
            ("prompt", "select_account"),
        ]);
        Ok((Self { login, file, listener, redirect_uri, state, verifier }, url))
    }

    /// The port that the browser is sent back to.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |address| address.port())
    }

    /// Waits for the browser, redeems the code, and stores the refresh token.
    ///
    /// # Errors
    /// If nobody signed in within `within`, or the sign-in was declined or refused.
    pub async fn wait(self, within: Duration) -> Result<SignedIn, SignInError> {
        let Self { login, file, listener, redirect_uri, state, verifier } = self;
        let returned = returned(&listener, &state, Instant::now() + within).await?;
        // What comes from here on, nobody listens to.
        drop(listener);
        let code = match returned {
            Returned::Code(code) => code,
            Returned::Error { word, description } => return Err(refused(&word, &description)),
        };
        let _known = Known::of([code.expose_secret(), verifier.expose_secret()]);
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.expose_secret()),
            ("redirect_uri", &redirect_uri),
            ("code_verifier", verifier.expose_secret()),
        ];
        let granted = login.grant_user(&form, Instant::now() + REQUEST_TIMEOUT).await.map_err(|denied| denied.error)?;
        store(&login, &file, granted).await
    }
}

/// Answers requests until one has the state, or the time is over. Connections do not wait for each other.
async fn returned(listener: &TcpListener, state: &str, until: Instant) -> Result<Returned, SignInError> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let state = state.to_owned();
                connections.spawn(timeout(CONNECTION_TIMEOUT, async move { answer(stream, &state).await }));
            }
            Some(answered) = connections.join_next() => {
                if let Ok(Ok(Some(returned))) = answered {
                    return Ok(returned);
                }
            }
            () = sleep_until(until) => return Err(SignInError::Expired),
        }
    }
}

/// Reads one request and answers it, with one of three constant pages. `None` unless it is the browser, back from Entra
/// ID.
async fn answer(mut stream: TcpStream, state: &str) -> Option<Returned> {
    let mut head = Vec::new();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") && head.len() < HEAD_MAX_BYTES {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let returned = read(&head, state);
    let (status, text) = match &returned {
        Some(Returned::Code(_)) => {
            ("200 OK", "vetwatch has what it needs. The terminal says whether it worked; close this page.")
        }
        Some(Returned::Error { .. }) => {
            ("200 OK", "The sign-in did not succeed. The terminal says why; close this page.")
        }
        None => ("400 Bad Request", "This is not the sign-in that vetwatch waits for."),
    };
    let length = text.len();
    let page = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n\
         Connection: close\r\n\r\n{text}"
    );
    // If the browser has gone, the code is good all the same.
    let _ = stream.write_all(page.as_bytes()).await;
    let _ = stream.shutdown().await;
    returned
}

/// Reads `GET /?code=…&state=… HTTP/1.1`.
pub(super) fn read(head: &[u8], state: &str) -> Option<Returned> {
    let line = str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    let query = target.strip_prefix("/?")?;
    let get = |name: &str| {
        let mut values = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
        // One that is there twice is nobody's.
        values.next().map(|(_, value)| value.into_owned()).filter(|_| values.next().is_none())
    };
    if get("state")? != state {
        return None;
    }
    match (get("code"), get("error")) {
        (Some(code), None) if !code.is_empty() => Some(Returned::Code(code.into())),
        (None, Some(word)) => Some(Returned::Error { word, description: get("error_description").unwrap_or_default() }),
        _ => None,
    }
}

/// The error that Entra ID sent the browser back with.
pub(super) fn refused(word: &str, description: &str) -> SignInError {
    let body = json!({ "error": word, "error_description": description }).to_string();
    let answer = ApiError::read(400, body.as_bytes(), None);
    match (word, answer.code()) {
        ("access_denied", None | Some("AADSTS65004")) => SignInError::Declined,
        (word, None) => SignInError::SentBack(short_line(&clean(format!("{word} {description}").trim()), 300)),
        _ => SignInError::Refused(Error::Credential(answer)),
    }
}

/// 256 random bits, in characters that need no escape.
fn random() -> Result<String, SignInError> {
    let mut bytes = [0; 32];
    let none = |_| Error::NoToken("the system has no random numbers".into());
    SystemRandom::new().fill(&mut bytes).map_err(none)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

impl fmt::Debug for BrowserLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrowserLogin").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entra::{Audience, ClientAuth};
    use vetwatch_core::time::SystemClock;

    #[tokio::test]
    async fn a_browser_that_never_comes_back_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let application = Application {
            login_url: "https://login.example/".parse().unwrap(),
            tenant: "contoso.example".into(),
            client_id: "app".into(),
            audience: Audience::Resource("https://api.example"),
            proof: ClientAuth::ClientSecret { secret: "s".into(), ends_at: None },
            proxy: None,
        };
        let file = TokenFile::new(folder.path(), "emea");
        let (login, url) = BrowserLogin::begin(&application, file, 0, Arc::new(SystemClock)).await.unwrap();
        assert!(url.as_str().starts_with("https://login.example/contoso.example/oauth2/v2.0/authorize?client_id=app&"));
        assert!(!format!("{login:?}").contains(&login.state));
        // Somebody connects and says nothing.
        let _silent = TcpStream::connect((Ipv4Addr::LOCALHOST, login.port())).await.unwrap();
        assert!(matches!(login.wait(Duration::ZERO).await, Err(SignInError::Expired)));
    }

    #[test]
    fn only_one_query_with_the_state_is_read() {
        let of = |line: &str| match read(format!("{line}\r\nHost: localhost\r\n\r\n").as_bytes(), "st") {
            Some(Returned::Code(code)) => format!("code {}", code.expose_secret()),
            Some(Returned::Error { word, description }) => format!("error {word}: {description}"),
            None => "nothing".to_owned(),
        };
        assert_eq!(of("GET /?code=a%2Bb&state=st HTTP/1.1"), "code a+b");
        assert_eq!(of("GET /?error=x&error_description=a+b&state=st HTTP/1.1"), "error x: a b");
        for line in [
            "POST /?code=a&state=st HTTP/1.1",
            "GET /x?code=a&state=st HTTP/1.1",
            "GET /?code=a&error=x&state=st HTTP/1.1",
            "GET /?code=a&code=b&state=st HTTP/1.1",
            "GET /?code=&state=st HTTP/1.1",
            "GET /?code=a HTTP/1.1",
            "GET /?code=a&state=other HTTP/1.1",
            "GET /?code=a&state=st&state=st HTTP/1.1",
            "GET http://localhost/?code=a&state=st HTTP/1.1",
            "\u{feff}",
            "",
        ] {
            assert_eq!(of(line), "nothing", "{line}");
        }
    }
}

//! Delivery through the configured proxy, and no other.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use vetwatch::delivery::Outcome;
use vetwatch::delivery::http::HttpSettings;

use super::trust::{acceptor, secured};
use super::{by, deliver};
use crate::peers::Certificates;

/// A proxy that connects everything to one local port, or responds with another status than 200.
pub(super) struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub(super) async fn new(answer: &'static str, target: u16) -> Self {
        Self::behind(None, answer, target).await
    }

    async fn behind(tls: Option<TlsAcceptor>, answer: &'static str, target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, seen) = (tls.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    match tls {
                        None => lead(stream, answer, target, &seen).await,
                        Some(tls) => lead(tls.accept(stream).await.unwrap(), answer, target, &seen).await,
                    }
                });
            }
        });
        Self { port, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub(super) fn url(&self, host: &str) -> url::Url {
        format!("http://me:T0KEN-password@{host}:{}", self.port).parse().unwrap()
    }
}

async fn lead(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str, target: u16, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
    seen.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
    let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await;
    if answer.starts_with("200") {
        let mut target = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut target).await;
    }
}

#[tokio::test]
async fn a_proxy_that_is_configured_is_the_only_way_and_looks_names_up_itself() {
    let certificates = Certificates::new();
    let receiver = secured(&certificates, false).await;
    let proxy = Proxy::new("200 Connection established", receiver.port).await;
    let mut settings = HttpSettings::new("https://crm.example/hooks/T0KEN-abc".parse().unwrap());
    settings.ca_file = Some(certificates.ca());
    settings.proxy = Some(proxy.url("127.0.0.1"));
    let nobody = Arc::new(|name| panic!("{name} was looked up"));
    let report = deliver(&by(settings.clone()).with_lookup(nobody)).await;
    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    assert_eq!(receiver.requests()[0].line, "POST /hooks/T0KEN-abc HTTP/1.1");
    let head = proxy.heads().remove(0);
    assert!(head.starts_with("CONNECT crm.example:443 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Basic bWU6VDBLRU4tcGFzc3dvcmQ=") && !head.contains("abc"), "{head}");

    // The proxy's own name is resolved, and may be private: the administrator chose it.
    settings.proxy = Some(proxy.url("proxy.example"));
    let lookup = Arc::new(|name| {
        assert_eq!(name, "proxy.example");
        Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) }) as _
    });
    let report = deliver(&by(settings.clone()).with_lookup(lookup)).await;
    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    let cloud = Arc::new(|_| Box::pin(async { Ok(vec!["169.254.169.254".parse().unwrap()]) }) as _);
    let report = deliver(&by(settings).with_lookup(cloud)).await;
    assert_eq!(report.outcome, Outcome::Unavailable, "{}", report.detail);
    assert!(report.detail.contains("proxy.example is 169.254.169.254"), "{}", report.detail);
    assert_eq!(proxy.heads().len(), 2);
}

#[tokio::test]
async fn a_proxy_may_be_spoken_to_over_tls() {
    let certificates = Certificates::new();
    let receiver = secured(&certificates, false).await;
    let proxy = Proxy::behind(Some(acceptor(&certificates, false)), "200 OK", receiver.port).await;
    let mut settings = HttpSettings::new("https://crm.example/hooks/T0KEN-abc".parse().unwrap());
    settings.proxy = Some(format!("https://localhost:{}", proxy.port).parse().unwrap());
    let report = deliver(&by(settings.clone())).await;
    assert_eq!(report.outcome, Outcome::Unavailable, "nobody vouches for the proxy: {}", report.detail);
    settings.ca_file = Some(certificates.ca());
    let report = deliver(&by(settings)).await;
    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    assert_eq!((proxy.heads().len(), receiver.requests().len()), (1, 1));
}

#[tokio::test]
async fn what_goes_wrong_at_the_proxy_is_said_to_be_there_and_leads_nowhere_else() {
    for answer in ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway", "nonsense"] {
        let proxy = Proxy::new(answer, 0).await;
        let mut settings = HttpSettings::new("https://crm.example/hooks/T0KEN-abc".parse().unwrap());
        settings.proxy = Some(proxy.url("127.0.0.1"));
        let report = deliver(&by(settings)).await;
        assert_eq!(report.outcome, Outcome::Unavailable, "{}", report.detail);
        let place = format!("https://crm.example: by the proxy http://127.0.0.1:{}: ", proxy.port);
        assert!(report.detail.starts_with(&place), "{}", report.detail);
        assert_eq!(proxy.heads().len(), 1, "{answer}");
    }
}

#[tokio::test]
async fn what_is_never_reached_is_not_asked_of_a_proxy_either() {
    let proxy = Proxy::new("200 OK", 0).await;
    for url in ["https://169.254.169.254/T0KEN-abc", "https://[fd00:ec2::254]/", "https://localhost/", "https://127.1/"]
    {
        let mut settings = HttpSettings::new(url.parse().unwrap());
        settings.proxy = Some(proxy.url("127.0.0.1"));
        assert_eq!(deliver(&by(settings)).await.outcome, Outcome::Unavailable, "{url}");
    }
    assert!(proxy.heads().is_empty());
}

//! What stands between a client and its servers: TLS with the test's own CA, and a proxy.

use std::sync::{Arc, Mutex};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::peers::Certificates;
use crate::world::tls;

/// A server with its certificate; if `demanding`, clients need one of the same CA.
pub(crate) fn acceptor(certificates: &Certificates, demanding: bool) -> TlsAcceptor {
    tls();
    let config = rustls::ServerConfig::builder();
    let config = if demanding {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificates.ca()).unwrap()).unwrap();
        config.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
    } else {
        config.with_no_client_auth()
    };
    let chain = CertificateDer::pem_file_iter(certificates.certificate()).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(certificates.key()).unwrap();
    TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()))
}

/// Speaks TLS in front of a local port, and returns its own.
pub(crate) async fn tls_in_front_of(target: u16, certificates: &Certificates) -> u16 {
    let (listener, tls) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), acceptor(certificates, false));
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = tls.accept(stream).await else { return };
                let mut target = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut target).await;
            });
        }
    });
    port
}

/// A server that says the same to everybody. Returns its port.
pub(crate) async fn always(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
            let (status, body) = answer.split_once("\n\n").unwrap_or((answer, ""));
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

/// A proxy that connects everything to one local port, or responds with another status than 200.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub(crate) async fn new(answer: &'static str, target: u16) -> Self {
        Self::behind(None, answer, target).await
    }

    pub(crate) async fn behind(tls: Option<TlsAcceptor>, answer: &'static str, target: u16) -> Self {
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

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub(crate) fn url(&self, host: &str) -> url::Url {
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

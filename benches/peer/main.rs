//! The simulated Partner Center in a process of its own: what `benches/run` measures against.
//!
//! It prints where it listens, in one line of JSON, then what is [measured], and ends when its standard input does: its parent may die
//! as it likes and leaves nothing behind. It keeps no list of requests; counting them is enough.
#![allow(clippy::print_stdout, reason = "the line it was started for")]

mod measured;

use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use vetwatch::sandbox::{Options, Sandbox};
use vetwatch::time::SystemClock;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [serve, certificate, key] = arguments.as_slice() else {
        println!("This is one half of the benchmark: start it with benches/run.");
        return Ok(());
    };
    anyhow::ensure!(serve == "--serve", "there is no option {serve}");
    let options = Options { log_capacity: 0, ..Options::default() };
    let Options { tenant, client_id, client_secret, .. } = options.clone();
    let sandbox = Sandbox::start(options, Arc::new(SystemClock)).await?;
    let url = sandbox.url();
    let port = url.port().context("the sandbox has a port")?;
    let tls_url = format!("https://127.0.0.1:{}/", speak_tls(certificate, key, port).await?);
    let relay_url = format!("http://127.0.0.1:{}/", measured::relay(port).await?);
    let hook_url = format!("http://127.0.0.1:{}/hook", measured::receiver().await?);
    println!(
        "{}",
        serde_json::json!({
            "url": url, "tls_url": tls_url, "relay_url": relay_url, "hook_url": hook_url,
            "tenant": tenant, "client_id": client_id, "client_secret": client_secret,
        })
    );
    tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
    sandbox.shutdown().await;
    Ok(())
}

/// Speaks TLS in front of the sandbox, and returns the port.
async fn speak_tls(certificate: &str, key: &str, sandbox: u16) -> anyhow::Result<u16> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind(("127.0.0.1", 0)).await?);
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                client.set_nodelay(true)?;
                let (mut client, mut server) =
                    (acceptor.accept(client).await?, TcpStream::connect(("127.0.0.1", sandbox)).await?);
                server.set_nodelay(true)?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok(port)
}

//! Accepts connections: a bounded number, none of them for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::Request as Http;
use axum::http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;
use tracing::debug;

/// Connections at once; more wait until one is free.
pub const CONNECTIONS_MAX: usize = 256;
/// How long a client may take for a request's head, or be silent between two.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection is kept.
const CONNECTION_MAX: Duration = Duration::from_mins(1);
/// After an error of `accept`, mostly a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);
/// How long responses under way may take at the end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Addresses of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
}

/// Serves until `stop` is cancelled.
pub(super) async fn serve(listener: &TcpListener, router: Router, stop: CancellationToken) {
    let (slots, open) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), TaskTracker::new());
    let accepting = async {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    open.spawn(async move {
                        connection(stream, peer, router, stop, CONNECTION_MAX).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    debug!("the page accepts no connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
    open.close();
    let _ = tokio::time::timeout(END_WITHIN, open.wait()).await;
}

/// Answers requests for so long. The first one after that gets the last response, which says so: to close a connection that
/// looks idle would lose a request under way, as a proxy or a scraper that keeps its connections may send at any time.
async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken, lasts: Duration) {
    let Ok(local) = stream.local_addr() else { return };
    let until = Instant::now() + lasts;
    let service = hyper::service::service_fn(move |request: Http<Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Ends { peer, local });
        let mut router = router.clone();
        async move {
            let mut response = router.call(request).await;
            if let Ok(response) = &mut response
                && Instant::now() >= until
            {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    });
    let mut served = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(TokioIo::new(stream), service)
    );
    let _ = tokio::time::timeout(lasts + HEAD_WITHIN + END_WITHIN, async {
        tokio::select! {
            _ = served.as_mut() => {}
            () = stop.cancelled() => {
                served.as_mut().graceful_shutdown();
                let _ = served.await;
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn asked_once(lasts: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let (stream, peer) = listener.accept().await.expect("a connection");
        let router = Router::new().route("/", get(async || "here"));
        let serving = tokio::spawn(connection(stream, peer, router, CancellationToken::new(), lasts));
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("a request");
        let mut response = vec![0; 1024];
        let size = client.read(&mut response).await.expect("a response");
        response.truncate(size);
        if lasts.is_zero() {
            serving.await.expect("it ends by itself");
        } else {
            serving.abort();
        }
        String::from_utf8(response).expect("a text").to_lowercase()
    }

    #[tokio::test]
    async fn a_connection_that_has_lasted_long_ends_with_a_response_that_says_so() {
        let last = asked_once(Duration::ZERO).await;
        assert!(last.contains("connection: close") && last.ends_with("here"), "{last}");
        let other = asked_once(CONNECTION_MAX).await;
        assert!(!other.contains("connection: close") && other.ends_with("here"), "{other}");
    }
}

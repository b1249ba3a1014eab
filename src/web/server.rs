//! Accepts connections: a bounded number, none of them for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::Request as Http;
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
/// How long a connection takes requests.
const CONNECTION_MAX: Duration = Duration::from_mins(1);
/// After an error of `accept`, mostly a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);
/// How long responses under way may take after that, and once it stops.
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
                        connection(stream, peer, router, stop).await;
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

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    let Ok(local) = stream.local_addr() else { return };
    let service = hyper::service::service_fn(move |request: Http<Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Ends { peer, local });
        router.clone().call(request)
    });
    let mut served = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        _ = served.as_mut() => return,
        () = stop.cancelled() => {}
        () = tokio::time::sleep(CONNECTION_MAX) => {}
    }
    // A response under way is finished: to cut it off would look like a failure to a proxy that reuses its connections.
    served.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(END_WITHIN, served).await;
}

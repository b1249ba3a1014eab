//! A loopback port that can be closed and reopened, and connections that can be severed at any point.
//!
//! Between `stop` and `start_again` the port stays bound without listening: connections are refused, and no other
//! process can be assigned the port.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use url::Url;

/// Any free port of 127.0.0.1.
pub(super) const FREE_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Accepts connections for a server until it is stopped.
pub(super) struct Acceptor {
    tcp: TcpListener,
    stop: CancellationToken,
    open: TaskTracker,
    accepted: Arc<AtomicU64>,
}

impl Acceptor {
    /// Waits for the next connection. Retries errors, such as a lack of file descriptors.
    pub(super) async fn next(&self) -> Wire {
        loop {
            match self.tcp.accept().await {
                Ok((tcp, _)) => {
                    self.accepted.fetch_add(1, Ordering::SeqCst);
                    // Otherwise every second small response waits for the peer's delayed acknowledgement.
                    let _ = tcp.set_nodelay(true);
                    return Wire {
                        tcp,
                        stopped: Box::pin(self.stop.clone().cancelled_owned()),
                        line: ConnectionControl { cut: Arc::default(), stop: self.stop.clone() },
                        _open: self.open.token(),
                    };
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

impl axum::serve::Listener for Acceptor {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        let wire = self.next().await;
        let peer = wire.tcp.peer_addr().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
        (wire, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// How to sever a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disconnect {
    /// An orderly TCP close, but at the wrong moment.
    Close = 1,
    /// A reset, as from a crashed peer or a firewall.
    Reset = 2,
}

/// Lets a handler sever the connection of its request.
#[derive(Clone)]
pub(super) struct ConnectionControl {
    cut: Arc<AtomicU8>,
    stop: CancellationToken,
}

impl ConnectionControl {
    /// Severs the connection at the next write, which is not sent.
    pub(super) fn sever(&self, how: Disconnect) {
        self.cut.store(how as u8, Ordering::SeqCst);
    }

    /// Returns when the server is stopped.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

impl Connected<IncomingStream<'_, Acceptor>> for ConnectionControl {
    fn connect_info(stream: IncomingStream<'_, Acceptor>) -> Self {
        stream.io().line.clone()
    }
}

/// A connection that closes when its server is stopped, whatever its state.
pub(super) struct Wire {
    tcp: TcpStream,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    pub(super) line: ConnectionControl,
    _open: TaskTrackerToken,
}

impl Wire {
    fn ended(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let cut = self.line.cut.load(Ordering::Relaxed);
        if cut == Disconnect::Reset as u8 {
            self.tcp.set_zero_linger()?;
        }
        if cut != 0 || self.stopped.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.ended(cx)?;
        Pin::new(&mut this.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.ended(cx)?;
        Pin::new(&mut this.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

enum State {
    Open { stop: CancellationToken, open: TaskTracker, accepting: JoinHandle<Option<()>> },
    Closed(TcpSocket),
    Lost,
}

/// A loopback port and the server behind it. Dropping it stops the server.
pub(super) struct Port {
    address: SocketAddr,
    accepted: Arc<AtomicU64>,
    serve: Box<dyn Fn(Acceptor) -> Serving + Send + Sync>,
    state: Mutex<State>,
    dropped: CancellationToken,
}

impl Port {
    /// Listens on `address` and serves until it is stopped. Port 0 takes a free one.
    pub(super) async fn open<F>(
        address: SocketAddr,
        serve: impl Fn(Acceptor) -> F + Send + Sync + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let socket = bind(address)?;
        let port = Self {
            address: socket.local_addr()?,
            accepted: Arc::default(),
            serve: Box::new(move |acceptor| Box::pin(serve(acceptor))),
            state: Mutex::new(State::Closed(socket)),
            dropped: CancellationToken::new(),
        };
        port.start_again().await?;
        Ok(port)
    }

    /// Serves a router. Its handlers can extract `ConnectInfo<ConnectionControl>`.
    pub(super) async fn open_http(address: SocketAddr, router: Router) -> io::Result<Self> {
        Self::open(address, move |acceptor| {
            let service = router.clone().into_make_service_with_connect_info::<ConnectionControl>();
            async move { drop(axum::serve(acceptor, service).await) }
        })
        .await
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).expect("an address makes a URL")
    }

    /// Connections accepted since the port was first opened.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Stops listening and closes every connection; returns when they are closed. New connections are refused.
    pub(super) async fn stop(&self) -> io::Result<()> {
        let mut state = self.state.lock().await;
        if let State::Open { stop, open, accepting } = &mut *state {
            stop.cancel();
            // Ends after the cancellation; an error would mean that it panicked, which ends it as well.
            let _ = accepting.await;
            open.close();
            // A connection task that is being polled elsewhere notices when it next touches its socket.
            let _ = tokio::time::timeout(Duration::from_secs(2), open.wait()).await;
            *state = State::Lost;
        }
        if matches!(*state, State::Lost) {
            *state = State::Closed(bind_again(self.address).await?);
        }
        Ok(())
    }

    /// Listens again on the same port.
    pub(super) async fn start_again(&self) -> io::Result<()> {
        let mut state = self.state.lock().await;
        let socket = match std::mem::replace(&mut *state, State::Lost) {
            open @ State::Open { .. } => {
                *state = open;
                return Ok(());
            }
            State::Closed(socket) => socket,
            State::Lost => bind_again(self.address).await?,
        };
        let tcp = socket.listen(1024)?;
        let (stop, open) = (self.dropped.child_token(), TaskTracker::new());
        let acceptor = Acceptor { tcp, stop: stop.clone(), open: open.clone(), accepted: Arc::clone(&self.accepted) };
        let accepting = tokio::spawn(stop.clone().run_until_cancelled_owned((self.serve)(acceptor)));
        *state = State::Open { stop, open, accepting };
        Ok(())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.dropped.cancel();
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Earlier connections linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Binds a port that was just closed. A process forked meanwhile holds the old listener until it runs its program.
async fn bind_again(address: SocketAddr) -> io::Result<TcpSocket> {
    for _ in 0..200 {
        match bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            bound => return bound,
        }
    }
    bind(address)
}

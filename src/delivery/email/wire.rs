//! A connection to a mail server, as lettre reads it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Above lettre's own limits, below harm: lettre reads a whole line before it looks at its length.
const LINE_MAX: usize = 4096;

/// A stream whose replies are ASCII in lines that end.
///
/// Bytes beyond ASCII become `?`: servers that answer in Latin-1 exist, and lettre takes a reply that is not UTF-8
/// for a broken connection, which would try a refused mailbox again for days.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    peer: SocketAddr,
    /// Read before the stream itself: after STARTTLS a server does not greet again, but lettre waits for it.
    greeting: &'static [u8],
    line: usize,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, peer: SocketAddr) -> Self {
        Self { stream, peer, greeting: b"", line: 0 }
    }

    pub(super) fn greeted(stream: S, peer: SocketAddr) -> Self {
        Self { greeting: b"220 secured\r\n", ..Self::new(stream, peer) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.greeting.is_empty() {
            let (now, later) = self.greeting.split_at(self.greeting.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.greeting = later;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        for byte in &mut buffer.filled_mut()[before..] {
            self.line = if *byte == b'\n' { 0 } else { self.line + 1 };
            if !byte.is_ascii() {
                *byte = b'?';
            }
        }
        if self.line > LINE_MAX {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a reply without end")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> AsyncTokioStream for Wire<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

//! A connection to a mail server, adapted for lettre.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Above lettre's own limits, but harmless: lettre reads a whole line before it checks its length.
const MAX_LINE_BYTES: usize = 4096;

/// A stream whose replies are ASCII, in lines of bounded length.
///
/// Bytes beyond ASCII become `?`: some servers reply in Latin-1, and lettre takes a reply that is not UTF-8 for a
/// broken connection, so that a rejected mailbox would be retried for days. A code without text gets the blank that RFC
/// 5321 4.2 lets servers omit and lettre requires.
#[derive(Debug)]
pub(super) struct StreamTransport<S> {
    stream: S,
    peer: SocketAddr,
    /// Read before the stream itself: after STARTTLS a server does not greet again, but lettre waits for a greeting.
    greeting: &'static [u8],
    line: usize,
    /// A byte that did not fit into the buffer.
    pending: Option<u8>,
}

impl<S> StreamTransport<S> {
    pub(super) fn new(stream: S, peer: SocketAddr) -> Self {
        Self { stream, peer, greeting: b"", line: 0, pending: None }
    }

    pub(super) fn greeted(stream: S, peer: SocketAddr) -> Self {
        Self { greeting: b"220 secured\r\n", ..Self::new(stream, peer) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StreamTransport<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.greeting.is_empty() {
            let (now, later) = self.greeting.split_at(self.greeting.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.greeting = later;
            return Poll::Ready(Ok(()));
        }
        if let Some(pending) = self.pending.filter(|_| buffer.remaining() > 0) {
            self.pending = None;
            buffer.put_slice(&[pending]);
            return Poll::Ready(Ok(()));
        }
        // Each byte may become two.
        let mut bytes = [0; 1024];
        let limit = (buffer.remaining() / 2).clamp(1, bytes.len()).min(buffer.remaining());
        let mut read = ReadBuf::new(&mut bytes[..limit]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        for byte in read.filled() {
            let is_bare = self.line == 3 && matches!(byte, b'\r' | b'\n');
            let byte = match byte {
                b'\t' if self.line == 3 => b' ',
                byte if byte.is_ascii() => *byte,
                _ => b'?',
            };
            if is_bare {
                buffer.put_slice(b" ");
            }
            self.line = if byte == b'\n' { 0 } else { self.line + 1 + usize::from(is_bare) };
            if buffer.remaining() > 0 {
                buffer.put_slice(&[byte]);
            } else {
                self.pending = Some(byte);
            }
        }
        if self.line > MAX_LINE_BYTES {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a reply without end")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StreamTransport<S> {
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

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> AsyncTokioStream for StreamTransport<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_code_without_text_gets_the_blank_that_it_may_leave_out() {
        let sent = b"250-mail.example\r\n250\r\n220\n550-5.1.1 gone\r\n550\r\n250\tok\r\n554 f\xfcr\r\n";
        let expected = "250-mail.example\r\n250 \r\n220 \n550-5.1.1 gone\r\n550 \r\n250 ok\r\n554 f?r\r\n";
        for at_once in [1, 2, 3, 7, 64, 4096] {
            let mut wire = StreamTransport::new(&sent[..], SocketAddr::from(([127, 0, 0, 1], 25)));
            let (mut read, mut buffer) = (Vec::new(), vec![0; at_once]);
            loop {
                match wire.read(&mut buffer).await.unwrap() {
                    0 => break,
                    n => read.extend_from_slice(&buffer[..n]),
                }
            }
            assert_eq!(String::from_utf8(read).unwrap(), expected, "{at_once} bytes at once");
        }
    }
}

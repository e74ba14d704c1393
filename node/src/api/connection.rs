//! An accepted byte stream as the gRPC server takes it, with what its calls must know of it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::env::net::Stream;
use crate::mailbox::Operations;
use crate::mailbox::window::ByteWindow;

/// One client connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    info: ConnectionInfo,
    /// Resolves when the node ends, whoever still talks.
    end: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What a call knows of its connection; an extension of every request.
#[derive(Clone)]
pub struct ConnectionInfo {
    /// The peer's address as text.
    pub peer: Arc<str>,
    /// Bound on the mail that comes in by this connection.
    pub window: Arc<ByteWindow>,
}

impl Connection {
    /// A connection as `Listener::accept` gives it; it breaks when `end` is cancelled.
    pub fn new(
        stream: Box<dyn Stream>,
        peer: &str,
        ops: Option<&Operations>,
        end: CancellationToken,
    ) -> Connection {
        Connection {
            stream,
            end: Box::pin(end.cancelled_owned()),
            info: ConnectionInfo {
                peer: peer.into(),
                // Before there are operations nothing that a window bounds can be called.
                window: ops.map_or_else(|| ByteWindow::new(1), Operations::connection_window),
            },
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the node is stopping")
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ended()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

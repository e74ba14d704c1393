//! Sockets as a door sees them: a source of connected byte streams.
//!
//! The trait has the shape of the node's own, so that a host can pass on whatever network it
//! runs over.

use std::io;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A listening socket.
pub trait Listener: Send + Sync {
    /// The next connection and the peer's address as text, e.g. `192.0.2.1:40112`.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>>;
}

/// TCP of the operating system, with Nagle's algorithm off: replies are short and waited for.
pub struct TcpDoor {
    inner: tokio::net::TcpListener,
}

impl TcpDoor {
    /// Binds `host:port`; port 0 chooses a free one.
    #[allow(clippy::disallowed_methods)]
    pub async fn bind(addr: &str) -> io::Result<TcpDoor> {
        let inner = tokio::net::TcpListener::bind(addr).await?;
        Ok(TcpDoor { inner })
    }

    /// The bound address.
    pub fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        self.inner.local_addr()
    }
}

impl Listener for TcpDoor {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        Box::pin(async move {
            let (stream, peer) = self.inner.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Stream>, peer.to_string()))
        })
    }
}

//! Sockets: byte streams between addresses.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A listening socket.
pub trait Listener: Send + Sync {
    /// The next connection and the peer's address as text.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>>;
    /// The bound address, `host:port`.
    fn local_addr(&self) -> String;
}

/// A network.
pub trait Net: Send + Sync {
    /// Binds `host:port`; port 0 chooses a free one.
    fn listen(&self, addr: &str) -> BoxFuture<'_, io::Result<Arc<dyn Listener>>>;
    /// Connects to `host:port`.
    fn connect(&self, addr: &str) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;
}

/// TCP of the operating system, with Nagle's algorithm off.
pub struct TcpNet;

impl Net for TcpNet {
    fn listen(&self, addr: &str) -> BoxFuture<'_, io::Result<Arc<dyn Listener>>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            #[allow(clippy::disallowed_methods)]
            let inner = tokio::net::TcpListener::bind(&addr).await?;
            let local_addr = inner.local_addr()?.to_string();
            Ok(Arc::new(TcpListener { inner, local_addr }) as Arc<dyn Listener>)
        })
    }

    fn connect(&self, addr: &str) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            #[allow(clippy::disallowed_methods)]
            let stream = tokio::net::TcpStream::connect(&addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

struct TcpListener {
    inner: tokio::net::TcpListener,
    local_addr: String,
}

impl Listener for TcpListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        Box::pin(async move {
            let (stream, peer) = self.inner.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Stream>, peer.to_string()))
        })
    }

    fn local_addr(&self) -> String {
        self.local_addr.clone()
    }
}

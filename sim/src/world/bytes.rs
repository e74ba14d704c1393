//! Byte streams over the simulated network: what the node calls sockets.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::future::{BoxFuture, FutureExt, poll_fn};
use posthouse_node::env::net as node;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::HostId;
use super::fence::Fence;
use super::net::{Acceptor, Net};
use super::pipe::{Item, Opening, Pipe, Side};

/// Octets under way in one direction of a stream.
pub const WINDOW: usize = 256 << 10;
/// The largest piece of a stream that travels as one packet.
const PACKET: usize = 64 << 10;
/// How long TCP sends a packet again before it gives a connection up.
const PATIENCE_US: u64 = 20_000_000;

/// The sockets of one life of a process.
#[derive(Clone)]
pub struct Sockets {
    net: Net,
    process: (HostId, Fence),
}

impl Sockets {
    /// Of this process.
    pub fn new(net: Net, host: HostId, fence: Fence) -> Sockets {
        let process = (host, fence);
        Sockets { net, process }
    }

    /// Connects to `host:port`.
    pub async fn connect(&self, addr: &str) -> io::Result<SimStream> {
        let to = HostId::of(addr).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let from = self.process.clone();
        let pipe = Pipe::new(&self.net, from, to, WINDOW, PATIENCE_US, false);
        let opening = Opening {
            addr: addr.to_owned(),
            peer: format!("{}:{}", self.process.0.ip(), self.net.port()),
            call: None,
        };
        let stream = SimStream::new(Arc::clone(&pipe), Side::Caller);
        pipe.send(Side::Caller, Item::Open(Box::new(opening)));
        let established = poll_fn(|cx| pipe.poll_established(cx)).await;
        established.map_err(|broken| broken.io())?;
        Ok(stream)
    }

    fn bind(&self, addr: &str) -> io::Result<SimListener> {
        Ok(SimListener {
            acceptor: self.net.bind(addr, self.process.clone())?,
            net: self.net.clone(),
            addr: addr.to_owned(),
        })
    }
}

impl node::Net for Sockets {
    fn listen(&self, addr: &str) -> BoxFuture<'_, io::Result<Arc<dyn node::Listener>>> {
        let bound = self.bind(addr);
        let bound = bound.map(|l| Arc::new(l) as Arc<dyn node::Listener>);
        futures::future::ready(bound).boxed()
    }

    fn connect(&self, addr: &str) -> BoxFuture<'_, io::Result<Box<dyn node::Stream>>> {
        let addr = addr.to_owned();
        let sockets = self.clone();
        async move {
            let stream = sockets.connect(&addr).await?;
            Ok(Box::new(stream) as Box<dyn node::Stream>)
        }
        .boxed()
    }
}

/// A listening socket.
pub struct SimListener {
    net: Net,
    addr: String,
    acceptor: Arc<Acceptor>,
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.net.unbind(&self.addr, &self.acceptor);
    }
}

impl node::Listener for SimListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn node::Stream>, String)>> {
        async move {
            loop {
                let (pipe, opening) = poll_fn(|cx| self.acceptor.poll_next(cx)).await;
                match opening.call {
                    None => {
                        let stream = SimStream::new(pipe, Side::Callee);
                        return Ok((Box::new(stream) as Box<dyn node::Stream>, opening.peer));
                    }
                    // Octets are expected here, and no calls.
                    Some(_) => pipe.cancel(Side::Callee),
                }
            }
        }
        .boxed()
    }

    fn local_addr(&self) -> String {
        self.addr.clone()
    }
}

/// One end of a byte stream.
pub struct SimStream {
    pipe: Arc<Pipe>,
    side: Side,
    rest: Bytes,
    ended: bool,
}

impl SimStream {
    fn new(pipe: Arc<Pipe>, side: Side) -> SimStream {
        SimStream {
            pipe,
            side,
            rest: Bytes::new(),
            ended: false,
        }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.pipe.leave(self.side);
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() && !self.ended {
            match self.pipe.poll_recv(self.side, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken.io())),
                Poll::Ready(Ok(Item::Data(octets))) => self.rest = octets,
                Poll::Ready(Ok(_)) => self.ended = true,
            }
        }
        let n = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..n]);
        self.rest.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.pipe.poll_room(self.side, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(broken)) => Poll::Ready(Err(broken.io())),
            Poll::Ready(Ok(())) => {
                let n = buf.len().min(PACKET);
                let octets = Bytes::copy_from_slice(&buf[..n]);
                self.pipe.send(self.side, Item::Data(octets));
                Poll::Ready(Ok(n))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.send(self.side, Item::Fin);
        Poll::Ready(Ok(()))
    }
}

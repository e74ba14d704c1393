//! Connections to nodes: one channel per address, made through an injected dial.
//!
//! A host injects how gRPC travels and where randomness comes from; nothing here opens a socket or
//! draws a random number behind its back. [`http2`] is the ordinary way, over byte streams of
//! the host's choice; a simulator may also carry requests and answers as messages of its own.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tonic::transport::{Endpoint, Uri};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::details;
use crate::error::Error;
use crate::ids::RequestId;

/// Why a channel gave no answer: what went wrong below, of which `tonic` makes a status.
// A type of its own, because futures that hold a boxed error across an await are not `Send` in the
// eyes of today's compiler (rust-lang/rust#110338).
#[derive(Debug)]
pub struct ChannelError(Box<dyn StdError + Send + Sync>);

impl ChannelError {
    /// From what went wrong; a `tonic::Status` is passed on as it is.
    pub fn new(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> ChannelError {
        ChannelError(cause.into())
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for ChannelError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

/// The way to one node: takes gRPC requests and gives their answers. Connects when it is first
/// used and again after it broke; its clones are the same connection.
pub type Channel = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, ChannelError>;

/// Gives the channel to `host:port`, without connecting it yet.
pub type Dial = Arc<dyn Fn(&str) -> Result<Channel, Error> + Send + Sync>;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to `host:port`.
pub type Connector =
    Arc<dyn Fn(&str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// Fills a buffer with random octets.
pub type Entropy = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// TCP of the operating system, with Nagle's algorithm off.
pub fn tcp_connector() -> Connector {
    Arc::new(|addr: &str| {
        let addr = addr.to_owned();
        Box::pin(async move {
            #[allow(clippy::disallowed_methods)]
            let stream = tokio::net::TcpStream::connect(&addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    })
}

/// The operating system's generator.
pub fn os_entropy() -> Entropy {
    #[allow(clippy::disallowed_methods)]
    Arc::new(|out: &mut [u8]| {
        use rand::Rng as _;
        rand::rng().fill_bytes(out);
    })
}

/// How patient a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Time to make a connection.
    pub connect: Duration,
    /// A connection that says nothing for this long is asked for a sign of life ...
    pub keepalive_every: Duration,
    /// ... and given up after this.
    pub keepalive_patience: Duration,
    /// Asked also while no call is on it.
    pub keepalive_idle: bool,
}

impl Terms {
    /// Those of this library.
    pub const CLIENT: Terms = Terms {
        connect: Duration::from_secs(1),
        keepalive_every: Duration::from_secs(2),
        keepalive_patience: Duration::from_secs(5),
        keepalive_idle: false,
    };
}

/// Stream window: a sender of chunks of 256 KiB must not wait for the reader on every one.
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Window of a whole connection; also the bound on octets in flight to one side from the other.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// gRPC as HTTP/2 over the streams of `connector`.
pub fn http2(connector: Connector) -> Dial {
    Arc::new(move |addr: &str| {
        http2_channel(connector.clone(), addr, Terms::CLIENT)
            .map_err(|why| Error::bad_request("addr", why))
    })
}

/// A channel to `host:port` as HTTP/2 over the streams of `connector`; `Err` says what is wrong
/// with the address.
pub fn http2_channel(connector: Connector, addr: &str, terms: Terms) -> Result<Channel, String> {
    let bad = |e: String| format!("{addr:?} is not host:port: {e}");
    if addr
        .rsplit_once(':')
        .is_none_or(|(h, p)| h.is_empty() || p.parse::<u16>().is_err())
    {
        return Err(bad("the port is missing".into()));
    }
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))
        .map_err(|e| bad(e.to_string()))?
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(terms.keepalive_every)
        .keep_alive_timeout(terms.keepalive_patience)
        .keep_alive_while_idle(terms.keepalive_idle);
    let addr = addr.to_owned();
    let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let connected = connector(&addr);
        async move {
            match tokio::time::timeout(terms.connect, connected).await {
                Ok(stream) => stream.map(TokioIo::new),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }));
    let channel = channel.map_response(details::readable);
    Ok(Channel::new(channel.map_err(ChannelError::new)))
}

/// The world as the client sees it.
#[derive(Clone)]
pub struct Wiring {
    /// Makes channels.
    pub dial: Dial,
    /// For request ids and jitter.
    pub entropy: Entropy,
}

impl Wiring {
    /// HTTP/2 over TCP and the operating system's generator.
    pub fn real() -> Wiring {
        Wiring {
            dial: http2(tcp_connector()),
            entropy: os_entropy(),
        }
    }

    /// A fresh request id.
    pub fn request_id(&self) -> RequestId {
        let mut id = [0; 16];
        (self.entropy)(&mut id);
        RequestId(id)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        let mut octets = [0; 8];
        (self.entropy)(&mut octets);
        // The bias of the remainder is of no importance for jitter.
        u64::from_le_bytes(octets).checked_rem(bound).unwrap_or(0)
    }
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wiring")
    }
}

/// The channels to all addresses used so far; one costs nothing while it is idle.
pub(crate) struct Channels {
    wiring: Wiring,
    open: Mutex<BTreeMap<String, Channel>>,
}

impl Channels {
    pub(crate) fn new(wiring: Wiring) -> Channels {
        Channels {
            wiring,
            open: Mutex::new(BTreeMap::new()),
        }
    }

    pub(crate) fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// The channel to `addr`, `host:port`.
    pub(crate) fn get(&self, addr: &str) -> Result<Channel, Error> {
        if let Some(channel) = self.open.lock().get(addr) {
            return Ok(channel.clone());
        }
        let channel = (self.wiring.dial)(addr)?;
        let mut open = self.open.lock();
        Ok(open.entry(addr.to_owned()).or_insert(channel).clone())
    }

    /// Forgets addresses that are neither a seed nor in the placement map any more.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.open.lock().retain(|addr, _| keep(addr));
    }
}

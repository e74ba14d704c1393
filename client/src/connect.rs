//! Connections to nodes: one HTTP/2 channel per address, made through an injected connector.
//!
//! The simulator injects its own byte streams, its own randomness and an executor whose tasks die
//! with the client; nothing here opens a socket or draws a random number behind its back.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::error::Error;
use crate::ids::RequestId;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to `host:port`.
pub type Connector =
    Arc<dyn Fn(&str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// Fills a buffer with random octets.
pub type Entropy = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// Starts a task that serves a connection.
pub type Spawner = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

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

/// The world as the client sees it.
#[derive(Clone)]
pub struct Wiring {
    /// Makes connections.
    pub connector: Connector,
    /// For request ids and jitter.
    pub entropy: Entropy,
    /// Where the tasks of connections run; `None`: on the current tokio runtime.
    pub spawner: Option<Spawner>,
}

impl Wiring {
    /// TCP and the operating system's generator.
    pub fn real() -> Wiring {
        Wiring {
            connector: tcp_connector(),
            entropy: os_entropy(),
            spawner: None,
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

/// Stream window: a sender of chunks of 256 KiB must not wait for the reader on every one.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Window of a whole connection; also the bound on octets in flight to this client from one node.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Time to make a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection with calls on it that says nothing for this long is asked for a sign of life ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// ... and given up after this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The channels to all addresses used so far. A channel connects on first use and again after it
/// broke; it costs nothing while it is idle.
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
        let channel = self.connect_lazily(addr)?;
        let mut open = self.open.lock();
        Ok(open.entry(addr.to_owned()).or_insert(channel).clone())
    }

    /// Forgets addresses that are neither a seed nor in the placement map any more.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.open.lock().retain(|addr, _| keep(addr));
    }

    fn connect_lazily(&self, addr: &str) -> Result<Channel, Error> {
        let bad = |e: String| Error::bad_request("addr", format!("{addr:?} is not host:port: {e}"));
        if addr
            .rsplit_once(':')
            .is_none_or(|(h, p)| h.is_empty() || p.parse::<u16>().is_err())
        {
            return Err(bad("the port is missing".into()));
        }
        let mut endpoint = Endpoint::from_shared(format!("http://{addr}"))
            .map_err(|e| bad(e.to_string()))?
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        if let Some(spawner) = &self.wiring.spawner {
            endpoint = endpoint.executor(Executor(spawner.clone()));
        }
        let connector = self.wiring.connector.clone();
        let addr = addr.to_owned();
        Ok(
            endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let connected = connector(&addr);
                async move {
                    match tokio::time::timeout(CONNECT_TIMEOUT, connected).await {
                        Ok(stream) => stream.map(TokioIo::new),
                        Err(_) => Err(io::ErrorKind::TimedOut.into()),
                    }
                }
            })),
        )
    }
}

#[derive(Clone)]
struct Executor(Spawner);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        (self.0)(Box::pin(task));
    }
}

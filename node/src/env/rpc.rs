//! How gRPC travels between processes: calls out, and calls in.
//!
//! The rest of the node knows requests and answers of HTTP alone ([`Channel`], [`RpcService`]).
//! [`Http2`] carries them over the byte streams of a [`Net`] (RFC 9113, and the gRPC protocol over
//! it); a simulator may also hand them over as messages. What has to be known of a connection (who
//! is at its other end, what bounds its mail) is in the service that is made for it, so that every
//! arm has it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use posthouse_client::connect::{self, CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::net::{Listener, Net, Stream};

pub use posthouse_client::connect::{Channel, ChannelError, Terms};

/// What nodes expect of connections to each other: a dead one is noticed also while nothing is
/// sent.
pub const PEER: Terms = Terms {
    connect: Duration::from_secs(2),
    keepalive_every: Duration::from_secs(2),
    keepalive_patience: Duration::from_secs(4),
    keepalive_idle: true,
};

/// Answers the calls of one connection.
pub type RpcService = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible>;

/// Makes the service of one connection, from the address of its peer.
pub type Services = Arc<dyn Fn(&str) -> RpcService + Send + Sync>;

/// How gRPC travels.
pub trait Rpc: Send + Sync {
    /// The channel to `host:port`, which connects when it is first used, and again after it broke.
    /// `Err` says what is wrong with the address.
    fn channel(&self, addr: &str, terms: Terms) -> Result<Channel, String>;

    /// Serves everyone who connects to `listener`, with a service of `services` for each
    /// connection, until `stop`. Then calls have [`GRACE`] to end, and whatever is left is cut
    /// off; nothing of it runs any more when this returns, or is dropped. The listener can be
    /// served again afterwards.
    fn serve(
        &self,
        listener: Arc<dyn Listener>,
        services: Services,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()>;
}

/// Time that calls have to end when a server stops. Streams of peers last as long as they do, so
/// nobody waits for all of them.
pub const GRACE: Duration = Duration::from_millis(500);
/// A connection without a sign of life is asked for one after this ...
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// ... and cut off after so much more.
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(10);

/// As HTTP/2 over byte streams.
pub struct Http2 {
    net: Arc<dyn Net>,
}

impl Http2 {
    /// Over the streams of `net`.
    pub fn new(net: Arc<dyn Net>) -> Http2 {
        Http2 { net }
    }
}

impl Rpc for Http2 {
    fn channel(&self, addr: &str, terms: Terms) -> Result<Channel, String> {
        let net = Arc::clone(&self.net);
        let connector: connect::Connector = Arc::new(move |addr: &str| {
            let (net, addr) = (Arc::clone(&net), addr.to_owned());
            Box::pin(async move {
                let stream = net.connect(&addr).await?;
                Ok(Box::new(stream) as Box<dyn connect::Stream>)
            })
        });
        connect::http2_channel(connector, addr, terms)
    }

    fn serve(
        &self,
        listener: Arc<dyn Listener>,
        services: Services,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut connections = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, peer)) => {
                        let service = services(&peer);
                        connections.spawn(connection(stream, peer, service, stop.clone()));
                    }
                    Err(e) => {
                        // Out of file descriptors, most often: wait for some.
                        tracing::warn!("cannot accept a connection: {e}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
            drop(listener);
            let rest = async { while connections.join_next().await.is_some() {} };
            if tokio::time::timeout(GRACE, rest).await.is_err() {
                connections.shutdown().await;
            }
        })
    }
}

/// Serves one connection until its end, or until nothing is left to answer after `stop`.
async fn connection(
    stream: Box<dyn Stream>,
    peer: String,
    service: RpcService,
    stop: CancellationToken,
) {
    let service = service.map_request(|r: http::Request<hyper::body::Incoming>| r.map(Body::new));
    // What a connection spawns for its calls ends with it: they see their streams reset.
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(None)
        .keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_PATIENCE)
        // Its clock is the operating system's, and gRPC has no use for it.
        .auto_date_header(false);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(%peer, "a connection broke: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::net::TcpNet;

    /// Serves: "/pending" never answers, everything else says who asked.
    fn services() -> Services {
        Arc::new(|peer: &str| {
            let peer = peer.to_owned();
            RpcService::new(tower::service_fn(move |request: http::Request<Body>| {
                let peer = peer.clone();
                async move {
                    if request.uri().path() == "/pending" {
                        std::future::pending::<()>().await;
                    }
                    let answer = http::Response::builder().header("peer", peer);
                    Ok(answer.body(Body::empty()).unwrap())
                }
            }))
        })
    }

    fn get(path: &str) -> http::Request<Body> {
        http::Request::get(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_server_answers_and_ends_with_everything_that_hangs_on_it() {
        let net: Arc<dyn Net> = Arc::new(TcpNet);
        let rpc = Http2::new(Arc::clone(&net));
        let listener = net.listen("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr();
        for _ in 0..2 {
            let stop = CancellationToken::new();
            let served = rpc.serve(Arc::clone(&listener), services(), stop.clone());
            let served = tokio::spawn(served);
            let channel = rpc.channel(&addr, PEER).unwrap();
            let answer = channel.clone().oneshot(get("/")).await.unwrap();
            let headers = answer.headers();
            assert!(headers["peer"].to_str().unwrap().starts_with("127.0.0.1:"));
            assert!(!headers.contains_key("date"), "a clock of its own");
            let pending = tokio::spawn(channel.oneshot(get("/pending")));
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(!pending.is_finished());
            stop.cancel();
            let patience = GRACE * 10;
            tokio::time::timeout(patience, served)
                .await
                .unwrap()
                .unwrap();
            let cut = tokio::time::timeout(patience, pending).await.unwrap();
            assert!(cut.unwrap().is_err());
        }
    }

    #[test]
    fn what_is_no_address_is_refused_at_once() {
        let rpc = Http2::new(Arc::new(TcpNet));
        for bad in ["", "host", "host:", ":1", "host:70000", "a b:1"] {
            assert!(rpc.channel(bad, PEER).is_err(), "{bad:?}");
        }
    }
}

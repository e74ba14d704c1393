//! gRPC as messages: each call is one connection, its head, the pieces of its bodies and its
//! trailers are what travels. What HTTP/2 would add (frames, header compression, windows of
//! streams) is left out, and most of its cost with it; what users of a call can observe is the
//! same: order within a call, cancellation, a broken connection, keep-alive that gives a silent
//! peer up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, poll_fn};
use http_body::{Body as _, Frame};
use posthouse_node::env::net::Listener;
use posthouse_node::env::rpc::{Channel, ChannelError, GRACE, Rpc, Services, Terms};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt;

use super::HostId;
use super::fence::Fence;
use super::net::{Acceptor, Net};
use super::pipe::{Broken, Item, Opening, Pipe, Side};

/// Octets under way in one direction of a call.
const WINDOW: usize = 1 << 20;
/// When keep-alive asks a silent peer.
pub const ASKS_US: u64 = 2_000_000;
/// When it gives the peer up: 4 s are for the answer.
pub const PATIENCE_US: u64 = ASKS_US + 4_000_000;

/// A failure of a service.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Requests of gRPC.
pub type Request = http::Request<Body>;
/// Responses of gRPC.
pub type Response = http::Response<Body>;

fn unavailable(broken: Broken) -> Status {
    Status::unavailable(match broken {
        Broken::Refused => "connection refused",
        Broken::Reset => "connection reset",
        Broken::TimedOut => "connection timed out",
    })
}

/// The process that calls.
#[derive(Clone)]
pub struct Caller {
    net: Net,
    process: (HostId, Fence),
}

impl Caller {
    /// This process.
    pub fn new(net: Net, host: HostId, fence: Fence) -> Caller {
        let process = (host, fence);
        Caller { net, process }
    }

    /// Carries out one call at `addr`, which has so long to take it.
    pub async fn call(
        self,
        addr: String,
        connect: Duration,
        request: Request,
    ) -> Result<Response, BoxError> {
        let to = HostId::of(&addr).ok_or("not an address of this world")?;
        let (head, body) = request.into_parts();
        tracing::trace!("call of {} at {addr}", head.uri.path());
        let orderless = head.uri.path().ends_with("/Control");
        let from = self.process.clone();
        let pipe = Pipe::new(&self.net, from, to, WINDOW, PATIENCE_US, orderless);
        let mut call = http::Request::new(()).into_parts().0;
        (call.method, call.uri, call.headers) = (head.method, head.uri, head.headers);
        call.version = http::Version::HTTP_2;
        let opening = Opening {
            addr,
            peer: format!("{}:{}", self.process.0.ip(), self.net.port()),
            call: Some(call),
        };
        pipe.send(Side::Caller, Item::Open(Box::new(opening)));
        let guard = Guard(Arc::clone(&pipe), Side::Caller);
        start(Pump::new(Arc::clone(&pipe), Side::Caller, body)).await;
        let taken = poll_fn(|cx| pipe.poll_established(cx));
        match tokio::time::timeout(connect, taken).await {
            Ok(Ok(())) => {}
            Ok(Err(broken)) => return Err(Box::new(unavailable(broken))),
            Err(_) => return Err(Box::new(unavailable(Broken::TimedOut))),
        }
        match poll_fn(|cx| pipe.poll_recv(Side::Caller, cx)).await {
            Ok(Item::Head(parts)) => {
                let body = Body::new(Incoming {
                    guard,
                    ended: false,
                });
                Ok(http::Response::from_parts(*parts, body))
            }
            Ok(_) => Err(Box::new(unavailable(Broken::Reset))),
            Err(broken) => Err(Box::new(unavailable(broken))),
        }
    }
}

/// Ends a call when nobody waits for its answer any more.
struct Guard(Arc<Pipe>, Side);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.cancel(self.1);
    }
}

/// Sends what is ready at once, and leaves the rest to a task.
async fn start(mut pump: Pump) {
    let done = poll_fn(|cx| Poll::Ready(Pin::new(&mut pump).poll(cx).is_ready())).await;
    if !done {
        tokio::spawn(pump);
    }
}

/// Sends a body.
struct Pump {
    pipe: Arc<Pipe>,
    side: Side,
    body: Body,
}

impl Pump {
    fn new(pipe: Arc<Pipe>, side: Side, body: Body) -> Pump {
        Pump { pipe, side, body }
    }
}

impl Future for Pump {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            if this.pipe.poll_broken(this.side, cx).is_ready() {
                return Poll::Ready(());
            }
            match this.pipe.poll_room(this.side, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(octets) => this.pipe.send(this.side, Item::Data(octets)),
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            this.pipe.send(this.side, Item::Trailers(trailers));
                        }
                    }
                },
                Poll::Ready(Some(Err(_))) => {
                    this.pipe.cancel(this.side);
                    return Poll::Ready(());
                }
                Poll::Ready(None) => {
                    this.pipe.send(this.side, Item::Fin);
                    return Poll::Ready(());
                }
            }
        }
    }
}

/// A body that arrives.
struct Incoming {
    guard: Guard,
    ended: bool,
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Guard(pipe, side) = &self.guard;
        let next = match pipe.poll_recv(*side, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(next) => next,
        };
        Poll::Ready(match next {
            Ok(Item::Data(octets)) => Some(Ok(Frame::data(octets))),
            Ok(Item::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(_) => {
                self.ended = true;
                None
            }
            Err(broken) => {
                self.ended = true;
                Some(Err(unavailable(broken)))
            }
        })
    }
}

/// The body of a request, whose end does not end the call.
struct RequestBody {
    pipe: Arc<Pipe>,
    ended: bool,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = match self.pipe.poll_recv(Side::Callee, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(next) => next,
        };
        Poll::Ready(match next {
            Ok(Item::Data(octets)) => Some(Ok(Frame::data(octets))),
            Ok(Item::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(_) => {
                self.ended = true;
                None
            }
            Err(broken) => {
                self.ended = true;
                // As h2 reports a stream that was reset (RFC 9113 section 5.4.2).
                Some(Err(Status::cancelled(unavailable(broken).message())))
            }
        })
    }
}

/// The next call at a listening address: whose it is, and its connection.
pub async fn accept(acceptor: &Acceptor) -> (Arc<Pipe>, Opening) {
    loop {
        let (pipe, opening) = poll_fn(|cx| acceptor.poll_next(cx)).await;
        match opening.call {
            Some(_) => return (pipe, opening),
            // Calls are expected here, and no octets.
            None => pipe.leave(Side::Callee),
        }
    }
}

/// Answers one call by `service`; ends early when the caller goes away.
pub async fn answer<S>(pipe: Arc<Pipe>, opening: Opening, service: S)
where
    S: tower::Service<Request, Response = Response>,
    S::Error: std::fmt::Display,
{
    let Some(head) = opening.call else { return };
    let _guard = Guard(Arc::clone(&pipe), Side::Callee);
    let body = RequestBody {
        pipe: Arc::clone(&pipe),
        ended: false,
    };
    let request = http::Request::from_parts(head, Body::new(body));
    let answered = async {
        let response = match service.oneshot(request).await {
            Ok(response) => response,
            Err(e) => Status::internal(e.to_string()).into_http::<Body>(),
        };
        let (head, body) = response.into_parts();
        let mut plain = http::Response::new(()).into_parts().0;
        (plain.status, plain.headers) = (head.status, head.headers);
        pipe.send(Side::Callee, Item::Head(Box::new(plain)));
        Pump::new(Arc::clone(&pipe), Side::Callee, body).await;
    };
    let gone = poll_fn(|cx| pipe.poll_broken(Side::Callee, cx));
    tokio::select! {
        biased;
        () = answered => {}
        _ = gone => {}
    }
}

/// gRPC of one process, as messages.
pub struct MessageRpc {
    net: Net,
    process: (HostId, Fence),
}

impl MessageRpc {
    /// Of this process.
    pub fn new(net: Net, host: HostId, fence: Fence) -> MessageRpc {
        let process = (host, fence);
        MessageRpc { net, process }
    }
}

impl Rpc for MessageRpc {
    fn channel(&self, addr: &str, terms: Terms) -> Result<Channel, String> {
        HostId::of(addr).ok_or_else(|| format!("{addr} is not an address of this world"))?;
        let caller = Caller {
            net: self.net.clone(),
            process: self.process.clone(),
        };
        let addr = addr.to_owned();
        Ok(Channel::new(tower::service_fn(move |request| {
            let call = caller.clone().call(addr.clone(), terms.connect, request);
            async move { call.await.map_err(ChannelError::new) }
        })))
    }

    fn serve(
        &self,
        listener: Arc<dyn Listener>,
        services: Services,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        let acceptor = self.net.accept(&listener.local_addr());
        Box::pin(async move {
            // The listener keeps the address until the end.
            let _listener = listener;
            let Some((_, acceptor)) = acceptor else {
                return;
            };
            let mut calls = JoinSet::new();
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    (pipe, opening) = accept(&acceptor) => {
                        let service = services(&opening.peer);
                        calls.spawn(answer(pipe, opening, service));
                    }
                    Some(_) = calls.join_next(), if !calls.is_empty() => {}
                }
            }
            let rest = async { while calls.join_next().await.is_some() {} };
            if tokio::time::timeout(GRACE, rest).await.is_err() {
                calls.shutdown().await;
            }
        })
    }
}

//! What the calls of one connection share: who is at its other end, the bound on the mail that
//! comes in by it, and the deadlines that callers set.

use std::sync::Arc;

use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;

use super::call;
use crate::env::rpc::RpcService;
use crate::mailbox::window::ByteWindow;

/// What a call knows of its connection; an extension of every request.
#[derive(Clone)]
pub struct ConnectionInfo {
    /// The peer's address as text.
    pub peer: Arc<str>,
    /// Bound on the mail that comes in by this connection.
    pub window: Arc<ByteWindow>,
}

/// The services in `routes` for one connection from `peer`. A call is given up when its caller's
/// deadline has passed.
pub fn service(routes: Routes, peer: &str, window: Arc<ByteWindow>) -> RpcService {
    let info = ConnectionInfo {
        peer: peer.into(),
        window,
    };
    RpcService::new(tower::service_fn(
        move |mut request: http::Request<Body>| {
            request.extensions_mut().insert(info.clone());
            let limit = call::timeout(request.headers());
            let answer = routes.clone().oneshot(request);
            async move {
                let Some(limit) = limit else {
                    return answer.await;
                };
                match tokio::time::timeout(limit, answer).await {
                    Ok(answer) => answer,
                    Err(_) => Ok(Status::cancelled("the caller's deadline has passed").into_http()),
                }
            }
        },
    ))
}

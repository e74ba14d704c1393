//! Small messages of all shards to one node on one stream: votes, heartbeats, leader transfers.
//!
//! Every request has a number and its answer carries it back, so that a slow shard holds up no
//! other. When the stream breaks, all that wait get an error at once, and the next request opens a
//! new stream; before anything else is said on it, the other side has to say who it is.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::peers::{Identity, PeerError, PeerStub, check_hello, hello_request};
use super::proto::{ControlRequest, ControlResponse};
use crate::rare::{self, Rare};
use crate::types::*;

/// What a control message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ControlKind {
    /// openraft's VoteRequest.
    Vote = 1,
    /// openraft's VoteRequest, hypothetical.
    PreVote = 2,
    /// openraft's AppendEntriesRequest without entries.
    Heartbeat = 3,
    /// openraft's TransferLeaderRequest.
    TransferLeader = 4,
}

impl ControlKind {
    /// The kind with this number.
    pub fn of(number: u32) -> Option<ControlKind> {
        [
            Self::Vote,
            Self::PreVote,
            Self::Heartbeat,
            Self::TransferLeader,
        ]
        .into_iter()
        .find(|k| *k as u32 == number)
    }
}

/// Requests that wait for the stream.
const QUEUE: usize = 4096;

struct Call {
    shard: ShardId,
    to: ReplicaId,
    kind: ControlKind,
    payload: Bytes,
    answer: oneshot::Sender<Result<Bytes, PeerError>>,
}

/// Sends control messages to one node.
#[derive(Clone)]
pub struct Control {
    calls: mpsc::Sender<Call>,
    node: NodeId,
    addr: String,
}

impl Control {
    /// Starts the task that owns the stream.
    pub fn start(
        node: NodeId,
        addr: String,
        client: PeerStub,
        identity: Identity,
        stop: CancellationToken,
    ) -> Control {
        let (calls, rx) = mpsc::channel(QUEUE);
        let worker = Worker {
            node,
            addr: addr.clone(),
            client,
            identity,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = worker.run(rx) => {}
            }
        });
        Control { calls, node, addr }
    }

    /// Sends one message and waits for its answer, `timeout` at the longest.
    pub async fn call(
        &self,
        shard: ShardId,
        to: ReplicaId,
        kind: ControlKind,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        let unreachable = |cause: &str| PeerError::Unreachable {
            node: self.node,
            addr: self.addr.clone(),
            cause: cause.to_owned(),
        };
        let (answer, rx) = oneshot::channel();
        let exchange = async {
            let call = Call {
                shard,
                to,
                kind,
                payload,
                answer,
            };
            self.calls
                .send(call)
                .await
                .map_err(|_| unreachable("the node is stopping"))?;
            rx.await.map_err(|_| {
                rare::hit(Rare::ControlBroke);
                unreachable("the connection broke")
            })?
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| {
                rare::hit(Rare::ControlSilent);
                Err(unreachable("no answer in time"))
            })
    }
}

struct Worker {
    node: NodeId,
    addr: String,
    client: PeerStub,
    identity: Identity,
}

impl Worker {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        while let Some(first) = calls.recv().await {
            if let Err(e) = self.session(first, &mut calls).await {
                tracing::debug!(node = %self.node, addr = %self.addr, "control stream ended: {e}");
            }
        }
    }

    fn unreachable(&self, cause: impl ToString) -> PeerError {
        PeerError::Unreachable {
            node: self.node,
            addr: self.addr.clone(),
            cause: cause.to_string(),
        }
    }

    /// One life of the stream, opened for `first`.
    async fn session(
        &mut self,
        first: Call,
        calls: &mut mpsc::Receiver<Call>,
    ) -> Result<(), PeerError> {
        let (tx, rx) = mpsc::channel(QUEUE);
        let hello = hello_request(&self.identity);
        let opened = tokio::time::timeout(Duration::from_secs(2), async {
            let hello = self.client.hello(hello).await?.into_inner();
            let stream = self
                .client
                .control(ReceiverStream::new(rx))
                .await?
                .into_inner();
            Ok::<_, tonic::Status>((hello, stream))
        });
        let opened = match opened.await {
            Ok(Ok((hello, stream))) => {
                check_hello(&self.identity, self.node, &self.addr, &hello).map(|()| stream)
            }
            Ok(Err(status)) => Err(self.unreachable(status.message())),
            Err(_) => Err(self.unreachable("no answer in time")),
        };
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(e) => {
                rare::hit(Rare::ControlNotOpened);
                let _ = first.answer.send(Err(e.clone()));
                // Those that queued up meanwhile would wait for the same failure.
                while let Ok(call) = calls.try_recv() {
                    let _ = call.answer.send(Err(e.clone()));
                }
                return Err(e);
            }
        };
        let mut waiting: BTreeMap<u64, oneshot::Sender<Result<Bytes, PeerError>>> = BTreeMap::new();
        let mut seq = 0;
        let mut next = Some(first);
        loop {
            if let Some(call) = next.take() {
                waiting.retain(|_, answer| !answer.is_closed());
                seq += 1;
                waiting.insert(seq, call.answer);
                let request = ControlRequest {
                    seq,
                    shard: call.shard.0,
                    to_replica: call.to.0,
                    kind: call.kind as u32,
                    payload: call.payload,
                };
                if tx.try_send(request).is_err() {
                    return Err(self.unreachable("the control stream is stuck"));
                }
            }
            tokio::select! {
                call = calls.recv() => match call {
                    Some(call) => next = Some(call),
                    None => return Ok(()),
                },
                answer = stream.next() => match answer {
                    Some(Ok(ControlResponse { seq, payload, error })) => {
                        let result = match error.is_empty() {
                            true => Ok(payload),
                            false => Err(self.unreachable(error)),
                        };
                        if let Some(waiter) = waiting.remove(&seq) {
                            let _ = waiter.send(result);
                        }
                    }
                    Some(Err(status)) => return Err(self.unreachable(status.message())),
                    None => return Err(self.unreachable("the other side closed the stream")),
                },
            }
        }
    }
}

//! openraft's network over the peers: one instance per shard and target replica.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory,
};

use openraft::EmptyNode;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::control::ControlKind;
use super::peers::{PeerError, Peers};
use super::promises::{Promise, leader_of};
use super::proto::{ReplicateRequest, ReplicateResponse};
use super::snapshot::{self, ChunkReader};
use super::tap::{Tap, tapped};
use crate::raft::log::Log;
use crate::raft::state_machine::SnapshotData;
use crate::raft::types::*;
use crate::rare::{self, Rare};
use crate::types::*;

/// How long an append may stay unanswered before its stream is given up.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the network of one shard.
pub struct Factory {
    /// Which shard.
    pub shard: ShardId,
    /// Connections.
    pub peers: Arc<Peers>,
    /// Octets of append requests to one replica that may wait for their answers.
    pub window_bytes: usize,
    /// The own replica's log.
    pub log: Arc<Log>,
    /// Reads the chunks that go with a snapshot.
    pub chunks: Arc<dyn ChunkReader>,
}

/// Talks to one replica.
pub struct Network {
    shard: ShardId,
    target: ReplicaId,
    peers: Arc<Peers>,
    window_bytes: usize,
    log: Arc<Log>,
    heartbeat: bool,
    chunks: Arc<dyn ChunkReader>,
}

impl Factory {
    fn network(&self, target: ReplicaId, heartbeat: bool) -> Network {
        Network {
            shard: self.shard,
            target,
            peers: Arc::clone(&self.peers),
            window_bytes: self.window_bytes,
            log: Arc::clone(&self.log),
            heartbeat,
            chunks: Arc::clone(&self.chunks),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: ReplicaId, _: &EmptyNode) -> Network {
        self.network(target, false)
    }

    async fn new_heartbeat_client(&mut self, target: ReplicaId, _: &EmptyNode) -> Network {
        self.network(target, true)
    }
}

/// What an append request says beside its entries.
#[derive(Debug, Serialize, Deserialize)]
pub struct AppendHead {
    /// The leader's vote.
    pub vote: Vote,
    /// The entry before the first.
    pub prev: Option<LogId>,
    /// How far the leader has committed.
    pub commit: Option<LogId>,
    /// Log ids of the entries.
    pub ids: Vec<LogId>,
}

fn encode(value: &impl Serialize) -> Bytes {
    postcard::to_stdvec(value)
        .expect("messages between nodes always encode")
        .into()
}

/// Encodes an append request.
pub fn encode_append(
    shard: ShardId,
    to: ReplicaId,
    request: AppendEntriesRequest<TypeConfig>,
) -> ReplicateRequest {
    let head = AppendHead {
        vote: request.vote,
        prev: request.prev_log_id,
        commit: request.leader_commit,
        ids: request.entries.iter().map(|e| e.log_id()).collect(),
    };
    let join = |parts: Vec<Bytes>| match <[Bytes; 1]>::try_from(parts) {
        Ok([one]) => one,
        Err(parts) => parts.concat().into(),
    };
    ReplicateRequest {
        shard: shard.0,
        to_replica: to.0,
        head: encode(&head),
        entries: request
            .entries
            .iter()
            .map(|e| join(encode_payload(e)))
            .collect(),
        synced: Bytes::new(),
    }
}

/// Decodes an append request.
pub fn decode_append(
    request: ReplicateRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Undecodable> {
    let head: AppendHead =
        postcard::from_bytes(&request.head).map_err(|e| Undecodable(e.to_string()))?;
    if head.ids.len() != request.entries.len() {
        return Err(Undecodable("log ids and entries differ in number".into()));
    }
    let entries = head
        .ids
        .into_iter()
        .zip(request.entries)
        .map(|(id, payload)| decode_payload(id, payload))
        .collect::<Result<Vec<_>, _>>()?;
    let first = head.prev.map_or(0, |p| p.index().saturating_add(1));
    for (expected, entry) in (first..).zip(&entries) {
        if entry.log_id().index() != expected {
            return Err(Undecodable("entries with a hole".into()));
        }
    }
    Ok(AppendEntriesRequest {
        vote: head.vote,
        prev_log_id: head.prev,
        leader_commit: head.commit,
        entries,
    })
}

fn rpc(e: PeerError) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&e))
}

fn broken(e: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string(e))
}

impl Network {
    async fn control<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: ControlKind,
        request: &Q,
        timeout: Duration,
    ) -> Result<A, RPCError<TypeConfig>> {
        let peer = self.peers.get(self.target.node()).map_err(rpc)?;
        let payload = encode(request);
        let answer = peer
            .control
            .call(self.shard, self.target, kind, payload, timeout)
            .await
            .map_err(rpc)?;
        postcard::from_bytes(&answer).map_err(broken)
    }

    /// A heartbeat: one request on the control stream.
    async fn beat<S>(
        &self,
        mut input: S,
        timeout: Duration,
    ) -> Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
    {
        let request = input
            .next()
            .await
            .ok_or_else(|| broken("a heartbeat without a request"))?;
        let prev = request.prev_log_id;
        let answer: AppendEntriesResponse<TypeConfig> = self
            .control(ControlKind::Heartbeat, &request, timeout)
            .await?;
        match (&answer, prev) {
            (AppendEntriesResponse::Conflict, None) => Err(broken("a conflict with nothing")),
            _ => Ok(answer.into_stream_result(prev, prev)),
        }
    }
}

impl NetBackoff<TypeConfig> for Network {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetVote<TypeConfig> for Network {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer: VoteResponse<TypeConfig> = self
            .control(ControlKind::Vote, &rpc, option.soft_ttl())
            .await?;
        if answer.vote_granted {
            self.promised(leader_of(&rpc.vote), None);
        }
        Ok(answer)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.control(ControlKind::PreVote, &rpc, option.soft_ttl())
            .await
    }
}

impl NetTransferLeader<TypeConfig> for Network {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.control(ControlKind::TransferLeader, &req, option.soft_ttl())
            .await
    }
}

/// Requests without an answer: the room that each takes, and whose request it is.
type Waiting = Arc<Mutex<VecDeque<(Option<OwnedSemaphorePermit>, (u64, ReplicaId))>>>;

impl NetStreamAppend<TypeConfig> for Network {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            if self.heartbeat {
                let beat = self.beat(input, option.soft_ttl()).await;
                return Ok(futures::stream::once(async { beat }).boxed());
            }
            // openraft's pause after an error is inside this stream: the next request comes when it
            // is over. So the connection waits for the request; the other way round, a node that
            // is down would be tried again at once, as fast as this one can.
            let mut input = input.fuse();
            let first = input.next().await;
            let (input, tap) = tapped(futures::stream::iter(first).chain(input));
            let peer = self.peers.get(self.target.node()).map_err(rpc)?;
            let waiting = Waiting::default();
            let stuck = Arc::new(AtomicBool::new(false));
            let requests = self.requests(input, Arc::clone(&waiting), Arc::clone(&stuck));
            let mut client = peer.client.clone();
            let opening = tokio::time::timeout(APPEND_TIMEOUT, client.replicate(requests));
            // openraft cancels a stream that is open, and waits for one that opens: a node that
            // does not answer would hold up the stop of this one.
            let opened = tokio::select! {
                biased;
                opened = opening => opened,
                () = self.peers.stopped() => {
                    return Err(RPCError::Unreachable(Unreachable::from_string(
                        "this node is stopping",
                    )));
                }
            };
            let answers = match opened {
                Ok(Ok(answers)) => answers.into_inner(),
                Ok(Err(status)) => {
                    return Err(RPCError::Unreachable(Unreachable::from_string(
                        status.message(),
                    )));
                }
                Err(_) => {
                    rare::hit(Rare::AppendNotOpened);
                    return Err(broken("the append stream does not open"));
                }
            };
            Ok(self.responses(answers, waiting, stuck, tap).boxed())
        })
    }
}

impl Network {
    /// Encodes the requests, each as soon as the window has room for it. `stuck` becomes true with
    /// one that is empty because the entries that come next were purged from the own log, or cannot
    /// be read: openraft would repeat it for ever and takes every answer for progress. Nor would it
    /// ever purge the unreadable one, because all that follows the answer counts as being sent. Only
    /// an error makes it look again, and send a snapshot.
    fn requests<S>(
        &self,
        input: S,
        waiting: Waiting,
        stuck: Arc<AtomicBool>,
    ) -> impl Stream<Item = ReplicateRequest> + Send + use<S>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let (shard, to) = (self.shard, self.target);
        let log = Arc::clone(&self.log);
        // One for each stream: requests of a stream that broke off are let go of only when the
        // connection notices, and must not keep the next stream waiting.
        let window_bytes = self.window_bytes;
        let window = Arc::new(Semaphore::new(window_bytes));
        input.then(move |request| {
            let window = Arc::clone(&window);
            let waiting = Arc::clone(&waiting);
            let log = Arc::clone(&log);
            let next = request.prev_log_id.map_or(0, |prev| prev.index() + 1);
            if request.entries.is_empty() && log.withholds(next) {
                stuck.store(true, Ordering::Relaxed);
            }
            async move {
                let bytes: usize = request.entries.iter().map(payload_len).sum::<usize>() + 64;
                let room = bytes.min(window_bytes) as u32;
                let permit = window.acquire_many_owned(room).await.ok();
                let leader = leader_of(&request.vote);
                waiting.lock().push_back((permit, leader));
                let mut request = encode_append(shard, to, request);
                if let Some(synced) = log.marks().last {
                    request.synced = encode(&synced);
                }
                request
            }
        })
    }

    /// Takes note of what the target has made durable.
    fn promised(&self, leader: (u64, ReplicaId), last: Option<LogId>) {
        self.peers.promises.note(Promise {
            shard: self.shard,
            replica: self.target,
            leader,
            last,
        });
    }

    /// Decodes the answers; each frees the room of its request. With the answers ends what openraft
    /// wants to send by this stream: what it gives out next belongs to another one.
    fn responses(
        &self,
        answers: tonic::Streaming<ReplicateResponse>,
        waiting: Waiting,
        stuck: Arc<AtomicBool>,
        tap: Tap,
    ) -> impl Stream<Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> + Send + '_
    {
        let state = Some((answers, waiting, stuck, tap));
        futures::stream::unfold(state, move |state| async move {
            let (mut answers, waiting, stuck, tap) = state?;
            let answer = loop {
                let owed = !waiting.lock().is_empty();
                match tokio::time::timeout(APPEND_TIMEOUT, answers.next()).await {
                    Ok(answer) => break answer,
                    Err(_) if owed => {
                        rare::hit(Rare::AppendSilent);
                        return Some((Err(broken("an append was not answered in time")), None));
                    }
                    Err(_) => {}
                }
            };
            let whose = waiting.lock().pop_front().map(|(_, leader)| leader);
            match answer {
                None => None,
                Some(Err(status)) => Some((Err(broken(status.message())), None)),
                Some(Ok(r)) if !r.error.is_empty() => Some((Err(broken(r.error)), None)),
                Some(Ok(r)) => {
                    match postcard::from_bytes::<StreamAppendResult<TypeConfig>>(&r.payload) {
                        Ok(result) => {
                            if let (Ok(last @ Some(_)), Some(leader)) = (&result, whose) {
                                self.promised(leader, *last);
                            }
                            if result.is_ok() && stuck.load(Ordering::Relaxed) {
                                let why = "the entries that come next are purged or unreadable";
                                return Some((Err(broken(why)), None));
                            }
                            let open = (answers, waiting, stuck, tap);
                            let next = result.is_ok().then_some(open);
                            Some((Ok(result), next))
                        }
                        Err(e) => Some((Err(broken(e)), None)),
                    }
                }
            }
        })
    }
}

impl NetSnapshot<TypeConfig> for Network {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::storage::Snapshot<LeaderId, ReplicaId, EmptyNode, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let peer = self
            .peers
            .get(self.target.node())
            .map_err(|e| StreamingError::Unreachable(Unreachable::new(&e)))?;
        let SnapshotData::Outgoing { view, space } = snapshot.snapshot else {
            return Err(StreamingError::Network(NetworkError::from_string(
                "not a snapshot to send",
            )));
        };
        let last = snapshot.meta.last_log_id;
        let send = snapshot::send(
            peer.client.clone(),
            self.shard,
            self.target,
            vote,
            snapshot.meta,
            snapshot::Source {
                view,
                space,
                chunks: Arc::clone(&self.chunks),
            },
        );
        let sent = tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = send => sent.map_err(|e| StreamingError::Network(NetworkError::from_string(e))),
        };
        // As much as the answer to an append: openraft takes the target's log for equal to its own
        // up to here from now on, and the next entry may be long in coming.
        if let Ok(answer) = &sent
            && answer.vote == vote
        {
            self.promised(leader_of(&vote), last);
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::*;

    fn request(prev: Option<u64>, indexes: &[u64]) -> ReplicateRequest {
        let replica = ReplicaId(1);
        let entry = |i: &u64| Entry {
            log_id: log_id(1, replica, *i),
            payload: EntryPayload::Blank,
        };
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(1, replica),
            prev_log_id: prev.map(|i| log_id(1, replica, i)),
            entries: indexes.iter().map(entry).collect(),
            leader_commit: None,
        };
        encode_append(ShardId(1), replica, request)
    }

    #[test]
    fn entries_follow_the_one_before_them() {
        assert!(decode_append(request(None, &[0, 1])).is_ok());
        assert!(decode_append(request(Some(4), &[5, 6])).is_ok());
        assert!(decode_append(request(Some(4), &[])).is_ok());
        for (prev, indexes) in [
            (None, &[3, 4][..]),
            (Some(4), &[6]),
            (Some(4), &[5, 7]),
            (Some(4), &[4, 5]),
            (Some(u64::MAX), &[0]),
        ] {
            assert!(decode_append(request(prev, indexes)).is_err());
        }
    }
}

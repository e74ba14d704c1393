//! The answering side of the peer protocol.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use openraft::EmptyNode;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::control::ControlKind;
use super::network::decode_append;
use super::peers::{Identity, check_stamp};
use super::promises::{Promise, Promises, leader_of};
use super::proto::peer_server::Peer;
use super::proto::*;
use super::snapshot::{ChunkReader, Opening, Receiver};
use crate::index::keys::Space;
use crate::machine::command::{Command, Op};
use crate::machine::{local, transfers};
use crate::placement::PlacementMap;
use crate::raft::groups::Groups;
use crate::raft::state_machine::SnapshotData;
use crate::raft::types::*;
use crate::raft::{Shard, ShardError};
use crate::rare::{self, Rare};
use crate::types::*;
use crate::workers::space::SpaceState;

/// Why a proposal or a look was not answered: the node does not lead the shard.
pub(super) const NOT_LEADER: u32 = 1;
/// The shard's window is full.
pub(super) const BUSY: u32 = 2;
/// The disk is nearly full.
pub(super) const READ_ONLY: u32 = 3;

/// Control messages of one stream that are worked on at once.
const CONTROL_AT_ONCE: usize = 256;

/// Answers the peers of one node.
pub struct PeerService {
    /// Who this node is.
    pub identity: Identity,
    /// Its replicas.
    pub groups: Arc<Groups>,
    /// Its placement.
    pub placement: Arc<PlacementMap>,
    /// What others have promised to its replicas.
    pub promises: Arc<Promises>,
    /// Reads chunks for repair.
    pub chunks: Arc<dyn ChunkReader>,
    /// Its disk's state.
    pub disk: watch::Receiver<SpaceState>,
    /// Free and total bytes of its disk.
    pub disk_bytes: Arc<dyn Fn() -> (u64, u64) + Send + Sync>,
    /// Ends the streams.
    pub stop: CancellationToken,
}

fn encode(value: &impl Serialize) -> Bytes {
    postcard::to_stdvec(value)
        .expect("messages between nodes always encode")
        .into()
}

fn bad(e: impl ToString) -> Status {
    Status::invalid_argument(e.to_string())
}

/// Whether another node may propose this to a shard.
fn comes_from_peers(shard: ShardId, op: &Op) -> bool {
    match op {
        Op::System(_) => shard == ShardId::SYSTEM,
        Op::PutChunk { .. } | Op::DropUpload { .. } | Op::Arrive(_) | Op::ForgetArrivals { .. } => {
            shard != ShardId::SYSTEM
        }
        _ => false,
    }
}

impl PeerService {
    /// The local replica of a shard, whichever it is.
    fn holder(&self, shard: u32) -> Result<Arc<Shard>, Status> {
        let found = self.groups.shards().get(ShardId(shard));
        found.ok_or_else(|| Status::not_found("no replica of the shard here"))
    }

    /// Takes the message of a call that is meant for this node.
    fn admit<T>(&self, request: Request<T>) -> Result<T, Status> {
        check_stamp(&self.identity, request.metadata())?;
        Ok(request.into_inner())
    }

    /// Runs a stream's task until it or the node ends.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// The local replica of a shard, if it is the one that the sender means.
    fn replica(&self, shard: u32, replica: u64) -> Result<Arc<Shard>, Status> {
        let found = self.groups.shards().get(ShardId(shard));
        let found =
            found.ok_or_else(|| Status::not_found(format!("no replica of shard {shard} here")))?;
        match found.replica() == ReplicaId(replica) {
            true => Ok(found),
            false => {
                rare::hit(Rare::ReplicaNotHere);
                Err(Status::not_found(format!(
                    "replica {} of shard {shard} is not here, but {}",
                    ReplicaId(replica),
                    found.replica()
                )))
            }
        }
    }
}

async fn control(shard: Arc<Shard>, kind: u32, payload: Bytes) -> Result<Bytes, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let kind = ControlKind::of(kind).ok_or("unknown kind of control message")?;
    Ok(match kind {
        ControlKind::Vote => {
            let rpc: VoteRequest<TypeConfig> =
                postcard::from_bytes(&payload).map_err(|e| text(&e))?;
            encode(&shard.raft.vote(rpc).await.map_err(|e| text(&e))?)
        }
        ControlKind::PreVote => {
            let rpc: VoteRequest<TypeConfig> =
                postcard::from_bytes(&payload).map_err(|e| text(&e))?;
            encode(&shard.raft.pre_vote(rpc).await.map_err(|e| text(&e))?)
        }
        ControlKind::Heartbeat => {
            let rpc: AppendEntriesRequest<TypeConfig> =
                postcard::from_bytes(&payload).map_err(|e| text(&e))?;
            if !rpc.entries.is_empty() {
                return Err("a heartbeat carries no entries".into());
            }
            encode(&shard.raft.append_entries(rpc).await.map_err(|e| text(&e))?)
        }
        ControlKind::TransferLeader => {
            let rpc: TransferLeaderRequest<TypeConfig> =
                postcard::from_bytes(&payload).map_err(|e| text(&e))?;
            encode(
                &shard
                    .raft
                    .handle_transfer_leader(rpc)
                    .await
                    .map_err(|e| text(&e))?,
            )
        }
    })
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let (free, total) = (self.disk_bytes)();
        Ok(Response::new(HelloResponse {
            cluster_id: self.identity.cluster_id.to_vec().into(),
            node_id: self.identity.node.0,
            boot_id: self.identity.boot_id.to_vec().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            read_only: *self.disk.borrow() != SpaceState::Ok,
            disk_free_bytes: free,
            disk_total_bytes: total,
        }))
    }

    type ControlStream = BoxStream<'static, Result<ControlResponse, Status>>;

    async fn control(
        &self,
        request: Request<Streaming<ControlRequest>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let mut requests = self.admit(request)?;
        let (tx, rx) = mpsc::channel(CONTROL_AT_ONCE);
        let groups = Arc::clone(&self.groups);
        self.spawn(async move {
            let at_once = Arc::new(Semaphore::new(CONTROL_AT_ONCE));
            while let Some(Ok(request)) = requests.next().await {
                let Ok(permit) = Arc::clone(&at_once).acquire_owned().await else {
                    return;
                };
                let shard = groups.shards().get(ShardId(request.shard));
                let shard = shard.filter(|s| s.replica() == ReplicaId(request.to_replica));
                let tx = tx.clone();
                tokio::spawn(async move {
                    let result = match shard {
                        Some(shard) => control(shard, request.kind, request.payload).await,
                        None => {
                            rare::hit(Rare::ReplicaNotHere);
                            Err("the replica is not here".to_owned())
                        }
                    };
                    let (payload, error) = match result {
                        Ok(payload) => (payload, String::new()),
                        Err(error) => (Bytes::new(), error),
                    };
                    let _ = tx
                        .send(Ok(ControlResponse {
                            seq: request.seq,
                            payload,
                            error,
                        }))
                        .await;
                    drop(permit);
                });
            }
        });
        Ok(Response::new(ReceiverStream::new(rx).boxed()))
    }

    type ReplicateStream = BoxStream<'static, Result<ReplicateResponse, Status>>;

    async fn replicate(
        &self,
        request: Request<Streaming<ReplicateRequest>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let mut requests = self.admit(request)?;
        // The answer's header must not wait for the first request: the sender opens the stream
        // before it has anything to send.
        let groups = Arc::clone(&self.groups);
        let disk = self.disk.clone();
        let promises = Arc::clone(&self.promises);
        let (tx, rx) = mpsc::channel::<Result<ReplicateResponse, Status>>(16);
        self.spawn(async move {
            let Some(Ok(first)) = requests.next().await else {
                return;
            };
            let found = groups.shards().get(ShardId(first.shard));
            let Some(shard) = found.filter(|s| s.replica() == ReplicaId(first.to_replica)) else {
                rare::hit(Rare::ReplicaNotHere);
                let _ = tx
                    .send(Err(Status::not_found("the replica is not here")))
                    .await;
                return;
            };
            let whose = (first.shard, first.to_replica);
            let entries = futures::stream::once(async { Ok(first) }).chain(requests);
            let errors = tx.clone();
            let decoded = entries.scan((), move |(), item| {
                let full = *disk.borrow() == SpaceState::Full;
                let errors = errors.clone();
                let promises = Arc::clone(&promises);
                async move {
                    let result = match item {
                        Ok(r) if full && !r.entries.is_empty() => {
                            rare::hit(Rare::AppendRefused);
                            Err(Status::resource_exhausted(
                                "the disk of the replica is full",
                            ))
                        }
                        Ok(r) if (r.shard, r.to_replica) != whose => {
                            Err(bad("a stream is for one replica"))
                        }
                        Ok(r) => {
                            let synced = postcard::from_bytes::<LogId>(&r.synced).ok();
                            let decoded = decode_append(r);
                            if let Ok(request) = &decoded {
                                let leader = leader_of(&request.vote);
                                promises.note(Promise {
                                    shard: ShardId(whose.0),
                                    replica: leader.1,
                                    leader,
                                    last: synced,
                                });
                            }
                            decoded.map_err(bad)
                        }
                        Err(status) => Err(status),
                    };
                    match result {
                        Ok(request) => Some(request),
                        Err(status) => {
                            let _ = errors.send(Err(status)).await;
                            None
                        }
                    }
                }
            });
            let mut results = Box::pin(shard.raft.stream_append(decoded));
            while let Some(result) = results.next().await {
                let answer = match result {
                    Ok(result) => Ok(ReplicateResponse {
                        payload: encode(&result),
                        error: String::new(),
                    }),
                    Err(fatal) => Err(Status::unavailable(fatal.to_string())),
                };
                if tx.send(answer).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(rx).boxed()))
    }

    type SnapshotStream = BoxStream<'static, Result<SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotRequest>>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let mut requests = self.admit(request)?;
        let first = requests.message().await?.ok_or_else(|| bad("no opening"))?;
        let shard = self.replica(first.shard, first.to_replica)?;
        let opening: Opening = postcard::from_bytes(&first.meta).map_err(bad)?;
        if *self.disk.borrow() == SpaceState::Full {
            return Err(Status::resource_exhausted(
                "the disk of the replica is full",
            ));
        }
        let groups = Arc::clone(&self.groups);
        let (tx, rx) = mpsc::channel(4);
        self.spawn(async move {
            let answer = match receive(&groups, &shard, opening, &mut requests, &tx).await {
                Ok(payload) => SnapshotResponse {
                    payload,
                    ..Default::default()
                },
                Err(e) => SnapshotResponse {
                    error: e,
                    ..Default::default()
                },
            };
            let _ = tx.send(Ok(answer)).await;
        });
        Ok(Response::new(ReceiverStream::new(rx).boxed()))
    }

    async fn fetch_chunk(
        &self,
        request: Request<FetchChunkRequest>,
    ) -> Result<Response<FetchChunkResponse>, Status> {
        let r = self.admit(request)?;
        let shard = self.groups.shards().get(ShardId(r.shard));
        let shard = shard.ok_or_else(|| Status::not_found("no replica of the shard here"))?;
        let id: [u8; 32] = r
            .blob_id
            .as_ref()
            .try_into()
            .map_err(|_| bad("not the id of a blob"))?;
        let rows = shard
            .local_view()
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let at = local::Chunk::Blob(BlobId(id), r.seq);
        let loc = local::loc(&*rows.view, rows.space, at)
            .map_err(|e| Status::internal(e.to_string()))?
            .ok_or_else(|| Status::not_found("the chunk is not here"))?;
        let stored = self.chunks.stored(shard.id(), at, loc).await;
        let stored = stored.ok_or_else(|| {
            rare::hit(Rare::DamagedForPeer);
            Status::data_loss("the chunk is damaged here too")
        })?;
        Ok(Response::new(FetchChunkResponse {
            stored,
            codec: loc.codec as u32,
            raw_len: loc.raw_len,
            crc: loc.crc,
        }))
    }

    async fn replica_status(
        &self,
        request: Request<ReplicaStatusRequest>,
    ) -> Result<Response<ReplicaStatusResponse>, Status> {
        let shard = self.admit(request)?.shard;
        let shard = self.groups.shards().get(ShardId(shard));
        Ok(Response::new(match shard {
            None => ReplicaStatusResponse::default(),
            Some(shard) => ReplicaStatusResponse {
                present: true,
                replica_id: shard.replica().0,
                applied: shard.replicated.applied.borrow().map_or(0, |l| l.index()),
                last_log: shard.log.last().map_or(0, |l| l.index()),
                persisted: shard.replicated.persisted.borrow().map_or(0, |l| l.index()),
                leader: shard.is_leader(),
            },
        }))
    }

    async fn propose(
        &self,
        request: Request<ProposeRequest>,
    ) -> Result<Response<ProposeResponse>, Status> {
        let r = self.admit(request)?;
        let shard = self.holder(r.shard)?;
        let command: Command = postcard::from_bytes(&r.command).map_err(bad)?;
        if !comes_from_peers(shard.id(), &command.op) {
            return Err(bad("peers do not propose this to this shard"));
        }
        if r.stored.len() != command.op.stored_len() {
            return Err(bad("not the octets that travel with the command"));
        }
        let refused = match shard.propose(command, r.stored).await {
            Ok(reply) => {
                return Ok(Response::new(ProposeResponse {
                    reply: encode(&reply),
                    ..Default::default()
                }));
            }
            Err(ShardError::NotLeader { leader }) => ProposeResponse {
                error: NOT_LEADER,
                leader_node: leader.map_or(0, |n| n.0),
                message: "not the leader".into(),
                ..Default::default()
            },
            Err(ShardError::Busy { retry_after_ms }) => ProposeResponse {
                error: BUSY,
                retry_after_ms,
                ..Default::default()
            },
            Err(ShardError::ReadOnly) => ProposeResponse {
                error: READ_ONLY,
                ..Default::default()
            },
            Err(e) => return Err(Status::unavailable(e.to_string())),
        };
        Ok(Response::new(refused))
    }

    async fn look(&self, request: Request<LookRequest>) -> Result<Response<LookResponse>, Status> {
        let r = self.admit(request)?;
        let shard = self.holder(r.shard)?;
        let look = postcard::from_bytes(&r.look).map_err(bad)?;
        let rows = match shard.read().await {
            Ok(rows) => rows,
            Err(ShardError::NotLeader { leader }) => {
                return Ok(Response::new(LookResponse {
                    error: NOT_LEADER,
                    leader_node: leader.map_or(0, |n| n.0),
                    ..Default::default()
                }));
            }
            Err(e) => return Err(Status::unavailable(e.to_string())),
        };
        let looked = transfers::look(&*rows.view, rows.space, &look);
        let looked = looked.map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(LookResponse {
            looked: encode(&looked),
            ..Default::default()
        }))
    }

    async fn remember(
        &self,
        request: Request<RememberRequest>,
    ) -> Result<Response<RememberResponse>, Status> {
        let node = NodeId(self.admit(request)?.node_id);
        Ok(Response::new(RememberResponse {
            promises: encode(&self.promises.of(node)),
        }))
    }

    async fn get_system(
        &self,
        request: Request<GetSystemRequest>,
    ) -> Result<Response<GetSystemResponse>, Status> {
        if self.admit(request)?.cluster_id != self.identity.cluster_id.as_slice() {
            return Err(Status::permission_denied(
                "this node belongs to another cluster",
            ));
        }
        let state = self.placement.with(encode);
        let system = self.groups.shards().get(ShardId::SYSTEM);
        let leader = system.and_then(|s| s.leader()).map_or(0, |n| n.0);
        Ok(Response::new(GetSystemResponse {
            state,
            leader_node: leader,
        }))
    }
}

async fn receive(
    groups: &Groups,
    shard: &Arc<Shard>,
    opening: Opening,
    requests: &mut Streaming<SnapshotRequest>,
    answers: &mpsc::Sender<Result<SnapshotResponse, Status>>,
) -> Result<Bytes, String> {
    let Some(_receiving) = groups.try_receive(shard.id()) else {
        rare::hit(Rare::SnapshotRefused);
        return Err("a snapshot of this shard is on its way already".into());
    };
    let space: Space = groups.new_space().await.map_err(|e| e.to_string())?;
    let receiver = Receiver {
        shard: shard.id(),
        replica: shard.replica(),
        index: Arc::clone(groups.index()),
        journal: Arc::clone(groups.journal()),
        space,
    };
    if let Err(e) = receiver.receive(requests, answers).await {
        rare::hit(Rare::SnapshotBrokeOff);
        let _ = groups.drop_space(space);
        return Err(e.to_string());
    }
    let (vote, last) = (opening.vote, opening.meta.last_log_id);
    let snapshot = openraft::storage::Snapshot::<LeaderId, ReplicaId, EmptyNode, SnapshotData> {
        meta: opening.meta,
        snapshot: SnapshotData::Received { space },
    };
    let installed = shard.raft.install_full_snapshot(vote, snapshot).await;
    // A group that ends may still be installing: the next start removes what nothing points to.
    let answer = installed.map_err(|e| e.to_string())?;
    // Whether it was taken or refused as stale: a space that nothing points to is removed.
    let taken = groups
        .drop_unused_space(shard.id(), space)
        .map_err(|e| e.to_string())?;
    // The answer says that all up to there is durable here. openraft refuses a snapshot as stale, and
    // answers at once, as soon as it knows that its entries are committed: they may still be on their
    // way to the disk. To a leader that is none any more the answer says nothing of entries, and they
    // may never come without the snapshot of the next one, which would find this one on its way.
    if let (false, true, Some(last)) = (taken, answer.vote == vote, last) {
        let flushed = shard.log.wait_flushed(last.index());
        flushed.await.map_err(|e| e.to_string())?;
    }
    Ok(encode(&answer))
}

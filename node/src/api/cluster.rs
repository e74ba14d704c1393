//! The service Cluster: placement for clients, status and changes for operators.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use posthouse_client::error::to_status;
use posthouse_client::proto;
use proto::cluster_server::Cluster;
use proto::{ErrorDetail, ErrorKind};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Request, Response, Status, async_trait};

use super::call::means_another;
use crate::blobs::DamageLog;
use crate::env::Env;
use crate::identity::uuid_text;
use crate::index::values::ShardRow;
use crate::machine::command::{ApplyError, NodeInfo, Reply, SystemOp};
use crate::machine::hash;
use crate::mailbox::Operations;
use crate::placement::{PlacementMap, plan};
use crate::raft::Shard;
use crate::raft::groups::Groups;
use crate::transport::peers::Peers;
use crate::transport::peers::hello_request;
use crate::types::*;
use crate::workers::Workers;
use crate::workers::leaders;
use crate::workers::persist::Persist;
use crate::workers::placement::Placer;
use crate::workers::scrub::Scrub;
use crate::workers::space::SpaceState;

/// How long other nodes have to say how they are.
const ASK: Duration = Duration::from_millis(1500);
/// How long a join token works unless the operator says otherwise.
const TOKEN_MS: u64 = 3600 * 1000;

/// What the service needs of a node that is a member of a cluster.
pub struct Running {
    /// The world.
    pub env: Env,
    /// This node.
    pub node: NodeId,
    /// Its replicas.
    pub groups: Arc<Groups>,
    /// Its placement.
    pub placement: Arc<PlacementMap>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// Proposes changes of the system shard.
    pub placer: Arc<Placer>,
    /// What it does for clients.
    pub ops: Arc<Operations>,
    /// Flushes the index.
    pub persist: Arc<Persist>,
    /// Verifies what is stored.
    pub scrub: Arc<Scrub>,
    /// The node's workers.
    pub workers: Workers,
    /// Damage found.
    pub damage: Arc<DamageLog>,
    /// The disk.
    pub disk: tokio::sync::watch::Receiver<SpaceState>,
    /// Free and total bytes of the disk.
    pub disk_bytes: Arc<dyn Fn() -> (u64, u64) + Send + Sync>,
    /// When the process started, and how long until it served.
    pub started: Instant,
    /// How long the last start took, ms, and how many records it replayed.
    pub startup: (u64, u64),
}

/// A request to form a cluster.
pub struct InitCall {
    /// What was asked.
    pub request: proto::InitRequest,
    /// Takes the cluster's id.
    pub answer: tokio::sync::oneshot::Sender<String>,
}

/// The service; before the node is a member of a cluster it only knows `Init`.
#[derive(Clone)]
pub struct ClusterService {
    running: Arc<OnceLock<Arc<Running>>>,
    init: Option<mpsc::Sender<InitCall>>,
}

fn error(kind: ErrorKind, message: impl Into<String>) -> Status {
    to_status(ErrorDetail {
        kind: kind as i32,
        message: message.into(),
        ..Default::default()
    })
}

fn unavailable(e: impl std::fmt::Display) -> Status {
    error(ErrorKind::Unavailable, e.to_string())
}

impl ClusterService {
    /// Of a node that waits to be told to form a cluster.
    pub fn waiting(init: mpsc::Sender<InitCall>) -> ClusterService {
        ClusterService {
            running: Arc::default(),
            init: Some(init),
        }
    }

    /// Of a member.
    pub fn new(running: Arc<Running>) -> ClusterService {
        let cell = OnceLock::new();
        let _ = cell.set(running);
        ClusterService {
            running: Arc::new(cell),
            init: None,
        }
    }

    fn running(&self) -> Result<&Arc<Running>, Status> {
        self.running.get().ok_or_else(|| {
            error(
                ErrorKind::NotInitialized,
                "this node is not a member of a cluster yet; run `posthouse cluster init`, or start it with --join",
            )
        })
    }

    /// The node, if it is a member of the cluster that the caller means. A client that knows its
    /// cluster must not take the placement of a stranger at a known address for a newer one, nor an
    /// operator get a token from there.
    fn member<T>(&self, request: &Request<T>) -> Result<&Arc<Running>, Status> {
        let running = self.running()?;
        let ours = uuid_text(&running.peers.identity.cluster_id);
        match means_another(request.metadata(), &ours) {
            true => Err(error(
                ErrorKind::WrongCluster,
                format!("this node belongs to cluster {ours}"),
            )),
            false => Ok(running),
        }
    }
}

fn not_found(what: &str, message: String) -> Status {
    to_status(ErrorDetail {
        kind: ErrorKind::NotFound as i32,
        message,
        what: what.into(),
        ..Default::default()
    })
}

fn slots(row: &ShardRow) -> Vec<proto::SlotRange> {
    let range = |(a, b): &(Slot, Slot)| proto::SlotRange {
        first: a.0 as u32,
        last: b.0 as u32,
    };
    row.slots.iter().map(range).collect()
}

impl Running {
    fn leader_of(&self, shard: ShardId) -> u64 {
        let leader = self.groups.shards().get(shard).and_then(|s| s.leader());
        leader.map_or(0, |n| n.0 as u64)
    }

    fn own_health(&self, node: &mut proto::Node) {
        let (free, total) = (self.disk_bytes)();
        node.reachable = true;
        node.version = env!("CARGO_PKG_VERSION").into();
        node.read_only = *self.disk.borrow() != SpaceState::Ok;
        node.disk_free_bytes = free;
        node.disk_total_bytes = total;
    }

    /// All nodes, each asked how it is.
    async fn nodes(&self) -> Vec<proto::Node> {
        let infos: Vec<NodeInfo> = self.placement.with(|s| s.nodes.values().cloned().collect());
        let asked = infos.into_iter().map(|info| async move {
            let mut node = proto::Node {
                node_id: info.id.0 as u64,
                addr: info.addr,
                zone: info.zone,
                state: "active".into(),
                lmtp_addr: info.lmtp_addr,
                ..Default::default()
            };
            if info.id == self.node {
                self.own_health(&mut node);
            } else if let Ok(mut peer) = self.peers.get(info.id) {
                let hello = peer.client.hello(hello_request(&self.peers.identity));
                if let Ok(Ok(answer)) = tokio::time::timeout(ASK, hello).await {
                    let answer = answer.into_inner();
                    node.reachable = answer.node_id == info.id.0;
                    node.version = answer.version;
                    node.read_only = answer.read_only;
                    node.disk_free_bytes = answer.disk_free_bytes;
                    node.disk_total_bytes = answer.disk_total_bytes;
                }
            }
            node
        });
        futures::future::join_all(asked).await
    }

    fn local_shard(&self, shard: &Shard) -> proto::Shard {
        let metrics = shard.raft.metrics();
        let m = metrics.borrow_watched();
        let last = m.last_log_index.unwrap_or(0);
        let membership = m.membership_config.membership();
        let voters: Vec<ReplicaId> = membership.voter_ids().collect();
        let replicas = membership
            .nodes()
            .map(|(id, _)| {
                let matched = m
                    .replication
                    .as_ref()
                    .and_then(|r| r.get(id))
                    .and_then(|l| *l);
                let matched = match *id == shard.replica() {
                    true => shard.log.flushed().saturating_sub(1),
                    false => matched.map_or(0, |l| l.index()),
                };
                let leads = m.current_leader == Some(*id);
                let role = if leads {
                    "leader"
                } else if voters.contains(id) {
                    "voter"
                } else {
                    "learner"
                };
                proto::Replica {
                    node_id: id.node().0 as u64,
                    replica_id: id.0,
                    role: role.into(),
                    matched,
                    lag: last.saturating_sub(matched),
                }
            })
            .collect();
        let index = |l: Option<crate::raft::types::LogId>| l.map_or(0, |l| l.index());
        proto::Shard {
            shard: shard.id().0,
            leader_node: m.current_leader.map_or(0, |l| l.node().0 as u64),
            term: m.current_term,
            last_log: last,
            committed: index(m.local_committed),
            applied: index(*shard.replicated.applied.borrow()),
            persisted: index(*shard.replicated.persisted.borrow()),
            purged: index(m.purged),
            replicas,
            slots: self
                .placement
                .with(|s| s.shards.get(&shard.id()).map(slots).unwrap_or_default()),
        }
    }

    /// Each shard as its leader sees it, or as whoever answers does.
    async fn shards(&self, local: bool) -> Vec<proto::Shard> {
        let mut shards: Vec<proto::Shard> = self
            .groups
            .shards()
            .all()
            .iter()
            .map(|s| self.local_shard(s))
            .collect();
        if local {
            return shards;
        }
        let leaders: std::collections::BTreeSet<u64> = shards
            .iter()
            .map(|s| s.leader_node)
            .filter(|n| *n != 0 && *n != self.node.0 as u64)
            .collect();
        let asked = leaders.into_iter().map(|node| async move {
            let peer = self.peers.get(NodeId(node as u32)).ok()?;
            let channel = peer.channel.clone();
            let mut client = proto::cluster_client::ClusterClient::new(channel);
            let ask = client.list_shards(proto::ListShardsRequest { local: true });
            let answer = tokio::time::timeout(ASK, ask).await.ok()?.ok()?;
            // Only a leader knows how far the others are.
            let led = answer
                .into_inner()
                .shards
                .into_iter()
                .filter(move |s| s.leader_node == node);
            Some(led.collect::<Vec<_>>())
        });
        for seen in futures::future::join_all(asked)
            .await
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Some(ours) = shards.iter_mut().find(|s| s.shard == seen.shard) {
                if seen
                    .replicas
                    .iter()
                    .any(|r| r.role == "leader" && r.node_id == seen.leader_node)
                    && seen.term >= ours.term
                    && ours.leader_node == seen.leader_node
                {
                    *ours = seen;
                }
            } else {
                shards.push(seen);
            }
        }
        shards.sort_by_key(|s| s.shard);
        shards
    }

    fn journal_stats(&self) -> proto::JournalStats {
        let s = self.groups.journal().stats();
        proto::JournalStats {
            segments: s.segments,
            bytes_written: s.bytes_written,
            syncs: s.syncs,
            batches: s.batches,
            records: s.records,
            body_bytes: s.payload_bytes,
            total_bytes: s.total_bytes,
            live_bytes: crate::blobs::live_bytes(&**self.groups.index()),
            startup_ms: self.startup.0,
            startup_records: self.startup.1,
            index_bytes_written: self.groups.index().bytes_written(),
        }
    }

    async fn status(&self) -> proto::GetStatusResponse {
        let nodes = self.nodes().await;
        let shards = self.shards(false).await;
        let state = self.placement.state();
        let mut problems = Vec::new();
        for node in &nodes {
            if !node.reachable {
                problems.push(format!(
                    "node {} at {} does not answer",
                    node.node_id, node.addr
                ));
            }
            if node.read_only {
                problems.push(format!(
                    "node {} takes no new mail: its disk is nearly full",
                    node.node_id
                ));
            }
        }
        for (id, row) in &state.shards {
            let want = plan::wanted(&state, *id);
            let Some(seen) = shards.iter().find(|s| s.shard == id.0) else {
                problems.push(format!("shard {id} is not known here"));
                continue;
            };
            if seen.leader_node == 0 {
                problems.push(format!("shard {id} has no leader"));
                continue;
            }
            let voters = seen.replicas.iter().filter(|r| r.role != "learner").count();
            let wanted = row.replicas.iter().filter(|r| r.voter).count();
            let members: Vec<u64> = seen.replicas.iter().map(|r| r.replica_id).collect();
            let all = row.replicas.iter().all(|r| members.contains(&r.id.0));
            if row.replicas.len() < want || voters < wanted || !all {
                problems.push(format!(
                    "shard {id} has {} of {want} replicas",
                    voters.min(row.replicas.len())
                ));
            } else if let Some(behind) = seen
                .replicas
                .iter()
                .filter(|r| r.lag > 1024)
                .max_by_key(|r| r.lag)
            {
                problems.push(format!(
                    "shard {id}: node {} is {} entries behind",
                    behind.node_id, behind.lag
                ));
            }
            if !row.damaged.is_empty() {
                problems.push(format!(
                    "shard {id}: {} damaged replicas are being rebuilt",
                    row.damaged.len()
                ));
            }
        }
        if nodes.is_empty() {
            problems.push("the placement is not known yet".into());
        }
        proto::GetStatusResponse {
            cluster_id: uuid_text(&self.peers.identity.cluster_id),
            placement_version: state.version,
            node_id: self.node.0 as u64,
            version: env!("CARGO_PKG_VERSION").into(),
            nodes: nodes.len() as u32,
            nodes_reachable: nodes.iter().filter(|n| n.reachable).count() as u32,
            shards: state.shards.len() as u32,
            shards_with_leader: shards.iter().filter(|s| s.leader_node != 0).count() as u32,
            healthy: problems.is_empty(),
            problems,
            journal: Some(self.journal_stats()),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            damage: self.damage.list(),
        }
    }

    async fn system(&self, op: SystemOp) -> Result<Reply, Status> {
        match self.placer.propose(op).await {
            Ok(Reply::Error(e @ ApplyError::BadToken)) => Err(error(
                ErrorKind::Refused,
                format!("{e}; make a new one with `posthouse cluster token`"),
            )),
            Ok(Reply::Error(e)) => Err(error(ErrorKind::Refused, e.to_string())),
            Ok(reply) => Ok(reply),
            Err(e) => Err(unavailable(e)),
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl Cluster for ClusterService {
    async fn get_placement(
        &self,
        request: Request<proto::GetPlacementRequest>,
    ) -> Answer<proto::GetPlacementResponse> {
        let r = self.member(&request)?;
        let state = r.placement.state();
        let node = |n: &NodeInfo| proto::Node {
            node_id: n.id.0 as u64,
            addr: n.addr.clone(),
            zone: n.zone.clone(),
            state: "active".into(),
            lmtp_addr: n.lmtp_addr.clone(),
            ..Default::default()
        };
        let shard = |(id, row): (&ShardId, &ShardRow)| proto::ShardPlacement {
            shard: id.0,
            nodes: row.replicas.iter().map(|r| r.id.node().0 as u64).collect(),
            slots: slots(row),
            leader_hint: r.leader_of(*id),
        };
        Ok(Response::new(proto::GetPlacementResponse {
            cluster_id: uuid_text(&r.peers.identity.cluster_id),
            version: state.version,
            nodes: state.nodes.values().map(node).collect(),
            shards: state.shards.iter().map(shard).collect(),
        }))
    }

    async fn get_status(
        &self,
        request: Request<proto::GetStatusRequest>,
    ) -> Answer<proto::GetStatusResponse> {
        let r = self.member(&request)?;
        Ok(Response::new(r.status().await))
    }

    async fn list_nodes(
        &self,
        request: Request<proto::ListNodesRequest>,
    ) -> Answer<proto::ListNodesResponse> {
        let r = self.member(&request)?;
        let nodes = r.nodes().await;
        Ok(Response::new(proto::ListNodesResponse {
            nodes,
            placement_version: r.placement.version(),
        }))
    }

    async fn list_shards(
        &self,
        request: Request<proto::ListShardsRequest>,
    ) -> Answer<proto::ListShardsResponse> {
        let r = self.member(&request)?;
        let shards = r.shards(request.into_inner().local).await;
        Ok(Response::new(proto::ListShardsResponse { shards }))
    }

    async fn list_workers(
        &self,
        request: Request<proto::ListWorkersRequest>,
    ) -> Answer<proto::ListWorkersResponse> {
        let r = self.member(&request)?;
        let workers = r
            .workers
            .list()
            .into_iter()
            .map(|(name, i)| proto::Worker {
                name: name.into(),
                state: i.state.as_str().into(),
                detail: i.detail,
                runs: i.runs,
                last_run_ms: i.last_run_ms,
                last_error: i.last_error,
            })
            .collect();
        Ok(Response::new(proto::ListWorkersResponse { workers }))
    }

    async fn init(&self, request: Request<proto::InitRequest>) -> Answer<proto::InitResponse> {
        let Some(init) = &self.init else {
            return Err(error(
                ErrorKind::Refused,
                "this node is a member of a cluster already",
            ));
        };
        let request = request.into_inner();
        let bad = |field: &str, message: &str| {
            Err(to_status(ErrorDetail {
                kind: ErrorKind::BadRequest as i32,
                field: field.into(),
                message: message.into(),
                ..Default::default()
            }))
        };
        if request.shards > 4096 {
            return bad("shards", "1 to 4096, or 0 for the default");
        }
        if request.replication > 9 {
            return bad("replication", "1 to 9, or 0 for the default");
        }
        let (answer, formed) = tokio::sync::oneshot::channel();
        let stopping = |_| unavailable("the node is stopping or was told already");
        init.try_send(InitCall { request, answer })
            .map_err(|e| stopping(e.to_string()))?;
        let cluster_id = formed.await.map_err(|e| stopping(e.to_string()))?;
        Ok(Response::new(proto::InitResponse { cluster_id }))
    }

    async fn create_join_token(
        &self,
        request: Request<proto::CreateJoinTokenRequest>,
    ) -> Answer<proto::CreateJoinTokenResponse> {
        let r = self.member(&request)?;
        let ttl_ms = match request.into_inner().ttl_ms {
            0 => TOKEN_MS,
            ttl_ms => ttl_ms.min(30 * 24 * 3600 * 1000),
        };
        let mut secret = [0; 32];
        r.env.rng.fill(&mut secret);
        let token: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        let expires_ms = r.env.clock.now_ms() + ttl_ms;
        let hash = *blake3::hash(token.as_bytes()).as_bytes();
        r.system(SystemOp::AddToken { hash, expires_ms }).await?;
        Ok(Response::new(proto::CreateJoinTokenResponse {
            token,
            expires_ms,
        }))
    }

    async fn join(&self, request: Request<proto::JoinRequest>) -> Answer<proto::JoinResponse> {
        let r = self.member(&request)?;
        let request = request.into_inner();
        let join_id: [u8; 16] = request.join_id.as_ref().try_into().map_err(|_| {
            to_status(ErrorDetail {
                kind: ErrorKind::BadRequest as i32,
                field: "join_id".into(),
                message: "16 octets".into(),
                ..Default::default()
            })
        })?;
        let token_hash = *blake3::hash(request.token.trim().as_bytes()).as_bytes();
        let node = NodeInfo {
            id: NodeId(0),
            addr: request.addr,
            lmtp_addr: request.lmtp_addr,
            zone: request.zone,
        };
        let reply = r
            .system(SystemOp::JoinNode {
                token_hash,
                join_id,
                node,
            })
            .await?;
        let Reply::Joined { node } = reply else {
            return Err(unavailable("an answer of another kind"));
        };
        let nodes = r
            .placement
            .addrs()
            .into_iter()
            .filter(|(id, _)| *id != node)
            .map(|(id, addr)| proto::Node {
                node_id: id.0 as u64,
                addr,
                ..Default::default()
            })
            .collect();
        Ok(Response::new(proto::JoinResponse {
            cluster_id: uuid_text(&r.peers.identity.cluster_id),
            node_id: node.0 as u64,
            nodes,
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferLeaderRequest>,
    ) -> Answer<proto::TransferLeaderResponse> {
        let r = self.member(&request)?;
        let request = request.into_inner();
        let id = ShardId(request.shard);
        let shard = r.groups.shards().get(id);
        let shard = shard
            .ok_or_else(|| not_found("shard", format!("this node has no replica of shard {id}")))?;
        if !shard.is_leader() {
            let leader = r.leader_of(id);
            let addr = r.placement.addrs().get(&NodeId(leader as u32)).cloned();
            return Err(to_status(ErrorDetail {
                kind: ErrorKind::WrongLeader as i32,
                message: format!("this node does not lead shard {id}"),
                leader_node: leader,
                leader_addr: addr.unwrap_or_default(),
                ..Default::default()
            }));
        }
        let to = {
            let metrics = shard.raft.metrics();
            let m = metrics.borrow_watched();
            m.membership_config
                .membership()
                .voter_ids()
                .find(|v| v.node().0 as u64 == request.to_node)
        };
        let to = to.ok_or_else(|| {
            not_found(
                "node",
                format!(
                    "node {} has no voting replica of shard {id}",
                    request.to_node
                ),
            )
        })?;
        // Callers repeat what was not done in time; so handing over to a node that is away would keep
        // the shard from work for as long as they try.
        if to != shard.replica() && !leaders::can_succeed(&shard, to) {
            return Err(unavailable(format!(
                "node {} is away or lags behind: shard {id} stays where it is",
                request.to_node
            )));
        }
        match to == shard.replica() || shard.transfer(to).await {
            true => Ok(Response::new(proto::TransferLeaderResponse {})),
            false => Err(unavailable(format!(
                "node {} did not take over in time",
                request.to_node
            ))),
        }
    }

    async fn flush(&self, request: Request<proto::FlushRequest>) -> Answer<proto::FlushResponse> {
        let r = self.member(&request)?;
        r.persist.flush().await.map_err(unavailable)?;
        Ok(Response::new(proto::FlushResponse {}))
    }

    async fn hash_state(
        &self,
        request: Request<proto::HashStateRequest>,
    ) -> Answer<proto::HashStateResponse> {
        let r = self.member(&request)?;
        let id = ShardId(request.into_inner().shard);
        let shard = r.groups.shards().get(id);
        let shard = shard
            .ok_or_else(|| not_found("shard", format!("this node has no replica of shard {id}")))?;
        let rows = shard.local_view().map_err(unavailable)?;
        let applied = crate::raft::state_machine::Applied::load(&*rows.view, rows.space)
            .map_err(unavailable)?
            .and_then(|a| a.log_id)
            .map_or(0, |l| l.index());
        let (hash, rows) = hash::state(&*rows.view, rows.space).map_err(unavailable)?;
        Ok(Response::new(proto::HashStateResponse {
            applied,
            hash: hash.to_vec().into(),
            rows,
        }))
    }

    async fn scrub(&self, request: Request<proto::ScrubRequest>) -> Answer<proto::ScrubResponse> {
        let r = self.member(&request)?;
        let outcome = r.scrub.run().await.map_err(unavailable)?;
        Ok(Response::new(outcome))
    }
}

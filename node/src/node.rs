//! The one composition root: from settings and a world to a serving node, and back.
//!
//! ```text
//!  lock the directory ─ listen ─ identity (form, join, or the last one)
//!    ─ is this directory's node already running elsewhere? ─ index ─ journal ─ replay
//!    ─ replicas ─ workers ─ services ─ LMTP door
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use posthouse_client::proto;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::api::cluster::{ClusterService, InitCall, Running};
use crate::api::{Api, Connection};
use crate::blobs::{self, Blobs, DamageLog, PeerSource};
use crate::config::{Config, ConfigError};
use crate::env::Env;
use crate::env::disk::DirLock;
use crate::env::net::Listener;
use crate::env::runtime::with_rng;
use crate::identity::{IdentityError, IdentityFile, new_uuid, parse_uuid, uuid_text};
use crate::index::{Index, IndexError};
use crate::journal::{DamagedRange, Journal, JournalError, Options};
use crate::machine::Event;
use crate::machine::command::{Command, NodeInfo, Op, SystemOp};
use crate::mailbox::{Limits, Operations, Routes};
use crate::placement::PlacementMap;
use crate::raft::fault::{Fault, Faults};
use crate::raft::groups::{Groups, Parts, RaftSettings};
use crate::raft::recover::RecoveredLogs;
use crate::transport::MAX_MESSAGE_BYTES;
use crate::transport::peers::{Identity, Peers};
use crate::transport::proto::peer_server::PeerServer;
use crate::transport::service::PeerService;
use crate::types::*;
use crate::workers::Workers;
use crate::workers::compaction::{Compaction, CompactionSettings, HoldSnapshots};
use crate::workers::leaders::Leaders;
use crate::workers::persist::{Persist, PersistSettings};
use crate::workers::placement::Placer;
use crate::workers::reap::Reap;
use crate::workers::scrub::{Scrub, ScrubParts};
use crate::workers::space::SpaceWatch;

/// Marks an index that failed its checks: the next start begins a new one.
const INDEX_DAMAGED: &str = "index.damaged";

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be used.
    #[error("cannot use the data directory {dir}: {cause}")]
    Directory {
        /// Which.
        dir: String,
        /// Why.
        cause: std::io::Error,
    },
    /// Another process has it.
    #[error(
        "another process uses the data directory {0}; stop it first, or choose another directory with --data"
    )]
    Locked(String),
    /// A socket cannot be bound.
    #[error("cannot listen on {addr}: {cause}; choose another address with --{option}")]
    Listen {
        /// Where.
        addr: String,
        /// Why.
        cause: std::io::Error,
        /// The option that sets it.
        option: &'static str,
    },
    /// The identity file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The cluster does not take this node.
    #[error("cannot join the cluster at {addr}: {cause}")]
    Join {
        /// The member that was asked.
        addr: String,
        /// Why.
        cause: String,
    },
    /// The same node runs already, from a copy of this directory or with this one as its copy.
    #[error(
        "node {node} is already running at {addr}: this data directory is a copy of its directory. Two copies of one node would endanger acknowledged mail. Start this one with an empty --data directory and join it as a new node"
    )]
    Copied {
        /// Which node.
        node: NodeId,
        /// Where the other one is.
        addr: String,
    },
    /// The journal.
    #[error("cannot open the journal: {0}")]
    Journal(#[from] JournalError),
    /// The index.
    #[error("cannot open the index: {0}")]
    Index(#[from] IndexError),
    /// A replica.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The signal to stop came first.
    #[error("stopped before the node had started")]
    Stopped,
}

/// A running node.
pub struct Node {
    /// This node's number.
    pub id: NodeId,
    /// The cluster's UUID.
    pub cluster_id: [u8; 16],
    /// Where gRPC is served.
    pub grpc_addr: String,
    /// Where the LMTP door is; empty for none.
    pub lmtp_addr: String,
    running: Arc<Running>,
    faults: Faults,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    journal: Arc<Journal>,
    disk_marker: (Env, PathBuf),
    _lock: Box<dyn DirLock>,
}

impl Routes for PlacementRoutes {
    fn cluster_id(&self) -> Option<String> {
        Some(self.cluster_id.clone())
    }
    fn shard_of(&self, slot: Slot) -> Option<ShardId> {
        self.placement.shard_of(slot)
    }
    fn has_shard(&self, shard: ShardId) -> bool {
        shard != ShardId::SYSTEM && self.placement.with(|s| s.shards.contains_key(&shard))
    }
    fn leader_of(&self, _: ShardId) -> Option<NodeId> {
        None
    }
    fn leader_addr(&self, node: NodeId) -> Option<String> {
        self.placement.addrs().get(&node).cloned()
    }
    fn placement_version(&self) -> u64 {
        self.placement.version()
    }
}

struct PlacementRoutes {
    cluster_id: String,
    placement: Arc<PlacementMap>,
}

impl Node {
    /// Starts a node. It serves when this returns. `stop` ends it, also while it starts.
    pub async fn start(
        config: Config,
        env: Env,
        stop: CancellationToken,
    ) -> Result<Node, StartError> {
        let rng = Arc::clone(&env.rng);
        with_rng(rng, Starting { config, env, stop }.run()).await
    }

    /// Waits until something ends the node: the stop signal (`None`) or a fault.
    pub async fn ended(&self) -> Option<Fault> {
        tokio::select! {
            () = self.stop.cancelled() => None,
            fault = self.faults.wait() => Some(fault),
        }
    }

    /// What operators see of the node.
    pub fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// Stops serving, makes everything durable, ends every task.
    pub async fn stop(mut self) {
        let fault = self.faults.get();
        if fault.is_none() {
            // The next start then has nothing to replay.
            let _ =
                tokio::time::timeout(Duration::from_secs(20), self.running.persist.flush()).await;
        }
        if let Some(Fault::IndexDamaged(e)) = &fault {
            let (env, path) = &self.disk_marker;
            let text = Bytes::from(format!("{e}\n"));
            if let Err(e) = env.disk.replace(path, text).await {
                tracing::error!(
                    "cannot mark the index as damaged in {}: {e}",
                    path.display()
                );
            }
        }
        self.stop.cancel();
        self.running.groups.shutdown().await;
        self.running.workers.join().await;
        let rest = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(10), rest)
            .await
            .is_err()
        {
            self.tasks.shutdown().await;
        }
        self.journal.close().await;
    }
}

struct Starting {
    config: Config,
    env: Env,
    stop: CancellationToken,
}

/// How long a starting node waits for one that may be its original, or may know where that is.
const PATIENCE_AT_START: Duration = Duration::from_secs(1);

/// How fast everything stored is verified when nobody waits, and how often.
const SCRUB_BYTES_PER_S: u64 = 16 << 20;
const SCRUB_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);

/// Takes the right to receive a snapshot of every shard.
fn hold_snapshots(groups: Arc<Groups>) -> HoldSnapshots {
    Box::new(move || {
        let shards = groups.shards().all();
        let held: Option<Vec<_>> = shards.iter().map(|s| groups.try_receive(s.id())).collect();
        held.map(|held| Box::new(held) as _)
    })
}

/// The workers that look after what is stored.
struct Storage {
    space: Arc<SpaceWatch>,
    scrub: Arc<Scrub>,
    compaction: Arc<Compaction>,
}

impl Starting {
    async fn run(self) -> Result<Node, StartError> {
        let started = Instant::now();
        self.config.check()?;
        let dir = self.config.data.clone();
        let disk = &*self.env.disk;
        let directory = |cause| StartError::Directory {
            dir: self.config.data.display().to_string(),
            cause,
        };
        disk.create_dir_all(&dir).await.map_err(directory)?;
        let lock = disk.lock_dir(&dir).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::WouldBlock => StartError::Locked(dir.display().to_string()),
            _ => directory(e),
        })?;
        let listener = self.listen(&self.config.listen, "listen").await?;
        let lmtp = match self.config.lmtp.as_str() {
            "" => None,
            addr => Some(self.listen(addr, "lmtp").await?),
        };
        let grpc_addr = match self.config.advertise.as_str() {
            "" => listener.local_addr(),
            advertise => advertise.to_owned(),
        };
        let lmtp_addr = lmtp.as_ref().map(|l| l.local_addr()).unwrap_or_default();

        let (mut file, shards) = self.identity(&listener, &grpc_addr, &lmtp_addr).await?;
        let cluster_id = file.cluster_id().unwrap_or_default();
        let identity = Identity {
            cluster_id,
            node: file.node,
            boot_id: self.env.rng.id16(),
        };
        self.refuse_copies(&file, &identity, &grpc_addr).await?;

        let damage = Arc::new(DamageLog::default());
        let index = self.open_index(&damage).await?;
        let options = Options {
            segment_bytes: self.config.segment_bytes,
            ..Options::default()
        };
        let (journal, recovery) = Journal::open(&self.env, &dir.join("journal"), options).await?;
        let journal = Arc::new(journal);
        let recovered = RecoveredLogs::replay(&recovery);
        let replayed = recovery.records.len() as u64;
        for d in &recovery.damage {
            damage.add(self.finding(d, "repaired from a replica when read or scrubbed"));
        }
        drop(recovery);

        let faults = Faults::default();
        let placement = Arc::new(PlacementMap::new(file.peers.clone()));
        let peers = Arc::new(Peers::new(
            Arc::clone(&self.env.net),
            Arc::clone(&placement) as _,
            identity.clone(),
            self.stop.clone(),
        ));
        let blobs = Arc::new(Blobs::new(blobs::Parts {
            index: Arc::clone(&index),
            journal: Arc::clone(&journal),
            clock: Arc::clone(&self.env.clock),
            damage: Arc::clone(&damage),
            source: Arc::new(PeerSource {
                peers: Arc::clone(&peers),
                placement: Arc::clone(&placement),
            }),
        }));
        let space = Arc::new(SpaceWatch::new(
            self.env.clone(),
            dir.clone(),
            self.config.segment_bytes,
            self.config.disk_reserve_bytes,
        ));
        // Known before the first command is taken.
        space
            .turn()
            .await
            .map_err(|e| StartError::Fault(Fault::Refused(format!("{e:#}"))))?;
        let disk_state = space.state();
        let (events, events_rx) = mpsc::unbounded_channel();
        let groups = Arc::new(Groups::new(Parts {
            index,
            journal: Arc::clone(&journal),
            peers: Arc::clone(&peers),
            chunks: Arc::clone(&blobs) as _,
            settings: RaftSettings {
                heartbeat_ms: self.config.heartbeat_ms,
                election_ms: self.config.election_ms,
                ..RaftSettings::default()
            },
            disk: disk_state.clone(),
            events,
            faults: faults.clone(),
        }));
        let local = Arc::clone(groups.shards());
        blobs.set_owners(Box::new(move |shard| {
            let shard = local.get(shard)?;
            let apply_lock = Arc::clone(&shard.replicated.apply_lock);
            Some(blobs::Owner {
                replica: shard.replica(),
                apply_lock,
            })
        }));
        for d in groups.open_all(&recovered).await? {
            damage.add(self.finding(&d, "the replica is rebuilt from its peers"));
        }
        drop(recovered);

        let placer = Arc::new(Placer {
            node: identity.node,
            groups: Arc::clone(&groups),
            placement: Arc::clone(&placement),
            peers: Arc::clone(&peers),
            clock: Arc::clone(&self.env.clock),
        });
        let info = NodeInfo {
            id: identity.node,
            addr: grpc_addr.clone(),
            lmtp_addr: lmtp_addr.clone(),
            zone: self.config.zone.clone(),
        };
        if file.forming {
            self.form(&groups, &file, &info, shards).await?;
            file.forming = false;
            file.save(disk, &dir).await?;
        }
        placer.learn().await.ok();

        let persist = Arc::new(Persist::new(
            Arc::clone(&groups),
            PersistSettings {
                flush_bytes: self.config.flush_bytes,
                flush_every: Duration::from_millis(self.config.flush_ms),
                keep_entries: self.config.keep_entries,
            },
        ));
        let workers = Workers::new(Arc::clone(&self.env.clock), self.stop.clone());
        let measured = Arc::clone(&space);
        let disk_bytes: Arc<dyn Fn() -> (u64, u64) + Send + Sync> =
            Arc::new(move || measured.bytes());
        let index_faults = faults.clone();
        let scrub = Arc::new(Scrub::new(ScrubParts {
            env: self.env.clone(),
            blobs: Arc::clone(&blobs),
            damage: Arc::clone(&damage),
            on_index: Box::new(move |e| index_faults.index(e)),
            bytes_per_s: SCRUB_BYTES_PER_S,
            every: SCRUB_EVERY,
        }));
        let compaction = Arc::new(Compaction::new(
            self.env.clone(),
            dir.clone(),
            Arc::clone(&blobs),
            hold_snapshots(Arc::clone(&groups)),
            CompactionSettings::default(),
        ));
        let running = Arc::new(Running {
            env: self.env.clone(),
            node: identity.node,
            groups: Arc::clone(&groups),
            placement: Arc::clone(&placement),
            peers: Arc::clone(&peers),
            placer: Arc::clone(&placer),
            persist: Arc::clone(&persist),
            scrub: Arc::clone(&scrub),
            workers: workers.clone(),
            damage,
            disk: disk_state.clone(),
            disk_bytes: Arc::clone(&disk_bytes),
            started,
            startup: (started.elapsed().as_millis() as u64, replayed),
        });
        self.work(
            &running,
            events_rx,
            file,
            info,
            Storage {
                space,
                scrub,
                compaction,
            },
        );

        let limits = Limits {
            max_message_bytes: self.config.max_message_bytes,
            compress: self.config.compress,
            ..Limits::default()
        };
        let routes = Arc::new(PlacementRoutes {
            cluster_id: uuid_text(&cluster_id),
            placement: Arc::clone(&placement),
        });
        let ops = Arc::new(Operations::new(
            Arc::clone(groups.shards()) as _,
            routes,
            Arc::clone(&blobs) as _,
            self.env.clone(),
            limits,
        ));
        let peer_service = PeerService {
            identity: identity.clone(),
            groups,
            placement,
            chunks: blobs,
            disk: disk_state,
            disk_bytes,
        };
        let mut tasks = JoinSet::new();
        let poisoned = journal.poisoned();
        tasks.spawn(watch_journal(poisoned, faults.clone(), self.stop.clone()));
        tasks.spawn(serve(
            listener,
            Arc::clone(&ops),
            ClusterService::new(Arc::clone(&running)),
            peer_service,
            self.stop.clone(),
        ));
        if let Some(listener) = lmtp {
            self.door(listener, &grpc_addr, &mut tasks)?;
        }
        Ok(Node {
            id: identity.node,
            cluster_id,
            grpc_addr,
            lmtp_addr,
            running,
            faults,
            stop: self.stop,
            tasks,
            journal,
            disk_marker: (self.env, dir.join(INDEX_DAMAGED)),
            _lock: lock,
        })
    }

    /// Damage of the journal as the status page shows it.
    fn finding(&self, found: &DamagedRange, action: &str) -> proto::Damage {
        proto::Damage {
            file: found.file.display().to_string(),
            offset: found.offset,
            length: found.len,
            cause: found.cause.to_string(),
            action: action.into(),
            time_ms: self.env.clock.now_ms(),
        }
    }

    async fn listen(
        &self,
        addr: &str,
        option: &'static str,
    ) -> Result<Arc<dyn Listener>, StartError> {
        let listening = self.env.net.listen(addr).await;
        listening.map_err(|cause| StartError::Listen {
            addr: addr.to_owned(),
            cause,
            option,
        })
    }

    /// Who this node is: as before, as a joining node, or as the first of a new cluster. Also says
    /// how many shards and replicas a new cluster has.
    async fn identity(
        &self,
        listener: &Arc<dyn Listener>,
        grpc_addr: &str,
        lmtp_addr: &str,
    ) -> Result<(IdentityFile, (u32, u32)), StartError> {
        let (disk, dir) = (&*self.env.disk, &*self.config.data);
        let mut shape = (self.config.shards, self.config.replication);
        if let Some(file) = IdentityFile::load(disk, dir).await? {
            return Ok((file, shape));
        }
        if !self.config.join.is_empty() {
            let file = self.join(grpc_addr, lmtp_addr).await?;
            file.save(disk, dir).await?;
            return Ok((file, shape));
        }
        let cluster_id = new_uuid(self.env.rng.id16());
        let file = IdentityFile::new(cluster_id, NodeId(1), true);
        if self.config.wait_for_init {
            shape = self.wait_for_init(listener, &file, shape).await?;
        }
        file.save(disk, dir).await?;
        Ok((file, shape))
    }

    /// Serves nothing but `Init`, until it is called.
    async fn wait_for_init(
        &self,
        listener: &Arc<dyn Listener>,
        file: &IdentityFile,
        default: (u32, u32),
    ) -> Result<(u32, u32), StartError> {
        let (tx, mut rx) = mpsc::channel::<InitCall>(1);
        let done = self.stop.child_token();
        let service = ClusterService::waiting(tx);
        let incoming = incoming(Arc::clone(listener), None, done.clone());
        let server = Server::builder()
            .add_service(proto::cluster_server::ClusterServer::new(service))
            .serve_with_incoming_shutdown(incoming, done.clone().cancelled_owned());
        tracing::info!("waiting for `posthouse cluster init`");
        let asked = async {
            let call = rx.recv().await?;
            let or = |asked, default| if asked == 0 { default } else { asked };
            let shape = (
                or(call.request.shards, default.0),
                or(call.request.replication, default.1),
            );
            let _ = call.answer.send(file.cluster_id.clone());
            // Let the answer out before the server ends.
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some(shape)
        };
        let (shape, _) = tokio::join!(
            async {
                let shape = tokio::select! {
                    shape = asked => shape,
                    () = self.stop.cancelled() => None,
                };
                done.cancel();
                shape
            },
            server
        );
        shape.ok_or(StartError::Stopped)
    }

    /// Asks a member to take this node in.
    async fn join(&self, grpc_addr: &str, lmtp_addr: &str) -> Result<IdentityFile, StartError> {
        let addr = self.config.join.clone();
        let refused = |cause: String| StartError::Join {
            addr: addr.clone(),
            cause,
        };
        let channel = crate::transport::peers::channel(Arc::clone(&self.env.net), &addr)
            .map_err(|e| refused(e.to_string()))?;
        let mut client = proto::cluster_client::ClusterClient::new(channel);
        // The same id for every try, so that a repeated call is the same join.
        let request = proto::JoinRequest {
            token: self.config.join_token.clone(),
            addr: grpc_addr.to_owned(),
            zone: self.config.zone.clone(),
            join_id: self.env.rng.id16().to_vec().into(),
            lmtp_addr: lmtp_addr.to_owned(),
        };
        let mut last = String::new();
        for _ in 0..20 {
            match client.join(request.clone()).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    let cluster_id = parse_uuid(&answer.cluster_id)
                        .ok_or_else(|| refused("its cluster id is not a UUID".into()))?;
                    let node = NodeId(answer.node_id as u32);
                    let mut file = IdentityFile::new(cluster_id, node, false);
                    let known = answer.nodes.into_iter();
                    file.peers = known.map(|n| (NodeId(n.node_id as u32), n.addr)).collect();
                    return Ok(file);
                }
                Err(status) => {
                    let detail = posthouse_client::error::detail_of(&status);
                    let kind = detail.map(|d| d.kind());
                    use proto::ErrorKind::{BadRequest, NotInitialized, Refused};
                    if matches!(kind, Some(BadRequest | NotInitialized | Refused)) {
                        return Err(refused(status.message().to_owned()));
                    }
                    last = status.message().to_owned();
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(StartError::Stopped),
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
        Err(refused(format!(
            "{last}; check the address and that the cluster has a majority"
        )))
    }

    /// A directory that is a copy must not become a second node of the same number. Where the node
    /// may be running is in its own file and, should it have moved since, known to its peers.
    async fn refuse_copies(
        &self,
        file: &IdentityFile,
        identity: &Identity,
        grpc_addr: &str,
    ) -> Result<(), StartError> {
        let others = file.peers.iter().filter(|(id, _)| **id != identity.node);
        let registered = others.map(|(_, addr)| self.registered_at(addr, identity));
        let registered = futures::future::join_all(registered).await;
        let own = file.peers.get(&identity.node).cloned();
        let mut addrs: BTreeSet<String> = registered.into_iter().flatten().chain(own).collect();
        addrs.remove(grpc_addr);
        for addr in addrs {
            let hello = Peers::hello(
                Arc::clone(&self.env.net),
                &addr,
                identity,
                PATIENCE_AT_START,
            )
            .await;
            let same = hello.is_ok_and(|hello| {
                hello.cluster_id == identity.cluster_id.as_slice()
                    && hello.node_id == identity.node.0
            });
            if same {
                return Err(StartError::Copied {
                    node: identity.node,
                    addr,
                });
            }
        }
        Ok(())
    }

    /// Where the member at `addr` believes this node to be.
    async fn registered_at(&self, addr: &str, identity: &Identity) -> Option<String> {
        let channel = crate::transport::peers::channel(Arc::clone(&self.env.net), addr).ok()?;
        let mut client = proto::cluster_client::ClusterClient::new(channel);
        let request = client.get_placement(proto::GetPlacementRequest { have_version: 0 });
        let answer = tokio::time::timeout(PATIENCE_AT_START, request).await;
        let placement = answer.ok()?.ok()?.into_inner();
        if placement.cluster_id != uuid_text(&identity.cluster_id) {
            return None;
        }
        let mut nodes = placement.nodes.into_iter();
        let known = nodes.find(|n| n.node_id == u64::from(identity.node.0))?;
        Some(known.addr)
    }

    /// Opens the index; one that failed its checks is given up, and its rows come from the peers.
    async fn open_index(&self, damage: &DamageLog) -> Result<Arc<dyn Index>, StartError> {
        let dir = &self.config.data;
        let path = dir.join("index");
        let marker = dir.join(INDEX_DAMAGED);
        let directory = |cause| StartError::Directory {
            dir: dir.display().to_string(),
            cause,
        };
        let marked = self.env.disk.read(&marker).await.map_err(directory)?;
        let mut cause = marked.as_deref().map_or_else(String::new, |text| {
            String::from_utf8_lossy(text).trim().to_owned()
        });
        if marked.is_none() {
            match self.env.index.open(&path).await {
                Ok(index) => return Ok(index),
                Err(IndexError::Corrupt(why)) => {
                    cause = IndexError::Corrupt(why.clone()).to_string();
                    let text = Bytes::from(format!("{why}\n"));
                    self.env
                        .disk
                        .replace(&marker, text)
                        .await
                        .map_err(directory)?;
                }
                Err(e) => return Err(e.into()),
            }
        }
        damage.add(proto::Damage {
            file: path.display().to_string(),
            cause,
            action: "given up: its replicas are rebuilt from their peers".into(),
            time_ms: self.env.clock.now_ms(),
            ..proto::Damage::default()
        });
        for name in self.env.disk.list(&path).await.map_err(directory)? {
            self.env
                .disk
                .remove(&path.join(name))
                .await
                .map_err(directory)?;
        }
        let index = self.env.index.open(&path).await?;
        index.flush().await?;
        self.env.disk.remove(&marker).await.map_err(directory)?;
        self.env.disk.sync_dir(dir).await.map_err(directory)?;
        Ok(index)
    }

    /// Forms the cluster: the system shard with this node as its only member, then its first
    /// command. Repeated until it has happened, should the process die in between.
    async fn form(
        &self,
        groups: &Arc<Groups>,
        file: &IdentityFile,
        info: &NodeInfo,
        (shards, replication): (u32, u32),
    ) -> Result<(), StartError> {
        let system = match groups.shards().get(ShardId::SYSTEM) {
            Some(system) => system,
            None => {
                groups
                    .create(ShardId::SYSTEM, ReplicaId::new(info.id, 0))
                    .await?
            }
        };
        groups.initialize(&system).await?;
        let op = Op::System(SystemOp::Init {
            cluster_id: file.cluster_id().unwrap_or_default(),
            node: info.clone(),
            shards,
            replication,
        });
        loop {
            let command = Command {
                time_ms: self.env.clock.now_ms(),
                op: op.clone(),
            };
            // A refusal says that it has happened already.
            if system.propose(command, Bytes::new()).await.is_ok() {
                return Ok(());
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(StartError::Stopped),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }

    /// Starts the workers.
    fn work(
        &self,
        running: &Arc<Running>,
        mut events: mpsc::UnboundedReceiver<(ShardId, Vec<Event>)>,
        file: IdentityFile,
        info: NodeInfo,
        storage: Storage,
    ) {
        let workers = &running.workers;
        let ms = Duration::from_millis;
        let placer = Arc::clone(&running.placer);
        workers.every("placement", ms(500), move || {
            let placer = Arc::clone(&placer);
            async move { placer.hold().await }
        });
        let placer = Arc::clone(&running.placer);
        workers.every("members", ms(300), move || {
            let placer = Arc::clone(&placer);
            async move { placer.members().await }
        });
        let placer = Arc::clone(&running.placer);
        workers.every("planner", ms(1000), move || {
            let placer = Arc::clone(&placer);
            async move { placer.plan().await }
        });
        let leaders = Arc::new(Leaders::new(
            Arc::clone(running.groups.shards()),
            Arc::clone(&running.placement),
        ));
        workers.every("leaders", ms(1000), move || {
            let leaders = Arc::clone(&leaders);
            async move { leaders.turn().await }
        });
        let persist = Arc::clone(&running.persist);
        workers.every("persist", ms(250), move || {
            let persist = Arc::clone(&persist);
            async move { persist.turn().await }
        });
        let reap = Arc::new(Reap::new(
            Arc::clone(running.groups.shards()),
            Arc::clone(&self.env.clock),
        ));
        workers.every("reap", ms(1000), move || {
            let reap = Arc::clone(&reap);
            async move { reap.turn().await }
        });
        let announce = Arc::new(Announce {
            running: Arc::clone(running),
            info,
            dir: self.config.data.clone(),
            file: Mutex::new(file),
        });
        workers.every("announce", ms(1000), move || {
            let announce = Arc::clone(&announce);
            async move { announce.turn().await }
        });
        let Storage {
            space,
            scrub,
            compaction,
        } = storage;
        // Often, because what is written between two looks goes below the reserve.
        workers.every("disk", ms(100), move || {
            let space = Arc::clone(&space);
            async move { space.turn().await }
        });
        workers.every("scrub", ms(1000), move || {
            let scrub = Arc::clone(&scrub);
            async move { scrub.turn().await }
        });
        workers.every("compaction", ms(5000), move || {
            let compaction = Arc::clone(&compaction);
            async move { compaction.turn().await }
        });
        // A change of the placement takes effect at once.
        let (placer, groups, stop) = (
            Arc::clone(&running.placer),
            Arc::clone(&running.groups),
            self.stop.clone(),
        );
        tokio::spawn(async move {
            loop {
                let (shard, _) = tokio::select! {
                    () = stop.cancelled() => return,
                    event = events.recv() => match event {
                        Some(event) => event,
                        None => return,
                    },
                };
                if shard == ShardId::SYSTEM
                    && let Some(system) = groups.shards().get(shard)
                    && let Err(e) = placer.load(&system)
                {
                    tracing::warn!("cannot read the placement: {e:#}");
                }
            }
        });
    }

    /// Hosts the LMTP door in this process; it knows the cluster through the client library alone.
    fn door(
        &self,
        listener: Arc<dyn Listener>,
        grpc_addr: &str,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), StartError> {
        let refused = |cause: String| StartError::Fault(Fault::Refused(cause));
        let wiring = client_wiring(&self.env);
        let settings = posthouse_client::Settings {
            wiring: wiring.clone(),
            ..Default::default()
        };
        let client = posthouse_client::Client::new(&[grpc_addr], settings)
            .map_err(|e| refused(e.to_string()))?;
        let lmtp_settings = posthouse_gateway::lmtp::settings::Settings {
            dedupe: self.config.lmtp_dedupe,
            message_bytes: self.config.max_message_bytes,
            ..Default::default()
        };
        let spool = posthouse_gateway::spool::TempSpool::new(self.config.data.clone());
        let lmtp = posthouse_gateway::lmtp::Lmtp::new(
            lmtp_settings,
            Arc::new(client),
            Arc::new(spool),
            Arc::new(move || wiring.request_id()),
        )
        .map_err(|why| refused(format!("the setting lmtp.{why}")))?;
        let stop = self.stop.clone();
        tasks.spawn(async move { lmtp.serve(&Door(listener), stop).await });
        Ok(())
    }
}

/// The client library on this node's world.
fn client_wiring(env: &Env) -> posthouse_client::connect::Wiring {
    let net = Arc::clone(&env.net);
    let rng = Arc::clone(&env.rng);
    posthouse_client::connect::Wiring {
        connector: Arc::new(move |addr: &str| {
            let (net, addr) = (Arc::clone(&net), addr.to_owned());
            Box::pin(async move {
                let stream = net.connect(&addr).await?;
                Ok(Box::new(stream) as Box<dyn posthouse_client::connect::Stream>)
            })
        }),
        entropy: Arc::new(move |out: &mut [u8]| rng.fill(out)),
        spawner: None,
    }
}

/// The node's listener as the gateway's.
struct Door(Arc<dyn Listener>);

impl posthouse_gateway::listen::Listener for Door {
    fn accept(
        &self,
    ) -> futures::future::BoxFuture<
        '_,
        std::io::Result<(Box<dyn posthouse_gateway::listen::Stream>, String)>,
    > {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((
                Box::new(stream) as Box<dyn posthouse_gateway::listen::Stream>,
                peer,
            ))
        })
    }
}

/// Keeps the cluster's idea of where this node is, and this node's idea of where the others are,
/// up to date.
struct Announce {
    running: Arc<Running>,
    info: NodeInfo,
    dir: PathBuf,
    file: Mutex<IdentityFile>,
}

impl Announce {
    async fn turn(&self) -> anyhow::Result<Option<String>> {
        let r = &self.running;
        let registered = r.placement.with(|s| s.nodes.get(&r.node).cloned());
        if registered.as_ref().is_some_and(|n| *n != self.info) {
            r.placer
                .propose(SystemOp::SetNode(self.info.clone()))
                .await?;
        }
        let mut addrs: BTreeMap<NodeId, String> = r.placement.addrs();
        addrs.insert(r.node, self.info.addr.clone());
        let changed = {
            let mut file = self.file.lock();
            let changed = file.peers != addrs;
            file.peers = addrs;
            changed.then(|| file.clone())
        };
        match changed {
            Some(file) => {
                file.save(&*r.env.disk, &self.dir).await?;
                Ok(Some("addresses saved".into()))
            }
            None => Ok(None),
        }
    }
}

async fn watch_journal(
    mut poisoned: watch::Receiver<Option<Arc<JournalError>>>,
    faults: Faults,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        failed = poisoned.wait_for(Option::is_some) => {
            if let Ok(Some(e)) = failed.as_deref() {
                faults.report(Fault::Journal(e.to_string()));
            }
        }
    }
}

/// Accepted connections as tonic takes them.
fn incoming(
    listener: Arc<dyn Listener>,
    ops: Option<Arc<Operations>>,
    stop: CancellationToken,
) -> impl futures::Stream<Item = std::io::Result<Connection>> {
    futures::stream::unfold((), move |()| {
        let (listener, ops, stop) = (Arc::clone(&listener), ops.clone(), stop.clone());
        async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return None,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, peer)) => {
                        return Some((Ok(Connection::new(stream, &peer, ops.as_deref())), ()));
                    }
                    Err(e) => {
                        // Out of file descriptors, most often: wait for some.
                        tracing::warn!("cannot accept a connection: {e}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    })
}

async fn serve(
    listener: Arc<dyn Listener>,
    ops: Arc<Operations>,
    cluster: ClusterService,
    peers: PeerService,
    stop: CancellationToken,
) {
    let api = Api::new(Arc::clone(&ops));
    let incoming = incoming(listener, Some(ops), stop.clone());
    let peers = PeerServer::new(peers)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let served = Server::builder()
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(32 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(api.accounts())
        .add_service(api.mailboxes())
        .add_service(api.messages())
        .add_service(proto::cluster_server::ClusterServer::new(cluster))
        .add_service(peers)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    // Streams of peers last as long as they do: do not wait for them.
    let ended = async {
        stop.cancelled().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    tokio::select! {
        served = served => if let Err(e) = served {
            tracing::error!("the gRPC server ended: {e}");
        },
        () = ended => {}
    }
}

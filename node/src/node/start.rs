//! The way from settings and a world to a serving node, in the order in which each part needs the
//! ones before it.

use super::serve::{PlacementRoutes, services, watch_journal};
use super::work::Storage;
use super::{Node, StartError};
use crate::api::cluster::{ClusterService, Running};
use crate::blobs::{self, Blobs, DamageLog};
use crate::config::Config;
use crate::env::Env;
use crate::env::net::Listener;
use crate::identity::{IdentityFile, KeptIdentity, uuid_text};
use crate::index::watched::watched;
use crate::index::{Index, IndexError};
use crate::journal::{DamagedRange, Journal, Options};
use crate::machine::command::{Command, NodeInfo, Op, SystemOp};
use crate::mailbox::{Limits, Operations};
use crate::placement::PlacementMap;
use crate::raft::fault::{Fault, Faults};
use crate::raft::groups::{Groups, Parts};
use crate::raft::recover::RecoveredLogs;
use crate::raft::state_machine::space_of;
use crate::rare::{self, Rare};
use crate::transport::leaders::Leaders;
use crate::transport::peers::{Identity, Peers};
use crate::transport::repair::PeerSource;
use crate::transport::service::PeerService;
use crate::types::*;
use crate::workers::Workers;
use crate::workers::compaction::{Compaction, HoldSnapshots};
use crate::workers::missing::Missing;
use crate::workers::persist::{Persist, PersistSettings};
use crate::workers::placement::Placer;
use crate::workers::scrub::{Scrub, ScrubParts};
use crate::workers::space::SpaceWatch;
use bytes::Bytes;
use posthouse_client::proto;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Marks an index that failed its checks: the next start begins a new one.
const INDEX_DAMAGED: &str = "index.damaged";

/// Makes the next start begin a new index.
pub(super) async fn mark_index_damaged(env: &Env, dir: &Path, why: &IndexError) {
    let path = dir.join(INDEX_DAMAGED);
    let text = Bytes::from(format!("{why}\n"));
    if let Err(e) = env.disk.replace(&path, text).await {
        let path = path.display();
        tracing::error!("cannot mark the index as damaged in {path}: {e}");
    }
}

/// Takes the right to receive a snapshot of every shard.
fn hold_snapshots(groups: Arc<Groups>) -> HoldSnapshots {
    Box::new(move || {
        let shards = groups.shards().all();
        let held: Option<Vec<_>> = shards.iter().map(|s| groups.try_receive(s.id())).collect();
        held.map(|held| Box::new(held) as _)
    })
}

/// A node that starts.
pub(super) struct Starting {
    pub config: Config,
    pub env: Env,
    /// Asks for the end of the start, and then of the doors.
    pub stop: CancellationToken,
    /// Ends everything that the doors need.
    pub end: CancellationToken,
    /// What it meets, also before it serves.
    pub faults: Faults,
}

impl Starting {
    /// Starts the node.
    pub async fn run(self) -> Result<Node, StartError> {
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
        let sockets = self.sockets().await?;
        let grpc_addr = match self.config.advertise.as_str() {
            "" => listener.local_addr(),
            advertise => advertise.to_owned(),
        };
        let lmtp_addr = sockets
            .lmtp
            .as_ref()
            .map(|l| l.local_addr())
            .unwrap_or_default();
        let door_addrs = sockets.addrs();

        let (file, shards) = self.identity(&listener, &grpc_addr, &lmtp_addr).await?;
        let cluster_id = file.cluster_id().unwrap_or_default();
        let identity = Identity {
            cluster_id,
            node: file.node,
            boot_id: self.env.rng.id16(),
        };
        let (copies, remembered) = tokio::join!(
            self.refuse_copies(&file, &identity, &grpc_addr),
            self.remembered(&file, &identity)
        );
        copies?;

        let damage = Arc::new(DamageLog::default());
        let faults = self.faults.clone();
        let told = faults.clone();
        let index = self.open_index(&damage).await?;
        let index = watched(index, Arc::new(move |e| told.index(e)));
        let options = Options {
            segment_bytes: self.config.segment_bytes,
            ..Options::default()
        };
        let (journal, recovery) = Journal::open(&self.env, &dir.join("journal"), options).await?;
        let journal = Arc::new(journal);
        let known = space_of(&*index, ShardId::SYSTEM)?.is_some();
        if file.held && recovery.segments == 0 && !known {
            // Its replicas would begin empty under the names that they have voted with.
            rare::hit(Rare::GoneRefused);
            return Err(StartError::Gone {
                node: file.node,
                dir: dir.display().to_string(),
            });
        }
        let recovered = RecoveredLogs::replay(&recovery);
        let replayed = recovery.records.len() as u64;
        for d in &recovery.damage {
            damage.add(self.finding(d, "repaired from a replica when read or scrubbed"));
        }
        drop(recovery);

        let placement = Arc::new(PlacementMap::new(file.peers.clone()));
        let peers = Arc::new(Peers::new(
            Arc::clone(&self.env.rpc),
            Arc::clone(&placement) as _,
            identity.clone(),
            self.end.clone(),
        ));
        let blobs = Arc::new(Blobs::new(blobs::Parts {
            index: Arc::clone(&index),
            journal: Arc::clone(&journal),
            clock: Arc::clone(&self.env.clock),
            damage: Arc::clone(&damage),
            source: Arc::new(PeerSource::new(Arc::clone(&peers), Arc::clone(&placement))),
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
        let kept = KeptIdentity::new(Arc::clone(&self.env.disk), dir.clone(), file.clone());
        let kept = Arc::new(kept);
        let groups = Arc::new(Groups::new(Parts {
            index,
            journal: Arc::clone(&journal),
            identity: Arc::clone(&kept),
            peers: Arc::clone(&peers),
            chunks: Arc::clone(&blobs) as _,
            settings: self.config.raft(),
            disk: disk_state.clone(),
            events,
            faults: faults.clone(),
            rng: Arc::clone(&self.env.rng),
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
        if file.held && recovered.may_lack_logs() && !groups.knows_any()? {
            // The index is lost, and the journal cannot say of which replicas. The others may be
            // out of reach now, and one of which nobody reminds it would begin empty under the
            // name that it has voted with.
            rare::hit(Rare::GoneRefused);
            return Err(StartError::Gone {
                node: file.node,
                dir: dir.display().to_string(),
            });
        }
        let promises: Vec<_> = remembered.values().flatten().copied().collect();
        for d in groups.open_all(recovered, &promises).await? {
            damage.add(self.finding(&d, "the replica is rebuilt from its peers"));
        }

        let placer = Arc::new(Placer {
            node: identity.node,
            groups: Arc::clone(&groups),
            placement: Arc::clone(&placement),
            peers: Arc::clone(&peers),
            clock: Arc::clone(&self.env.clock),
            asks: AtomicUsize::new(0),
        });
        let info = NodeInfo {
            id: identity.node,
            addr: grpc_addr.clone(),
            lmtp_addr: lmtp_addr.clone(),
            zone: self.config.zone.clone(),
        };
        if file.forming {
            self.form(&groups, &file, &info, shards).await?;
            kept.change(|file| file.forming = false).await?;
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
        let workers = Workers::new(Arc::clone(&self.env.clock), self.end.clone());
        let measured = Arc::clone(&space);
        let disk_bytes: Arc<dyn Fn() -> (u64, u64) + Send + Sync> =
            Arc::new(move || measured.bytes());
        let index_faults = faults.clone();
        let scrub = Arc::new(Scrub::new(ScrubParts {
            env: self.env.clone(),
            blobs: Arc::clone(&blobs),
            damage: Arc::clone(&damage),
            on_index: Box::new(move |e| index_faults.index(e)),
            bytes_per_s: self.config.scrub_bytes_per_s,
            every: Duration::from_millis(self.config.scrub_every_ms),
        }));
        let compaction = Arc::new(Compaction::new(
            self.env.clone(),
            dir.clone(),
            Arc::clone(&blobs),
            hold_snapshots(Arc::clone(&groups)),
            self.config.compaction(),
        ));
        let limits = Limits {
            max_message_bytes: self.config.max_message_bytes,
            compress: self.config.compress,
            password_cost: self.config.password_cost(),
            view_age: Duration::from_millis(self.config.view_age_ms),
            watch_changes: self.config.watch_changes,
            row_cache_bytes: self.config.row_cache_bytes as usize,
            ..Limits::default()
        };
        let routes = Arc::new(PlacementRoutes {
            cluster_id: uuid_text(&cluster_id),
            placement: Arc::clone(&placement),
        });
        let leaders = Arc::new(Leaders {
            shards: Arc::clone(groups.shards()),
            peers: Arc::clone(&peers),
            placement: Arc::clone(&placement),
            stop: self.end.clone(),
        });
        let ops = Arc::new(Operations::new(
            Arc::clone(groups.shards()) as _,
            (routes, leaders),
            Arc::clone(&blobs) as _,
            self.env.clone(),
            limits,
        ));
        let running = Arc::new(Running {
            env: self.env.clone(),
            node: identity.node,
            groups: Arc::clone(&groups),
            placement: Arc::clone(&placement),
            peers: Arc::clone(&peers),
            placer: Arc::clone(&placer),
            ops: Arc::clone(&ops),
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
            (events_rx, Arc::clone(&ops)),
            kept,
            info,
            remembered.into_keys().collect(),
            Storage {
                space,
                grown: blobs.journal().grown(),
                scrub,
                compaction,
                missing: Arc::new(Missing::new(Arc::clone(&blobs))),
            },
        );

        let peer_service = PeerService {
            identity: identity.clone(),
            groups,
            placement,
            promises: Arc::clone(&peers.promises),
            chunks: blobs,
            disk: disk_state,
            disk_bytes,
            stop: self.end.clone(),
        };
        let mut tasks = JoinSet::new();
        let poisoned = journal.poisoned();
        tasks.spawn(watch_journal(poisoned, faults.clone(), self.end.clone()));
        let services = services(ops, ClusterService::new(Arc::clone(&running)), peer_service);
        let own = super::door::Own {
            addr: grpc_addr.clone(),
            service: services("this process"),
        };
        let served = self.env.rpc.serve(listener, services, self.end.clone());
        tasks.spawn(served);
        let mut doors = JoinSet::new();
        self.doors(sockets, own, &mut doors)?;
        Ok(Node {
            id: identity.node,
            cluster_id,
            grpc_addr,
            lmtp_addr,
            door_addrs,
            running,
            faults,
            stop: self.stop,
            end: self.end,
            doors,
            tasks,
            journal,
            world: (self.env, dir),
            _lock: lock,
        })
    }

    pub(super) async fn listen(
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
        if marked.is_some() {
            rare::hit(Rare::IndexMarkerFound);
        } else {
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
        rare::hit(Rare::IndexBegunAnew);
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
                // Nobody else waits for it yet, and a group that has ended takes no command.
                fault = self.faults.wait() => return Err(fault.into()),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }
}

//! The one composition root: from settings and a world to a serving node, and back.
//!
//! ```text
//!  lock the directory ─ listen ─ identity (form, join, or the last one)
//!    ─ is this directory's node already running elsewhere? ─ index ─ journal ─ replay
//!    ─ replicas ─ workers ─ services ─ doors
//! ```
mod announce;
mod door;
mod identity;
mod serve;
mod start;
mod work;

use crate::api::cluster::Running;
use crate::config::{Config, ConfigError};
use crate::env::Env;
use crate::env::disk::DirLock;
use crate::env::runtime::with_rng;
use crate::identity::IdentityError;
use crate::index::IndexError;
use crate::journal::{Journal, JournalError};
use crate::raft::fault::{Fault, Faults};
use crate::types::*;
use start::{Starting, mark_index_damaged};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long each part of a stop may take.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// How long doors may take to become empty: they cut off what is left after ten seconds.
const DOORS_WAIT: Duration = Duration::from_secs(11);

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
    /// There is no certificate for the doors.
    #[error("no TLS for the doors: {0}")]
    Tls(#[from] posthouse_gateway::tls::TlsError),
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
    /// It has ended before because another process was this node as well.
    #[error(
        "node {node} was found running at {addr} when this data directory was last used, and the cluster has it there: what is in this one is old. Start with an empty --data directory and join as a new node. Only if what ran at {addr} is gone for good, and nothing was acknowledged there, take `replaced_at` out of identity.json"
    )]
    Replaced {
        /// Which node.
        node: NodeId,
        /// Where the other one was.
        addr: String,
    },
    /// Everything but the identity was removed, or neither the index nor the journal says any more
    /// which replicas there were.
    #[error(
        "the journal and the index of node {node} are gone from {dir}, or damaged beyond recognition: the node has forgotten what it promised to the others, and must not take part under its old number. Restore them from a copy of this very node, or start with an empty --data directory and join as a new node"
    )]
    Gone {
        /// Which node.
        node: NodeId,
        /// Its directory.
        dir: String,
    },
    /// A journal without the file that says whose it is.
    #[error(
        "{0} holds a journal, but its identity.json is gone: restore that file from a copy, or start with an empty --data directory and join as a new node"
    )]
    Anonymous(String),
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
    /// The doors for mail programs, e.g. `pop3`, and where they are.
    pub door_addrs: Vec<(&'static str, String)>,
    running: Arc<Running>,
    faults: Faults,
    /// Asks for the end: the doors take nobody any more.
    stop: CancellationToken,
    /// The end of everything else, once the doors are empty.
    end: CancellationToken,
    doors: JoinSet<()>,
    tasks: JoinSet<()>,
    journal: Arc<Journal>,
    world: (Env, PathBuf),
    _lock: Box<dyn DirLock>,
}

impl Node {
    /// Starts a node. It serves when this returns. `stop` ends it, also while it starts.
    pub async fn start(
        config: Config,
        env: Env,
        stop: CancellationToken,
    ) -> Result<Node, StartError> {
        let rng = Arc::clone(&env.rng);
        let (world, dir) = (env.clone(), config.data.clone());
        let (faults, end) = (Faults::default(), CancellationToken::new());
        let starting = Starting {
            config,
            env,
            stop,
            end: end.clone(),
            faults: faults.clone(),
        };
        let started = with_rng(rng, starting.run()).await;
        if started.is_err() {
            end.cancel();
        }
        if let Err(StartError::Index(e)) = &started {
            faults.index(e);
        }
        match (started, faults.get()) {
            // Whichever step met the damage, and whatever it made of it: otherwise the next start
            // would find the same, and the one after it.
            (Err(failed), Some(Fault::IndexDamaged(e))) => {
                mark_index_damaged(&world, &dir, &e).await;
                match failed {
                    StartError::Stopped => Err(failed),
                    _ => Err(StartError::Fault(Fault::IndexDamaged(e))),
                }
            }
            (started, _) => started,
        }
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

    /// Empties the doors, then stops serving, makes everything durable, ends every task.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if self.faults.get().is_none() {
            // The replicas work until then: mail that a door has taken may find no other majority,
            // and a door that waits for one must not keep this node from being part of it.
            let (doors, faults) = (&mut self.doors, &self.faults);
            let empty = async { while doors.join_next().await.is_some() {} };
            tokio::select! {
                biased;
                _ = tokio::time::timeout(DOORS_WAIT, empty) => {}
                _ = faults.wait() => {}
            }
        }
        let fault = self.faults.get();
        if fault.is_none() {
            // The next start then has nothing to replay.
            let _ =
                tokio::time::timeout(Duration::from_secs(20), self.running.persist.flush()).await;
        }
        if let Some(Fault::IndexDamaged(e)) = &fault {
            let (env, dir) = &self.world;
            mark_index_damaged(env, dir, e).await;
        }
        self.end.cancel();
        self.doors.shutdown().await;
        // A group that waits for a full disk ends only with the journal.
        let groups = self.running.groups.shutdown();
        if tokio::time::timeout(STOP_WAIT, groups).await.is_err() {
            tracing::warn!("the groups do not end in time");
        }
        self.running.workers.join().await;
        let rest = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WAIT, rest).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.journal.close().await;
        // Whoever starts the node again in this process needs the index and its lock.
        let index = Arc::downgrade(self.running.groups.index());
        drop(self.running);
        let free = async {
            while index.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(STOP_WAIT, free).await.is_err() {
            tracing::warn!("something still uses the index of the node that has stopped");
        }
    }
}

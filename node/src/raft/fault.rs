//! Why a node must stop: one group that is dead is worse than a crash, because its node would live
//! on without it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::index::IndexError;
use crate::rare::{self, Rare};
use crate::types::NodeId;

/// What ended a node.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// The index failed its checks: it is moved away at the next start, and the replicas are rebuilt
    /// from their peers.
    #[error("{0}; it will be rebuilt from the other replicas")]
    IndexDamaged(IndexError),
    /// The index cannot be written or read.
    #[error("{0}")]
    Index(IndexError),
    /// The journal cannot be written. A failed sync is never tried again.
    #[error("the journal cannot go on: {0}")]
    Journal(String),
    /// A Raft group ended.
    #[error("shard {shard} stopped: {cause}")]
    Shard {
        /// Which.
        shard: u32,
        /// Why.
        cause: String,
    },
    /// Another process is this node as well, and the cluster has it where that one is: this one stood
    /// still, or was cut off, when the other one started from a copy of its directory.
    #[error(
        "node {node} runs at {addr} as well, and that is where the cluster has it: this process ends. One of the two directories is a copy of the other; start no second node from it"
    )]
    Replaced {
        /// Which node.
        node: NodeId,
        /// Where the other one is.
        addr: String,
    },
    /// The data directory is unusable.
    #[error("{0}")]
    Refused(String),
}

/// Where faults are reported. The first one counts. Clones share it.
#[derive(Clone)]
pub struct Faults(Arc<watch::Sender<Option<Fault>>>);

impl Default for Faults {
    fn default() -> Self {
        Faults(Arc::new(watch::Sender::new(None)))
    }
}

impl Faults {
    /// Reports a fault.
    pub fn report(&self, fault: Fault) {
        self.0.send_if_modified(|first| {
            let unset = first.is_none();
            first.get_or_insert(fault);
            unset
        });
    }

    /// Reports a failure of the index.
    pub fn index(&self, e: &IndexError) {
        self.report(match e {
            IndexError::Corrupt(_) => {
                rare::hit(Rare::IndexFailedCheck);
                Fault::IndexDamaged(e.clone())
            }
            IndexError::Failed(_) => Fault::Index(e.clone()),
        });
    }

    /// The first fault, as soon as there is one.
    pub async fn wait(&self) -> Fault {
        let mut rx = self.0.subscribe();
        // Cloned before anything else is waited for: what the channel lends holds a lock.
        let fault = rx
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|f| f.clone());
        match fault {
            Some(fault) => fault,
            None => std::future::pending().await,
        }
    }

    /// The first fault, if there is one.
    pub fn get(&self) -> Option<Fault> {
        self.0.borrow().clone()
    }
}

//! Where nodes are: in the placement, and in this node's own file for its next start.

use crate::api::cluster::Running;
use crate::identity::KeptIdentity;
use crate::machine::command::{NodeInfo, SystemOp};
use crate::raft::fault::{Fault, Faults};
use crate::transport::peers::Peers;
use crate::types::*;
use crate::workers::recall::Recall;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Keeps the cluster's idea of where this node is, and this node's idea of where the others are,
/// up to date.
pub(super) struct Announce {
    pub running: Arc<Running>,
    pub info: NodeInfo,
    pub file: Arc<KeptIdentity>,
    pub recall: Arc<Recall>,
    pub faults: Faults,
    /// Turns taken.
    pub turns: AtomicU64,
}

/// How long whoever is at this node's old address may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(1);
/// In every so manieth turn the others are asked where they believe this node to be.
const ASK_EVERY: u64 = 10;

impl Announce {
    pub async fn turn(&self) -> anyhow::Result<Option<String>> {
        let r = &self.running;
        let mut addrs: BTreeMap<NodeId, String> = r.placement.addrs();
        addrs.insert(r.node, self.info.addr.clone());
        // A replica from before this was written down along with the first one.
        let holds = !r.groups.shards().all().is_empty();
        let changed = self.file.change(|file| {
            file.peers = addrs;
            file.held |= holds;
            file.lost = r.groups.lost_keys();
        });
        // A disk that fails keeps nobody from learning where this node is.
        let changed = changed.await;
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        // What was known here before this node moved says nothing of where it is now.
        if turn % ASK_EVERY == ASK_EVERY - 1 || self.elsewhere().is_some() {
            r.placer.ask().await?;
        }
        if let Some(registered) = self.elsewhere() {
            if self.is_run_at(&registered.addr).await {
                self.faults.report(Fault::Replaced {
                    node: r.node,
                    addr: registered.addr,
                });
                return Ok(None);
            }
            r.placer
                .propose(SystemOp::SetNode(self.info.clone()))
                .await?;
            // If a copy of this node stood there, it has promised in this node's name.
            self.recall.again();
        }
        Ok(changed?.then(|| "addresses saved".into()))
    }

    /// Where the cluster has this node, as far as is known here, if that is not where it is.
    fn elsewhere(&self) -> Option<NodeInfo> {
        let r = &self.running;
        let registered = r.placement.with(|s| s.nodes.get(&r.node).cloned());
        registered.filter(|n| *n != self.info)
    }

    /// Whether another process at this address is this node as well. Two of them would take the
    /// address from each other for ever, and each would break what the other one promises.
    async fn is_run_at(&self, addr: &str) -> bool {
        let (r, own) = (&self.running, &self.running.peers.identity);
        let hello = Peers::hello(&*r.env.rpc, addr, own, PATIENCE).await;
        hello.is_ok_and(|other| {
            other.cluster_id == own.cluster_id.as_slice()
                && other.node_id == own.node.0
                && other.boot_id != own.boot_id.as_slice()
        })
    }
}

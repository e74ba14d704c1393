//! Where nodes are: in the placement, and in this node's own file for its next start.

use super::identity::is_run_at;
use crate::api::cluster::Running;
use crate::identity::KeptIdentity;
use crate::machine::command::{NodeInfo, SystemOp};
use crate::raft::fault::{Fault, Faults};
use crate::types::*;
use crate::workers::recall::Recall;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
            let own = &r.peers.identity;
            let addr = registered.addr;
            // Two of them would take the address from each other for ever, and each would break what
            // the other one promises.
            if addr != self.info.addr && is_run_at(&*r.env.rpc, &addr, own).await {
                let noted = self.file.change(|file| file.replaced_at.clone_from(&addr));
                if let Err(error) = noted.await {
                    tracing::error!(%error, "this directory must not be used again");
                }
                self.faults.report(Fault::Replaced { node: r.node, addr });
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
}

//! Where nodes are: in the placement, and in this node's own file for its next start.

use crate::api::cluster::Running;
use crate::identity::IdentityFile;
use crate::machine::command::{NodeInfo, SystemOp};
use crate::types::*;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Keeps the cluster's idea of where this node is, and this node's idea of where the others are,
/// up to date.
pub(super) struct Announce {
    pub running: Arc<Running>,
    pub info: NodeInfo,
    pub dir: PathBuf,
    pub file: Mutex<IdentityFile>,
}

impl Announce {
    pub async fn turn(&self) -> anyhow::Result<Option<String>> {
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

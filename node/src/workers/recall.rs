//! Asks the other nodes, each once, what this node's replicas have promised to them.
//!
//! A node whose data directory is an older image of itself learns at its start from those that
//! answer at once. The others are asked until they answer: what they tell ends the replicas that
//! have forgotten (`transport::promises`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::placement::PlacementMap;
use crate::raft::groups::Groups;
use crate::transport::peers::{Peers, remembered_by};
use crate::types::*;

/// How long one node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The worker.
pub struct Recall {
    /// The own replicas.
    pub groups: Arc<Groups>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// Who they are.
    pub placement: Arc<PlacementMap>,
    /// Those that have answered.
    pub asked: Mutex<BTreeSet<NodeId>>,
}

impl Recall {
    /// Everybody is asked once more.
    pub fn again(&self) {
        self.asked.lock().clear();
    }

    /// Asks those that have not answered yet, all at once.
    pub async fn turn(&self) -> anyhow::Result<Option<String>> {
        let own = self.peers.identity.node;
        let mut others: Vec<NodeId> = self.placement.addrs().into_keys().collect();
        others.retain(|node| *node != own && !self.asked.lock().contains(node));
        let answers = others.iter().map(|node| async {
            let client = self.peers.get(*node).ok()?.client;
            let promises = remembered_by(client, &self.peers.identity, PATIENCE).await?;
            Some((*node, promises))
        });
        let mut ended = 0;
        for (node, promises) in futures::future::join_all(answers)
            .await
            .into_iter()
            .flatten()
        {
            ended += self.groups.disown(&promises).await?;
            self.asked.lock().insert(node);
        }
        Ok((ended > 0).then(|| format!("{ended} replicas had forgotten what they promised")))
    }
}

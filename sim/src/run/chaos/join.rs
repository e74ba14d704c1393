//! Nodes that join in the run: their tokens, and their first start.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Chaos, Later};
use crate::plan::FirstLife;
use crate::run::cluster::Cluster;
use crate::run::nodes::NodeSlot;
use crate::world::HostId;

/// The token of a node that is about to join.
pub(super) type Token = Arc<Mutex<Option<Result<String, String>>>>;

/// A node that is about to join.
pub(super) struct Newcomer {
    /// Where it stands.
    pub zone: u32,
    /// How it dies at first, if it does.
    pub first_life: Option<FirstLife>,
}

impl Chaos {
    /// New nodes start once they have their token.
    pub(super) fn admit(&mut self, cluster: &mut Cluster) {
        let mut waiting = Vec::new();
        for (newcomer, token) in std::mem::take(&mut self.joining) {
            let given = token.lock().take();
            match given {
                None => waiting.push((newcomer, token)),
                Some(Err(_)) => {
                    // No majority gave one: the operator asks again later.
                    let at = cluster.now_ms() + 2_000;
                    self.later(at, Later::Join(newcomer));
                }
                Some(Ok(token)) => self.start(newcomer, token, cluster),
            }
        }
        self.joining.extend(waiting);
    }

    fn start(&mut self, newcomer: Newcomer, token: String, cluster: &mut Cluster) {
        let host = cluster.stage.add_host(newcomer.zone);
        for (rule, group) in &self.cuts {
            cluster.stage.net().links().take_in(*rule, host, *group);
        }
        let mut slot = NodeSlot::new(&cluster.plan, host, newcomer.zone);
        let member = cluster.nodes.iter().find(|n| n.serves());
        let member = member.or(cluster.nodes.first());
        slot.config.join = member.map(NodeSlot::addr).unwrap_or_default();
        slot.config.join_token = token;
        slot.wanted = true;
        let n = cluster.nodes.len() as u32;
        cluster.nodes.push(slot);
        let Some(life) = newcomer.first_life else {
            return;
        };
        // A node with an old image may ask this one, too, what it has promised.
        if self.over || (cluster.plan.budget && !self.asking.is_empty()) {
            cluster.stats.held_back += 1;
            return;
        }
        let event = cluster.nodes[n as usize].start(&mut cluster.stage);
        cluster.event(Some(n), event);
        self.crash(n, life.point, life.power, life.down_ms, cluster);
    }

    /// A token lasts by the clock that is furthest ahead in the cluster: when that one jumps, a node
    /// that has not used its token yet gets another, as it says that it needs.
    pub(super) fn renew(&mut self, cluster: &mut Cluster) {
        for n in 0..cluster.nodes.len() {
            let slot = &mut cluster.nodes[n];
            let refused = std::mem::take(&mut slot.token_refused);
            let needs = refused && !slot.joined && slot.retired.is_none();
            if needs && !self.renewing.iter().any(|(of, _)| *of == n) {
                let token = ask_for_token(cluster);
                self.renewing.extend(token.map(|token| (n, token)));
            }
        }
        let mut waiting = Vec::new();
        for (n, token) in std::mem::take(&mut self.renewing) {
            let given = token.lock().take();
            match given {
                None => waiting.push((n, token)),
                // No majority gave one: when the old one is refused again, the operator asks again.
                Some(Err(_)) => {}
                Some(Ok(token)) => cluster.nodes[n].config.join_token = token,
            }
        }
        self.renewing = waiting;
    }
}

/// An operator asks for a token.
pub(super) fn ask_for_token(cluster: &mut Cluster) -> Option<Token> {
    let client = cluster.client().with_deadline(Duration::from_secs(20));
    cluster.spawn_on(HostId::CLIENTS, async move {
        let token = client.create_join_token(0).await;
        token.map(|t| t.token).map_err(|e| e.to_string())
    })
}

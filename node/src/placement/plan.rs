//! What the placement should become: pure functions from what is to what to change.
//!
//! One step at a time for each shard, so that a shard never waits for two new replicas at once and
//! a plan that is made again from the same state is the same plan.

use std::collections::{BTreeMap, BTreeSet};

use crate::index::values::ShardRow;
use crate::machine::command::ReplicaInfo;
use crate::machine::system::SystemState;
use crate::types::*;

/// Nodes that vote in the system shard; the others hold learners of it.
pub const SYSTEM_VOTERS: usize = 5;

/// The new replica list of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which shard.
    pub shard: ShardId,
    /// Its replicas from now on.
    pub replicas: Vec<ReplicaInfo>,
}

/// How many replicas a shard should have, as far as there are nodes: the system shard one on each.
pub fn wanted(state: &SystemState, shard: ShardId) -> usize {
    match shard {
        ShardId::SYSTEM => state.nodes.len(),
        _ => (state.replication as usize).min(state.nodes.len()),
    }
}

/// What to change, at most one step for each shard.
///
/// - A damaged replica is replaced by a new generation on the same node.
/// - A shard with too few replicas gets one more, on the node that has the fewest, in a zone that
///   holds none of the shard's if there is one. `settled` says whether all present replicas of a
///   shard are members that have caught up; until then it gets no further one.
/// - The system shard has a replica on every node.
pub fn steps(state: &SystemState, settled: &dyn Fn(ShardId) -> bool) -> Vec<Step> {
    let mut load: BTreeMap<NodeId, usize> = state.nodes.keys().map(|n| (*n, 0)).collect();
    for replica in state.shards.values().flat_map(|row| &row.replicas) {
        *load.entry(replica.id.node()).or_default() += 1;
    }
    let mut steps = Vec::new();
    for (&shard, row) in &state.shards {
        if let Some(replicas) = replace_damaged(row) {
            steps.push(Step { shard, replicas });
            continue;
        }
        let want = wanted(state, shard);
        if row.replicas.len() >= want || !settled(shard) {
            continue;
        }
        if let Some(node) = best_node(state, row, &load) {
            *load.entry(node).or_default() += 1;
            let voters = row.replicas.iter().filter(|r| r.voter).count();
            let voter = shard != ShardId::SYSTEM || voters < SYSTEM_VOTERS;
            let id = ReplicaId::new(node, row.next_generation(node));
            let mut replicas = row.replicas.clone();
            replicas.push(ReplicaInfo { id, voter });
            steps.push(Step { shard, replicas });
        }
    }
    steps
}

/// The list with the damaged replicas replaced, one at a time; never when none would be left that is
/// whole.
fn replace_damaged(row: &ShardRow) -> Option<Vec<ReplicaInfo>> {
    let whole = row
        .replicas
        .iter()
        .filter(|r| !row.damaged.contains(&r.id))
        .count();
    let damaged = *row.damaged.first()?;
    if whole == 0 {
        return None;
    }
    let node = damaged.node();
    let fresh = ReplicaId::new(node, row.next_generation(node));
    let replaced = row.replicas.iter().map(|r| match r.id == damaged {
        true => ReplicaInfo { id: fresh, ..*r },
        false => *r,
    });
    Some(replaced.collect())
}

fn best_node(
    state: &SystemState,
    row: &ShardRow,
    load: &BTreeMap<NodeId, usize>,
) -> Option<NodeId> {
    let holders: BTreeSet<NodeId> = row.replicas.iter().map(|r| r.id.node()).collect();
    let zone = |n: &NodeId| {
        state
            .nodes
            .get(n)
            .map(|i| i.zone.as_str())
            .unwrap_or_default()
    };
    let zones: BTreeSet<&str> = holders.iter().map(zone).collect();
    let candidates = state.nodes.keys().filter(|n| !holders.contains(n));
    candidates
        .min_by_key(|n| {
            (
                zones.contains(zone(n)),
                load.get(n).copied().unwrap_or_default(),
                **n,
            )
        })
        .copied()
}

/// The node that should lead a shard when all its replicas are well: shards are dealt out to their
/// voters in turn.
pub fn preferred_leader(shard: ShardId, row: &ShardRow) -> Option<ReplicaId> {
    let mut voters: Vec<ReplicaId> = row
        .replicas
        .iter()
        .filter(|r| r.voter && !row.damaged.contains(&r.id))
        .map(|r| r.id)
        .collect();
    voters.sort_unstable();
    let turn = shard.0 as usize % voters.len().max(1);
    voters.get(turn).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::command::NodeInfo;

    fn state(nodes: &[(u32, &str)], shards: &[(u32, &[u64])]) -> SystemState {
        let node = |(id, zone): &(u32, &str)| {
            let id = NodeId(*id);
            let info = NodeInfo {
                id,
                addr: String::new(),
                lmtp_addr: String::new(),
                zone: (*zone).into(),
            };
            (id, info)
        };
        let shard = |(id, replicas): &(u32, &[u64])| {
            let replicas: Vec<ReplicaInfo> = replicas
                .iter()
                .map(|r| ReplicaInfo {
                    id: ReplicaId(*r),
                    voter: true,
                })
                .collect();
            let next_generation = replicas
                .iter()
                .map(|r| (r.id.node(), r.id.generation() + 1))
                .collect();
            (
                ShardId(*id),
                ShardRow {
                    replicas,
                    next_generation,
                    ..ShardRow::default()
                },
            )
        };
        SystemState {
            version: 1,
            replication: 3,
            nodes: nodes.iter().map(node).collect(),
            shards: shards.iter().map(shard).collect(),
            ..SystemState::default()
        }
    }

    const N1: u64 = 1 << 32;
    const N2: u64 = 2 << 32;

    #[test]
    fn a_new_node_gets_one_replica_of_each_shard_and_no_more() {
        let s = state(&[(1, "a"), (2, "a")], &[(0, &[N1]), (1, &[N1])]);
        let plan = steps(&s, &|_| true);
        assert_eq!(plan.len(), 2);
        assert!(
            plan.iter()
                .all(|s| s.replicas.len() == 2 && s.replicas[1].id.node() == NodeId(2))
        );
        assert!(
            steps(&s, &|_| false).is_empty(),
            "waits for those that are there"
        );
        let full = state(&[(1, "a"), (2, "a")], &[(0, &[N1, N2]), (1, &[N1, N2])]);
        assert!(steps(&full, &|_| true).is_empty());
    }

    #[test]
    fn zones_come_before_load() {
        let s = state(&[(1, "a"), (2, "a"), (3, "b")], &[(1, &[N1])]);
        assert_eq!(steps(&s, &|_| true)[0].replicas[1].id.node(), NodeId(3));
    }

    #[test]
    fn a_damaged_replica_gets_a_new_generation_on_its_node() {
        let mut s = state(&[(1, "a"), (2, "a")], &[(1, &[N1, N2])]);
        s.shards.get_mut(&ShardId(1)).unwrap().damaged = vec![ReplicaId(N2)];
        let plan = steps(&s, &|_| false);
        assert_eq!(plan[0].replicas[1].id, ReplicaId(N2 + 1));
        s.shards.get_mut(&ShardId(1)).unwrap().damaged = vec![ReplicaId(N1), ReplicaId(N2)];
        assert!(
            steps(&s, &|_| true).is_empty(),
            "the last whole copy may still be repaired"
        );
    }

    #[test]
    fn leaders_are_dealt_out() {
        let s = state(&[(1, "a"), (2, "a")], &[(1, &[N1, N2]), (2, &[N1, N2])]);
        let leader = |n: u32| {
            preferred_leader(ShardId(n), &s.shards[&ShardId(n)])
                .unwrap()
                .node()
        };
        assert_ne!(leader(1), leader(2));
    }
}

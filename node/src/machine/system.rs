//! The system shard: the cluster's identity, its nodes, its shards with replicas and slots, tokens.
//!
//! The version rises by one with each command that changes what clients route by. Generations of
//! replicas only grow, per shard and node, so that a replica rebuilt from nothing can never vote
//! twice in one term under one id.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{ApplyError, NodeInfo, ReplicaInfo, Reply, SystemOp};
use super::txn::limit;
use super::{Stop, Txn};
use crate::index::keys::{Key, KeyRange, Space, tag};
use crate::index::values::{self, ShardRow, SystemRow, TokenRow};
use crate::index::{Family, IndexError, Next, View};
use crate::types::*;

/// Data shards of a cluster at most.
pub const SHARDS_MAX: u32 = 4096;
/// Replicas of a shard at most.
pub const REPLICATION_MAX: u32 = 9;
/// Expired tokens that one command removes at most.
const TOKENS_TRIMMED: usize = 16;

/// All that clients and nodes route by, for a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SystemState {
    /// UUID; all zero before `Init`.
    pub cluster_id: [u8; 16],
    /// Counts changes; 0 before `Init`.
    pub version: u64,
    /// Replicas a shard should have.
    pub replication: u32,
    /// Nodes by number.
    pub nodes: BTreeMap<NodeId, NodeInfo>,
    /// Shards by number, the system shard included (without slots).
    pub shards: BTreeMap<ShardId, ShardRow>,
}

impl SystemState {
    /// The shard of a slot.
    pub fn shard_of(&self, slot: Slot) -> Option<ShardId> {
        let holds = |row: &ShardRow| row.slots.iter().any(|(a, b)| (*a..=*b).contains(&slot));
        self.shards
            .iter()
            .find(|(_, row)| holds(row))
            .map(|(shard, _)| *shard)
    }
}

impl ShardRow {
    /// The generation of the next replica on a node.
    pub fn next_generation(&self, node: NodeId) -> u32 {
        self.next_generation
            .iter()
            .find(|(n, _)| *n == node)
            .map_or(0, |(_, generation)| *generation)
    }

    /// Whether the row has this replica or had it once. One that it does not know came later: the
    /// row is an older one than whatever speaks of that replica.
    pub fn knows(&self, replica: ReplicaId) -> bool {
        replica.generation() < self.next_generation(replica.node())
    }
}

/// Reads everything; `None` before `Init`.
pub fn load(view: &dyn View, space: Space) -> Result<Option<SystemState>, IndexError> {
    let Some(system) = values::get::<SystemRow>(view, space, &Key::System)? else {
        return Ok(None);
    };
    let mut state = SystemState {
        cluster_id: system.cluster_id,
        version: system.version,
        replication: system.replication,
        ..SystemState::default()
    };
    let mut failed = None;
    let range = KeyRange {
        from: KeyRange::tag(space, tag::NODE).from,
        to: KeyRange::tag(space, tag::SHARD).to,
    };
    view.scan(Family::State, &range.from, &range.to, &mut |key, value| {
        let read = match Key::decode(key) {
            Some((_, Key::Node(id))) => values::decode(key, value).map(|node| {
                state.nodes.insert(id, node);
            }),
            Some((_, Key::Shard(id))) => values::decode(key, value).map(|shard| {
                state.shards.insert(id, shard);
            }),
            _ => Ok(()),
        };
        match read {
            Ok(()) => Next::Continue,
            Err(e) => {
                failed = Some(e);
                Next::Stop
            }
        }
    })?;
    match failed {
        Some(e) => Err(e),
        None => Ok(Some(state)),
    }
}

/// Applies `op` of a command that was made at `time_ms` by its proposer's clock.
pub(super) fn apply(txn: &mut Txn, time_ms: u64, op: &SystemOp) -> Result<Reply, Stop> {
    let system: Option<SystemRow> = txn.get(&Key::System)?;
    let formed = system.ok_or_else(|| refused("the cluster is not formed yet"));
    match op {
        SystemOp::Init {
            cluster_id,
            node,
            shards,
            replication,
        } => match system {
            Some(_) => Err(refused("the cluster is formed already").into()),
            None => init(txn, *cluster_id, node, *shards, *replication),
        },
        SystemOp::AddToken { hash, expires_ms } => {
            formed?;
            add_token(txn, *hash, expires_ms.saturating_sub(time_ms))
        }
        SystemOp::JoinNode {
            token_hash,
            join_id,
            node,
        } => join(txn, formed?, *token_hash, *join_id, node),
        SystemOp::SetNode(node) => set_node(txn, formed?, node),
        SystemOp::SetReplicas { shard, replicas } => set_replicas(txn, formed?, *shard, replicas),
        SystemOp::ReplicaDamaged { shard, replica } => {
            replica_damaged(txn, formed?, *shard, *replica)
        }
    }
}

fn refused(why: &str) -> ApplyError {
    ApplyError::Refused(why.to_owned())
}

/// Writes the system row under the next version.
fn bump(txn: &mut Txn, mut system: SystemRow) {
    system.version += 1;
    txn.put(&Key::System, &system);
    txn.placement_changed(system.version);
}

fn init(
    txn: &mut Txn,
    cluster_id: [u8; 16],
    node: &NodeInfo,
    shards: u32,
    replication: u32,
) -> Result<Reply, Stop> {
    if !(1..=SHARDS_MAX).contains(&shards) {
        return Err(limit(format!("1 to {SHARDS_MAX} data shards, not {shards}")).into());
    }
    if !(1..=REPLICATION_MAX).contains(&replication) {
        let why = format!("1 to {REPLICATION_MAX} replicas a shard, not {replication}");
        return Err(limit(why).into());
    }
    if node.id.0 == 0 || node.id.0 == u32::MAX {
        return Err(refused("a node's number is at least 1").into());
    }
    txn.put(&Key::Node(node.id), node);
    for shard in 0..=shards {
        let row = ShardRow {
            replicas: vec![ReplicaInfo {
                id: ReplicaId::new(node.id, 0),
                voter: true,
            }],
            damaged: Vec::new(),
            slots: slots_of(shard, shards).into_iter().collect(),
            next_generation: vec![(node.id, 1)],
        };
        txn.put(&Key::Shard(ShardId(shard)), &row);
    }
    let system = SystemRow {
        cluster_id,
        version: 0,
        replication,
        next_node: node.id.0 + 1,
    };
    bump(txn, system);
    Ok(Reply::Done)
}

/// The even share of the slots of data shard `shard` (from 1) of `shards`; none for shard 0.
fn slots_of(shard: u32, shards: u32) -> Option<(Slot, Slot)> {
    let start = |n: u32| (n as u64 * SLOTS as u64 / shards as u64) as u32;
    let first = start(shard.checked_sub(1)?);
    Some((Slot(first as u16), Slot((start(shard) - 1) as u16)))
}

fn add_token(txn: &mut Txn, hash: [u8; 32], lasts_ms: u64) -> Result<Reply, Stop> {
    let now_ms = txn.now_ms()?;
    // By the time that a join is judged by: a proposer whose clock is behind it by more than the
    // token lasts would give out nothing but tokens that have expired already.
    let expires_ms = now_ms.saturating_add(lasts_ms);
    let range = KeyRange::tag(txn.space(), tag::TOKEN);
    let mut expired = Vec::new();
    txn.scan(Family::State, &range.from, &range.to, &mut |key, value| {
        if let (Some((_, Key::Token(hash))), Some(row)) = (Key::decode(key), token(value))
            && row.expires_ms <= now_ms
        {
            expired.push(hash);
        }
        match expired.len() < TOKENS_TRIMMED {
            true => Next::Continue,
            false => Next::Stop,
        }
    })?;
    for hash in expired {
        txn.delete(&Key::Token(hash));
    }
    txn.put(&Key::Token(hash), &TokenRow { expires_ms });
    Ok(Reply::Done)
}

fn token(value: &[u8]) -> Option<TokenRow> {
    values::Row::decode(value)
}

fn join(
    txn: &mut Txn,
    mut system: SystemRow,
    token_hash: [u8; 32],
    join_id: [u8; 16],
    node: &NodeInfo,
) -> Result<Reply, Stop> {
    if let Some(node) = txn.get(&Key::Join(join_id))? {
        return Ok(Reply::Joined { node });
    }
    let now_ms = txn.now_ms()?;
    let token: Option<TokenRow> = txn.get(&Key::Token(token_hash))?;
    if token.is_none_or(|t| t.expires_ms <= now_ms) {
        return Err(ApplyError::BadToken.into());
    }
    if system.next_node == u32::MAX {
        return Err(limit("the cluster has no node numbers left").into());
    }
    let id = NodeId(system.next_node);
    system.next_node += 1;
    txn.delete(&Key::Token(token_hash));
    txn.put(&Key::Join(join_id), &id);
    let node = NodeInfo { id, ..node.clone() };
    txn.put(&Key::Node(id), &node);
    bump(txn, system);
    Ok(Reply::Joined { node: id })
}

fn set_node(txn: &mut Txn, system: SystemRow, node: &NodeInfo) -> Result<Reply, Stop> {
    let key = Key::Node(node.id);
    let known: NodeInfo = txn
        .get(&key)?
        .ok_or_else(|| refused("the node is not a member of the cluster"))?;
    if known != *node {
        txn.put(&key, node);
        bump(txn, system);
    }
    Ok(Reply::Done)
}

fn set_replicas(
    txn: &mut Txn,
    system: SystemRow,
    shard: ShardId,
    replicas: &[ReplicaInfo],
) -> Result<Reply, Stop> {
    let key = Key::Shard(shard);
    let mut row: ShardRow = txn.get(&key)?.ok_or_else(|| refused("no such shard"))?;
    if replicas.is_empty() {
        return Err(refused("a shard has at least one replica").into());
    }
    let nodes: BTreeSet<NodeId> = replicas.iter().map(|r| r.id.node()).collect();
    if nodes.len() != replicas.len() {
        return Err(refused("a shard has at most one replica on a node").into());
    }
    let mut generations: BTreeMap<NodeId, u32> = row.next_generation.iter().copied().collect();
    for replica in replicas {
        let (node, generation) = (replica.id.node(), replica.id.generation());
        if row.replicas.iter().any(|r| r.id == replica.id) {
            continue;
        }
        if !txn.has(&Key::Node(node))? {
            return Err(refused("a replica's node is not a member of the cluster").into());
        }
        if generation < row.next_generation(node) || generation == u32::MAX {
            return Err(refused("a replica's generation is never used again").into());
        }
        generations.insert(node, generation + 1);
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_by_key(|r| r.id);
    if sorted == row.replicas {
        return Ok(Reply::Done);
    }
    row.damaged.retain(|id| sorted.iter().any(|r| r.id == *id));
    row.replicas = sorted;
    row.next_generation = generations.into_iter().collect();
    txn.put(&key, &row);
    bump(txn, system);
    Ok(Reply::Done)
}

/// Marks it; the reconciler takes it out of the list and puts a new generation in its place.
fn replica_damaged(
    txn: &mut Txn,
    system: SystemRow,
    shard: ShardId,
    replica: ReplicaId,
) -> Result<Reply, Stop> {
    let key = Key::Shard(shard);
    let mut row: ShardRow = txn.get(&key)?.ok_or_else(|| refused("no such shard"))?;
    let listed = row.replicas.iter().any(|r| r.id == replica);
    if !listed || row.damaged.contains(&replica) {
        return Ok(Reply::Done);
    }
    row.damaged.push(replica);
    row.damaged.sort_unstable();
    txn.put(&key, &row);
    bump(txn, system);
    Ok(Reply::Done)
}

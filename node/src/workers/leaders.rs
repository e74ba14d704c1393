//! Spreads leaders over the nodes: every shard has a node that should lead it when all is well, and
//! a leader that is not it hands over once that node has caught up. Nothing moves while a shard has
//! a replica that is away, because then a transfer is more likely to hurt than to help.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{RaftMetrics, ServerState};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::placement::{PlacementMap, plan};
use crate::raft::types::TypeConfig;
use crate::raft::{Shard, Shards};
use crate::rare::{self, Rare};
use crate::types::*;

/// A leader keeps its office at least so long.
const SETTLE: Duration = Duration::from_secs(5);
/// Entries that the successor may be behind.
const CLOSE: u64 = 64;
/// A follower whose last answer is older than this is away.
const AWAY: Duration = Duration::from_secs(1);

/// Hands over shards that others should lead.
pub struct Leaders {
    shards: Arc<Shards>,
    placement: Arc<PlacementMap>,
    since: Mutex<BTreeMap<ShardId, Instant>>,
}

impl Leaders {
    /// Over these replicas.
    pub fn new(shards: Arc<Shards>, placement: Arc<PlacementMap>) -> Leaders {
        Leaders {
            shards,
            placement,
            since: Mutex::default(),
        }
    }

    /// Hands over at most one shard.
    pub async fn turn(&self) -> anyhow::Result<Option<String>> {
        for shard in self.shards.all() {
            let id = shard.id();
            if !shard.is_leader() {
                self.since.lock().remove(&id);
                continue;
            }
            let since = *self.since.lock().entry(id).or_insert_with(Instant::now);
            if since.elapsed() < SETTLE {
                continue;
            }
            let preferred = self.placement.with(|s| {
                s.shards
                    .get(&id)
                    .and_then(|row| plan::preferred_leader(id, row))
            });
            let Some(to) = preferred.filter(|to| *to != shard.replica()) else {
                continue;
            };
            if ready(&shard, to) {
                self.since.lock().insert(id, Instant::now());
                let outcome = match shard.transfer(to).await {
                    true => {
                        rare::hit(Rare::LeaderMoved);
                        "handed over"
                    }
                    false => "could not be handed over",
                };
                return Ok(Some(format!("shard {id} {outcome} to node {}", to.node())));
            }
        }
        Ok(None)
    }
}

/// Whether every voter is there and the successor has all but the newest entries.
fn ready(shard: &Shard, to: ReplicaId) -> bool {
    let metrics = shard.raft.metrics();
    let m = metrics.borrow_watched();
    if m.state != ServerState::Leader {
        return false;
    }
    // A transfer while the members change would end the change.
    if m.membership_config.membership().get_joint_config().len() > 1 {
        return false;
    }
    let voters = m.membership_config.membership().voter_ids();
    let here = |id: ReplicaId| id == shard.replica() || answers(&m, id);
    let voters: Vec<ReplicaId> = voters.collect();
    is_close(&m, to) && voters.contains(&to) && voters.into_iter().all(here)
}

/// Whether a replica can take its shard over from this leader now: it answers, and has all but the
/// newest entries. From any other the shard would only get a pause: its leader takes nothing more
/// once it has begun to hand over, until it has waited in vain.
pub fn can_succeed(shard: &Shard, to: ReplicaId) -> bool {
    let metrics = shard.raft.metrics();
    let m = metrics.borrow_watched();
    is_close(&m, to) && answers(&m, to)
}

/// Whether a follower has all but the newest entries.
fn is_close(m: &RaftMetrics<TypeConfig>, id: ReplicaId) -> bool {
    let last = m.last_log_index.unwrap_or(0);
    let matched = m
        .replication
        .as_ref()
        .and_then(|r| r.get(&id))
        .and_then(|l| l.map(|l| l.index()));
    matched.is_some_and(|matched| matched + CLOSE >= last)
}

/// Whether a follower has answered this leader lately. One that has never heard from it has not.
fn answers(m: &RaftMetrics<TypeConfig>, id: ReplicaId) -> bool {
    m.heartbeat
        .as_ref()
        .and_then(|h| h.get(&id))
        .and_then(|seen| seen.as_ref())
        .is_some_and(|seen| openraft::Instant::elapsed(&**seen) < AWAY)
}

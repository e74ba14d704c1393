//! What the replicas of the cluster look like at one moment, read from the nodes themselves.

use openraft::async_runtime::WatchReceiver;
use posthouse_node::machine::hash;
use posthouse_node::raft::Shard;
use posthouse_node::raft::log::Found;
use posthouse_node::raft::state_machine::Applied;
use posthouse_node::raft::types::{LogId, Vote};

use super::cluster::Cluster;

/// One replica.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Node of the plan.
    pub node: u32,
    /// Life of its process.
    pub incarnation: u32,
    /// How many old images its node's directory has been restored from: each is another disk.
    pub images: u32,
    /// Shard.
    pub shard: u32,
    /// Its id: node and generation.
    pub id: u64,
    /// Its role: `leader`, `follower`, `candidate`, `learner`.
    pub role: &'static str,
    /// Its term.
    pub term: u64,
    /// Whom it follows, or has voted for last.
    pub vote: Promise,
    /// The part of that which is durable.
    pub durable_vote: Promise,
    /// Its last entry.
    pub last: Option<LogId>,
    /// What it knows to be committed.
    pub committed: Option<LogId>,
    /// What its log was told to be committed, each time before it is applied.
    pub marked: Option<LogId>,
    /// What it has applied.
    pub applied: Option<LogId>,
    /// What is applied and durable in its index.
    pub persisted: Option<LogId>,
    /// What its log no longer holds.
    pub purged: Option<LogId>,
    /// For a leader: how far each member's log is known to be equal to its own.
    pub matched: Vec<(u64, Option<LogId>)>,
    /// Voters of the last membership, as it knows it, sorted; more than one set while it changes.
    pub voters: Vec<Vec<u64>>,
}

/// A vote: the term, the replica that it is for, and whether that one was elected. Later ones are
/// greater.
pub type Promise = (u64, u64, bool);

fn promise(vote: Option<Vote>) -> Promise {
    vote.map_or_else(Promise::default, |vote| {
        (
            vote.leader_id.term,
            vote.leader_id.node_id.0,
            vote.committed,
        )
    })
}

/// Reads one replica.
pub fn replica(node: u32, incarnation: u32, images: u32, shard: &Shard) -> Replica {
    let metrics = shard.raft.metrics();
    let m = metrics.borrow_watched();
    use openraft::ServerState::*;
    let role = match m.state {
        Leader => "leader",
        Follower => "follower",
        Candidate => "candidate",
        Learner => "learner",
        _ => "down",
    };
    // A group that has only just been started says 0 until it has read its log.
    let term = match m.current_term {
        0 => shard.log.vote().map_or(0, |vote| vote.leader_id.term),
        term => term,
    };
    let matched = m.replication.iter().flatten();
    let configs = m.membership_config.membership().get_joint_config();
    Replica {
        node,
        incarnation,
        images,
        shard: shard.id().0,
        id: shard.replica().0,
        role,
        term,
        vote: promise(shard.log.vote()),
        durable_vote: promise(shard.log.marks().vote),
        last: shard.log.last(),
        committed: m.local_committed,
        marked: shard.log.committed(),
        applied: *shard.replicated.applied.borrow(),
        persisted: *shard.replicated.persisted.borrow(),
        purged: shard.log.purged(),
        matched: matched.map(|(id, log)| (id.0, *log)).collect(),
        voters: configs
            .iter()
            .map(|set| set.iter().map(|id| id.0).collect())
            .collect(),
    }
}

/// The id of the entry at an index of a replica's log, if the log holds it.
pub fn id_at(shard: &Shard, index: u64) -> Option<LogId> {
    use openraft::entry::RaftEntry;
    match shard.log.find(index)? {
        Found::Cached(entry) => Some(entry.log_id()),
        Found::At(id, _) => Some(id),
    }
}

/// What a replica has applied, and the hash of its replicated rows.
pub fn state(shard: &Shard) -> Option<(u64, [u8; 32])> {
    let rows = shard.local_view().ok()?;
    let applied = Applied::load(&*rows.view, rows.space).ok()??;
    let (hash, _) = hash::state(&*rows.view, rows.space).ok()?;
    Some((applied.log_id.map_or(0, |l| l.index), hash))
}

impl Cluster {
    /// Every replica of every node that serves.
    pub fn for_each_replica(&self, mut visit: impl FnMut(&Replica, &Shard)) {
        for (n, node) in self.nodes.iter().enumerate() {
            let Some(running) = node.running() else {
                continue;
            };
            let incarnation = self.stage.host(node.host).incarnation;
            for shard in running.groups.shards().all() {
                visit(&replica(n as u32, incarnation, node.images, &shard), &shard);
            }
        }
    }
}

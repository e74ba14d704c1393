//! What other nodes' replicas have promised to this one: votes that they gave, entries that they
//! have made durable.
//!
//! A node whose data directory comes back from an older image (a restored snapshot of its disk, a
//! copy of a copy) has forgotten such promises without a trace of its own: its files are whole, only
//! old. Raft has no defence, because it takes what a replica has once made durable to stay so
//! (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", USENIX ATC '14,
//! figure 2: persistent state). A replica that votes again with less than it once acknowledged can
//! elect a leader that lacks acknowledged mail. But those to whom it promised remember, and a node
//! that starts asks them before it votes.
//!
//! Compared is what Raft compares: the leader that a replica follows first, then the end of its
//! log. Under one leader a log only grows, and whoever follows a later one may rightly hold less.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::raft::types::*;
use crate::types::*;

/// The most that a replica is known to have made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Of which shard.
    pub shard: ShardId,
    /// Which replica.
    pub replica: ReplicaId,
    /// It has voted for this leader, or follows it: term and replica.
    pub leader: (u64, ReplicaId),
    /// Under this leader its log held everything up to here; `None` when that is not known.
    pub last: Option<LogId>,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (term, leader) = self.leader;
        write!(
            f,
            "replica {} of shard {} followed {leader} in term {term}, up to entry {}",
            self.replica,
            self.shard,
            self.last.map_or(0, |l| l.index())
        )
    }
}

/// The leader that a vote is for.
pub fn leader_of(vote: &Vote) -> (u64, ReplicaId) {
    (vote.leader_id.term, vote.leader_id.node_id)
}

impl Promise {
    fn rank(&self) -> (ReplicaId, (u64, ReplicaId), Option<LogId>) {
        (self.replica, self.leader, self.last)
    }

    /// Whether replica `replica`, whose vote and log are these, has forgotten this promise of its
    /// own or of a later replica on the same node.
    pub fn is_forgotten_by(
        &self,
        replica: ReplicaId,
        vote: Option<&Vote>,
        last: Option<LogId>,
    ) -> bool {
        if self.replica != replica {
            return self.replica > replica;
        }
        match vote.map(leader_of) {
            Some(leader) if leader > self.leader => false,
            Some(leader) if leader == self.leader => last < self.last,
            _ => true,
        }
    }
}

/// The promises of all replicas that this node has dealt with, as long as it runs.
#[derive(Debug, Default)]
pub struct Promises(Mutex<BTreeMap<(NodeId, ShardId), Promise>>);

impl Promises {
    /// Takes note of a promise, unless more was promised before.
    pub fn note(&self, promise: Promise) {
        let mut all = self.0.lock();
        let known = all
            .entry((promise.replica.node(), promise.shard))
            .or_insert(promise);
        if known.rank() < promise.rank() {
            *known = promise;
        }
    }

    /// What the replicas of `node` have promised.
    pub fn of(&self, node: NodeId) -> Vec<Promise> {
        let all = self.0.lock();
        let (from, to) = (ShardId(0), ShardId(u32::MAX));
        all.range((node, from)..=(node, to))
            .map(|(_, p)| *p)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(3);

    fn replica(node: u32, generation: u32) -> ReplicaId {
        ReplicaId::new(NodeId(node), generation)
    }

    fn promise(generation: u32, term: u64, last: Option<(u64, u64)>) -> Promise {
        Promise {
            shard: SHARD,
            replica: replica(2, generation),
            leader: (term, replica(1, 0)),
            last: last.map(|(term, index)| log_id(term, replica(1, 0), index)),
        }
    }

    #[test]
    fn the_most_is_remembered() {
        let promises = Promises::default();
        let steps = [
            (promise(0, 4, Some((4, 10))), promise(0, 4, Some((4, 10)))),
            // Less under the same leader comes late; a vote for the next one counts more.
            (promise(0, 4, Some((4, 9))), promise(0, 4, Some((4, 10)))),
            (promise(0, 5, None), promise(0, 5, None)),
            (promise(0, 4, Some((4, 11))), promise(0, 5, None)),
            (promise(0, 5, Some((4, 8))), promise(0, 5, Some((4, 8)))),
            // A new replica is another one, and its predecessor is of no interest any more.
            (promise(1, 1, None), promise(1, 1, None)),
            (promise(0, 9, None), promise(1, 1, None)),
        ];
        for (noted, then) in steps {
            promises.note(noted);
            assert_eq!(promises.of(NodeId(2)), [then]);
        }
        assert!(promises.of(NodeId(1)).is_empty());
    }

    #[test]
    fn what_is_older_than_a_promise_has_forgotten_it() {
        let made = promise(1, 5, Some((5, 20)));
        let vote = |term| Vote::new(term, replica(1, 0));
        let at = |term, index| Some(log_id(term, replica(1, 0), index));
        let forgot = |generation, vote: Option<Vote>, last| {
            made.is_forgotten_by(replica(2, generation), vote.as_ref(), last)
        };
        assert!(!forgot(1, Some(vote(5)), at(5, 20)));
        assert!(!forgot(1, Some(vote(5)), at(5, 21)));
        // A later leader may have replaced entries.
        assert!(!forgot(1, Some(vote(6)), at(5, 3)));
        assert!(forgot(1, Some(vote(5)), at(5, 19)));
        // Longer, but of an earlier leader: not yet truncated.
        assert!(forgot(1, Some(vote(5)), at(4, 30)));
        assert!(forgot(1, Some(vote(5)), None));
        assert!(forgot(1, Some(vote(4)), at(4, 30)));
        assert!(forgot(1, None, None));
        // An image from before the replica was replaced; and a replica that was born since.
        assert!(forgot(0, Some(vote(9)), at(9, 99)));
        assert!(!forgot(2, None, None));
    }
}

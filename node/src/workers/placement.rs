//! Makes what is into what the placement says, and the placement into what it should be.
//!
//! Three loops that need not know of each other, because each only compares and corrects:
//!
//! ```text
//!   plan     on the system shard's leader:  placement  ──▶ better placement (plan::steps)
//!   hold     on every node:                 placement  ──▶ replicas opened, created, removed here
//!   members  on every shard's leader:       placement  ──▶ learners added, voters changed
//! ```
//!
//! A node without a replica of the system shard (it has just joined, or its own was damaged) asks
//! the other nodes for the placement, each time another one first: who is asked may know no more.
//!
//! A placement may be an old one: a node that starts applies the log of the system shard again, and
//! on the way it sees what the placement was long ago. Nobody may take what such a placement does not
//! know yet for something that it no longer has (`ShardRow::knows`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::async_runtime::WatchReceiver;
use openraft::{ChangeMembers, EmptyNode};
use tokio::time::Instant;

use crate::env::clock::Clock;
use crate::index::values::ShardRow;
use crate::machine::command::{Command, Op, Reply, SystemOp};
use crate::machine::system::{self, SystemState};
use crate::placement::{PlacementMap, plan};
use crate::raft::groups::{Groups, LostReplica};
use crate::raft::{Shard, ShardError};
use crate::rare::{self, Rare};
use crate::transport::peers::Peers;
use crate::transport::proto::{
    GetSystemRequest, GetSystemResponse, ProposeRequest, ProposeResponse, ReplicaStatusRequest,
};
use crate::types::*;

/// Entries that a learner may be behind when it becomes a voter.
const CAUGHT_UP: u64 = 256;
const CALL: Duration = Duration::from_secs(3);
/// A node that has not answered by then is not waited for alone: the next one is asked beside it.
const NEXT: Duration = Duration::from_millis(250);
/// How long one change of a shard's members may take.
const CHANGE: Duration = Duration::from_secs(3);

/// The next of the answers that are awaited, `Some(None)` after the last one. With `others` to ask,
/// `None` when it is time to ask the next of them beside these.
async fn next_answer<F: Future>(
    asked: &mut FuturesUnordered<F>,
    others: bool,
) -> Option<Option<F::Output>> {
    match others {
        true => tokio::time::timeout(NEXT, asked.next()).await.ok(),
        false => Some(asked.next().await),
    }
}

/// How a replica that runs stands.
struct Standing {
    /// Whether it leads its shard.
    leader: bool,
    /// The newest entry that it has applied.
    applied: u64,
}

/// What came of one turn over all shards: a failure of one must not keep the others from theirs.
#[derive(Default)]
struct Turn {
    did: Vec<String>,
    failed: Option<anyhow::Error>,
}

impl Turn {
    fn note(&mut self, shard: ShardId, outcome: anyhow::Result<Option<String>>) {
        match outcome {
            Ok(did) => self.did.extend(did),
            Err(e) => {
                let e = e.context(format!("shard {shard}"));
                self.failed.get_or_insert(e);
            }
        }
    }

    fn outcome(self) -> anyhow::Result<Option<String>> {
        match self.failed {
            Some(e) => Err(e),
            None => Ok((!self.did.is_empty()).then(|| self.did.join(", "))),
        }
    }
}

/// Carries placements out on one node.
pub struct Placer {
    /// This node.
    pub node: NodeId,
    /// Its replicas.
    pub groups: Arc<Groups>,
    /// Its placement.
    pub placement: Arc<PlacementMap>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// How often the others have been asked for the placement.
    pub asks: AtomicUsize,
}

impl Placer {
    /// Takes the newest placement from the own replica of the system shard, or from another node.
    pub async fn learn(&self) -> anyhow::Result<Option<String>> {
        if let Some(system) = self.groups.shards().get(ShardId::SYSTEM) {
            self.load(&system)?;
            return Ok(None);
        }
        self.ask().await
    }

    /// Asks the other nodes for the placement, whatever the own replica of the system shard says. It
    /// may be behind for good: a leader that looks for this node where it is not never reaches it.
    ///
    /// One answer is enough for a turn, but not the same node's in every turn: one that has no replica
    /// of the system shard either tells only what it was told, and two that asked nobody but each
    /// other would never hear of what has been put in the place of their lost replicas.
    pub async fn ask(&self) -> anyhow::Result<Option<String>> {
        let others = self.placement.addrs().into_keys();
        let mut queue: VecDeque<NodeId> = others.filter(|n| *n != self.node).collect();
        // Another one comes first each time.
        let turn = self.asks.fetch_add(1, Ordering::Relaxed) % queue.len().max(1);
        queue.rotate_left(turn);
        let mut asked = FuturesUnordered::new();
        loop {
            if let Some(node) = queue.pop_front() {
                asked.push(self.system_of(node));
            }
            let Some(answer) = next_answer(&mut asked, !queue.is_empty()).await else {
                continue;
            };
            match answer {
                Some(Some((node, answer))) => {
                    let state: SystemState = postcard::from_bytes(&answer.state)
                        .context("another node's placement cannot be read")?;
                    // One that knows none itself has told nothing.
                    if state.version == 0 {
                        continue;
                    }
                    self.placement.update(state);
                    rare::hit(Rare::PlacementFromPeer);
                    return Ok(Some(format!("placement from node {node}")));
                }
                None if queue.is_empty() => return Ok(None),
                _ => {}
            }
        }
    }

    /// The placement that one node knows; none if it does not answer.
    async fn system_of(&self, node: NodeId) -> Option<(NodeId, GetSystemResponse)> {
        let mut peer = self.peers.get(node).ok()?;
        let ask = peer.client.get_system(GetSystemRequest {
            cluster_id: self.peers.identity.cluster_id.to_vec().into(),
        });
        let answer = tokio::time::timeout(CALL, ask).await.ok()?.ok()?;
        Some((node, answer.into_inner()))
    }

    /// Takes the placement from a replica of the system shard.
    pub fn load(&self, system: &Shard) -> anyhow::Result<()> {
        let rows = system.local_view()?;
        if let Some(state) = system::load(&*rows.view, rows.space)? {
            self.placement.update(state);
        }
        Ok(())
    }

    /// Proposes a change of the system shard, wherever its leader is. Nodes that do not answer cost
    /// [`NEXT`] each and not a whole [`CALL`]: a join or a token must not wait for every node that is
    /// off. While one is silent, the own replica and those that have answered are asked again: they
    /// may lead by now, or know who does.
    pub async fn propose(&self, op: SystemOp) -> anyhow::Result<Reply> {
        let command = self.command(op);
        let encoded: Bytes = postcard::to_stdvec(&command)?.into();
        let begin = Instant::now();
        let mut asked = FuturesUnordered::new();
        // Who owes an answer, or has failed to give one; and this node, which is asked otherwise.
        let mut silent = BTreeSet::from([self.node]);
        loop {
            let mut hint = None;
            if let Some(system) = self.groups.shards().get(ShardId::SYSTEM) {
                match system.propose(command.clone(), Bytes::new()).await {
                    Ok(reply) => return Ok(reply),
                    Err(ShardError::NotLeader { leader }) => hint = leader,
                    Err(e) => return Err(e.into()),
                }
            }
            let others = self.placement.addrs().into_keys();
            let mut queue: VecDeque<NodeId> = hint.into_iter().chain(others).collect();
            let mut tried = silent.clone();
            loop {
                while let Some(node) = queue.pop_front() {
                    if tried.insert(node) {
                        silent.insert(node);
                        asked.push(self.propose_to(node, encoded.clone()));
                        break;
                    }
                }
                let more = !queue.is_empty() || begin.elapsed() < CALL;
                let Some(answer) = next_answer(&mut asked, more).await else {
                    match queue.is_empty() {
                        true => break,
                        false => continue,
                    }
                };
                match answer {
                    Some((node, Some(answer))) => {
                        if answer.error == 0 {
                            let reply = postcard::from_bytes(&answer.reply);
                            return reply.context("a reply that cannot be read");
                        }
                        silent.remove(&node);
                        if answer.leader_node != 0 {
                            queue.push_front(NodeId(answer.leader_node));
                        }
                    }
                    None if queue.is_empty() => {
                        return Err(anyhow!("the system shard has no leader that answers"));
                    }
                    _ => {}
                }
            }
        }
    }

    fn command(&self, op: SystemOp) -> Command {
        Command {
            time_ms: self.clock.now_ms(),
            op: Op::System(op),
        }
    }

    /// What one node says to a change of the system shard; none if it does not answer.
    async fn propose_to(&self, node: NodeId, command: Bytes) -> (NodeId, Option<ProposeResponse>) {
        let request = ProposeRequest {
            shard: ShardId::SYSTEM.0,
            command,
            stored: Bytes::new(),
        };
        let answer = async {
            let mut peer = self.peers.get(node).ok()?;
            let answer = tokio::time::timeout(CALL, peer.client.propose(request)).await;
            Some(answer.ok()?.ok()?.into_inner())
        };
        (node, answer.await)
    }

    /// On the leader of the system shard: takes the next steps of the plan.
    pub async fn plan(&self) -> anyhow::Result<Option<String>> {
        let Some(system) = self.groups.shards().get(ShardId::SYSTEM) else {
            return Ok(None);
        };
        if !system.is_leader() {
            return Ok(None);
        }
        let rows = system.read().await?;
        let Some(state) = system::load(&*rows.view, rows.space)? else {
            return Ok(None);
        };
        let mut settled = BTreeMap::new();
        let mut unled = BTreeSet::new();
        for (shard, row) in &state.shards {
            // A lost replica loses its rows when it begins anew. While nobody leads without it, they
            // may be the only ones: the replicas that are whole may have nothing yet.
            if !row.damaged.is_empty() && !self.led(*shard, row).await {
                unled.insert(*shard);
            }
            let want = plan::wanted(&state, *shard);
            if row.replicas.len() < want {
                settled.insert(
                    *shard,
                    self.settled(*shard, row.replicas.iter().map(|r| r.id))
                        .await,
                );
            }
        }
        let mut steps = plan::steps(&state, &|shard| {
            settled.get(&shard).copied().unwrap_or(true)
        });
        steps.retain(|step| !unled.contains(&step.shard));
        let n = steps.len();
        for step in steps {
            let op = SystemOp::SetReplicas {
                shard: step.shard,
                replicas: step.replicas,
            };
            // Here and nowhere else: what this leader has planned must not overtake its successor.
            let command = self.command(op);
            if let Reply::Error(e) = system.propose(command, Bytes::new()).await? {
                return Err(anyhow!("shard {}: {e}", step.shard));
            }
        }
        if n == 0 && !unled.is_empty() {
            let unled: Vec<String> = unled.iter().map(ToString::to_string).collect();
            return Ok(Some(format!(
                "lost replicas are not replaced while nobody leads their shards: {}",
                unled.join(", ")
            )));
        }
        Ok((n > 0).then(|| format!("{n} shards get another replica")))
    }

    /// Whether one of the replicas of a shard that are whole leads it.
    async fn led(&self, shard: ShardId, row: &ShardRow) -> bool {
        let whole = row.replicas.iter().map(|r| r.id);
        for replica in whole.filter(|id| !row.damaged.contains(id)) {
            let standing = self.standing(shard, replica).await;
            if standing.is_some_and(|s| s.leader) {
                return true;
            }
        }
        false
    }

    /// Whether all replicas of a shard run and are close to its leader.
    async fn settled(&self, shard: ShardId, replicas: impl Iterator<Item = ReplicaId>) -> bool {
        let mut applied = Vec::new();
        for replica in replicas {
            match self.standing(shard, replica).await {
                Some(standing) => applied.push(standing.applied),
                None => return false,
            }
        }
        let (min, max) = (applied.iter().min(), applied.iter().max());
        min.zip(max)
            .is_some_and(|(min, max)| min + CAUGHT_UP >= *max)
    }

    /// How a replica stands, here or at another node; `None` when it does not run, or its node does
    /// not say so in time.
    async fn standing(&self, shard: ShardId, replica: ReplicaId) -> Option<Standing> {
        if replica.node() == self.node {
            let own = self.groups.shards().get(shard)?;
            let applied = own.replicated.applied.borrow().map_or(0, |l| l.index());
            let leader = own.is_leader();
            return (own.replica() == replica).then_some(Standing { leader, applied });
        }
        let mut peer = self.peers.get(replica.node()).ok()?;
        let ask = peer
            .client
            .replica_status(ReplicaStatusRequest { shard: shard.0 });
        let answer = tokio::time::timeout(CALL, ask).await.ok()?.ok()?;
        let told = answer.into_inner();
        (told.present && told.replica_id == replica.0).then_some(Standing {
            leader: told.leader,
            applied: told.applied,
        })
    }

    /// On every node: replicas that the placement gives it are opened, others removed, lost ones
    /// reported.
    pub async fn hold(&self) -> anyhow::Result<Option<String>> {
        self.learn().await?;
        let state = self.placement.state();
        if state.version == 0 {
            let system = |l: &LostReplica| l.shard == ShardId::SYSTEM;
            return match self.groups.lost().iter().any(system) {
                true => Err(anyhow!(
                    "the system shard lost acknowledged data here, and no other node tells the placement: if there is none, restore this node's data directory from a backup"
                )),
                false => Ok(None),
            };
        }
        let mut turn = Turn::default();
        for (&shard, row) in &state.shards {
            let held = self.hold_one(shard, row).await;
            turn.note(shard, held);
        }
        turn.outcome()
    }

    async fn hold_one(&self, shard: ShardId, row: &ShardRow) -> anyhow::Result<Option<String>> {
        let mine = row.replicas.iter().find(|r| r.id.node() == self.node);
        let running = self.groups.shards().get(shard);
        // Looked up after it: a replica that is ended is known to be lost before it is gone.
        let lost = self.groups.lost();
        let lost = lost.iter().rev().find(|l| l.shard == shard);
        // The first replica of a shard, and the only one: it begins the shard.
        let begins = |id: ReplicaId| row.replicas.len() == 1 && id.generation() == 0;
        match (mine, running) {
            (Some(mine), Some(running)) if running.replica() == mine.id => {
                // The process may have died between its creation and its first entry.
                if begins(mine.id) && running.log.last().is_none() {
                    self.groups.initialize(&running).await?;
                    return Ok(Some(format!("shard {shard} begins")));
                }
            }
            (Some(mine), Some(running)) if running.replica() < mine.id => {
                self.groups.remove(shard).await?;
                if lost.is_some_and(|lost| lost.replica >= mine.id) {
                    // It has voted and must not begin anew: its loss is reported next.
                    return Ok(Some(format!("shard {shard} left this node")));
                }
                self.groups.create(shard, mine.id).await?;
                let did = format!("shard {shard} starts again as replica {}", mine.id);
                return Ok(Some(did));
            }
            (Some(mine), None) => match lost {
                Some(lost) if lost.replica >= mine.id => {
                    self.report(*lost, row.replicas.len()).await?
                }
                _ => {
                    let created = self.groups.create(shard, mine.id).await?;
                    if let Some(lost) = lost {
                        rare::hit(Rare::ReplicaReplaced);
                        self.groups.forget_lost(*lost);
                    }
                    if begins(mine.id) {
                        self.groups.initialize(&created).await?;
                    }
                    return Ok(Some(format!("shard {shard} gets replica {}", mine.id)));
                }
            },
            (None, Some(running)) => {
                // Leave only once the shard's members agree: until then the vote may be needed.
                let metrics = running.raft.metrics();
                let member = {
                    let m = metrics.borrow_watched();
                    m.membership_config
                        .membership()
                        .nodes()
                        .any(|(id, _)| *id == running.replica())
                };
                // A placement from before this replica says nothing of it, and what it has
                // acknowledged under this name while it learns must not be forgotten.
                if !member && row.knows(running.replica()) {
                    self.groups.remove(shard).await?;
                    return Ok(Some(format!("shard {shard} left this node")));
                }
            }
            // Replaced on another node: there is nothing left to report. A placement from before
            // the lost replica does not say that, and a newer one would have it begin anew, empty,
            // under the name that it has voted with.
            (None, None) => {
                if let Some(lost) = lost.filter(|l| row.knows(l.replica)) {
                    self.groups.forget_lost(*lost);
                }
            }
            (Some(_), Some(_)) => {}
        }
        Ok(None)
    }

    async fn report(&self, lost: LostReplica, replicas: usize) -> anyhow::Result<()> {
        if replicas == 1 {
            return Err(anyhow!(
                "shard {} lost acknowledged data and has no other replica: restore this node's data directory from a backup",
                lost.shard
            ));
        }
        let op = SystemOp::ReplicaDamaged {
            shard: lost.shard,
            replica: lost.replica,
        };
        self.propose(op).await?;
        rare::hit(Rare::LossReported);
        Ok(())
    }

    /// On every leader: brings the members of the shard to what the placement says, one change at a
    /// time.
    pub async fn members(&self) -> anyhow::Result<Option<String>> {
        let mut turn = Turn::default();
        for shard in self.groups.shards().all() {
            if !shard.is_leader() {
                continue;
            }
            // Without a quorum a change waits, and must not keep the other shards waiting.
            let change = tokio::time::timeout(CHANGE, self.change_members(&shard));
            let changed = change.await.unwrap_or_else(|_| {
                rare::hit(Rare::MembersWait);
                Err(anyhow!("a change of members waits for a quorum"))
            });
            turn.note(shard.id(), changed);
        }
        turn.outcome()
    }

    async fn change_members(&self, shard: &Shard) -> anyhow::Result<Option<String>> {
        let wanted = self.placement.with(|s| s.shards.get(&shard.id()).cloned());
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let (joint, voters, members, last, matched) = {
            let metrics = shard.raft.metrics();
            let m = metrics.borrow_watched();
            let membership = m.membership_config.membership();
            let voters: BTreeSet<ReplicaId> = membership.voter_ids().collect();
            let members: BTreeSet<ReplicaId> = membership.nodes().map(|(id, _)| *id).collect();
            let matched: BTreeMap<ReplicaId, u64> = m
                .replication
                .iter()
                .flatten()
                .filter_map(|(id, l)| l.map(|l| (*id, l.index())))
                .collect();
            let joint = membership.get_joint_config().len() > 1;
            let last = m.last_log_index.unwrap_or(0);
            (joint, voters, members, last, matched)
        };
        // A placement from before one of the members would have that one leave. Should one of the
        // rest be lost, nobody could be elected any more, nor let it in again.
        if !members.iter().all(|id| wanted.knows(*id)) {
            rare::hit(Rare::PlacementBehindMembers);
            return Err(anyhow!(
                "the placement known here is older than the members of the shard; they stay as they are until it is known"
            ));
        }
        let all: BTreeSet<ReplicaId> = wanted.replicas.iter().map(|r| r.id).collect();
        // A leader that died in the middle of a change left a joint state, which needs a majority of
        // both halves for everything: that comes first.
        if !joint && let Some(new) = all.difference(&members).next() {
            shard
                .raft
                .add_learner(*new, EmptyNode::default(), false)
                .await?;
            rare::hit(Rare::LearnerAdded);
            return Ok(Some(format!("shard {}: replica {new} learns", shard.id())));
        }
        let caught_up = |id: &ReplicaId| matched.get(id).is_some_and(|m| m + CAUGHT_UP >= last);
        let goal: BTreeSet<ReplicaId> = wanted
            .replicas
            .iter()
            .filter(|r| r.voter && (voters.contains(&r.id) || caught_up(&r.id)))
            .map(|r| r.id)
            .collect();
        // A damaged voter is gone for good: it leaves even before its successor has caught up.
        if (joint || goal != voters) && !goal.is_empty() {
            let change = ChangeMembers::ReplaceAllVoters(goal.clone());
            shard.raft.change_membership(change, true).await?;
            if joint {
                rare::hit(Rare::JointFinished);
            }
            if !goal.is_subset(&voters) {
                rare::hit(Rare::LearnerPromoted);
            }
            return Ok(Some(format!("shard {}: {} voters", shard.id(), goal.len())));
        }
        let leaving: BTreeSet<ReplicaId> = members.difference(&all).copied().collect();
        if !leaving.is_empty() && leaving.is_disjoint(&voters) {
            shard
                .raft
                .change_membership(ChangeMembers::RemoveNodes(leaving), true)
                .await?;
            rare::hit(Rare::MemberLeft);
            return Ok(Some(format!("shard {}: a former replica left", shard.id())));
        }
        Ok(None)
    }
}

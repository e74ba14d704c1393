//! The phases of a run, and the checks between and after them.

use std::collections::BTreeMap;
use std::sync::Arc;

use posthouse_node::machine::transfers;
use posthouse_node::placement::plan::wanted;
use posthouse_node::types::ShardId;

use super::Result;
use super::chaos::Chaos;
use super::cluster::Cluster;
use super::look::{self, Replica};
use crate::history::{Answer, Record};
use crate::invariants::bounds::Bounds;
use crate::invariants::raft::Raft;
use crate::invariants::replicas::Replicas;
use crate::invariants::{Invariant, clients};
use crate::outcome::EventKind;
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::HostId;
use crate::world::queue::Queue;

/// Time to form a cluster, ms.
const FORM_MS: u64 = 60_000;
/// Within this calls have ended and all replicas are equal once everything has healed, ms.
const HEAL_MS: u64 = 60_000;
/// Time for the final reading, ms.
const READ_MS: u64 = 120_000;
/// How often replicas are looked at, ms.
const LOOK_MS: u64 = 50;
/// How often their states are hashed, ms.
const HASH_MS: u64 = 2_000;
/// Transfers that are told of when they do not end.
const TRANSFERS_TOLD: usize = 1;
/// Violations after which a run ends: the rest says nothing new.
const ENOUGH: usize = 20;

/// The invariant of what must happen in time.
pub(super) const LIVENESS: &str = "liveness";

/// A run.
pub struct Run {
    pub(super) cluster: Cluster,
    raft: Raft,
    replicas: Replicas,
    bounds: Bounds,
    clients: Vec<Box<dyn Invariant>>,
    history: Vec<Record>,
    looked_ms: u64,
    hashed_ms: u64,
    roles: BTreeMap<(u32, u32), (&'static str, u64)>,
}

impl Run {
    /// A run that has not begun.
    pub fn new(plan: &Plan, trace: Trace) -> Run {
        Run {
            cluster: Cluster::new(plan, trace),
            raft: Raft::default(),
            replicas: Replicas::default(),
            bounds: Bounds::new(plan),
            clients: clients::all(plan),
            history: Vec::new(),
            looked_ms: 0,
            hashed_ms: 0,
            roles: BTreeMap::new(),
        }
    }

    /// The queue of its world.
    pub fn queue(&self) -> Queue {
        self.cluster.stage.net().queue().clone()
    }

    /// What is gone when nothing of its world is left: the queue, which every process and every
    /// connection holds, and the disks.
    #[cfg(test)]
    pub fn left(&self) -> Vec<std::sync::Weak<dyn std::any::Any + Send + Sync>> {
        let stage = &self.cluster.stage;
        let hosts = self.cluster.nodes.iter().map(|n| n.host);
        let disks = hosts
            .chain([HostId::CLIENTS])
            .map(|h| stage.host(h).disk.left());
        disks.chain([stage.net().queue().left()]).collect()
    }

    /// From the beginning to the end.
    pub fn run(mut self) -> Result {
        if self.form() {
            let mut chaos = Chaos::new(&self.cluster.plan, self.cluster.now_ms());
            let workload = Arc::new(self.cluster.workload());
            let worker = Arc::clone(&workload);
            let running = self
                .cluster
                .spawn_on(HostId::CLIENTS, async move { worker.run().await });
            self.phase("faults");
            let duration = self.cluster.plan.duration_ms;
            self.go_on(Some(&mut chaos), duration, |_| false);
            chaos.stop();
            self.majority(&mut chaos);
            self.heal(&mut chaos);
            let healed_ms = self.cluster.now_ms();
            let done = self.go_on(Some(&mut chaos), HEAL_MS, |_| {
                running.as_ref().is_none_or(|r| r.lock().is_some())
            });
            if !done {
                self.violated(
                    LIVENESS,
                    None,
                    "calls do not end although everything has healed".into(),
                );
            }
            self.waited("calls end", healed_ms);
            // One time for both: calls keep no replica from catching up.
            self.converge(&mut chaos, healed_ms + HEAL_MS);
            self.waited("replicas are equal", healed_ms);
            // Rot that nobody has met yet is met now, and mended.
            self.scrub();
            let scrubbed_ms = self.cluster.now_ms();
            self.converge(&mut chaos, scrubbed_ms + HEAL_MS);
            if self.cluster.found.violations.is_empty() {
                self.check(&workload);
            }
        }
        self.finish()
    }

    fn finish(mut self) -> Result {
        let found = &mut self.cluster.found;
        for v in &found.violations {
            self.cluster.events.push(crate::outcome::Event {
                at_ms: v.at_ms,
                node: v.node,
                kind: EventKind::Violation {
                    invariant: v.invariant.clone(),
                    what: v.what.clone(),
                },
            });
        }
        self.cluster.stage.note_polls();
        let judged = std::mem::take(&mut self.cluster.found.judged);
        let stats = &mut self.cluster.stats;
        stats.judged = judged;
        stats.peaks = std::mem::take(&mut self.bounds.peaks);
        stats.simulated_ms = self.cluster.stage.now_ms();
        stats.polls = self.cluster.stage.polls();
        stats.packets = self.cluster.stage.net().queue().done();
        self.cluster.events.sort_by_key(|e| e.at_ms);
        (
            std::mem::take(&mut self.cluster.found.violations),
            std::mem::take(&mut self.cluster.events),
            std::mem::take(&mut self.cluster.stats),
        )
    }

    /// Notes how long something has taken.
    pub(super) fn waited(&mut self, what: &str, since_ms: u64) {
        let ms = self.cluster.now_ms() - since_ms;
        let waited = &mut self.cluster.stats.waited_ms;
        let known = waited.entry(what.to_owned()).or_default();
        *known = ms.max(*known);
    }

    pub(super) fn phase(&mut self, name: &str) {
        let name = name.to_owned();
        self.cluster.event(None, EventKind::Phase { name });
    }

    pub(super) fn violated(&mut self, invariant: &str, node: Option<u32>, what: String) {
        self.cluster.violated(invariant, node, what);
    }

    /// Lets the world go on, with all checks, until `done` or for so long.
    pub(super) fn go_on(
        &mut self,
        mut chaos: Option<&mut Chaos>,
        ms: u64,
        mut done: impl FnMut(&mut Run) -> bool,
    ) -> bool {
        let end = self.cluster.now_ms() + ms;
        loop {
            if done(self) {
                return true;
            }
            if self.cluster.now_ms() >= end || self.cluster.found.violations.len() >= ENOUGH {
                return false;
            }
            if let Some(chaos) = chaos.as_deref_mut() {
                chaos.turn(&mut self.cluster);
            }
            self.cluster.step();
            self.look();
        }
    }

    /// The checks that go along.
    fn look(&mut self) {
        let now = self.cluster.now_ms();
        self.cluster.found.now_ms = now;
        for record in self.cluster.take_records() {
            self.note(&record);
            for invariant in &mut self.clients {
                invariant.record(&record, &mut self.cluster.found);
            }
            self.history.push(record);
        }
        if now < self.looked_ms + LOOK_MS {
            return;
        }
        self.looked_ms = now;
        self.cluster.stage.note_polls();
        let hashing = now >= self.hashed_ms + HASH_MS;
        if hashing {
            self.hashed_ms = now;
        }
        let mut found = std::mem::take(&mut self.cluster.found);
        let mut changed = Vec::new();
        let nodes = self.cluster.nodes.iter();
        let may_forget: Vec<bool> = nodes.map(|n| now < n.may_forget_until_ms).collect();
        let (raft, replicas, roles) = (&mut self.raft, &mut self.replicas, &mut self.roles);
        let bounds = &mut self.bounds;
        self.cluster.for_each_replica(|r, shard| {
            let may_forget = may_forget[r.node as usize];
            let id_at = |index| look::id_at(shard, index);
            raft.look(r, may_forget, &id_at, &mut found);
            let (first, next) = shard.log.range();
            let cached = shard.log.cached_bytes() as u64;
            bounds.replica(r, next - first, cached, &mut found);
            let role = (r.role, r.term);
            if roles.insert((r.node, r.shard), role) != Some(role) {
                changed.push((r.node, r.shard, role));
            }
            if hashing && let Some(state) = look::state(shard) {
                replicas.look(r.node, r.shard, state, &mut found);
            }
        });
        for (n, node) in self.cluster.nodes.iter().enumerate() {
            if let Some(life) = &self.cluster.stage.host(node.host).life {
                let tasks = life.runtime().metrics().num_alive_tasks();
                bounds.process(n as u32, tasks, &mut found);
            }
            if let Some(running) = node.running() {
                let journal = running.groups.journal().stats();
                bounds.node(
                    n as u32,
                    &running.ops.held(),
                    journal.total_bytes,
                    &mut found,
                );
            }
        }
        self.cluster.found = found;
        for (node, shard, (role, term)) in changed {
            let role = role.to_owned();
            self.cluster
                .event(Some(node), EventKind::Role { shard, role, term });
        }
    }

    /// Puts a call on the timeline.
    fn note(&mut self, record: &Record) {
        let answer = match &record.answer {
            Answer::Done(_) => "acknowledged",
            Answer::Refused(_) => "refused",
            Answer::Unknown(_) => "unknown",
        };
        let count = self
            .cluster
            .stats
            .answers
            .entry(answer.to_owned())
            .or_default();
        *count += 1;
        let kind = EventKind::Call {
            op: record.op,
            client: record.client,
            what: crate::report::words::call(&record.call, &record.answer),
            called_ms: record.called_ms,
            answer: answer.to_owned(),
        };
        self.cluster.event(None, kind);
    }

    /// Forms the cluster.
    fn form(&mut self) -> bool {
        self.phase("form");
        self.cluster.nodes[0].wanted = true;
        let first = self.go_on(None, FORM_MS, |run| run.cluster.nodes[0].serves());
        let mut formed = first;
        for n in 1..self.cluster.nodes.len() {
            let client = self.cluster.client();
            let Some(slot) = self.cluster.spawn_on(HostId::CLIENTS, async move {
                client.create_join_token(0).await.map(|t| t.token)
            }) else {
                return false;
            };
            self.go_on(None, FORM_MS, |_| slot.lock().is_some());
            let Some(Ok(token)) = slot.lock().take() else {
                formed = false;
                break;
            };
            let join = self.cluster.nodes[0].addr();
            let node = &mut self.cluster.nodes[n];
            node.config.join = join;
            node.config.join_token = token;
            node.wanted = true;
        }
        formed = formed && self.go_on(None, FORM_MS, |run| run.unsettled().is_none());
        if !formed {
            let why = self.unsettled().unwrap_or_default();
            self.violated(LIVENESS, None, format!("the cluster does not form: {why}"));
        }
        formed
    }

    /// Nodes that are expected to take part.
    pub(super) fn present(&self) -> Vec<u32> {
        let nodes = self.cluster.nodes.iter().enumerate();
        let present = nodes.filter(|(_, n)| n.retired.is_none());
        present.map(|(n, _)| n as u32).collect()
    }

    /// Why the cluster is not yet whole and at rest; `None`: it is.
    fn unsettled(&self) -> Option<String> {
        let present = self.present();
        for n in &present {
            if !self.cluster.nodes[*n as usize].serves() {
                return Some(format!("node{n} does not serve"));
            }
        }
        let mut seen: BTreeMap<u32, Vec<Replica>> = BTreeMap::new();
        self.cluster
            .for_each_replica(|r, _| seen.entry(r.shard).or_default().push(r.clone()));
        let mut ids = BTreeMap::new();
        let mut newest = None;
        for n in &present {
            let running = self.cluster.nodes[*n as usize].running()?;
            ids.insert(running.node, *n);
            if let Some(lost) = running.groups.lost().first() {
                return Some(format!("node{n} has lost a replica: {lost:?}"));
            }
            let state = running.placement.state();
            if newest
                .as_ref()
                .is_none_or(|s: &posthouse_node::machine::system::SystemState| {
                    s.version < state.version
                })
            {
                newest = Some(state);
            }
        }
        let state = newest?;
        if state.shards.len() != self.cluster.plan.shards as usize + 1 {
            return Some(format!("{} shards are known", state.shards.len()));
        }
        for (shard, row) in &state.shards {
            // A shard with a replica on a node that will never come back is not extended.
            let halt = row.replicas.iter().any(|r| !ids.contains_key(&r.id.node()));
            let want = match halt {
                true => row.replicas.len(),
                false => wanted(&state, *shard),
            };
            if row.replicas.len() < want || (!row.damaged.is_empty() && !halt) {
                return Some(format!(
                    "shard {shard} has {} replicas of {want}, {} damaged",
                    row.replicas.len(),
                    row.damaged.len()
                ));
            }
            let replicas = seen.get(&shard.0).map(Vec::as_slice).unwrap_or_default();
            let leader = replicas
                .iter()
                .filter(|r| r.role == "leader")
                .max_by_key(|r| r.term);
            let Some(leader) = leader else {
                return Some(format!("shard {shard} has no leader"));
            };
            let voters: Vec<u64> = row
                .replicas
                .iter()
                .filter(|r| r.voter)
                .map(|r| r.id.0)
                .collect();
            let mut members = voters.clone();
            members.sort_unstable();
            if leader.voters != [members.clone()] && !halt {
                return Some(format!(
                    "shard {shard} has voters {:x?} and should have {members:x?}",
                    leader.voters
                ));
            }
            for info in &row.replicas {
                let Some(n) = ids.get(&info.id.node()) else {
                    continue;
                };
                let Some(r) = replicas.iter().find(|r| r.id == info.id.0) else {
                    return Some(format!(
                        "node{n} has not opened replica {:#x} of shard {shard}",
                        info.id.0
                    ));
                };
                if r.applied != leader.last || leader.committed != leader.last {
                    return Some(format!(
                        "what node{n} has applied of shard {shard} ends {}, and the log {}",
                        up_to(r.applied.map(|l| l.index)),
                        up_to(leader.last.map(|l| l.index))
                    ));
                }
            }
        }
        self.under_way()
    }

    /// Which shard still has messages on their way to another account, if one has.
    fn under_way(&self) -> Option<String> {
        let mut found = None;
        self.cluster.for_each_replica(|r, shard| {
            if r.shard == ShardId::SYSTEM.0 || r.role != "leader" {
                return;
            }
            let rows = shard.local_view().ok();
            let left = rows.and_then(|rows| {
                transfers::unsettled(&*rows.view, rows.space, TRANSFERS_TOLD).ok()
            });
            if let Some((id, row)) = left.as_deref().and_then(|left| left.first()) {
                let to = row.to.account;
                found = Some(format!(
                    "shard {} has not settled transfer {} of account {:?} to account {to:?}, which \
                     is over: {}",
                    r.shard, id.number, id.source, row.over
                ));
            }
        });
        found
    }

    /// Everything heals.
    fn heal(&mut self, chaos: &mut Chaos) {
        self.phase("heal");
        let present = self.present();
        chaos.heal(&mut self.cluster, &present);
    }

    /// All replicas become equal, until then.
    fn converge(&mut self, chaos: &mut Chaos, end: u64) {
        let mut calm_since = None;
        self.go_on(Some(chaos), 1_000, |_| false);
        let mut last = String::new();
        let mut next = 0;
        let mut busy = true;
        let settled = {
            loop {
                if self.cluster.now_ms() >= end || self.cluster.found.violations.len() >= ENOUGH {
                    break false;
                }
                busy = chaos.is_busy();
                let now = self.cluster.now_ms();
                if now >= next {
                    next = now + 100;
                    match self.unsettled() {
                        Some(why) => {
                            last = why;
                            calm_since = None;
                        }
                        None if busy => calm_since = None,
                        None => {
                            let since = *calm_since.get_or_insert(now);
                            if now - since >= 300 {
                                break true;
                            }
                        }
                    }
                }
                self.go_on(Some(chaos), 1, |_| false);
            }
        };
        if !settled {
            let why = match busy {
                true => "an operator still waits for a node to join".to_owned(),
                false => last,
            };
            self.violated(
                LIVENESS,
                None,
                format!("not whole {HEAL_MS} ms after everything has healed: {why}"),
            );
        }
    }

    /// What is there is read back and audited.
    fn check(&mut self, workload: &Arc<crate::workload::Workload>) {
        self.phase("check");
        let reader = Arc::clone(workload);
        let read = self
            .cluster
            .spawn_on(HostId::CLIENTS, async move { reader.read_all().await });
        if let Some(read) = read {
            self.go_on(None, READ_MS, |_| read.lock().is_some());
            match read.lock().take() {
                Some(Ok(())) => {}
                Some(Err(why)) => {
                    self.violated(LIVENESS, None, format!("the final reading failed: {why}"))
                }
                None => self.violated(LIVENESS, None, "the final reading does not end".into()),
            }
        }
        self.look();
        self.audit();
        self.scrubbed_clean();
        self.blobs();
        self.rest();
        self.cluster.found.now_ms = self.cluster.now_ms();
        for invariant in &mut self.clients {
            invariant.end(&self.history, &mut self.cluster.found);
        }
    }
}

/// Where a log or what is applied of it ends, in words.
fn up_to(index: Option<u64>) -> String {
    index.map_or("nowhere".into(), |index| format!("at {index}"))
}

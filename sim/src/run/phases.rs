//! The phases of a run, and the checks between and after them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use posthouse_client::ids::{AccountName, Slot};
use posthouse_node::machine::transfers;
use posthouse_node::placement::plan::wanted;
use posthouse_node::raft::log::Found;
use posthouse_node::raft::types::payload_len;
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
use crate::stream::stream;
use crate::trace::Trace;
use crate::world::HostId;
use crate::world::link::Rule;
use crate::world::queue::Queue;

use rand::RngExt;

/// Time to form a cluster, ms.
const FORM_MS: u64 = 60_000;
/// Within this a healthy majority acknowledges, ms.
const MAJORITY_MS: u64 = 5_000;
/// Time that nodes of the majority have to start, ms. A joining one waits for a leader (5 s) and asks
/// again; one whose address was another's waits for its original (half a second of back-off, 1 s for
/// the others, 4 s for the original). The others need little more than the second that they ask for.
const START_MS: u64 = 8_000;
/// So much longer where an operator stops one: its doors have 10 s to become empty, then it flushes.
const STOP_MS: u64 = 12_000;
/// So much longer for each node that is left out, for the call that any node takes: the client library
/// waits so long for a connection to a machine that does not answer, ms.
const CONNECT_MS: u64 = 1_000;
/// What is under way between two nodes of this world at the most, octets: the window of a socket.
const WINDOW_BYTES: u64 = 256 << 10;
/// Octets that healthy replicas lack, from which on a write has so much more time.
const BUSY_BYTES: u64 = 1 << 20;
/// Names among which one of each shard is looked for.
const PROBES: u32 = 10_000;
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

    fn phase(&mut self, name: &str) {
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
                        "node{n} has applied {:?} of shard {shard}, whose log ends at {:?}",
                        r.applied.map(|l| l.index),
                        leader.last.map(|l| l.index)
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

    /// A majority heals, the rest stays as it is: within five seconds every shard takes a write.
    fn majority(&mut self, chaos: &mut Chaos) {
        self.phase("majority");
        let left_out = self.leave_out();
        let present = self.present();
        let healthy: Vec<u32> = present
            .into_iter()
            .filter(|n| !left_out.contains(n))
            .collect();
        chaos.heal(&mut self.cluster, &healthy);
        if !left_out.is_empty() {
            let mut groups = BTreeMap::from([(HostId::CLIENTS, 0)]);
            for (n, node) in self.cluster.nodes.iter().enumerate() {
                groups.insert(node.host, u32::from(left_out.contains(&(n as u32))));
            }
            self.cluster
                .stage
                .net()
                .links()
                .add(Rule::Partition(groups));
        }
        let healed_ms = self.cluster.now_ms();
        let stops = |n: &u32| self.cluster.nodes[*n as usize].stops(&self.cluster.stage);
        let start_ms = START_MS + STOP_MS * u64::from(healthy.iter().any(stops));
        let serving = self.go_on(Some(chaos), start_ms, |run| {
            let retired = |n: &u32| run.cluster.nodes[*n as usize].retired.is_some();
            healthy
                .iter()
                .all(|n| run.cluster.nodes[*n as usize].serves() || retired(n))
        });
        if !serving {
            let silent: Vec<&u32> = healthy
                .iter()
                .filter(|n| !self.cluster.nodes[**n as usize].serves())
                .collect();
            let why = format!("nodes {silent:?} do not serve {start_ms} ms after they were healed");
            self.violated(LIVENESS, None, why);
            return;
        }
        self.waited("healthy nodes serve", healed_ms);
        let started_ms = self.cluster.now_ms() - healed_ms;
        let connect_ms = CONNECT_MS * left_out.len() as u64;
        let behind = self.behind(&healthy);
        let shards = self.able(&healthy).into_iter();
        let times = shards.map(|shard| match shard == ShardId::SYSTEM.0 {
            true => (shard, MAJORITY_MS + connect_ms),
            false => (shard, MAJORITY_MS),
        });
        let probes: Vec<_> = times
            .filter_map(|(shard, ms)| Some((shard, ms, self.probe(shard, ms, 0)?)))
            .collect();
        self.go_on(Some(chaos), MAJORITY_MS + connect_ms + 200, |_| {
            probes.iter().all(|(_, _, slot)| slot.lock().is_some())
        });
        self.waited("healthy majority acknowledges", healed_ms);
        // Damage from before may be met only now: the process ends, its replicas are lost, and the
        // shard has no majority here for which it could answer.
        let still_able = self.able(&healthy);
        let failed = probes.into_iter().filter_map(|(shard, ms, slot)| {
            let why = failure(slot.lock().take())?;
            still_able.contains(&shard).then_some((shard, ms, why))
        });
        let mut failed: Vec<_> = failed.collect();
        if failed.is_empty() {
            return;
        }
        // A write stands behind what its shard's log holds already, and all shards share the link to a
        // node: what large messages have put there has to get through first.
        let behind = behind.max(self.behind(&healthy));
        if behind >= BUSY_BYTES {
            let more_ms = connect_ms + self.carry_ms(behind);
            let again: Vec<_> = failed
                .iter()
                .map(|(shard, ..)| self.probe(*shard, more_ms, 1))
                .collect();
            self.go_on(Some(chaos), more_ms + 200, |_| {
                let mut slots = again.iter().flatten();
                slots.all(|slot| slot.lock().is_some())
            });
            self.waited("busy healthy majority acknowledges", healed_ms);
            let still_able = self.able(&healthy);
            let late = failed.into_iter().zip(again);
            failed = late
                .filter_map(|((shard, ms, why), slot)| {
                    let why = match slot {
                        Some(slot) => failure(slot.lock().take())?,
                        None => why,
                    };
                    still_able
                        .contains(&shard)
                        .then_some((shard, ms + more_ms, why))
                })
                .collect();
        }
        for (shard, ms, why) in failed {
            let what = format!(
                "shard {shard} has a healthy majority in nodes {healthy:?}, which served {started_ms} ms \
                 after they were healed, and takes no write within {ms} ms, with {behind} octets in the \
                 way: {why}"
            );
            self.violated(LIVENESS, None, what);
        }
    }

    /// Octets of entries that a replica on one of these nodes has and another one lacks.
    fn behind(&self, nodes: &[u32]) -> u64 {
        let mut ends: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        self.cluster.for_each_replica(|r, shard| {
            if nodes.contains(&r.node) && r.role != "down" {
                let (_, next) = shard.log.range();
                let (least, most) = ends.entry(r.shard).or_insert((next, next));
                *least = next.min(*least);
                *most = next.max(*most);
            }
        });
        let mut behind: BTreeMap<u32, u64> = BTreeMap::new();
        self.cluster.for_each_replica(|r, shard| {
            let (_, next) = shard.log.range();
            let ends = ends.get(&r.shard);
            let ends = ends.filter(|(_, most)| nodes.contains(&r.node) && *most == next);
            let Some((least, most)) = ends else {
                return;
            };
            let octets = (*least..*most).filter_map(|index| match shard.log.find(index)? {
                Found::Cached(entry) => Some(payload_len(&entry) as u64),
                Found::At(_, place) => Some(u64::from(place.len)),
            });
            behind.insert(r.shard, octets.sum());
        });
        behind.values().sum()
    }

    /// How long so many octets take from one node to another, at half of what a socket carries, ms.
    fn carry_ms(&self, octets: u64) -> u64 {
        let net = &self.cluster.plan.network;
        let there = net.delay_ms + net.jitter_ms + net.zone_delay_ms * 3 / 2;
        let there_and_back = (2 * there).max(1);
        2 * octets * there_and_back / WINDOW_BYTES
    }

    /// Nodes that stay broken for a while, so that every shard keeps a majority.
    fn leave_out(&self) -> BTreeSet<u32> {
        let draws = &mut stream(self.cluster.plan.seed, "majority", 0);
        let mut voters: Vec<Vec<u32>> = Vec::new();
        let node_of = |id: u64| {
            let id = posthouse_node::types::ReplicaId(id).node();
            let mut nodes = self.cluster.nodes.iter().enumerate();
            nodes
                .find(|(n, _)| self.id_of(*n as u32) == Some(id.0))
                .map(|(n, _)| n as u32)
        };
        self.cluster.for_each_replica(|r, _| {
            for set in &r.voters {
                let nodes: Vec<u32> = set.iter().filter_map(|id| node_of(*id)).collect();
                if nodes.len() == set.len() {
                    voters.push(nodes);
                }
            }
        });
        voters.sort();
        voters.dedup();
        let mut out: BTreeSet<u32> = BTreeSet::new();
        let nodes = self.cluster.nodes.len() as u32;
        for n in 0..nodes {
            if self.cluster.nodes[n as usize].retired.is_some() {
                out.insert(n);
            }
        }
        let start = draws.random_range(0..nodes.max(1));
        for n in (0..nodes).map(|i| (start + i) % nodes) {
            let mut more = out.clone();
            more.insert(n);
            let keeps =
                |set: &Vec<u32>| set.iter().filter(|n| !more.contains(n)).count() * 2 > set.len();
            if !voters.is_empty() && voters.iter().all(keeps) {
                out = more;
            }
        }
        out.retain(|n| self.cluster.nodes[*n as usize].retired.is_none());
        out
    }

    /// The number that the cluster gave to a node: nodes join one after the other.
    fn id_of(&self, n: u32) -> Option<u32> {
        self.cluster.node_ids.get(&n).copied()
    }

    /// Shards of which a majority of every set of voters is whole and runs on these nodes.
    fn able(&self, nodes: &[u32]) -> Vec<u32> {
        let mut whole: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        let mut sets: BTreeMap<u32, BTreeSet<Vec<u64>>> = BTreeMap::new();
        self.cluster.for_each_replica(|r, _| {
            // A process that is about to end still shows its replicas, which do nothing any more.
            if nodes.contains(&r.node) && r.role != "down" {
                whole.entry(r.shard).or_default().insert(r.id);
                sets.entry(r.shard)
                    .or_default()
                    .extend(r.voters.iter().cloned());
            }
        });
        let able = sets.into_iter().filter(|(shard, sets)| {
            let whole = &whole[shard];
            sets.iter()
                .all(|set| set.iter().filter(|id| whole.contains(id)).count() * 2 > set.len())
        });
        able.map(|(shard, _)| shard).collect()
    }

    /// A write to a shard, within so long; each round with another name.
    #[allow(clippy::type_complexity)]
    fn probe(
        &mut self,
        shard: u32,
        ms: u64,
        round: u32,
    ) -> Option<Arc<parking_lot::Mutex<Option<std::result::Result<(), String>>>>> {
        let state = self
            .cluster
            .nodes
            .iter()
            .find_map(|n| n.running())?
            .placement
            .state();
        let name = (round * PROBES..(round + 1) * PROBES).find_map(|i| {
            let name = AccountName::new(&format!("probe{i}@example.org")).ok()?;
            (state.shard_of(Slot::of(&name)) == Some(ShardId(shard))).then_some(name)
        });
        let of_system = shard == ShardId::SYSTEM.0;
        let name = name.filter(|_| !of_system);
        if name.is_none() && !of_system {
            return None;
        }
        let client = self
            .cluster
            .client()
            .with_deadline(Duration::from_millis(ms));
        self.cluster.spawn_on(HostId::CLIENTS, async move {
            let end = tokio::time::Instant::now() + Duration::from_millis(ms);
            loop {
                let made = match &name {
                    Some(name) => client.create_account(name, None).await.map(drop),
                    // Accounts are in the other shards; what admits nodes is in this one.
                    None => client.create_join_token(0).await.map(drop),
                };
                // A node that was just healed may still refuse what it soon takes.
                match made.map_err(|e| e.to_string()) {
                    Err(_) if tokio::time::Instant::now() < end => {}
                    done => return done,
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
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

/// Why a write was not acknowledged; `None`: it was.
fn failure(result: Option<std::result::Result<(), String>>) -> Option<String> {
    match result {
        Some(Ok(())) => None,
        Some(Err(why)) => Some(why),
        None => Some("no answer".into()),
    }
}

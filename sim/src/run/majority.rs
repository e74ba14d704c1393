//! A healthy majority, while the rest stays broken: it takes writes within five seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use posthouse_client::ids::{AccountName, Slot};
use posthouse_node::raft::log::Found;
use posthouse_node::raft::types::payload_len;
use posthouse_node::types::ShardId;
use rand::RngExt;

use super::chaos::Chaos;
use super::phases::{LIVENESS, Run};
use crate::invariants::blobs::blobs;
use crate::stream::stream;
use crate::world::HostId;
use crate::world::bytes::WINDOW;
use crate::world::link::Rule;

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
/// Octets that healthy replicas lack, from which on a write has so much more time.
const BUSY_BYTES: u64 = 1 << 20;
/// So much more time at the most, ms.
const BUSY_MS: u64 = 10_000;
/// Names among which one of each shard is looked for.
const PROBES: u32 = 10_000;

impl Run {
    /// A majority heals, the rest stays as it is: within five seconds every shard takes a write.
    pub(super) fn majority(&mut self, chaos: &mut Chaos) {
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
        // node: what large messages had put there by then has to get through first.
        if behind >= BUSY_BYTES {
            let more_ms = connect_ms + self.carry_ms(behind).min(BUSY_MS);
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

    /// Octets of entries that a voter on one of these nodes has and another one lacks; and of all
    /// messages of the shard where it has given up some of those entries: that takes a snapshot.
    fn behind(&self, nodes: &[u32]) -> u64 {
        let mut ends: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        self.cluster.for_each_replica(|r, shard| {
            let votes = r.voters.iter().any(|set| set.contains(&r.id));
            if nodes.contains(&r.node) && r.role != "down" && votes {
                let (_, next) = shard.log.range();
                let (least, most) = ends.entry(r.shard).or_insert((next, next));
                *least = next.min(*least);
                *most = next.max(*most);
            }
        });
        let mut behind: BTreeMap<u32, u64> = BTreeMap::new();
        self.cluster.for_each_replica(|r, shard| {
            let (first, next) = shard.log.range();
            let ends = ends.get(&r.shard);
            let ends = ends.filter(|(_, most)| nodes.contains(&r.node) && *most == next);
            let Some((least, most)) = ends else {
                return;
            };
            let octets = (*least..*most).filter_map(|index| match shard.log.find(index)? {
                Found::Cached(entry) => Some(payload_len(&entry) as u64),
                Found::At(_, place) => Some(u64::from(place.len)),
            });
            let snapshot = match *least < first {
                true => blobs(shard).iter().map(|(_, row)| row.size).sum(),
                false => 0,
            };
            behind.insert(r.shard, octets.sum::<u64>() + snapshot);
        });
        behind.values().sum()
    }

    /// How long so many octets take from one node to another, at half of what a socket carries, ms.
    fn carry_ms(&self, octets: u64) -> u64 {
        let net = &self.cluster.plan.network;
        let there = net.delay_ms + net.jitter_ms + net.zone_delay_ms * 3 / 2;
        let there_and_back = (2 * there).max(1);
        2 * octets * there_and_back / WINDOW as u64
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
}

/// Why a write was not acknowledged; `None`: it was.
fn failure(result: Option<std::result::Result<(), String>>) -> Option<String> {
    match result {
        Some(Ok(())) => None,
        Some(Err(why)) => Some(why),
        None => Some("no answer".into()),
    }
}

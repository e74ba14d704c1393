//! Who leads the shard of an account: the cached placement map and what was learnt since.
//!
//! The map comes from any node (each has a replica of the system shard) and is fetched again when
//! a node says that it is old, when an answer carries a newer version, or when a whole round over
//! a shard's replicas failed. Leaders change more often than placements, so the last node that
//! answered as a shard's leader is remembered apart from the map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::future::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::connect::Channels;
use crate::error::{CLUSTER_METADATA, Error, PLACEMENT_METADATA};
use crate::ids::Slot;
use crate::proto::cluster_client::ClusterClient;
use crate::proto::{GetPlacementRequest, GetPlacementResponse};
use crate::rare::{self, Rare};

/// One node's answer may be slow; the others are asked at the same time.
const ASK_TIMEOUT: Duration = Duration::from_millis(1500);
/// Nodes asked at the same time for the map.
const ASK_AT_ONCE: usize = 3;

/// The placement map, in the form that routing needs.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    /// UUID of the cluster.
    pub cluster_id: String,
    /// Version of the map.
    pub version: u64,
    nodes: BTreeMap<u64, String>,
    shards: BTreeMap<u32, ShardRoute>,
    /// First slot of each range → (last slot, shard).
    ranges: BTreeMap<u16, (u16, u32)>,
}

#[derive(Debug, Clone, Default)]
struct ShardRoute {
    nodes: Vec<u64>,
    leader_hint: u64,
}

impl Placement {
    /// Reads a map; ranges that are out of bounds or overlap make it unusable.
    pub fn new(response: &GetPlacementResponse) -> Result<Placement, Error> {
        let bad = |why: &str| Error::Corrupt {
            message: format!("the placement map of version {} {why}", response.version),
        };
        let mut placement = Placement {
            cluster_id: response.cluster_id.clone(),
            version: response.version,
            ..Placement::default()
        };
        for node in &response.nodes {
            placement.nodes.insert(node.node_id, node.addr.clone());
        }
        for shard in &response.shards {
            let route = ShardRoute {
                nodes: shard.nodes.clone(),
                leader_hint: shard.leader_hint,
            };
            placement.shards.insert(shard.shard, route);
            for range in &shard.slots {
                let (Ok(first), Ok(last)) = (range.first.try_into(), range.last.try_into()) else {
                    return Err(bad("names a slot above 65535"));
                };
                if first > last {
                    return Err(bad("has a slot range that ends before it starts"));
                }
                if placement
                    .ranges
                    .insert(first, (last, shard.shard))
                    .is_some()
                {
                    return Err(bad("gives a slot to two shards"));
                }
            }
        }
        let mut previous: Option<u16> = None;
        for (first, (last, _)) in &placement.ranges {
            if previous.is_some_and(|p| *first <= p) {
                return Err(bad("gives a slot to two shards"));
            }
            previous = Some(*last);
        }
        Ok(placement)
    }

    /// The shard of a slot.
    pub fn shard_of(&self, slot: Slot) -> Option<u32> {
        let (_, (last, shard)) = self.ranges.range(..=slot.0).next_back()?;
        (slot.0 <= *last).then_some(*shard)
    }

    /// Address of a node.
    pub fn addr(&self, node: u64) -> Option<&str> {
        self.nodes.get(&node).map(String::as_str)
    }

    /// All nodes and their addresses, by node id.
    pub fn nodes(&self) -> impl Iterator<Item = (u64, &str)> {
        self.nodes.iter().map(|(id, addr)| (*id, addr.as_str()))
    }

    /// All data shards, in order.
    pub fn data_shards(&self) -> impl Iterator<Item = u32> {
        self.shards.keys().copied().filter(|s| *s != 0)
    }

    /// Node and address of the shard's leader, as the node that gave the map knew it.
    pub fn leader(&self, shard: u32) -> Option<(u64, &str)> {
        let node = self.shards.get(&shard)?.leader_hint;
        Some((node, self.addr(node)?))
    }

    /// When all of `shards` are led by other nodes than the one at `addr`: who leads the first.
    pub(crate) fn moved_from(&self, addr: &str, shards: &[u32]) -> Option<(u64, String)> {
        let elsewhere = |s: &u32| self.leader(*s).is_some_and(|(_, a)| a != addr);
        if !shards.iter().all(elsewhere) {
            return None;
        }
        let (node, addr) = self.leader(*shards.first()?)?;
        Some((node, addr.to_owned()))
    }

    /// Addresses of a shard's replicas, the likely leader first.
    fn replicas(&self, shard: u32, leader: Option<&str>) -> Vec<String> {
        let Some(route) = self.shards.get(&shard) else {
            return Vec::new();
        };
        let mut addrs: Vec<String> = Vec::with_capacity(route.nodes.len() + 1);
        let hint = self.addr(route.leader_hint);
        let rest = route.nodes.iter().filter_map(|n| self.addr(*n));
        for addr in leader.into_iter().chain(hint).chain(rest) {
            if !addrs.iter().any(|a| a == addr) {
                addrs.push(addr.to_owned());
            }
        }
        addrs
    }
}

/// The map, the remembered leaders, and the way to get a newer map.
pub(crate) struct Router {
    channels: Channels,
    seeds: Vec<String>,
    placement: ArcSwapOption<Placement>,
    /// Shard → address of the node that last answered as its leader.
    leaders: Mutex<BTreeMap<u32, String>>,
    /// Newest version that an answer has mentioned.
    seen_version: AtomicU64,
    expected_cluster: ArcSwapOption<MetadataValue<Ascii>>,
    /// Callers that want a newer map wait for one fetch.
    fetching: tokio::sync::Mutex<()>,
    /// Fetches done, so that who waited can tell that another one has fetched already.
    fetches: AtomicU64,
}

impl Router {
    pub(crate) fn new(
        channels: Channels,
        seeds: Vec<String>,
        cluster: Option<&str>,
    ) -> Result<Router, Error> {
        if seeds.is_empty() {
            return Err(Error::bad_request("addr", "no address of a node is given"));
        }
        for seed in &seeds {
            channels.get(seed)?;
        }
        let router = Router {
            channels,
            seeds,
            placement: ArcSwapOption::empty(),
            leaders: Mutex::new(BTreeMap::new()),
            seen_version: AtomicU64::new(0),
            expected_cluster: ArcSwapOption::empty(),
            fetching: tokio::sync::Mutex::new(()),
            fetches: AtomicU64::new(0),
        };
        if let Some(cluster) = cluster {
            router.expect_cluster(cluster)?;
        }
        Ok(router)
    }

    pub(crate) fn channels(&self) -> &Channels {
        &self.channels
    }

    /// From here on every request names this cluster, so that a node of another one that took
    /// over an address refuses it.
    fn expect_cluster(&self, cluster: &str) -> Result<(), Error> {
        let value = cluster
            .parse()
            .map_err(|_| Error::bad_request("cluster", "the cluster id is not plain text"))?;
        self.expected_cluster.store(Some(Arc::new(value)));
        Ok(())
    }

    /// Adds what every request carries.
    pub(crate) fn decorate<T>(&self, message: T, timeout: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(timeout);
        if let Some(cluster) = &*self.expected_cluster.load() {
            let value = MetadataValue::clone(cluster);
            request.metadata_mut().insert(CLUSTER_METADATA, value);
        }
        request
    }

    /// Takes note of the placement version in an answer.
    pub(crate) fn note_version(&self, metadata: &MetadataMap) {
        let version = metadata
            .get(PLACEMENT_METADATA)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse().ok());
        if let Some(version) = version {
            self.seen_version.fetch_max(version, Ordering::Relaxed);
        }
    }

    /// Takes note of who answered as a shard's leader.
    pub(crate) fn note_leader(&self, shard: u32, addr: &str) {
        let mut leaders = self.leaders.lock();
        if leaders.get(&shard).is_none_or(|a| a != addr) {
            leaders.insert(shard, addr.to_owned());
        }
    }

    /// Forgets a leader that did not answer as one.
    pub(crate) fn forget_leader(&self, shard: u32, addr: &str) {
        let mut leaders = self.leaders.lock();
        if leaders.get(&shard).is_some_and(|a| a == addr) {
            leaders.remove(&shard);
        }
    }

    /// Addresses of a shard's replicas, the likely leader first.
    pub(crate) fn replicas(&self, placement: &Placement, shard: u32) -> Vec<String> {
        let leaders = self.leaders.lock();
        placement.replicas(shard, leaders.get(&shard).map(String::as_str))
    }

    /// The map: the cached one, unless an answer has mentioned a newer one.
    pub(crate) async fn placement(&self) -> Result<Arc<Placement>, Error> {
        let seen = self.seen_version.load(Ordering::Relaxed);
        match self.placement.load_full() {
            Some(p) if p.version >= seen => Ok(p),
            Some(p) => {
                rare::hit(Rare::NewerMapMentioned);
                // A node that does not have the newer map yet must not make every call ask again.
                let fresh = self.refresh(seen).await;
                self.seen_version
                    .compare_exchange(seen, p.version, Ordering::Relaxed, Ordering::Relaxed)
                    .ok();
                Ok(fresh.unwrap_or(p))
            }
            None => self.refresh(0).await,
        }
    }

    /// Fetches the map again, at least `version` if some node has it. Calls that come while one
    /// fetch is under way share its result.
    pub(crate) async fn refresh(&self, version: u64) -> Result<Arc<Placement>, Error> {
        let before = self.fetches.load(Ordering::Acquire);
        let _one = self.fetching.lock().await;
        let cached = self.placement.load_full();
        if self.fetches.load(Ordering::Acquire) != before
            && let Some(p) = &cached
            && p.version >= version
        {
            rare::hit(Rare::MapFetchShared);
            return Ok(p.clone());
        }
        let have = cached.as_ref().map_or(0, |p| p.version);
        let fetched = self.fetch(version.max(have)).await?;
        let placement = match cached {
            // An older map comes from a node that lags; its leader hints are as old.
            Some(p) if p.version > fetched.version => {
                rare::hit(Rare::OlderMapIgnored);
                p
            }
            _ => {
                let placement = Arc::new(fetched);
                if self.expected_cluster.load().is_none() {
                    self.expect_cluster(&placement.cluster_id)?;
                }
                let seeds = &self.seeds;
                let map = &placement.nodes;
                self.channels
                    .retain(|a| seeds.iter().any(|s| s == a) || map.values().any(|n| n == a));
                self.adopt_leaders(&placement);
                self.placement.store(Some(placement.clone()));
                placement
            }
        };
        self.fetches.fetch_add(1, Ordering::Release);
        Ok(placement)
    }

    fn adopt_leaders(&self, placement: &Placement) {
        let mut leaders = self.leaders.lock();
        for (shard, route) in &placement.shards {
            if let Some(addr) = placement.addr(route.leader_hint) {
                leaders.insert(*shard, addr.to_owned());
            }
        }
    }

    /// Addresses worth asking: the nodes of the map, then the seeds.
    pub(crate) fn known_addrs(&self) -> Vec<String> {
        let placement = self.placement.load();
        let mapped = placement.iter().flat_map(|p| p.nodes.values());
        let mut seen = BTreeSet::new();
        mapped
            .chain(&self.seeds)
            .filter(|a| seen.insert(a.as_str()))
            .cloned()
            .collect()
    }

    /// The first map of at least `version`, else the newest of all nodes that answer.
    async fn fetch(&self, version: u64) -> Result<Placement, Error> {
        let mut best: Option<Placement> = None;
        let mut failure = None;
        for group in self.known_addrs().chunks(ASK_AT_ONCE) {
            let mut asked = FuturesUnordered::new();
            for addr in group {
                asked.push(self.ask(addr).boxed());
            }
            while let Some(answer) = asked.next().await {
                match answer {
                    Ok(p) if p.version >= version => return Ok(p),
                    Ok(p) if best.as_ref().is_none_or(|b| b.version < p.version) => best = Some(p),
                    Ok(_) => {}
                    Err(e) => failure = Some(worst(failure, e)),
                }
            }
        }
        let nobody = || Error::Transport {
            message: "no node is known".into(),
        };
        best.ok_or_else(|| failure.unwrap_or_else(nobody))
    }

    async fn ask(&self, addr: &str) -> Result<Placement, Error> {
        let mut client = ClusterClient::new(self.channels.get(addr)?);
        let request = self.decorate(GetPlacementRequest { have_version: 0 }, ASK_TIMEOUT);
        let answer = tokio::time::timeout(ASK_TIMEOUT, client.get_placement(request)).await;
        match answer {
            Ok(Ok(response)) => Placement::new(response.get_ref()),
            Ok(Err(status)) => Err(match Error::from(status) {
                Error::Transport { message } => Error::Transport {
                    message: format!("{addr}: {message}"),
                },
                other => other,
            }),
            Err(_) => Err(Error::Transport {
                message: format!("{addr}: no answer within {ASK_TIMEOUT:?}"),
            }),
        }
    }
}

/// Of two failures the one that says more: a node that answered knows better than silence.
fn worst(a: Option<Error>, b: Error) -> Error {
    match a {
        Some(a) if !matches!(a, Error::Transport { .. }) => a,
        Some(a) if matches!(b, Error::Transport { .. }) => a,
        _ => b,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::proto::{Node, ShardPlacement, SlotRange};

    pub(crate) fn node(node_id: u64, addr: &str) -> Node {
        Node {
            node_id,
            addr: addr.into(),
            ..Node::default()
        }
    }

    pub(crate) fn shard(
        shard: u32,
        nodes: &[u64],
        slots: (u32, u32),
        leader: u64,
    ) -> ShardPlacement {
        ShardPlacement {
            shard,
            nodes: nodes.to_vec(),
            slots: vec![SlotRange {
                first: slots.0,
                last: slots.1,
            }],
            leader_hint: leader,
        }
    }

    fn map() -> GetPlacementResponse {
        GetPlacementResponse {
            cluster_id: "c".into(),
            version: 3,
            nodes: vec![node(1, "a:1"), node(2, "b:1"), node(3, "c:1")],
            shards: vec![
                shard(1, &[1, 2, 3], (0, 0x7fff), 2),
                shard(2, &[3, 1, 9], (0x8000, 0xfffe), 0),
            ],
        }
    }

    #[test]
    fn slots_find_their_shard() {
        let p = Placement::new(&map()).unwrap();
        assert_eq!(p.shard_of(Slot(0)), Some(1));
        assert_eq!(p.shard_of(Slot(0x7fff)), Some(1));
        assert_eq!(p.shard_of(Slot(0x8000)), Some(2));
        assert_eq!(p.shard_of(Slot(0xffff)), None);
        assert_eq!(p.data_shards().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_likely_leader_comes_first_and_nobody_twice() {
        let p = Placement::new(&map()).unwrap();
        assert_eq!(p.replicas(1, None), ["b:1", "a:1", "c:1"]);
        assert_eq!(p.replicas(1, Some("c:1")), ["c:1", "b:1", "a:1"]);
        // Node 9 is in no list of nodes: nothing is known about where it is.
        assert_eq!(p.replicas(2, None), ["c:1", "a:1"]);
        assert_eq!(p.replicas(2, Some("new:1")), ["new:1", "c:1", "a:1"]);
        assert!(p.replicas(7, None).is_empty());
    }

    #[test]
    fn a_map_that_cannot_be_is_refused() {
        let with = |shards| Placement::new(&GetPlacementResponse { shards, ..map() });
        assert!(with(vec![shard(1, &[1], (0, 65_536), 1)]).is_err());
        assert!(with(vec![shard(1, &[1], (9, 8), 1)]).is_err());
        let overlap = vec![shard(1, &[1], (0, 100), 1), shard(2, &[1], (100, 200), 1)];
        assert!(with(overlap).is_err());
        let twice = vec![shard(1, &[1], (0, 100), 1), shard(2, &[1], (0, 50), 1)];
        assert!(with(twice).is_err());
    }

    #[test]
    fn an_answer_says_more_than_silence() {
        let silence = || Error::Transport {
            message: "x".into(),
        };
        let answer = || Error::NotInitialized {
            message: "y".into(),
        };
        assert_eq!(worst(Some(silence()), answer()), answer());
        assert_eq!(worst(Some(answer()), silence()), answer());
    }
}

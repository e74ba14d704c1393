//! The cached placement: every request is routed by it, so it must cost nothing to ask.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::sync::watch;

use crate::machine::system::SystemState;
use crate::transport::peers::AddressBook;
use crate::types::*;

struct View {
    state: SystemState,
    /// Shard of each slot; the system shard where a slot has none.
    slots: Vec<ShardId>,
}

/// The newest placement that this node knows.
pub struct PlacementMap {
    view: ArcSwap<View>,
    /// Addresses learnt from elsewhere (a join, the last run), for before there is a placement.
    seeds: Mutex<BTreeMap<NodeId, String>>,
    version: watch::Sender<u64>,
}

impl PlacementMap {
    /// Knows nothing but the addresses of some nodes.
    pub fn new(seeds: BTreeMap<NodeId, String>) -> PlacementMap {
        PlacementMap {
            view: ArcSwap::from_pointee(View {
                state: SystemState::default(),
                slots: Vec::new(),
            }),
            seeds: Mutex::new(seeds),
            version: watch::Sender::new(0),
        }
    }

    /// Takes a placement, unless a newer one is known.
    pub fn update(&self, state: SystemState) {
        let version = state.version;
        let mut slots = vec![ShardId::SYSTEM; SLOTS as usize];
        for (shard, row) in &state.shards {
            for (first, last) in &row.slots {
                slots[first.0 as usize..=last.0 as usize].fill(*shard);
            }
        }
        let new = Arc::new(View { state, slots });
        self.view.rcu(|old| match old.state.version < version {
            true => Arc::clone(&new),
            false => Arc::clone(old),
        });
        self.version.send_if_modified(|v| {
            let newer = version > *v;
            *v = version.max(*v);
            newer
        });
    }

    /// A copy of everything.
    pub fn state(&self) -> SystemState {
        self.view.load().state.clone()
    }

    /// Reads something of it without copying.
    pub fn with<T>(&self, read: impl FnOnce(&SystemState) -> T) -> T {
        read(&self.view.load().state)
    }

    /// The shard of a slot; `None` when no placement is known.
    pub fn shard_of(&self, slot: Slot) -> Option<ShardId> {
        let shard = *self.view.load().slots.get(slot.0 as usize)?;
        (shard != ShardId::SYSTEM).then_some(shard)
    }

    /// Counts changes; 0 before the first placement.
    pub fn version(&self) -> u64 {
        self.view.load().state.version
    }

    /// Changes of the version.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The addresses of all nodes that are known by any means, for the next start.
    pub fn addrs(&self) -> BTreeMap<NodeId, String> {
        let mut addrs = self.seeds.lock().clone();
        let view = self.view.load();
        addrs.extend(
            view.state
                .nodes
                .iter()
                .map(|(id, node)| (*id, node.addr.clone())),
        );
        addrs
    }
}

impl AddressBook for PlacementMap {
    fn addr_of(&self, node: NodeId) -> Option<String> {
        let placed = self
            .view
            .load()
            .state
            .nodes
            .get(&node)
            .map(|n| n.addr.clone());
        placed.or_else(|| self.seeds.lock().get(&node).cloned())
    }
}

//! Shards: one Raft group each, on the shared journal and index.

pub mod fault;
pub mod groups;
pub mod log;
pub mod log_store;
pub mod marks;
pub mod recover;
pub mod shard;
pub mod state_machine;
pub mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::types::*;
pub use shard::{Shard, ShardError};

/// The replicas that this node holds.
#[derive(Default)]
pub struct Shards {
    map: RwLock<BTreeMap<ShardId, Arc<Shard>>>,
}

impl Shards {
    /// The local replica of a shard.
    pub fn get(&self, shard: ShardId) -> Option<Arc<Shard>> {
        self.map.read().get(&shard).cloned()
    }

    /// All local replicas, by shard.
    pub fn all(&self) -> Vec<Arc<Shard>> {
        self.map.read().values().cloned().collect()
    }

    fn insert(&self, id: ShardId, shard: Arc<Shard>) {
        self.map.write().insert(id, shard);
    }

    fn remove(&self, id: ShardId) -> Option<Arc<Shard>> {
        self.map.write().remove(&id)
    }
}

//! Shards: one Raft group each, on the shared journal and index.

pub mod shard;
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
}

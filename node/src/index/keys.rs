//! The key space.

use serde::{Deserialize, Serialize};

/// Where the rows of one local replica live. A shard's replica gets a fresh space when a snapshot
/// is installed, so that the switch from old rows to new ones is one atomic row
/// (`Local: shard → space`). Local to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Space(pub u32);

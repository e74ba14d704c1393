//! What nodes say to each other, over gRPC on connections that all shards of a node pair share.
//!
//! ```text
//!   raft ──▶ network (openraft's traits) ──▶ peers (one connection per node) ══▶ service ──▶ raft
//!                 ├─ control    votes, heartbeats, transfers of all shards on one stream
//!                 ├─ replicate  one stream per shard, window bounded in bytes
//!                 ├─ leaders    proposals and questions to another shard's leader
//!                 ├─ repair     good octets for a damaged chunk
//!                 └─ snapshot   rows, then the blobs that the receiver lacks
//! ```
//!
//! Architecture invariant: no call is made to a node before it has said that it belongs to this
//! cluster and is the node that it should be.

pub mod control;
pub mod leaders;
pub mod network;
pub mod peers;
pub mod promises;
pub mod repair;
pub mod service;
pub mod snapshot;
mod tap;

/// Generated from `proto/peer.proto`, which documents it.
#[allow(missing_docs)]
pub mod proto {
    tonic::include_proto!("posthouse.peer.v1");
}

/// Largest gRPC message between nodes, in octets: an append request holds about 4 MiB of entries,
/// or a single larger one.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

//! The small types that every layer of the node shares.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use posthouse_client::ids::{
    AccountId, AccountName, BlobId, EmailId, MailboxId, MailboxName, MailboxRef, ModSeq, RequestId,
    SLOTS, Slot, Uid,
};

/// A set of accounts with one Raft group. 0 is the system shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId(pub u32);

impl ShardId {
    /// The shard that holds nodes, shards, slots, settings.
    pub const SYSTEM: ShardId = ShardId(0);
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A node's number in its cluster, from 1. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One copy of a shard on a node: the node's number in the upper 32 bits, a generation in the
/// lower. A replica that is rebuilt from nothing gets a new generation, so that it can never vote
/// twice in one term under one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId(pub u64);

impl ReplicaId {
    /// The replica of `node` with this generation.
    pub fn new(node: NodeId, generation: u32) -> ReplicaId {
        ReplicaId((node.0 as u64) << 32 | generation as u64)
    }

    /// The node that holds it.
    pub fn node(self) -> NodeId {
        NodeId((self.0 >> 32) as u32)
    }

    /// How many replicas of the shard this node had before this one.
    pub fn generation(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node(), self.generation())
    }
}

/// A piece of what makes a thread, by which later emails find it: the first eight octets of a
/// BLAKE3 (`mailbox::summary::threads`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ThreadKey(pub u64);

/// Emails that belong together (RFC 8474, THREADID): the number of the first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ThreadId(pub u64);

/// Who may do what with an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountState {
    /// Everything.
    #[default]
    Active,
    /// No login; mail still arrives.
    Frozen,
    /// No login, and deliveries are refused.
    Closed,
}

/// Where octets lie in this node's journal. Local to the node, never replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Location {
    /// Number of the segment.
    pub segment: u64,
    /// Offset of the first octet in the segment file.
    pub offset: u32,
    /// Number of octets.
    pub len: u32,
}

impl Location {
    /// The part `at..at + len` of these octets.
    pub fn part(self, at: u32, len: u32) -> Location {
        assert!(
            at as u64 + len as u64 <= self.len as u64,
            "part outside of its location"
        );
        Location {
            offset: self.offset + at,
            len,
            ..self
        }
    }
}

/// How stored octets are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Codec {
    /// As they came.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

//! Where an account's shard is, and the seam to the replicas of this node.
//!
//! The operations know the replicated log only as [`Proposer`]: in the node that is a
//! [`crate::raft::Shard`], in the tests of this layer a machine on an index in memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::machine::command::{Command, Reply};
use crate::machine::transfers::{Look, Looked};
use crate::raft::shard::ReadView;
use crate::raft::{Shard, ShardError, Shards};
use crate::types::*;

/// How often what finds the window of another shard full is proposed there again.
const BUSY_TRIES: u32 = 20;

/// What this node knows of the placement; answered from memory.
pub trait Routes: Send + Sync {
    /// The cluster's UUID as text; `None` before the node is a member of one.
    fn cluster_id(&self) -> Option<String>;
    /// The data shard that holds a slot; `None` when the placement is not known yet.
    fn shard_of(&self, slot: Slot) -> Option<ShardId>;
    /// Whether the placement has this data shard.
    fn has_shard(&self, shard: ShardId) -> bool;
    /// The node that leads a shard as far as this node knows, for shards it has no replica of.
    fn leader_of(&self, shard: ShardId) -> Option<NodeId>;
    /// `host:port` of a node's gRPC.
    fn leader_addr(&self, node: NodeId) -> Option<String>;
    /// Version of the placement that these answers come from.
    fn placement_version(&self) -> u64;
}

/// One replicated log and its state.
#[async_trait]
pub trait Proposer: Send + Sync {
    /// Proposes a command and waits until it is applied here.
    async fn propose(&self, command: Command, stored: Bytes) -> Result<Reply, ShardError>;
    /// A linearizable view; only the leader has it.
    async fn read(&self) -> Result<ReadView, ShardError>;
    /// What this replica has applied, however old.
    fn local_view(&self) -> Result<ReadView, ShardError>;
    /// Whether this replica believes to lead.
    fn is_leader(&self) -> bool;
    /// Who leads, as far as this replica knows.
    fn leader(&self) -> Option<NodeId>;
}

#[async_trait]
impl Proposer for Shard {
    async fn propose(&self, command: Command, stored: Bytes) -> Result<Reply, ShardError> {
        Shard::propose(self, command, stored).await
    }
    async fn read(&self) -> Result<ReadView, ShardError> {
        Shard::read(self).await
    }
    fn local_view(&self) -> Result<ReadView, ShardError> {
        Shard::local_view(self)
    }
    fn is_leader(&self) -> bool {
        Shard::is_leader(self)
    }
    fn leader(&self) -> Option<NodeId> {
        Shard::leader(self)
    }
}

/// Every shard of the cluster, by way of the node that leads it: what a shard's leader has to do
/// with another shard. Follows the leader about for a while; after that the outcome is unknown.
#[async_trait]
pub trait Leaders: Send + Sync {
    /// Proposes a command that may be repeated.
    async fn propose(
        &self,
        shard: ShardId,
        command: Command,
        stored: Bytes,
    ) -> Result<Reply, ShardError>;
    /// Asks what holds now.
    async fn look(&self, shard: ShardId, look: &Look) -> Result<Looked, ShardError>;
}

/// A shard by way of its leader, as something to propose to. What goes there is one step of many, and
/// the steps before it are lost with it: so a full window does not end it. The steps that are under
/// way at once may be more than the window lets in before it refuses the last of them, and would be
/// just as many the next time.
pub struct Elsewhere {
    /// The way.
    pub leaders: Arc<dyn Leaders>,
    /// Which.
    pub shard: ShardId,
}

#[async_trait]
impl Proposer for Elsewhere {
    async fn propose(&self, command: Command, stored: Bytes) -> Result<Reply, ShardError> {
        let mut tries = 1;
        loop {
            let (again, octets) = (command.clone(), stored.clone());
            match self.leaders.propose(self.shard, again, octets).await {
                Err(ShardError::Busy { retry_after_ms }) if tries < BUSY_TRIES => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(retry_after_ms)).await;
                }
                told => return told,
            }
        }
    }
    async fn read(&self) -> Result<ReadView, ShardError> {
        Err(ShardError::NotLeader { leader: None })
    }
    fn local_view(&self) -> Result<ReadView, ShardError> {
        Err(ShardError::NotLeader { leader: None })
    }
    fn is_leader(&self) -> bool {
        false
    }
    fn leader(&self) -> Option<NodeId> {
        None
    }
}

/// The replicas that this node holds.
pub trait Replicas: Send + Sync {
    /// The local replica of a shard.
    fn replica(&self, shard: ShardId) -> Option<Arc<dyn Proposer>>;
}

impl Replicas for Shards {
    fn replica(&self, shard: ShardId) -> Option<Arc<dyn Proposer>> {
        self.get(shard).map(|s| s as Arc<dyn Proposer>)
    }
}

/// Why a blob's octets could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Neither this replica nor the index knows the chunk.
    #[error("no such chunk")]
    Missing,
    /// Damaged here, and no peer had good octets. Says where.
    #[error("{0}")]
    Damaged(String),
    /// The disk or the peers failed; a later try may succeed.
    #[error("{0}")]
    Failed(String),
}

/// Reads stored blobs.
#[async_trait]
pub trait BlobReader: Send + Sync {
    /// The octets of one chunk, checked and decoded; fetched from a peer where they are damaged
    /// or missing here.
    async fn read_chunk(&self, shard: ShardId, blob: BlobId, seq: u32) -> Result<Bytes, BlobError>;
}

//! One local replica of a shard.

use std::sync::Arc;

use bytes::Bytes;

use crate::index::View;
use crate::index::keys::Space;
use crate::machine::command::{Command, Reply};
use crate::types::*;

/// Why a shard did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ShardError {
    /// Another replica leads, or none does.
    #[error("this node does not lead the shard")]
    NotLeader {
        /// Who does, where that is known.
        leader: Option<NodeId>,
    },
    /// The byte window of the shard or of the node is full; nothing was proposed.
    #[error("busy")]
    Busy {
        /// When to come back.
        retry_after_ms: u64,
    },
    /// The disk is nearly full; nothing was proposed.
    #[error("read-only")]
    ReadOnly,
    /// No answer in time, or the leader changed meanwhile: the outcome is unknown.
    #[error("no quorum answered in time; the outcome is unknown")]
    Unknown,
    /// The node is stopping.
    #[error("stopped")]
    Stopped,
}

/// One local replica of a shard.
pub struct Shard {}

/// Rows of a shard at one moment, at or after the read index.
pub struct ReadView {
    /// The rows.
    pub view: Arc<dyn View>,
    /// Where they live.
    pub space: Space,
}

impl Shard {
    /// Which.
    pub fn id(&self) -> ShardId {
        todo!()
    }

    /// Proposes a command and waits until it is applied here. `stored` is the stored octets of the
    /// chunk that travels with a `Store` of one chunk or a `PutChunk`, else empty.
    pub async fn propose(&self, _command: Command, _stored: Bytes) -> Result<Reply, ShardError> {
        todo!()
    }

    /// A linearizable view through the read index; only the leader has it.
    pub async fn read(&self) -> Result<ReadView, ShardError> {
        todo!()
    }

    /// Whether this replica believes to lead.
    pub fn is_leader(&self) -> bool {
        todo!()
    }

    /// The node that leads, as far as this replica knows.
    pub fn leader(&self) -> Option<NodeId> {
        todo!()
    }
}

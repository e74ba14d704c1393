//! Where good octets come from when the own ones are damaged.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::types::*;

/// Where a damaged chunk is fetched from.
pub trait ChunkSource: Send + Sync {
    /// Stored octets of a chunk for which `good` holds, and who had them.
    fn fetch<'a>(
        &'a self,
        shard: ShardId,
        blob: BlobId,
        seq: u32,
        good: &'a (dyn Fn(&[u8]) -> bool + Sync),
    ) -> BoxFuture<'a, Option<(NodeId, Bytes)>>;
}

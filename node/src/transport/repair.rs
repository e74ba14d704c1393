//! Good octets from elsewhere: the other replicas of the shard.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::peers::Peers;
use super::proto::FetchChunkRequest;
use crate::blobs::ChunkSource;
use crate::placement::PlacementMap;
use crate::types::*;

/// How long one peer has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the nodes that hold a replica of the shard, one after the other.
pub struct PeerSource {
    /// Connections.
    pub peers: Arc<Peers>,
    /// Who holds what.
    pub placement: Arc<PlacementMap>,
}

impl ChunkSource for PeerSource {
    fn fetch<'a>(
        &'a self,
        shard: ShardId,
        blob: BlobId,
        seq: u32,
        good: &'a (dyn Fn(&[u8]) -> bool + Sync),
    ) -> BoxFuture<'a, Option<(NodeId, Bytes)>> {
        Box::pin(async move {
            let nodes: Vec<NodeId> = self.placement.with(|state| {
                let row = state.shards.get(&shard);
                row.map_or_else(Vec::new, |row| {
                    row.replicas.iter().map(|r| r.id.node()).collect()
                })
            });
            for node in nodes.into_iter().filter(|n| *n != self.peers.identity.node) {
                let Ok(peer) = self.peers.get(node) else {
                    continue;
                };
                let request = FetchChunkRequest {
                    shard: shard.0,
                    blob_id: blob.0.to_vec().into(),
                    seq,
                };
                let mut client = peer.client.clone();
                let answer = tokio::time::timeout(PATIENCE, client.fetch_chunk(request)).await;
                if let Ok(Ok(answer)) = answer {
                    let stored = answer.into_inner().stored;
                    if good(&stored) {
                        return Some((node, stored));
                    }
                }
            }
            None
        })
    }
}

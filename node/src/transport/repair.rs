//! Good octets from elsewhere: the other replicas of the shard.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tonic::Code;

use super::peers::Peers;
use super::proto::FetchChunkRequest;
use crate::blobs::ChunkSource;
use crate::placement::PlacementMap;
use crate::types::*;

/// How long one peer has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the nodes that hold a replica of the shard, one after the other.
pub struct PeerSource {
    peers: Arc<Peers>,
    placement: Arc<PlacementMap>,
    /// Those that did not answer when they were asked last. They are asked after the others: a node
    /// that is gone for good costs seconds, which a scrub would pay for each chunk.
    silent: Mutex<BTreeSet<NodeId>>,
}

impl PeerSource {
    /// Over these connections, by what `placement` says of who holds what.
    pub fn new(peers: Arc<Peers>, placement: Arc<PlacementMap>) -> PeerSource {
        PeerSource {
            peers,
            placement,
            silent: Mutex::default(),
        }
    }

    /// The other nodes that should have a replica of the shard, in the order in which they are asked.
    fn nodes(&self, shard: ShardId) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.placement.with(|state| {
            let row = state.shards.get(&shard);
            row.map_or_else(Vec::new, |row| {
                row.replicas.iter().map(|r| r.id.node()).collect()
            })
        });
        nodes.retain(|n| *n != self.peers.identity.node);
        let silent = self.silent.lock();
        nodes.sort_by_key(|n| silent.contains(n));
        nodes
    }

    fn note(&self, node: NodeId, answers: bool) {
        let mut silent = self.silent.lock();
        match answers {
            true => silent.remove(&node),
            false => silent.insert(node),
        };
    }
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
            for node in self.nodes(shard) {
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
                self.note(
                    node,
                    match &answer {
                        Ok(Ok(_)) => true,
                        Ok(Err(status)) => status.code() != Code::Unavailable,
                        Err(_) => false,
                    },
                );
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

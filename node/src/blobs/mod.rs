//! Reading of stored octets. (interim)

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use posthouse_client::proto::Damage;

use crate::index::Index;
use crate::index::keys::{Key, KeyRange, Space};
use crate::index::values::ChunkLoc;
use crate::index::{Family, Next};
use crate::journal::Journal;
use crate::machine::read;
use crate::mailbox::route::{BlobError, BlobReader};
use crate::raft::state_machine::space_of;
use crate::transport::snapshot::ChunkReader;
use crate::types::*;

/// Damage found since the node started; bounded.
#[derive(Default)]
pub struct DamageLog(Mutex<Vec<Damage>>);

impl DamageLog {
    /// What was found, the newest last.
    pub fn list(&self) -> Vec<Damage> {
        self.0.lock().clone()
    }
    /// Adds a finding.
    pub fn add(&self, damage: Damage) {
        let mut log = self.0.lock();
        if log.len() < 1000 {
            log.push(damage);
        }
    }
}

/// Octets of all segments that blobs refer to.
pub fn live_bytes(index: &dyn Index) -> u64 {
    let range = KeyRange::tag(Space::NODE, 0x73);
    let mut live = 0i64;
    let _ = index.scan(Family::Local, &range.from, &range.to, &mut |key, value| {
        if let (Some((_, Key::SegmentLive(_))), Ok(n)) = (Key::decode(key), value.try_into()) {
            live += i64::from_le_bytes(n);
        }
        Next::Continue
    });
    live.max(0) as u64
}

/// Reads blobs of this node.
pub struct Blobs {
    index: Arc<dyn Index>,
    journal: Arc<Journal>,
}

impl Blobs {
    /// Over this index and journal.
    pub fn new(index: Arc<dyn Index>, journal: Arc<Journal>) -> Blobs {
        Blobs { index, journal }
    }
}

impl ChunkReader for Blobs {
    fn stored(&self, loc: ChunkLoc) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            let stored = self.journal.read_part(loc.location).await.ok()?;
            (crc32fast::hash(&stored) == loc.crc).then_some(stored)
        })
    }
}

#[async_trait]
impl BlobReader for Blobs {
    async fn read_chunk(&self, shard: ShardId, blob: BlobId, seq: u32) -> Result<Bytes, BlobError> {
        let failed = |e: crate::index::IndexError| BlobError::Failed(e.to_string());
        let space = space_of(&*self.index, shard).map_err(failed)?.ok_or(BlobError::Missing)?;
        let loc = read::chunk_loc(&*self.index, space, blob, seq).map_err(failed)?;
        let loc = loc.ok_or(BlobError::Missing)?;
        let stored = self.stored(loc).await.ok_or_else(|| BlobError::Damaged("damaged".into()))?;
        match loc.codec {
            Codec::Raw => Ok(stored),
            Codec::Zstd => zstd::bulk::decompress(&stored, loc.raw_len as usize)
                .map(Bytes::from)
                .map_err(|e| BlobError::Damaged(e.to_string())),
        }
    }
}

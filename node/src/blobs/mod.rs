//! Blobs: the octets of messages, read out of the journal, verified, mended.
//!
//! A row of the index says where a chunk's stored octets lie on this node; the row is local, so a
//! chunk can be moved (compaction) or fetched anew (repair) without anyone else knowing. Every read
//! checks the CRC of what is stored against what the replicated row of the blob says. What fails is
//! fetched from another replica, checked, served, appended to the journal as a record of its own,
//! and located there.
//!
//! A location moves by compare-and-set under the lock that applying commands takes, so that a
//! blob that is expunged meanwhile stays expunged. Octets that were appended but not located yet
//! hold a pin on their segment, so that it cannot be freed in between.

mod damage;
pub mod source;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use posthouse_client::proto::Damage;
use tokio::sync::{Mutex, oneshot};
use zstd::bulk::Decompressor;

pub use damage::DamageLog;
pub use source::ChunkSource;

use crate::env::clock::Clock;
use crate::index::keys::{Key, KeyRange, Space};
use crate::index::values::{self, ChunkLoc, Row};
use crate::index::{Batch, Family, Index, IndexError, Next};
use crate::journal::{Append, DamagedRange, Journal, JournalError, RecordHead, RecordKind};
use crate::machine::command::ChunkMeta;
use crate::machine::{local, read};
use crate::mailbox::route::{BlobError, BlobReader};
use crate::raft::state_machine::space_of;
use crate::rare::{self, Rare};
use crate::transport::snapshot::ChunkReader;
use crate::types::*;

/// How often a location may have moved away under a read.
const MOVES: usize = 8;

/// The replica of a shard on this node, as far as blobs need it.
pub struct Owner {
    /// Which.
    pub replica: ReplicaId,
    /// Held while its rows change.
    pub apply_lock: Arc<Mutex<()>>,
}

/// Says which replica of a shard is here.
pub type OwnerOf = Box<dyn Fn(ShardId) -> Option<Owner> + Send + Sync>;

/// What blobs are made of.
pub struct Parts {
    /// Rows.
    pub index: Arc<dyn Index>,
    /// Octets.
    pub journal: Arc<Journal>,
    /// Time of findings.
    pub clock: Arc<dyn Clock>,
    /// Where findings go.
    pub damage: Arc<DamageLog>,
    /// Where good octets come from.
    pub source: Arc<dyn ChunkSource>,
}

/// Reads and mends the blobs of this node.
pub struct Blobs {
    index: Arc<dyn Index>,
    journal: Arc<Journal>,
    clock: Arc<dyn Clock>,
    damage: Arc<DamageLog>,
    source: Arc<dyn ChunkSource>,
    owner_of: OnceLock<OwnerOf>,
}

/// What came of mending a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mended {
    /// Good octets came from this node and have a place here again.
    From(NodeId, Bytes),
    /// Good octets came from this node; the next read has to fetch them again.
    Passing(NodeId, Bytes),
    /// Nobody who answers has them.
    Nowhere,
}

fn good(meta: &ChunkMeta, stored: &[u8]) -> bool {
    stored.len() == meta.stored_len as usize && crc32fast::hash(stored) == meta.crc
}

impl Blobs {
    /// Over these parts. Until [`Blobs::set_owners`], damage is served around but not mended.
    pub fn new(parts: Parts) -> Blobs {
        Blobs {
            index: parts.index,
            journal: parts.journal,
            clock: parts.clock,
            damage: parts.damage,
            source: parts.source,
            owner_of: OnceLock::new(),
        }
    }

    /// The journal that holds the octets.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The index that holds the rows.
    pub fn index(&self) -> &Arc<dyn Index> {
        &self.index
    }

    /// Says who holds the rows. The first call counts.
    pub fn set_owners(&self, owner_of: OwnerOf) {
        let _ = self.owner_of.set(owner_of);
    }

    /// Stored octets at a location, verified.
    async fn load(&self, location: Location, crc: u32) -> Result<Bytes, JournalError> {
        if location.len == 0 && crc == 0 {
            // Nothing is stored, so nothing can be lost with the segment.
            return Ok(Bytes::new());
        }
        let stored = self.journal.read_part(location).await?;
        if crc32fast::hash(&stored) == crc {
            return Ok(stored);
        }
        Err(JournalError::Damaged(Box::new(DamagedRange {
            file: self.journal.segment_file(location.segment),
            segment: location.segment,
            offset: location.offset as u64,
            len: location.len as u64,
            cause: crate::journal::Cause::Payload,
            record: None,
        })))
    }

    async fn read(&self, shard: ShardId, blob: BlobId, seq: u32) -> Result<Bytes, BlobError> {
        let failed = |e: IndexError| BlobError::Failed(e.to_string());
        for _ in 0..MOVES {
            let space = space_of(&*self.index, shard)
                .map_err(failed)?
                .ok_or(BlobError::Missing)?;
            let row = read::blob(&*self.index, space, blob).map_err(failed)?;
            let meta = row
                .as_ref()
                .and_then(|row| row.chunks.get(seq as usize))
                .copied();
            let meta = meta.ok_or(BlobError::Missing)?;
            let loc = read::chunk_loc(&*self.index, space, blob, seq).map_err(failed)?;
            let why = match &loc {
                None => None,
                Some(loc) => match self.load(loc.location, meta.crc).await {
                    Ok(stored) if good(&meta, &stored) => return decode(&meta, stored),
                    // Moved away under us: the row knows where.
                    Err(JournalError::Gone { .. })
                        if read::chunk_loc(&*self.index, space, blob, seq).map_err(failed)?
                            != Some(*loc) =>
                    {
                        rare::hit(Rare::ChunkMovedUnderRead);
                        continue;
                    }
                    Ok(_) => None,
                    Err(JournalError::Damaged(range)) => Some(*range),
                    Err(JournalError::Gone { .. }) => None,
                    Err(e) => return Err(BlobError::Failed(e.to_string())),
                },
            };
            let mended = self.mend(shard, space, blob, seq, &meta, loc).await;
            let text = self.report(loc, why, &mended, blob, seq);
            return match mended {
                Mended::From(_, stored) | Mended::Passing(_, stored) => decode(&meta, stored),
                Mended::Nowhere => Err(BlobError::Damaged(text)),
            };
        }
        Err(BlobError::Failed(
            "the chunk moves faster than it can be read".into(),
        ))
    }

    /// Fetches good octets of a chunk from another replica and gives them a place here.
    pub async fn mend(
        &self,
        shard: ShardId,
        space: Space,
        blob: BlobId,
        seq: u32,
        meta: &ChunkMeta,
        old: Option<ChunkLoc>,
    ) -> Mended {
        let accept = |stored: &[u8]| good(meta, stored);
        let Some((node, stored)) = self.source.fetch(shard, blob, seq, &accept).await else {
            rare::hit(Rare::ChunkDamagedEverywhere);
            return Mended::Nowhere;
        };
        let placed = self
            .place(shard, space, blob, seq, meta, old, stored.clone())
            .await;
        match placed {
            Ok(true) => {
                rare::hit(Rare::ChunkRepaired);
                Mended::From(node, stored)
            }
            Ok(false) => {
                rare::hit(Rare::ChunkPassedOn);
                Mended::Passing(node, stored)
            }
            Err(e) => {
                tracing::warn!(%blob, seq, "a repaired chunk could not be stored: {e:#}");
                Mended::Passing(node, stored)
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    async fn place(
        &self,
        shard: ShardId,
        space: Space,
        blob: BlobId,
        seq: u32,
        meta: &ChunkMeta,
        old: Option<ChunkLoc>,
        stored: Bytes,
    ) -> anyhow::Result<bool> {
        let Some(owner) = self.owner(shard) else {
            return Ok(false);
        };
        let places = self
            .append_pinned(vec![(shard, owner.replica, stored)])
            .await?;
        let key = Key::BlobLoc { blob, seq };
        let row = ChunkLoc::new(places.locations[0], meta);
        Ok(self.relocate(shard, space, &key, old, row).await?)
    }

    /// The replica of a shard that is here.
    pub fn owner(&self, shard: ShardId) -> Option<Owner> {
        self.owner_of.get().and_then(|owner_of| owner_of(shard))
    }

    /// Appends stored octets as records of their own and waits for the sync. Their segments stay
    /// pinned until the answer is dropped.
    pub async fn append_pinned(
        &self,
        octets: Vec<(ShardId, ReplicaId, Bytes)>,
    ) -> Result<PinnedPlaces, JournalError> {
        let record = |(shard, replica, stored)| Append {
            head: RecordHead {
                kind: RecordKind::Blob,
                shard,
                replica,
                index: 0,
                term: 0,
                leader: 0,
                codec: 0,
            },
            payload: vec![stored],
        };
        let records = octets.into_iter().map(record).collect();
        let (tell, told) = oneshot::channel();
        let journal = Arc::clone(&self.journal);
        let done = move |result: Result<Vec<Location>, JournalError>| {
            // Pinned before anyone else can see that the segment is sealed and holds nothing.
            let places = result.map(|locations| PinnedPlaces::new(journal, locations));
            drop(tell.send(places));
        };
        self.journal.submit(records, Box::new(done)).await?;
        told.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Points a row from `old` to `new`, if it still says `old` and its space is still the shard's.
    pub async fn relocate(
        &self,
        shard: ShardId,
        space: Space,
        key: &Key<'_>,
        old: Option<ChunkLoc>,
        new: ChunkLoc,
    ) -> Result<bool, IndexError> {
        let Some(owner) = self.owner(shard) else {
            return Ok(false);
        };
        let _guard = owner.apply_lock.lock().await;
        if space_of(&*self.index, shard)? != Some(space)
            || values::get::<ChunkLoc>(&*self.index, space, key)? != old
        {
            rare::hit(Rare::LocationChanged);
            return Ok(false);
        }
        if let Key::BlobLoc { blob, seq } = *key {
            // Without a row the location may be missing because the blob is gone.
            let row = read::blob(&*self.index, space, blob)?;
            let meta = row.as_ref().and_then(|row| row.chunks.get(seq as usize));
            if meta.is_none_or(|m| m.crc != new.crc || m.stored_len != new.location.len) {
                return Ok(false);
            }
        }
        let mut batch = Batch::default();
        batch.put(Family::Local, key.encode(space), new.encode());
        let live = |segment| Key::SegmentLive(segment).encode(Space::NODE);
        if let Some(old) = old {
            batch.add(live(old.location.segment), -(old.location.len as i64));
        }
        batch.add(live(new.location.segment), new.location.len as i64);
        self.index.write(batch)?;
        Ok(true)
    }

    fn report(
        &self,
        loc: Option<ChunkLoc>,
        why: Option<DamagedRange>,
        mended: &Mended,
        blob: BlobId,
        seq: u32,
    ) -> String {
        let action = match mended {
            Mended::From(node, _) => format!("repaired from node {node}"),
            Mended::Passing(node, _) => format!("served from node {node}, not stored yet"),
            Mended::Nowhere => "waiting for a peer that has it".into(),
        };
        let cause = why.as_ref().map_or_else(
            || format!("chunk {seq} of blob {blob} has no octets here"),
            |why| format!("{} (chunk {seq} of blob {blob})", why.cause),
        );
        let segment = loc.map(|loc| loc.location.segment);
        let finding = Damage {
            file: segment.map_or_else(String::new, |s| {
                self.journal.segment_file(s).display().to_string()
            }),
            offset: loc.map_or(0, |loc| loc.location.offset as u64),
            length: loc.map_or(0, |loc| loc.location.len as u64),
            cause: cause.clone(),
            action: action.clone(),
            time_ms: self.clock.now_ms(),
        };
        let text = format!(
            "{} at {}+{}: {cause}; {action}",
            finding.file, finding.offset, finding.length
        );
        self.damage.add(finding);
        text
    }
}

/// Locations whose segments cannot be freed as long as this lives.
pub struct PinnedPlaces {
    journal: Arc<Journal>,
    /// One per record, in order.
    pub locations: Vec<Location>,
}

impl PinnedPlaces {
    fn new(journal: Arc<Journal>, locations: Vec<Location>) -> PinnedPlaces {
        locations.iter().for_each(|at| journal.pin(at.segment, 1));
        PinnedPlaces { journal, locations }
    }
}

impl Drop for PinnedPlaces {
    fn drop(&mut self) {
        self.locations
            .iter()
            .for_each(|at| self.journal.pin(at.segment, -1));
    }
}

thread_local! {
    /// A context costs more to make than a small chunk to unpack; it holds 160 KB.
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The octets of a zstd frame, at most `limit_bytes`.
fn unpack(stored: &[u8], limit_bytes: usize) -> io::Result<Vec<u8>> {
    UNPACKER.with_borrow_mut(|kept| {
        let unpacker = match kept {
            Some(unpacker) => unpacker,
            None => kept.insert(Decompressor::new()?),
        };
        unpacker.decompress(stored, limit_bytes)
    })
}

/// The octets of a chunk, from the stored ones; never more than the row announces.
fn decode(meta: &ChunkMeta, stored: Bytes) -> Result<Bytes, BlobError> {
    let raw = match meta.codec {
        Codec::Raw => stored,
        Codec::Zstd => unpack(&stored, meta.raw_len as usize)
            .map(Bytes::from)
            .map_err(|e| BlobError::Damaged(format!("stored octets that do not decode: {e}")))?,
    };
    match raw.len() == meta.raw_len as usize {
        true => Ok(raw),
        false => Err(BlobError::Damaged(
            "a chunk that decodes to another length".into(),
        )),
    }
}

/// Octets of all segments that blobs refer to.
pub fn live_bytes(index: &dyn Index) -> u64 {
    let range = KeyRange::tag(Space::NODE, 0x73);
    let mut live = 0i64;
    let scanned = index.scan(Family::Local, &range.from, &range.to, &mut |key, value| {
        if let (Some((_, Key::SegmentLive(_))), Ok(n)) = (Key::decode(key), value.try_into()) {
            live += i64::from_le_bytes(n);
        }
        Next::Continue
    });
    if let Err(e) = scanned {
        tracing::warn!("cannot sum up live bytes: {e}");
    }
    live.max(0) as u64
}

impl ChunkReader for Blobs {
    fn stored(
        &self,
        shard: ShardId,
        at: local::Chunk,
        mut loc: ChunkLoc,
    ) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            for _ in 0..MOVES {
                if let Ok(stored) = self.load(loc.location, loc.crc).await {
                    return Some(stored);
                }
                // A snapshot travels for as long as it takes, and its rows are of the moment when
                // it began: compaction has moved the octets since and freed where they lay, or they
                // were mended. The newest rows know where they are.
                let space = space_of(&*self.index, shard).ok()??;
                let now = local::loc(&*self.index, space, at).ok()??;
                if now.location == loc.location || now.crc != loc.crc {
                    return None;
                }
                rare::hit(Rare::ChunkMovedUnderRead);
                loc = now;
            }
            None
        })
    }
}

#[async_trait]
impl BlobReader for Blobs {
    async fn read_chunk(&self, shard: ShardId, blob: BlobId, seq: u32) -> Result<Bytes, BlobError> {
        self.read(shard, blob, seq).await
    }
}

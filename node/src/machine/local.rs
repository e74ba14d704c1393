//! Locations of octets on this node: moved by compaction, set by repair, taken away with damage.
//!
//! Each function reads a view and answers a batch, or `None` where there is nothing to do. Between
//! the view and the write of the batch nobody else may write to the space: the caller holds what
//! orders the writes of the replica. That makes each of them a compare-and-set.

use std::collections::BTreeMap;

use super::command::UploadId;
use crate::index::keys::{Key, KeyRange, Space};
use crate::index::values::{self, BlobRow, ChunkLoc, Row, get};
use crate::index::{Batch, Family, IndexError, Next, View};
use crate::types::*;

/// A chunk with a location row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chunk {
    /// Of a blob.
    Blob(BlobId, u32),
    /// Of an arrival.
    Upload(UploadId, u32),
}

impl Chunk {
    /// Its location row.
    pub fn key(self) -> Key<'static> {
        match self {
            Chunk::Blob(blob, seq) => Key::BlobLoc { blob, seq },
            Chunk::Upload(upload, seq) => Key::UploadLoc { upload, seq },
        }
    }
}

fn set(batch: &mut Batch, space: Space, key: Key, old: Option<&ChunkLoc>, new: Option<&ChunkLoc>) {
    let octets = key.encode(space);
    match new {
        Some(loc) => batch.put(Family::Local, octets, loc.encode()),
        None => batch.delete(Family::Local, octets),
    }
    for (loc, sign) in [(old, -1), (new, 1)] {
        if let Some(ChunkLoc { location, .. }) = loc {
            let live = Key::SegmentLive(location.segment).encode(Space::NODE);
            batch.add(live, sign * location.len as i64);
        }
    }
}

/// Where a chunk lies.
pub fn loc(view: &dyn View, space: Space, chunk: Chunk) -> Result<Option<ChunkLoc>, IndexError> {
    get(view, space, &chunk.key())
}

/// Moves a chunk that still lies at `from`: its octets were copied to `to`.
pub fn relocate(
    view: &dyn View,
    space: Space,
    chunk: Chunk,
    from: Location,
    to: Location,
) -> Result<Option<Batch>, IndexError> {
    let Some(old) = loc(view, space, chunk)?.filter(|old| old.location == from) else {
        return Ok(None);
    };
    assert!(from.len == to.len, "a move keeps the octets");
    let new = ChunkLoc {
        location: to,
        ..old
    };
    let mut batch = Batch::default();
    set(&mut batch, space, chunk.key(), Some(&old), Some(&new));
    Ok(Some(batch))
}

/// Gives a chunk of a blob the location of good octets; replaces one that it may have. Nothing to
/// do when the blob is gone meanwhile.
pub fn place(
    view: &dyn View,
    space: Space,
    blob: BlobId,
    seq: u32,
    new: &ChunkLoc,
) -> Result<Option<Batch>, IndexError> {
    let row: Option<BlobRow> = get(view, space, &Key::Blob(blob))?;
    let known = row.and_then(|row| row.chunks.get(seq as usize).copied());
    if known.is_none_or(|chunk| chunk.raw_len != new.raw_len) {
        return Ok(None);
    }
    let key = Key::BlobLoc { blob, seq };
    let old: Option<ChunkLoc> = get(view, space, &key)?;
    let mut batch = Batch::default();
    set(&mut batch, space, key, old.as_ref(), Some(new));
    Ok(Some(batch))
}

/// Takes the location of a chunk away that still lies at `from`: the octets there are damaged.
pub fn forget(
    view: &dyn View,
    space: Space,
    chunk: Chunk,
    from: Location,
) -> Result<Option<Batch>, IndexError> {
    let Some(old) = loc(view, space, chunk)?.filter(|old| old.location == from) else {
        return Ok(None);
    };
    let mut batch = Batch::default();
    set(&mut batch, space, chunk.key(), Some(&old), None);
    Ok(Some(batch))
}

/// Octets of each segment that location rows of any space point to.
pub fn live_bytes(view: &dyn View) -> Result<BTreeMap<u64, i64>, IndexError> {
    let mut live = BTreeMap::new();
    let mut damaged = None;
    let range = KeyRange::tag(Space::NODE, Key::SegmentLive(0).tag());
    view.scan(Family::Local, &range.from, &range.to, &mut |key, value| {
        match (Key::decode(key), values::decode::<i64>(key, value)) {
            (Some((_, Key::SegmentLive(segment))), Ok(bytes)) => {
                live.insert(segment, bytes);
            }
            (_, Err(e)) => damaged = Some(e),
            _ => {}
        }
        match damaged {
            None => Next::Continue,
            Some(_) => Next::Stop,
        }
    })?;
    damaged.map_or(Ok(live), Err)
}

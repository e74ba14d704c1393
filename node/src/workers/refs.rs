//! Which rows of the index point into given segments: the one walk that compaction and scrub share.
//!
//! Location rows lead from blobs to segments and not back; a reverse row per chunk would cost a
//! write for each delivery. So the rows are walked, a page at a time, over a view of one moment.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::index::keys::{Key, KeyRange, Space};
use crate::index::values::{self, ChunkLoc};
use crate::index::{Family, IndexError, Next, View};
use crate::raft::state_machine::space_of;
use crate::types::*;

/// Rows looked at before others may run.
const PAGE_ROWS: usize = 4096;

/// A row that points into a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its space.
    pub space: Space,
    /// Its key, encoded.
    pub key: Bytes,
    /// What it says.
    pub loc: ChunkLoc,
}

/// The shard of each space that is one.
pub fn owned_spaces(view: &dyn View) -> Result<BTreeMap<Space, ShardId>, IndexError> {
    let range = KeyRange::tag(Space::NODE, 0x72);
    let mut shards = Vec::new();
    view.scan(Family::Local, &range.from, &range.to, &mut |key, _| {
        if let Some((_, Key::ShardSpace(shard))) = Key::decode(key) {
            shards.push(shard);
        }
        Next::Continue
    })?;
    let mut spaces = BTreeMap::new();
    for shard in shards {
        if let Some(space) = space_of(view, shard)? {
            spaces.insert(space, shard);
        }
    }
    Ok(spaces)
}

/// All rows of `view` that point to octets for which `wanted` holds, at most `limit`.
pub async fn references(
    view: &dyn View,
    limit: usize,
    wanted: impl Fn(&Location) -> bool,
) -> Result<Vec<Reference>, IndexError> {
    let mut found = Vec::new();
    let mut from = Bytes::copy_from_slice(&Space::FIRST.0.to_be_bytes());
    let to = Bytes::from_static(&[0xff; 5]);
    loop {
        let mut seen = 0;
        let mut last = None;
        let mut damaged = None;
        view.scan(Family::Local, &from, &to, &mut |key, value| {
            seen += 1;
            if let Some((space, Key::BlobLoc { .. } | Key::UploadLoc { .. })) = Key::decode(key) {
                match values::decode::<ChunkLoc>(key, value) {
                    Ok(loc) if wanted(&loc.location) => found.push(Reference {
                        space,
                        key: Bytes::copy_from_slice(key),
                        loc,
                    }),
                    Ok(_) => {}
                    Err(e) => damaged = Some(e),
                }
            }
            last = Some(Bytes::copy_from_slice(key));
            match seen < PAGE_ROWS && found.len() < limit && damaged.is_none() {
                true => Next::Continue,
                false => Next::Stop,
            }
        })?;
        if let Some(e) = damaged {
            return Err(e);
        }
        match last {
            Some(last) if seen >= PAGE_ROWS && found.len() < limit => {
                from = [&last[..], &[0]].concat().into();
            }
            _ => return Ok(found),
        }
        tokio::task::yield_now().await;
    }
}

/// Octets of each segment that rows count as live; segments without any are missing.
pub fn live_by_segment(view: &dyn View) -> Result<BTreeMap<u64, u64>, IndexError> {
    let range = KeyRange::tag(Space::NODE, 0x73);
    let mut live = BTreeMap::new();
    view.scan(Family::Local, &range.from, &range.to, &mut |key, value| {
        if let (Some((_, Key::SegmentLive(segment))), Ok(n)) = (Key::decode(key), value.try_into())
        {
            live.insert(segment, i64::from_le_bytes(n).max(0) as u64);
        }
        Next::Continue
    })?;
    live.retain(|_, bytes| *bytes > 0);
    Ok(live)
}

/// Segments that rows point into, octets or not.
pub fn segments_of(references: &[Reference]) -> BTreeSet<u64> {
    references.iter().map(|r| r.loc.location.segment).collect()
}

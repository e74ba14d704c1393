//! Replicated rows in pages, for snapshots: read from one space, written into a fresh one, and a
//! space that is no longer used is removed.

use bytes::Bytes;

use crate::index::keys::{Key, KeyRange, Space, tag};
use crate::index::values::{self, ChunkLoc};
use crate::index::{Batch, Family, IndexError, Next, View};

/// Families whose rows are replicated, in the order of a snapshot.
pub const REPLICATED: [Family; 2] = [Family::State, Family::Cold];

/// A replicated row, without its space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceRow {
    /// `State` or `Cold`.
    pub family: Family,
    /// The key after the space.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// The place in a walk over the rows of a space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Index into [`REPLICATED`].
    family: usize,
    /// The last key that was shown, without its space.
    after: Option<Bytes>,
}

/// The key of a row without a space in a space.
pub fn in_space(space: Space, key: &[u8]) -> Bytes {
    [&space.0.to_be_bytes()[..], key].concat().into()
}

/// The next rows of a space, about `bytes` octets; moves the cursor. None are left when it answers
/// no rows.
pub fn page(
    view: &dyn View,
    space: Space,
    cursor: &mut Cursor,
    bytes: usize,
) -> Result<Vec<SpaceRow>, IndexError> {
    let mut rows = Vec::new();
    let mut size = 0;
    while let Some(&family) = REPLICATED.get(cursor.family) {
        let range = KeyRange::space(space);
        let from = match &cursor.after {
            Some(key) => [&in_space(space, key)[..], &[0]].concat().into(),
            None => range.from,
        };
        let mut full = false;
        view.scan(family, &from, &range.to, &mut |key, value| {
            size += key.len() + value.len();
            rows.push(SpaceRow {
                family,
                key: Bytes::copy_from_slice(&key[4..]),
                value: Bytes::copy_from_slice(value),
            });
            full = size >= bytes;
            match full {
                true => Next::Stop,
                false => Next::Continue,
            }
        })?;
        if full {
            cursor.after = rows.last().map(|row| row.key.clone());
            break;
        }
        cursor.family += 1;
        cursor.after = None;
    }
    Ok(rows)
}

/// Adds received rows to a batch for a fresh space. Rows of a family that is not replicated, or
/// without a key of this version, are refused: they came over the network.
pub fn write(batch: &mut Batch, space: Space, rows: Vec<SpaceRow>) -> Result<(), IndexError> {
    for row in rows {
        let key = in_space(space, &row.key);
        match Key::decode(&key) {
            Some((_, known)) if known.family() == row.family && row.family != Family::Local => {
                batch.put(row.family, key, row.value)
            }
            _ => {
                return Err(IndexError::Failed(
                    "a snapshot holds a row that this version does not know".into(),
                ));
            }
        }
    }
    Ok(())
}

/// One step of removing a space: a batch that takes away a page of location rows and their live
/// octets, or at last all other rows. `None`: nothing is left.
///
/// To be repeated, one write a step, until there is none; a crash between steps is harmless.
pub fn purge_step(view: &dyn View, space: Space) -> Result<Option<Batch>, IndexError> {
    const LOCS_PER_STEP: usize = 4096;
    let mut batch = Batch::default();
    let locs = KeyRange {
        from: KeyRange::tag(space, tag::BLOB_LOC).from,
        to: KeyRange::tag(space, tag::UPLOAD_LOC).to,
    };
    let mut damaged = None;
    view.scan(Family::Local, &locs.from, &locs.to, &mut |key, value| {
        match values::decode::<ChunkLoc>(key, value) {
            Ok(loc) => {
                let live = Key::SegmentLive(loc.location.segment).encode(Space::NODE);
                batch.add(live, -(loc.location.len as i64));
                batch.delete(Family::Local, Bytes::copy_from_slice(key));
            }
            Err(e) => damaged = Some(e),
        }
        match batch.changes.len() < 2 * LOCS_PER_STEP && damaged.is_none() {
            true => Next::Continue,
            false => Next::Stop,
        }
    })?;
    if let Some(e) = damaged {
        return Err(e);
    }
    if !batch.changes.is_empty() {
        return Ok(Some(batch));
    }
    let all = KeyRange::space(space);
    let mut any = false;
    for family in Family::ALL {
        view.scan(family, &all.from, &all.to, &mut |_, _| {
            any = true;
            Next::Stop
        })?;
        batch.delete_range(family, all.from.clone(), all.to.clone());
    }
    Ok(any.then_some(batch))
}

//! Frees space in the journal: segments that hold little or nothing any more are emptied and given
//! back.
//!
//! Live is what a log still needs (a pin) or what a row of the index points to. In this order, so
//! that a crash at any moment leaves every location pointing to octets that are there:
//!
//! ```text
//!   choose   sealed, no pins, few live octets
//!   copy     survivors to the end of the journal, paced; synced
//!   move     their rows, each by compare-and-set under its replica's apply lock
//!   check    in a view of one moment that no row of any space points into the segment
//!   flush    the index, so that no crash brings an old row back
//!   free     the segment: recycled or removed
//! ```
//!
//! While the last three run, no snapshot is received: a receiver copies locations from one space
//! to another, and could copy one that was just moved.

use std::any::Any;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::blobs::Blobs;
use crate::env::Env;
use crate::index::keys::{Key, Space};
use crate::index::values::ChunkLoc;
use crate::index::{Batch, Family, Index};
use crate::journal::{Journal, JournalError, SegmentInfo};
use crate::rare::{self, Rare};
use crate::types::*;

use super::refs::{self, Reference};

/// Segments emptied in one turn at most.
const VICTIMS: usize = 8;
/// Octets copied with one sync.
const COPY_BYTES: usize = 4 << 20;

/// How compaction works.
#[derive(Debug, Clone, Copy)]
pub struct CompactionSettings {
    /// Octets copied a second at most.
    pub bytes_per_s: u64,
    /// Live share of a segment, percent, up to which it is worth emptying ...
    pub live_percent: u64,
    /// ... and when the disk is fuller than four fifths.
    pub live_percent_tight: u64,
    /// Rows moved in one turn at most; the rest of a segment waits for the next.
    pub rows: usize,
}

impl Default for CompactionSettings {
    fn default() -> Self {
        CompactionSettings {
            bytes_per_s: 32 << 20,
            live_percent: 50,
            live_percent_tight: 60,
            rows: 100_000,
        }
    }
}

/// The worker.
pub struct Compaction {
    env: Env,
    dir: PathBuf,
    journal: Arc<Journal>,
    index: Arc<dyn Index>,
    blobs: Arc<Blobs>,
    hold_snapshots: HoldSnapshots,
    settings: CompactionSettings,
}

/// Keeps snapshots from being received as long as the answer lives; `None` while one is.
pub type HoldSnapshots = Box<dyn Fn() -> Option<Box<dyn Any + Send>> + Send + Sync>;

/// Segments worth emptying, those with the fewest live octets first.
pub fn choose(
    segments: &[SegmentInfo],
    live: &dyn Fn(u64) -> u64,
    live_percent: u64,
) -> Vec<(u64, u64)> {
    let newest = segments.last().map_or(0, |s| s.number);
    let mut victims: Vec<(u64, u64)> = segments
        .iter()
        .filter(|s| s.sealed && s.pins == 0 && s.number != newest)
        .map(|s| (live(s.number), s))
        .filter(|(live, s)| live * 100 <= s.bytes * live_percent)
        .map(|(live, s)| (live, s.number))
        .collect();
    victims.sort_unstable();
    victims.truncate(VICTIMS);
    victims
        .into_iter()
        .map(|(live, number)| (number, live))
        .collect()
}

impl Compaction {
    /// Over the journal and index of these blobs, on the disk of `dir`.
    pub fn new(
        env: Env,
        dir: PathBuf,
        blobs: Arc<Blobs>,
        hold_snapshots: HoldSnapshots,
        settings: CompactionSettings,
    ) -> Compaction {
        Compaction {
            env,
            dir,
            journal: Arc::clone(blobs.journal()),
            index: Arc::clone(blobs.index()),
            blobs,
            hold_snapshots,
            settings,
        }
    }

    /// Empties and frees a few segments, if any are worth it.
    pub async fn turn(&self) -> anyhow::Result<Option<String>> {
        let space = self.env.disk.space(&self.dir).await?;
        let tight = space.free_bytes < space.total_bytes / 5;
        let percent = match tight {
            true => self.settings.live_percent_tight,
            false => self.settings.live_percent,
        };
        let live = refs::live_by_segment(&*self.index)?;
        let live_of = |segment| live.get(&segment).copied().unwrap_or(0);
        let victims = choose(&self.journal.segments(), &live_of, percent);
        if victims.is_empty() {
            return Ok(None);
        }
        let numbers: BTreeSet<u64> = victims.iter().map(|(number, _)| *number).collect();
        let mut moved_bytes = 0;
        if victims.iter().any(|(_, live)| *live > 0) {
            moved_bytes = self.empty(&numbers).await?;
        }
        let freed = self.free(numbers).await?;
        Ok(Some(format!(
            "{} segments freed, {} MiB of survivors moved",
            freed,
            moved_bytes >> 20
        )))
    }

    /// Copies what is alive in the segments, and moves its rows.
    async fn empty(&self, victims: &BTreeSet<u64>) -> anyhow::Result<u64> {
        let view = self.index.view();
        let owned = refs::owned_spaces(&*view)?;
        let wanted = |at: &Location| at.len > 0 && victims.contains(&at.segment);
        let mut references = refs::references(&*view, self.settings.rows, wanted).await?;
        // Rows of spaces that are arriving or going are left alone, and hold their segment back.
        references.retain(|r| owned.contains_key(&r.space));
        // In the order of the journal, so that reading is sequential and neighbours stay together;
        // rows that share their octets (a blob of several shards does not) come side by side.
        references.sort_by_key(|r| (r.loc.location.segment, r.loc.location.offset));
        let mut moved = 0;
        let mut batch: Vec<(ShardId, Reference)> = Vec::new();
        let mut bytes = 0;
        for reference in references {
            bytes += reference.loc.location.len as usize;
            batch.push((owned[&reference.space], reference));
            if bytes >= COPY_BYTES {
                moved += self.copy(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        Ok(moved + self.copy(batch).await?)
    }

    async fn copy(&self, batch: Vec<(ShardId, Reference)>) -> anyhow::Result<u64> {
        let mut records = Vec::with_capacity(batch.len());
        let mut kept = Vec::with_capacity(batch.len());
        for (shard, reference) in batch {
            let Some(owner) = self.blobs.owner(shard) else {
                continue;
            };
            let stored = match self.journal.read_part(reference.loc.location).await {
                Ok(stored) => stored,
                Err(JournalError::Gone { .. } | JournalError::Damaged(_)) => {
                    rare::hit(Rare::CompactionSkipped);
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            if crc32fast::hash(&stored) != reference.loc.crc {
                // Scrub and reads repair it; until then its segment stays.
                rare::hit(Rare::CompactionSkipped);
                continue;
            }
            records.push((shard, owner.replica, stored));
            kept.push((shard, reference));
        }
        if records.is_empty() {
            return Ok(0);
        }
        let places = self.blobs.append_pinned(records).await?;
        let mut moved = 0;
        for ((shard, reference), at) in kept.into_iter().zip(&places.locations) {
            let Some((space, key)) = Key::decode(&reference.key) else {
                continue;
            };
            let new = ChunkLoc {
                location: *at,
                ..reference.loc
            };
            if self
                .blobs
                .relocate(shard, space, &key, Some(reference.loc), new)
                .await?
            {
                rare::hit(Rare::CompactionMoved);
                moved += at.len as u64;
            }
        }
        let pause = moved as f64 / self.settings.bytes_per_s as f64;
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        Ok(moved)
    }

    /// Frees those of the segments that nothing points into any more.
    async fn free(&self, mut victims: BTreeSet<u64>) -> anyhow::Result<usize> {
        let Some(_held) = (self.hold_snapshots)() else {
            rare::hit(Rare::CompactionHeld);
            return Ok(0);
        };
        let view = self.index.view();
        let wanted = |at: &Location| at.len > 0 && victims.contains(&at.segment);
        let left = refs::references(&*view, self.settings.rows, wanted).await?;
        let held = refs::segments_of(&left);
        victims.retain(|segment| !held.contains(segment));
        if left.len() >= self.settings.rows {
            // The walk stopped early: what it did not see may point anywhere.
            return Ok(0);
        }
        drop(view);
        if victims.is_empty() {
            return Ok(0);
        }
        self.index.flush().await?;
        let mut freed = 0;
        let mut batch = Batch::default();
        for segment in victims {
            match self.journal.free(segment).await {
                Ok(()) => {
                    rare::hit(Rare::SegmentFreed);
                    freed += 1;
                    let row = Key::SegmentLive(segment).encode(Space::NODE);
                    batch.delete(Family::Local, row);
                }
                // Nothing is lost by leaving it. It does not come about: pins are set before their
                // segment is sealed, and nobody else frees.
                Err(JournalError::InUse { .. } | JournalError::Gone { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.index.write(batch)?;
        Ok(freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u64, sealed: bool, pins: i64) -> SegmentInfo {
        SegmentInfo {
            number,
            bytes: 1000,
            sealed,
            pins,
            created_ms: 0,
        }
    }

    #[test]
    fn the_emptiest_segments_are_chosen_and_never_the_newest_or_a_pinned_one() {
        let segments = [
            segment(1, true, 0),
            segment(2, true, 1),
            segment(3, true, 0),
            segment(4, true, 0),
            segment(5, true, 0),
            segment(6, true, 0),
        ];
        let live = |n| [0, 500, 0, 501, 100, 0, 0][n as usize];
        assert_eq!(choose(&segments, &live, 50), [(5, 0), (4, 100), (1, 500)]);
        assert_eq!(
            choose(&segments, &live, 60),
            [(5, 0), (4, 100), (1, 500), (3, 501)]
        );
        assert_eq!(
            choose(&[segment(1, false, 0), segment(2, false, 0)], &live, 50),
            []
        );
    }
}

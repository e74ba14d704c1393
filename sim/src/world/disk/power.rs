//! What a power failure leaves of a file: of every sector that was not synced the old or the new
//! content, whatever their order, and one of those on their way to the platter torn.
//!
//! Nothing is assumed about barriers: the drive may write what the cache holds whenever it likes.
//! Sectors are atomic but for the torn one (Pillai et al., "All File Systems Are Not Created
//! Equal", OSDI '14, section 2; Zheng et al., "Understanding the Robustness of SSDs under Power
//! Fault", FAST '13, saw shorn writes on real drives).

use std::sync::Arc;

use rand::RngExt;

use super::inode::{Inode, PAGE, Page, Unsynced};
use crate::stream::Stream;

/// Of a hundred unsynced sectors of a file, so many have reached the platter: nothing, all, and
/// what lies between find different bugs.
const KEPT_PERCENT: [u32; 6] = [0, 100, 50, 50, 10, 90];

/// Of a hundred power failures in the middle of a sync, so many tear a sector.
const TORN_PERCENT: u32 = 25;

/// The power fails.
pub(super) fn fail(inode: &mut Inode, rng: &mut Stream) {
    if inode.is_durable() {
        return;
    }
    let percent = KEPT_PERCENT[rng.random_range(0..KEPT_PERCENT.len())];
    // Lengths follow the mood of the failure too, so that content beyond an end can survive whole.
    let kept = match percent {
        0 => 0,
        100 => inode.lengths(),
        _ => rng.random_range(0..=inode.lengths()),
    };
    let sector = inode.sector();
    let (survived, pages) = inode.unsynced(kept);
    let torn = pick_torn(&pages, sector, rng);
    let mut left = Vec::with_capacity(pages.len());
    for (number, page) in &pages {
        let torn = torn.filter(|t| t.0 == *number).map(|t| (t.1, t.2));
        left.push((*number, settle(page, sector, survived, percent, torn, rng)));
    }
    inode.settle(kept, left);
}

/// Page, sector in it and octet in that where the head stopped.
fn pick_torn(
    pages: &[(u32, Unsynced<'_>)],
    sector: usize,
    rng: &mut Stream,
) -> Option<(u32, usize, usize)> {
    let flying = |p: &&(u32, Unsynced<'_>)| p.1.entries.iter().any(|e| e.1 && e.0.cut.is_none());
    let count = pages.iter().filter(flying).count();
    if count == 0 || !rng.random_ratio(TORN_PERCENT, 100) {
        return None;
    }
    let (number, _) = pages
        .iter()
        .filter(flying)
        .nth(rng.random_range(0..count))?;
    let within = rng.random_range(0..PAGE / sector);
    Some((*number, within, rng.random_range(1..sector)))
}

/// One page: for each sector, the newest of its versions that was kept.
fn settle(
    page: &Unsynced<'_>,
    sector: usize,
    survived: u64,
    percent: u32,
    torn: Option<(usize, usize)>,
    rng: &mut Stream,
) -> Option<Page> {
    let entries = &page.entries;
    let mut out = page.seen.map_or([0; PAGE], |p| **p);
    for n in 0..PAGE / sector {
        let range = n * sector..(n + 1) * sector;
        let mut first = true;
        for (at, (before, in_flight)) in entries.iter().enumerate() {
            if before.sectors & (1 << n) == 0 {
                continue;
            }
            if first {
                first = false;
                match &before.old {
                    Some(old) => out[range.clone()].copy_from_slice(&old[range.clone()]),
                    None => out[range.clone()].fill(0),
                }
            }
            match before.cut {
                // The page was freed for good: what comes after begins with zeros.
                Some(cut) if cut < survived => out[range.clone()].fill(0),
                // It never was, and nothing that came after can have been written to it.
                Some(_) => break,
                None => {}
            }
            let after = match entries.get(at + 1) {
                Some((next, _)) => next.old.as_ref(),
                None => page.seen,
            };
            let Some(after) = after else {
                continue;
            };
            if rng.random_ratio(percent, 100) {
                out[range.clone()].copy_from_slice(&after[range.clone()]);
            } else if let Some((torn, upto)) = torn
                && torn == n
                && *in_flight
            {
                let begin = range.start..range.start + upto;
                out[begin.clone()].copy_from_slice(&after[begin]);
            }
        }
    }
    // A page of zeros takes no memory.
    out.iter().any(|b| *b != 0).then(|| Arc::new(out))
}

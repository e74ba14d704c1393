//! Fetches chunks that the rows of a replica name and that are not here.
//!
//! A snapshot may come from a replica that had lost a chunk by then: the receiver takes the rows all
//! the same, and has one copy less than was promised until somebody reads that very message. So
//! every space that has become a shard's is walked once, a few blobs at a time, at the start of the
//! process and after each snapshot, and again for as long as no peer has what is missing. Spaces
//! take turns, so that one whose octets nobody has now does not hold up the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::refs;
use crate::blobs::{Blobs, Mended};
use crate::index::keys::Space;
use crate::machine::read;
use crate::types::*;

/// Blobs looked at in one turn.
const BLOBS: usize = 2_000;

/// How far a space has been walked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Walk {
    after: Option<BlobId>,
    /// Something was missing that no peer had.
    open: bool,
    done: bool,
}

/// How far all spaces have been walked.
#[derive(Default)]
struct Walks {
    of: BTreeMap<Space, Walk>,
    /// The space that was looked at last.
    last: Option<Space>,
}

/// The worker.
pub struct Missing {
    blobs: Arc<Blobs>,
    walks: Mutex<Walks>,
}

impl Missing {
    /// Over the replicas of this node.
    pub fn new(blobs: Arc<Blobs>) -> Missing {
        Missing {
            blobs,
            walks: Mutex::default(),
        }
    }

    /// Walks spaces that are not done, up to one that lacks something or is larger than one step.
    pub async fn turn(&self) -> anyhow::Result<Option<String>> {
        let view = self.blobs.index().view();
        let owned = refs::owned_spaces(&*view)?;
        let mut walks = self.walks.lock().await;
        let Walks { of, last } = &mut *walks;
        of.retain(|space, _| owned.contains_key(space));
        for space in owned.keys() {
            of.entry(*space).or_default();
        }
        let open = of.iter().filter(|(_, walk)| !walk.done);
        let mut spaces: Vec<Space> = open.map(|(space, _)| *space).collect();
        let had_theirs = spaces.partition_point(|space| Some(*space) <= *last);
        spaces.rotate_left(had_theirs);
        for space in spaces {
            *last = Some(space);
            let (shard, walk) = (owned[&space], of.entry(space).or_default());
            let (missing, next) = read::missing_chunks(&*view, space, walk.after, BLOBS)?;
            let mut fetched = 0;
            for m in &missing {
                let mended = self.blobs.mend(shard, space, m.blob, m.seq, &m.chunk, None);
                match mended.await {
                    Mended::From(..) => fetched += 1,
                    _ => walk.open = true,
                }
            }
            walk.after = next;
            if next.is_none() {
                // An arrival that came without its octets becomes a blob without them.
                let (arrivals, _) = read::missing_arrivals(&*view, space, None, BLOBS)?;
                walk.done = !walk.open && arrivals.is_empty();
                walk.open = false;
            }
            if !missing.is_empty() {
                let all = missing.len();
                return Ok(Some(format!(
                    "shard {shard}: {fetched} of {all} chunks that were missing fetched"
                )));
            }
            if next.is_some() {
                return Ok(None);
            }
            tokio::task::yield_now().await;
        }
        Ok(None)
    }
}

//! Fetches chunks that the rows of a replica name and that are not here.
//!
//! A snapshot may come from a replica that had lost a chunk by then: the receiver takes the rows all
//! the same, and has one copy less than was promised until somebody reads that very message. So
//! every space that has become a shard's is walked once, a few blobs at a time, at the start of the
//! process and after each snapshot, and again for as long as no peer has what is missing.

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

/// The worker.
pub struct Missing {
    blobs: Arc<Blobs>,
    walks: Mutex<BTreeMap<Space, Walk>>,
}

impl Missing {
    /// Over the replicas of this node.
    pub fn new(blobs: Arc<Blobs>) -> Missing {
        Missing {
            blobs,
            walks: Mutex::default(),
        }
    }

    /// Walks a part of one space that is not done.
    pub async fn turn(&self) -> anyhow::Result<Option<String>> {
        let view = self.blobs.index().view();
        let owned = refs::owned_spaces(&*view)?;
        let mut walks = self.walks.lock().await;
        walks.retain(|space, _| owned.contains_key(space));
        for space in owned.keys() {
            walks.entry(*space).or_default();
        }
        let Some((&space, walk)) = walks.iter_mut().find(|(_, walk)| !walk.done) else {
            return Ok(None);
        };
        let shard = owned[&space];
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
            walk.done = !walk.open;
            walk.open = false;
        }
        Ok((!missing.is_empty()).then(|| {
            let all = missing.len();
            format!("shard {shard}: {fetched} of {all} chunks that were missing fetched")
        }))
    }
}

//! The octets of one blob at random places, a chunk at a time.
//!
//! Sections of a message mostly lie in the same chunk, so the last chunk is kept: a header and
//! three parts of a small message are one read.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::summary::Part;
use super::summary::scan::Scanner;
use super::turns::Turns;
use super::window::Held;
use super::{Operations, Result};
use crate::machine::command::CHUNK_BYTES;
use crate::types::*;

/// A blob that is being read.
pub struct Octets {
    ops: Arc<Operations>,
    shard: ShardId,
    blob: BlobId,
    size: u64,
    /// The chunk that was read last.
    chunk: Option<(u32, Bytes)>,
    /// The room of that chunk in the node's read window.
    held: Held,
}

impl Octets {
    /// Reads nothing yet.
    pub fn new(ops: Arc<Operations>, shard: ShardId, blob: BlobId, size: u64) -> Octets {
        Octets {
            ops,
            shard,
            blob,
            size,
            chunk: None,
            held: Held::default(),
        }
    }

    /// Octets of the blob.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether one read gets all of it.
    pub fn is_one_chunk(&self) -> bool {
        self.size <= u64::from(CHUNK_BYTES)
    }

    /// The read of the only chunk, to be made along with those of other blobs; the caller holds
    /// its room, and gives what came of it to [`Octets::set_only`].
    pub fn read_only(&self) -> impl Future<Output = Result<Bytes>> + Send + use<> {
        let (ops, shard, blob, size) = (Arc::clone(&self.ops), self.shard, self.blob, self.size);
        async move { ops.read_chunk(shard, blob, size, 0).await }
    }

    /// The only chunk.
    pub fn set_only(&mut self, chunk: Bytes) {
        self.chunk = Some((0, chunk));
    }

    /// Octets from the beginning of the range: at least one, at most to the end of their chunk.
    /// The range must not be empty, nor reach beyond the blob.
    pub async fn read(&mut self, range: Range<u64>) -> Result<Bytes> {
        assert!(
            range.start < range.end && range.end <= self.size,
            "octets {range:?} of {} were asked for",
            self.size
        );
        let chunk_bytes = u64::from(CHUNK_BYTES);
        let seq = (range.start / chunk_bytes) as u32;
        let start = u64::from(seq) * chunk_bytes;
        let chunk = match &self.chunk {
            Some((have, chunk)) if *have == seq => chunk.clone(),
            _ => self.load(seq, (self.size - start).min(chunk_bytes)).await?,
        };
        let from = (range.start - start) as usize;
        let to = (range.end.min(start + chunk.len() as u64) - start) as usize;
        Ok(chunk.slice(from..to))
    }

    async fn load(&mut self, seq: u32, len: u64) -> Result<Bytes> {
        // The room of the chunk before is given back first: nobody waits with room in hand.
        self.chunk = None;
        self.held = Held::default();
        self.held = self
            .ops
            .read_windows()
            .take(len as usize, &self.ops.limits)
            .await?;
        let chunk = self
            .ops
            .read_chunk(self.shard, self.blob, self.size, seq)
            .await?;
        self.chunk = Some((seq, chunk.clone()));
        Ok(chunk)
    }

    /// Where what is made of the octets is computed.
    pub fn turns(&self) -> &Turns {
        &self.ops.headers
    }

    /// The parts, found by reading all octets once more: for messages whose summary had to leave
    /// some out. Bounded by the limits of the scanner.
    pub async fn scan(&mut self) -> Result<Vec<Part>> {
        let mut scanner = Scanner::new();
        let mut at = 0;
        while at < self.size {
            let octets = self.read(at..self.size).await?;
            at += octets.len() as u64;
            let taking = {
                let octets = octets.clone();
                move || {
                    scanner.push(&octets);
                    scanner
                }
            };
            scanner = self.turns().read(octets.len(), taking).await?;
            tokio::task::yield_now().await;
        }
        let finishing = move || scanner.finish().parts;
        self.turns().read(self.size as usize, finishing).await
    }
}

//! Compression of chunks: once, at the leader, before the proposal.
//!
//! zstd at level 1: on a mail store the aim is to write less at little CPU, not to be small.
//! Attachments are often compressed already, or base64 of it; a probe of a few spots keeps the
//! CPU from being spent on those that cannot shrink, and a chunk is stored raw unless it shrinks
//! by a twentieth, because raw chunks are cheaper to read.

use bytes::Bytes;
use parking_lot::Mutex;
use zstd::bulk::Compressor;

use crate::machine::command::{CHUNK_BYTES, ChunkMeta};
use crate::types::Codec;

const LEVEL: i32 = 1;
/// Chunks up to this size are compressed without a probe.
const PROBE_FROM_BYTES: usize = 64 << 10;
const PROBE_SPOTS: usize = 4;
const PROBE_SPOT_BYTES: usize = 4 << 10;
/// Contexts kept for reuse; each holds about a megabyte.
const MAX_IDLE: usize = 8;

/// Idle compression contexts.
#[derive(Default)]
pub struct Compressors {
    idle: Mutex<Vec<Compressor<'static>>>,
}

impl Compressors {
    /// Encodes one chunk and says what it became. `compress` false: always raw.
    pub fn encode(&self, raw: Bytes, compress: bool) -> (ChunkMeta, Bytes) {
        assert!(
            raw.len() <= CHUNK_BYTES as usize,
            "a chunk holds at most {CHUNK_BYTES} octets"
        );
        let packed = match compress && !raw.is_empty() {
            true => self.pack(&raw),
            false => None,
        };
        let raw_len = raw.len() as u32;
        let (codec, stored) = match packed {
            Some(packed) => (Codec::Zstd, Bytes::from(packed)),
            None => (Codec::Raw, raw),
        };
        let meta = ChunkMeta {
            raw_len,
            stored_len: stored.len() as u32,
            codec,
            crc: crc32fast::hash(&stored),
        };
        (meta, stored)
    }

    /// The compressed octets, where they are worth it.
    fn pack(&self, raw: &[u8]) -> Option<Vec<u8>> {
        let idle = self.idle.lock().pop();
        // Without memory for a context the chunk is stored raw; nothing else is lost.
        let mut compressor = match idle {
            Some(compressor) => compressor,
            None => Compressor::new(LEVEL).ok()?,
        };
        let packed = (raw.len() < PROBE_FROM_BYTES || shrinks(&mut compressor, &probe(raw)))
            .then(|| compressor.compress(raw).ok())
            .flatten()
            .filter(|packed| worth_it(raw.len(), packed.len()));
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(compressor);
        }
        drop(idle);
        // The buffer was made for the worst case, and the octets may wait for their quorum.
        packed.map(|mut packed| {
            packed.shrink_to_fit();
            packed
        })
    }
}

fn worth_it(raw: usize, packed: usize) -> bool {
    packed + raw / 20 < raw
}

fn shrinks(compressor: &mut Compressor<'static>, sample: &[u8]) -> bool {
    compressor
        .compress(sample)
        .is_ok_and(|packed| worth_it(sample.len(), packed.len()))
}

/// Octets from a few spots spread over the chunk.
fn probe(raw: &[u8]) -> Vec<u8> {
    let step = raw.len() / PROBE_SPOTS;
    (0..PROBE_SPOTS)
        .flat_map(|i| raw[i * step..].iter().take(PROBE_SPOT_BYTES))
        .copied()
        .collect()
}

/// The octets of a stored chunk, whose CRC the caller has checked. `None` when they are not what
/// `meta` promises; allocates no more than [`CHUNK_BYTES`]. (The node reads through its blobs.)
#[cfg(test)]
pub fn decode(meta: &ChunkMeta, stored: Bytes) -> Option<Bytes> {
    if meta.raw_len > CHUNK_BYTES {
        return None;
    }
    let raw = match meta.codec {
        Codec::Raw => stored,
        Codec::Zstd => Bytes::from(zstd::bulk::decompress(&stored, meta.raw_len as usize).ok()?),
    };
    (raw.len() == meta.raw_len as usize).then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Octets that do not compress.
    fn noise(len: usize) -> Bytes {
        let mut out = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut out);
        Bytes::from(out)
    }

    #[test]
    fn text_shrinks_and_noise_stays_raw() {
        let c = Compressors::default();
        let text = Bytes::from("The post is kept safe on its way. ".repeat(10_000));
        let (meta, stored) = c.encode(text.clone(), true);
        assert_eq!(meta.codec, Codec::Zstd);
        assert!(stored.len() < text.len() / 10);
        assert_eq!(decode(&meta, stored), Some(text.clone()));

        for len in [1, 1000, 100_000, 1 << 20] {
            let (meta, stored) = c.encode(noise(len), true);
            assert_eq!(meta.codec, Codec::Raw);
            assert_eq!(stored, noise(len));
        }
        assert_eq!(c.encode(text, false).0.codec, Codec::Raw);
        assert_eq!(c.encode(Bytes::new(), true).0.raw_len, 0);
    }

    #[test]
    fn a_frame_that_lies_about_its_length_is_refused() {
        let c = Compressors::default();
        let (mut meta, stored) = c.encode(Bytes::from("post ".repeat(1000)), true);
        meta.raw_len = 7;
        assert_eq!(decode(&meta, stored.clone()), None);
        meta.raw_len = u32::MAX;
        assert_eq!(decode(&meta, stored), None);
    }

    proptest! {
        #[test]
        fn any_chunk_comes_back(octets in proptest::collection::vec(any::<u8>(), 0..5000), on: bool) {
            let c = Compressors::default();
            let raw = Bytes::from(octets);
            let (meta, stored) = c.encode(raw.clone(), on);
            prop_assert_eq!(meta.crc, crc32fast::hash(&stored));
            prop_assert_eq!(decode(&meta, stored), Some(raw));
        }
    }
}

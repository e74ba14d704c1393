//! Messages for benches: seeded, of an exact size, valid RFC 5322 with 8-bit lines.
//!
//! Incompressible bodies are drawn evenly from the 253 octets that a line may hold (all but NUL,
//! CR and LF; RFC 6532 and 8BITMIME, RFC 6152): 7.98 bits of entropy an octet, which leaves zstd
//! less to gain than its own overhead. Lines are 900 octets, below the limit of 998 (RFC 5322,
//! section 2.1.1). Drawing a fresh body for each message would measure this generator, so bodies
//! are cut from a pool at changing places; a header of its own makes every message another blob.

use std::io;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use posthouse_client::body::{Body, PIECE_BYTES, Pieces};

/// Octets of a pool line with its CRLF.
const LINE_BYTES: usize = 902;
/// A pool is at least this large, so that messages differ.
const POOL_BYTES: usize = 8 << 20;

const WORDS: [&str; 16] = [
    "the", "relay", "station", "keeps", "every", "letter", "safe", "until", "riders", "carry",
    "it", "onwards", "along", "imperial", "road", "tonight",
];

/// SplitMix64 (Steele, Lea, Flood, 2014): small, and the same on every machine for ever.
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below 0");
        self.next() % bound
    }
}

/// Where bodies are cut from.
pub struct Pool {
    lines: Bytes,
}

impl Pool {
    /// A pool for messages of up to `largest` octets.
    pub fn new(seed: u64, largest: u64, compressible: bool) -> Pool {
        let mut random = Random(seed);
        let len = POOL_BYTES.max(2 * largest as usize);
        let mut lines = Vec::with_capacity(len + LINE_BYTES);
        while lines.len() < len {
            match compressible {
                true => text_line(&mut random, &mut lines),
                false => noise_line(&mut random, &mut lines),
            }
            lines.extend_from_slice(b"\r\n");
        }
        Pool {
            lines: lines.into(),
        }
    }

    /// Message `number` of exactly `size` octets, or as few more as its header needs.
    pub fn message(&self, number: u64, size: u64, random: &mut Random) -> Message {
        let header = format!(
            "From: Bench <bench@example.org>\r\nTo: Bench <bench@example.org>\r\n\
             Message-ID: <{number}.{:016x}@bench.example.org>\r\n\
             Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nSubject: Bench {number}\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
             Content-Transfer-Encoding: 8bit\r\n\r\n",
            random.next()
        );
        let body = (size as usize).saturating_sub(header.len());
        let places = (self.lines.len() - body) / LINE_BYTES;
        let start = LINE_BYTES * random.below(places.max(1) as u64) as usize;
        let mut parts = vec![Bytes::from(header)];
        match body {
            0 => {}
            1..=2 => parts.push(Bytes::from_static(b"..").slice(..body)),
            _ => {
                // Wherever the pool was cut, also between CR and LF, the last line ends well.
                let mut cut = self.lines.slice(start..start + body - 2);
                if cut.ends_with(b"\r") {
                    cut.truncate(cut.len() - 1);
                    parts.push(cut);
                    parts.push(Bytes::from_static(b".\r\n"));
                } else {
                    parts.push(cut);
                    parts.push(Bytes::from_static(b"\r\n"));
                }
            }
        }
        let len = parts.iter().map(Bytes::len).sum::<usize>() as u64;
        Message { parts, len }
    }
}

fn noise_line(random: &mut Random, to: &mut Vec<u8>) {
    let end = to.len() + LINE_BYTES - 2;
    while to.len() < end {
        for octet in random.next().to_le_bytes() {
            if !matches!(octet, 0 | b'\r' | b'\n') && to.len() < end {
                to.push(octet);
            }
        }
    }
}

fn text_line(random: &mut Random, to: &mut Vec<u8>) {
    let end = to.len() + LINE_BYTES - 2;
    while to.len() < end {
        let word = WORDS[random.below(WORDS.len() as u64) as usize];
        to.extend_from_slice(word.as_bytes());
        to.push(b' ');
    }
    to.truncate(end);
}

/// A message: its header and cuts of the pool.
#[derive(Clone)]
pub struct Message {
    parts: Vec<Bytes>,
    len: u64,
}

impl Body for Message {
    fn open(&self) -> BoxFuture<'_, io::Result<Pieces>> {
        // Small messages go as one piece.
        let parts = match self.len <= PIECE_BYTES as u64 {
            true => vec![Bytes::from(self.parts.concat())],
            false => self.parts.clone(),
        };
        Box::pin(async move { Ok(stream::iter(parts.into_iter().map(Ok)).boxed()) })
    }

    fn len(&self) -> Option<u64> {
        Some(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(message: &Message) -> Vec<u8> {
        message.parts.concat()
    }

    #[test]
    fn messages_are_valid_distinct_and_of_the_size_asked_for() {
        for compressible in [false, true] {
            let pool = Pool::new(7, 1 << 20, compressible);
            let mut random = Random(9);
            let mut seen = std::collections::BTreeSet::new();
            for size in [400, 401, 402, 903, 1303, 1304, 1305, 4096, 32_768, 1 << 20] {
                let message = pool.message(1, size, &mut random);
                let octets = octets(&message);
                assert_eq!(octets.len() as u64, size);
                assert_eq!(message.len(), Some(size));
                for line in octets.split(|b| *b == b'\n') {
                    let line = line.strip_suffix(b"\r").unwrap_or_else(|| {
                        assert!(line.is_empty(), "a bare LF");
                        line
                    });
                    assert!(line.len() <= 998 && !line.contains(&b'\r') && !line.contains(&0));
                }
                assert!(octets.ends_with(b"\r\n"));
                assert!(seen.insert(octets));
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_messages_again() {
        let make = || {
            let pool = Pool::new(3, 4096, false);
            octets(&pool.message(5, 4096, &mut Random(4)))
        };
        assert_eq!(make(), make());
    }

    #[test]
    fn noise_has_all_its_octets_evenly() {
        let pool = Pool::new(1, 1, false);
        let mut counts = [0u32; 256];
        for b in pool.lines.iter() {
            counts[*b as usize] += 1;
        }
        let expected = (pool.lines.len() / LINE_BYTES * (LINE_BYTES - 2)) as f64 / 253.0;
        for (octet, count) in counts.into_iter().enumerate() {
            if !matches!(octet, 0 | 10 | 13) {
                assert!((f64::from(count) / expected - 1.0).abs() < 0.1, "{octet}");
            }
        }
    }
}

//! Bytes of a segment file: header, records, footer, seal.
//!
//! `node/FORMAT.md` draws every byte. The rules behind the layout:
//!
//! - The CRC of a header runs over the segment's number first, which is never used twice. A record
//!   of a former life of a recycled file therefore fails its check for certain (CRC-32 tells all
//!   differences of up to 32 bits apart), not just with high probability.
//! - Header and payload have CRCs of their own, so that headers can be read alone and a damaged
//!   payload does not hide where the next record begins.
//! - A header holds its own offset: a write that the disk put elsewhere is no record there.
//! - A header holds the segment's random salt: octets that someone mails to us can never pass for
//!   a record, also when a scan has to search for the next header inside a payload.
//!
//! All numbers are little-endian.

use bytes::{BufMut, Bytes, BytesMut};

use super::{RecordHead, RecordKind};
use crate::types::{Location, ReplicaId, ShardId};

/// Version of the format that this code writes.
pub const VERSION: u16 = 1;
/// Bytes before the first record of a segment.
pub const DATA_START: u64 = 4096;
/// Bytes of a record's header.
pub const RECORD_HEADER: usize = 64;
/// Records begin at multiples of this, so that a search for the next one takes long steps.
pub const ALIGN: u64 = 8;
/// Where the seal block lies, in a sector of its own.
pub const SEAL_OFFSET: u64 = 2048;
/// Offsets are 32 bits wide; a segment ends well before that.
pub const MAX_SEGMENT: u64 = u32::MAX as u64 - (1 << 20);

const SEGMENT_MAGIC: [u8; 8] = *b"PosthSeg";
const SEAL_MAGIC: [u8; 8] = *b"PosthEnd";
pub(super) const RECORD_MAGIC: [u8; 4] = *b"PHrc";
const SEGMENT_HEADER: usize = 64;
const SEAL_BLOCK: usize = 40;

const KIND_MARK: u8 = 0x80;
const KIND_DAMAGE: u8 = 0x81;
const KIND_PAD: u8 = 0x82;

/// What a disk writes at the least. A batch that begins inside a page writes that page again.
pub const PAGE: u64 = 4096;
/// A batch that ends so close before the end of a page is padded up to it: that costs less space
/// than it saves writes.
pub const PAD_MAX: u64 = PAGE / 2;

/// What a header of 64 bytes stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A record that the journal's owner submitted.
    Owner(RecordKind),
    /// Opens a batch: `index` is `synced_upto`, `term` the length of the batch with this mark,
    /// `leader` the number of its records.
    Mark,
    /// Closes a batch up to the end of a page; says nothing. Its payload is zeros.
    Pad,
    /// In footers alone: `index..index + term` is known to be damaged, `leader` says how.
    Damage,
}

/// The segment's own header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Never used twice in one journal.
    pub number: u64,
    /// Random per birth.
    pub salt: u32,
    /// Random per journal: a file of another one is refused.
    pub journal_id: [u8; 16],
    /// A replay begins with this segment, or the first one after it that is still there.
    pub replay_from: u64,
    /// When the segment was born, ms since the epoch.
    pub created_ms: u64,
}

/// Why a segment header was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// It fails its check.
    Damaged,
    /// A later version of the format wrote it.
    Version(u16),
}

impl SegmentHeader {
    /// The block that opens the file, up to the first record. It clears the seal of a former life.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(DATA_START as usize);
        out.put_slice(&SEGMENT_MAGIC);
        out.put_u16_le(VERSION);
        out.put_u16_le(0);
        out.put_u32_le(self.salt);
        out.put_u64_le(self.number);
        out.put_slice(&self.journal_id);
        out.put_u64_le(self.replay_from);
        out.put_u64_le(self.created_ms);
        let crc = crc32fast::hash(&out);
        out.put_u32_le(crc);
        out.put_u32_le(0);
        debug_assert_eq!(out.len(), SEGMENT_HEADER);
        out.resize(DATA_START as usize, 0);
        out.freeze()
    }

    /// Reads the block back.
    pub fn decode(block: &[u8]) -> Result<SegmentHeader, HeaderError> {
        if block.len() < SEGMENT_HEADER || block[..8] != SEGMENT_MAGIC {
            return Err(HeaderError::Damaged);
        }
        if crc32fast::hash(&block[..56]) != u32_at(block, 56) {
            return Err(HeaderError::Damaged);
        }
        let version = u16::from_le_bytes([block[8], block[9]]);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let mut journal_id = [0; 16];
        journal_id.copy_from_slice(&block[24..40]);
        Ok(SegmentHeader {
            salt: u32_at(block, 12),
            number: u64_at(block, 16),
            journal_id,
            replay_from: u64_at(block, 40),
            created_ms: u64_at(block, 48),
        })
    }
}

/// A record's header as it lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// How the payload is encoded; opaque here.
    pub codec: u8,
    /// Owner's shard.
    pub shard: u32,
    /// Length of the payload.
    pub len: u32,
    /// Owner's replica.
    pub replica: u64,
    /// See [`Kind`].
    pub index: u64,
    /// See [`Kind`].
    pub term: u64,
    /// See [`Kind`].
    pub leader: u64,
    /// Where this header lies in the file.
    pub offset: u32,
    /// CRC of the payload.
    pub payload_crc: u32,
}

impl Record {
    /// The header of an owner's record.
    pub fn of(head: &RecordHead, len: u32, payload_crc: u32) -> Record {
        Record {
            kind: Kind::Owner(head.kind),
            codec: head.codec,
            shard: head.shard.0,
            len,
            replica: head.replica.0,
            index: head.index,
            term: head.term,
            leader: head.leader,
            offset: 0,
            payload_crc,
        }
    }

    /// The mark that opens a batch of `bytes` (mark included) at `offset`.
    pub fn mark(offset: u32, synced_upto: u64, bytes: u64, records: u64) -> Record {
        Record {
            kind: Kind::Mark,
            codec: 0,
            shard: 0,
            len: 0,
            replica: 0,
            index: synced_upto,
            term: bytes,
            leader: records,
            offset,
            payload_crc: 0,
        }
    }

    /// The pad at `offset` that ends at the end of its page, and its payload; `None` where it would
    /// not be worth it, or where there is no room for its header.
    pub fn pad(offset: u64) -> Option<(Record, Bytes)> {
        static ZEROS: [u8; PAD_MAX as usize] = [0; PAD_MAX as usize];
        let gap = offset.next_multiple_of(PAGE) - offset;
        let len = gap.checked_sub(RECORD_HEADER as u64)?;
        if gap > PAD_MAX {
            return None;
        }
        let zeros = Bytes::from_static(&ZEROS[..len as usize]);
        let record = Record {
            kind: Kind::Pad,
            len: len as u32,
            payload_crc: crc32fast::hash(&zeros),
            ..Record::mark(offset as u32, 0, 0, 0)
        };
        Some((record, zeros))
    }

    /// A footer's memory of a damaged place.
    pub fn damage(offset: u64, len: u64, cause: u64) -> Record {
        Record {
            kind: Kind::Damage,
            index: offset,
            term: len,
            leader: cause,
            ..Record::mark(0, 0, 0, 0)
        }
    }

    /// The 64 bytes, for the segment with this number and salt.
    pub fn encode(&self, number: u64, salt: u32, out: &mut BytesMut) {
        let begin = out.len();
        out.put_slice(&RECORD_MAGIC);
        out.put_u8(match self.kind {
            Kind::Owner(kind) => kind as u8,
            Kind::Mark => KIND_MARK,
            Kind::Pad => KIND_PAD,
            Kind::Damage => KIND_DAMAGE,
        });
        out.put_u8(self.codec);
        out.put_u16_le(0);
        out.put_u32_le(self.shard);
        out.put_u32_le(self.len);
        out.put_u64_le(self.replica);
        out.put_u64_le(self.index);
        out.put_u64_le(self.term);
        out.put_u64_le(self.leader);
        out.put_u32_le(self.offset);
        out.put_u32_le(salt);
        out.put_u32_le(self.payload_crc);
        let crc = header_crc(number, &out[begin..]);
        out.put_u32_le(crc);
        debug_assert_eq!(out.len() - begin, RECORD_HEADER);
    }

    /// The record whose header these 64 bytes are; `None` when they are no header of the segment
    /// with this number and salt. Without a salt, any is accepted (see [`salt_of`]).
    pub fn decode(bytes: &[u8], number: u64, salt: Option<u32>) -> Option<Record> {
        if bytes.len() < RECORD_HEADER || bytes[..4] != RECORD_MAGIC {
            return None;
        }
        let bytes = &bytes[..RECORD_HEADER];
        if salt.is_some_and(|salt| salt != salt_of(bytes))
            || header_crc(number, &bytes[..60]) != u32_at(bytes, 60)
        {
            return None;
        }
        let kind = match bytes[4] {
            KIND_MARK => Kind::Mark,
            KIND_PAD => Kind::Pad,
            KIND_DAMAGE => Kind::Damage,
            other => Kind::Owner(RecordKind::of(other)?),
        };
        Some(Record {
            kind,
            codec: bytes[5],
            shard: u32_at(bytes, 8),
            len: u32_at(bytes, 12),
            replica: u64_at(bytes, 16),
            index: u64_at(bytes, 24),
            term: u64_at(bytes, 32),
            leader: u64_at(bytes, 40),
            offset: u32_at(bytes, 48),
            payload_crc: u32_at(bytes, 56),
        })
    }

    /// Bytes in the file with header and padding.
    pub fn size(&self) -> u64 {
        record_size(self.len as u64)
    }

    /// Head and payload location, for an owner's record.
    pub fn owned(&self, segment: u64) -> Option<(RecordHead, Location)> {
        let Kind::Owner(kind) = self.kind else {
            return None;
        };
        let head = RecordHead {
            kind,
            shard: ShardId(self.shard),
            replica: ReplicaId(self.replica),
            index: self.index,
            term: self.term,
            leader: self.leader,
            codec: self.codec,
        };
        let location = Location {
            segment,
            offset: self.offset + RECORD_HEADER as u32,
            len: self.len,
        };
        Some((head, location))
    }
}

/// The salt in a record's header.
pub fn salt_of(header: &[u8]) -> u32 {
    u32_at(header, 52)
}

/// Bytes in the file of a record with a payload of this length.
pub fn record_size(payload: u64) -> u64 {
    (RECORD_HEADER as u64 + payload).next_multiple_of(ALIGN)
}

/// Zeros after a payload of this length.
pub fn padding(payload: u64) -> Bytes {
    static ZEROS: [u8; ALIGN as usize] = [0; ALIGN as usize];
    let len = record_size(payload) - RECORD_HEADER as u64 - payload;
    Bytes::from_static(&ZEROS[..len as usize])
}

/// Says that a segment is complete and where its footer lies. Because it is written after the
/// last batch was synced, it also says that everything below the footer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// End of the records, begin of the footer.
    pub data_end: u64,
    /// Headers of 64 bytes in the footer.
    pub count: u32,
    /// CRC of the footer.
    pub footer_crc: u32,
}

impl Seal {
    /// Bytes of the footer.
    pub fn footer_len(&self) -> u64 {
        self.count as u64 * RECORD_HEADER as u64
    }

    /// The seal block.
    pub fn encode(&self, number: u64, salt: u32) -> Bytes {
        let mut out = BytesMut::with_capacity(SEAL_BLOCK);
        out.put_slice(&SEAL_MAGIC);
        out.put_u64_le(self.data_end);
        out.put_u32_le(self.count);
        out.put_u32_le(self.footer_crc);
        out.put_u32_le(salt);
        out.put_u32_le(0);
        let crc = header_crc(number, &out);
        out.put_u32_le(crc);
        out.put_u32_le(0);
        debug_assert_eq!(out.len(), SEAL_BLOCK);
        out.freeze()
    }

    /// Reads the seal out of the file's first block; `None` when there is none that is valid.
    pub fn decode(block: &[u8], number: u64, salt: u32) -> Option<Seal> {
        let at = SEAL_OFFSET as usize;
        let bytes = block.get(at..at + SEAL_BLOCK)?;
        if bytes[..8] != SEAL_MAGIC
            || u32_at(bytes, 24) != salt
            || header_crc(number, &bytes[..32]) != u32_at(bytes, 32)
        {
            return None;
        }
        Some(Seal {
            data_end: u64_at(bytes, 8),
            count: u32_at(bytes, 16),
            footer_crc: u32_at(bytes, 20),
        })
    }
}

fn header_crc(number: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        Record {
            kind: Kind::Owner(RecordKind::Entry),
            codec: 1,
            shard: 7,
            len: 1000,
            replica: 3 << 32,
            index: 99,
            term: 5,
            leader: 2 << 32,
            offset: 4096,
            payload_crc: 0xdead_beef,
        }
    }

    #[test]
    fn headers_survive_the_way_there_and_back() {
        let mut out = BytesMut::new();
        sample().encode(12, 34, &mut out);
        assert_eq!(Record::decode(&out, 12, Some(34)), Some(sample()));
        assert_eq!(Record::decode(&out, 12, None), Some(sample()));
        assert_eq!(Record::decode(&out, 13, Some(34)), None, "another segment");
        assert_eq!(Record::decode(&out, 12, Some(35)), None, "another life");
        let header = SegmentHeader {
            number: 12,
            salt: 34,
            journal_id: [9; 16],
            replay_from: 3,
            created_ms: 1,
        };
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header.clone()));
        let seal = Seal {
            data_end: 5000,
            count: 17,
            footer_crc: 1,
        };
        let mut block = BytesMut::from(&header.encode()[..]);
        assert_eq!(Seal::decode(&block, 12, 34), None);
        block[2048..2088].copy_from_slice(&seal.encode(12, 34));
        assert_eq!(Seal::decode(&block, 12, 34), Some(seal));
        assert_eq!(Seal::decode(&block, 12, 35), None);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut out = BytesMut::new();
        sample().encode(12, 34, &mut out);
        for bit in 0..out.len() * 8 {
            let mut bad = out.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&bad, 12, Some(34)), None, "bit {bit}");
        }
    }

    #[test]
    fn a_former_life_never_passes() {
        let mut out = BytesMut::new();
        sample().encode(1, 34, &mut out);
        for number in 2..10_000 {
            assert_eq!(Record::decode(&out, number, Some(34)), None);
        }
    }

    #[test]
    fn a_later_version_is_told_apart_from_damage() {
        let header = SegmentHeader {
            number: 1,
            salt: 0,
            journal_id: [0; 16],
            replay_from: 1,
            created_ms: 0,
        };
        let mut block = header.encode().to_vec();
        block[8] = 2;
        assert_eq!(SegmentHeader::decode(&block), Err(HeaderError::Damaged));
        let crc = crc32fast::hash(&block[..56]);
        block[56..60].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), Err(HeaderError::Version(2)));
    }
}

//! Reads a segment record by record, and tells a torn tail from rot.
//!
//! A scan follows the lengths in the headers. Where no valid header lies it searches for the next
//! one; where a payload fails it goes on behind it. What it found is then judged ([`judge`]):
//!
//! - Each batch opens with a mark that says `synced_upto`: all bytes below were synced before the
//!   batch was written. Something invalid *below* the highest such promise is rot.
//! - Something invalid *above* it may be a write that the crash tore. Nothing from there on was
//!   promised to anyone, so the tail is cut there.
//! - In a sealed segment every byte was synced: there, all that is invalid is rot.
//!
//! What cannot be told apart: after the last batch before a crash was synced (and acknowledged),
//! no later mark says so until the next batch, or until the idle mark that the writer adds a few
//! milliseconds later. Rot that hits exactly this batch before the next start looks like a torn
//! write and is cut. A crash alone never does that: the batch is intact on the disk. The window is
//! inherent in a log without a second sync per batch (Alagappan et al., "Protocol-Aware Recovery
//! for Consensus-Based Storage", FAST '18, section 3.3.3, which pays for an identifier written
//! apart); here it is the last few milliseconds of writing before a crash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::error::{Cause, DamagedRange, JournalError};
use super::format::{ALIGN, DATA_START, Kind, RECORD_HEADER, RECORD_MAGIC, Record, Seal, salt_of};
use crate::env::disk::File;
use crate::rare::{self, Rare};

/// Bytes that a scan reads at a time.
pub const SCAN_CHUNK: usize = 1 << 20;

/// Reads forward through a file in large pieces.
pub struct Window {
    file: Arc<dyn File>,
    path: PathBuf,
    file_len: u64,
    chunk: usize,
    base: u64,
    data: Bytes,
}

impl Window {
    /// A window on an open file of `file_len` bytes that reads at least `chunk` at a time.
    pub fn new(file: Arc<dyn File>, path: &Path, file_len: u64, chunk: usize) -> Window {
        Window {
            file,
            path: path.to_owned(),
            file_len,
            chunk,
            base: 0,
            data: Bytes::new(),
        }
    }

    /// `len` bytes at `offset`; `None` when the file is shorter.
    pub async fn get(&mut self, offset: u64, len: usize) -> Result<Option<Bytes>, JournalError> {
        let Some(end) = offset.checked_add(len as u64) else {
            return Ok(None);
        };
        if end > self.file_len {
            return Ok(None);
        }
        if offset < self.base || end > self.base + self.data.len() as u64 {
            let left = (self.file_len - offset).min(usize::MAX as u64) as usize;
            let want = len.max(self.chunk).min(left);
            let read = self.file.read_at(offset, want).await;
            self.data =
                read.map_err(|e| JournalError::io(format!("read {}", self.path.display()), &e))?;
            self.base = offset;
        }
        let at = (offset - self.base) as usize;
        Ok(Some(self.data.slice(at..at + len)))
    }

    /// CRC of `len` bytes at `offset`, never holding more than a piece of them.
    pub async fn crc(&mut self, offset: u64, len: u64) -> Result<Option<u32>, JournalError> {
        let mut hasher = crc32fast::Hasher::new();
        let mut at = 0;
        while at < len {
            let piece = (len - at).min(self.chunk as u64);
            match self.get(offset + at, piece as usize).await? {
                Some(bytes) => hasher.update(&bytes),
                None => return Ok(None),
            }
            at += piece;
        }
        Ok(Some(hasher.finalize()))
    }
}

/// What lies at one place of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A record that passes its checks.
    Good(Record),
    /// A whole header whose payload fails.
    Bad(Record, Cause),
    /// Nothing valid in these bytes.
    Gap(u64, u64),
}

/// What a scan found, in the order of the file.
#[derive(Debug, Default)]
pub struct Scan {
    /// The items.
    pub items: Vec<Item>,
    /// The highest promise of all valid marks.
    pub synced_upto: u64,
    /// End of the last batch that a valid mark announces, or of the last valid record.
    pub written_upto: u64,
}

/// Scans `DATA_START..limit`. `limit` is the end of the records where a seal says it, else the
/// length of the file; with `exact`, everything below it must be records.
pub async fn scan(
    window: &mut Window,
    number: u64,
    salt: u32,
    limit: u64,
    exact: bool,
) -> Result<Scan, JournalError> {
    let mut found = Scan {
        synced_upto: DATA_START,
        written_upto: DATA_START,
        ..Scan::default()
    };
    let mut at = DATA_START;
    while at < limit {
        let Some(record) = header_at(window, number, Some(salt), at, limit).await? else {
            match search(window, number, Some(salt), at + ALIGN, limit).await? {
                Some((next, _)) => {
                    found.items.push(Item::Gap(at, next));
                    at = next;
                    continue;
                }
                None => break,
            }
        };
        if record.kind == Kind::Pad {
            rare::hit(Rare::PadSkipped);
        }
        if record.kind == Kind::Mark {
            found.synced_upto = found.synced_upto.max(record.index.min(at));
            let announced = at.saturating_add(record.term).min(limit);
            found.written_upto = found.written_upto.max(announced);
        }
        let payload_at = at + RECORD_HEADER as u64;
        let end = at + record.size();
        let crc = match end <= limit {
            true => window.crc(payload_at, record.len as u64).await?,
            false => None,
        };
        found.written_upto = found.written_upto.max(end.min(limit));
        match crc {
            // What a pad holds matters to nobody.
            Some(crc) if crc == record.payload_crc || record.kind == Kind::Pad => {
                found.items.push(Item::Good(record));
                at = end;
            }
            Some(_) => {
                found.items.push(Item::Bad(record, Cause::Payload));
                at = end;
            }
            None => {
                found.items.push(Item::Bad(record, Cause::Short));
                at = limit;
            }
        }
    }
    let end = if exact { limit } else { found.written_upto };
    if at < end {
        found.items.push(Item::Gap(at, end));
    }
    Ok(found)
}

/// The salt of a segment whose own header is lost: that of the first record still whole.
pub async fn find_salt(
    window: &mut Window,
    number: u64,
    limit: u64,
) -> Result<Option<u32>, JournalError> {
    let Some((at, _)) = search(window, number, None, DATA_START, limit).await? else {
        return Ok(None);
    };
    let header = window.get(at, RECORD_HEADER).await?;
    Ok(header.map(|bytes| salt_of(&bytes)))
}

async fn header_at(
    window: &mut Window,
    number: u64,
    salt: Option<u32>,
    at: u64,
    limit: u64,
) -> Result<Option<Record>, JournalError> {
    if at + RECORD_HEADER as u64 > limit {
        return Ok(None);
    }
    let Some(bytes) = window.get(at, RECORD_HEADER).await? else {
        return Ok(None);
    };
    let record = Record::decode(&bytes, number, salt);
    Ok(record.filter(|r| r.offset as u64 == at && r.kind != Kind::Damage))
}

/// The next valid header at or after `from`.
async fn search(
    window: &mut Window,
    number: u64,
    salt: Option<u32>,
    from: u64,
    limit: u64,
) -> Result<Option<(u64, Record)>, JournalError> {
    let mut at = from.next_multiple_of(ALIGN);
    while at + RECORD_HEADER as u64 <= limit {
        let len = (limit - at).min(SCAN_CHUNK as u64) as usize;
        let Some(bytes) = window.get(at, len).await? else {
            return Ok(None);
        };
        // Headers may straddle the end of this piece: look at whole ones, then step back.
        let whole = len - RECORD_HEADER + 1;
        for step in (0..whole).step_by(ALIGN as usize) {
            if bytes[step..step + 4] != RECORD_MAGIC {
                continue;
            }
            let here = at + step as u64;
            if let Some(record) = Record::decode(&bytes[step..], number, salt)
                && record.offset as u64 == here
                && record.kind != Kind::Damage
            {
                return Ok(Some((here, record)));
            }
        }
        at += (whole as u64).next_multiple_of(ALIGN);
    }
    Ok(None)
}

/// What of a scan stands.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Items in order; those that are not good are rot.
    pub items: Vec<Item>,
    /// Where the segment ends: behind the last item that stands.
    pub end: u64,
    /// Bytes of the torn tail.
    pub torn_bytes: u64,
}

/// Tells rot from a torn tail: everything below `synced_upto` was synced once.
pub fn judge(scan: Scan, synced_upto: u64) -> Verdict {
    let mut verdict = Verdict {
        end: DATA_START,
        ..Verdict::default()
    };
    for item in scan.items {
        let (from, to) = match item {
            Item::Good(r) | Item::Bad(r, Cause::Payload) => {
                (r.offset as u64, r.offset as u64 + r.size())
            }
            Item::Bad(r, _) => (r.offset as u64, scan.written_upto),
            Item::Gap(from, to) => (from, to),
        };
        if !matches!(item, Item::Good(_)) && from >= synced_upto {
            verdict.torn_bytes = scan.written_upto.saturating_sub(from);
            break;
        }
        verdict.items.push(item);
        verdict.end = to;
    }
    verdict
}

impl Verdict {
    /// The damage among the items.
    pub fn damage(&self, file: &Path, segment: u64) -> Vec<DamagedRange> {
        let damaged = |item: &Item| {
            let (offset, len, cause, record) = match *item {
                Item::Good(_) => return None,
                Item::Bad(r, cause) => (r.offset as u64, r.size(), cause, r.owned(segment)),
                Item::Gap(from, to) => (from, to - from, Cause::RecordHeader, None),
            };
            Some(DamagedRange {
                file: file.to_owned(),
                segment,
                offset,
                len,
                cause,
                record,
            })
        };
        self.items.iter().filter_map(damaged).collect()
    }

    /// The footer index: all whole headers, and what is known to be damaged, so that no later
    /// start forgets it.
    pub fn footer(&self, number: u64, salt: u32) -> (Bytes, Seal) {
        let mut out = BytesMut::new();
        for item in &self.items {
            match item {
                Item::Good(r) if matches!(r.kind, Kind::Mark | Kind::Pad) => {}
                Item::Good(r) => r.encode(number, salt, &mut out),
                Item::Bad(r, cause) => {
                    r.encode(number, salt, &mut out);
                    Record::damage(r.offset as u64, r.size(), cause.code())
                        .encode(number, salt, &mut out);
                }
                Item::Gap(from, to) => {
                    Record::damage(*from, to - from, Cause::RecordHeader.code())
                        .encode(number, salt, &mut out);
                }
            }
        }
        let seal = Seal {
            data_end: self.end,
            count: (out.len() / RECORD_HEADER) as u32,
            footer_crc: crc32fast::hash(&out),
        };
        (out.freeze(), seal)
    }
}

/// The footer that [`read_footer`] reads as these headers.
pub fn encode_footer(records: &[Record], number: u64, salt: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(records.len() * RECORD_HEADER);
    records
        .iter()
        .for_each(|r| r.encode(number, salt, &mut out));
    out.freeze()
}

/// Reads and checks a footer; `None` when it fails.
pub async fn read_footer(
    window: &mut Window,
    number: u64,
    salt: u32,
    seal: &Seal,
) -> Result<Option<Vec<Record>>, JournalError> {
    // The length was under a CRC and is bounded by the file's: `get` refuses what passes its end.
    let len = seal.footer_len() as usize;
    let Some(bytes) = window.get(seal.data_end, len).await? else {
        return Ok(None);
    };
    if crc32fast::hash(&bytes) != seal.footer_crc {
        return Ok(None);
    }
    let decode = |header: &[u8]| Record::decode(header, number, Some(salt));
    Ok(bytes.chunks(RECORD_HEADER).map(decode).collect())
}

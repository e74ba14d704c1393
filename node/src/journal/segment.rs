//! Birth, growth and sealing of the active segment.
//!
//! Birth: header and checkpoint are written into a file under another name and synced, the file is
//! renamed, the directory is synced; only then is the first batch appended. So a segment that
//! exists has a whole header and a whole checkpoint, and its directory entry cannot be forgotten
//! after something in it was acknowledged.
//!
//! Sealing: the footer index and the seal block are written after the last batch was synced, be it
//! an empty one, and synced before the next segment is born. So all that a seal covers was synced,
//! and all of a segment that has a successor.
//!
//! Space for a whole segment is reserved at birth: a batch that was started never meets a full
//! disk. When the reservation fails nothing was written, and the writer waits for space.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::error::JournalError;
use super::format::{
    ALIGN, DATA_START, MAX_SEGMENT, PAD_MAX, RECORD_HEADER, Record, SEAL_OFFSET, Seal,
    SegmentHeader, padding, record_size,
};
use super::table::{segment_path, spare_path};
use crate::env::disk::{Disk, File, OpenMode};
use crate::rare::{self, Rare};
use crate::types::Location;

/// Name of a file that is about to become a segment.
pub const BIRTH_NAME: &str = "birth.tmp";

/// A record on its way to the disk: its header but for the offset, and its payload.
pub struct Pending {
    /// The header.
    pub record: Record,
    /// Parts of the payload.
    pub payload: Vec<Bytes>,
}

/// The segment that is being written.
pub struct Active {
    /// Its number.
    pub number: u64,
    /// Random per birth.
    pub salt: u32,
    /// The file, open for writing.
    pub file: Arc<dyn File>,
    /// Where the file lies.
    pub path: PathBuf,
    /// Length of the file: the space that is reserved.
    pub file_len: u64,
    /// End of what was written.
    pub at: u64,
    /// End of what is known to be synced.
    pub synced: u64,
    /// When it was born.
    pub created_ms: u64,
    /// Headers of the owner's records, as the footer will hold them.
    pub headers: BytesMut,
    /// Whether anything came after the checkpoint.
    pub grown: bool,
}

/// A batch, laid out for one write.
pub struct Layout {
    /// What to write at the segment's end.
    pub parts: Vec<Bytes>,
    /// Bytes of that.
    pub bytes: u64,
    /// Payload locations, in order.
    pub locations: Vec<Location>,
    headers: BytesMut,
}

/// Bytes that records with these payload lengths take as one batch.
pub fn batch_size(payloads: impl Iterator<Item = u64>) -> u64 {
    RECORD_HEADER as u64 + payloads.map(record_size).sum::<u64>()
}

/// Lays out a batch at `at`: the mark, then each record's header, payload and padding. Payloads
/// are not copied.
pub fn lay_out(
    number: u64,
    salt: u32,
    at: u64,
    synced: u64,
    records: impl ExactSizeIterator<Item = Pending>,
) -> Layout {
    let count = records.len();
    let records: Vec<Pending> = records.collect();
    let bytes = batch_size(records.iter().map(|r| r.record.len as u64));
    assert!(at.is_multiple_of(ALIGN) && at + bytes <= MAX_SEGMENT);
    let pad = match count {
        0 => None,
        _ => Record::pad(at + bytes),
    };
    let bytes = bytes + pad.as_ref().map_or(0, |(pad, _)| pad.size());
    let mut headers = BytesMut::with_capacity((count + 1) * RECORD_HEADER);
    Record::mark(at as u32, synced, bytes, count as u64).encode(number, salt, &mut headers);
    let mut end = at + RECORD_HEADER as u64;
    let mut locations = Vec::with_capacity(count);
    for pending in &records {
        let record = Record {
            offset: end as u32,
            ..pending.record
        };
        record.encode(number, salt, &mut headers);
        locations.push(Location {
            segment: number,
            offset: end as u32 + RECORD_HEADER as u32,
            len: record.len,
        });
        end += record.size();
    }
    assert_eq!(
        end + pad.as_ref().map_or(0, |(pad, _)| pad.size()),
        at + bytes
    );
    let encoded = headers.clone().freeze();
    let mut parts = Vec::with_capacity(1 + count * 3);
    parts.push(encoded.slice(..RECORD_HEADER));
    for (i, pending) in records.into_iter().enumerate() {
        let header = (i + 1) * RECORD_HEADER;
        parts.push(encoded.slice(header..header + RECORD_HEADER));
        parts.extend(pending.payload.into_iter().filter(|part| !part.is_empty()));
        let padding = padding(pending.record.len as u64);
        if !padding.is_empty() {
            parts.push(padding);
        }
    }
    if let Some((pad, zeros)) = pad {
        rare::hit(Rare::PadBeforePageEnd);
        let mut header = BytesMut::with_capacity(RECORD_HEADER);
        pad.encode(number, salt, &mut header);
        parts.extend([header.freeze(), zeros]);
    }
    Layout {
        parts,
        bytes,
        locations,
        headers: headers.split_off(RECORD_HEADER),
    }
}

/// What a birth needs to know.
pub struct Birth {
    /// The header of the new segment.
    pub header: SegmentHeader,
    /// Length of the file.
    pub file_len: u64,
    /// A freed segment's file to be used again.
    pub spare: Option<u64>,
    /// The first batch.
    pub checkpoint: Vec<Pending>,
}

/// Creates a segment. Returns it with the number of bytes written. An error for which
/// [`JournalError::is_full`] holds left nothing behind.
pub async fn bear(
    disk: &dyn Disk,
    dir: &Path,
    birth: Birth,
) -> Result<(Active, u64), JournalError> {
    let number = birth.header.number;
    let salt = birth.header.salt;
    let path = segment_path(dir, number);
    let from = match birth.spare {
        Some(spare) => spare_path(dir, spare),
        None => dir.join(BIRTH_NAME),
    };
    let io =
        |what: &str, e: std::io::Error| JournalError::io(format!("{what} {}", from.display()), &e);
    let file = match birth.spare {
        Some(_) => disk.open(&from, OpenMode::ReadWrite).await,
        None => disk.open(&from, OpenMode::CreateNew).await,
    };
    let file = file.map_err(|e| io("create", e))?;
    if let Err(e) = file.allocate(birth.file_len).await {
        if birth.spare.is_none() {
            // What is left under this name is removed at the next start at the latest.
            let _ = disk.remove(&from).await;
        }
        return Err(io("reserve space for", e));
    }
    let file_len = file.len().await.map_err(|e| io("measure", e))?;
    let mut parts = vec![birth.header.encode()];
    let first = lay_out(
        number,
        salt,
        DATA_START,
        DATA_START,
        birth.checkpoint.into_iter(),
    );
    parts.extend(first.parts);
    let written = DATA_START + first.bytes;
    file.write_and_sync(0, parts)
        .await
        .map_err(|e| poison(io("write", e)))?;
    disk.rename(&from, &path)
        .await
        .map_err(|e| poison(io("rename", e)))?;
    disk.sync_dir(dir)
        .await
        .map_err(|e| poison(io("sync the directory of", e)))?;
    let active = Active {
        number,
        salt,
        file,
        path,
        file_len,
        at: written,
        synced: written,
        created_ms: birth.header.created_ms,
        headers: first.headers,
        grown: false,
    };
    Ok((active, written))
}

/// A full disk in the middle of a write is as unknown a state as any other failed write.
fn poison(error: JournalError) -> JournalError {
    match error.is_full() {
        true => JournalError::Poisoned(error.to_string()),
        false => error,
    }
}

impl Active {
    /// Where the file has to reach for `bytes` more in `records` records, with the footer.
    pub fn needed(&self, bytes: u64, records: u64) -> u64 {
        let padded = self.at + bytes + PAD_MAX;
        padded + self.headers.len() as u64 + records * RECORD_HEADER as u64
    }

    /// Records in it, marks aside.
    pub fn count(&self) -> u64 {
        (self.headers.len() / RECORD_HEADER) as u64
    }

    /// Reserves more space: for a batch larger than a whole segment.
    pub async fn extend(&mut self, len: u64) -> Result<(), JournalError> {
        if len <= self.file_len {
            return Ok(());
        }
        let reserve = self.file.allocate(len).await;
        reserve.map_err(|e| {
            JournalError::io(format!("reserve space for {}", self.path.display()), &e)
        })?;
        self.file_len = len;
        rare::hit(Rare::SegmentExtended);
        Ok(())
    }

    /// Appends a batch and syncs it. Returns the payload locations and the bytes written.
    pub async fn append(
        &mut self,
        records: impl ExactSizeIterator<Item = Pending>,
    ) -> Result<(Vec<Location>, u64), JournalError> {
        let layout = lay_out(self.number, self.salt, self.at, self.synced, records);
        let written = self.file.write_and_sync(self.at, layout.parts).await;
        written.map_err(|e| JournalError::io(format!("write {}", self.path.display()), &e))?;
        self.at += layout.bytes;
        self.synced = self.at;
        self.headers.extend_from_slice(&layout.headers);
        self.grown = true;
        Ok((layout.locations, layout.bytes))
    }

    /// Writes an empty batch, unsynced: its mark says that all before it was synced.
    pub async fn mark(&mut self) -> Result<u64, JournalError> {
        let none = std::iter::empty();
        let layout = lay_out(self.number, self.salt, self.at, self.synced, none);
        let written = self.file.write_at(self.at, layout.parts).await;
        written.map_err(|e| JournalError::io(format!("write {}", self.path.display()), &e))?;
        self.at += layout.bytes;
        Ok(layout.bytes)
    }

    /// Whether it ends in an empty batch that was not synced.
    pub fn ends_unsynced(&self) -> bool {
        self.synced < self.at
    }

    /// Seals: footer and seal block, synced. Returns the seal and the bytes written.
    pub async fn seal(&mut self) -> Result<(Seal, u64), JournalError> {
        if self.ends_unsynced() {
            // A power failure may keep the seal and lose the mark and the footer. The hole would
            // then be below the seal, which says that all there was synced: it would count as
            // anyone's record, and every replica of the node as lost.
            let synced = self.file.sync_data().await;
            synced.map_err(|e| JournalError::io(format!("sync {}", self.path.display()), &e))?;
            self.synced = self.at;
        }
        let footer = self.headers.clone().freeze();
        let seal = Seal {
            data_end: self.at,
            count: (footer.len() / RECORD_HEADER) as u32,
            footer_crc: crc32fast::hash(&footer),
        };
        let written = write_seal(
            &*self.file,
            &self.path,
            self.number,
            self.salt,
            seal,
            footer,
        );
        let (file_len, bytes) = written.await?;
        self.file_len = file_len;
        Ok((seal, bytes))
    }
}

/// Writes footer and seal block of a segment whose records are synced, and gives back space that
/// it does not need. Returns the file's length and the bytes written.
pub async fn write_seal(
    file: &dyn File,
    path: &Path,
    number: u64,
    salt: u32,
    seal: Seal,
    footer: Bytes,
) -> Result<(u64, u64), JournalError> {
    let io = |e| JournalError::io(format!("seal {}", path.display()), &e);
    let block = seal.encode(number, salt);
    let bytes = (footer.len() + block.len()) as u64;
    let end = seal.data_end + footer.len() as u64;
    file.write_at(seal.data_end, vec![footer])
        .await
        .map_err(io)?;
    file.write_and_sync(SEAL_OFFSET, vec![block])
        .await
        .map_err(io)?;
    // A segment that was rolled because it is full keeps its few spare bytes, so that its file
    // can be recycled whole; one that was sealed early gives them back.
    let mut file_len = file.len().await.map_err(io)?;
    if file_len - end > file_len / 8 {
        file.set_len(end).await.map_err(io)?;
        file_len = end;
    }
    Ok((file_len, bytes))
}

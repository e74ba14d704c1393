//! The segments that exist: their sizes, seals and pins, and the open files that readers use.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::error::{Cause, DamagedRange, JournalError};
use super::format::{DATA_START, RECORD_HEADER, Record, Seal};
use crate::env::disk::{Disk, File, OpenMode};
use crate::rare::{self, Rare};
use crate::types::Location;

/// Files that readers keep open at most.
const OPEN_FILES: usize = 128;
/// How often a read that the disk has refused is repeated. What follows from damage cannot be taken
/// back: an entry that counts as lost may cost a shard its only replica. A read changes nothing on
/// the disk, so that, unlike a write or a sync, it may be repeated; a sector that the medium gave up
/// is refused each time, a hiccup on the way to it is not.
pub const READ_REPEATS: u32 = 3;
/// How long before each.
const READ_PAUSE: Duration = Duration::from_millis(20);

/// One segment, as others may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// Bytes of its records, with the header.
    pub bytes: u64,
    /// Whether it is complete.
    pub sealed: bool,
    /// Live log entries in it, as the owner of the logs counts them.
    pub pins: i64,
    /// When it was born, ms since the epoch.
    pub created_ms: u64,
}

/// One segment.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Random per birth.
    pub salt: u32,
    /// When it was born.
    pub created_ms: u64,
    /// End of the records; of synced ones while the segment is active.
    pub data_end: u64,
    /// Length of the file.
    pub file_len: u64,
    /// Once it is complete.
    pub seal: Option<Seal>,
    /// Live log entries.
    pub pins: i64,
}

#[derive(Default)]
struct State {
    slots: BTreeMap<u64, Slot>,
    open: BTreeMap<u64, Arc<dyn File>>,
    opened: VecDeque<u64>,
}

/// Whether the disk itself could not read.
fn is_refused(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// All segments of a journal.
pub struct Table {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    state: Mutex<State>,
}

/// The file of a segment.
pub fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.seg"))
}

/// The name that a freed segment's file waits under.
pub fn spare_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.spare"))
}

impl Table {
    /// An empty table over the directory.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Table {
        Table {
            disk,
            dir: dir.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Adds a segment, with its file when that is open already.
    pub fn insert(&self, number: u64, slot: Slot, file: Option<Arc<dyn File>>) {
        let mut state = self.state.lock();
        let before = state.slots.insert(number, slot);
        assert!(before.is_none(), "segment {number} was born twice");
        if let Some(file) = file {
            state.keep_open(number, file);
        }
    }

    /// Changes a segment that exists.
    pub fn update(&self, number: u64, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.state.lock().slots.get_mut(&number) {
            change(slot);
        }
    }

    /// Looks at a segment.
    pub fn get(&self, number: u64) -> Option<Slot> {
        self.state.lock().slots.get(&number).cloned()
    }

    /// Counts live entries of a segment up or down.
    pub fn pin(&self, number: u64, n: i64) {
        let mut state = self.state.lock();
        let slot = state.slots.get_mut(&number);
        let slot = slot.unwrap_or_else(|| panic!("segment {number} is pinned but does not exist"));
        slot.pins += n;
        assert!(slot.pins >= 0, "segment {number} has fewer than no pins");
    }

    /// The first segment with pins.
    pub fn first_pinned(&self) -> Option<u64> {
        let state = self.state.lock();
        let mut pinned = state.slots.iter().filter(|(_, slot)| slot.pins > 0);
        pinned.next().map(|(number, _)| *number)
    }

    /// All segments, by number.
    pub fn list(&self) -> Vec<SegmentInfo> {
        let state = self.state.lock();
        let info = |(number, slot): (&u64, &Slot)| SegmentInfo {
            number: *number,
            bytes: slot.data_end,
            sealed: slot.seal.is_some(),
            pins: slot.pins,
            created_ms: slot.created_ms,
        };
        state.slots.iter().map(info).collect()
    }

    /// Number of segments and the bytes of their files.
    pub fn totals(&self) -> (u64, u64) {
        let state = self.state.lock();
        let bytes = state.slots.values().map(|slot| slot.file_len).sum();
        (state.slots.len() as u64, bytes)
    }

    /// Takes a sealed segment without pins out of the table. The newest stays: its checkpoint
    /// restates what the freed ones said.
    pub fn take(&self, number: u64) -> Result<Slot, JournalError> {
        let in_use = |why| JournalError::InUse {
            segment: number,
            why,
        };
        let mut state = self.state.lock();
        let slot = state.slots.get(&number);
        let slot = slot.ok_or(JournalError::Gone { segment: number })?;
        if slot.seal.is_none() {
            return Err(in_use("it is not sealed"));
        }
        if slot.pins != 0 {
            return Err(in_use("it holds live log entries"));
        }
        if state
            .slots
            .last_key_value()
            .is_none_or(|(newest, _)| number >= *newest)
        {
            return Err(in_use("no later segment restates what it says"));
        }
        state.open.remove(&number);
        state.opened.retain(|n| *n != number);
        let slot = state.slots.remove(&number);
        slot.ok_or(JournalError::Gone { segment: number })
    }

    /// An open file of the segment.
    pub async fn file(&self, number: u64) -> Result<Arc<dyn File>, JournalError> {
        {
            let state = self.state.lock();
            if !state.slots.contains_key(&number) {
                return Err(JournalError::Gone { segment: number });
            }
            if let Some(file) = state.open.get(&number) {
                return Ok(file.clone());
            }
        }
        let path = segment_path(&self.dir, number);
        let opened = self.disk.open(&path, OpenMode::Read).await;
        let mut state = self.state.lock();
        if !state.slots.contains_key(&number) {
            return Err(JournalError::Gone { segment: number });
        }
        let file = opened.map_err(|e| JournalError::io(format!("open {}", path.display()), &e))?;
        state.keep_open(number, file.clone());
        Ok(file)
    }

    /// Payload of a record, with header and payload checked.
    pub async fn read(&self, location: Location) -> Result<Bytes, JournalError> {
        let number = location.segment;
        let gone = || JournalError::Gone { segment: number };
        let slot = self.get(number).ok_or_else(gone)?;
        let header_at = (location.offset as u64).checked_sub(RECORD_HEADER as u64);
        let header_at = header_at
            .filter(|at| *at >= DATA_START)
            .ok_or_else(|| self.damaged(location, Cause::RecordHeader, None))?;
        // Locations come out of the index: one that lies must not make us allocate.
        if location.offset as u64 + location.len as u64 > slot.data_end {
            return Err(self.damaged(location, Cause::Short, None));
        }
        let len = RECORD_HEADER + location.len as usize;
        let bytes = self.read_bytes(location, header_at, len).await?;
        let record = Record::decode(&bytes, number, Some(slot.salt))
            .filter(|r| r.offset as u64 == header_at && r.len == location.len)
            .ok_or_else(|| self.damaged(location, Cause::RecordHeader, None))?;
        let payload = bytes.slice(RECORD_HEADER..);
        if crc32fast::hash(&payload) != record.payload_crc {
            return Err(self.damaged(location, Cause::Payload, Some(&record)));
        }
        Ok(payload)
    }

    /// Bytes inside a payload, unchecked.
    pub async fn read_part(&self, location: Location) -> Result<Bytes, JournalError> {
        let number = location.segment;
        let gone = || JournalError::Gone { segment: number };
        let slot = self.get(number).ok_or_else(gone)?;
        let offset = location.offset as u64;
        if offset + location.len as u64 > slot.data_end {
            return Err(self.damaged(location, Cause::Short, None));
        }
        self.read_bytes(location, offset, location.len as usize)
            .await
    }

    async fn read_bytes(
        &self,
        location: Location,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, JournalError> {
        let number = location.segment;
        let file = self.file(number).await?;
        let mut read = file.read_at(offset, len).await;
        for _ in 0..READ_REPEATS {
            if !read.as_ref().is_err_and(is_refused) {
                break;
            }
            tokio::time::sleep(READ_PAUSE).await;
            read = file.read_at(offset, len).await;
        }
        // A freed segment's file may be overwritten by a new life, but only after it left the
        // table: while it is in there, these bytes are its own.
        if self.get(number).is_none() {
            return Err(JournalError::Gone { segment: number });
        }
        read.map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => self.damaged(location, Cause::Short, None),
            // A sector that the medium gave up is damage like any other: good octets are fetched
            // from elsewhere.
            _ if is_refused(&e) => {
                rare::hit(Rare::UnreadableSector);
                self.damaged(location, Cause::Unreadable, None)
            }
            _ => {
                let path = segment_path(&self.dir, number);
                JournalError::io(format!("read {}", path.display()), &e)
            }
        })
    }

    fn damaged(&self, location: Location, cause: Cause, record: Option<&Record>) -> JournalError {
        rare::hit(Rare::DamagedRead);
        JournalError::Damaged(Box::new(DamagedRange {
            file: segment_path(&self.dir, location.segment),
            segment: location.segment,
            offset: location.offset as u64,
            len: location.len as u64,
            cause,
            record: record.and_then(|r| r.owned(location.segment)),
        }))
    }
}

impl State {
    fn keep_open(&mut self, number: u64, file: Arc<dyn File>) {
        if self.open.insert(number, file).is_none() {
            self.opened.push_back(number);
        }
        while self.opened.len() > OPEN_FILES {
            if let Some(oldest) = self.opened.pop_front() {
                self.open.remove(&oldest);
            }
        }
    }
}

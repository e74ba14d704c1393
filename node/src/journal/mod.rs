//! The journal: one append-only stream of checked records for all replicas of a node.
//!
//! It is the Raft log of every shard and at the same time the store of the messages' octets, so
//! that each body byte is written once. Appends of all shards share one write and one fdatasync.
//!
//! ```text
//!  submit ─▶ queue (bounded in bytes) ─▶ writer: [mark rec rec …] one write + fdatasync ─▶ done
//!
//!  segment file   header │ checkpoint batch │ batch │ batch │ …      │ footer (index of all records)
//!                   └─ seal: where the footer lies ──────────────────────┘
//! ```
//!
//! `node/FORMAT.md` draws every byte. Positions inside the active segment:
//! `synced_upto of the last mark ≤ synced ≤ written`; a location is handed out for synced bytes
//! alone.
//!
//! What the owner of the logs owes, so that a replay gives it back its state:
//!
//! - The checkpoint callback restates, for each replica, everything but entries: vote, purge mark,
//!   committed log id, and where its log ends (a `Truncate`). A replay may begin at any segment and
//!   may miss freed segments in between; what they said must be in each later checkpoint.
//! - What a checkpoint restates must hold at the latest when `done` of the records that changed it
//!   returns: `done` runs before the next segment is born.
//! - An entry is pinned (`pin(segment, 1)`) in `done`, or while the recovered records are read and
//!   before the first submit; it is unpinned when the `Purge`, `Truncate` or `Reset` that ends it
//!   was flushed, and what lives on in the index was flushed too.
//!
//! Architecture invariant: nothing here knows what an entry means.

mod error;
mod format;
mod recover;
mod scan;
mod segment;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{Notify, oneshot, watch};

pub use error::{Cause, DamagedRange, JournalError};
pub use table::{READ_REPEATS, SegmentInfo};
pub use writer::Done;

use crate::env::Env;
use crate::types::{Location, ReplicaId, ShardId};
use format::{Kind, RECORD_HEADER, Record, record_size};
use scan::{SCAN_CHUNK, Window};
use writer::{Job, Shared, Submission, Writer};

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// A Raft log entry: index, term and leader say which.
    Entry = 1,
    /// The vote of the shard's replica, encoded.
    Vote = 2,
    /// Entries of the replica with a higher index are void.
    Truncate = 3,
    /// Entries of the replica up to this log id are no longer part of its log.
    Purge = 4,
    /// The last log id known to be committed.
    Committed = 5,
    /// Stored octets that are in no entry any more: moved by compaction or fetched from a peer.
    Blob = 6,
    /// What a checkpoint has to say beside the other kinds.
    Checkpoint = 7,
    /// The replica's log starts anew after this log id: all earlier entries are void.
    Reset = 8,
}

impl RecordKind {
    pub(crate) fn of(number: u8) -> Option<RecordKind> {
        Some(match number {
            1 => RecordKind::Entry,
            2 => RecordKind::Vote,
            3 => RecordKind::Truncate,
            4 => RecordKind::Purge,
            5 => RecordKind::Committed,
            6 => RecordKind::Blob,
            7 => RecordKind::Checkpoint,
            8 => RecordKind::Reset,
            _ => return None,
        })
    }

    /// Whether the payload is large and read on demand alone.
    pub fn is_bulk(self) -> bool {
        matches!(self, RecordKind::Entry | RecordKind::Blob)
    }
}

/// Whose record it is, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// What it is.
    pub kind: RecordKind,
    /// Shard of the replica.
    pub shard: ShardId,
    /// The replica.
    pub replica: ReplicaId,
    /// Index of the log id.
    pub index: u64,
    /// Term of the log id.
    pub term: u64,
    /// Leader of the log id.
    pub leader: u64,
    /// How the payload is encoded; opaque to the journal.
    pub codec: u8,
}

/// A record to be written.
#[derive(Debug, Clone)]
pub struct Append {
    /// Its head.
    pub head: RecordHead,
    /// Its payload: parts that are written one after the other, never copied together.
    pub payload: Vec<Bytes>,
}

/// Settings of a journal.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of a segment, reserved at its birth. 64 KiB to 2 GiB; a larger submission
    /// gets a larger segment.
    pub segment_bytes: u64,
    /// Records that a segment holds at most: bounds the memory of its footer.
    pub segment_records: u64,
    /// Bytes of one group commit at most, unless a single submission is larger.
    pub batch_bytes: usize,
    /// Bytes that wait in the queue at most.
    pub queue_bytes: usize,
    /// Freed segments kept for reuse.
    pub recycle_segments: usize,
    /// Quiet time after which a mark says that the last batch was synced.
    pub idle_mark: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 256 << 20,
            segment_records: 1 << 18,
            batch_bytes: 8 << 20,
            queue_bytes: 64 << 20,
            recycle_segments: 2,
            idle_mark: Duration::from_millis(20),
        }
    }
}

/// What was found when the journal was opened.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Records in the order of the stream, from the first segment that the replay needs. Records
    /// that are damaged are missing here and listed in `damage`.
    pub records: Vec<Replayed>,
    /// Synced bytes that fail their check.
    pub damage: Vec<DamagedRange>,
    /// Bytes of a torn tail, cut off: none of them was acknowledged.
    pub torn_bytes: u64,
    /// Segments found.
    pub segments: u64,
    /// Segments whose records were all read, because no valid footer lists them.
    pub scanned_segments: u64,
    /// How long it took.
    pub took_ms: u64,
}

/// One record of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Its head.
    pub head: RecordHead,
    /// Where its payload lies.
    pub location: Location,
    /// Its payload; empty for the bulk kinds (entries and blobs).
    pub payload: Bytes,
}

/// Counters since the journal was opened, and its size now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes written to files, all of them: headers, marks, footers.
    pub bytes_written: u64,
    /// Bytes of payloads among them.
    pub payload_bytes: u64,
    /// fdatasyncs and directory syncs.
    pub syncs: u64,
    /// Group commits.
    pub batches: u64,
    /// Records written.
    pub records: u64,
    /// Segments born.
    pub births: u64,
    /// Of those, into a recycled file.
    pub recycled: u64,
    /// Segments that exist.
    pub segments: u64,
    /// Bytes of their files.
    pub total_bytes: u64,
    /// Freed files that wait for reuse.
    pub spares: u64,
    /// Bytes that wait in the queue.
    pub queued_bytes: u64,
    /// Whether the writer waits for a full disk to get space again.
    pub stalled: bool,
}

/// What lies in a segment.
#[derive(Debug, Default)]
pub struct Survey {
    /// Its records with their payload locations, in order; what they hold is not verified.
    pub records: Vec<(RecordHead, Location)>,
    /// Places that held synced records of which not even a header is known any more.
    pub gaps: Vec<DamagedRange>,
}

/// The journal of one data directory.
pub struct Journal {
    shared: Arc<Shared>,
}

impl Journal {
    /// Opens or creates the journal in `dir`. The caller holds the lock of the data directory. The
    /// unsealed tail was written and synced again before anything of it is reported.
    pub async fn open(
        env: &Env,
        dir: &Path,
        options: Options,
    ) -> Result<(Journal, Recovery), JournalError> {
        assert!((1 << 16..=2 << 30).contains(&options.segment_bytes));
        assert!(options.queue_bytes <= u32::MAX as usize && options.segment_records > 0);
        let opened = recover::open(env, dir, &options).await?;
        let shared = Arc::new(Shared::new(
            env.clone(),
            dir.to_owned(),
            options,
            opened.table,
            opened.journal_id,
            opened.spares,
        ));
        let writer = Writer::new(shared.clone(), opened.next_number);
        tokio::spawn(writer.run());
        Ok((Journal { shared }, opened.recovery))
    }

    /// Supplies the records that open each new segment. Must be set before the first submit.
    pub fn set_checkpoint(&self, f: Box<dyn Fn() -> Vec<Append> + Send + Sync>) {
        *self.shared.checkpoint.lock() = Some(Arc::from(f));
    }

    /// Queues records in order; waits for room and returns once they are queued. `done` runs once,
    /// in the order of submission, after the fdatasync of the batch that holds them, with the
    /// payload's location for each record; or with the error. It runs on the writer and must not
    /// block. When `submit` itself fails or is dropped, nothing was queued and `done` never runs.
    ///
    /// The records of one submission go into one batch and one segment.
    pub async fn submit(&self, records: Vec<Append>, done: Done) -> Result<(), JournalError> {
        let pending = writer::pend(records)?;
        let bytes = pending
            .iter()
            .map(|p| record_size(p.record.len as u64))
            .sum::<u64>();
        // Offsets are 32 bits wide; half of that leaves room for everything else in the segment.
        let limit = 1 << 31;
        if bytes > limit {
            return Err(JournalError::TooLarge { bytes, limit });
        }
        let shared = &self.shared;
        let room = bytes.min(shared.options.queue_bytes as u64) as u32;
        let Ok(room) = shared.room.clone().acquire_many_owned(room).await else {
            return Err(shared.refusal());
        };
        let submission = Submission {
            records: pending,
            bytes,
            done,
            room,
        };
        let pushed = shared.push(Job::Write(submission));
        pushed.map_err(|(_, reason)| reason)
    }

    /// `submit`, and waits until the records are flushed.
    pub async fn append(&self, records: Vec<Append>) -> Result<Vec<Location>, JournalError> {
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |result| drop(tell.send(result)));
        self.submit(records, done).await?;
        told.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Payload of a record, with header and payload checked: CRCs, position, segment's life.
    pub async fn read(&self, location: Location) -> Result<Bytes, JournalError> {
        self.shared.table.read(location).await
    }

    /// Bytes inside a payload; the caller checks them with a CRC of its own.
    pub async fn read_part(&self, location: Location) -> Result<Bytes, JournalError> {
        self.shared.table.read_part(location).await
    }

    /// Reads records and gives back those that are damaged. Opening reads footers and not what they
    /// list: an owner that depends on records it has not applied verifies them with this, before it
    /// promises anything on their strength.
    pub async fn verify(&self, locations: &[Location]) -> Result<Vec<DamagedRange>, JournalError> {
        /// Reads under way together.
        const READS: usize = 8;
        let reads = locations.iter().map(|at| self.read(*at));
        let mut reads = futures::stream::iter(reads).buffered(READS);
        let mut damaged = Vec::new();
        while let Some(read) = reads.next().await {
            match read {
                Ok(_) => {}
                Err(JournalError::Damaged(range)) => damaged.push(*range),
                Err(e) => return Err(e),
            }
        }
        Ok(damaged)
    }

    /// Counts live entries of a segment up or down. A segment with pins is never freed.
    pub fn pin(&self, segment: u64, n: i64) {
        self.shared.table.pin(segment, n);
    }

    /// The file of a segment, for messages.
    pub fn segment_file(&self, segment: u64) -> PathBuf {
        table::segment_path(&self.shared.dir, segment)
    }

    /// The segments that exist, by number.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.table.list()
    }

    /// The records of a segment with their payload locations, in order: from the footer, or by
    /// reading the segment when that is damaged.
    pub async fn records(&self, segment: u64) -> Result<Vec<(RecordHead, Location)>, JournalError> {
        Ok(self.survey(segment).await?.records)
    }

    /// The records of a segment, as [`Journal::records`] gives them, and the places in it where
    /// nobody can tell any more what they were: together, all that was ever located in it.
    pub async fn survey(&self, segment: u64) -> Result<Survey, JournalError> {
        let shared = &self.shared;
        let gone = || JournalError::Gone { segment };
        let owned = |r: Record| r.owned(segment);
        if let Some((number, headers)) = &*shared.active.lock()
            && *number == segment
        {
            let salt = shared.table.get(segment).ok_or_else(gone)?.salt;
            let decode = |h: &[u8]| Record::decode(h, segment, Some(salt)).and_then(owned);
            return Ok(Survey {
                records: headers.chunks(RECORD_HEADER).filter_map(decode).collect(),
                gaps: Vec::new(),
            });
        }
        let slot = shared.table.get(segment).ok_or_else(gone)?;
        let file = shared.table.file(segment).await?;
        let path = table::segment_path(&shared.dir, segment);
        let mut window = Window::new(file, &path, slot.file_len, SCAN_CHUNK);
        let gap = |marker: &Record| DamagedRange::of_marker(path.clone(), segment, marker);
        let mut survey = Survey::default();
        if let Some(seal) = &slot.seal
            && let Some(listed) = scan::read_footer(&mut window, segment, slot.salt, seal).await?
        {
            let mut before = None;
            for record in listed {
                match record.kind {
                    // The header of this record is whole, stands in front, and leads to the damage.
                    Kind::Damage if before == Some(record.index) => {}
                    Kind::Damage => survey.gaps.push(gap(&record)),
                    _ => {
                        before = Some(record.offset as u64);
                        survey.records.extend(owned(record));
                    }
                }
            }
            return Ok(survey);
        }
        let found = scan::scan(&mut window, segment, slot.salt, slot.data_end, true).await?;
        for item in found.items {
            match item {
                scan::Item::Good(r) | scan::Item::Bad(r, _) => survey.records.extend(owned(r)),
                scan::Item::Gap(from, to) => {
                    let marker = Record::damage(from, to - from, Cause::RecordHeader.code());
                    survey.gaps.push(gap(&marker));
                }
            }
        }
        Ok(survey)
    }

    /// Frees a sealed segment without pins that is not the newest: keeps its file for reuse or
    /// removes it. The caller has made sure that nothing in the index points into it, durably.
    pub async fn free(&self, segment: u64) -> Result<(), JournalError> {
        let shared = &self.shared;
        let slot = shared.table.take(segment)?;
        let disk = &shared.env.disk;
        let path = table::segment_path(&shared.dir, segment);
        let io = |e| JournalError::io(format!("free {}", path.display()), &e);
        let full_size = slot.file_len == shared.options.segment_bytes;
        let spare = full_size && shared.spares.lock().len() < shared.options.recycle_segments;
        if spare {
            let to = table::spare_path(&shared.dir, segment);
            disk.rename(&path, &to).await.map_err(io)?;
        } else {
            disk.remove(&path).await.map_err(io)?;
        }
        // Only after this may the file be overwritten: otherwise a power failure could bring the
        // old name back over a new life.
        disk.sync_dir(&shared.dir).await.map_err(io)?;
        if spare {
            shared.spares.lock().push(segment);
        }
        Ok(())
    }

    /// Where a replay would begin: the first segment with pins, or the active one. Each new
    /// segment's header says it.
    pub fn replay_from(&self) -> u64 {
        let newest = || self.shared.table.list().last().map_or(0, |s| s.number);
        self.shared.table.first_pinned().unwrap_or_else(newest)
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let counters = &shared.counters;
        let (segments, total_bytes) = shared.table.totals();
        let free = shared.room.available_permits();
        Stats {
            bytes_written: counters.bytes_written.load(Ordering::Relaxed),
            payload_bytes: counters.payload_bytes.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            batches: counters.batches.load(Ordering::Relaxed),
            records: counters.records.load(Ordering::Relaxed),
            births: counters.births.load(Ordering::Relaxed),
            recycled: counters.recycled.load(Ordering::Relaxed),
            segments,
            total_bytes,
            spares: shared.spares.lock().len() as u64,
            queued_bytes: shared.options.queue_bytes.saturating_sub(free) as u64,
            stalled: counters.stalled.load(Ordering::Relaxed),
        }
    }

    /// Becomes `Some` when a write or sync failed. The node stops the process then: what the disk
    /// holds is unknown, and only a fresh start finds out.
    pub fn poisoned(&self) -> watch::Receiver<Option<Arc<JournalError>>> {
        self.shared.poison.subscribe()
    }

    /// Told whenever the journal has taken more room on the disk.
    pub fn grown(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.grown)
    }

    /// Rolls to a new segment now, when anything was written to the active one.
    pub async fn seal(&self) -> Result<(), JournalError> {
        let (tell, told) = oneshot::channel();
        let pushed = self.shared.push(Job::Roll(tell));
        pushed.map_err(|(_, reason)| reason)?;
        told.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Takes no more records, writes and syncs those that are queued, seals, stops the writer.
    pub async fn close(&self) {
        self.shared.close();
        let mut ended = self.shared.ended.subscribe();
        // The sender is here as long as this is.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // A writer that nobody can hand work to any more ends by itself.
        self.shared.close();
    }
}

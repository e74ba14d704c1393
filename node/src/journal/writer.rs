//! The one writer: takes what has queued up, writes it as one batch, syncs, answers.
//!
//! Exactly one write and fdatasync is in flight. Whatever arrives meanwhile joins the next batch,
//! so that the rate of syncs adapts to the disk by itself. (A deeper pipeline was measured to be
//! slower.) The queue is bounded in bytes: a caller waits for room before its records are queued.
//!
//! After any failed write or sync nothing is retried: what the disk holds is unknown, and a second
//! fdatasync may report success for pages that the kernel dropped (Rebello et al., "Can
//! Applications Recover from fsync Failures?", ATC '20). All waiting and all later callers get the
//! error, and the node stops.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::error::JournalError;
use super::format::{RECORD_HEADER, SegmentHeader};
use super::segment::{self, Active, Birth, Pending, batch_size};
use super::table::{Slot, Table};
use super::{Append, Options};
use crate::env::Env;
use crate::rare::{self, Rare};
use crate::types::Location;

/// How long the writer waits before it asks a full disk again.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// Told once, in the order of submission, where the records lie or why they do not.
pub type Done = Box<dyn FnOnce(Result<Vec<Location>, JournalError>) + Send>;

/// Supplies the records that open each segment.
pub type Checkpoint = Arc<dyn Fn() -> Vec<Append> + Send + Sync>;

/// Records of one caller.
pub struct Submission {
    /// In order; they go into one batch together.
    pub records: Vec<Pending>,
    /// Bytes with headers and padding.
    pub bytes: u64,
    /// Who waits.
    pub done: Done,
    /// Room in the queue.
    pub room: OwnedSemaphorePermit,
}

/// Something for the writer to do, in order.
pub enum Job {
    /// Write records.
    Write(Submission),
    /// Roll to a new segment.
    Roll(oneshot::Sender<Result<(), JournalError>>),
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closing: bool,
}

/// Counters since the journal was opened.
#[derive(Default)]
pub struct Counters {
    /// All bytes written to files.
    pub bytes_written: AtomicU64,
    /// Bytes of the owner's payloads.
    pub payload_bytes: AtomicU64,
    /// fdatasyncs and directory syncs.
    pub syncs: AtomicU64,
    /// Batches.
    pub batches: AtomicU64,
    /// Records.
    pub records: AtomicU64,
    /// Segments born.
    pub births: AtomicU64,
    /// Of those, into a recycled file.
    pub recycled: AtomicU64,
    /// Whether the writer waits for space.
    pub stalled: AtomicBool,
}

/// What the journal's handle and its writer share.
pub struct Shared {
    /// The world.
    pub env: Env,
    /// The directory.
    pub dir: PathBuf,
    /// Settings.
    pub options: Options,
    /// Segments.
    pub table: Table,
    /// Counters.
    pub counters: Counters,
    /// Random per journal.
    pub journal_id: [u8; 16],
    /// The checkpoint callback.
    pub checkpoint: Mutex<Option<Checkpoint>>,
    /// Number of the active segment, once there is one, and its headers for `records`.
    pub active: Mutex<Option<(u64, Vec<u8>)>>,
    /// Freed files that wait to be used again.
    pub spares: Mutex<Vec<u64>>,
    /// The first failure.
    pub poison: watch::Sender<Option<Arc<JournalError>>>,
    /// Room in the queue, in bytes.
    pub room: Arc<Semaphore>,
    /// Turns true when the writer has ended.
    pub ended: watch::Sender<bool>,
    /// Told when the journal has taken more room on the disk.
    pub grown: Arc<Notify>,
    queue: Mutex<Queue>,
    wake: Notify,
}

impl Shared {
    /// The state of a journal that was just opened.
    pub fn new(
        env: Env,
        dir: PathBuf,
        options: Options,
        table: Table,
        journal_id: [u8; 16],
        spares: Vec<u64>,
    ) -> Shared {
        Shared {
            env,
            dir,
            room: Arc::new(Semaphore::new(options.queue_bytes)),
            options,
            table,
            counters: Counters::default(),
            journal_id,
            checkpoint: Mutex::new(None),
            active: Mutex::new(None),
            spares: Mutex::new(spares),
            poison: watch::Sender::new(None),
            ended: watch::Sender::new(false),
            grown: Arc::default(),
            queue: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Queues a job. When the journal is closed or poisoned the job comes back with the reason.
    pub fn push(&self, job: Job) -> Result<(), (Job, JournalError)> {
        let mut queue = self.queue.lock();
        if let Some(reason) = self.stopped(&queue) {
            return Err((job, reason));
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    /// No more jobs after those that are queued.
    pub fn close(&self) {
        self.queue.lock().closing = true;
        self.room.close();
        self.wake.notify_one();
    }

    /// Why no more jobs are taken.
    pub fn refusal(&self) -> JournalError {
        let queue = self.queue.lock();
        self.stopped(&queue).unwrap_or(JournalError::Closed)
    }

    fn stopped(&self, queue: &Queue) -> Option<JournalError> {
        if let Some(poison) = self.poison.borrow().as_deref() {
            return Some(poison.clone());
        }
        queue.closing.then_some(JournalError::Closed)
    }

    /// Refuses everything from now on. Called before anyone hears of the failure, so that no
    /// reaction to it can submit more.
    fn poison(&self, error: JournalError) -> JournalError {
        let error = match error {
            JournalError::Poisoned(_) => error,
            other => JournalError::Poisoned(other.to_string()),
        };
        let first = self.poison.send_if_modified(|poison| {
            let first = poison.is_none();
            if first {
                *poison = Some(Arc::new(error.clone()));
            }
            first
        });
        if first {
            rare::hit(Rare::JournalPoisoned);
            tracing::error!(%error, "a write of the journal failed; the node has to stop");
        }
        self.room.close();
        error
    }

    fn fail_queue(&self, error: JournalError) {
        let jobs = std::mem::take(&mut self.queue.lock().jobs);
        for job in jobs {
            match job {
                Job::Write(submission) => (submission.done)(Err(error.clone())),
                Job::Roll(done) => drop(done.send(Err(error.clone()))),
            }
        }
    }
}

/// Turns what the owner appends into headers with CRCs.
pub fn pend(records: Vec<Append>) -> Result<Vec<Pending>, JournalError> {
    let pend = |append: Append| {
        let len: u64 = append.payload.iter().map(|part| part.len() as u64).sum();
        let len = u32::try_from(len).map_err(|_| JournalError::TooLarge {
            bytes: len,
            limit: u32::MAX as u64,
        })?;
        let mut crc = crc32fast::Hasher::new();
        append.payload.iter().for_each(|part| crc.update(part));
        let record = super::format::Record::of(&append.head, len, crc.finalize());
        Ok(Pending {
            record,
            payload: append.payload,
        })
    };
    records.into_iter().map(pend).collect()
}

/// The writer's own state.
pub struct Writer {
    shared: Arc<Shared>,
    active: Option<Active>,
    next_number: u64,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nothing is written any more, and nobody may wait for it. The checkpoint and whoever still
        // waits, where the process was killed, may hold the logs, and those hold the journal: none of
        // them would ever be freed.
        self.shared.close();
        self.shared.ended.send_replace(true);
        let checkpoint = self.shared.checkpoint.lock().take();
        let jobs = std::mem::take(&mut self.shared.queue.lock().jobs);
        drop((checkpoint, jobs));
    }
}

enum Next {
    Batch(Vec<Submission>),
    Roll(oneshot::Sender<Result<(), JournalError>>),
    Idle,
    Close,
}

impl Writer {
    /// A writer whose first segment gets the number `next_number`.
    pub fn new(shared: Arc<Shared>, next_number: u64) -> Writer {
        Writer {
            shared,
            active: None,
            next_number,
        }
    }

    /// Works until the journal is closed or a write fails.
    pub async fn run(mut self) {
        if let Err(error) = self.work().await {
            let error = self.shared.poison(error);
            self.shared.fail_queue(error);
        }
        self.shared.ended.send_replace(true);
    }

    async fn work(&mut self) -> Result<(), JournalError> {
        loop {
            match self.next().await {
                Next::Batch(batch) => self.write(batch).await?,
                Next::Roll(done) => {
                    let rolled = match self.active.as_ref().is_some_and(|a| a.grown) {
                        true => self.roll().await,
                        false => Ok(()),
                    };
                    let answer = rolled.clone();
                    drop(done.send(answer));
                    if !matches!(rolled, Err(JournalError::Full)) {
                        rolled?;
                    }
                }
                Next::Idle => {
                    if let Some(active) = &mut self.active {
                        let bytes = active.mark().await?;
                        let counters = &self.shared.counters;
                        counters.bytes_written.fetch_add(bytes, Ordering::Relaxed);
                    }
                }
                Next::Close => {
                    return self.seal().await;
                }
            }
        }
    }

    /// Waits for something to do.
    async fn next(&self) -> Next {
        loop {
            {
                let mut queue = self.shared.queue.lock();
                match queue.jobs.pop_front() {
                    Some(Job::Roll(done)) => return Next::Roll(done),
                    Some(Job::Write(first)) => return Next::Batch(self.gather(first, &mut queue)),
                    None if queue.closing => return Next::Close,
                    None => {}
                }
            }
            let woken = self.shared.wake.notified();
            // Everything written is synced, and nothing says so yet: say it soon, so that rot of
            // the last batch can be told from a torn write.
            let unsaid = self.active.as_ref().is_some_and(|a| {
                a.grown && a.at == a.synced && a.needed(batch_size_of(0), 0) <= a.file_len
            });
            if !unsaid {
                woken.await;
            } else if tokio::time::timeout(self.shared.options.idle_mark, woken)
                .await
                .is_err()
            {
                return Next::Idle;
            }
        }
    }

    /// Everything that fits into one batch with `first`. A batch never spans segments.
    fn gather(&self, first: Submission, queue: &mut Queue) -> Vec<Submission> {
        let limit = self.shared.options.batch_bytes as u64;
        let mut bytes = batch_size_of(first.bytes);
        let mut records = first.records.len() as u64;
        let rolls = self.must_roll(bytes, records);
        let mut batch = vec![first];
        while let Some(Job::Write(next)) = queue.jobs.front() {
            bytes += next.bytes;
            records += next.records.len() as u64;
            let fits = match rolls {
                true => self.fits_fresh(bytes, records),
                false => !self.must_roll(bytes, records),
            };
            if bytes > limit || !fits {
                break;
            }
            match queue.jobs.pop_front() {
                Some(Job::Write(next)) => batch.push(next),
                _ => unreachable!("the front was looked at under the lock"),
            }
        }
        batch
    }

    /// Whether a batch needs another segment than the active one.
    fn must_roll(&self, bytes: u64, records: u64) -> bool {
        let options = &self.shared.options;
        let Some(active) = &self.active else {
            return true;
        };
        active.grown
            && (active.needed(bytes, records) > options.segment_bytes
                || active.count() + records > options.segment_records)
    }

    /// Whether a batch leaves a fresh segment within its bounds, with room for a checkpoint.
    fn fits_fresh(&self, bytes: u64, records: u64) -> bool {
        let options = &self.shared.options;
        bytes + (records * RECORD_HEADER as u64) <= options.segment_bytes / 8 * 7
            && records <= options.segment_records
    }

    async fn write(&mut self, batch: Vec<Submission>) -> Result<(), JournalError> {
        let bytes = batch_size_of(batch.iter().map(|s| s.bytes).sum());
        let records: u64 = batch.iter().map(|s| s.records.len() as u64).sum();
        let mut result = Ok(());
        if self.must_roll(bytes, records) {
            result = self.roll().await;
        }
        if result.is_ok() {
            result = self.reserve(bytes, records).await;
        }
        match result {
            Ok(()) => self.append(batch).await,
            Err(JournalError::Full) => {
                let full = |s: Submission| (s.done)(Err(JournalError::Full));
                batch.into_iter().for_each(full);
                Ok(())
            }
            Err(error) => {
                let error = self.shared.poison(error);
                let fail = |s: Submission| (s.done)(Err(error.clone()));
                batch.into_iter().for_each(fail);
                Err(error)
            }
        }
    }

    async fn append(&mut self, batch: Vec<Submission>) -> Result<(), JournalError> {
        let active = self.active.as_mut().expect("a segment was born before");
        let mut records = Vec::new();
        let mut waiting = Vec::with_capacity(batch.len());
        for submission in batch {
            waiting.push((submission.records.len(), submission.done, submission.room));
            records.extend(submission.records);
        }
        let count = records.len() as u64;
        let payload: u64 = records.iter().map(|r| r.record.len as u64).sum();
        match active.append(records.into_iter()).await {
            Ok((locations, bytes)) => {
                let counters = &self.shared.counters;
                counters.bytes_written.fetch_add(bytes, Ordering::Relaxed);
                counters.payload_bytes.fetch_add(payload, Ordering::Relaxed);
                counters.syncs.fetch_add(1, Ordering::Relaxed);
                counters.batches.fetch_add(1, Ordering::Relaxed);
                counters.records.fetch_add(count, Ordering::Relaxed);
                let (end, file_len) = (active.at, active.file_len);
                self.shared.table.update(active.number, |slot| {
                    slot.data_end = end;
                    slot.file_len = file_len;
                });
                if let Some((_, headers)) = self.shared.active.lock().as_mut() {
                    headers.extend_from_slice(&active.headers[headers.len()..]);
                }
                let mut locations = locations.into_iter();
                for (count, done, room) in waiting {
                    drop(room);
                    done(Ok(locations.by_ref().take(count).collect()));
                }
                Ok(())
            }
            Err(error) => {
                let error = self.shared.poison(error);
                for (_, done, _) in waiting {
                    done(Err(error.clone()));
                }
                Err(error)
            }
        }
    }

    /// Seals the active segment and bears the next. `Full` only when the journal is being closed
    /// while there is no space; until then it waits.
    async fn roll(&mut self) -> Result<(), JournalError> {
        if self.active.is_some() {
            self.seal().await?;
        }
        let shared = self.shared.clone();
        loop {
            let callback = shared.checkpoint.lock().clone();
            let checkpoint = pend(callback.map_or_else(Vec::new, |f| f()))?;
            let count = checkpoint.len() as u64;
            let number = self.next_number;
            let mut salt = [0; 4];
            shared.env.rng.fill(&mut salt);
            let spare = shared.spares.lock().last().copied();
            let birth = Birth {
                header: SegmentHeader {
                    number,
                    salt: u32::from_le_bytes(salt),
                    journal_id: shared.journal_id,
                    replay_from: shared.table.first_pinned().unwrap_or(number),
                    created_ms: shared.env.clock.now_ms(),
                },
                file_len: shared.options.segment_bytes,
                spare,
                checkpoint,
            };
            match segment::bear(&*shared.env.disk, &shared.dir, birth).await {
                Ok((active, bytes)) => {
                    shared.spares.lock().retain(|n| Some(*n) != spare);
                    let counters = &shared.counters;
                    counters.bytes_written.fetch_add(bytes, Ordering::Relaxed);
                    counters.syncs.fetch_add(2, Ordering::Relaxed);
                    counters.records.fetch_add(count, Ordering::Relaxed);
                    counters.births.fetch_add(1, Ordering::Relaxed);
                    match spare {
                        Some(_) => rare::hit(Rare::SegmentRecycled),
                        None => shared.grown.notify_one(),
                    }
                    let recycled = u64::from(spare.is_some());
                    counters.recycled.fetch_add(recycled, Ordering::Relaxed);
                    counters.stalled.store(false, Ordering::Relaxed);
                    self.next_number = number + 1;
                    let slot = Slot {
                        salt: active.salt,
                        created_ms: active.created_ms,
                        data_end: active.at,
                        file_len: active.file_len,
                        seal: None,
                        pins: 0,
                    };
                    shared.table.insert(number, slot, Some(active.file.clone()));
                    *shared.active.lock() = Some((number, active.headers.to_vec()));
                    self.active = Some(active);
                    return Ok(());
                }
                Err(error) if error.is_full() => self.wait_for_space(&error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Reserves space for a batch that is larger than a segment.
    async fn reserve(&mut self, bytes: u64, records: u64) -> Result<(), JournalError> {
        loop {
            let active = self.active.as_mut().expect("a segment was born before");
            let before = active.file_len;
            match active.extend(active.needed(bytes, records)).await {
                Err(error) if error.is_full() => self.wait_for_space(&error).await?,
                other => {
                    let stalled = &self.shared.counters.stalled;
                    stalled.store(false, Ordering::Relaxed);
                    if active.file_len > before {
                        self.shared.grown.notify_one();
                    }
                    return other;
                }
            }
        }
    }

    async fn wait_for_space(&self, error: &JournalError) -> Result<(), JournalError> {
        let shared = &self.shared;
        if !shared.counters.stalled.swap(true, Ordering::Relaxed) {
            rare::hit(Rare::JournalWaitsForSpace);
            tracing::warn!(%error, "the disk is full: the journal waits for space");
        }
        if shared.queue.lock().closing {
            rare::hit(Rare::ClosedWhileFull);
            return Err(JournalError::Full);
        }
        tokio::time::sleep(FULL_RETRY).await;
        Ok(())
    }

    async fn seal(&mut self) -> Result<(), JournalError> {
        let Some(mut active) = self.active.take() else {
            return Ok(());
        };
        let syncs = 1 + u64::from(active.ends_unsynced());
        let (seal, bytes) = active.seal().await?;
        let counters = &self.shared.counters;
        counters.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        counters.syncs.fetch_add(syncs, Ordering::Relaxed);
        self.shared.table.update(active.number, |slot| {
            slot.data_end = seal.data_end;
            slot.file_len = active.file_len;
            slot.seal = Some(seal);
        });
        *self.shared.active.lock() = None;
        Ok(())
    }
}

/// Bytes of a batch whose records take `bytes`.
fn batch_size_of(bytes: u64) -> u64 {
    batch_size(std::iter::empty()) + bytes
}

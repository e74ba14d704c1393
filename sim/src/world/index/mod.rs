//! The index of a node: the ordered in-memory arm with RocksDB's crash behaviour, on the node's
//! simulated disk.
//!
//! Rows lie in memory, but a file `CURRENT` in the directory of the index says which: where it is
//! missing the index begins empty, as RocksDB does. So it follows what becomes of the data
//! directory, by the operator or by the node itself, which gives a damaged index up by removing its
//! files. Without a write-ahead log the death of a process and a power failure are the same: of the
//! batches since the last flush a prefix survives, mostly none.
//!
//! What RocksDB does inside (levels, blocks, its own files) is not simulated. Rot strikes one row:
//! to read it, to scan over it, to verify the index, and at times to open it, finds the damage.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use posthouse_node::index::memory::{MemoryIndex, MemoryStore};
use posthouse_node::index::{Batch, Family, Index, IndexError, IndexOpener, Next, View};
use rand::RngExt;

use crate::plan::DiskCall;
use crate::stream::{Stream, stream};
use crate::world::disk::{Device, SimDisk};
use crate::world::fence::Fence;
use crate::world::turn;

/// The file that says which rows are the index's.
const CURRENT: &str = "CURRENT";

/// Time of a flush and of a verification, ms.
const FLUSH_MS: std::ops::RangeInclusive<u64> = 1..=5;

/// The index of one node. It survives the node's processes; clones share it.
#[derive(Clone)]
pub struct SimIndex(Arc<Shared>);

struct Shared {
    disk: SimDisk,
    /// Whether the open index is rotten: asked for each row that is read.
    rotten: AtomicBool,
    /// How many of the next reads fail.
    failing_reads: AtomicU32,
    state: Mutex<State>,
}

struct State {
    /// By what CURRENT says. More than one while the removal of an older one may be undone.
    stores: BTreeMap<u64, Rows>,
    open: Option<u64>,
    next: u64,
    failing_writes: u32,
    failing_flushes: u32,
    /// In which flush from now on a process dies.
    armed: Option<(u64, Fence)>,
    timing: Stream,
}

#[derive(Clone, Default)]
struct Rows {
    store: MemoryStore,
    rot: Option<Rot>,
}

impl Rows {
    /// A copy as a crash would leave it, with so many of the unflushed batches as `keep` says.
    fn fork(&self, keep: impl FnOnce(u64) -> u64) -> Rows {
        Rows {
            store: self.store.fork(keep(self.store.unflushed())),
            rot: self.rot.clone(),
        }
    }
}

/// A damaged row, and whether opening finds it.
#[derive(Clone)]
struct Rot {
    at_open: bool,
    row: Option<(Family, Bytes)>,
}

impl Rot {
    fn error(&self) -> IndexError {
        IndexError::Corrupt("block checksum mismatch in a simulated file".into())
    }
}

/// A copy of an index as a crash would have left it.
#[derive(Clone)]
pub struct IndexImage(Arc<BTreeMap<u64, Rows>>);

impl SimIndex {
    /// The index of a host's node on its disk.
    pub fn new(seed: u64, host: u64, disk: &SimDisk) -> SimIndex {
        SimIndex(Arc::new(Shared {
            disk: disk.clone(),
            rotten: AtomicBool::new(false),
            failing_reads: AtomicU32::new(0),
            state: Mutex::new(State {
                stores: BTreeMap::new(),
                open: None,
                next: 1,
                failing_writes: 0,
                failing_flushes: 0,
                armed: None,
                timing: stream(seed, "index.timing", host),
            }),
        }))
    }

    /// What opens the index for one life of a process.
    pub fn process(&self, fence: Fence) -> Arc<dyn IndexOpener> {
        Arc::new(Opener {
            index: self.clone(),
            fence,
        })
    }

    /// The process dies, or its machine loses power: unflushed batches are lost but for a prefix.
    /// To be called after its fence was raised and before the next one starts.
    pub fn crash(&self, power: bool) {
        let mut rng = self.0.disk.event_stream("index.crash");
        let mut state = self.0.state.lock();
        state.open = None;
        state.armed = None;
        for rows in state.stores.values() {
            let keep = survivors(rows.store.unflushed(), power, &mut rng);
            rows.store.crash(keep);
        }
    }

    /// A row that lies in the files rots. Says which; `None` when there is no index.
    pub fn rot(&self) -> Option<String> {
        let mut rng = self.0.disk.event_stream("index.rot");
        let mut state = self.0.state.lock();
        let rows = state.stores.values_mut().next_back()?;
        let mut keys = rows.store.keys();
        let row = match keys.len() {
            0 => None,
            n => Some(keys.swap_remove(rng.random_range(0..n))),
        };
        let at_open = row.is_none() || rng.random_ratio(1, 3);
        let what = match &row {
            Some((family, key)) => format!("a row of {} octets in {family:?}", key.len()),
            None => "an empty index".into(),
        };
        rows.rot = Some(Rot { at_open, row });
        let seen = state.open.is_some() && state.open == state.stores.keys().next_back().copied();
        self.0.rotten.store(seen, Ordering::Relaxed);
        match at_open {
            true => Some(format!("{what}, found when it is opened")),
            false => Some(what),
        }
    }

    /// The next `count` calls of this kind fail with EIO; what syncs here is a flush.
    pub fn fail_next(&self, call: DiskCall, count: u32) {
        let mut state = self.0.state.lock();
        match call {
            DiskCall::Read => self.0.failing_reads.store(count, Ordering::Relaxed),
            DiskCall::Write => state.failing_writes = count,
            DiskCall::Sync => state.failing_flushes = count,
        }
    }

    /// The process with this fence dies in the `n`-th flush from now on.
    pub fn arm(&self, n: u64, fence: Fence) {
        self.0.state.lock().armed = Some((n, fence));
    }

    /// Forgets failures that wait, and the flush in which a process is to die.
    pub fn heal(&self) {
        let mut state = self.0.state.lock();
        self.0.failing_reads.store(0, Ordering::Relaxed);
        state.failing_writes = 0;
        state.failing_flushes = 0;
        state.armed = None;
    }

    /// The rows of the running process, for checks.
    pub fn store(&self) -> Option<MemoryStore> {
        let state = self.0.state.lock();
        let rows = state.stores.get(&state.open?)?;
        Some(rows.store.clone())
    }

    /// A copy as a crash now would leave it. To be taken together with the disk's.
    pub fn image(&self) -> IndexImage {
        let mut rng = self.0.disk.event_stream("index.image");
        let state = self.0.state.lock();
        let fork = |(id, rows): (&u64, &Rows)| {
            let copy = rows.fork(|unflushed| survivors(unflushed, false, &mut rng));
            (*id, copy)
        };
        IndexImage(Arc::new(state.stores.iter().map(fork).collect()))
    }

    /// Its files are removed: rows go. To be called together with [`SimDisk::wipe`].
    pub fn wipe(&self) {
        let mut state = self.0.state.lock();
        state.stores.clear();
        state.open = None;
    }

    /// Makes this or another index what that one was. To be called together with
    /// [`SimDisk::restore`], while the process is dead.
    pub fn restore(&self, image: &IndexImage) {
        let fork = |(id, rows): (&u64, &Rows)| (*id, rows.fork(|all| all));
        let mut state = self.0.state.lock();
        state.stores = image.0.iter().map(fork).collect();
        state.open = None;
        let above = state.stores.keys().next_back().map_or(0, |last| last + 1);
        state.next = state.next.max(above);
    }
}

/// Of so many unflushed batches, how many are left: RocksDB flushes by itself at times, and what it
/// has written but not synced is lost with the power alone.
fn survivors(unflushed: u64, power: bool, rng: &mut Stream) -> u64 {
    match rng.random_ratio(if power { 3 } else { 2 }, 4) {
        true => 0,
        false => rng.random_range(0..=unflushed),
    }
}

struct Opener {
    index: SimIndex,
    fence: Fence,
}

impl Opener {
    async fn open(&self, path: PathBuf) -> Result<Arc<dyn Index>, IndexError> {
        let shared = &self.index.0;
        let device = shared.disk.device(self.fence.clone());
        let disk = shared.disk.process(self.fence.clone());
        let failed = |e: std::io::Error| IndexError::Failed(format!("{}: {e}", path.display()));
        disk.create_dir_all(&path).await.map_err(failed)?;
        let current = path.join(CURRENT);
        let id = match disk.read(&current).await.map_err(failed)? {
            Some(text) => std::str::from_utf8(&text)
                .ok()
                .and_then(|text| text.trim_end().parse().ok())
                .ok_or_else(|| IndexError::Corrupt("CURRENT is damaged".into()))?,
            None => {
                let id = {
                    let mut state = shared.state.lock();
                    let id = state.next;
                    state.next += 1;
                    state.stores.insert(id, Rows::default());
                    id
                };
                let text = Bytes::from(format!("{id}\n"));
                disk.replace(&current, text).await.map_err(failed)?;
                // The older ones cannot come back any more.
                shared.state.lock().stores.retain(|other, _| *other == id);
                id
            }
        };
        let mut state = shared.state.lock();
        let Some(rows) = state.stores.get(&id) else {
            return Err(IndexError::Corrupt(format!("there are no rows of {id}")));
        };
        let rot = rows.rot.clone();
        if let Some(rot) = rot.as_ref().filter(|rot| rot.at_open) {
            return Err(rot.error());
        }
        let inner = rows.store.open();
        let store = rows.store.clone();
        state.open = Some(id);
        shared.rotten.store(rot.is_some(), Ordering::Relaxed);
        drop(state);
        Ok(Arc::new(OpenIndex {
            guard: Guard {
                index: self.index.clone(),
                id,
            },
            inner,
            store,
            device,
        }))
    }
}

impl IndexOpener for Opener {
    fn open(&self, path: &Path) -> BoxFuture<'_, Result<Arc<dyn Index>, IndexError>> {
        Box::pin(self.open(path.to_owned()))
    }
}

/// Looks for rot on the way to the rows.
#[derive(Clone)]
struct Guard {
    index: SimIndex,
    id: u64,
}

impl Guard {
    /// A read fails where the drive refuses it, or finds damage. Whoever looks on from outside meets
    /// no refusals, and takes none away from the process.
    fn read(&self, damaged: impl FnOnce(Family, &[u8]) -> bool) -> Result<(), IndexError> {
        if turn::speaker().is_none() {
            return self.check(damaged);
        }
        let failing = &self.index.0.failing_reads;
        let left = failing.load(Ordering::Relaxed);
        if left > 0 {
            failing.store(left - 1, Ordering::Relaxed);
            return Err(eio());
        }
        self.check(damaged)
    }

    fn check(&self, damaged: impl FnOnce(Family, &[u8]) -> bool) -> Result<(), IndexError> {
        if !self.index.0.rotten.load(Ordering::Relaxed) {
            return Ok(());
        }
        let state = self.index.0.state.lock();
        let rot = state.stores.get(&self.id).and_then(|r| r.rot.as_ref());
        match rot {
            Some(rot) => match &rot.row {
                Some((family, key)) if damaged(*family, key) => Err(rot.error()),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn row(&self, family: Family, key: &[u8]) -> Result<(), IndexError> {
        self.read(|f, k| f == family && k == key)
    }

    fn range(&self, family: Family, from: &[u8], to: &[u8]) -> Result<(), IndexError> {
        self.read(|f, k| f == family && from <= k && k < to)
    }
}

struct GuardedView {
    guard: Guard,
    inner: Arc<dyn View>,
}

impl View for GuardedView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        self.guard.row(family, key)?;
        self.inner.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.guard.range(family, from, to)?;
        self.inner.scan(family, from, to, visit)
    }

    fn scan_back(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.guard.range(family, from, to)?;
        self.inner.scan_back(family, from, to, visit)
    }
}

/// The index as one life of a process has opened it.
struct OpenIndex {
    guard: Guard,
    inner: Arc<MemoryIndex>,
    store: MemoryStore,
    device: Device,
}

impl OpenIndex {
    /// How long work takes now, ms.
    fn duration_ms(&self) -> u64 {
        let mut state = self.guard.index.0.state.lock();
        let ms = state.timing.random_range(FLUSH_MS);
        drop(state);
        ms * self.device.slower()
    }

    async fn flush_now(&self) -> Result<(), IndexError> {
        self.device.ready().await;
        let upto = self.store.newest();
        if self.store.unflushed() > 0 {
            self.device.occupy(self.duration_ms()).await;
        } else {
            self.device.occupy(0).await;
        }
        let shared = &self.guard.index.0;
        if self.store.unflushed() > 0 && take_last(&mut shared.state.lock().armed) {
            return pending().await;
        }
        if take(&mut shared.state.lock().failing_flushes) {
            return Err(eio());
        }
        let needs = self.store.unflushed_bytes().max(1);
        if self.store.unflushed() > 0 && needs > shared.disk.free_bytes() {
            return Err(IndexError::Failed("IO error: No space left".into()));
        }
        self.store.flush_upto(upto);
        Ok(())
    }
}

/// What RocksDB makes of EIO.
fn eio() -> IndexError {
    IndexError::Failed("IO error: Input/output error".into())
}

/// Counts down to the death of a process; whether this was its end.
fn take_last(armed: &mut Option<(u64, Fence)>) -> bool {
    let Some((left, fence)) = armed else {
        return false;
    };
    *left = left.saturating_sub(1);
    let last = *left == 0;
    if last {
        fence.kill();
        *armed = None;
    }
    last
}

/// Takes one of so many, if there is one.
fn take(count: &mut u32) -> bool {
    let some = *count > 0;
    *count = count.saturating_sub(1);
    some
}

impl View for OpenIndex {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        self.guard.row(family, key)?;
        self.inner.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.guard.range(family, from, to)?;
        self.inner.scan(family, from, to, visit)
    }

    fn scan_back(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.guard.range(family, from, to)?;
        self.inner.scan_back(family, from, to, visit)
    }
}

impl Index for OpenIndex {
    fn view(&self) -> Arc<dyn View> {
        Arc::new(GuardedView {
            guard: self.guard.clone(),
            inner: self.inner.view(),
        })
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        if self.device.is_dead() {
            // The caller is dead too: whatever it makes of this, nobody hears of it. But it must come
            // to an end, and one that removes rows until there are none would not.
            return Err(eio());
        }
        if take(&mut self.guard.index.0.state.lock().failing_writes) {
            return Err(eio());
        }
        self.inner.write(batch)
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(self.flush_now())
    }

    fn bytes_written(&self) -> u64 {
        self.inner.bytes_written()
    }

    fn verify(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(async move {
            self.device.ready().await;
            self.device.occupy(self.duration_ms()).await;
            self.guard.check(|_, _| true)
        })
    }
}

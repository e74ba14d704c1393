//! The ordered in-memory arm, with RocksDB's crash behaviour.
//!
//! Every row keeps its versions since the oldest moment that somebody may still ask for: a live
//! view, or the last flush (a crash returns to it). So views cost nothing to take, whatever the
//! number of rows, and a crash can lose any suffix of the batches since the last flush, as RocksDB
//! without a write-ahead log and with atomic flushes does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use parking_lot::Mutex;

use super::{Batch, Change, Family, Index, IndexError, IndexOpener, Next, View};

/// Rows that a scan takes out of the lock at a time.
const PAGE_ROWS: usize = 64;

/// The number of a batch; also: the state after it.
type Seq = u64;

/// A row at each moment that still counts, ascending; `None`: removed.
type Versions = Vec<(Seq, Option<Bytes>)>;

/// The rows of one directory: what outlives a crash, and what does not yet.
#[derive(Clone, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Rows>>,
}

#[derive(Default)]
struct Rows {
    families: [BTreeMap<Bytes, Versions>; 3],
    /// Keys with more than one version or with a removal, to be looked at when versions expire.
    dirty: BTreeSet<(Family, Bytes)>,
    seq: Seq,
    flushed: Seq,
    /// Live views and how many of each.
    views: BTreeMap<Seq, usize>,
    /// Counts crashes: handles from before one are dead.
    incarnation: u64,
    bytes_written: u64,
    unflushed_bytes: u64,
}

impl Rows {
    fn get(&self, family: Family, key: &[u8], at: Seq) -> Option<Bytes> {
        visible(self.families[family as usize].get(key)?, at).cloned()
    }

    /// Up to a page of rows of `from..to` that are visible at `at`, in either direction.
    fn page(
        &self,
        family: Family,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        back: bool,
        at: Seq,
    ) -> Vec<(Bytes, Bytes)> {
        let rows = self.families[family as usize].range::<[u8], _>((from, to));
        let seen = |(key, versions): (&Bytes, &Vec<_>)| {
            visible(versions, at).map(|value| (key.clone(), value.clone()))
        };
        match back {
            false => rows.filter_map(seen).take(PAGE_ROWS).collect(),
            true => rows.rev().filter_map(seen).take(PAGE_ROWS).collect(),
        }
    }

    fn set(&mut self, family: Family, key: Bytes, value: Option<Bytes>) {
        self.unflushed_bytes += (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64;
        let seq = self.seq;
        let versions = self.families[family as usize]
            .entry(key.clone())
            .or_default();
        match versions.last_mut() {
            Some(last) if last.0 == seq => last.1 = value,
            _ => versions.push((seq, value)),
        }
        if versions.len() > 1 || versions[0].1.is_none() {
            self.dirty.insert((family, key));
        }
    }

    fn flush(&mut self, upto: Seq) {
        self.flushed = upto.clamp(self.flushed, self.seq);
        self.bytes_written += std::mem::take(&mut self.unflushed_bytes);
        self.forget();
    }

    fn write(&mut self, batch: Batch) {
        self.seq += 1;
        for change in batch.changes {
            match change {
                Change::Put(family, key, value) => self.set(family, key, Some(value)),
                Change::Delete(family, key) => self.set(family, key, None),
                Change::DeleteRange(family, from, to) if from < to => {
                    let keys: Vec<Bytes> = self.families[family as usize]
                        .range::<[u8], _>((Bound::Included(&from[..]), Bound::Excluded(&to[..])))
                        .map(|(key, _)| key.clone())
                        .collect();
                    keys.into_iter().for_each(|key| self.set(family, key, None));
                }
                Change::DeleteRange(..) => {}
                Change::Add(key, delta) => {
                    let old = self.get(Family::Local, &key, self.seq);
                    let sum = super::add_counter(old.as_deref(), delta);
                    self.set(Family::Local, key, Some(Bytes::copy_from_slice(&sum)));
                }
            }
        }
    }

    /// Forgets versions that nobody can ask for any more.
    fn forget(&mut self) {
        let oldest = self.views.keys().next().copied().unwrap_or(self.seq);
        let oldest = oldest.min(self.flushed);
        for (family, key) in std::mem::take(&mut self.dirty) {
            let rows = &mut self.families[family as usize];
            let Some(versions) = rows.get_mut(&key) else {
                continue;
            };
            let keep = versions.partition_point(|(seq, _)| *seq <= oldest);
            versions.drain(..keep.saturating_sub(1));
            if matches!(versions[..], [(seq, None)] if seq <= oldest) {
                rows.remove(&key);
            } else if versions.len() > 1 || versions[0].1.is_none() {
                self.dirty.insert((family, key));
            }
        }
    }
}

fn visible(versions: &[(Seq, Option<Bytes>)], at: Seq) -> Option<&Bytes> {
    let n = versions.partition_point(|(seq, _)| *seq <= at);
    versions[..n].last()?.1.as_ref()
}

impl MemoryStore {
    /// Opens it, as after a start of the process.
    pub fn open(&self) -> Arc<MemoryIndex> {
        Arc::new(MemoryIndex {
            incarnation: self.inner.lock().incarnation,
            store: self.clone(),
        })
    }

    /// Batches written since the last flush.
    pub fn unflushed(&self) -> u64 {
        let rows = self.inner.lock();
        rows.seq - rows.flushed
    }

    /// Octets of the keys and values in them.
    pub fn unflushed_bytes(&self) -> u64 {
        self.inner.lock().unflushed_bytes
    }

    /// Number of the newest batch.
    pub fn newest(&self) -> u64 {
        self.inner.lock().seq
    }

    /// Makes the batches up to this number durable: a flush that began when it was the newest.
    pub fn flush_upto(&self, number: u64) {
        self.inner.lock().flush(number);
    }

    /// A copy as a crash now would leave it, which keeps the first `keep` of the batches since the
    /// last flush. This one goes on.
    pub fn fork(&self, keep: u64) -> MemoryStore {
        let rows = self.inner.lock();
        let copy = Rows {
            families: rows.families.clone(),
            dirty: rows.dirty.clone(),
            seq: rows.seq,
            flushed: rows.flushed,
            ..Rows::default()
        };
        let copy = MemoryStore {
            inner: Arc::new(Mutex::new(copy)),
        };
        copy.crash(keep);
        copy
    }

    /// Keys of all rows, and of removals that may still be undone.
    pub fn keys(&self) -> Vec<(Family, Bytes)> {
        let rows = self.inner.lock();
        let of = |f: Family| {
            rows.families[f as usize]
                .keys()
                .map(move |k| (f, k.clone()))
        };
        Family::ALL.into_iter().flat_map(of).collect()
    }

    /// Loses all but the first `keep` of the batches since the last flush (RocksDB may have
    /// flushed some of them by itself). Every handle and view from before fails from now on.
    pub fn crash(&self, keep: u64) {
        let mut rows = self.inner.lock();
        let end = rows.seq.min(rows.flushed.saturating_add(keep));
        rows.incarnation += 1;
        rows.views.clear();
        for family in &mut rows.families {
            family.retain(|_, versions| {
                versions.retain(|(seq, _)| *seq <= end);
                !versions.is_empty()
            });
        }
        rows.seq = end;
        rows.flushed = end;
        rows.unflushed_bytes = 0;
        rows.forget();
    }
}

/// A handle on a [`MemoryStore`] from one start of the process.
pub struct MemoryIndex {
    store: MemoryStore,
    incarnation: u64,
}

struct MemoryView {
    store: MemoryStore,
    incarnation: u64,
    at: Seq,
}

impl Drop for MemoryView {
    fn drop(&mut self) {
        let mut rows = self.store.inner.lock();
        if rows.incarnation != self.incarnation {
            return;
        }
        if let Some(n) = rows.views.get_mut(&self.at) {
            *n -= 1;
            if *n == 0 {
                rows.views.remove(&self.at);
            }
        }
    }
}

fn check(rows: &Rows, incarnation: u64) -> Result<(), IndexError> {
    match rows.incarnation == incarnation {
        true => Ok(()),
        false => Err(IndexError::Failed(
            "the process that opened it is gone".into(),
        )),
    }
}

impl MemoryView {
    fn scan_pages(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        back: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        let mut last: Option<Bytes> = None;
        if from >= to {
            return Ok(());
        }
        loop {
            let page = {
                let rows = self.store.inner.lock();
                check(&rows, self.incarnation)?;
                let (mut low, mut high) = (Bound::Included(from), Bound::Excluded(to));
                match &last {
                    Some(key) if back => high = Bound::Excluded(&key[..]),
                    Some(key) => low = Bound::Excluded(&key[..]),
                    None => {}
                }
                if matches!((&low, &high), (Bound::Excluded(a), Bound::Excluded(b)) if a == b) {
                    break;
                }
                rows.page(family, low, high, back, self.at)
            };
            for (key, value) in &page {
                if visit(key, value) == Next::Stop {
                    return Ok(());
                }
            }
            if page.len() < PAGE_ROWS {
                break;
            }
            last = page.last().map(|(key, _)| key.clone());
        }
        Ok(())
    }
}

impl View for MemoryView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        let rows = self.store.inner.lock();
        check(&rows, self.incarnation)?;
        Ok(rows.get(family, key, self.at))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.scan_pages(family, from, to, false, visit)
    }

    fn scan_back(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.scan_pages(family, from, to, true, visit)
    }
}

impl MemoryIndex {
    fn pinned(&self) -> MemoryView {
        let mut rows = self.store.inner.lock();
        let at = rows.seq;
        if rows.incarnation == self.incarnation {
            *rows.views.entry(at).or_default() += 1;
        }
        MemoryView {
            store: self.store.clone(),
            incarnation: self.incarnation,
            at,
        }
    }
}

impl View for MemoryIndex {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        let rows = self.store.inner.lock();
        check(&rows, self.incarnation)?;
        Ok(rows.get(family, key, rows.seq))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.pinned().scan(family, from, to, visit)
    }

    fn scan_back(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.pinned().scan_back(family, from, to, visit)
    }
}

impl Index for MemoryIndex {
    fn view(&self) -> Arc<dyn View> {
        Arc::new(self.pinned())
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        let mut rows = self.store.inner.lock();
        check(&rows, self.incarnation)?;
        rows.write(batch);
        Ok(())
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        let mut rows = self.store.inner.lock();
        if let Err(e) = check(&rows, self.incarnation) {
            return ready(Err(e)).boxed();
        }
        let newest = rows.seq;
        rows.flush(newest);
        ready(Ok(())).boxed()
    }

    fn bytes_written(&self) -> u64 {
        self.store.inner.lock().bytes_written
    }

    fn verify(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        ready(check(&self.store.inner.lock(), self.incarnation)).boxed()
    }
}

/// Opens in-memory indexes, one a path, that live as long as the opener.
#[derive(Clone, Default)]
pub struct MemoryOpener {
    stores: Arc<Mutex<BTreeMap<PathBuf, MemoryStore>>>,
}

impl MemoryOpener {
    /// The store of a path, to crash it or to wipe it.
    pub fn store(&self, path: &Path) -> MemoryStore {
        self.stores
            .lock()
            .entry(path.to_owned())
            .or_default()
            .clone()
    }

    /// Forgets the store of a path: the directory is removed.
    pub fn remove(&self, path: &Path) {
        let store = self.stores.lock().remove(path);
        if let Some(store) = store {
            store.crash(0);
        }
    }
}

impl IndexOpener for MemoryOpener {
    fn open(&self, path: &Path) -> BoxFuture<'_, Result<Arc<dyn Index>, IndexError>> {
        let index: Arc<dyn Index> = self.store(path).open();
        ready(Ok(index)).boxed()
    }
}

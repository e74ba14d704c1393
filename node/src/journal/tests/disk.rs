//! A disk in memory that forgets what was not synced, tears writes at sectors, fails on demand.
//!
//! It models what Linux does to a file: writes go to the page cache, fdatasync moves dirty sectors
//! to the platter, a failed fdatasync leaves the cache as it is but *clean*, so that the next one
//! succeeds without writing. Directory entries live in a cache of their own until `sync_dir`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::env::disk::{DirLock, Disk, File, OpenMode, Space};

const SECTOR: usize = 512;

#[derive(Default, Clone)]
struct Inode {
    cache: Vec<u8>,
    platter: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Inode {
    fn resize(&mut self, len: usize) {
        // Lengths take effect at once on both sides: what matters here is content, and a length
        // that a crash forgets shows up as zeros or old bytes, which the sectors model already.
        self.cache.resize(len, 0);
        self.platter.resize(len, 0);
        self.dirty.retain(|s| s * SECTOR < len);
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        if self.cache.len() < at + bytes.len() {
            self.resize(at + bytes.len());
        }
        self.cache[at..at + bytes.len()].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty
                .extend(at / SECTOR..=(at + bytes.len() - 1) / SECTOR);
        }
    }

    fn flush(&mut self, sector: usize) {
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.cache.len());
        self.platter[range.clone()].copy_from_slice(&self.cache[range]);
    }
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    fail_syncs: bool,
    fail_writes: bool,
    fail_reads: u32,
    free: Option<u64>,
    syncs: u64,
    incarnation: u64,
}

/// The disk, as one incarnation of a process sees it: after a crash only new handles work.
#[derive(Default, Clone)]
pub struct FakeDisk {
    state: Arc<Mutex<State>>,
    incarnation: u64,
}

impl FakeDisk {
    /// A handle for a process that starts now.
    pub fn handle(&self) -> FakeDisk {
        FakeDisk {
            state: self.state.clone(),
            incarnation: self.state.lock().incarnation,
        }
    }

    fn alive(&self) -> io::Result<()> {
        match self.state.lock().incarnation == self.incarnation {
            true => Ok(()),
            false => Err(io::Error::other("this process is dead")),
        }
    }

    /// An independent copy of everything, cache and platter.
    pub fn fork(&self) -> FakeDisk {
        let state = self.state.lock();
        FakeDisk {
            state: Arc::new(Mutex::new(State {
                inodes: state.inodes.clone(),
                names: state.names.clone(),
                durable_names: state.durable_names.clone(),
                dirs: state.dirs.clone(),
                ..State::default()
            })),
            incarnation: 0,
        }
    }

    /// Power failure: of what was not synced, each sector is kept or lost by a draw.
    pub fn power_failure(&self, rng: &mut ChaCha8Rng) {
        let mut state = self.state.lock();
        for inode in &mut state.inodes {
            for sector in std::mem::take(&mut inode.dirty) {
                if rng.random_bool(0.5) {
                    inode.flush(sector);
                }
            }
            inode.cache = inode.platter.clone();
        }
        state.names = state.durable_names.clone();
        state.locks.clear();
        state.incarnation += 1;
    }

    /// The process dies, the kernel lives: the cache stays.
    pub fn kill(&self) {
        let mut state = self.state.lock();
        state.locks.clear();
        state.incarnation += 1;
    }

    /// Every write and sync of dirty data fails from now on, as Linux does it, or works again.
    pub fn fail_syncs(&self, fail: bool) {
        self.state.lock().fail_syncs = fail;
    }

    /// Every write fails from now on, or works again.
    pub fn fail_writes(&self, fail: bool) {
        self.state.lock().fail_writes = fail;
    }

    /// The next so many reads fail.
    pub fn fail_reads(&self, times: u32) {
        self.state.lock().fail_reads = times;
    }

    /// Space that allocations may still take.
    pub fn set_free(&self, bytes: u64) {
        self.state.lock().free = Some(bytes);
    }

    /// The bytes of a file as a reader sees them.
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state.lock();
        state.inodes[state.names[path]].cache.clone()
    }

    /// Changes a file behind everyone's back, cache and platter.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.lock();
        let inode = state.names[path];
        let inode = &mut state.inodes[inode];
        change(&mut inode.cache);
        inode.platter = inode.cache.clone();
        inode.dirty.clear();
    }

    /// Names of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// Names that survive a power failure.
    pub fn durable_files(&self) -> Vec<PathBuf> {
        self.state.lock().durable_names.keys().cloned().collect()
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }
}

struct FakeFile {
    disk: FakeDisk,
    inode: usize,
    writable: bool,
}

impl FakeFile {
    fn put(&self, offset: u64, parts: &[Bytes]) -> io::Result<()> {
        self.disk.alive()?;
        let mut state = self.disk.state.lock();
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if state.fail_writes {
            return Err(io::Error::other("injected: write failed"));
        }
        let mut at = offset as usize;
        for part in parts {
            state.inodes[self.inode].write(at, part);
            at += part.len();
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.alive()?;
        let mut state = self.disk.state.lock();
        state.syncs += 1;
        let fail = state.fail_syncs;
        let inode = &mut state.inodes[self.inode];
        let dirty = std::mem::take(&mut inode.dirty);
        if fail {
            return Err(io::Error::other("injected: sync failed"));
        }
        dirty.into_iter().for_each(|sector| inode.flush(sector));
        Ok(())
    }
}

fn ready<T: Send + 'static>(result: io::Result<T>) -> BoxFuture<'static, io::Result<T>> {
    Box::pin(async move {
        // A real disk takes a moment: let others run, so that queues build up.
        tokio::task::yield_now().await;
        result
    })
}

impl File for FakeFile {
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        let mut state = self.disk.state.lock();
        if state.fail_reads > 0 {
            state.fail_reads -= 1;
            let refused = rustix::io::Errno::IO.raw_os_error();
            return ready(Err(io::Error::from_raw_os_error(refused)));
        }
        let cache = &state.inodes[self.inode].cache;
        let range = offset as usize..offset as usize + len;
        ready(match cache.get(range) {
            Some(bytes) => Ok(Bytes::copy_from_slice(bytes)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }
    fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        ready(self.put(offset, &parts))
    }
    fn write_and_sync(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        let put = self.put(offset, &parts);
        Box::pin(async move {
            put?;
            tokio::task::yield_now().await;
            self.sync()
        })
    }
    fn sync_data(&self) -> BoxFuture<'_, io::Result<()>> {
        ready(self.sync())
    }
    fn len(&self) -> BoxFuture<'_, io::Result<u64>> {
        let len = self.disk.state.lock().inodes[self.inode].cache.len();
        ready(Ok(len as u64))
    }
    fn set_len(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        if let Err(dead) = self.disk.alive() {
            return ready(Err(dead));
        }
        self.disk.state.lock().inodes[self.inode].resize(len as usize);
        ready(Ok(()))
    }
    fn allocate(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        if let Err(dead) = self.disk.alive() {
            return ready(Err(dead));
        }
        let mut state = self.disk.state.lock();
        let now = state.inodes[self.inode].cache.len() as u64;
        let more = len.saturating_sub(now);
        if let Some(free) = &mut state.free {
            if *free < more {
                return ready(Err(io::ErrorKind::StorageFull.into()));
            }
            *free -= more;
        }
        if more > 0 {
            state.inodes[self.inode].resize(len as usize);
        }
        ready(Ok(()))
    }
}

struct FakeLock {
    disk: FakeDisk,
    path: PathBuf,
}

impl DirLock for FakeLock {}

impl Drop for FakeLock {
    fn drop(&mut self) {
        self.disk.state.lock().locks.remove(&self.path);
    }
}

impl Disk for FakeDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> BoxFuture<'_, io::Result<Arc<dyn File>>> {
        if let Err(dead) = self.alive() {
            return ready(Err(dead));
        }
        let mut state = self.state.lock();
        let existing = state.names.get(path).copied();
        let inode = match (mode, existing) {
            (OpenMode::CreateNew, Some(_)) => {
                return ready(Err(io::ErrorKind::AlreadyExists.into()));
            }
            (OpenMode::CreateNew, None) => {
                let parent = path.parent().is_some_and(|p| state.dirs.contains(p));
                if !parent {
                    return ready(Err(io::ErrorKind::NotFound.into()));
                }
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.names.insert(path.to_owned(), inode);
                inode
            }
            (_, None) => return ready(Err(io::ErrorKind::NotFound.into())),
            (_, Some(inode)) => inode,
        };
        ready(Ok(Arc::new(FakeFile {
            disk: self.clone(),
            inode,
            writable: mode != OpenMode::Read,
        }) as Arc<dyn File>))
    }
    fn create_dir_all(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        let dirs = path.ancestors().map(Path::to_owned);
        self.state.lock().dirs.extend(dirs);
        ready(Ok(()))
    }
    fn list(&self, path: &Path) -> BoxFuture<'_, io::Result<Vec<PathBuf>>> {
        let state = self.state.lock();
        if !state.dirs.contains(path) {
            return ready(Err(io::ErrorKind::NotFound.into()));
        }
        let within = state.names.keys().filter(|n| n.parent() == Some(path));
        ready(Ok(within
            .filter_map(|n| n.file_name().map(PathBuf::from))
            .collect()))
    }
    fn rename(&self, from: &Path, to: &Path) -> BoxFuture<'_, io::Result<()>> {
        if let Err(dead) = self.alive() {
            return ready(Err(dead));
        }
        let mut state = self.state.lock();
        let Some(inode) = state.names.remove(from) else {
            return ready(Err(io::ErrorKind::NotFound.into()));
        };
        state.names.insert(to.to_owned(), inode);
        ready(Ok(()))
    }
    fn remove(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        if let Err(dead) = self.alive() {
            return ready(Err(dead));
        }
        ready(match self.state.lock().names.remove(path) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        })
    }
    fn sync_dir(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        if let Err(dead) = self.alive() {
            return ready(Err(dead));
        }
        let mut state = self.state.lock();
        state.syncs += 1;
        if state.fail_syncs {
            return ready(Err(io::Error::other("injected: sync failed")));
        }
        let names = state.names.clone();
        state.durable_names.retain(|n, _| n.parent() != Some(path));
        let within = names.into_iter().filter(|(n, _)| n.parent() == Some(path));
        state.durable_names.extend(within);
        ready(Ok(()))
    }
    fn read(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        let state = self.state.lock();
        let inode = state.names.get(path);
        ready(Ok(inode.map(|i| state.inodes[*i].cache.clone().into())))
    }
    fn replace(&self, path: &Path, content: Bytes) -> BoxFuture<'_, io::Result<()>> {
        let mut state = self.state.lock();
        state.inodes.push(Inode {
            cache: content.to_vec(),
            platter: content.to_vec(),
            dirty: BTreeSet::new(),
        });
        let inode = state.inodes.len() - 1;
        state.names.insert(path.to_owned(), inode);
        state.durable_names.insert(path.to_owned(), inode);
        ready(Ok(()))
    }
    fn space(&self, _: &Path) -> BoxFuture<'_, io::Result<Space>> {
        ready(Ok(Space {
            free_bytes: self.state.lock().free.unwrap_or(1 << 40),
            total_bytes: 1 << 40,
        }))
    }
    fn lock_dir(&self, path: &Path) -> BoxFuture<'_, io::Result<Box<dyn DirLock>>> {
        if !self.state.lock().locks.insert(path.to_owned()) {
            return ready(Err(io::ErrorKind::WouldBlock.into()));
        }
        ready(Ok(Box::new(FakeLock {
            disk: self.clone(),
            path: path.to_owned(),
        }) as Box<dyn DirLock>))
    }
}

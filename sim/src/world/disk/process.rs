//! The disk as one life of a process sees it.
//!
//! Every call is made in steps with the chance to die between them, and takes simulated time:
//! what is in the page cache is there at once, syncs queue up on the one device. A call whose
//! process is dead stays pending for ever.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use posthouse_node::env::disk::{DirLock, Disk, File, OpenMode, Space};
use rand::RngExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::faults::Verdict;
use super::inode::Inode;
use super::names::Node;
use super::{SimDisk, State};
use crate::plan::DiskCall;
use crate::stream::Stream;
use crate::world::fence::Fence;

/// EIO of Linux.
const EIO: i32 = 5;

fn eio() -> io::Error {
    io::Error::from_raw_os_error(EIO)
}

/// The drive below the files: one thing at a time, and only for the living.
#[derive(Clone)]
pub(in crate::world) struct Device {
    disk: SimDisk,
    fence: Fence,
    /// When it has done what it was asked for, on the clock of this life.
    free_at: Arc<Mutex<Option<Instant>>>,
}

impl Device {
    pub(super) fn new(disk: SimDisk, fence: Fence) -> Device {
        Device {
            disk,
            fence,
            free_at: Arc::default(),
        }
    }

    /// Whether the process is dead.
    pub fn is_dead(&self) -> bool {
        self.fence.is_dead()
    }

    /// Waits as long as nothing moves; for ever when the process is dead.
    pub async fn ready(&self) {
        loop {
            if self.fence.is_dead() {
                pending::<()>().await;
            }
            let now = self.disk.0.time.now_ms();
            let stalled = self.disk.0.state.lock().faults.stalled_ms(now);
            match stalled {
                0 => return,
                ms => {
                    let healed = self.disk.0.healed.notified();
                    timeout(Duration::from_millis(ms), healed).await.ok();
                }
            }
        }
    }

    /// Keeps the drive busy for `ms`, once it has done what came before.
    pub async fn occupy(&self, ms: u64) {
        let now = Instant::now();
        let end = {
            let mut free_at = self.free_at.lock();
            let begin = free_at.map_or(now, |free| free.max(now));
            *free_at.insert(begin + Duration::from_millis(ms))
        };
        match end > now {
            true => sleep_until(end).await,
            false => tokio::task::yield_now().await,
        }
        self.ready().await;
    }

    /// How many times everything takes longer now.
    pub fn slower(&self) -> u64 {
        self.state().faults.slower(self.disk.0.time.now_ms())
    }

    /// Lets others run, as a hop to a real disk does.
    async fn hop(&self) {
        let hesitation = self.state().faults.hesitation_ms(self.disk.0.time.now_ms());
        match hesitation {
            0 => tokio::task::yield_now().await,
            ms => sleep(Duration::from_millis(ms)).await,
        }
        self.ready().await;
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.disk.0.state.lock()
    }

    /// A change of names, or a question about them.
    async fn names<T>(&self, what: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.ready().await;
        let done = what(&mut self.state());
        self.disk.note(2, u64::from(done.is_ok()), 0, &[]);
        self.hop().await;
        done
    }

    /// Dies in the middle of a call.
    async fn die<T>(&self, kill: Box<dyn FnOnce() + Send>) -> T {
        kill();
        pending().await
    }

    async fn read(&self, node: &Node, offset: u64, len: Option<usize>) -> io::Result<Bytes> {
        self.ready().await;
        let verdict = self.state().admit(DiskCall::Read);
        let read = match verdict {
            Verdict::Go => node.with(|i| match len {
                Some(len) => i.read(offset, len),
                None => i.read(offset, i.len as usize),
            }),
            Verdict::Die(kill) => return self.die(kill).await,
            Verdict::Fail => {
                self.hop().await;
                return Err(eio());
            }
        };
        if let Some(read) = &read {
            self.state().counters.octets_read += read.len() as u64;
        }
        self.hop().await;
        self.linger().await;
        read.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    /// A drive that has trouble reading takes its time.
    async fn linger(&self) {
        let ms = self.state().faults.read_ms(self.disk.0.time.now_ms());
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
            self.ready().await;
        }
    }

    /// Puts a write into the cache. Nobody runs in between; the caller yields.
    async fn put(&self, node: &Arc<Node>, offset: u64, parts: &[Bytes]) -> io::Result<()> {
        self.ready().await;
        let verdict = self.state().admit(DiskCall::Write);
        match verdict {
            Verdict::Go => self.disk.write(node, offset, parts),
            Verdict::Fail => {
                let mut rng = self.disk.event_stream("disk.eio");
                self.disk.write_partly(node, offset, parts, &mut rng);
                Err(eio())
            }
            Verdict::Die(kill) => {
                let mut rng = self.disk.event_stream("disk.torn");
                self.disk.write_partly(node, offset, parts, &mut rng);
                self.die(kill).await
            }
        }
    }

    async fn sync(&self, node: &Node) -> io::Result<()> {
        self.ready().await;
        let now = self.disk.0.time.now_ms();
        let (verdict, ms) = {
            let mut state = self.state();
            let ms = state.sync_ms(&self.disk.0.settings, now);
            (state.admit(DiskCall::Sync), ms)
        };
        let sync = node.with(Inode::begin_sync);
        if let Verdict::Die(kill) = verdict {
            return self.die(kill).await;
        }
        self.occupy(ms).await;
        self.disk.note(3, node.id, sync, &[]);
        match verdict {
            Verdict::Fail => {
                node.with(|i| i.fail_sync(sync));
                Err(eio())
            }
            _ => {
                node.with(|i| i.end_sync(sync));
                self.state().faults.synced(node.id);
                Ok(())
            }
        }
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.ready().await;
        let now = self.disk.0.time.now_ms();
        let (verdict, ms) = {
            let mut state = self.state();
            if !state.tree.is_dir(path) {
                return Err(ErrorKind::NotFound.into());
            }
            let ms = state.sync_ms(&self.disk.0.settings, now);
            (state.admit(DiskCall::Sync), ms)
        };
        if let Verdict::Die(kill) = verdict {
            return self.die(kill).await;
        }
        self.occupy(ms).await;
        self.disk.note(4, 0, 0, &[]);
        match verdict {
            Verdict::Fail => Err(eio()),
            _ => self.state().tree.sync(path),
        }
    }
}

impl SimDisk {
    /// A write as it should be. A full disk takes what fits.
    fn write(&self, node: &Arc<Node>, right: u64, parts: &[Bytes]) -> io::Result<()> {
        let octets: u64 = parts.iter().map(|p| p.len() as u64).sum();
        let offset = self.direct(node, right, octets);
        let mut state = self.0.state.lock();
        match offset == right {
            true => state.faults.wrote(node.id),
            false => state.faults.went_astray(node, right, parts),
        }
        let free = self.free(&state);
        let mut at = offset;
        let mut fits = true;
        node.with(|inode| {
            let room = inode.room(free);
            for part in parts {
                fits = at + part.len() as u64 <= room;
                if !fits {
                    break;
                }
                inode.write(at, part);
                at += part.len() as u64;
            }
        });
        state.counters.octets_written += at - offset;
        drop(state);
        self.note(5, node.id, offset, parts);
        match fits {
            true => Ok(()),
            false => Err(ErrorKind::StorageFull.into()),
        }
    }

    /// Where a write goes: astray, when that is due and the file has another place for it.
    fn direct(&self, node: &Node, offset: u64, octets: u64) -> u64 {
        if octets == 0 || !self.0.state.lock().faults.take_misdirected() {
            return offset;
        }
        let sector = self.sector() as u64;
        let len = node.with(|i| i.len);
        let within = offset % sector;
        let places = (len.saturating_sub(within + octets)) / sector + 1;
        let own = (offset / sector < places) as u64;
        if len < within + octets || places <= own {
            self.0.state.lock().faults.put_back_misdirected();
            return offset;
        }
        let mut rng = self.event_stream("disk.misdirect");
        let mut place = rng.random_range(0..places - own);
        if own == 1 && place >= offset / sector {
            place += 1;
        }
        place * sector + within
    }

    /// Some sectors of a write: the first ones, or any.
    fn write_partly(&self, node: &Node, offset: u64, parts: &[Bytes], rng: &mut Stream) {
        let sector = self.sector() as u64;
        let octets: u64 = parts.iter().map(|p| p.len() as u64).sum();
        let first = offset / sector;
        let count = (offset + octets).div_ceil(sector) - first;
        let upto = match rng.random_bool(0.5) {
            true => Some(first + rng.random_range(0..=count)),
            false => None,
        };
        let free = self.free(&self.0.state.lock());
        let mut last = (u64::MAX, false);
        let mut at = offset;
        node.with(|inode| {
            let room = inode.room(free);
            for part in parts {
                let mut rest = &part[..];
                while !rest.is_empty() {
                    let here = at / sector;
                    let n = (((here + 1) * sector - at) as usize).min(rest.len());
                    if last.0 != here {
                        let kept = upto.map_or_else(|| rng.random_bool(0.5), |upto| here < upto);
                        last = (here, kept);
                    }
                    if last.1 && at + n as u64 <= room {
                        inode.write(at, &rest[..n]);
                    }
                    rest = &rest[n..];
                    at += n as u64;
                }
            }
        });
        self.note(6, node.id, offset, parts);
    }
}

struct OpenFile {
    device: Device,
    node: Arc<Node>,
    writable: bool,
}

impl OpenFile {
    fn check_writable(&self) -> io::Result<()> {
        match self.writable {
            true => Ok(()),
            false => Err(ErrorKind::PermissionDenied.into()),
        }
    }
}

impl File for OpenFile {
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(self.device.read(&self.node, offset, Some(len)))
    }

    fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.check_writable()?;
            let put = self.device.put(&self.node, offset, &parts).await;
            self.device.hop().await;
            put
        })
    }

    fn write_and_sync(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.check_writable()?;
            let put = self.device.put(&self.node, offset, &parts).await;
            if put.is_err() {
                self.device.hop().await;
                return put;
            }
            self.device.sync(&self.node).await
        })
    }

    fn sync_data(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.device.sync(&self.node))
    }

    fn len(&self) -> BoxFuture<'_, io::Result<u64>> {
        Box::pin(async move {
            self.device.ready().await;
            let len = self.node.with(|i| i.len);
            self.device.hop().await;
            Ok(len)
        })
    }

    fn set_len(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.check_writable()?;
            self.device.ready().await;
            self.node.with(|i| i.set_len(len));
            self.device.disk.note(7, self.node.id, len, &[]);
            self.device.hop().await;
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.check_writable()?;
            self.device.ready().await;
            let free = self.device.disk.free(&self.device.state());
            let fits = self.node.with(|i| {
                let fits = i.growth(len) <= free;
                if fits {
                    i.allocate(len);
                }
                fits
            });
            self.device.disk.note(8, self.node.id, len, &[]);
            self.device.hop().await;
            match fits {
                true => Ok(()),
                false => Err(ErrorKind::StorageFull.into()),
            }
        })
    }
}

/// A directory that is held. It is free again when this is dropped or its process is dead.
struct HeldDir {
    disk: SimDisk,
    path: PathBuf,
    id: u64,
}

impl DirLock for HeldDir {}

impl Drop for HeldDir {
    fn drop(&mut self) {
        let mut state = self.disk.0.state.lock();
        if state.locks.get(&self.path).is_some_and(|l| l.0 == self.id) {
            state.locks.remove(&self.path);
        }
    }
}

/// The disk of one life.
pub(super) struct Process(Device);

impl Process {
    pub fn new(device: Device) -> Process {
        Process(device)
    }

    /// Opens or creates a file, empty or as it is.
    fn create(&self, state: &mut State, path: &Path) -> io::Result<Arc<Node>> {
        let disk = &self.0.disk;
        let node = disk.new_node(state, Inode::new(disk.sector()));
        state.tree.link(path, Arc::clone(&node))?;
        Ok(node)
    }

    fn opened(&self, state: &mut State, path: &Path, mode: OpenMode) -> io::Result<Arc<Node>> {
        if state.tree.is_dir(path) {
            return Err(match mode {
                OpenMode::CreateNew => ErrorKind::AlreadyExists.into(),
                _ => ErrorKind::IsADirectory.into(),
            });
        }
        match (mode, state.tree.file(path)?) {
            (OpenMode::CreateNew, Some(_)) => Err(ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew, None) => self.create(state, path),
            (_, None) => Err(ErrorKind::NotFound.into()),
            (_, Some(node)) => Ok(node),
        }
    }
}

impl Disk for Process {
    fn open(&self, path: &Path, mode: OpenMode) -> BoxFuture<'_, io::Result<Arc<dyn File>>> {
        let path = path.to_owned();
        Box::pin(async move {
            let opened = self.0.names(|state| self.opened(state, &path, mode)).await;
            Ok(Arc::new(OpenFile {
                device: self.0.clone(),
                node: opened?,
                writable: mode != OpenMode::Read,
            }) as Arc<dyn File>)
        })
    }

    fn create_dir_all(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_owned();
        Box::pin(async move {
            let mut missing: Vec<&Path> = path.ancestors().collect();
            missing.retain(|p| !p.as_os_str().is_empty() && !self.0.state().tree.is_dir(p));
            for dir in missing.into_iter().rev() {
                self.0.names(|state| state.tree.create_dir(dir)).await?;
                let parent = dir.parent().filter(|p| !p.as_os_str().is_empty());
                self.0.sync_dir(parent.unwrap_or(Path::new("."))).await?;
            }
            self.0.ready().await;
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> BoxFuture<'_, io::Result<Vec<PathBuf>>> {
        let path = path.to_owned();
        Box::pin(async move { self.0.names(|state| state.tree.list(&path)).await })
    }

    fn rename(&self, from: &Path, to: &Path) -> BoxFuture<'_, io::Result<()>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        Box::pin(async move { self.0.names(|state| state.tree.rename(&from, &to)).await })
    }

    fn remove(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_owned();
        Box::pin(async move { self.0.names(|state| state.tree.remove(&path)).await })
    }

    fn sync_dir(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_owned();
        Box::pin(async move { self.0.sync_dir(&path).await })
    }

    fn read(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        let path = path.to_owned();
        Box::pin(async move {
            let found = self.0.names(|state| match state.tree.file(&path) {
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
                found => found,
            });
            match found.await? {
                Some(node) => self.0.read(&node, 0, None).await.map(Some),
                None => Ok(None),
            }
        })
    }

    fn replace(&self, path: &Path, content: Bytes) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_owned();
        Box::pin(async move {
            let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(ErrorKind::InvalidInput.into());
            };
            let mut temporary = name.to_owned();
            temporary.push(".tmp");
            let temporary = dir.join(temporary);
            let dir = match dir.as_os_str().is_empty() {
                true => Path::new("."),
                false => dir,
            };
            let opened = self.0.names(|state| match state.tree.file(&temporary)? {
                Some(node) => {
                    node.with(|i| i.set_len(0));
                    Ok(node)
                }
                None => self.create(state, &temporary),
            });
            let node = opened.await?;
            self.0.put(&node, 0, &[content]).await?;
            self.0.sync(&node).await?;
            let rename = |state: &mut State| state.tree.rename(&temporary, &path);
            self.0.names(rename).await?;
            self.0.sync_dir(dir).await
        })
    }

    fn space(&self, path: &Path) -> BoxFuture<'_, io::Result<Space>> {
        let path = path.to_owned();
        Box::pin(async move {
            let space = self.0.names(|state| {
                if !state.tree.is_dir(&path) && state.tree.file(&path)?.is_none() {
                    return Err(ErrorKind::NotFound.into());
                }
                Ok(Space {
                    free_bytes: self.0.disk.free(state),
                    total_bytes: self.0.disk.0.settings.bytes,
                })
            });
            space.await
        })
    }

    fn lock_dir(&self, path: &Path) -> BoxFuture<'_, io::Result<Box<dyn DirLock>>> {
        let path = path.to_owned();
        Box::pin(async move {
            let held = self.0.names(|state| {
                let file = path.join("LOCK");
                if state.tree.file(&file)?.is_none() {
                    self.create(state, &file)?;
                }
                if state.locks.get(&path).is_some_and(|l| !l.1.is_dead()) {
                    return Err(ErrorKind::WouldBlock.into());
                }
                state.next += 1;
                let id = state.next;
                let fence = self.0.fence.clone();
                state.locks.insert(path.clone(), (id, fence));
                Ok(id)
            });
            Ok(Box::new(HeldDir {
                id: held.await?,
                disk: self.0.disk.clone(),
                path,
            }) as Box<dyn DirLock>)
        })
    }
}

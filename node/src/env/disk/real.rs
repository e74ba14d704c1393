//! The disk of the operating system.
//!
//! This is the one place of the node that touches `std::fs` and the blocking pool: every operation
//! is one hop to a blocking thread, so that a slow disk never stalls the timers and sockets of the
//! runtime. `write_and_sync` is deliberately a single hop, because the journal pays it per batch.
//! Only octets that the page cache holds are read without a hop (preadv2(2), RWF_NOWAIT): for a
//! message of a few kilobytes the hop costs more than the read.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::ReadWriteFlags;

use super::{DirLock, Disk, File, OpenMode, Space};

/// Slices that one pwritev takes (IOV_MAX of Linux).
const MAX_SLICES: usize = 1024;

/// Octets that are copied out of the page cache on a thread of the runtime: a chunk of a blob, which
/// takes a fraction of a millisecond. More would hold up the others of that thread.
const CACHED_READ_BYTES: usize = 1 << 20;

/// The real disk.
pub struct RealDisk;

/// Runs `work` on the blocking pool. A panic in it is passed on; a runtime that is going down
/// gives an error.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(io::Error::other("the runtime is shutting down")),
        },
    }
}

/// Writes all parts, looping over short writes and over more slices than one call takes.
fn write_all_at(file: &fs::File, mut offset: u64, parts: &[Bytes]) -> io::Result<()> {
    for group in parts.chunks(MAX_SLICES) {
        let mut slices: Vec<IoSlice<'_>> = group.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match rustix::io::pwritev(file, rest, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    offset += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}

/// Reads what the page cache holds, from the start on; the number of octets. The disk is not waited
/// for: whatever is missing, and every error, is left to a thread that may wait.
fn read_cached(file: &fs::File, out: &mut [u8], offset: u64) -> usize {
    let mut slices = [IoSliceMut::new(out)];
    rustix::io::preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

struct RealFile {
    file: Arc<fs::File>,
}

impl File for RealFile {
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        let file = self.file.clone();
        Box::pin(async move {
            let mut out = vec![0; len];
            let have = match len {
                0..=CACHED_READ_BYTES => read_cached(&file, &mut out, offset),
                _ => 0,
            };
            if have == len {
                return Ok(out.into());
            }
            blocking(move || {
                file.read_exact_at(&mut out[have..], offset + have as u64)?;
                Ok(out.into())
            })
            .await
        })
    }

    fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        let file = self.file.clone();
        Box::pin(blocking(move || write_all_at(&file, offset, &parts)))
    }

    fn write_and_sync(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        let file = self.file.clone();
        Box::pin(blocking(move || {
            write_all_at(&file, offset, &parts)?;
            file.sync_data()
        }))
    }

    fn sync_data(&self) -> BoxFuture<'_, io::Result<()>> {
        let file = self.file.clone();
        Box::pin(blocking(move || file.sync_data()))
    }

    fn len(&self) -> BoxFuture<'_, io::Result<u64>> {
        let file = self.file.clone();
        Box::pin(blocking(move || Ok(file.metadata()?.len())))
    }

    fn set_len(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        let file = self.file.clone();
        Box::pin(blocking(move || file.set_len(len)))
    }

    fn allocate(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        let file = self.file.clone();
        Box::pin(blocking(move || {
            if len == 0 {
                return Ok(());
            }
            match rustix::fs::fallocate(&*file, FallocateFlags::empty(), 0, len) {
                Ok(()) => Ok(()),
                // A file system without reservations: a hole is the best that there is, and the
                // space watermarks are the guard.
                Err(rustix::io::Errno::OPNOTSUPP) => {
                    if file.metadata()?.len() < len {
                        file.set_len(len)?;
                    }
                    Ok(())
                }
                Err(e) => Err(e.into()),
            }
        }))
    }
}

struct RealLock {
    /// The lock goes when the descriptor is closed, also when the process dies.
    _file: fs::File,
}

impl DirLock for RealLock {}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> BoxFuture<'_, io::Result<Arc<dyn File>>> {
        let path = path.to_owned();
        Box::pin(blocking(move || {
            let mut options = fs::OpenOptions::new();
            options.read(true).mode(0o600);
            match mode {
                OpenMode::Read => {}
                OpenMode::ReadWrite => {
                    options.write(true);
                }
                OpenMode::CreateNew => {
                    options.write(true).create_new(true);
                }
            }
            let file = options.open(&path)?;
            // Opening a directory for reading works, reading it does not: say so here.
            if file.metadata()?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Ok(Arc::new(RealFile {
                file: Arc::new(file),
            }) as Arc<dyn File>)
        }))
    }

    fn create_dir_all(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_owned();
        Box::pin(blocking(move || create_dirs(&path)))
    }

    fn list(&self, path: &Path) -> BoxFuture<'_, io::Result<Vec<PathBuf>>> {
        let path = path.to_owned();
        Box::pin(blocking(move || {
            let mut names = Vec::new();
            for entry in fs::read_dir(&path)? {
                names.push(PathBuf::from(entry?.file_name()));
            }
            names.sort();
            Ok(names)
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> BoxFuture<'_, io::Result<()>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        Box::pin(blocking(move || fs::rename(from, to)))
    }

    fn remove(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_owned();
        Box::pin(blocking(move || fs::remove_file(path)))
    }

    fn sync_dir(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_owned();
        Box::pin(blocking(move || sync_dir(&path)))
    }

    fn read(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        let path = path.to_owned();
        Box::pin(blocking(move || match fs::read(&path) {
            Ok(content) => Ok(Some(content.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }))
    }

    fn replace(&self, path: &Path, content: Bytes) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_owned();
        Box::pin(blocking(move || {
            let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let dir = if dir.as_os_str().is_empty() {
                Path::new(".")
            } else {
                dir
            };
            let mut temporary = name.to_owned();
            temporary.push(".tmp");
            let temporary = dir.join(temporary);
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&content)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            sync_dir(dir)
        }))
    }

    fn space(&self, path: &Path) -> BoxFuture<'_, io::Result<Space>> {
        let path = path.to_owned();
        Box::pin(blocking(move || {
            let stat = rustix::fs::statvfs(&path)?;
            Ok(Space {
                free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
                total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            })
        }))
    }

    fn lock_dir(&self, path: &Path) -> BoxFuture<'_, io::Result<Box<dyn DirLock>>> {
        let path = path.to_owned();
        Box::pin(blocking(move || {
            let file = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path.join("LOCK"))?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(Box::new(RealLock { _file: file }) as Box<dyn DirLock>)
        }))
    }
}

/// Creates missing directories and makes each of them durable in its parent: a journal in a
/// directory that a power failure forgets is no journal.
fn create_dirs(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_dirs(parent)?;
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        Err(e) if !path.is_dir() => Err(e),
        _ => sync_dir(parent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_real_disk_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        super::super::contract::check(Arc::new(RealDisk), dir.path()).await;
    }

    #[tokio::test]
    async fn more_slices_than_one_call_takes_are_all_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("many");
        let file = RealDisk.open(&path, OpenMode::CreateNew).await.unwrap();
        let parts: Vec<Bytes> = (0..3000u32)
            .map(|i| Bytes::copy_from_slice(&i.to_le_bytes()[..(i % 5) as usize % 4]))
            .collect();
        file.write_and_sync(7, parts.clone()).await.unwrap();
        let all: Vec<u8> = parts.iter().flatten().copied().collect();
        assert_eq!(file.read_at(7, all.len()).await.unwrap(), all);
        assert_eq!(file.len().await.unwrap(), 7 + all.len() as u64);
    }
}

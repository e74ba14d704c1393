//! Files of one data directory.
//!
//! The operations are those that a journal needs, no more: positioned reads and writes, data
//! sync, rename, and sync of a directory. Paths are absolute or relative to the process.
//!
//! [`contract`] says in code what every arm owes; the real one ([`RealDisk`]) is held to it.

pub mod contract;
mod real;

pub use real::RealDisk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

/// Free and total space of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Available to this process.
    pub free_bytes: u64,
    /// Size of the file system.
    pub total_bytes: u64,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, read only.
    Read,
    /// Existing file, read and write.
    ReadWrite,
    /// New file, read and write; fails when the path exists.
    CreateNew,
}

/// An open file. Operations may run concurrently; none has a cursor.
#[allow(clippy::len_without_is_empty)] // asking costs a hop to the disk, and nobody asks
pub trait File: Send + Sync {
    /// Exactly `len` bytes from `offset`; `UnexpectedEof` when the file is shorter.
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>>;
    /// Writes all `parts` one after the other from `offset`.
    fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>>;
    /// `write_at` and then `sync_data`, as one hop to the disk.
    fn write_and_sync(&self, offset: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>>;
    /// fdatasync. After an error the state of unsynced bytes is unknown: never retry, stop.
    fn sync_data(&self) -> BoxFuture<'_, io::Result<()>>;
    /// Current length, in bytes.
    fn len(&self) -> BoxFuture<'_, io::Result<u64>>;
    /// Cuts or extends (with a hole) the file.
    fn set_len(&self, len: u64) -> BoxFuture<'_, io::Result<()>>;
    /// Makes the file at least `len` bytes long and reserves the space, so that writing below
    /// `len` cannot run out of it; `StorageFull` when there is too little. New bytes read as zero.
    fn allocate(&self, len: u64) -> BoxFuture<'_, io::Result<()>>;
}

/// Held as long as the data directory belongs to this process.
pub trait DirLock: Send + Sync {}

/// A disk.
pub trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> BoxFuture<'_, io::Result<Arc<dyn File>>>;
    /// Creates a directory and its missing parents.
    fn create_dir_all(&self, path: &Path) -> BoxFuture<'_, io::Result<()>>;
    /// Names of the entries of a directory, sorted.
    fn list(&self, path: &Path) -> BoxFuture<'_, io::Result<Vec<PathBuf>>>;
    /// Renames a file; replaces an existing target atomically.
    fn rename(&self, from: &Path, to: &Path) -> BoxFuture<'_, io::Result<()>>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> BoxFuture<'_, io::Result<()>>;
    /// fsync of a directory: makes creations, renames and removals in it durable.
    fn sync_dir(&self, path: &Path) -> BoxFuture<'_, io::Result<()>>;
    /// Whole content of a small file; `None` when it does not exist.
    fn read(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Bytes>>>;
    /// Replaces a small file durably: temporary name, sync, rename, sync of the directory.
    fn replace(&self, path: &Path, content: Bytes) -> BoxFuture<'_, io::Result<()>>;
    /// Space of the file system that holds `path`.
    fn space(&self, path: &Path) -> BoxFuture<'_, io::Result<Space>>;
    /// Takes the directory for this process; `WouldBlock` when another one holds it.
    fn lock_dir(&self, path: &Path) -> BoxFuture<'_, io::Result<Box<dyn DirLock>>>;
}

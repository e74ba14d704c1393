//! The index: ordered rows beside the journal, with the journal as its log.
//!
//! The trait is cut narrowly, so that RocksDB (`rocks`, which the feature `rocksdb` brings) and the
//! ordered in-memory arm ([`memory`]) can be held to the same contract. Rows written since the last flush may be lost
//! in a crash, but only as a whole suffix of batches and over all families together: a batch is
//! atomic, and batches survive in order.

pub mod contract;
#[cfg(test)]
mod golden;
pub mod keys;
pub mod memory;
#[cfg(feature = "rocksdb")]
pub mod rocks;
#[cfg(test)]
mod tests;
pub mod uids;
pub mod values;
pub mod watched;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

/// A family of rows with its own files and its own tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Replicated hot rows: small, read often.
    State,
    /// Replicated cold rows: parsed summaries, read one at a time.
    Cold,
    /// Rows of this node alone: blob locations, live bytes of segments, persisted log positions.
    Local,
}

impl Family {
    /// All families.
    pub const ALL: [Family; 3] = [Family::State, Family::Cold, Family::Local];
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a row.
    Put(Family, Bytes, Bytes),
    /// Removes a row, if it is there.
    Delete(Family, Bytes),
    /// Removes all rows of `from..to`.
    DeleteRange(Family, Bytes, Bytes),
    /// Adds to a row of [`Family::Local`] that holds an i64, little-endian; absent counts as 0.
    Add(Bytes, i64),
}

/// Changes that take effect together, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes.
    pub changes: Vec<Change>,
}

impl Batch {
    /// Sets a row.
    pub fn put(&mut self, family: Family, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes
            .push(Change::Put(family, key.into(), value.into()));
    }
    /// Removes a row.
    pub fn delete(&mut self, family: Family, key: impl Into<Bytes>) {
        self.changes.push(Change::Delete(family, key.into()));
    }
    /// Removes the rows of `from..to`.
    pub fn delete_range(&mut self, family: Family, from: impl Into<Bytes>, to: impl Into<Bytes>) {
        self.changes
            .push(Change::DeleteRange(family, from.into(), to.into()));
    }
    /// Adds to a counter row of [`Family::Local`].
    pub fn add(&mut self, key: impl Into<Bytes>, delta: i64) {
        if delta != 0 {
            self.changes.push(Change::Add(key.into(), delta));
        }
    }
}

/// A failure of the index. Corruption names the file where RocksDB does.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IndexError {
    /// Rows or files that fail their checks.
    #[error("the index is damaged: {0}")]
    Corrupt(String),
    /// Any other failure of the store below.
    #[error("the index failed: {0}")]
    Failed(String),
}

/// What a scan's visitor says after each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Show me the next row.
    Continue,
    /// Enough.
    Stop,
}

/// Rows at one moment. Shared by threads; reads do not block for long.
pub trait View: Send + Sync {
    /// One row.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, IndexError>;

    /// The rows of `from..to` in the order of their keys, until the visitor stops.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError>;

    /// Like `scan`, in descending order of the keys.
    fn scan_back(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError>;
}

/// The rows of one data directory. As a [`View`] it shows the newest state.
pub trait Index: View {
    /// A view that later writes do not change.
    fn view(&self) -> Arc<dyn View>;

    /// Applies a batch atomically: all of it is seen by later reads, none of it is durable.
    fn write(&self, batch: Batch) -> Result<(), IndexError>;

    /// Makes every batch written before the call durable, over all families together.
    fn flush(&self) -> BoxFuture<'_, Result<(), IndexError>>;

    /// Bytes written to disk since open: flushes and compactions.
    fn bytes_written(&self) -> u64;

    /// Reads every row's block and verifies its checksum.
    fn verify(&self) -> BoxFuture<'_, Result<(), IndexError>>;
}

/// The value of a counter row after [`Change::Add`]. A row that is no counter counts as 0.
pub(crate) fn add_counter(old: Option<&[u8]>, delta: i64) -> [u8; 8] {
    let old = old
        .and_then(|b| b.try_into().ok())
        .map_or(0, i64::from_le_bytes);
    old.wrapping_add(delta).to_le_bytes()
}

/// Opens the index of a data directory.
pub trait IndexOpener: Send + Sync {
    /// Opens or creates the index in the directory `path`. A damaged index is an error; the
    /// caller decides whether to move it away and rebuild from peers.
    fn open(&self, path: &Path) -> BoxFuture<'_, Result<Arc<dyn Index>, IndexError>>;
}

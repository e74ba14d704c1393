//! Room for large messages on their way in.
//!
//! After a change of leader, a message has to be sent to the store again from its first octet,
//! and the sender will not repeat it. What is too large for memory goes to an anonymous file: it
//! has no name, so it vanishes with the process, and nothing is ever left to clean up. A spool is
//! no storage: what lies in it is not acknowledged to anyone.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;

/// Makes anonymous files.
pub trait Spool: Send + Sync {
    /// A new, empty file.
    fn create(&self) -> BoxFuture<'_, io::Result<Arc<dyn SpoolFile>>>;
}

/// A file that is appended to by one writer and read by any number of readers.
pub trait SpoolFile: Send + Sync {
    /// Adds octets at the end.
    fn append(&self, octets: Bytes) -> BoxFuture<'_, io::Result<()>>;
    /// Exactly `len` octets from `offset`; `UnexpectedEof` when there are fewer.
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>>;
}

/// Anonymous files in a directory of the real disk.
pub struct TempSpool {
    dir: PathBuf,
}

impl TempSpool {
    /// A spool in `dir`, which must exist.
    pub fn new(dir: impl Into<PathBuf>) -> TempSpool {
        TempSpool { dir: dir.into() }
    }
}

impl Default for TempSpool {
    /// The directory that the system keeps for temporary files.
    fn default() -> TempSpool {
        TempSpool::new(std::env::temp_dir())
    }
}

impl Spool for TempSpool {
    fn create(&self) -> BoxFuture<'_, io::Result<Arc<dyn SpoolFile>>> {
        let dir = self.dir.clone();
        Box::pin(async move {
            let file = blocking(move || tempfile::tempfile_in(dir)).await?;
            Ok(Arc::new(TempFile {
                file: Arc::new(file),
                len: tokio::sync::Mutex::new(0),
            }) as Arc<dyn SpoolFile>)
        })
    }
}

struct TempFile {
    file: Arc<std::fs::File>,
    len: tokio::sync::Mutex<u64>,
}

impl SpoolFile for TempFile {
    fn append(&self, octets: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            use std::os::unix::fs::FileExt;
            let mut len = self.len.lock().await;
            let (file, at, grown) = (self.file.clone(), *len, octets.len() as u64);
            blocking(move || file.write_all_at(&octets, at)).await?;
            *len += grown;
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        let file = self.file.clone();
        Box::pin(blocking(move || {
            use std::os::unix::fs::FileExt;
            let mut out = vec![0; len];
            file.read_exact_at(&mut out, offset)?;
            Ok(Bytes::from(out))
        }))
    }
}

/// File operations of the operating system block; they run beside the event loop.
#[allow(clippy::disallowed_methods)]
async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(f)
        .await
        .map_err(|_| io::Error::other("the operation was given up"))?
}

/// Files in memory: for hosts without a disk of their own, such as a simulator. The door's own
/// limit on spooled octets bounds it.
#[derive(Default)]
pub struct MemorySpool;

impl Spool for MemorySpool {
    fn create(&self) -> BoxFuture<'_, io::Result<Arc<dyn SpoolFile>>> {
        Box::pin(async { Ok(Arc::new(MemoryFile::default()) as Arc<dyn SpoolFile>) })
    }
}

#[derive(Default)]
struct MemoryFile {
    octets: Mutex<Vec<u8>>,
}

impl SpoolFile for MemoryFile {
    fn append(&self, octets: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            crate::spool::locked(&self.octets).extend_from_slice(&octets);
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async move {
            let octets = crate::spool::locked(&self.octets);
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            let to = from.checked_add(len);
            to.and_then(|to| octets.get(from..to))
                .map(Bytes::copy_from_slice)
                .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        })
    }
}

/// A lock whose holder never panics; were it poisoned all the same, the value is still whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn a_spool_file_keeps_what_it_was_given(spool: &dyn Spool) {
        let file = spool.create().await.unwrap();
        file.append(Bytes::from_static(b"abc")).await.unwrap();
        file.append(Bytes::from_static(b"defg")).await.unwrap();
        assert_eq!(file.read_at(2, 3).await.unwrap(), "cde");
        assert_eq!(file.read_at(0, 7).await.unwrap(), "abcdefg");
        let past = file.read_at(5, 3).await.unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn on_disk() {
        a_spool_file_keeps_what_it_was_given(&TempSpool::default()).await;
    }

    #[tokio::test]
    async fn in_memory() {
        a_spool_file_keeps_what_it_was_given(&MemorySpool).await;
    }
}

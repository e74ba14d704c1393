//! The octets of a message on their way out: sources that can be read again for a retry.
//!
//! A retry after a leader's death sends the same octets once more, so a one-shot stream is not
//! enough, and holding 150 MB in memory for the case is too much. A [`Body`] is therefore
//! something that can be opened any number of times, also at the same time by several senders.
//!
//! Files are the caller's own choice: [`FileBody`] and a [`Spool`] past its memory read and write
//! them on blocking threads. A simulated caller hands in [`Bytes`] or a spool without a bound.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};

use crate::connect::Entropy;

/// Octets of one `data` piece; the contract allows no more.
pub const PIECE_BYTES: usize = 256 * 1024;

/// A stream of pieces, none longer than [`PIECE_BYTES`].
pub type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// A message's octets, readable any number of times and always the same.
pub trait Body: Send + Sync {
    /// Starts to read from the first octet.
    fn open(&self) -> BoxFuture<'_, io::Result<Pieces>>;
    /// How many octets there are, when that is known.
    fn len(&self) -> Option<u64>;
    /// True when it is known that there are none.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

impl Body for Bytes {
    fn open(&self) -> BoxFuture<'_, io::Result<Pieces>> {
        let mut rest = self.clone();
        let pieces = std::iter::from_fn(move || {
            let n = rest.len().min(PIECE_BYTES);
            (n > 0).then(|| Ok(rest.split_to(n)))
        });
        Box::pin(async move { Ok(stream::iter(pieces).boxed()) })
    }

    fn len(&self) -> Option<u64> {
        Some(Bytes::len(self) as u64)
    }
}

/// Runs file operations off the async threads: the one place of this crate that does.
#[allow(clippy::disallowed_methods)]
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

/// Positioned reads of an open file.
fn read_file(file: Arc<fs::File>, len: u64) -> Pieces {
    stream::try_unfold((file, 0), move |(file, at)| async move {
        if at >= len {
            return Ok(None);
        }
        let want = (len - at).min(PIECE_BYTES as u64) as usize;
        let handle = file.clone();
        let read = off_thread(move || {
            let mut buf = BytesMut::zeroed(want);
            handle.read_exact_at(&mut buf, at)?;
            Ok(buf.freeze())
        });
        let piece = read.await?;
        Ok(Some((piece, (file, at + want as u64))))
    })
    .boxed()
}

/// A file, opened once. It must not change while it is sent; one that shrinks fails the call.
#[derive(Debug, Clone)]
pub struct FileBody {
    file: Arc<fs::File>,
    len: u64,
}

impl FileBody {
    /// Opens the regular file at `path`.
    pub async fn open(path: impl Into<PathBuf>) -> io::Result<FileBody> {
        let path: PathBuf = path.into();
        let opened = off_thread(move || {
            #[allow(clippy::disallowed_methods)]
            let file = fs::File::open(path)?;
            let meta = file.metadata()?;
            match meta.is_file() {
                true => Ok((file, meta.len())),
                false => Err(io::Error::other("not a regular file")),
            }
        });
        let (file, len) = opened.await?;
        Ok(FileBody {
            file: Arc::new(file),
            len,
        })
    }
}

impl Body for FileBody {
    fn open(&self) -> BoxFuture<'_, io::Result<Pieces>> {
        let pieces = read_file(self.file.clone(), self.len);
        Box::pin(async move { Ok(pieces) })
    }

    fn len(&self) -> Option<u64> {
        Some(self.len)
    }
}

/// Collects octets that arrive once (a network session, a pipe) so that they can be read again:
/// in memory up to a bound, beyond it in a file without a name, which vanishes with the process.
pub struct Spool {
    memory: Vec<u8>,
    memory_limit_bytes: usize,
    dir: PathBuf,
    entropy: Entropy,
    file: Option<fs::File>,
    len: u64,
}

impl Spool {
    /// An empty spool that holds up to `memory_limit_bytes` in memory and the rest under `dir`.
    pub fn new(memory_limit_bytes: usize, dir: impl AsRef<Path>, entropy: Entropy) -> Spool {
        Spool {
            memory: Vec::new(),
            memory_limit_bytes,
            dir: dir.as_ref().to_owned(),
            entropy,
            file: None,
            len: 0,
        }
    }

    /// Octets written so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends octets.
    pub async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.len += octets.len() as u64;
        self.memory.extend_from_slice(octets);
        if self.memory.len() <= self.memory_limit_bytes {
            return Ok(());
        }
        self.flush().await
    }

    /// The body, complete.
    pub async fn finish(mut self) -> io::Result<SpooledBody> {
        if self.file.is_some() && !self.memory.is_empty() {
            self.flush().await?;
        }
        let octets = match self.file {
            Some(file) => Spooled::File(Arc::new(file)),
            None => Spooled::Memory(Bytes::from(self.memory)),
        };
        Ok(SpooledBody {
            octets,
            len: self.len,
        })
    }

    async fn flush(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.memory);
        let file = self.file.take();
        let dir = self.dir.clone();
        let mut id = [0; 8];
        (self.entropy)(&mut id);
        let written = off_thread(move || {
            let mut file = match file {
                Some(file) => file,
                None => nameless_file(&dir, u64::from_le_bytes(id))?,
            };
            file.write_all(&pending)?;
            Ok((file, pending))
        });
        let (file, mut buffer) = written.await?;
        self.file = Some(file);
        buffer.clear();
        self.memory = buffer;
        Ok(())
    }
}

/// Mail is private: the file is readable by its owner alone and loses its name at once.
fn nameless_file(dir: &Path, id: u64) -> io::Result<fs::File> {
    let path = dir.join(format!(".posthouse-spool-{id:016x}"));
    #[allow(clippy::disallowed_methods)]
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    #[allow(clippy::disallowed_methods)]
    fs::remove_file(&path)?;
    Ok(file)
}

#[derive(Clone)]
enum Spooled {
    Memory(Bytes),
    File(Arc<fs::File>),
}

/// What a [`Spool`] has collected.
#[derive(Clone)]
pub struct SpooledBody {
    octets: Spooled,
    len: u64,
}

impl Body for SpooledBody {
    fn open(&self) -> BoxFuture<'_, io::Result<Pieces>> {
        match &self.octets {
            Spooled::Memory(octets) => octets.open(),
            Spooled::File(file) => {
                let pieces = read_file(file.clone(), self.len);
                Box::pin(async move { Ok(pieces) })
            }
        }
    }

    fn len(&self) -> Option<u64> {
        Some(self.len)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::connect::os_entropy;
    use futures::TryStreamExt;

    async fn read(body: &dyn Body) -> Vec<u8> {
        let pieces: Vec<Bytes> = body.open().await.unwrap().try_collect().await.unwrap();
        assert!(
            pieces
                .iter()
                .all(|p| !p.is_empty() && p.len() <= PIECE_BYTES)
        );
        pieces.concat()
    }

    #[tokio::test]
    async fn every_source_reads_the_same_octets_again_and_again() {
        let octets: Vec<u8> = (0..3 * PIECE_BYTES as u32 + 17)
            .map(|i| (i * 7 % 251) as u8)
            .collect();
        let dir = std::env::temp_dir();
        let path = dir.join(format!("posthouse-body-test-{}", std::process::id()));
        fs::write(&path, &octets).unwrap();
        let from_file = FileBody::open(&path).await.unwrap();
        fs::remove_file(&path).unwrap();

        let mut bodies: Vec<Box<dyn Body>> =
            vec![Box::new(Bytes::from(octets.clone())), Box::new(from_file)];
        for limit in [0, 1000, PIECE_BYTES, usize::MAX] {
            let mut spool = Spool::new(limit, &dir, os_entropy());
            for part in octets.chunks(70_001) {
                spool.write(part).await.unwrap();
            }
            bodies.push(Box::new(spool.finish().await.unwrap()));
        }
        for body in bodies {
            assert_eq!(body.len(), Some(octets.len() as u64));
            assert_eq!(read(&*body).await, octets);
            let (a, b) = tokio::join!(read(&*body), read(&*body));
            assert!(a == octets && b == octets);
        }
    }

    #[tokio::test]
    async fn an_empty_body_has_no_pieces() {
        assert_eq!(read(&Bytes::new()).await, b"");
        let spool = Spool::new(0, std::env::temp_dir(), os_entropy());
        assert!(spool.is_empty());
        assert_eq!(read(&spool.finish().await.unwrap()).await, b"");
    }

    #[tokio::test]
    async fn what_is_not_a_file_is_refused() {
        assert!(FileBody::open("/").await.is_err());
        assert!(FileBody::open("/nowhere/at/all").await.is_err());
    }
}

//! The octets of one message on their way from a sender to the store.
//!
//! Exists because a leader can die in the middle of a message: the store then needs the octets
//! from the first one on, and the sender has moved past them. One writer appends; any number of
//! readers follow it from the start, each at its own pace. Up to a limit the octets stay in
//! memory; past it, or when the memory that all connections share is used up, they go to a
//! spool file, so that the memory for a message never grows with its size.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::sync::watch;

use crate::spool::{Spool, SpoolFile, locked};

/// Largest piece that a reader is handed, in octets; the store's own limit on pieces.
pub const PIECE_BYTES: usize = 256 * 1024;
/// Octets that gather before they become visible to readers.
const BLOCK_BYTES: usize = 64 * 1024;

/// An amount that all connections share.
#[derive(Debug)]
pub struct Budget {
    left: AtomicU64,
}

impl Budget {
    /// So many octets in all.
    pub fn new(bytes: u64) -> Arc<Budget> {
        Arc::new(Budget {
            left: AtomicU64::new(bytes),
        })
    }

    fn take(&self, bytes: u64) -> bool {
        let taken = self
            .left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                left.checked_sub(bytes)
            });
        taken.is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::AcqRel);
    }

    /// What is left.
    pub fn left_bytes(&self) -> u64 {
        self.left.load(Ordering::Acquire)
    }
}

/// Where bodies may lie.
#[derive(Clone)]
pub struct Room {
    /// Memory for all bodies together.
    pub memory: Arc<Budget>,
    /// Spool space for all bodies together.
    pub disk: Arc<Budget>,
    /// Octets of one body that stay in memory.
    pub memory_per_body_bytes: u64,
    /// Makes files.
    pub spool: Arc<dyn Spool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may come.
    Open,
    /// All is there.
    Complete,
    /// The writer is gone; the rest will never come.
    Broken,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    len: u64,
    end: End,
}

enum Place {
    Memory(Vec<Bytes>),
    File(Arc<dyn SpoolFile>),
}

struct Shared {
    place: Mutex<Place>,
    room: Room,
    memory_taken: AtomicU64,
    disk_taken: AtomicU64,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.room.memory.give_back(*self.memory_taken.get_mut());
        self.room.disk.give_back(*self.disk_taken.get_mut());
    }
}

/// Appends to a body. Dropping it before [`Writer::complete`] breaks the body off.
pub struct Writer {
    shared: Arc<Shared>,
    progress: watch::Sender<Progress>,
    block: BytesMut,
}

/// Why a body cannot be taken or read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The writer went away before the end.
    #[error("the message broke off")]
    BrokenOff,
    /// The space that all connections share is used up.
    #[error("no room for the message")]
    NoRoom,
    /// The spool failed.
    #[error("the spool failed: {0}")]
    Spool(#[from] io::Error),
}

/// The octets of a message, all there or still coming. Cheap to clone.
#[derive(Clone)]
pub struct Body {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
}

/// A new, empty body: its writer, and what readers get.
pub fn pipe(room: Room) -> (Writer, Body) {
    let (progress, seen) = watch::channel(Progress {
        len: 0,
        end: End::Open,
    });
    let shared = Arc::new(Shared {
        place: Mutex::new(Place::Memory(Vec::new())),
        room,
        memory_taken: AtomicU64::new(0),
        disk_taken: AtomicU64::new(0),
    });
    let writer = Writer {
        shared: shared.clone(),
        progress,
        block: BytesMut::new(),
    };
    (
        writer,
        Body {
            shared,
            progress: seen,
        },
    )
}

impl Writer {
    /// Appends octets.
    pub async fn append(&mut self, mut octets: &[u8]) -> Result<(), BodyError> {
        while !octets.is_empty() {
            let n = octets.len().min(BLOCK_BYTES - self.block.len());
            self.block.extend_from_slice(&octets[..n]);
            octets = &octets[n..];
            if self.block.len() == BLOCK_BYTES {
                self.pass_on().await?;
            }
        }
        Ok(())
    }

    /// Says that all is there.
    pub async fn complete(mut self) -> Result<(), BodyError> {
        self.pass_on().await?;
        self.progress.send_modify(|p| p.end = End::Complete);
        Ok(())
    }

    /// Whether the octets have left memory for the spool.
    pub fn is_spooled(&self) -> bool {
        matches!(*locked(&self.shared.place), Place::File(_))
    }

    async fn pass_on(&mut self) -> Result<(), BodyError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = self.block.split().freeze();
        let len = block.len() as u64;
        if !self.keep_in_memory(&block) {
            let file = self.spool_file().await?;
            self.take_disk(len)?;
            file.append(block).await?;
        }
        self.progress.send_modify(|p| p.len += len);
        Ok(())
    }

    fn keep_in_memory(&self, block: &Bytes) -> bool {
        let room = &self.shared.room;
        let len = block.len() as u64;
        let taken = self.shared.memory_taken.load(Ordering::Acquire);
        let mut place = locked(&self.shared.place);
        let Place::Memory(blocks) = &mut *place else {
            return false;
        };
        if taken + len > room.memory_per_body_bytes || !room.memory.take(len) {
            return false;
        }
        self.shared.memory_taken.fetch_add(len, Ordering::AcqRel);
        blocks.push(block.clone());
        true
    }

    fn take_disk(&self, bytes: u64) -> Result<(), BodyError> {
        if !self.shared.room.disk.take(bytes) {
            return Err(BodyError::NoRoom);
        }
        self.shared.disk_taken.fetch_add(bytes, Ordering::AcqRel);
        Ok(())
    }

    /// The spool file, made on first use: then what is in memory moves there.
    async fn spool_file(&self) -> Result<Arc<dyn SpoolFile>, BodyError> {
        let blocks = match &*locked(&self.shared.place) {
            Place::File(file) => return Ok(file.clone()),
            Place::Memory(blocks) => blocks.clone(),
        };
        let file = self.shared.room.spool.create().await?;
        for block in blocks {
            self.take_disk(block.len() as u64)?;
            file.append(block).await?;
        }
        *locked(&self.shared.place) = Place::File(file.clone());
        self.shared
            .room
            .memory
            .give_back(self.shared.memory_taken.swap(0, Ordering::AcqRel));
        Ok(file)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.progress.send_if_modified(|p| {
            let open = p.end == End::Open;
            if open {
                p.end = End::Broken;
            }
            open
        });
    }
}

impl Body {
    /// A body that is all there, in memory.
    pub fn whole(octets: Bytes) -> Body {
        let room = Room {
            memory: Budget::new(0),
            disk: Budget::new(0),
            memory_per_body_bytes: 0,
            spool: Arc::new(crate::spool::MemorySpool),
        };
        let (_, progress) = watch::channel(Progress {
            len: octets.len() as u64,
            end: End::Complete,
        });
        let shared = Arc::new(Shared {
            place: Mutex::new(Place::Memory(vec![octets])),
            room,
            memory_taken: AtomicU64::new(0),
            disk_taken: AtomicU64::new(0),
        });
        Body { shared, progress }
    }

    /// The number of octets, once all are there.
    pub fn len(&self) -> Option<u64> {
        let progress = *self.progress.borrow();
        (progress.end == End::Complete).then_some(progress.len)
    }

    /// Whether it is known to have no octets.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// The octets from `at` on: at least one, at most [`PIECE_BYTES`]; waits while there are
    /// none yet. `None` at the end.
    pub async fn piece(&self, at: u64) -> Result<Option<Bytes>, BodyError> {
        let mut seen = self.progress.clone();
        let progress = seen.wait_for(|p| p.len > at || p.end != End::Open).await;
        let Progress { len, end } = *progress.map_err(|_| BodyError::BrokenOff)?;
        match end {
            End::Broken => Err(BodyError::BrokenOff),
            _ if at >= len => Ok(None),
            _ => self.read(at, len).await.map(Some),
        }
    }

    /// All octets from the first one on, for one attempt.
    pub fn pieces(&self) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
        let start = Some((self.clone(), 0));
        futures::stream::unfold(start, |state| async move {
            let (body, at) = state?;
            match body.piece(at).await {
                Ok(None) => None,
                Ok(Some(piece)) => {
                    let at = at + piece.len() as u64;
                    Some((Ok(piece), Some((body, at))))
                }
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn read(&self, at: u64, len: u64) -> Result<Bytes, BodyError> {
        let file = match &*locked(&self.shared.place) {
            Place::File(file) => file.clone(),
            Place::Memory(blocks) => return Ok(slice_at(blocks, at)),
        };
        let n = (len - at).min(PIECE_BYTES as u64) as usize;
        Ok(file.read_at(at, n).await?)
    }
}

/// What is left of the block that holds offset `at`.
fn slice_at(blocks: &[Bytes], mut at: u64) -> Bytes {
    for block in blocks {
        match usize::try_from(at) {
            Ok(at) if at < block.len() => {
                let to = block.len().min(at + PIECE_BYTES);
                return block.slice(at..to);
            }
            _ => at -= block.len() as u64,
        }
    }
    Bytes::new()
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::spool::{MemorySpool, TempSpool};

    fn room(memory: u64, disk: u64, per_body: u64, spool: Arc<dyn Spool>) -> Room {
        Room {
            memory: Budget::new(memory),
            disk: Budget::new(disk),
            memory_per_body_bytes: per_body,
            spool,
        }
    }

    async fn collect(body: &Body) -> Result<Vec<u8>, BodyError> {
        let mut out = Vec::new();
        let mut pieces = std::pin::pin!(body.pieces());
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES);
            out.extend_from_slice(&piece);
        }
        Ok(out)
    }

    fn octets(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[tokio::test]
    async fn readers_follow_the_writer_and_can_start_again() {
        let spools: [Arc<dyn Spool>; 2] = [Arc::new(MemorySpool), Arc::new(TempSpool::default())];
        for spool in spools {
            for n in [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 700_000, 1_400_000] {
                let room = room(8 << 20, 8 << 20, 1 << 20, spool.clone());
                let (memory, disk) = (room.memory.clone(), room.disk.clone());
                let message = octets(n);
                let (mut writer, body) = pipe(room);
                let follower = tokio::spawn({
                    let body = body.clone();
                    async move { collect(&body).await }
                });
                for piece in message.chunks(4093) {
                    writer.append(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                assert_eq!(writer.is_spooled(), n > 1 << 20, "{n}");
                writer.complete().await.unwrap();
                assert_eq!(body.len(), Some(n as u64));
                assert!(follower.await.unwrap().unwrap() == message);
                assert!(collect(&body).await.unwrap() == message);
                assert!(collect(&body).await.unwrap() == message);
                drop(body);
                assert_eq!((memory.left_bytes(), disk.left_bytes()), (8 << 20, 8 << 20));
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_never_looks_complete() {
        for n in [10, 100_000, 1_400_000] {
            let (mut writer, body) = pipe(room(8 << 20, 8 << 20, 1 << 20, Arc::new(MemorySpool)));
            writer.append(&octets(n)).await.unwrap();
            drop(writer);
            assert!(matches!(collect(&body).await, Err(BodyError::BrokenOff)));
            assert_eq!(body.len(), None);
        }
    }

    #[tokio::test]
    async fn shared_room_is_a_bound() {
        let tight = room(100_000, 200_000, 1 << 20, Arc::new(MemorySpool));
        let (mut first, _kept) = pipe(tight.clone());
        first.append(&octets(140_000)).await.unwrap();
        assert!(first.is_spooled());
        let (mut second, _body) = pipe(tight.clone());
        let refused = second.append(&octets(300_000)).await;
        assert!(matches!(refused, Err(BodyError::NoRoom)));
    }
}

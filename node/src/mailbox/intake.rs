//! One message coming in: hashed, summarised, cut into chunks, compressed, and proposed as it
//! arrives.
//!
//! A message of up to one chunk travels in its `Store` command. A larger one is proposed chunk by
//! chunk while it still arrives, a few at a time, so that neither this node nor the log ever holds
//! it whole; the `Store` that follows names the arrival and is small. A message for several
//! shards is sent to each of them; a shard that fails falls out and the others go on.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};

use super::summary::scan::Scanner;
use super::summary::threads;
use super::window::{Held, Windows};
use super::{Caller, Led, MailboxError, Operations, Result, unexpected};
use crate::machine::command::{BlobMeta, CHUNK_BYTES, Op, Reply, UploadId};
use crate::rare::{self, Rare};
use crate::types::*;

/// Octets that a client's size hint may reserve.
const TRUSTED_HINT_BYTES: u64 = 64 << 10;

/// A message that is here whole, ready for its `Store` commands.
pub(crate) struct Arrived {
    pub(crate) blob: BlobMeta,
    /// The stored octets of a message of one chunk; empty for an upload.
    pub(crate) stored: Bytes,
    /// The encoded summary.
    pub(crate) summary: Vec<u8>,
    /// By what its thread is found.
    pub(crate) threads: Vec<ThreadKey>,
    /// Per shard, in the given order: whether its chunks are there.
    pub(crate) shards: Vec<Result<()>>,
    /// Chunks that wait for their `Store`; dropped upload by upload unless disarmed.
    pub(crate) guard: Uploads,
    /// Room in the windows; kept until the `Store` is answered.
    pub(crate) _held: Held,
}

/// How a message is taken in.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Intake {
    /// Octets to come, 0: not known.
    pub(crate) size_hint: u64,
    /// In chunks under an upload also when it would fit its command: it shares that with others.
    pub(crate) by_upload: bool,
}

/// Drops the chunks of an arrival that got no `Store`: when its stream broke off, when a deadline
/// passed, when the caller went away. Best effort: what this misses (a leader that dies) is found
/// by its age.
#[derive(Default)]
pub(crate) struct Uploads {
    armed: Vec<Led>,
    upload: Option<UploadId>,
    time_ms: u64,
}

impl Uploads {
    /// The `Store` of this shard took the chunks over, or its outcome is not known.
    pub(crate) fn disarm(&mut self, shard: ShardId) {
        self.armed.retain(|led| led.shard != shard);
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        let (Some(upload), false) = (self.upload, self.armed.is_empty()) else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        rare::hit(Rare::UploadBrokeOff);
        let (armed, time_ms) = (std::mem::take(&mut self.armed), self.time_ms);
        runtime.spawn(async move {
            let drops = armed.iter().map(|led| {
                let command = crate::machine::command::Command {
                    time_ms,
                    op: Op::DropUpload { upload },
                };
                led.replica.propose(command, Bytes::new())
            });
            for result in join_all(drops).await {
                if let Err(e) = result {
                    tracing::debug!(error = %e, "chunks of a broken arrival stay until they are old");
                }
            }
        });
    }
}

/// Where the chunks of one arrival go.
struct Sender<'a> {
    ops: &'a Operations,
    led: &'a [Led],
    upload: UploadId,
    shards: Vec<Result<()>>,
    chunks: Vec<crate::machine::command::ChunkMeta>,
    in_flight: FuturesUnordered<BoxFuture<'static, Sent>>,
    guard: Uploads,
}

/// Outcomes of one chunk, per shard that it was sent to; the room it held is free again.
struct Sent(Vec<(usize, Result<Reply, crate::raft::ShardError>)>);

impl Sender<'_> {
    /// Takes the outcome of one chunk; an error when no shard is left that takes the message.
    fn settle(&mut self, sent: Sent) -> Result<()> {
        for (i, result) in sent.0 {
            let outcome = match result {
                Ok(Reply::Done) => continue,
                Ok(Reply::Error(e)) => super::error::from_apply(e, super::What::Blob),
                Ok(other) => unexpected(&other),
                Err(e) => self.ops.shard_error(e),
            };
            // The first failure of a shard is the one that explains it.
            if self.shards[i].is_ok() {
                self.shards[i] = Err(outcome);
                if self.any_left().is_ok() {
                    rare::hit(Rare::ShardFellOut);
                }
            }
        }
        self.any_left()
    }

    fn any_left(&self) -> Result<()> {
        if self.shards.iter().any(Result::is_ok) {
            return Ok(());
        }
        match self.shards.first() {
            Some(Err(e)) => Err(e.clone()),
            _ => Ok(()),
        }
    }

    /// Room in the windows. Chunks in flight go on meanwhile: the room may be what they hold.
    async fn room(&mut self, windows: &Windows, bytes: usize) -> Result<Held> {
        let limits = &self.ops.limits;
        let mut taken = pin!(windows.take(bytes, limits));
        loop {
            tokio::select! {
                biased;
                Some(sent) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.settle(sent)?;
                }
                taken = &mut taken => return taken,
            }
        }
    }

    /// Proposes one full chunk (or the last), once there is a place in flight.
    async fn send(&mut self, raw: Bytes, held: Held) -> Result<()> {
        while self.in_flight.len() >= self.ops.limits.chunks_in_flight {
            if let Some(sent) = self.in_flight.next().await {
                self.settle(sent)?;
            }
        }
        let (chunk, stored) = self.ops.compressors.encode(raw, self.ops.limits.compress);
        let seq = self.chunks.len() as u32;
        self.chunks.push(chunk);
        if self.guard.upload.is_none() {
            self.guard = Uploads {
                armed: self.led.to_vec(),
                upload: Some(self.upload),
                time_ms: self.ops.env.clock.now_ms(),
            };
        }
        let targets: Vec<(usize, Arc<dyn super::Proposer>)> = self
            .led
            .iter()
            .enumerate()
            .filter(|(i, _)| self.shards[*i].is_ok())
            .map(|(i, led)| (i, Arc::clone(&led.replica)))
            .collect();
        let command = self.ops.command(Op::PutChunk {
            upload: self.upload,
            seq,
            chunk,
        });
        self.in_flight.push(Box::pin(async move {
            let proposals = targets.into_iter().map(|(i, replica)| {
                let (command, stored) = (command.clone(), stored.clone());
                async move { (i, replica.propose(command, stored).await) }
            });
            let outcomes = join_all(proposals).await;
            drop(held);
            Sent(outcomes)
        }));
        // Compressing a megabyte takes milliseconds: let others of this thread have their turn.
        tokio::task::yield_now().await;
        Ok(())
    }
}

impl Operations {
    /// Takes a message in from `pieces`, for all of `led`. `size_hint` 0: not known.
    pub(crate) async fn take_in(
        &self,
        caller: &Caller,
        led: &[Led],
        size_hint: u64,
        pieces: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<Arrived> {
        let intake = Intake {
            size_hint,
            by_upload: false,
        };
        self.take_in_as(caller, led, intake, pieces).await
    }

    /// Takes a message in from `pieces`, for all of `led`.
    pub(crate) async fn take_in_as(
        &self,
        caller: &Caller,
        led: &[Led],
        intake: Intake,
        pieces: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<Arrived> {
        let size_hint = intake.size_hint;
        let limit = self.limits.max_message_bytes;
        if size_hint > limit {
            return Err(MailboxError::TooLarge { limit });
        }
        let windows = self.windows(caller);
        let mut sender = Sender {
            ops: self,
            led,
            upload: UploadId(self.env.rng.id16()),
            shards: vec![Ok(()); led.len()],
            chunks: Vec::new(),
            in_flight: FuturesUnordered::new(),
            guard: Uploads::default(),
        };
        let mut hasher = blake3::Hasher::new();
        let mut scanner = Scanner::new();
        let mut size = 0u64;
        let mut held = Held::default();
        let mut buffer = BytesMut::new();
        let mut pieces = pin!(pieces);
        loop {
            let piece = tokio::select! {
                biased;
                Some(sent) = sender.in_flight.next(), if !sender.in_flight.is_empty() => {
                    sender.settle(sent)?;
                    continue;
                }
                piece = pieces.next() => piece,
            };
            let Some(mut piece) = piece.transpose()? else {
                break;
            };
            size += piece.len() as u64;
            if size > limit {
                return Err(MailboxError::TooLarge { limit });
            }
            hasher.update(&piece);
            scanner.push(&piece);
            while !piece.is_empty() {
                if buffer.len() == CHUNK_BYTES as usize {
                    let full = std::mem::take(&mut buffer).freeze();
                    sender.send(full, std::mem::take(&mut held)).await?;
                }
                let part = piece.split_to(piece.len().min(CHUNK_BYTES as usize - buffer.len()));
                held.merge(sender.room(&windows, part.len()).await?);
                if buffer.is_empty() {
                    // The hint is the client's word, and no window counts what it reserves: it
                    // saves the growing of small messages, no more.
                    let trusted = size_hint.min(TRUSTED_HINT_BYTES) as usize;
                    buffer.reserve(trusted.max(part.len()));
                }
                buffer.extend_from_slice(&part);
            }
        }

        let id = BlobId(*hasher.finalize().as_bytes());
        let summary = scanner.finish();
        let threads = threads::keys(&summary);
        let summary = summary.encode();
        let last = buffer.freeze();
        if sender.chunks.is_empty() && !intake.by_upload {
            let (chunk, stored) = self.compressors.encode(last, self.limits.compress);
            return Ok(Arrived {
                blob: BlobMeta {
                    id,
                    size,
                    chunks: vec![chunk],
                    upload: None,
                },
                stored,
                summary,
                threads,
                shards: sender.shards,
                guard: Uploads::default(),
                _held: held,
            });
        }
        sender.send(last, held).await?;
        while let Some(sent) = sender.in_flight.next().await {
            sender.settle(sent)?;
        }
        sender.any_left()?;
        Ok(Arrived {
            blob: BlobMeta {
                id,
                size,
                chunks: sender.chunks,
                upload: Some(sender.upload),
            },
            stored: Bytes::new(),
            summary,
            threads,
            shards: sender.shards,
            guard: sender.guard,
            _held: Held::default(),
        })
    }
}

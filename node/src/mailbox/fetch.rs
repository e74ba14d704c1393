//! The octets of a message, whole or a byte range, chunk by chunk.
//!
//! Every chunk is verified by the reader of blobs; when the whole blob is asked for, its BLAKE3 is
//! checked too, before its last chunk is handed out. So a caller that got all octets without an
//! error has the octets that were acknowledged.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use futures::stream::try_unfold;

use super::limits::PIECE_BYTES;
use super::window::{Held, Windows};
use super::{
    BlobError, MailboxError, Operations, Result, What, check, list_accounts, list_mailboxes,
};
use crate::machine::command::CHUNK_BYTES;
use crate::machine::read;
use crate::rare::{self, Rare};
use crate::types::*;

/// What to fetch.
#[derive(Debug, Clone, Default)]
pub struct FetchBlob {
    /// Whose.
    pub account: String,
    /// With `uid`: the message's octets.
    pub mailbox: String,
    /// 0: not given.
    pub uid: Uid,
    /// Alternatively, 32 octets; else empty.
    pub blob_id: Vec<u8>,
    /// Where to begin.
    pub offset: u64,
    /// 0: to the end.
    pub length: u64,
}

/// Octets of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Of its first octet in the blob.
    pub offset: u64,
    /// At most [`PIECE_BYTES`].
    pub data: Bytes,
}

/// A blob that is about to be read.
pub struct Fetching {
    /// Which.
    pub blob: BlobId,
    /// Of the whole blob.
    pub size: u64,
    shard: ShardId,
    range: Range<u64>,
}

impl Operations {
    /// Finds the blob and checks the range; reads none of its octets. Also says the account's highest
    /// modseq.
    pub async fn fetch(&self, request: FetchBlob) -> Result<(Fetching, ModSeq)> {
        let account = check::account("account", &request.account)?;
        enum By {
            Message(MailboxName, Uid),
            Blob(BlobId),
        }
        let by = match (request.uid, request.blob_id.as_slice()) {
            (0, []) => return Err(MailboxError::bad("uid", "give a uid or a blob_id")),
            (0, id) => {
                let id = <[u8; 32]>::try_from(id)
                    .map_err(|_| MailboxError::bad("blob_id", "must be 32 octets"))?;
                By::Blob(BlobId(id))
            }
            (uid, []) => By::Message(check::mailbox("mailbox", &request.mailbox)?, uid),
            (_, _) => {
                return Err(MailboxError::bad(
                    "blob_id",
                    "give a uid or a blob_id, not both",
                ));
            }
        };
        let led = self.replica_of(&account)?;
        let read_view = self.read(&led).await?;
        let (view, space) = (&*read_view.view, read_view.space);
        let (_, of) = list_accounts::find(&read_view, &account)?;
        let blob = match by {
            By::Blob(blob) => blob,
            By::Message(mailbox, uid) => {
                let found = list_mailboxes::find(&read_view, &account, &mailbox)?;
                let row = read::message(view, space, found.account, found.mailbox, uid)?
                    .ok_or(MailboxError::NotFound(What::Message))?;
                let email = read::email(view, space, found.account, row.email)?;
                email.ok_or(MailboxError::NotFound(What::Message))?.blob
            }
        };
        let row = read::blob(view, space, blob)?.ok_or(MailboxError::NotFound(What::Blob))?;
        if request.offset > row.size {
            return Err(MailboxError::bad(
                "offset",
                format_args!("beyond the end, the blob has {} octets", row.size),
            ));
        }
        let end = match request.length {
            0 => row.size,
            n => request.offset.saturating_add(n).min(row.size),
        };
        let fetching = Fetching {
            blob,
            size: row.size,
            shard: led.shard,
            range: request.offset..end,
        };
        Ok((fetching, of.highest_modseq))
    }

    /// A whole blob whose size the caller has from a row.
    pub(super) fn fetching(&self, shard: ShardId, blob: BlobId, size: u64) -> Fetching {
        Fetching {
            blob,
            size,
            shard,
            range: 0..size,
        }
    }

    /// The octets, in order. An empty range gives one empty piece, so that every fetch says what
    /// it found.
    pub fn read_pieces(
        self: &Arc<Self>,
        fetching: &Fetching,
    ) -> impl Stream<Item = Result<Piece>> + Send + 'static {
        let state = Reading {
            ops: Arc::clone(self),
            blob: fetching.blob,
            shard: fetching.shard,
            size: fetching.size,
            at: fetching.range.start,
            end: fetching.range.end,
            hasher: (fetching.range == (0..fetching.size)).then(blake3::Hasher::new),
            ready: Bytes::new(),
            begun: false,
            _held: Held::default(),
        };
        try_unfold(state, |mut state| async move {
            let piece = state.next().await?;
            Ok(piece.map(|piece| (piece, state)))
        })
    }

    pub(super) fn read_windows(&self) -> Windows {
        Windows {
            node: Arc::clone(&self.read_window),
            connection: None,
        }
    }

    /// The octets of one chunk of a blob of `size` octets. The caller holds the room for them.
    pub(super) async fn read_chunk(
        &self,
        shard: ShardId,
        blob: BlobId,
        size: u64,
        seq: u32,
    ) -> Result<Bytes> {
        let start = u64::from(seq) * u64::from(CHUNK_BYTES);
        let len = size.saturating_sub(start).min(u64::from(CHUNK_BYTES));
        let read = self.blobs.read_chunk(shard, blob, seq);
        let read = tokio::time::timeout(self.limits.default_deadline, read)
            .await
            .map_err(|_| MailboxError::Unavailable("the disk did not answer in time".to_owned()))?;
        let octets = match read {
            Ok(octets) => octets,
            Err(BlobError::Failed(why)) => return Err(MailboxError::Unavailable(why)),
            // The index named the blob a moment ago: a missing chunk is damage, unless the message
            // was expunged meanwhile.
            Err(BlobError::Missing | BlobError::Damaged(_))
                if self.is_forgotten(shard, blob).await? =>
            {
                rare::hit(Rare::ExpungedUnderRead);
                return Err(MailboxError::NotFound(What::Blob));
            }
            Err(e) => {
                return Err(MailboxError::Corrupt(format!(
                    "blob {blob} chunk {seq}: {e}"
                )));
            }
        };
        if octets.len() as u64 != len {
            return Err(MailboxError::Corrupt(format!(
                "blob {blob} chunk {seq} has {} octets instead of {len}",
                octets.len()
            )));
        }
        Ok(octets)
    }

    /// Whether nothing refers to a blob any more.
    async fn is_forgotten(&self, shard: ShardId, blob: BlobId) -> Result<bool> {
        let view = self.read(&self.replica(shard)?).await?;
        Ok(read::blob(&*view.view, view.space, blob)?.is_none())
    }
}

/// A blob that is being read.
struct Reading {
    ops: Arc<Operations>,
    blob: BlobId,
    shard: ShardId,
    size: u64,
    /// The first octet that was not handed out.
    at: u64,
    end: u64,
    /// Of a whole blob.
    hasher: Option<blake3::Hasher>,
    /// Octets from `at` on that were read.
    ready: Bytes,
    begun: bool,
    _held: Held,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Piece>> {
        if self.at == self.end && self.begun {
            return Ok(None);
        }
        if self.ready.is_empty() && self.at < self.end {
            self.ready = self.read().await?;
        }
        self.begun = true;
        let offset = self.at;
        let data = self.ready.split_to(self.ready.len().min(PIECE_BYTES));
        self.at += data.len() as u64;
        Ok(Some(Piece { offset, data }))
    }

    /// The wanted octets of the chunk that `at` lies in.
    async fn read(&mut self) -> Result<Bytes> {
        let chunk_bytes = CHUNK_BYTES as u64;
        let seq = (self.at / chunk_bytes) as u32;
        let start = seq as u64 * chunk_bytes;
        let len = chunk_bytes.min(self.size - start);
        let limits = self.ops.limits.clone();
        // The room of the chunk before is given back first.
        self._held = Held::default();
        self._held = self.ops.read_windows().take(len as usize, &limits).await?;
        let octets = self
            .ops
            .read_chunk(self.shard, self.blob, self.size, seq)
            .await?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&octets);
            if start + len == self.size && hasher.finalize().as_bytes() != &self.blob.0 {
                return Err(MailboxError::Corrupt(format!(
                    "the octets of blob {} are not those that its id names",
                    self.blob
                )));
            }
        }
        let from = (self.at - start) as usize;
        let to = (self.end.min(start + len) - start) as usize;
        Ok(octets.slice(from..to))
    }
}

//! Sending a snapshot: the rows first, then only the octets that the receiver lacks.
//!
//! ```text
//!   leader                                    receiver
//!   meta, rows, rows, …, rows_done  ───────▶  rows into a fresh space
//!                                   ◀───────  wants: chunks with no location in the old space
//!   chunks                          ───────▶  into the journal, located in the fresh space
//!                                   ◀───────  wants_done
//!   done                            ───────▶  openraft installs: one row switches the space
//!                                   ◀───────  its vote
//! ```
//!
//! Octets of arrivals go with it like those of blobs: the message that they become is acknowledged
//! by its last entry alone, which a receiver of the snapshot applies without their entries.
//!
//! What breaks off leaves a space that nothing points to; the next start removes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use openraft::raft::SnapshotResponse;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::peers::PeerStub;
use super::proto::{Chunk, Row, SnapshotRequest, SnapshotResponse as SnapshotAnswer, Want};
use crate::index::keys::{Key, Space};
use crate::index::values::{self, ChunkLoc};
use crate::index::{Batch, Family, Index, IndexError, View};
use crate::journal::{Append, Journal, JournalError, RecordHead, RecordKind};
use crate::machine::command::{ChunkMeta, UploadId};
use crate::machine::local;
use crate::machine::read;
use crate::machine::rows::{self, Cursor, SpaceRow};
use crate::raft::state_machine::space_of;
use crate::raft::types::*;
use crate::rare::{self, Rare};
use crate::types::*;

/// Octets of rows in one message.
const ROWS_BYTES: usize = 1 << 20;
/// Chunks asked for at once; each is about 1 MiB at most.
const WANTS: usize = 32;
/// Blobs, or chunks of arrivals, looked at in one step.
const BLOBS_PER_STEP: usize = 1024;
/// How long either side waits for the other's next message.
const QUIET: Duration = Duration::from_secs(60);

/// Reads stored octets as they are, verified.
pub trait ChunkReader: Send + Sync {
    /// The stored octets of a chunk of this shard that lay at `loc` in a view that may be old by
    /// now; `None` when they are damaged or gone here.
    fn stored(
        &self,
        shard: ShardId,
        at: local::Chunk,
        loc: ChunkLoc,
    ) -> BoxFuture<'_, Option<Bytes>>;
}

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The other side says why not.
    #[error("{0}")]
    Refused(String),
}

/// The rows and chunks of an outgoing snapshot.
pub struct Source {
    /// The rows.
    pub view: Arc<dyn View>,
    /// Where they live.
    pub space: Space,
    /// Reads the chunks.
    pub chunks: Arc<dyn ChunkReader>,
}

/// What the first message says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Opening {
    /// The leader's vote.
    pub vote: Vote,
    /// What the snapshot is of.
    pub meta: SnapshotMeta,
}

/// A chunk that the receiver has the rows of, and no octets yet.
#[derive(Debug, Clone, Copy)]
struct Lacking {
    at: local::Chunk,
    meta: ChunkMeta,
}

fn broken(e: impl ToString) -> SnapshotError {
    SnapshotError::Broken(e.to_string())
}

/// How a chunk is asked for: a blob by its 32 octets, an arrival by its 16.
fn want(at: local::Chunk) -> Want {
    let (id, seq) = match at {
        local::Chunk::Blob(blob, seq) => (blob.0.to_vec(), seq),
        local::Chunk::Upload(upload, seq) => (upload.0.to_vec(), seq),
    };
    Want {
        blob_id: id.into(),
        seq,
    }
}

/// The chunk that is asked for so.
fn named(id: &[u8], seq: u32) -> Result<local::Chunk, SnapshotError> {
    if let Ok(id) = <[u8; 32]>::try_from(id) {
        return Ok(local::Chunk::Blob(BlobId(id), seq));
    }
    match <[u8; 16]>::try_from(id) {
        Ok(id) => Ok(local::Chunk::Upload(UploadId(id), seq)),
        Err(_) => Err(broken("not the id of a blob or of an arrival")),
    }
}

/// Sends a snapshot and waits until it is installed or refused.
pub async fn send(
    mut client: PeerStub,
    shard: ShardId,
    to: ReplicaId,
    vote: Vote,
    meta: SnapshotMeta,
    source: Source,
) -> Result<SnapshotResponse<TypeConfig>, SnapshotError> {
    let (tx, rx) = mpsc::channel::<SnapshotRequest>(2);
    let opening =
        postcard::to_stdvec(&Opening { vote, meta }).expect("snapshot metas always encode");
    let put = async |request: SnapshotRequest| {
        let sent = tokio::time::timeout(QUIET, tx.send(request)).await;
        sent.map_err(broken)?
            .map_err(|_| broken("the receiver is gone"))
    };
    put(SnapshotRequest {
        shard: shard.0,
        to_replica: to.0,
        meta: opening.into(),
        ..Default::default()
    })
    .await?;
    let mut answers = client
        .snapshot(ReceiverStream::new(rx))
        .await
        .map_err(broken)?
        .into_inner();

    rare::hit(Rare::SnapshotBegun);
    let mut cursor = Cursor::default();
    loop {
        let page = rows::page(&*source.view, source.space, &mut cursor, ROWS_BYTES)?;
        if page.is_empty() {
            break;
        }
        let rows = page
            .into_iter()
            .map(|r| Row {
                family: r.family as u32,
                key: r.key,
                value: r.value,
            })
            .collect();
        put(SnapshotRequest {
            rows,
            ..Default::default()
        })
        .await?;
    }
    put(SnapshotRequest {
        rows_done: true,
        ..Default::default()
    })
    .await?;

    loop {
        // The installation itself, at the end, may flush the receiver's index: give it time.
        let answer = tokio::time::timeout(QUIET * 5, answers.next())
            .await
            .map_err(broken)?;
        let answer = answer
            .ok_or_else(|| broken("no answer"))?
            .map_err(|s| broken(s.message()))?;
        if !answer.error.is_empty() {
            return Err(SnapshotError::Refused(answer.error));
        }
        if !answer.payload.is_empty() {
            return postcard::from_bytes(&answer.payload).map_err(broken);
        }
        for want in answer.wants {
            let chunk = wanted(shard, &source, &want).await?;
            put(SnapshotRequest {
                chunks: vec![chunk],
                ..Default::default()
            })
            .await?;
        }
        if answer.wants_done {
            put(SnapshotRequest {
                done: true,
                ..Default::default()
            })
            .await?;
        }
    }
}

async fn wanted(shard: ShardId, source: &Source, want: &Want) -> Result<Chunk, SnapshotError> {
    let at = named(&want.blob_id, want.seq)?;
    let loc = local::loc(&*source.view, source.space, at)?;
    let stored = match loc {
        Some(loc) => source.chunks.stored(shard, at, loc).await,
        None => None,
    };
    Ok(Chunk {
        blob_id: want.blob_id.clone(),
        seq: want.seq,
        missing: stored.is_none(),
        stored: stored.unwrap_or_default(),
    })
}

/// Receives rows and chunks for one replica.
pub struct Receiver {
    /// Which shard.
    pub shard: ShardId,
    /// The replica that receives.
    pub replica: ReplicaId,
    /// The node's index.
    pub index: Arc<dyn Index>,
    /// The node's journal.
    pub journal: Arc<Journal>,
    /// The fresh space.
    pub space: Space,
}

type Answers = mpsc::Sender<Result<SnapshotAnswer, tonic::Status>>;

impl Receiver {
    /// Takes everything into the fresh space. When this returns, all of it is there, and the chunks
    /// that the sender had are synced.
    pub async fn receive(
        &self,
        requests: &mut tonic::Streaming<SnapshotRequest>,
        answers: &Answers,
    ) -> Result<(), SnapshotError> {
        loop {
            let request = next(requests).await?;
            if !request.rows.is_empty() {
                let rows = request
                    .rows
                    .into_iter()
                    .map(row)
                    .collect::<Result<_, _>>()?;
                let mut batch = Batch::default();
                rows::write(&mut batch, self.space, rows)?;
                self.index.write(batch)?;
            }
            if request.rows_done {
                break;
            }
        }
        let mut after = None;
        loop {
            let (missing, more) =
                read::missing_chunks(&*self.index, self.space, after, BLOBS_PER_STEP)?;
            let missing = missing.iter().map(|m| Lacking {
                at: local::Chunk::Blob(m.blob, m.seq),
                meta: m.chunk,
            });
            self.complete(missing.collect(), requests, answers).await?;
            match more {
                Some(blob) => after = Some(blob),
                None => break,
            }
        }
        let mut after = None;
        loop {
            let (missing, more) =
                read::missing_arrivals(&*self.index, self.space, after, BLOBS_PER_STEP)?;
            let missing = missing.iter().map(|(at, meta)| Lacking {
                at: *at,
                meta: *meta,
            });
            self.complete(missing.collect(), requests, answers).await?;
            match more {
                Some(chunk) => after = Some(chunk),
                None => break,
            }
        }
        let answer = SnapshotAnswer {
            wants_done: true,
            ..Default::default()
        };
        answers
            .send(Ok(answer))
            .await
            .map_err(|_| broken("the sender is gone"))?;
        match next(requests).await?.done {
            true => Ok(()),
            false => Err(broken("the snapshot does not end where it should")),
        }
    }

    /// Gets the octets of chunks, from the replica's old space or from the sender.
    async fn complete(
        &self,
        missing: Vec<Lacking>,
        requests: &mut tonic::Streaming<SnapshotRequest>,
        answers: &Answers,
    ) -> Result<(), SnapshotError> {
        let lacking = self.reuse(missing)?;
        for wants in lacking.chunks(WANTS) {
            self.fetch(wants, requests, answers).await?;
        }
        Ok(())
    }

    /// Locates the chunks that the replica's old space has; the rest is lacking.
    fn reuse(&self, missing: Vec<Lacking>) -> Result<Vec<Lacking>, SnapshotError> {
        let Some(old) = space_of(&*self.index, self.shard)? else {
            return Ok(missing);
        };
        let mut batch = Batch::default();
        let mut lacking = Vec::new();
        for chunk in missing {
            match local::loc(&*self.index, old, chunk.at)? {
                Some(loc) if loc.crc == chunk.meta.crc => {
                    rare::hit(Rare::SnapshotChunkReused);
                    self.locate(&mut batch, &chunk, loc.location)
                }
                _ => lacking.push(chunk),
            }
        }
        self.index.write(batch)?;
        Ok(lacking)
    }

    fn locate(&self, batch: &mut Batch, chunk: &Lacking, location: Location) {
        let row = values::Row::encode(&ChunkLoc::new(location, &chunk.meta));
        batch.put(Family::Local, chunk.at.key().encode(self.space), row);
        batch.add(
            Key::SegmentLive(location.segment).encode(Space::NODE),
            location.len as i64,
        );
    }

    async fn fetch(
        &self,
        wants: &[Lacking],
        requests: &mut tonic::Streaming<SnapshotRequest>,
        answers: &Answers,
    ) -> Result<(), SnapshotError> {
        let wanted: BTreeMap<local::Chunk, &Lacking> = wants.iter().map(|w| (w.at, w)).collect();
        let ask = wants.iter().map(|w| want(w.at)).collect();
        let answer = SnapshotAnswer {
            wants: ask,
            ..Default::default()
        };
        answers
            .send(Ok(answer))
            .await
            .map_err(|_| broken("the sender is gone"))?;
        let mut found = Vec::new();
        let mut appends = Vec::new();
        let mut seen = 0;
        while seen < wants.len() {
            for chunk in next(requests).await?.chunks {
                seen += 1;
                let at = named(&chunk.blob_id, chunk.seq)?;
                let Some(want) = wanted.get(&at) else {
                    return Err(broken("a chunk that was not asked for"));
                };
                // What the sender lacks too is repaired later, from whoever has it.
                let crc = crc32fast::hash(&chunk.stored);
                if chunk.missing || crc != want.meta.crc {
                    rare::hit(Rare::SnapshotChunkMissing);
                    continue;
                }
                rare::hit(Rare::SnapshotChunkFetched);
                found.push(**want);
                appends.push(blob_record(self.shard, self.replica, chunk.stored));
            }
        }
        if appends.is_empty() {
            return Ok(());
        }
        let locations = self.journal.append(appends).await?;
        let mut batch = Batch::default();
        for (chunk, location) in found.iter().zip(locations) {
            self.locate(&mut batch, chunk, location);
        }
        self.index.write(batch)?;
        Ok(())
    }
}

/// A journal record for stored octets that belong to no entry.
pub fn blob_record(shard: ShardId, replica: ReplicaId, stored: Bytes) -> Append {
    let head = RecordHead {
        kind: RecordKind::Blob,
        shard,
        replica,
        index: 0,
        term: 0,
        leader: 0,
        codec: 0,
    };
    Append {
        head,
        payload: vec![stored],
    }
}

async fn next(
    requests: &mut tonic::Streaming<SnapshotRequest>,
) -> Result<SnapshotRequest, SnapshotError> {
    let request = tokio::time::timeout(QUIET, requests.next())
        .await
        .map_err(broken)?;
    request
        .ok_or_else(|| broken("the sender ended early"))?
        .map_err(|s| broken(s.message()))
}

fn row(row: Row) -> Result<SpaceRow, SnapshotError> {
    let family = Family::ALL
        .into_iter()
        .find(|f| *f as u32 == row.family)
        .ok_or_else(|| broken("a row of an unknown family"))?;
    Ok(SpaceRow {
        family,
        key: row.key,
        value: row.value,
    })
}

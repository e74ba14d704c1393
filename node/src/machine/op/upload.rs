//! Chunks of a blob that is still arriving.

use crate::index::keys::{Key, KeyRange, tag};
use crate::index::values::{self, ChunkLoc, UploadRow};
use crate::index::{Family, Next, View};
use crate::machine::command::{ChunkMeta, Reply, UploadId};
use crate::machine::txn::limit;
use crate::machine::{Stop, Txn, blob, limits};
use crate::rare::{self, Rare};

pub(in crate::machine) fn put_chunk(
    txn: &mut Txn,
    upload: UploadId,
    seq: u32,
    chunk: &ChunkMeta,
) -> Result<Reply, Stop> {
    if seq >= limits::CHUNKS_PER_BLOB {
        return Err(limit(format!("{} chunks in a blob", limits::CHUNKS_PER_BLOB)).into());
    }
    let key = Key::UploadChunk { upload, seq };
    if txn.has(&key)? {
        // A chunk proposed twice: the octets of the first stay.
        return Ok(Reply::Done);
    }
    let now_ms = txn.now_ms()?;
    let mut row = txn.get(&Key::Upload(upload))?.unwrap_or(UploadRow {
        started_ms: now_ms,
        chunks: 0,
    });
    row.chunks += 1;
    txn.put(&Key::Upload(upload), &row);
    txn.put(&key, chunk);
    if let Some(at) = txn.stored_at() {
        assert!(
            at.len == chunk.stored_len,
            "a chunk has {} stored octets, its location {}",
            chunk.stored_len,
            at.len
        );
        txn.put_loc(&Key::UploadLoc { upload, seq }, &ChunkLoc::new(at, chunk));
    }
    Ok(Reply::Done)
}

pub(in crate::machine) fn drop_one(txn: &mut Txn, upload: UploadId) -> Result<Reply, Stop> {
    rare::hit(Rare::UploadDropped);
    blob::drop_upload(txn, upload)?;
    Ok(Reply::Done)
}

/// Drops a few arrivals that began before a time; answers whether there are more.
pub(in crate::machine) fn drop_before(txn: &mut Txn, before_ms: u64) -> Result<Reply, Stop> {
    let mut old = Vec::new();
    let mut damaged = None;
    let range = KeyRange::tag(txn.space(), tag::UPLOAD);
    txn.scan(Family::State, &range.from, &range.to, &mut |key, value| {
        match (Key::decode(key), values::decode::<UploadRow>(key, value)) {
            (Some((_, Key::Upload(upload))), Ok(row)) if row.started_ms < before_ms => {
                old.push(upload)
            }
            (_, Err(e)) => damaged = Some(e),
            _ => {}
        }
        match old.len() <= limits::UPLOADS_DROPPED && damaged.is_none() {
            true => Next::Continue,
            false => Next::Stop,
        }
    })?;
    if let Some(e) = damaged {
        return Err(e.into());
    }
    let more = old.len() > limits::UPLOADS_DROPPED;
    for upload in old.into_iter().take(limits::UPLOADS_DROPPED) {
        blob::drop_upload(txn, upload)?;
    }
    Ok(Reply::Reaped { more })
}

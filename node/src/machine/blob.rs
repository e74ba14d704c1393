//! Blobs: counted references, and where the octets lie on this node.

use super::Txn;
use super::command::{ApplyError, BlobMeta, ChunkMeta, UploadId};
use super::{Stop, limits};
use crate::index::IndexError;
use crate::index::keys::Key;
use crate::index::values::{BlobRow, ChunkLoc};
use crate::rare::{self, Rare};
use crate::types::*;

/// Whether the octets of a blob are all there: those of one chunk travel with the command, those of
/// several came before, each as the blob says.
pub fn check_arrived(txn: &Txn, blob: &BlobMeta) -> Result<(), Stop> {
    let chunks = &blob.chunks;
    if chunks.is_empty() || chunks.len() > limits::CHUNKS_PER_BLOB as usize {
        return Err(ApplyError::Limit(format!(
            "a blob has 1 to {} chunks, not {}",
            limits::CHUNKS_PER_BLOB,
            chunks.len()
        ))
        .into());
    }
    if chunks.iter().map(|c| c.raw_len as u64).sum::<u64>() != blob.size {
        return Err(ApplyError::Refused("the chunks do not add up to the blob".into()).into());
    }
    let Some(upload) = blob.upload else {
        return match chunks.len() {
            1 => Ok(()),
            _ => Err(ApplyError::NoUpload.into()),
        };
    };
    for (seq, chunk) in (0..).zip(chunks) {
        let arrived: Option<ChunkMeta> = txn.get(&Key::UploadChunk { upload, seq })?;
        if arrived != Some(*chunk) {
            return Err(ApplyError::NoUpload.into());
        }
    }
    Ok(())
}

/// Adds `refs` references to a blob that has arrived.
pub fn add_refs(txn: &mut Txn, blob: &BlobMeta, refs: u64) -> Result<(), Stop> {
    assert!(refs > 0, "a blob without references is never stored");
    let key = Key::Blob(blob.id);
    let (row, new) = match txn.get::<BlobRow>(&key)? {
        Some(mut row) => {
            rare::hit(Rare::BlobShared);
            row.refs += refs;
            (row, false)
        }
        None => {
            let row = BlobRow {
                refs,
                size: blob.size,
                chunks: blob.chunks.clone(),
            };
            (row, true)
        }
    };
    // Octets that are there stay where they are. Missing ones (damage) are taken from this arrival
    // where it is stored the same way. Those of a new blob go with its last reference, so there is
    // nothing to look for.
    for (seq, chunk) in (0..).zip(&blob.chunks) {
        let key = Key::BlobLoc { blob: blob.id, seq };
        if row.chunks.get(seq as usize) != Some(chunk) || (!new && txn.has(&key)?) {
            continue;
        }
        let arrived = match blob.upload {
            None => txn.stored_at().map(|at| ChunkLoc::new(at, chunk)),
            Some(upload) => txn.get(&Key::UploadLoc { upload, seq })?,
        };
        if let Some(loc) = arrived {
            assert!(
                loc.location.len == chunk.stored_len,
                "chunk {seq} of blob {} has {} stored octets, its location {}",
                blob.id,
                chunk.stored_len,
                loc.location.len
            );
            txn.put_loc(&key, &loc);
        }
    }
    txn.put(&key, &row);
    Ok(())
}

/// Takes one reference away; with the last one the blob goes.
pub fn drop_ref(txn: &mut Txn, blob: BlobId) -> Result<(), IndexError> {
    let key = Key::Blob(blob);
    let mut row: BlobRow = txn.need(&key)?;
    if row.refs > 1 {
        row.refs -= 1;
        txn.put(&key, &row);
        return Ok(());
    }
    txn.delete(&key);
    for seq in 0..row.chunks.len() as u32 {
        txn.delete_loc(&Key::BlobLoc { blob, seq })?;
    }
    Ok(())
}

/// Forgets an arrival, if it is there: a blob that was made from it has rows of its own.
pub fn drop_upload(txn: &mut Txn, upload: UploadId) -> Result<(), IndexError> {
    if !txn.has(&Key::Upload(upload))? {
        return Ok(());
    }
    txn.delete(&Key::Upload(upload));
    let like = Key::UploadChunk { upload, seq: 0 };
    let last = Key::UploadChunk {
        upload,
        seq: u32::MAX,
    };
    let range = crate::index::keys::KeyRange::inclusive(&like, &last, txn.space());
    for key in txn.keys(like.family(), &range, limits::CHUNKS_PER_BLOB as usize)? {
        if let Some((_, Key::UploadChunk { upload, seq })) = Key::decode(&key) {
            txn.delete(&Key::UploadChunk { upload, seq });
            txn.delete_loc(&Key::UploadLoc { upload, seq })?;
        }
    }
    Ok(())
}

//! Every blob that a row names is there, on every replica, octet for octet: each chunk has a
//! location, its record can be read from the node's own journal, and all of them together have the
//! BLAKE3 that is the blob's name. Copies that nobody has read are the ones that are missed last
//! (Bairavasundaram et al., FAST '08).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use posthouse_node::api::cluster::Running;
use posthouse_node::index::keys::{Key, KeyRange};
use posthouse_node::index::values::{self, BlobRow};
use posthouse_node::index::{Family, Next};
use posthouse_node::machine::read;
use posthouse_node::raft::Shard;
use posthouse_node::types::BlobId;
use posthouse_node::types::Codec;

/// How often a blob that is not whole is read again, and after which pause.
const AGAIN: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// Name in reports.
pub const NAME: &str = "blobs";

/// Reads every blob of a node's replicas from its own disk. Gives what is wrong, in words.
pub async fn verify(running: Arc<Running>) -> Vec<String> {
    let mut wrong = Vec::new();
    for shard in running.groups.shards().all() {
        let id = shard.id();
        for (blob, row) in blobs(&shard) {
            let mut tried = whole(&running, &shard, blob, &row).await;
            for _ in 0..AGAIN {
                // It may have moved, or its last message may have gone, while it was read.
                if tried.is_ok() || !is_named(&shard, blob) {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
                tried = whole(&running, &shard, blob, &row).await;
            }
            if let (Err(why), true) = (tried, is_named(&shard, blob)) {
                wrong.push(format!(
                    "shard {id}: blob {blob} of {} octets: {why}",
                    row.size
                ));
            }
        }
    }
    wrong
}

/// Whether a row still names the blob.
fn is_named(shard: &Shard, blob: BlobId) -> bool {
    let Ok(rows) = shard.local_view() else {
        return true;
    };
    !matches!(read::blob(&*rows.view, rows.space, blob), Ok(None))
}

/// The blobs that a replica has rows of.
pub fn blobs(shard: &Shard) -> Vec<(BlobId, BlobRow)> {
    let Ok(rows) = shard.local_view() else {
        return Vec::new();
    };
    let range = KeyRange::space(rows.space);
    let mut found = Vec::new();
    // An index that cannot be scanned is found by the audit.
    let _ = rows
        .view
        .scan(Family::State, &range.from, &range.to, &mut |key, value| {
            if let Some((_, Key::Blob(blob))) = Key::decode(key)
                && let Ok(row) = values::decode::<BlobRow>(key, value)
            {
                found.push((blob, row));
            }
            Next::Continue
        });
    found
}

async fn whole(
    running: &Running,
    shard: &Shard,
    blob: BlobId,
    row: &BlobRow,
) -> Result<(), String> {
    let journal = running.groups.journal();
    let mut hash = blake3::Hasher::new();
    for seq in 0..row.chunks.len() as u32 {
        let rows = shard.local_view().map_err(|e| e.to_string())?;
        let loc = read::chunk_loc(&*rows.view, rows.space, blob, seq).map_err(|e| e.to_string())?;
        let loc = loc.ok_or_else(|| format!("chunk {seq} is not here"))?;
        // Nothing is read where nothing lies.
        if loc.location.len == 0 {
            continue;
        }
        let stored = journal.read_part(loc.location).await;
        let stored = stored.map_err(|e| format!("chunk {seq} cannot be read: {e}"))?;
        let raw = match loc.codec {
            Codec::Raw => stored,
            Codec::Zstd => zstd::bulk::decompress(&stored, loc.raw_len as usize)
                .map(Bytes::from)
                .map_err(|e| {
                    format!("chunk {seq} at {:?} does not decompress: {e}", loc.location)
                })?,
        };
        hash.update(&raw);
    }
    match BlobId(*hash.finalize().as_bytes()) == blob {
        true => Ok(()),
        false => Err("its octets are not what its name says".into()),
    }
}

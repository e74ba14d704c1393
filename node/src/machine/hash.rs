//! The state hash: equal on all replicas of a shard at an equal applied index.

use crate::index::keys::{KeyRange, Space};
use crate::index::{IndexError, Next, View};
use crate::machine::rows::REPLICATED;

/// BLAKE3 over the replicated rows of a space, and how many there are.
///
/// Hashed for each row in the order of families and keys: family (u8), length of key and of value
/// (u32, big-endian), key without its space, value.
pub fn state(view: &dyn View, space: Space) -> Result<([u8; 32], u64), IndexError> {
    let mut hash = blake3::Hasher::new();
    let mut rows = 0;
    let range = KeyRange::space(space);
    for family in REPLICATED {
        view.scan(family, &range.from, &range.to, &mut |key, value| {
            let key = &key[4..];
            hash.update(&[family as u8]);
            hash.update(&(key.len() as u32).to_be_bytes());
            hash.update(&(value.len() as u32).to_be_bytes());
            hash.update(key);
            hash.update(value);
            rows += 1;
            Next::Continue
        })?;
    }
    Ok((*hash.finalize().as_bytes(), rows))
}

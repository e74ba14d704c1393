//! Replicas are equal: the same state hash at the same applied position, at any time and on any
//! node (state machine safety, Ongaro 2014, figure 3.2); at the end their audits find nothing, and
//! every blob that a row names can be read whole where the row says.

use std::collections::BTreeMap;

use super::Findings;

/// Name in reports.
pub const NAME: &str = "replicas";

/// The state hash of every applied position of every shard that was seen.
#[derive(Default)]
pub struct Replicas {
    hashes: BTreeMap<(u32, u64), ([u8; 32], u32)>,
}

impl Replicas {
    /// A replica of `shard` on `node` has applied this much and has this hash.
    pub fn look(&mut self, node: u32, shard: u32, state: (u64, [u8; 32]), found: &mut Findings) {
        let (applied, hash) = state;
        let (known, first) = *self.hashes.entry((shard, applied)).or_insert((hash, node));
        if known != hash {
            let what = format!("shard {shard} at entry {applied} differs from node{first}'s");
            found.report(NAME, Some(node), what);
        }
    }
}

//! Carries on transfers between accounts whose leader died, or whose target did not answer; and
//! has targets forget those that are over. Only the leader of the source's shard does; what is left
//! to do stands in the rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;

use crate::machine::transfers;
use crate::mailbox::{Led, MailboxError, Operations};
use crate::raft::Shards;
use crate::types::*;

/// Transfers of one shard that one turn looks at. Those that nothing can be done about, because
/// their target does not answer, must not hide the others for ever: their order is that of accounts,
/// so this is a bound on memory alone.
const PER_TURN: usize = 10_000;
/// Transfers that are worked on at once.
const AT_ONCE: usize = 16;

/// The worker.
pub struct Transfers {
    /// The own replicas.
    pub shards: Arc<Shards>,
    /// What carries them on.
    pub ops: Arc<Operations>,
}

impl Transfers {
    /// One turn over all data shards that are led here.
    pub async fn turn(&self) -> anyhow::Result<Option<String>> {
        let (mut carried, mut settled) = (0, 0);
        let mut failed = None;
        for shard in self.shards.all() {
            if shard.id() == ShardId::SYSTEM || !shard.is_leader() {
                continue;
            }
            let rows = shard.local_view()?;
            let unsettled = transfers::unsettled(&*rows.view, rows.space, PER_TURN)?;
            drop(rows);
            let led = Led {
                shard: shard.id(),
                replica: shard,
            };
            let open = unsettled.iter().filter(|(_, row)| !row.over);
            let open: Vec<_> = open.map(|(id, _)| *id).collect();
            let over = unsettled.iter().filter(|(_, row)| row.over);
            let over: BTreeSet<_> = over.map(|(id, row)| (id.source, row.to.account)).collect();
            for some in open.chunks(AT_ONCE) {
                let idle = some.iter().filter(|id| !self.ops.has_in_hand(**id));
                let done = idle.map(|id| self.ops.carry_transfer(&led, *id));
                for done in join_all(done).await {
                    match done {
                        Err(e @ MailboxError::Unavailable(_)) => failed = Some(e),
                        // Its target's refusal ends it, too.
                        _ => carried += 1,
                    }
                }
            }
            let over: Vec<_> = over.into_iter().collect();
            for some in over.chunks(AT_ONCE) {
                let done = some
                    .iter()
                    .map(|(source, target)| self.ops.settle_transfers(&led, *source, *target));
                for done in join_all(done).await {
                    match done {
                        Ok(()) => settled += 1,
                        Err(e) => failed = Some(e),
                    }
                }
            }
        }
        match failed {
            Some(e) => Err(e.into()),
            None if carried + settled == 0 => Ok(None),
            None => Ok(Some(format!("{carried} carried on, {settled} settled"))),
        }
    }
}

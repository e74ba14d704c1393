//! What is left behind and removed later, in bounded steps: rows of deleted accounts, chunks of
//! arrivals whose leader died. The node's reaper calls these for the shards that it leads.

use std::time::Duration;

use super::{Led, Operations, Result, unexpected};
use crate::machine::command::{Op, Reply};
use crate::machine::read;
use crate::types::*;

/// Messages that one `ReapAccount` removes.
pub const REAP_STEP: u32 = 1000;
/// An arrival that is older has lost its sender: no upload lasts so long.
pub const UPLOAD_AGE: Duration = Duration::from_secs(3600);

impl Operations {
    /// Removes the rows of one deleted account of a shard that this node leads; false when there is
    /// none.
    pub async fn reap_one(&self, shard: ShardId) -> Result<bool> {
        let led = self.replica(shard)?;
        let view = self.read(&led).await?;
        match read::reapable(&*view.view, view.space)? {
            Some(account) => self.reap(&led, account).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Drops chunks of arrivals older than [`UPLOAD_AGE`] of a shard that this node leads. Costs
    /// the log an entry even when there are none: call it once in a while.
    pub async fn drop_old_uploads(&self, shard: ShardId) -> Result<()> {
        let led = self.replica(shard)?;
        let age_ms = UPLOAD_AGE.as_millis() as u64;
        loop {
            let before_ms = self.env.clock.now_ms().saturating_sub(age_ms);
            match self
                .propose(&led, Op::DropUploadsBefore { before_ms })
                .await?
            {
                Reply::Reaped { more: true } => (),
                Reply::Reaped { more: false } | Reply::Done | Reply::Error(_) => return Ok(()),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Removes the rows of a deleted account, step by step, until none is left.
    pub(super) async fn reap(&self, led: &Led, account: AccountId) -> Result<()> {
        loop {
            let op = Op::ReapAccount {
                account,
                limit: REAP_STEP,
            };
            match self.propose(led, op).await? {
                Reply::Reaped { more: true } => (),
                Reply::Reaped { more: false } | Reply::Error(_) => return Ok(()),
                other => return Err(unexpected(&other)),
            }
        }
    }
}

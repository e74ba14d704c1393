//! Deletes an account: its name at once, its rows in bounded steps.
//!
//! An account may hold millions of messages, and one command must not stall its shard; so the
//! name goes first, in one command, and `ReapAccount` commands remove the rest. The first of them
//! follow here; what is left when the caller's patience ends is the shard's reaper's.

use std::time::Duration;

use super::{Led, Operations, Result, What, check, error::from_apply, unexpected};
use crate::machine::command::{Op, Reply};
use crate::machine::read;
use crate::types::*;

/// Messages that one `ReapAccount` removes.
pub const REAP_STEP: u32 = 1000;
/// How long a deletion goes on reaping before it answers.
const REAP_WHILE: Duration = Duration::from_secs(1);

impl Operations {
    /// Deletes an account with everything in it. A retry with the same request_id gets the first
    /// answer.
    pub async fn delete_account(&self, request_id: &[u8], account: &str) -> Result<()> {
        let request_id = check::request_id(request_id)?;
        let name = check::account("account", account)?;
        let led = self.replica_of(&name)?;
        let op = Op::DeleteAccount { request_id, name };
        match self.propose(&led, op).await? {
            Reply::Account { account, .. } => {
                // The account is deleted whatever becomes of this: the reaper finishes it.
                let _ = tokio::time::timeout(REAP_WHILE, self.reap(&led, account)).await;
                Ok(())
            }
            Reply::Done => Ok(()),
            Reply::Error(e) => Err(from_apply(e, What::Account)),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes the rows of a deleted account, step by step, until none is left.
    async fn reap(&self, led: &Led, account: AccountId) -> Result<()> {
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

    /// Removes the rows of one deleted account of a shard that this node leads; false when there is
    /// none. For the worker that reaps.
    pub async fn reap_one(&self, shard: ShardId) -> Result<bool> {
        let led = self.replica(shard)?;
        let view = self.read(&led).await?;
        match read::reapable(&*view.view, view.space)? {
            Some(account) => self.reap(&led, account).await.map(|()| true),
            None => Ok(false),
        }
    }
}

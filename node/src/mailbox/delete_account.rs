//! Deletes an account: its name at once, its rows in bounded steps.
//!
//! An account may hold millions of messages, and one command must not stall its shard; so the
//! name goes first, in one command, which is all that the caller waits for. The shard's reaper
//! removes the rest.

use super::{Operations, Result, What, check, error::from_apply, unexpected};
use crate::machine::command::{Op, Reply};

impl Operations {
    /// Deletes an account with everything in it. A retry with the same request_id gets the first
    /// answer.
    pub async fn delete_account(&self, request_id: &[u8], account: &str) -> Result<()> {
        let request_id = check::request_id(request_id)?;
        let name = check::account("account", account)?;
        let led = self.replica_of(&name)?;
        match self
            .propose(&led, Op::DeleteAccount { request_id, name })
            .await?
        {
            Reply::Account { .. } | Reply::Done => Ok(()),
            Reply::Error(e) => Err(from_apply(e, What::Account)),
            other => Err(unexpected(&other)),
        }
    }
}

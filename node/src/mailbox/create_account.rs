//! Creates an account with its INBOX.

use super::{Operations, Result, What, check, error::from_apply, unexpected};
use crate::machine::command::{Op, Reply};
use crate::types::*;

/// An account, as the public contract shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInfo {
    /// Its name.
    pub name: AccountName,
    /// Its number.
    pub id: AccountId,
    /// When it was created, ms since the epoch.
    pub created_ms: u64,
    /// Its change counter.
    pub highest_modseq: ModSeq,
    /// Who may do what with it.
    pub state: AccountState,
}

impl Operations {
    /// Creates an account. A retry with the same request_id gets the first answer.
    pub async fn create_account(&self, request_id: &[u8], account: &str) -> Result<AccountInfo> {
        let request_id = check::request_id(request_id)?;
        let name = check::account("account", account)?;
        let led = self.replica_of(&name)?;
        let op = Op::CreateAccount {
            request_id,
            name: name.clone(),
        };
        match self.propose(&led, op).await? {
            Reply::Account {
                account,
                created_ms,
            } => Ok(AccountInfo {
                name,
                id: account,
                created_ms,
                // Its INBOX is its first change.
                highest_modseq: 1,
                state: AccountState::Active,
            }),
            Reply::Error(e) => Err(from_apply(e, What::Account)),
            other => Err(unexpected(&other)),
        }
    }
}

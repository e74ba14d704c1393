//! Accounts: one by its name, the pages of a shard, the usage of one.

use super::create_account::AccountInfo;
use super::limits::{DEFAULT_PAGE, MAX_PAGE};
use super::{MailboxError, Operations, Result, What, check};
use crate::index::values::AccountRow;
use crate::machine::read;
use crate::raft::shard::ReadView;
use crate::types::*;

/// What an account holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Messages.
    pub messages: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    /// Mailboxes.
    pub mailboxes: u64,
    /// Messages without \Seen.
    pub unseen: u64,
    /// Messages with \Deleted.
    pub deleted: u64,
    /// The account's modseq.
    pub account_modseq: ModSeq,
}

/// An account as callers see it.
pub(super) fn info(id: AccountId, row: AccountRow) -> AccountInfo {
    AccountInfo {
        name: row.name,
        id,
        created_ms: row.created_ms,
        highest_modseq: row.highest_modseq,
        state: row.state,
    }
}

/// An account of a view, or not found.
pub(super) fn find(view: &ReadView, name: &AccountName) -> Result<(AccountId, AccountRow)> {
    read::account(&*view.view, view.space, name)?.ok_or(MailboxError::NotFound(What::Account))
}

/// Page size: 0 asks for the usual one, more than allowed for the largest.
pub(super) fn page_limit(asked: u32) -> usize {
    match asked {
        0 => DEFAULT_PAGE as usize,
        n => n.min(MAX_PAGE) as usize,
    }
}

impl Operations {
    /// One account.
    pub async fn get_account(&self, account: &str) -> Result<AccountInfo> {
        let name = check::account("account", account)?;
        let view = self.read(&self.replica_of(&name)?).await?;
        find(&view, &name).map(|(id, row)| info(id, row))
    }

    /// A page of the accounts of a data shard, and the token of the next page, empty at the end.
    pub async fn list_accounts(
        &self,
        shard: u32,
        page_token: &[u8],
        limit: u32,
    ) -> Result<(Vec<AccountInfo>, Vec<u8>)> {
        let shard = ShardId(shard);
        if shard == ShardId::SYSTEM {
            return Err(MailboxError::bad("shard", "shard 0 holds no accounts"));
        }
        if !self.routes.has_shard(shard) {
            return Err(match self.routes.cluster_id() {
                Some(_) => MailboxError::NotFound(What::Shard),
                None => MailboxError::NotInitialized,
            });
        }
        let after = match page_token {
            [] => None,
            token => Some(
                std::str::from_utf8(token)
                    .ok()
                    .and_then(|name| AccountName::new(name).ok())
                    .ok_or_else(|| MailboxError::bad("page_token", "not a token of this call"))?,
            ),
        };
        let view = self.read(&self.replica(shard)?).await?;
        let limit = page_limit(limit);
        let (page, next) = read::accounts(&*view.view, view.space, after.as_ref(), limit)?;
        let accounts = page.into_iter().map(|(id, row)| info(id, row)).collect();
        let token = next.map(|name| name.as_str().as_bytes().to_vec());
        Ok((accounts, token.unwrap_or_default()))
    }

    /// What an account holds, from its counters.
    pub async fn usage(&self, account: &str) -> Result<Usage> {
        let name = check::account("account", account)?;
        let view = self.read(&self.replica_of(&name)?).await?;
        let (_, row) = find(&view, &name)?;
        Ok(Usage {
            messages: row.messages,
            bytes: row.bytes,
            mailboxes: row.mailboxes,
            unseen: row.unseen,
            deleted: row.deleted,
            account_modseq: row.highest_modseq,
        })
    }
}

//! The mailboxes of an account with their counters, in one read.

use super::create_mailbox::MailboxInfo;
use super::{MailboxError, Operations, Result, What, check, list_accounts};
use crate::index::values::MailboxRow;
use crate::machine::read;
use crate::raft::shard::ReadView;
use crate::types::*;

/// A mailbox of a view.
pub(super) struct Found {
    pub(super) account: AccountId,
    pub(super) mailbox: MailboxId,
    pub(super) row: MailboxRow,
}

/// A mailbox of a view, or what of it was not found.
pub(super) fn find(
    view: &ReadView,
    account: &AccountName,
    which: impl Into<MailboxRef>,
) -> Result<Found> {
    let (account, _) = list_accounts::find(view, account)?;
    let found = read::mailbox(&*view.view, view.space, account, &which.into())?;
    let (mailbox, row) = found.ok_or(MailboxError::NotFound(What::Mailbox))?;
    Ok(Found {
        account,
        mailbox,
        row,
    })
}

/// A mailbox as the public contract shows it.
pub(super) fn info(id: MailboxId, row: MailboxRow) -> MailboxInfo {
    MailboxInfo {
        name: row.name,
        id,
        uidvalidity: row.uidvalidity,
        uidnext: row.uidnext,
        highest_modseq: row.highest_modseq,
        messages: row.messages,
        unseen: row.unseen,
        deleted: row.deleted,
        bytes: row.bytes,
    }
}

impl Operations {
    /// All mailboxes of an account, and its modseq.
    pub async fn list_mailboxes(&self, account: &str) -> Result<(Vec<MailboxInfo>, ModSeq)> {
        let name = check::account("account", account)?;
        let view = self.read(&self.replica_of(&name)?).await?;
        let (id, row) = list_accounts::find(&view, &name)?;
        let mailboxes = read::mailboxes(&*view.view, view.space, id)?;
        let mailboxes = mailboxes.into_iter().map(|(id, row)| info(id, row));
        Ok((mailboxes.collect(), row.highest_modseq))
    }
}

//! The mailboxes of an account with their counters, and its subscriptions, in one read: enough for
//! LIST with STATUS and SPECIAL-USE (RFC 5819, RFC 6154).

use std::collections::BTreeSet;

use super::create_mailbox::MailboxInfo;
use super::{Led, MailboxError, Operations, Result, What, check, list_accounts};
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

impl Found {
    /// As the public contract shows it.
    pub(super) fn info(self, view: &ReadView) -> Result<MailboxInfo> {
        let name = &self.row.name;
        let subscribed = read::is_subscribed(&*view.view, view.space, self.account, name)?;
        Ok(info(self.mailbox, self.row, subscribed))
    }
}

/// A mailbox as the public contract shows it.
fn info(id: MailboxId, row: MailboxRow, subscribed: bool) -> MailboxInfo {
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
        special_use: row.special_use,
        subscribed,
    }
}

/// All mailboxes of an account, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxList {
    /// In the order of their numbers.
    pub mailboxes: Vec<MailboxInfo>,
    /// The account's modseq.
    pub highest_modseq: ModSeq,
    /// All names that it subscribes to, also those that no mailbox has.
    pub subscriptions: Vec<String>,
}

impl Operations {
    /// All mailboxes of an account, and its subscriptions.
    pub async fn list_mailboxes(&self, account: &str) -> Result<MailboxList> {
        let name = check::account("account", account)?;
        let view = self.read(&self.replica_of(&name)?).await?;
        let (id, row) = list_accounts::find(&view, &name)?;
        let subscriptions = read::subscriptions(&*view.view, view.space, id)?;
        let known: BTreeSet<&str> = subscriptions.iter().map(String::as_str).collect();
        let mailboxes = read::mailboxes(&*view.view, view.space, id)?;
        let mailboxes = mailboxes.into_iter().map(|(id, row)| {
            let subscribed = known.contains(row.name.as_str());
            info(id, row, subscribed)
        });
        Ok(MailboxList {
            mailboxes: mailboxes.collect(),
            highest_modseq: row.highest_modseq,
            subscriptions,
        })
    }

    /// A mailbox that a command made or changed, as it is now; as the command left it, if it is
    /// gone by now (a late retry gets the first answer).
    pub(super) async fn now(
        &self,
        led: &Led,
        account: &AccountName,
        first: MailboxInfo,
    ) -> Result<MailboxInfo> {
        // The change is made, also when nobody can say any more what the mailbox is by now.
        let view = self.read(led).await.map_err(MailboxError::begun)?;
        let which = MailboxRef::Id {
            id: first.id,
            uidvalidity: first.uidvalidity,
        };
        match find(&view, account, which) {
            Ok(found) => found.info(&view),
            Err(MailboxError::NotFound(_)) => Ok(first),
            Err(e) => Err(e),
        }
    }
}

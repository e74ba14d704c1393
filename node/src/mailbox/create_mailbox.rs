//! Creates a mailbox (RFC 9051, section 6.3.4; with special uses, RFC 6154, section 3).

use super::{Operations, Result, What, check, error::from_apply, unexpected};
use crate::machine::command::{Op, Reply};
use crate::types::*;

/// A mailbox, as the public contract shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxInfo {
    /// Its name.
    pub name: MailboxName,
    /// Its number inside the account.
    pub id: MailboxId,
    /// Its era.
    pub uidvalidity: u32,
    /// The uid of the next message.
    pub uidnext: Uid,
    /// Highest modseq of a change in it.
    pub highest_modseq: ModSeq,
    /// Number of messages.
    pub messages: u64,
    /// Those without \Seen.
    pub unseen: u64,
    /// Those with \Deleted.
    pub deleted: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    /// Bits of [`special_use`](crate::index::values::special_use).
    pub special_use: u16,
    /// Whether the account subscribes to its name.
    pub subscribed: bool,
}

impl Operations {
    /// Creates a mailbox and the parents that its name needs; answers it and the account's modseq.
    /// A retry with the same request_id gets the first answer.
    pub async fn create_mailbox(
        &self,
        request_id: &[u8],
        account: &str,
        mailbox: &str,
        special_use: &[String],
    ) -> Result<(MailboxInfo, ModSeq)> {
        let request_id = check::request_id(request_id)?;
        let account = check::account("account", account)?;
        let name = check::mailbox("mailbox", mailbox)?;
        let special_use = check::special_use("special_use", special_use)?;
        let led = self.replica_of(&account)?;
        let op = Op::CreateMailbox {
            request_id,
            account: account.clone(),
            mailbox: name.clone(),
            special_use,
        };
        match self.propose(&led, op).await? {
            Reply::Mailbox {
                mailbox,
                uidvalidity,
                modseq,
            } => {
                let first = MailboxInfo {
                    special_use,
                    ..MailboxInfo::new(name, mailbox, uidvalidity, modseq)
                };
                Ok((self.now(&led, &account, first).await?, modseq))
            }
            Reply::Error(e) => Err(from_apply(e, What::Mailbox)),
            other => Err(unexpected(&other)),
        }
    }
}

impl MailboxInfo {
    /// One without messages.
    pub(super) fn new(
        name: MailboxName,
        id: MailboxId,
        uidvalidity: u32,
        highest_modseq: ModSeq,
    ) -> MailboxInfo {
        MailboxInfo {
            name,
            id,
            uidvalidity,
            uidnext: 1,
            highest_modseq,
            messages: 0,
            unseen: 0,
            deleted: 0,
            bytes: 0,
            special_use: 0,
            subscribed: false,
        }
    }
}

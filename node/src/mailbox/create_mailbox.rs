//! Creates a mailbox (RFC 9051, section 6.3.4).

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
}

impl Operations {
    /// Creates a mailbox; answers it and the account's modseq. A retry with the same request_id
    /// gets the first answer.
    pub async fn create_mailbox(
        &self,
        request_id: &[u8],
        account: &str,
        mailbox: &str,
    ) -> Result<(MailboxInfo, ModSeq)> {
        let request_id = check::request_id(request_id)?;
        let account = check::account("account", account)?;
        let name = check::mailbox("mailbox", mailbox)?;
        let led = self.replica_of(&account)?;
        let op = Op::CreateMailbox {
            special_use: 0,
            request_id,
            account,
            mailbox: name.clone(),
        };
        match self.propose(&led, op).await? {
            Reply::Mailbox {
                mailbox,
                uidvalidity,
                modseq,
            } => Ok((
                MailboxInfo {
                    name,
                    id: mailbox,
                    uidvalidity,
                    uidnext: 1,
                    highest_modseq: modseq,
                    messages: 0,
                    unseen: 0,
                    deleted: 0,
                    bytes: 0,
                },
                modseq,
            )),
            Reply::Error(e) => Err(from_apply(e, What::Mailbox)),
            other => Err(unexpected(&other)),
        }
    }
}

//! Renames a mailbox with all its children (RFC 9051, section 6.3.6), in one command.
//!
//! INBOX stays: "renaming" it creates the target and moves all messages into it, in bounded steps
//! like those of [`super::split`]. Which messages is settled by the command that creates the
//! target: those that were there before it, so that a retry never moves mail that came since. A
//! renaming that broke off midway is finished by its retry; until then, each message is in one of
//! the two mailboxes.

use super::check::MailboxFields;
use super::create_mailbox::MailboxInfo;
use super::{Led, MailboxError, Operations, Result, What, check, error::from_apply, split};
use super::{list_mailboxes, unexpected};
use crate::machine::command::{CopyMessages, Op, Reply};
use crate::machine::read;
use crate::types::*;

impl Operations {
    /// Renames a mailbox; answers it and the account's modseq. A retry with the same request_id
    /// gets the first answer.
    pub async fn rename_mailbox(
        &self,
        request_id: &[u8],
        account: &str,
        mailbox: impl Into<MailboxFields>,
        to: &str,
    ) -> Result<(MailboxInfo, ModSeq)> {
        let request_id = check::request_id(request_id)?;
        let account = check::account("account", account)?;
        let mailbox = mailbox.into().check("mailbox")?;
        let to = check::mailbox("to", to)?;
        let led = self.replica_of(&account)?;
        if self.is_inbox(&led, &account, &mailbox).await? {
            return self.rename_inbox(&led, request_id, account, to).await;
        }
        let op = Op::RenameMailbox {
            request_id,
            account: account.clone(),
            mailbox,
            to: to.clone(),
        };
        let (first, modseq) = self.made(&led, op, to).await?;
        Ok((self.now(&led, &account, first).await?, modseq))
    }

    /// Proposes a command that makes or renames a mailbox.
    async fn made(&self, led: &Led, op: Op, name: MailboxName) -> Result<(MailboxInfo, ModSeq)> {
        match self.propose(led, op).await? {
            Reply::Mailbox {
                mailbox,
                uidvalidity,
                modseq,
            } => {
                let info = MailboxInfo::new(name, mailbox, uidvalidity, modseq);
                Ok((info, modseq))
            }
            Reply::Error(e) => Err(from_apply(e, What::Mailbox)),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether this is INBOX, which keeps its name and its number.
    async fn is_inbox(
        &self,
        led: &Led,
        account: &AccountName,
        mailbox: &MailboxRef,
    ) -> Result<bool> {
        if let MailboxRef::Name(name) = mailbox {
            return Ok(*name == MailboxName::inbox());
        }
        let view = self.read(led).await?;
        match list_mailboxes::find(&view, account, mailbox) {
            Ok(found) => Ok(found.row.name == MailboxName::inbox()),
            // The command knows better: it may be a retry.
            Err(MailboxError::NotFound(_)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn rename_inbox(
        &self,
        led: &Led,
        request_id: RequestId,
        account: AccountName,
        to: MailboxName,
    ) -> Result<(MailboxInfo, ModSeq)> {
        let op = Op::CreateMailbox {
            request_id: split::derive(request_id, split::TARGET),
            account: account.clone(),
            mailbox: to.clone(),
            special_use: 0,
        };
        let (first, mut modseq) = self.made(led, op, to).await?;
        let view = self.read(led).await.map_err(MailboxError::begun)?;
        let inbox = list_mailboxes::find(&view, &account, MailboxName::inbox())?;
        let (rows, space) = (&*view.view, view.space);
        let came = read::first_created_after(rows, space, inbox.account, inbox.mailbox, modseq)?;
        let end = came.unwrap_or(inbox.row.uidnext);
        drop(view);
        if end > 1 {
            for step in split::steps(request_id, &vec![(1, end - 1)], end) {
                let op = Op::Move(CopyMessages {
                    request_id: step.request_id,
                    account: account.clone(),
                    from: MailboxRef::Name(MailboxName::inbox()),
                    uids: step.uids,
                    to: MailboxRef::Id {
                        id: first.id,
                        uidvalidity: first.uidvalidity,
                    },
                });
                match self.propose(led, op).await.map_err(MailboxError::begun)? {
                    Reply::Copied { modseq: now, .. } => modseq = modseq.max(now),
                    Reply::Error(e) => return Err(from_apply(e, What::Mailbox)),
                    other => return Err(unexpected(&other)),
                }
            }
        }
        Ok((self.now(led, &account, first).await?, modseq))
    }
}

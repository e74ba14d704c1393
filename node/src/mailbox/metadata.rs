//! Annotations of mailboxes and accounts (RFC 5464).

use super::check::MailboxFields;
use super::{Operations, Result, check, list_accounts, list_mailboxes};
use crate::machine::command::Op;
use crate::machine::read;
use crate::types::*;

/// Annotations, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotations {
    /// Entries in lower case, and their values.
    pub entries: Vec<(String, Vec<u8>)>,
    /// The account's modseq.
    pub modseq: ModSeq,
}

/// Whose annotations these fields mean; `None`: the account's own.
fn owner(fields: &MailboxFields) -> Result<Option<MailboxRef>> {
    match fields.id == 0 && fields.name.is_empty() {
        true => Ok(None),
        false => fields.check("mailbox").map(Some),
    }
}

impl Operations {
    /// All annotations of a mailbox; without name and number, the account's own.
    pub async fn get_metadata(
        &self,
        account: &str,
        mailbox: impl Into<MailboxFields>,
    ) -> Result<Annotations> {
        let account = check::account("account", account)?;
        let owner = owner(&mailbox.into())?;
        let view = self.read(&self.replica_of(&account)?).await?;
        let (id, row) = list_accounts::find(&view, &account)?;
        let mailbox = match owner {
            Some(which) => list_mailboxes::find(&view, &account, which)?.mailbox,
            None => MailboxId(0),
        };
        Ok(Annotations {
            entries: read::annotations(&*view.view, view.space, id, mailbox)?,
            modseq: row.highest_modseq,
        })
    }

    /// Sets annotations of a mailbox, or the account's own, or removes them (`None`): all or none.
    /// Answers the account's modseq.
    pub async fn set_metadata(
        &self,
        request_id: &[u8],
        account: &str,
        mailbox: impl Into<MailboxFields>,
        entries: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<ModSeq> {
        let request_id = check::request_id(request_id)?;
        let account = check::account("account", account)?;
        let mailbox = owner(&mailbox.into())?;
        let entries = check::annotations("annotations", entries.into_iter())?;
        let led = self.replica_of(&account)?;
        let op = Op::SetMetadata {
            request_id,
            account,
            mailbox,
            entries,
        };
        self.change(&led, op).await
    }
}

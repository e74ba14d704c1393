//! Deletes a mailbox (RFC 9051, section 6.3.5): its name at once, its rows in bounded steps, by the
//! shard's reaper.

use super::check::MailboxFields;
use super::{Operations, Result, check};
use crate::machine::command::Op;
use crate::types::*;

impl Operations {
    /// Deletes a mailbox with its messages; its children stay, and INBOX cannot be deleted.
    /// Answers the account's modseq.
    pub async fn delete_mailbox(
        &self,
        request_id: &[u8],
        account: &str,
        mailbox: impl Into<MailboxFields>,
    ) -> Result<ModSeq> {
        let request_id = check::request_id(request_id)?;
        let account = check::account("account", account)?;
        let mailbox = mailbox.into().check("mailbox")?;
        let led = self.replica_of(&account)?;
        let op = Op::DeleteMailbox {
            request_id,
            account,
            mailbox,
        };
        self.change(&led, op).await
    }
}

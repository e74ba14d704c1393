//! Subscriptions (RFC 9051, sections 6.3.7 and 6.3.8) and special uses (RFC 6154): small changes of
//! what clients show.

use super::check::MailboxFields;
use super::{Led, Operations, Result, What, check, error::from_apply, unexpected};
use crate::machine::command::{Op, Reply};
use crate::types::*;

impl Operations {
    /// Subscribes to a name, or not any more; it need not exist. Answers the account's modseq.
    pub async fn subscribe(
        &self,
        request_id: &[u8],
        account: &str,
        mailbox: &str,
        on: bool,
    ) -> Result<ModSeq> {
        let request_id = check::request_id(request_id)?;
        let account = check::account("account", account)?;
        let mailbox = check::mailbox("mailbox", mailbox)?;
        let led = self.replica_of(&account)?;
        let op = Op::Subscribe {
            request_id,
            account,
            mailbox,
            on,
        };
        self.change(&led, op).await
    }

    /// Sets all special uses of a mailbox. Answers the account's modseq.
    pub async fn set_special_use(
        &self,
        request_id: &[u8],
        account: &str,
        mailbox: impl Into<MailboxFields>,
        special_use: &[String],
    ) -> Result<ModSeq> {
        let request_id = check::request_id(request_id)?;
        let account = check::account("account", account)?;
        let mailbox = mailbox.into().check("mailbox")?;
        let special_use = check::special_use("special_use", special_use)?;
        let led = self.replica_of(&account)?;
        let op = Op::SetSpecialUse {
            request_id,
            account,
            mailbox,
            special_use,
        };
        self.change(&led, op).await
    }

    /// Proposes a command that is answered with the account's modseq alone.
    pub(super) async fn change(&self, led: &Led, op: Op) -> Result<ModSeq> {
        match self.propose(led, op).await? {
            Reply::Changed { modseq } => Ok(modseq),
            Reply::Error(e) => Err(from_apply(e, What::Mailbox)),
            other => Err(unexpected(&other)),
        }
    }
}

//! Removes the rows of a deleted mailbox, some at a time.

use crate::machine::command::{ApplyError, Reply};
use crate::machine::{Stop, Txn};
use crate::types::*;

pub(in crate::machine) fn apply(
    _txn: &mut Txn,
    _account: AccountId,
    _mailbox: MailboxId,
    _limit: u32,
) -> Result<Reply, Stop> {
    Err(ApplyError::Refused("not built".into()).into())
}

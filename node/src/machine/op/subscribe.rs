//! Subscriptions (RFC 9051, sections 6.3.7 and 6.3.8).

use crate::machine::command::{ApplyError, Reply};
use crate::machine::{Stop, Txn};
use crate::types::*;

pub(in crate::machine) fn apply(
    _txn: &mut Txn,
    _request_id: RequestId,
    _account: &AccountName,
    _mailbox: &MailboxName,
    _on: bool,
) -> Result<Reply, Stop> {
    Err(ApplyError::Refused("not built".into()).into())
}

//! Annotations (RFC 5464).

use crate::machine::command::{ApplyError, Reply};
use crate::machine::{Stop, Txn};
use crate::types::*;

pub(in crate::machine) fn apply(
    _txn: &mut Txn,
    _request_id: RequestId,
    _account: &AccountName,
    _mailbox: Option<&MailboxRef>,
    _entries: &[(String, Option<Vec<u8>>)],
) -> Result<Reply, Stop> {
    Err(ApplyError::Refused("not built".into()).into())
}

//! Renames a mailbox with its children (RFC 9051, section 6.3.6).

use crate::machine::command::{ApplyError, Reply};
use crate::machine::{Stop, Txn};
use crate::types::*;

pub(in crate::machine) fn apply(
    _txn: &mut Txn,
    _request_id: RequestId,
    _account: &AccountName,
    _mailbox: &MailboxRef,
    _to: &MailboxName,
) -> Result<Reply, Stop> {
    Err(ApplyError::Refused("not built".into()).into())
}

//! Special uses of a mailbox (RFC 6154).

use crate::machine::command::{ApplyError, Reply};
use crate::machine::{Stop, Txn};
use crate::types::*;

pub(in crate::machine) fn apply(
    _txn: &mut Txn,
    _request_id: RequestId,
    _account: &AccountName,
    _mailbox: &MailboxRef,
    _special_use: u16,
) -> Result<Reply, Stop> {
    Err(ApplyError::Refused("not built".into()).into())
}

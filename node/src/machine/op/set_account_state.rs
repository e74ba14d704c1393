//! Lets an account in, freezes or closes it.

use crate::machine::command::{ApplyError, Reply};
use crate::machine::{Stop, Txn};
use crate::types::*;

pub(in crate::machine) fn apply(
    _txn: &mut Txn,
    _request_id: RequestId,
    _account: &AccountName,
    _state: AccountState,
) -> Result<Reply, Stop> {
    Err(ApplyError::Refused("not built".into()).into())
}

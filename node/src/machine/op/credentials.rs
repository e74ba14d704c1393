//! Passwords of an account.

use crate::machine::command::{ApplyError, Reply};
use crate::machine::{Stop, Txn};
use crate::types::*;

pub(in crate::machine) fn set_password(
    _txn: &mut Txn,
    _request_id: RequestId,
    _account: &AccountName,
    _hash: Option<&str>,
) -> Result<Reply, Stop> {
    Err(ApplyError::Refused("not built".into()).into())
}

pub(in crate::machine) fn add_app_password(
    _txn: &mut Txn,
    _request_id: RequestId,
    _account: &AccountName,
    _name: &str,
    _hash: &[u8; 32],
) -> Result<Reply, Stop> {
    Err(ApplyError::Refused("not built".into()).into())
}

pub(in crate::machine) fn remove_app_password(
    _txn: &mut Txn,
    _request_id: RequestId,
    _account: &AccountName,
    _name: &str,
) -> Result<Reply, Stop> {
    Err(ApplyError::Refused("not built".into()).into())
}

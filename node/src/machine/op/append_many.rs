//! Stores several messages at once (RFC 3502), or one in the place of another (RFC 8508).

use crate::machine::command::{AppendMany, ApplyError, Reply};
use crate::machine::{Stop, Txn};

pub(in crate::machine) fn apply(_txn: &mut Txn, _append: &AppendMany) -> Result<Reply, Stop> {
    Err(ApplyError::Refused("not built".into()).into())
}

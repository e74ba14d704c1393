//! Copies messages inside an account (RFC 9051, section 6.4.7).

use crate::machine::command::{ApplyError, CopyMessages, Reply};
use crate::machine::{Stop, Txn};

pub(in crate::machine) fn apply(_txn: &mut Txn, _copy: &CopyMessages) -> Result<Reply, Stop> {
    Err(ApplyError::Refused("not built".into()).into())
}

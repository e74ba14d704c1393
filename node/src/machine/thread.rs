//! Threads: which emails of an account belong together (RFC 8474, section 5.2; RFC 8621, section 3).
//!
//! An email brings the keys that its ids and its subject make (`mailbox::summary::threads`). It
//! joins the lowest thread that one of them leads to, or begins its own; that never changes, since
//! THREADID must not. A key leads to the thread of the first email that had it, for as long as any
//! email has it. So two threads that a late message shows to be one stay two, and only what comes
//! after it joins the older.

use super::command::ApplyError;
use super::txn::limit;
use super::{Txn, limits};
use crate::index::IndexError;
use crate::index::keys::Key;
use crate::index::values::ThreadRow;
use crate::types::*;

/// Whether these can be the keys of an email: ascending, each once, not too many.
pub fn check(keys: &[ThreadKey]) -> Result<(), ApplyError> {
    if keys.len() > limits::THREAD_KEYS {
        return Err(limit(format!("{} thread keys", limits::THREAD_KEYS)));
    }
    match keys.is_sorted_by(|a, b| a < b) {
        true => Ok(()),
        false => Err(ApplyError::Refused("thread keys out of order".into())),
    }
}

/// The thread of a new email, whose references to its keys are counted.
pub fn join(
    txn: &mut Txn,
    account: AccountId,
    email: EmailId,
    keys: &[ThreadKey],
) -> Result<ThreadId, IndexError> {
    let mut rows: Vec<(Key, Option<ThreadRow>)> = Vec::with_capacity(keys.len());
    for &key in keys {
        let key = Key::Thread { account, key };
        let row = txn.get(&key)?;
        rows.push((key, row));
    }
    let known = rows.iter().filter_map(|(_, row)| row.as_ref());
    let thread = known.map(|row| row.thread).min();
    let thread = thread.unwrap_or(ThreadId(email.0));
    for (key, row) in rows {
        let mut row = row.unwrap_or(ThreadRow { thread, refs: 0 });
        row.refs += 1;
        txn.put(&key, &row);
    }
    Ok(thread)
}

/// Takes the references of an email that goes to its keys away.
pub fn leave(txn: &mut Txn, account: AccountId, keys: &[ThreadKey]) -> Result<(), IndexError> {
    for &key in keys {
        let key = Key::Thread { account, key };
        let mut row: ThreadRow = txn.need(&key)?;
        if row.refs > 1 {
            row.refs -= 1;
            txn.put(&key, &row);
        } else {
            txn.delete(&key);
        }
    }
    Ok(())
}

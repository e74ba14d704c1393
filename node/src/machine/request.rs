//! Remembered requests: a retry inside the window gets the first answer again.
//!
//! An error is not remembered: it changed nothing, and a retry may find the account by then.

use super::Txn;
use super::command::{Reply, StoreResult};
use super::limits::{REQUEST_WINDOW_BYTES, REQUEST_WINDOW_MS, REQUESTS_TRIMMED};
use crate::index::keys::{Key, KeyRange, RequestKey, RequestKind, tag};
use crate::index::values::{Answer, RequestRow, Row};
use crate::index::{Family, IndexError, Next, View};
use crate::rare::{self, Rare};
use crate::types::*;

/// The request of an operation on an account as a whole: there may be no id yet, or no longer.
pub fn of_name(kind: RequestKind, name: &AccountName, id: RequestId) -> RequestKey {
    let mut hash = blake3::Hasher::new();
    hash.update(&id.0).update(name.as_str().as_bytes());
    let mut own = [0; 16];
    own.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    RequestKey {
        account: AccountId::new(Slot::of(name), 0),
        kind,
        mailbox: MailboxId(0),
        id: RequestId(own),
    }
}

/// The request of an operation inside an account.
pub fn of_account(
    kind: RequestKind,
    account: AccountId,
    mailbox: MailboxId,
    id: RequestId,
) -> RequestKey {
    RequestKey {
        account,
        kind,
        mailbox,
        id,
    }
}

/// The request of one target of a `Store`: the mailbox as the request names it, not the one that
/// has the name by now, so that a retry is one also when the mailbox is called otherwise, or gone.
pub fn of_target(account: AccountId, mailbox: &MailboxRef, id: RequestId) -> RequestKey {
    let mut hash = blake3::Hasher::new();
    hash.update(&id.0);
    match mailbox {
        MailboxRef::Name(name) => hash.update(&[0]).update(name.as_str().as_bytes()),
        MailboxRef::Id { id, uidvalidity } => hash
            .update(&[1])
            .update(&id.0.to_be_bytes())
            .update(&uidvalidity.to_be_bytes()),
    };
    let mut own = [0; 16];
    own.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    of_account(RequestKind::Store, account, MailboxId(0), RequestId(own))
}

/// The first answer, if this is a retry of a whole command.
pub fn reply(txn: &Txn, key: &RequestKey) -> Result<Option<Reply>, IndexError> {
    match txn.get::<RequestRow>(&Key::Request(*key))? {
        Some(RequestRow {
            answer: Answer::Reply(reply),
            ..
        }) => {
            rare::hit(Rare::RequestReplayed);
            Ok(Some(reply))
        }
        Some(_) => Err(IndexError::Corrupt(format!("{key:?} holds no reply"))),
        None => Ok(None),
    }
}

/// The first answer, if this is a retry of one target of a `Store`.
pub fn target(txn: &Txn, key: &RequestKey) -> Result<Option<StoreResult>, IndexError> {
    match txn.get::<RequestRow>(&Key::Request(*key))? {
        Some(RequestRow {
            answer: Answer::Target(result),
            ..
        }) => {
            rare::hit(Rare::TargetReplayed);
            Ok(Some(result))
        }
        Some(_) => Err(IndexError::Corrupt(format!("{key:?} holds no result"))),
        None => Ok(None),
    }
}

/// Remembers an answer.
pub fn remember(txn: &mut Txn, request: RequestKey, answer: Answer) -> Result<(), IndexError> {
    let time_ms = txn.now_ms()?;
    let row = RequestRow { time_ms, answer };
    let bytes = cost(row.encode().len());
    txn.put(&Key::Request(request), &row);
    txn.put(&Key::RequestAge { time_ms, request }, &());
    let meta = txn.meta()?;
    if meta.requests == 0 {
        meta.oldest_request_ms = time_ms;
    }
    meta.requests += 1;
    meta.request_bytes += bytes;
    Ok(())
}

/// Octets of the keys of both rows of a request, without the space: 1 + 29 and 1 + 37.
pub(super) const KEY_BYTES: u64 = 68;

/// Octets of both rows of a request.
fn cost(value_len: usize) -> u64 {
    value_len as u64 + KEY_BYTES
}

/// Forgets a few requests that are past the window of time or of octets: more than the command at
/// work has added to the `before` that there were, so that the windows hold.
pub fn trim(txn: &mut Txn, before: u64) -> Result<(), IndexError> {
    let meta = *txn.meta()?;
    let trimmed = REQUESTS_TRIMMED + 2 * meta.requests.saturating_sub(before) as usize;
    let horizon_ms = meta.time_ms.saturating_sub(REQUEST_WINDOW_MS);
    let full = meta.request_bytes > REQUEST_WINDOW_BYTES;
    if meta.requests == 0 || (meta.oldest_request_ms >= horizon_ms && !full) {
        return Ok(());
    }
    // From the oldest that is left: below it lie only removed rows, which a scan would step over
    // one by one.
    let mut range = KeyRange::tag(txn.space(), tag::REQUEST_AGE);
    let mut from = range.from.to_vec();
    from.extend_from_slice(&meta.oldest_request_ms.to_be_bytes());
    range.from = from.into();
    let mut oldest = Vec::new();
    txn.scan(Family::State, &range.from, &range.to, &mut |key, _| {
        if let Some((_, Key::RequestAge { time_ms, request })) = Key::decode(key) {
            oldest.push((time_ms, request));
        }
        match oldest.len() <= trimmed {
            true => Next::Continue,
            false => Next::Stop,
        }
    })?;
    let mut meta = meta;
    for (n, (time_ms, request)) in oldest.into_iter().enumerate() {
        meta.oldest_request_ms = time_ms;
        let expired = time_ms < horizon_ms || meta.request_bytes > REQUEST_WINDOW_BYTES;
        if !expired || n == trimmed {
            break;
        }
        if time_ms < horizon_ms {
            rare::hit(Rare::RequestForgotten);
        }
        let row: RequestRow = txn.need(&Key::Request(request))?;
        txn.delete(&Key::Request(request));
        txn.delete(&Key::RequestAge { time_ms, request });
        meta.requests -= 1;
        meta.request_bytes -= cost(row.encode().len());
    }
    *txn.meta()? = meta;
    Ok(())
}

//! Subscriptions (RFC 9051, sections 6.3.7 and 6.3.8): to names, whatever mailbox has them, so they
//! outlive it.

use crate::index::keys::{Key, RequestKind};
use crate::index::values::{AccountRow, Answer, ChangeKind, MailboxRow};
use crate::machine::command::Reply;
use crate::machine::txn::limit;
use crate::machine::{Stop, Txn, limits, read, request, scope};
use crate::types::*;

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    name: &MailboxName,
    on: bool,
) -> Result<Reply, Stop> {
    let (id, mut account) = scope::account(txn, account)?;
    let request = request::of_account(RequestKind::Subscribe, id, MailboxId(0), request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let key = Key::Subscription {
        account: id,
        name: name.as_str(),
    };
    if txn.has(&key)? != on {
        let n = limits::SUBSCRIPTIONS;
        if on && account.subscriptions >= n {
            return Err(limit(format!("{n} subscriptions of an account")).into());
        }
        let found = read::mailbox(txn, txn.space(), id, &name.into())?;
        match on {
            true => {
                txn.put(&key, &());
                account.subscriptions += 1;
            }
            false => {
                txn.delete(&key);
                account.subscriptions -= 1;
            }
        }
        changed(txn, id, &mut account, found)?;
        txn.put(&Key::Account(id), &account);
    }
    let reply = Reply::Changed {
        modseq: account.highest_modseq,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

/// Notes a change of a mailbox itself, or of a name that no mailbox has; the caller writes the
/// account.
pub(super) fn changed(
    txn: &mut Txn,
    id: AccountId,
    account: &mut AccountRow,
    found: Option<(MailboxId, MailboxRow)>,
) -> Result<(), Stop> {
    let kind = ChangeKind::MailboxChanged;
    match found {
        Some((mailbox, mut row)) => {
            row.highest_modseq = scope::change(txn, id, account, mailbox, kind, vec![])?;
            txn.put(
                &Key::Mailbox {
                    account: id,
                    mailbox,
                },
                &row,
            );
        }
        None => {
            scope::change(txn, id, account, MailboxId(0), kind, vec![])?;
        }
    }
    Ok(())
}

//! Special uses of a mailbox (RFC 6154): all of them at once. Several mailboxes may have one use.

use super::create_mailbox::check_special_use;
use super::subscribe::changed;
use crate::index::keys::{Key, RequestKind};
use crate::index::values::Answer;
use crate::machine::command::Reply;
use crate::machine::{Stop, Txn, request, scope};
use crate::types::*;

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    mailbox: &MailboxRef,
    special_use: u16,
) -> Result<Reply, Stop> {
    let (id, mut account) = scope::account(txn, account)?;
    let request = request::of_account(RequestKind::SetSpecialUse, id, MailboxId(0), request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    check_special_use(special_use)?;
    let (mailbox, mut row) = scope::mailbox(txn, id, mailbox)?;
    if row.special_use != special_use {
        row.special_use = special_use;
        changed(txn, id, &mut account, Some((mailbox, row)))?;
        txn.put(&Key::Account(id), &account);
    }
    let reply = Reply::Changed {
        modseq: account.highest_modseq,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

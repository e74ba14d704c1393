//! Removes messages (RFC 9051, sections 6.4.3 and 6.4.9), and remembers which (RFC 7162, section
//! 3.2.10): one change row with the modseq of all of them.

use crate::index::keys::{Key, RequestKind};
use crate::index::uids::to_ranges;
use crate::index::values::{Answer, MessageRow, flag};
use crate::machine::command::Reply;
use crate::machine::{Stop, Txn, placing, request, scope};
use crate::types::*;

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    mailbox: &MailboxRef,
    uids: &[(Uid, Uid)],
    force: bool,
) -> Result<Reply, Stop> {
    let (id, mut account) = scope::account(txn, account)?;
    // Before the mailbox is looked up: a retry may find another one under the name, or none.
    let request = request::of_account(RequestKind::Expunge, id, MailboxId(0), request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let (mailbox_id, _) = scope::mailbox(txn, id, mailbox)?;
    let mut gone: Vec<(Uid, MessageRow)> = scope::messages(txn, id, mailbox_id, uids)?;
    gone.retain(|(_, message)| force || message.flags & flag::DELETED != 0);

    let vanished = to_ranges(gone.iter().map(|(uid, _)| *uid));
    if !gone.is_empty() {
        placing::remove(txn, id, &mut account, mailbox_id, &gone)?;
        txn.put(&Key::Account(id), &account);
    }
    let reply = Reply::Expunged {
        modseq: account.highest_modseq,
        vanished,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

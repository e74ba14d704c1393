//! Moves messages inside an account (RFC 6851): each leaves one mailbox and appears in another in
//! one command, so that no reader ever sees it in both or in none.
//!
//! The change that brings them comes before the one that takes them away: who follows the changes
//! in parts sees a message twice rather than lost. Inside one mailbox they get new uids (section
//! 3.3 of the RFC leaves that to the server).

use crate::index::keys::{Key, RequestKind};
use crate::index::uids::to_ranges;
use crate::index::values::Answer;
use crate::machine::command::{CopyMessages, Reply};
use crate::machine::op::copy::carry;
use crate::machine::{Stop, Txn, placing, request, scope, transfers};
use crate::types::*;

pub(in crate::machine) fn apply(txn: &mut Txn, copy: &CopyMessages) -> Result<Reply, Stop> {
    let (id, mut account) = scope::account(txn, &copy.account)?;
    let request = request::of_account(RequestKind::Move, id, MailboxId(0), copy.request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let (from, _) = scope::mailbox(txn, id, &copy.from)?;
    let (to, row) = scope::mailbox(txn, id, &copy.to)?;
    let found = scope::messages(txn, id, from, &copy.uids)?;
    transfers::check_free(txn, id, from, &found)?;
    let carried = carry(txn, id, from, (to, row), &found)?;

    // From here on nothing is refused. The emails lose a message and gain one.
    let (uidvalidity, to) = carried.place(txn, id, &mut account)?;
    if !found.is_empty() {
        placing::leave(txn, id, &mut account, from, &found)?;
        txn.put(&Key::Account(id), &account);
    }
    let reply = Reply::Copied {
        uidvalidity,
        modseq: account.highest_modseq,
        from: to_ranges(found.iter().map(|(uid, _)| *uid)),
        to,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

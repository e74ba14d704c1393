//! Removes a mailbox (RFC 9051, section 6.3.5): its name is free at once, its rows go by and by.
//!
//! One row of the mailbox knows its counters, so they leave the account in one step, whatever the
//! mailbox holds. Children stay; a later mailbox of this name has another number and a higher
//! uidvalidity.

use crate::index::keys::{Key, RequestKind};
use crate::index::values::{Answer, ChangeKind};
use crate::machine::command::{ApplyError, Reply};
use crate::machine::{Stop, Txn, request, scope};
use crate::types::*;

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    mailbox: &MailboxRef,
) -> Result<Reply, Stop> {
    let (id, mut account) = scope::account(txn, account)?;
    // Before the mailbox is looked up: a retry does not find it any more.
    let request = request::of_account(RequestKind::DeleteMailbox, id, MailboxId(0), request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let (mailbox, row) = scope::mailbox(txn, id, mailbox)?;
    if row.name == MailboxName::inbox() {
        return Err(ApplyError::Refused("INBOX cannot be deleted".into()).into());
    }
    for (counter, n) in [
        (&mut account.mailboxes, 1),
        (&mut account.messages, row.messages),
        (&mut account.unseen, row.unseen),
        (&mut account.deleted, row.deleted),
        (&mut account.bytes, row.bytes),
    ] {
        *counter = counter
            .checked_sub(n)
            .expect("an account's counters are sums over its mailboxes");
    }
    txn.delete(&Key::MailboxName {
        account: id,
        name: row.name.as_str(),
    });
    txn.delete(&Key::Mailbox {
        account: id,
        mailbox,
    });
    txn.put(
        &Key::GoingMailbox {
            account: id,
            mailbox,
        },
        &(),
    );
    let kind = ChangeKind::MailboxDeleted;
    let modseq = scope::change(txn, id, &mut account, mailbox, kind, vec![])?;
    txn.mailbox_going(id, mailbox);
    txn.put(&Key::Account(id), &account);
    let reply = Reply::Changed { modseq };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

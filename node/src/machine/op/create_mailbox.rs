//! Creates a mailbox (RFC 9051, section 6.3.4).

use crate::index::keys::{Key, RequestKind};
use crate::index::values::Answer;
use crate::machine::command::{ApplyError, Reply};
use crate::machine::{Stop, Txn, request, scope};
use crate::types::*;

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    name: &MailboxName,
    special_use: u16,
) -> Result<Reply, Stop> {
    let (id, mut account) = scope::account(txn, account)?;
    let request = request::of_account(RequestKind::CreateMailbox, id, MailboxId(0), request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let key = Key::MailboxName {
        account: id,
        name: name.as_str(),
    };
    if txn.has(&key)? {
        return Err(ApplyError::Exists.into());
    }
    let (mailbox, row) = scope::create_mailbox(txn, id, &mut account, name)?;
    let _ = special_use;
    txn.put(&Key::Account(id), &account);
    let reply = Reply::Mailbox {
        mailbox,
        uidvalidity: row.uidvalidity,
        modseq: row.highest_modseq,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

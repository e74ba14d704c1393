//! Creates a mailbox, and the parents that its name needs (RFC 9051, section 6.3.4): real ones, so
//! that no name of the hierarchy is without a mailbox unless somebody deleted it.

use crate::index::keys::{Key, RequestKind};
use crate::index::values::{Answer, special_use};
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
    check_special_use(special_use)?;
    let key = Key::MailboxName {
        account: id,
        name: name.as_str(),
    };
    if txn.has(&key)? {
        return Err(ApplyError::Exists.into());
    }
    let parents = scope::missing_parents(txn, id, name)?;
    scope::room_for_mailboxes(txn, &account, parents.len() + 1)?;

    // From here on nothing is refused.
    for parent in &parents {
        scope::create_mailbox(txn, id, &mut account, parent, 0)?;
    }
    let (mailbox, row) = scope::create_mailbox(txn, id, &mut account, name, special_use)?;
    txn.put(&Key::Account(id), &account);
    let reply = Reply::Mailbox {
        mailbox,
        uidvalidity: row.uidvalidity,
        modseq: row.highest_modseq,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

/// Whether all bits have a name.
pub(super) fn check_special_use(bits: u16) -> Result<(), ApplyError> {
    match bits >> special_use::NAMES.len() {
        0 => Ok(()),
        _ => Err(ApplyError::Refused("a special use without a name".into())),
    }
}

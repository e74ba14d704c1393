//! Creates an account with its INBOX.

use crate::index::keys::{Key, RequestKind};
use crate::index::values::{AccountNameRow, AccountRow, Answer, SlotRow};
use crate::machine::command::{ApplyError, Reply};
use crate::machine::txn::limit;
use crate::machine::{Stop, Txn, request, scope};
use crate::types::*;

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    request_id: RequestId,
    name: &AccountName,
) -> Result<Reply, Stop> {
    let request = request::of_name(RequestKind::CreateAccount, name, request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let slot = Slot::of(name);
    let name_key = Key::AccountName {
        slot,
        name: name.as_str(),
    };
    if txn.has(&name_key)? {
        return Err(ApplyError::Exists.into());
    }
    let mut numbers: SlotRow = txn.get(&Key::Slot(slot))?.unwrap_or_default();
    if numbers.next_account >= 1 << 48 {
        return Err(limit("the slot has no account numbers left").into());
    }
    let id = AccountId::new(slot, numbers.next_account);
    let now_ms = txn.now_ms()?;
    let mut account = AccountRow {
        name: name.clone(),
        created_ms: now_ms,
        going: false,
        highest_modseq: 0,
        trimmed_modseq: 0,
        oldest_change_ms: now_ms,
        next_mailbox: 1,
        next_uidvalidity: numbers.next_uidvalidity,
        next_email: 1,
        mailboxes: 0,
        messages: 0,
        unseen: 0,
        deleted: 0,
        bytes: 0,
        state: AccountState::Active,
        subscriptions: 0,
    };
    scope::room_for_mailboxes(txn, &account, 1)?;
    scope::create_mailbox(txn, id, &mut account, &MailboxName::inbox(), 0)?;
    numbers.next_account += 1;
    txn.put(&Key::Slot(slot), &numbers);
    txn.put(&name_key, &AccountNameRow { account: id });
    txn.put(&Key::Account(id), &account);
    let reply = Reply::Account {
        account: id,
        created_ms: now_ms,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

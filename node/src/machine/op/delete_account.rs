//! Deletes an account: its name is free at once, its rows go by and by.

use crate::index::keys::{Key, RequestKind};
use crate::index::values::{Answer, SlotRow};
use crate::machine::command::Reply;
use crate::machine::{Stop, Txn, request, scope};
use crate::types::*;

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    request_id: RequestId,
    name: &AccountName,
) -> Result<Reply, Stop> {
    let request = request::of_name(RequestKind::DeleteAccount, name, request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let (id, mut account) = scope::account(txn, name)?;
    let slot = Slot::of(name);
    txn.delete(&Key::AccountName {
        slot,
        name: name.as_str(),
    });
    // A later account of this name must not repeat a uidvalidity: clients know mailboxes by name.
    let mut numbers: SlotRow = txn.need(&Key::Slot(slot))?;
    numbers.next_uidvalidity = numbers.next_uidvalidity.max(account.next_uidvalidity);
    txn.put(&Key::Slot(slot), &numbers);
    account.going = true;
    txn.put(&Key::Account(id), &account);
    txn.put(&Key::Going(id), &());
    txn.account_going(id);
    let reply = Reply::Account {
        account: id,
        created_ms: account.created_ms,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

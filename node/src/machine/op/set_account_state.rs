//! Lets an account in, freezes or closes it.

use crate::index::keys::{Key, RequestKind};
use crate::index::values::{Answer, ChangeKind};
use crate::machine::command::Reply;
use crate::machine::{Stop, Txn, request, scope};
use crate::types::*;

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    state: AccountState,
) -> Result<Reply, Stop> {
    let (id, mut row) = scope::account(txn, account)?;
    let kind = RequestKind::SetAccountState;
    let request = request::of_account(kind, id, MailboxId(0), request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    if row.state != state {
        row.state = state;
        let kind = ChangeKind::AccountChanged;
        scope::change(txn, id, &mut row, MailboxId(0), kind, vec![])?;
        txn.put(&Key::Account(id), &row);
    }
    let reply = Reply::Changed {
        modseq: row.highest_modseq,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

//! Queries over transfers between accounts, at the source and at the target.

use serde::{Deserialize, Serialize};

use super::command::{ApplyError, Arrival, Place, Reply, TransferId};
use super::{Stop, Txn, read, request, scope};
use crate::index::keys::{Key, KeyRange, RequestKey, RequestKind, Space, tag};
use crate::index::values::{self, Answer, MessageRow, RequestRow, TransferRow, TransfersRow, get};
use crate::index::{Family, IndexError, Next, View};
use crate::types::*;

/// What the leader of a transfer's source asks the leader of its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Look {
    /// Which mailbox is meant, and whether messages may come into it.
    Place {
        /// Owner.
        account: AccountName,
        /// By name or number.
        mailbox: MailboxRef,
    },
    /// What was answered to a transfer.
    Arrival {
        /// The target.
        account: AccountId,
        /// Which.
        transfer: TransferId,
    },
}

/// The answer to a [`Look`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Looked {
    /// The mailbox.
    Place(Place),
    /// There is no such place, or nothing may come into it.
    NoPlace(ApplyError),
    /// The answer; `None`: nothing was answered, or it is forgotten.
    Arrival(Option<Arrival>),
}

/// Answers a question of another shard's leader.
pub fn look(view: &dyn View, space: Space, look: &Look) -> Result<Looked, IndexError> {
    let (name, mailbox) = match look {
        Look::Arrival { account, transfer } => {
            let (account, transfer) = (*account, *transfer);
            let key = Key::Arrival { account, transfer };
            return Ok(Looked::Arrival(get(view, space, &key)?));
        }
        Look::Place { account, mailbox } => (account, mailbox),
    };
    let Some((account, row)) = read::account(view, space, name)? else {
        return Ok(Looked::NoPlace(ApplyError::NoAccount));
    };
    if let Err(e) = scope::takes_mail(&row) {
        return Ok(Looked::NoPlace(e));
    }
    Ok(match read::mailbox(view, space, account, mailbox)? {
        Some((mailbox, row)) => Looked::Place(Place {
            account,
            mailbox,
            uidvalidity: row.uidvalidity,
        }),
        None => Looked::NoPlace(ApplyError::NoMailbox),
    })
}

/// The identity of a request for a transfer.
pub fn request_key(account: AccountId, away: bool, id: RequestId) -> RequestKey {
    let kind = match away {
        true => RequestKind::MoveAcross,
        false => RequestKind::CopyAcross,
    };
    request::of_account(kind, account, MailboxId(0), id)
}

/// The answer to a request for a transfer, once it is given.
pub fn answer(
    view: &dyn View,
    space: Space,
    account: AccountId,
    away: bool,
    id: RequestId,
) -> Result<Option<Reply>, IndexError> {
    let key = Key::Request(request_key(account, away, id));
    let row: Option<RequestRow> = get(view, space, &key)?;
    match row.map(|row| row.answer) {
        None => Ok(None),
        Some(Answer::Reply(reply)) => Ok(Some(reply)),
        Some(_) => Err(IndexError::Corrupt(format!("{key:?} holds no reply"))),
    }
}

/// The transfers of an account that are not settled, by their numbers; at most
/// [`limits::TRANSFERS`](super::limits::TRANSFERS).
pub fn of_account(
    view: &dyn View,
    space: Space,
    account: AccountId,
) -> Result<Vec<(u64, TransferRow)>, IndexError> {
    let like = Key::Transfer(TransferId {
        source: account,
        number: 0,
    });
    let found = rows(view, &KeyRange::account(space, &like, account), usize::MAX)?;
    let numbered = found.into_iter().map(|(id, row)| (id.number, row));
    Ok(numbered.collect())
}

/// Transfers of a shard's accounts that are not settled, at most `limit`.
pub fn unsettled(
    view: &dyn View,
    space: Space,
    limit: usize,
) -> Result<Vec<(TransferId, TransferRow)>, IndexError> {
    rows(view, &KeyRange::tag(space, tag::TRANSFER), limit)
}

fn rows(
    view: &dyn View,
    range: &KeyRange,
    limit: usize,
) -> Result<Vec<(TransferId, TransferRow)>, IndexError> {
    let mut found = Vec::new();
    let mut failed = None;
    view.scan(Family::State, &range.from, &range.to, &mut |key, row| {
        match (Key::decode(key), values::decode(key, row)) {
            (Some((_, Key::Transfer(id))), Ok(row)) => found.push((id, row)),
            (_, Err(e)) => failed = Some(e),
            _ => failed = Some(IndexError::Corrupt(format!("{key:02x?} is no key"))),
        }
        match found.len() < limit && failed.is_none() {
            true => Next::Continue,
            false => Next::Stop,
        }
    })?;
    failed.map_or(Ok(found), Err)
}

/// Below which number all transfers from an account to a target are over: what the target may
/// forget its answers to. What is over stays over, so an old view gives a number that is merely
/// lower.
pub fn over_below(
    view: &dyn View,
    space: Space,
    account: AccountId,
    target: AccountId,
) -> Result<u64, IndexError> {
    let open = of_account(view, space, account)?;
    let mut open = open
        .iter()
        .filter(|(_, row)| !row.over && row.to.account == target);
    if let Some((number, _)) = open.next() {
        return Ok(*number);
    }
    let row: Option<TransfersRow> = get(view, space, &Key::Transfers(account))?;
    Ok(row.unwrap_or_default().next)
}

/// Refuses messages that are about to leave the account: whoever else took them elsewhere meanwhile
/// would leave them in two places.
pub fn check_free(
    txn: &Txn,
    account: AccountId,
    mailbox: MailboxId,
    messages: &[(Uid, MessageRow)],
) -> Result<(), Stop> {
    for (_, row) in of_account(txn, txn.space(), account)? {
        if row.over || !row.away || row.mailbox != mailbox {
            continue;
        }
        let held = |uid: &Uid| {
            row.messages
                .binary_search_by_key(uid, |(uid, _)| *uid)
                .is_ok()
        };
        if messages.iter().any(|(uid, _)| held(uid)) {
            return Err(ApplyError::InTransfer.into());
        }
    }
    Ok(())
}

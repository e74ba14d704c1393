//! Removes rows of a deleted account, a bounded number a step.
//!
//! Messages first, each with its email and its reference to the blob; then everything else that
//! begins with the account. The account's own rows go last, so that a step always finds the way
//! on. Remembered requests are not touched: their window removes them; nor are transfers to other
//! accounts, whose end and settling do (`transfer_out`).

use bytes::Bytes;

use crate::index::keys::{Key, KeyRange};
use crate::index::values::MessageRow;
use crate::index::{Family, Next, View, values};
use crate::machine::command::{Reply, TransferId};
use crate::machine::{Stop, Txn, limits, scope, transfers};
use crate::rare::{self, Rare};
use crate::types::*;

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    account: AccountId,
    limit: u32,
) -> Result<Reply, Stop> {
    if !txn.has(&Key::Going(account))? {
        return Ok(Reply::Reaped { more: false });
    }
    let mut left = u64::from(limit).clamp(1, limits::MESSAGES_PER_COMMAND) as usize;
    let nothing = MailboxId(0);
    let nobodys = TransferId {
        source: AccountId(0),
        number: 0,
    };
    let like = Key::Message {
        account,
        mailbox: nothing,
        uid: 0,
    };
    let range = KeyRange::account(txn.space(), &like, account);
    left -= messages(txn, account, &range, left)?;
    for like in [
        Key::UidSet {
            account,
            mailbox: nothing,
            part: 0,
        },
        Key::Keyword {
            account,
            mailbox: nothing,
            id: 0,
        },
        Key::KeywordName {
            account,
            mailbox: nothing,
            name: "",
        },
        Key::Annotation {
            account,
            mailbox: nothing,
            entry: "",
        },
        Key::Subscription { account, name: "" },
        Key::Credential { account, name: "" },
        Key::Thread {
            account,
            key: ThreadKey(0),
        },
        Key::Change { account, modseq: 0 },
        Key::Credential { account, name: "" },
        Key::MailboxName { account, name: "" },
        Key::Mailbox {
            account,
            mailbox: nothing,
        },
        Key::GoingMailbox {
            account,
            mailbox: nothing,
        },
        Key::Arrivals {
            account,
            source: AccountId(0),
        },
        Key::Arrival {
            account,
            transfer: nobodys,
        },
    ] {
        let range = KeyRange::account(txn.space(), &like, account);
        left -= rows(txn, &like, &range, left)?;
        if left == 0 {
            return Ok(Reply::Reaped { more: true });
        }
    }
    rare::hit(Rare::AccountReaped);
    if transfers::of_account(txn, txn.space(), account)?.is_empty() {
        txn.delete(&Key::Transfers(account));
    }
    txn.delete(&Key::Account(account));
    txn.delete(&Key::Going(account));
    Ok(Reply::Reaped { more: false })
}

/// Removes rows of a range, all in the family of `like`; answers how many.
pub(super) fn rows(
    txn: &mut Txn,
    like: &Key,
    range: &KeyRange,
    limit: usize,
) -> Result<usize, Stop> {
    let keys = txn.keys(like.family(), range, limit)?;
    let n = keys.len();
    for key in keys {
        txn.delete_octets(like.family(), key);
    }
    Ok(n)
}

/// Removes the messages of a range, with their emails and references to blobs; answers how many.
pub(super) fn messages(
    txn: &mut Txn,
    account: AccountId,
    range: &KeyRange,
    limit: usize,
) -> Result<usize, Stop> {
    if limit == 0 {
        return Ok(0);
    }
    let mut found: Vec<(Bytes, EmailId)> = Vec::new();
    let mut damaged = None;
    txn.scan(Family::State, &range.from, &range.to, &mut |key, value| {
        match values::decode::<MessageRow>(key, value) {
            Ok(row) => found.push((Bytes::copy_from_slice(key), row.email)),
            Err(e) => damaged = Some(e),
        }
        match found.len() < limit && damaged.is_none() {
            true => Next::Continue,
            false => Next::Stop,
        }
    })?;
    if let Some(e) = damaged {
        return Err(e.into());
    }
    let n = found.len();
    for (key, email) in found {
        txn.delete_octets(Family::State, key);
        scope::drop_email_ref(txn, account, email)?;
    }
    Ok(n)
}

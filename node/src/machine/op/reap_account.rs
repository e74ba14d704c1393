//! Removes rows of a deleted account, a bounded number a step.
//!
//! Messages first, each with its email and its reference to the blob; then everything else that
//! begins with the account. The account's own rows go last, so that a step always finds the way
//! on. Remembered requests are not touched: their window removes them.

use bytes::Bytes;

use crate::index::keys::{Key, KeyRange};
use crate::index::values::MessageRow;
use crate::index::{Family, Next, View, values};
use crate::machine::command::Reply;
use crate::machine::{Stop, Txn, limits, scope};
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
    left -= messages(txn, account, left)?;
    let nothing = MailboxId(0);
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
        Key::Change { account, modseq: 0 },
        Key::Credential { account, name: "" },
        Key::MailboxName { account, name: "" },
        Key::Mailbox {
            account,
            mailbox: nothing,
        },
    ] {
        let range = KeyRange::account(txn.space(), &like, account);
        let keys = txn.keys(like.family(), &range, left)?;
        left -= keys.len();
        for key in keys {
            txn.delete_octets(like.family(), key);
        }
        if left == 0 {
            return Ok(Reply::Reaped { more: true });
        }
    }
    rare::hit(Rare::AccountReaped);
    txn.delete(&Key::Account(account));
    txn.delete(&Key::Going(account));
    Ok(Reply::Reaped { more: false })
}

/// Removes messages, with their emails and references to blobs; answers how many.
fn messages(txn: &mut Txn, account: AccountId, limit: usize) -> Result<usize, Stop> {
    let like = Key::Message {
        account,
        mailbox: MailboxId(0),
        uid: 0,
    };
    let range = KeyRange::account(txn.space(), &like, account);
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

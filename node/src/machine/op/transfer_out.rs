//! The source's side of a transfer to another account: it is written down, it ends, it is
//! forgotten.
//!
//! Between the first two the messages stay where they are, and belong to their owner: what is
//! expunged meanwhile is gone from here whatever becomes of its copy. But nobody else takes them
//! elsewhere (`transfers::check_free`). The end removes a message only when its uid still shows
//! the email that was written down, and only when the target has answered that its copy is there.
//!
//! A transfer outlives its account: the target is still to forget its answer.

use crate::index::keys::Key;
use crate::index::values::{AccountRow, Answer, MessageRow, TransferRow, TransfersRow};
use crate::machine::command::{ApplyError, Arrival, BeginTransfer, Reply, TransferId};
use crate::machine::txn::limit;
use crate::machine::{Stop, Txn, limits, placing, read, request, scope, transfers};
use crate::rare::{self, Rare};
use crate::types::*;

pub(in crate::machine) fn begin(txn: &mut Txn, begin: &BeginTransfer) -> Result<Reply, Stop> {
    let (id, account) = scope::account(txn, &begin.account)?;
    let request = transfers::request_key(id, begin.away, begin.request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let unsettled = transfers::of_account(txn, txn.space(), id)?;
    // One that is over without an answer was refused: this is another try.
    let same = |row: &TransferRow| {
        !row.over && row.away == begin.away && row.request_id == begin.request_id
    };
    if let Some((number, _)) = unsettled.iter().find(|(_, row)| same(row)) {
        return Ok(Reply::Transferring { number: *number });
    }
    let n = limits::ITEMS_PER_APPEND;
    if begin.messages.len() > n {
        return Err(limit(format!("{n} messages in a transfer")).into());
    }
    if begin.to.account == id {
        return Err(ApplyError::Refused("the account is the same".into()).into());
    }
    let (mailbox, _) = scope::mailbox(txn, id, &begin.mailbox)?;
    let found = still_there(txn, id, mailbox, &begin.messages)?;
    if found.is_empty() {
        let reply = Reply::Transferred {
            uidvalidity: begin.to.uidvalidity,
            modseq: account.highest_modseq,
            from: Vec::new(),
            to: Vec::new(),
            next: begin.next,
        };
        request::remember(txn, request, Answer::Reply(reply.clone()))?;
        return Ok(reply);
    }
    if unsettled.len() >= limits::TRANSFERS {
        return Err(ApplyError::InTransfer.into());
    }
    if begin.away {
        transfers::check_free(txn, id, mailbox, &found)?;
    }

    // From here on nothing is refused.
    let mut all: TransfersRow = txn.get(&Key::Transfers(id))?.unwrap_or_default();
    let number = all.next;
    all.next += 1;
    txn.put(&Key::Transfers(id), &all);
    let row = TransferRow {
        request_id: begin.request_id,
        away: begin.away,
        mailbox,
        messages: found.iter().map(|(uid, row)| (*uid, row.email)).collect(),
        to: begin.to,
        next: begin.next,
        over: false,
    };
    let source = id;
    txn.put(&Key::Transfer(TransferId { source, number }), &row);
    Ok(Reply::Transferring { number })
}

/// The messages of these that are where they were, and what they were, each once.
fn still_there(
    txn: &Txn,
    account: AccountId,
    mailbox: MailboxId,
    messages: &[(Uid, EmailId)],
) -> Result<Vec<(Uid, MessageRow)>, Stop> {
    let mut found: Vec<(Uid, MessageRow)> = Vec::with_capacity(messages.len());
    let mut last = 0;
    for (uid, email) in messages {
        if *uid <= last {
            return Err(ApplyError::Refused("uids must ascend".into()).into());
        }
        last = *uid;
        let row = read::message(txn, txn.space(), account, mailbox, *uid)?;
        found.extend(row.filter(|row| row.email == *email).map(|row| (*uid, row)));
    }
    Ok(found)
}

pub(in crate::machine) fn end(
    txn: &mut Txn,
    transfer: TransferId,
    arrival: &Arrival,
) -> Result<Reply, Stop> {
    let key = Key::Transfer(transfer);
    let Some(row) = txn.get::<TransferRow>(&key)? else {
        return Ok(Reply::Done);
    };
    let id = transfer.source;
    let request = transfers::request_key(id, row.away, row.request_id);
    if row.over {
        return Ok(request::reply(txn, &request)?.unwrap_or(Reply::Done));
    }
    let over = TransferRow {
        messages: Vec::new(),
        over: true,
        ..row
    };
    txn.put(&key, &over);
    let account: Option<AccountRow> = txn.get(&Key::Account(id))?;
    let (Arrival::Here { first, from }, Some(mut account)) =
        (arrival, account.filter(|account| !account.going))
    else {
        // Refused, and the originals stay; or there is nobody left to answer to.
        rare::hit(Rare::TransferRefused);
        return Ok(Reply::Done);
    };
    let mailbox = over.mailbox;
    let there = Key::Mailbox {
        account: id,
        mailbox,
    };
    if over.away && txn.has(&there)? {
        let arrived = |uid: &Uid| from.iter().any(|(a, b)| (*a..=*b).contains(uid));
        let mut moved = row.messages;
        moved.retain(|(uid, _)| arrived(uid));
        let gone = still_there(txn, id, mailbox, &moved)?;
        if gone.len() < moved.len() {
            rare::hit(Rare::ExpungedUnderTransfer);
        }
        if !gone.is_empty() {
            placing::remove(txn, id, &mut account, mailbox, &gone)?;
            txn.put(&Key::Account(id), &account);
        }
    }
    let count: u32 = from.iter().map(|(a, b)| b - a + 1).sum();
    let reply = Reply::Transferred {
        uidvalidity: over.to.uidvalidity,
        modseq: account.highest_modseq,
        from: from.clone(),
        to: match count {
            0 => Vec::new(),
            n => vec![(*first, first + (n - 1))],
        },
        next: over.next,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

pub(in crate::machine) fn settle(
    txn: &mut Txn,
    account: AccountId,
    target: AccountId,
    below: u64,
) -> Result<Reply, Stop> {
    let mut left = 0;
    for (number, row) in transfers::of_account(txn, txn.space(), account)? {
        let source = account;
        match row.over && row.to.account == target && number < below {
            true => txn.delete(&Key::Transfer(TransferId { source, number })),
            false => left += 1,
        }
    }
    if left == 0 && !txn.has(&Key::Account(account))? {
        // The account went before; its numbers are of no use any more.
        txn.delete(&Key::Transfers(account));
    }
    Ok(Reply::Done)
}

//! Stores several messages at once (RFC 3502), or one in the place of another (RFC 8508): all or
//! nothing.
//!
//! The messages get uids and email numbers without a gap, and one modseq. The message that is
//! replaced goes in the same command, by a change of its own that follows; when it is not there
//! any more, nothing is stored.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::index::keys::{Key, RequestKind};
use crate::index::values::{AccountRow, Answer, MailboxRow, MessageRow};
use crate::machine::command::{AppendItem, AppendMany, ApplyError, Reply};
use crate::machine::keywords::Keywords;
use crate::machine::placing::Placed;
use crate::machine::scope::Flags;
use crate::machine::txn::limit;
use crate::machine::{Stop, Txn, blob, limits, placing, request, scope, thread};
use crate::rare::{self, Rare};
use crate::types::*;

pub(in crate::machine) fn apply(txn: &mut Txn, append: &AppendMany) -> Result<Reply, Stop> {
    // What is too much to store is too much to drop, too: its leader does that, or time.
    check_size(&append.items)?;
    let done = all(txn, append);
    if let Ok(_) | Err(Stop::Refused(_)) = &done {
        // Whatever came of it, the arrivals are over: what was stored has rows of its own.
        let uploads = append.items.iter().filter_map(|item| item.blob.upload);
        for upload in uploads {
            blob::drop_upload(txn, upload)?;
        }
    }
    done
}

/// Whether so many messages can be stored with bounded work.
pub(super) fn check_size(items: &[AppendItem]) -> Result<(), Stop> {
    let n = items.len();
    if n == 0 || n > limits::ITEMS_PER_APPEND {
        return Err(limit(format!("1 to {} messages", limits::ITEMS_PER_APPEND)).into());
    }
    let chunks: usize = items.iter().map(|i| i.blob.chunks.len()).sum();
    if chunks > limits::CHUNKS_PER_BLOB as usize {
        return Err(limit(format!("{} chunks of messages", limits::CHUNKS_PER_BLOB)).into());
    }
    let largest = items.iter().map(|i| i.summary.len()).max();
    if largest.is_some_and(|len| len > limits::SUMMARY_BYTES) {
        return Err(limit(format!("{} octets of summary", limits::SUMMARY_BYTES)).into());
    }
    let weight: usize = items.iter().map(|i| i.weight()).sum();
    if weight > limits::APPEND_BYTES {
        let n = limits::APPEND_BYTES;
        return Err(limit(format!("{n} octets of summaries and flags")).into());
    }
    Ok(())
}

fn all(txn: &mut Txn, append: &AppendMany) -> Result<Reply, Stop> {
    let (id, mut account) = scope::account(txn, &append.account)?;
    // The scope is the account: a retry gets its answer also when the mailbox has another name by
    // then, or is gone.
    let kind = RequestKind::AppendMany;
    let request = request::of_account(kind, id, MailboxId(0), append.request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    scope::takes_mail(&account)?;
    let (mailbox_id, mailbox) = scope::mailbox(txn, id, &append.mailbox)?;
    let ready = check(txn, id, (mailbox_id, mailbox), &append.items)?;
    let replaced = find_replaced(txn, id, mailbox_id, append)?;

    // From here on nothing is refused.
    let email = EmailId(account.next_email);
    let count = append.items.len() as u32;
    let placed = ready.place(txn, id, &mut account, &append.items)?;
    if let Some((from, gone)) = replaced {
        placing::remove(txn, id, &mut account, from, &[gone])?;
    }
    txn.put(&Key::Account(id), &account);
    let reply = Reply::Appended {
        mailbox: mailbox_id,
        uidvalidity: placed.uidvalidity,
        uid: placed.first,
        count,
        email,
        modseq: account.highest_modseq,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

/// Messages that nothing speaks against; nothing is written yet.
pub(super) struct Ready {
    to: (MailboxId, MailboxRow),
    keywords: Keywords,
    flags: Vec<Flags>,
}

/// Whether messages can be stored in a mailbox of the account.
pub(super) fn check(
    txn: &Txn,
    id: AccountId,
    to: (MailboxId, MailboxRow),
    items: &[AppendItem],
) -> Result<Ready, Stop> {
    check_arrived(txn, items)?;
    placing::check_room(&to.1, items.len())?;
    let mut keywords = Keywords::of(id, to.0, &to.1);
    let mut flags = Vec::with_capacity(items.len());
    for item in items {
        flags.push(keywords.flags(txn, &item.flags)?);
    }
    Ok(Ready {
        to,
        keywords,
        flags,
    })
}

impl Ready {
    /// Stores the messages that were checked, at least one; refuses nothing. The caller writes the
    /// account.
    pub(super) fn place(
        self,
        txn: &mut Txn,
        id: AccountId,
        account: &mut AccountRow,
        items: &[AppendItem],
    ) -> Result<Placed, Stop> {
        let (mailbox_id, mut mailbox) = self.to;
        self.keywords.write(txn, &mut mailbox);
        let mut messages = Vec::with_capacity(items.len());
        for (item, flags) in items.iter().zip(self.flags) {
            blob::add_refs(txn, &item.blob, 1)?;
            let summary = Bytes::copy_from_slice(&item.summary);
            let (blob, keys) = (item.blob.id, &item.threads);
            messages.push(MessageRow {
                flags: flags.system,
                keywords: flags.keywords,
                modseq: 0,
                email: placing::new_email(txn, id, account, blob, summary, keys)?,
                size: item.blob.size,
                internal_date_ms: item.internal_date_ms,
                save_date_ms: 0,
            });
        }
        Ok(placing::arrive(
            txn,
            id,
            account,
            (mailbox_id, mailbox),
            messages,
        )?)
    }
}

/// Whether the octets of all messages are there, and what else they bring is sound.
fn check_arrived(txn: &Txn, items: &[AppendItem]) -> Result<(), Stop> {
    let mut uploads = BTreeSet::new();
    for item in items {
        blob::check_arrived(txn, &item.blob)?;
        thread::check(&item.threads)?;
        let own = match item.blob.upload {
            Some(upload) => uploads.insert(upload),
            // Only one blob can travel with a command.
            None => items.len() == 1,
        };
        if !own {
            return Err(ApplyError::NoUpload.into());
        }
    }
    Ok(())
}

/// The message that is replaced, and its mailbox.
#[allow(clippy::type_complexity)]
fn find_replaced(
    txn: &Txn,
    account: AccountId,
    to: MailboxId,
    append: &AppendMany,
) -> Result<Option<(MailboxId, (Uid, MessageRow))>, Stop> {
    let Some((mailbox, uidvalidity, uid)) = append.replace.parts() else {
        return Ok(None);
    };
    if append.items.len() != 1 {
        return Err(ApplyError::Refused("one message replaces another".into()).into());
    }
    let mailbox = match mailbox {
        MailboxId(0) => to,
        other => other,
    };
    // A mailbox that is going still has rows of messages, but no row of its own. Another account of
    // this name, made since, has mailboxes with the same numbers.
    let row: Option<MailboxRow> = txn.get(&Key::Mailbox { account, mailbox })?;
    if row.is_some_and(|row| [0, row.uidvalidity].contains(&uidvalidity)) {
        let key = Key::Message {
            account,
            mailbox,
            uid,
        };
        if let Some(message) = txn.get(&key)? {
            return Ok(Some((mailbox, (uid, message))));
        }
    }
    rare::hit(Rare::ReplacedIsGone);
    Err(ApplyError::NoMessage.into())
}

//! Adds, removes or replaces flags (RFC 9051, section 6.4.6), with the UNCHANGEDSINCE test of each
//! message inside the commit (RFC 7162, section 3.1.3).
//!
//! A message whose flags stay as they are keeps its modseq and is not among the changed ones.

use crate::index::keys::{Key, RequestKind};
use crate::index::uids::to_ranges;
use crate::index::values::{Answer, ChangeKind, MessageRow};
use crate::machine::command::{FlagMode, Reply};
use crate::machine::scope::Flags;
use crate::machine::{Stop, Txn, limits, request, scope};
use crate::rare::{self, Rare};
use crate::types::*;

/// What to do to which messages.
pub(in crate::machine) struct SetFlags<'a> {
    pub uids: &'a [(Uid, Uid)],
    pub mode: FlagMode,
    pub flags: &'a [String],
    pub unchanged_since: Option<ModSeq>,
}

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    mailbox: &MailboxRef,
    what: &SetFlags,
) -> Result<Reply, Stop> {
    let (id, mut account) = scope::account(txn, account)?;
    // Before the mailbox is looked up: a retry may find another one under the name, or none.
    let request = request::of_account(RequestKind::SetFlags, id, MailboxId(0), request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let (mailbox_id, mut mailbox) = scope::mailbox(txn, id, mailbox)?;
    let found = scope::messages(txn, id, mailbox_id, what.uids)?;
    let make = what.mode != FlagMode::Remove && !found.is_empty();
    let named = scope::find_flags(txn, id, mailbox_id, &mailbox, what.flags, make)?;

    let mut modified = Vec::new();
    let mut change: Vec<(Uid, MessageRow, Flags)> = Vec::new();
    for (uid, message) in found {
        if what
            .unchanged_since
            .is_some_and(|since| message.modseq > since)
        {
            rare::hit(Rare::ConditionKeptMessage);
            modified.push(uid);
            continue;
        }
        let new = combine(&message, &named.flags, what.mode);
        if new.keywords.len() > limits::KEYWORDS_PER_MESSAGE {
            return Err(scope::too_many_keywords().into());
        }
        if new.system != message.flags || new.keywords != message.keywords {
            change.push((uid, message, new));
        }
    }

    // From here on nothing is refused.
    let changed = to_ranges(change.iter().map(|(uid, ..)| *uid));
    if !change.is_empty() {
        named.write_new(txn, id, mailbox_id, &mut mailbox);
        let modseq = scope::change(
            txn,
            id,
            &mut account,
            mailbox_id,
            ChangeKind::Updated,
            changed.clone(),
        )?;
        mailbox.highest_modseq = modseq;
        for (uid, mut message, new) in change {
            scope::count(&mut account, &mut mailbox, &message, false);
            message.flags = new.system;
            message.keywords = new.keywords;
            message.modseq = modseq;
            scope::count(&mut account, &mut mailbox, &message, true);
            let key = Key::Message {
                account: id,
                mailbox: mailbox_id,
                uid,
            };
            txn.put(&key, &message);
        }
        let key = Key::Mailbox {
            account: id,
            mailbox: mailbox_id,
        };
        txn.put(&key, &mailbox);
        txn.put(&Key::Account(id), &account);
    }
    let reply = Reply::Flags {
        modseq: account.highest_modseq,
        changed,
        modified: to_ranges(modified),
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

fn combine(message: &MessageRow, named: &Flags, mode: FlagMode) -> Flags {
    let mut keywords = message.keywords.clone();
    match mode {
        FlagMode::Add => {
            keywords.extend_from_slice(&named.keywords);
            keywords.sort_unstable();
            keywords.dedup();
            Flags {
                system: message.flags | named.system,
                keywords,
            }
        }
        FlagMode::Remove => {
            keywords.retain(|id| named.keywords.binary_search(id).is_err());
            Flags {
                system: message.flags & !named.system,
                keywords,
            }
        }
        FlagMode::Replace => named.clone(),
    }
}

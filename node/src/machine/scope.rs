//! An account or a mailbox at work: looked up by name, changed, given its modseq, written back.

use super::Txn;
use super::command::ApplyError;
use super::txn::limit;
use super::{Stop, blob, limits, read, thread};
use crate::index::keys::{Key, KeyRange};
use crate::index::values::{
    AccountNameRow, AccountRow, ChangeKind, ChangeRow, EmailRow, KeywordNameRow, KeywordRow,
    MailboxNameRow, MailboxRow, MessageRow, flag,
};
use crate::index::{Family, IndexError, Next, View, values};
use crate::rare::{self, Rare};
use crate::types::*;

/// An account by its name.
pub fn account(txn: &Txn, name: &AccountName) -> Result<(AccountId, AccountRow), Stop> {
    let key = Key::AccountName {
        slot: Slot::of(name),
        name: name.as_str(),
    };
    let AccountNameRow { account } = txn.get(&key)?.ok_or(ApplyError::NoAccount)?;
    Ok((account, txn.need(&Key::Account(account))?))
}

/// Whether messages may come into an account; by whatever way, they must ask this first. What is
/// in it may still be copied and moved about: that is for services that act for an operator, since
/// nobody logs in.
pub fn takes_mail(account: &AccountRow) -> Result<(), ApplyError> {
    match account.state {
        AccountState::Active | AccountState::Frozen => Ok(()),
        AccountState::Closed => Err(ApplyError::Refused("the account is closed".into())),
    }
}

/// A mailbox by its name or number.
pub fn mailbox(
    txn: &Txn,
    account: AccountId,
    which: &MailboxRef,
) -> Result<(MailboxId, MailboxRow), Stop> {
    match read::mailbox(txn, txn.space(), account, which)? {
        Some(found) => Ok(found),
        None => Err(ApplyError::NoMailbox.into()),
    }
}

/// The names above this one that no mailbox has, the highest first.
pub fn missing_parents(
    txn: &Txn,
    account: AccountId,
    name: &MailboxName,
) -> Result<Vec<MailboxName>, Stop> {
    let mut missing = Vec::new();
    for (end, _) in name.as_str().match_indices('/') {
        let parent = &name.as_str()[..end];
        let key = Key::MailboxName {
            account,
            name: parent,
        };
        if !txn.has(&key)? {
            let parent = MailboxName::new(parent)
                .map_err(|e| ApplyError::Refused(format!("no parent of a mailbox: {e}")))?;
            missing.push(parent);
        }
    }
    Ok(missing)
}

/// The era of the next mailbox. Time-based, so that it also rises over accounts that came and went
/// under one name, and counted up, so that it rises whatever the clocks do (RFC 9051, section
/// 2.3.1.1).
fn next_uidvalidity(txn: &mut Txn, account: &AccountRow) -> Result<u32, IndexError> {
    let seconds = u32::try_from(txn.now_ms()? / 1000).unwrap_or(u32::MAX);
    Ok(account.next_uidvalidity.max(seconds))
}

/// Whether the account has room for so many more mailboxes. To be asked before the first write of
/// a command.
pub fn room_for_mailboxes(txn: &mut Txn, account: &AccountRow, more: usize) -> Result<(), Stop> {
    let n = limits::MAILBOXES_PER_ACCOUNT;
    let more = more as u64;
    if account.mailboxes.saturating_add(more) > n {
        return Err(limit(format!("{n} mailboxes in an account")).into());
    }
    if account.next_mailbox as u64 + more > u32::MAX as u64 {
        return Err(limit("the account has no mailbox numbers left").into());
    }
    if next_uidvalidity(txn, account)? as u64 + more > u32::MAX as u64 {
        return Err(limit("the account has no uidvalidity left").into());
    }
    Ok(())
}

/// Makes a mailbox; the caller has checked that the name is free and that there is room
/// ([`room_for_mailboxes`]), and writes the account.
pub fn create_mailbox(
    txn: &mut Txn,
    id: AccountId,
    account: &mut AccountRow,
    name: &MailboxName,
    special_use: u16,
) -> Result<(MailboxId, MailboxRow), Stop> {
    let uidvalidity = next_uidvalidity(txn, account)?;
    assert!(
        account.next_mailbox < u32::MAX && uidvalidity < u32::MAX,
        "room for a mailbox was asked for before"
    );
    let mailbox = MailboxId(account.next_mailbox);
    account.next_mailbox += 1;
    account.next_uidvalidity = uidvalidity + 1;
    account.mailboxes += 1;
    let modseq = change(
        txn,
        id,
        account,
        mailbox,
        ChangeKind::MailboxCreated,
        vec![],
    )?;
    let row = MailboxRow {
        name: name.clone(),
        uidvalidity,
        uidnext: 1,
        highest_modseq: modseq,
        messages: 0,
        unseen: 0,
        deleted: 0,
        bytes: 0,
        next_keyword: 0,
        special_use,
    };
    let key = Key::MailboxName {
        account: id,
        name: name.as_str(),
    };
    txn.put(&key, &MailboxNameRow { mailbox });
    txn.put(
        &Key::Mailbox {
            account: id,
            mailbox,
        },
        &row,
    );
    Ok((mailbox, row))
}

/// Gives the account its next modseq with a change row, and forgets a few that are too old.
pub fn change(
    txn: &mut Txn,
    id: AccountId,
    account: &mut AccountRow,
    mailbox: MailboxId,
    kind: ChangeKind,
    uids: Vec<(Uid, Uid)>,
) -> Result<ModSeq, IndexError> {
    change_with(txn, id, account, mailbox, kind, uids, Vec::new())
}

/// The same, of a change by which these emails are shown no more.
pub fn change_with(
    txn: &mut Txn,
    id: AccountId,
    account: &mut AccountRow,
    mailbox: MailboxId,
    kind: ChangeKind,
    uids: Vec<(Uid, Uid)>,
    destroyed: Vec<(EmailId, EmailId)>,
) -> Result<ModSeq, IndexError> {
    let time_ms = txn.now_ms()?;
    if account.highest_modseq == account.trimmed_modseq {
        account.oldest_change_ms = time_ms;
    }
    account.highest_modseq += 1;
    let modseq = account.highest_modseq;
    let row = ChangeRow {
        time_ms,
        mailbox,
        kind,
        uids,
        destroyed,
    };
    txn.put(
        &Key::Change {
            account: id,
            modseq,
        },
        &row,
    );
    txn.account_changed(id, modseq);
    trim_changes(txn, id, account)?;
    Ok(modseq)
}

fn trim_changes(txn: &mut Txn, id: AccountId, row: &mut AccountRow) -> Result<(), IndexError> {
    let horizon_ms = txn.now_ms()?.saturating_sub(limits::CHANGE_WINDOW_MS);
    if row.oldest_change_ms >= horizon_ms {
        return Ok(());
    }
    let first = Key::Change {
        account: id,
        modseq: row.trimmed_modseq + 1,
    };
    let last = Key::Change {
        account: id,
        modseq: row.highest_modseq,
    };
    let range = KeyRange::inclusive(&first, &last, txn.space());
    let mut oldest = Vec::new();
    let mut damaged = None;
    txn.scan(Family::State, &range.from, &range.to, &mut |key, value| {
        match (Key::decode(key), values::decode::<ChangeRow>(key, value)) {
            (Some((_, Key::Change { modseq, .. })), Ok(change)) => {
                oldest.push((modseq, change.time_ms))
            }
            (_, Err(e)) => damaged = Some(e),
            _ => {}
        }
        match oldest.len() <= limits::CHANGES_TRIMMED && damaged.is_none() {
            true => Next::Continue,
            false => Next::Stop,
        }
    })?;
    if let Some(e) = damaged {
        return Err(e);
    }
    for (n, (modseq, time_ms)) in oldest.into_iter().enumerate() {
        row.oldest_change_ms = time_ms;
        if time_ms >= horizon_ms || n == limits::CHANGES_TRIMMED {
            break;
        }
        rare::hit(Rare::ChangeForgotten);
        txn.delete(&Key::Change {
            account: id,
            modseq,
        });
        row.trimmed_modseq = modseq;
    }
    Ok(())
}

/// Flags as a hot row keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// Bits of [`flag`].
    pub system: u8,
    /// Numbers of keywords, ascending.
    pub keywords: Vec<u16>,
}

/// Flags by name, some of whose keywords the mailbox may not have seen yet.
pub struct NamedFlags {
    /// With the numbers that new keywords will have.
    pub flags: Flags,
    /// New keywords: lower case, as spelled.
    new: Vec<(String, String)>,
}

/// The flags of these names. New keywords get a number when `make`, and are left out otherwise.
/// Writes nothing: the caller may still refuse.
pub fn find_flags(
    txn: &Txn,
    account: AccountId,
    mailbox: MailboxId,
    row: &MailboxRow,
    names: &[String],
    make: bool,
) -> Result<NamedFlags, Stop> {
    let mut flags = Flags::default();
    let mut new: Vec<(String, String)> = Vec::new();
    for name in names {
        if let Some(bit) = system_flag(name) {
            flags.system |= 1 << bit;
            continue;
        }
        let lower = name.to_ascii_lowercase();
        let key = Key::KeywordName {
            account,
            mailbox,
            name: &lower,
        };
        match txn.get::<KeywordNameRow>(&key)? {
            Some(known) => flags.keywords.push(known.id),
            None if make && new.iter().all(|(known, _)| *known != lower) => {
                let n = limits::KEYWORDS_PER_MAILBOX;
                let id = row.next_keyword as usize + new.len();
                if id >= n as usize {
                    return Err(limit(format!("{n} keywords in a mailbox")).into());
                }
                flags.keywords.push(id as u16);
                new.push((lower, name.clone()));
                if new.len() > limits::KEYWORDS_PER_MESSAGE {
                    return Err(too_many_keywords().into());
                }
            }
            None => {}
        }
    }
    flags.keywords.sort_unstable();
    flags.keywords.dedup();
    if flags.keywords.len() > limits::KEYWORDS_PER_MESSAGE {
        return Err(too_many_keywords().into());
    }
    Ok(NamedFlags { flags, new })
}

/// The error of a message with too many keywords.
pub fn too_many_keywords() -> ApplyError {
    limit(format!(
        "{} keywords on a message",
        limits::KEYWORDS_PER_MESSAGE
    ))
}

impl NamedFlags {
    /// Writes the new keywords; the caller writes the mailbox.
    pub fn write_new(
        &self,
        txn: &mut Txn,
        account: AccountId,
        mailbox: MailboxId,
        row: &mut MailboxRow,
    ) {
        for (lower, name) in &self.new {
            let id = row.next_keyword;
            row.next_keyword += 1;
            let key = Key::KeywordName {
                account,
                mailbox,
                name: lower,
            };
            txn.put(&key, &KeywordNameRow { id });
            let key = Key::Keyword {
                account,
                mailbox,
                id,
            };
            txn.put(&key, &KeywordRow { name: name.clone() });
        }
    }
}

/// The messages of these ranges that exist. More than a command may touch are refused, before any
/// is changed; the bound is in the error, the caller splits.
pub fn messages(
    txn: &Txn,
    account: AccountId,
    mailbox: MailboxId,
    ranges: &[(Uid, Uid)],
) -> Result<Vec<(Uid, MessageRow)>, Stop> {
    let bound = limits::MESSAGES_PER_COMMAND as usize;
    if ranges.len() > bound {
        return Err(limit(format!("{bound} ranges of uids in a command")).into());
    }
    let mut found = Vec::new();
    let mut ranges = ranges.to_vec();
    ranges.sort_unstable();
    let mut next = 1;
    for (first, last) in &ranges {
        // What overlaps is taken once.
        let first = (*first).max(next);
        if first > *last {
            continue;
        }
        let room = bound - found.len();
        let (rows, more) =
            read::messages(txn, txn.space(), account, mailbox, (first, *last), room)?;
        found.extend(rows);
        if more.is_some() {
            return Err(limit(format!("{bound} messages in a command")).into());
        }
        next = last.saturating_add(1);
    }
    Ok(found)
}

/// Takes one message's reference to an email away; with the last one the email and its references
/// to the blob and to what finds its thread go, which is then said.
pub fn drop_email_ref(
    txn: &mut Txn,
    account: AccountId,
    email: EmailId,
) -> Result<bool, IndexError> {
    let key = Key::Email { account, email };
    let mut row: EmailRow = txn.need(&key)?;
    if row.refs > 1 {
        row.refs -= 1;
        txn.put(&key, &row);
        return Ok(false);
    }
    txn.delete(&key);
    txn.delete(&Key::Summary { account, email });
    thread::leave(txn, account, &row.thread_keys)?;
    blob::drop_ref(txn, row.blob)?;
    Ok(true)
}

/// The bit number of a system flag; compared without case (RFC 9051, section 2.3.2).
pub fn system_flag(name: &str) -> Option<usize> {
    flag::NAMES
        .iter()
        .position(|known| known.eq_ignore_ascii_case(name))
}

/// Counts a message in or out.
pub fn count(account: &mut AccountRow, mailbox: &mut MailboxRow, message: &MessageRow, come: bool) {
    let unseen = (message.flags & flag::SEEN == 0) as u64;
    let deleted = (message.flags & flag::DELETED != 0) as u64;
    for (counter, n) in [
        (&mut account.messages, 1),
        (&mut account.bytes, message.size),
        (&mut account.unseen, unseen),
        (&mut account.deleted, deleted),
        (&mut mailbox.messages, 1),
        (&mut mailbox.bytes, message.size),
        (&mut mailbox.unseen, unseen),
        (&mut mailbox.deleted, deleted),
    ] {
        *counter = match come {
            true => counter.checked_add(n),
            false => counter.checked_sub(n),
        }
        .expect("counters are sums over the messages that exist");
    }
}

//! Renames a mailbox with all its children in one step (RFC 9051, section 6.3.6).
//!
//! Only names change: numbers, uids, uidvalidity and messages stay, so the step costs two rows a
//! mailbox. Subscriptions are to names and stay as they are. INBOX is not renamed here: its
//! messages are moved (`mailbox::rename_mailbox`).

use std::collections::BTreeSet;

use crate::index::keys::{Key, KeyRange, RequestKind};
use crate::index::values::{Answer, ChangeKind, MailboxNameRow, MailboxRow};
use crate::machine::command::{ApplyError, Reply};
use crate::machine::txn::limit;
use crate::machine::{Stop, Txn, limits, request, scope};
use crate::types::*;

/// A mailbox on its way from one name to another.
struct Moved {
    mailbox: MailboxId,
    from: String,
    to: MailboxName,
}

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    mailbox: &MailboxRef,
    to: &MailboxName,
) -> Result<Reply, Stop> {
    let (id, mut account) = scope::account(txn, account)?;
    // Before the mailbox is looked up: a retry does not find its old name any more.
    let request = request::of_account(RequestKind::RenameMailbox, id, MailboxId(0), request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let (mailbox, row) = scope::mailbox(txn, id, mailbox)?;
    if row.name == MailboxName::inbox() {
        return Err(ApplyError::Refused("INBOX keeps its name".into()).into());
    }
    let old = row.name.as_str();
    if is_below(to.as_str(), old) {
        return Err(ApplyError::Refused("a mailbox cannot come below itself".into()).into());
    }
    if txn.has(&name_key(id, to.as_str()))? {
        return Err(ApplyError::Exists.into());
    }
    let moved = with_children(txn, id, mailbox, old, to)?;
    let leaving: BTreeSet<&str> = moved.iter().map(|m| m.from.as_str()).collect();
    for m in &moved {
        // A name may pass from one of them to another: "a/b" to "a" moves "a/b/b" to "a/b".
        if !leaving.contains(m.to.as_str()) && txn.has(&name_key(id, m.to.as_str()))? {
            return Err(ApplyError::Exists.into());
        }
    }
    let parents = scope::missing_parents(txn, id, to)?;
    scope::room_for_mailboxes(txn, &account, parents.len())?;

    // From here on nothing is refused.
    for parent in &parents {
        scope::create_mailbox(txn, id, &mut account, parent, 0)?;
    }
    for m in &moved {
        txn.delete(&name_key(id, &m.from));
    }
    for m in moved {
        let key = Key::Mailbox {
            account: id,
            mailbox: m.mailbox,
        };
        let mut row: MailboxRow = txn.need(&key)?;
        let kind = ChangeKind::MailboxChanged;
        row.highest_modseq = scope::change(txn, id, &mut account, m.mailbox, kind, vec![])?;
        row.name = m.to;
        let name = MailboxNameRow { mailbox: m.mailbox };
        txn.put(&name_key(id, row.name.as_str()), &name);
        txn.put(&key, &row);
    }
    txn.put(&Key::Account(id), &account);
    let reply = Reply::Mailbox {
        mailbox,
        uidvalidity: row.uidvalidity,
        modseq: account.highest_modseq,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

fn name_key(account: AccountId, name: &str) -> Key<'_> {
    Key::MailboxName { account, name }
}

/// Whether a name is that of a child, or of a child's child.
fn is_below(name: &str, of: &str) -> bool {
    name.strip_prefix(of)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// The mailbox and everything below it, with the names that they get.
fn with_children(
    txn: &Txn,
    account: AccountId,
    mailbox: MailboxId,
    old: &str,
    to: &MailboxName,
) -> Result<Vec<Moved>, Stop> {
    let mut moved = vec![Moved {
        mailbox,
        from: old.to_owned(),
        to: to.clone(),
    }];
    let below = format!("{old}/");
    let like = name_key(account, &below);
    let range = KeyRange::prefix(&like.encode(txn.space()));
    let keys = txn.keys(like.family(), &range, limits::MAILBOXES_PER_RENAME)?;
    if keys.len() == limits::MAILBOXES_PER_RENAME {
        let n = limits::MAILBOXES_PER_RENAME;
        return Err(limit(format!("{n} mailboxes in a renaming")).into());
    }
    for key in keys {
        let Some((_, Key::MailboxName { name, .. })) = Key::decode(&key) else {
            continue;
        };
        let new = format!("{to}/{}", &name[below.len()..]);
        let to = MailboxName::new(&new)
            .map_err(|e| ApplyError::Refused(format!("a child would get no good name: {e}")))?;
        let MailboxNameRow { mailbox } = txn.need(&name_key(account, name))?;
        moved.push(Moved {
            mailbox,
            from: name.to_owned(),
            to,
        });
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::is_below;

    #[test]
    fn only_whole_levels_are_below() {
        assert!(is_below("a/b", "a") && is_below("a/b/c", "a"));
        for name in ["a", "ab", "ab/c", "b/a/c", ""] {
            assert!(!is_below(name, "a"), "{name}");
        }
    }
}

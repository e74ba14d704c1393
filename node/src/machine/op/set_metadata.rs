//! Annotations of a mailbox or of an account (RFC 5464): all entries of a command are set, or none.

use std::collections::BTreeMap;

use super::subscribe::changed;
use crate::index::keys::{Key, RequestKind};
use crate::index::values::{AnnotationRow, Answer, ChangeKind};
use crate::machine::command::{ApplyError, Reply};
use crate::machine::txn::limit;
use crate::machine::{Stop, Txn, limits, read, request, scope};
use crate::types::*;

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    mailbox: Option<&MailboxRef>,
    entries: &[(String, Option<Vec<u8>>)],
) -> Result<Reply, Stop> {
    let (id, mut account) = scope::account(txn, account)?;
    let request = request::of_account(RequestKind::SetMetadata, id, MailboxId(0), request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let found = match mailbox {
        Some(which) => Some(scope::mailbox(txn, id, which)?),
        None => None,
    };
    let owner = found.as_ref().map_or(MailboxId(0), |(mailbox, _)| *mailbox);
    let before: BTreeMap<String, Vec<u8>> = read::annotations(txn, txn.space(), id, owner)?
        .into_iter()
        .collect();
    let after = set(&before, entries)?;

    // From here on nothing is refused.
    if after != before {
        let key = |entry| Key::Annotation {
            account: id,
            mailbox: owner,
            entry,
        };
        for (entry, value) in &after {
            if before.get(entry) != Some(value) {
                let value = value.clone();
                txn.put(&key(entry), &AnnotationRow { value });
            }
        }
        for entry in before.keys().filter(|entry| !after.contains_key(*entry)) {
            txn.delete(&key(entry));
        }
        match found {
            Some(_) => changed(txn, id, &mut account, found)?,
            None => {
                let kind = ChangeKind::AccountChanged;
                scope::change(txn, id, &mut account, owner, kind, vec![])?;
            }
        }
        txn.put(&Key::Account(id), &account);
    }
    let reply = Reply::Changed {
        modseq: account.highest_modseq,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

/// What there is after the entries are set, if it is within its bounds.
fn set(
    before: &BTreeMap<String, Vec<u8>>,
    entries: &[(String, Option<Vec<u8>>)],
) -> Result<BTreeMap<String, Vec<u8>>, ApplyError> {
    let mut after = before.clone();
    for (entry, value) in entries {
        let Some(value) = value else {
            after.remove(entry);
            continue;
        };
        if entry.len() > limits::ANNOTATION_ENTRY_BYTES || value.len() > limits::ANNOTATION_BYTES {
            let n = limits::ANNOTATION_BYTES;
            return Err(limit(format!("{n} octets in an annotation")));
        }
        after.insert(entry.clone(), value.clone());
    }
    // What has become too much may still shrink.
    let bytes = |all: &BTreeMap<String, Vec<u8>>| -> usize {
        all.iter()
            .map(|(entry, value)| entry.len() + value.len())
            .sum()
    };
    let n = limits::ANNOTATIONS;
    if after.len() > n.max(before.len()) {
        return Err(limit(format!("{n} annotations")));
    }
    let n = limits::ANNOTATIONS_BYTES;
    if bytes(&after) > n.max(bytes(before)) {
        return Err(limit(format!("{n} octets of annotations")));
    }
    Ok(after)
}

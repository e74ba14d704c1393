//! Queries over the change rows of an account, and over its credentials.

use crate::index::keys::{Key, KeyRange, Space};
use crate::index::values::{self, ChangeRow, CredentialRow};
use crate::index::{Family, IndexError, Next, View};
use crate::types::*;

/// Visits the changes of an account in `first..=last`, in order, until the visitor stops.
pub fn changes(
    view: &dyn View,
    space: Space,
    account: AccountId,
    (first, last): (ModSeq, ModSeq),
    visit: &mut dyn FnMut(ModSeq, ChangeRow) -> Next,
) -> Result<(), IndexError> {
    if first > last {
        return Ok(());
    }
    let key = |modseq| Key::Change { account, modseq };
    let range = KeyRange::inclusive(&key(first), &key(last), space);
    let mut failed = None;
    let mut expected = first;
    view.scan(Family::State, &range.from, &range.to, &mut |key, row| {
        let change = match (Key::decode(key), values::decode::<ChangeRow>(key, row)) {
            (Some((_, Key::Change { modseq, .. })), Ok(row)) if modseq == expected => row,
            (_, Err(e)) => {
                failed = Some(e);
                return Next::Stop;
            }
            // A change that is silently passed over would be a wrong answer for ever.
            _ => {
                failed = Some(gap(account, expected));
                return Next::Stop;
            }
        };
        let modseq = expected;
        expected += 1;
        match visit(modseq, change) {
            Next::Continue => Next::Continue,
            Next::Stop => {
                expected = ModSeq::MAX;
                Next::Stop
            }
        }
    })?;
    match failed {
        Some(e) => Err(e),
        None if expected <= last => Err(gap(account, expected)),
        None => Ok(()),
    }
}

fn gap(account: AccountId, modseq: ModSeq) -> IndexError {
    IndexError::Corrupt(format!("change {modseq} of account {account} is missing"))
}

/// The credentials of an account by name; its own password has the empty one.
pub fn credentials(
    view: &dyn View,
    space: Space,
    account: AccountId,
) -> Result<Vec<(String, CredentialRow)>, IndexError> {
    let like = Key::Credential { account, name: "" };
    let range = KeyRange::account(space, &like, account);
    let mut found = Vec::new();
    let mut failed = None;
    view.scan(Family::State, &range.from, &range.to, &mut |key, row| {
        match (Key::decode(key), values::decode(key, row)) {
            (Some((_, Key::Credential { name, .. })), Ok(row)) => {
                found.push((name.to_owned(), row));
                return Next::Continue;
            }
            (_, Err(e)) => failed = Some(e),
            _ => failed = Some(IndexError::Corrupt(format!("{key:02x?} is no key"))),
        }
        Next::Stop
    })?;
    failed.map_or(Ok(found), Err)
}

//! Stores one message for each target: deliver and append.
//!
//! Targets are independent: an unknown account fails its own target only, a retry gets its first
//! answer, the others are stored. There is one blob row, with one reference an email.

use bytes::Bytes;

use crate::index::keys::Key;
use crate::index::values::{Answer, MessageRow};
use crate::machine::command::{ApplyError, Reply, Store, StoreResult, Target};
use crate::machine::txn::limit;
use crate::machine::{Stop, Txn, blob, limits, placing, request, scope, thread};
use crate::rare::{self, Rare};

pub(in crate::machine) fn apply(txn: &mut Txn, store: &Store) -> Result<Reply, Stop> {
    let done = targets(txn, store);
    // Whatever came of it, the arrival is over: what was stored has rows of its own.
    if let (Some(upload), Ok(_) | Err(Stop::Refused(_))) = (store.blob.upload, &done) {
        blob::drop_upload(txn, upload)?;
    }
    Ok(Reply::Stored(done?))
}

fn targets(txn: &mut Txn, store: &Store) -> Result<Vec<StoreResult>, Stop> {
    if store.targets.is_empty() || store.targets.len() > limits::TARGETS_PER_STORE {
        return Err(limit(format!("1 to {} targets", limits::TARGETS_PER_STORE)).into());
    }
    if store.summary.len() > limits::SUMMARY_BYTES {
        return Err(limit(format!("{} octets of summary", limits::SUMMARY_BYTES)).into());
    }
    thread::check(&store.threads)?;
    let arrived = match blob::check_arrived(txn, &store.blob) {
        Ok(()) => Ok(()),
        Err(Stop::Refused(e)) => Err(e),
        Err(stop) => return Err(stop),
    };
    let summary = Bytes::copy_from_slice(&store.summary);
    let mut results = Vec::with_capacity(store.targets.len());
    let mut refs = 0;
    for target in &store.targets {
        let result = match one(txn, store, target, &summary, &arrived) {
            Ok(result) => result,
            Err(Stop::Refused(e)) => {
                if e == ApplyError::NoAccount {
                    rare::hit(Rare::AccountGoneAtStore);
                }
                StoreResult::Failed(e)
            }
            Err(stop) => return Err(stop),
        };
        refs += matches!(
            result,
            StoreResult::Stored {
                duplicate: false,
                ..
            }
        ) as u64;
        results.push(result);
    }
    if refs > 0 {
        blob::add_refs(txn, &store.blob, refs)?;
    }
    Ok(results)
}

/// Stores the message for one target; every check comes before the first write.
fn one(
    txn: &mut Txn,
    store: &Store,
    target: &Target,
    summary: &Bytes,
    arrived: &Result<(), ApplyError>,
) -> Result<StoreResult, Stop> {
    let (id, mut account) = scope::account(txn, &target.account)?;
    // Before the mailbox is looked up: a retry may find another one under the name, or none.
    let request = request::of_target(id, &target.mailbox, target.request_id);
    if let Some(first) = request::target(txn, &request)? {
        return Ok(as_duplicate(first));
    }
    // Before the mailbox, as on every other way into an account: a closed one says so, whatever
    // mailboxes it has.
    scope::takes_mail(&account)?;
    let (mailbox_id, mut mailbox) = scope::mailbox(txn, id, &target.mailbox)?;
    arrived.clone()?;
    placing::check_room(&mailbox, 1)?;
    let named = scope::find_flags(txn, id, mailbox_id, &mailbox, &target.flags, true)?;
    named.write_new(txn, id, mailbox_id, &mut mailbox);
    let flags = named.flags;

    let (blob, keys) = (store.blob.id, &store.threads);
    let email = placing::new_email(txn, id, &mut account, blob, summary.clone(), keys)?;
    let message = MessageRow {
        flags: flags.system,
        keywords: flags.keywords,
        modseq: 0,
        email,
        size: store.blob.size,
        internal_date_ms: store.internal_date_ms,
        save_date_ms: 0,
    };
    let to = (mailbox_id, mailbox);
    let placed = placing::arrive(txn, id, &mut account, to, vec![message])?;
    txn.put(&Key::Account(id), &account);
    let result = StoreResult::Stored {
        mailbox: mailbox_id,
        uidvalidity: placed.uidvalidity,
        uid: placed.first,
        modseq: placed.modseq,
        email,
        duplicate: false,
    };
    request::remember(txn, request, Answer::Target(result.clone()))?;
    Ok(result)
}

fn as_duplicate(mut first: StoreResult) -> StoreResult {
    if let StoreResult::Stored { duplicate, .. } = &mut first {
        *duplicate = true;
    }
    first
}

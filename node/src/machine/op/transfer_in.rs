//! The target's side of a transfer from another account: messages arrive once, all or none, and
//! the answer is remembered until the source has acted on it.
//!
//! A refusal is an answer, too. It is remembered like the other, so that a repetition that was
//! long under way does not store what the source believes to have kept. Only what ends by itself
//! (octets that were dropped) or for ever (the account is gone) is not.

use crate::index::keys::{Key, KeyRange};
use crate::index::values::{AccountRow, ArrivalsRow};
use crate::machine::command::{ApplyError, Arrival, Arrive, Arriving, Reply, TransferId};
use crate::machine::op::append_many;
use crate::machine::{Stop, Txn, blob, limits, scope};
use crate::rare::{self, Rare};
use crate::types::*;

pub(in crate::machine) fn arrive(txn: &mut Txn, arrive: &Arrive) -> Result<Reply, Stop> {
    if let Arriving::Messages { from, items } = &arrive.what {
        if !items.is_empty() {
            append_many::check_size(items)?;
        }
        check_uids(from, items.len())?;
    }
    let done = once(txn, arrive);
    if let (Ok(_) | Err(Stop::Refused(_)), Arriving::Messages { items, .. }) = (&done, &arrive.what)
    {
        for upload in items.iter().filter_map(|item| item.blob.upload) {
            blob::drop_upload(txn, upload)?;
        }
    }
    done
}

/// Whether these are so many uids, ascending.
fn check_uids(from: &[(Uid, Uid)], items: usize) -> Result<(), Stop> {
    let mut left = items as u64;
    let mut last = 0;
    for (a, b) in from {
        let n = u64::from(*b).saturating_sub(u64::from(*a)) + 1;
        if *a <= last || b < a || n > left {
            left = u64::MAX;
            break;
        }
        (last, left) = (*b, left - n);
    }
    match left {
        0 => Ok(()),
        _ => Err(ApplyError::Refused("the uids are not those of the messages".into()).into()),
    }
}

fn once(txn: &mut Txn, arrive: &Arrive) -> Result<Reply, Stop> {
    let id = arrive.to.account;
    let TransferId { source, number } = arrive.transfer;
    let key = Key::Arrival {
        account: id,
        transfer: arrive.transfer,
    };
    if let Some(first) = txn.get(&key)? {
        rare::hit(Rare::ArrivalRepeated);
        return Ok(Reply::Arrived(first));
    }
    let account: Option<AccountRow> = txn.get(&Key::Account(id))?;
    let account = account.filter(|account| !account.going);
    let mut account = account.ok_or(ApplyError::NoAccount)?;
    let arrivals = Key::Arrivals {
        account: id,
        source,
    };
    let ArrivalsRow { below } = txn.get(&arrivals)?.unwrap_or_default();
    if number < below {
        rare::hit(Rare::ArrivalTooLate);
        return Ok(Reply::Done);
    }
    let arrival = match place(txn, &mut account, arrive) {
        Ok(arrival) => arrival,
        Err(Stop::Refused(e @ ApplyError::NoUpload)) => return Err(e.into()),
        Err(Stop::Refused(e)) => Arrival::Refused(e),
        Err(e) => return Err(e),
    };
    txn.put(&key, &arrival);
    Ok(Reply::Arrived(arrival))
}

fn place(txn: &mut Txn, account: &mut AccountRow, arrive: &Arrive) -> Result<Arrival, Stop> {
    let (from, items) = match &arrive.what {
        Arriving::Nothing(why) => return Err(why.clone().into()),
        Arriving::Messages { from, items } => (from.clone(), items),
    };
    if items.is_empty() {
        return Ok(Arrival::Here { first: 0, from });
    }
    let id = arrive.to.account;
    scope::takes_mail(account)?;
    let which = MailboxRef::Id {
        id: arrive.to.mailbox,
        uidvalidity: arrive.to.uidvalidity,
    };
    let to = scope::mailbox(txn, id, &which)?;
    if items.iter().any(|item| item.blob.upload.is_none()) {
        return Err(ApplyError::NoUpload.into());
    }
    let ready = append_many::check(txn, id, to, items)?;

    // From here on nothing is refused.
    let placed = ready.place(txn, id, account, items)?;
    txn.put(&Key::Account(id), account);
    Ok(Arrival::Here {
        first: placed.first,
        from,
    })
}

pub(in crate::machine) fn forget(
    txn: &mut Txn,
    account: AccountId,
    source: AccountId,
    below: u64,
) -> Result<Reply, Stop> {
    let row: Option<AccountRow> = txn.get(&Key::Account(account))?;
    if row.is_none_or(|row| row.going) {
        // Nothing comes to it any more, and its rows go with it.
        return Ok(Reply::Done);
    }
    let arrivals = Key::Arrivals { account, source };
    let mut row: ArrivalsRow = txn.get(&arrivals)?.unwrap_or_default();
    if below <= row.below {
        return Ok(Reply::Done);
    }
    row.below = below;
    txn.put(&arrivals, &row);
    let key = |number| Key::Arrival {
        account,
        transfer: TransferId { source, number },
    };
    // Those of one source are few: it settles one before it begins many more.
    let range = KeyRange::inclusive(&key(0), &key(below - 1), txn.space());
    let like = key(0).family();
    for octets in txn.keys(like, &range, limits::TRANSFERS)? {
        txn.delete_octets(like, octets);
    }
    Ok(Reply::Done)
}

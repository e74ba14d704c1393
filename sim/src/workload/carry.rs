//! Messages that come into a mailbox other than one by one: several at once, in the place of
//! another one, copied, moved. Each call may be repeated under its request id.

use posthouse_client::ids::MailboxId;
use posthouse_client::{AppendOptions, AppendPart, Replaced};

use crate::history::{Answer, Call, Done, Octets};
use crate::plan::Given;

use super::known::Place;
use super::{At, account_id, account_name, answer, mailbox_id, mailbox_name, ranges, request_id};

/// Appends several messages, all or none.
pub(super) async fn append_many(
    at: &At<'_>,
    place: Place,
    (items, given): (&[Octets], &Given),
    repeat: u32,
) {
    let request = at.request();
    let bodies: Vec<_> = items.iter().map(|octets| at.octets(*octets)).collect();
    let (account, mailbox) = (account_id(place.0), mailbox_id(place.1));
    for n in 0..=repeat {
        let client = at.client(n);
        let call = Call::AppendMany {
            account: account_name(place.0),
            mailbox: mailbox_name(place.1),
            items: items.to_vec(),
            given: given.clone(),
            request,
        };
        let parts = bodies.iter().map(|body| AppendPart {
            body,
            flags: given.flags.clone(),
            internal_date_ms: given.date_ms,
        });
        let parts: Vec<AppendPart> = parts.collect();
        let answer = at
            .call(call, async {
                let work = client.append_many(&account, &mailbox, &parts, request_id(request));
                match work.await {
                    Ok(all) => Answer::Done(Done::AppendedAll {
                        first: answer::stored(&all.first),
                        count: all.count,
                    }),
                    Err(e) => answer::of(e),
                }
            })
            .await;
        if let Answer::Done(Done::AppendedAll { first, count }) = answer {
            let mut known = at.inner.known.lock();
            for uid in first.uid..first.uid.saturating_add(count.min(1000)) {
                known.seen(place, uid, first.modseq);
            }
        }
    }
}

/// Appends a message in the place of another one of the same mailbox.
pub(super) async fn replace(
    at: &At<'_>,
    place: Place,
    pick: u32,
    (octets, given): (Octets, &Given),
    repeat: u32,
) {
    let request = at.request();
    let body = at.octets(octets);
    let (account, mailbox) = (account_id(place.0), mailbox_id(place.1));
    let picked = at.inner.known.lock().pick(place, pick, 1);
    let uid = picked.first().map_or(1, |(uid, _)| *uid);
    for n in 0..=repeat {
        let client = at.client(n);
        let call = Call::Replace {
            account: account_name(place.0),
            mailbox: mailbox_name(place.1),
            era: 0,
            uid,
            octets,
            given: given.clone(),
            request,
        };
        let options = AppendOptions {
            flags: given.flags.clone(),
            internal_date_ms: given.date_ms,
            request_id: request_id(request),
            replace: Some(Replaced {
                mailbox: MailboxId(0),
                uidvalidity: 0,
                uid,
            }),
        };
        let answer = at
            .call(call, async {
                match client.append(&account, &mailbox, &body, options).await {
                    Ok(appended) => Answer::Done(Done::Appended(answer::stored(&appended.stored))),
                    Err(e) => answer::of(e),
                }
            })
            .await;
        if let Answer::Done(Done::Appended(stored)) = answer {
            let mut known = at.inner.known.lock();
            known.gone(place, uid);
            known.seen(place, stored.uid, stored.modseq);
        }
    }
}

/// What is copied or moved.
pub(super) struct Carried {
    /// From here.
    pub place: Place,
    /// To this mailbox, which may be another account's.
    pub target: Place,
    /// The first of them.
    pub pick: u32,
    /// How many.
    pub count: u32,
    /// Whether they leave where they were.
    pub away: bool,
    /// Both mailboxes are named by their numbers.
    pub by_id: bool,
}

/// Copies or moves, in the account or to another one.
pub(super) async fn carry(at: &At<'_>, what: Carried, repeat: u32) {
    let Carried {
        place,
        target,
        away,
        ..
    } = what;
    let request = at.request();
    let account = account_id(place.0);
    let (other, crosses) = (account_id(target.0), target.0 != place.0);
    let uids = at.pick(place, what.pick, what.count);
    let uids: Vec<u32> = uids.iter().map(|(uid, _)| *uid).collect();
    let (from_ref, era) = at.which(place, what.by_id);
    // The target's number stands without its uidvalidity in the contract, so that in a later account
    // of the name it could be another mailbox.
    let to_by_id = what.by_id && !at.inner.comes_again(target.0);
    let (to_ref, to_era) = at.which(target, to_by_id);
    for n in 0..=repeat {
        let client = at.client(n);
        let call = Call::Carry {
            account: account_name(place.0),
            to_account: crosses.then(|| account_name(target.0)),
            mailbox: mailbox_name(place.1),
            era,
            to: mailbox_name(target.1),
            to_era,
            uids: uids.clone(),
            away,
            request,
        };
        let answer = at
            .call(call, async {
                let (asked, id) = (ranges(&uids), request_id(request));
                let done = match (crosses, away) {
                    (false, true) => {
                        client
                            .move_messages(&account, &from_ref, asked, &to_ref, id)
                            .await
                    }
                    (false, false) => client.copy(&account, &from_ref, asked, &to_ref, id).await,
                    (true, true) => {
                        let to = (&other, &to_ref);
                        client
                            .move_to_account(&account, &from_ref, asked, to, id)
                            .await
                    }
                    (true, false) => {
                        let to = (&other, &to_ref);
                        client
                            .copy_to_account(&account, &from_ref, asked, to, id)
                            .await
                    }
                };
                match done {
                    Ok(copied) => Answer::Done(Done::Carried {
                        modseq: copied.modseq,
                        uid_validity: copied.uidvalidity,
                        from: answer::uids(&copied.from),
                        to: answer::uids(&copied.to),
                    }),
                    // The first steps may have been done.
                    Err(e) if crosses && at.inner.are_many_octets(uids.len()) => {
                        Answer::Unknown(e.to_string())
                    }
                    Err(e) => answer::of(e),
                }
            })
            .await;
        if let Answer::Done(Done::Carried {
            modseq, from, to, ..
        }) = answer
        {
            let mut known = at.inner.known.lock();
            for uid in from.into_iter().filter(|_| away) {
                known.gone(place, uid);
            }
            for uid in to {
                // The other account counts its own changes.
                known.seen(target, uid, if crosses { 0 } else { modseq });
            }
        }
    }
}

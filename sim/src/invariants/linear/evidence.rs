//! What answers and lists have shown of an account, before anybody looks for an order.

use std::sync::Arc;

use super::search::{self, Evidence};
use super::spec::{INBOX, Op, Ret, UNSEEN};

/// What answers show of an account of one generation; `stable`: no mailbox of it was renamed or
/// removed.
pub(super) fn of(calls: &[search::Call], stable: bool) -> Evidence {
    let mut evidence = Evidence {
        stable,
        ..Evidence::default()
    };
    // INBOX has one uidvalidity for ever.
    let mut keeps = |name: &Arc<str>, era: u32| {
        if stable || **name == *INBOX {
            evidence.eras.insert(Arc::clone(name), era);
        }
    };
    for call in calls {
        match (&call.op, &call.ret) {
            (Op::Store { mailbox, .. }, Some(Ret::Stored(at, _))) => {
                keeps(mailbox, at.uid_validity)
            }
            (Op::List(name), Some(Ret::Messages { uid_validity, .. })) => {
                keeps(name, *uid_validity)
            }
            (_, Some(Ret::Maildrop { uid_validity, .. })) if *uid_validity != 0 => {
                keeps(&INBOX.into(), *uid_validity)
            }
            (_, Some(Ret::Mailboxes(all))) => {
                for (name, seen) in &all.mailboxes {
                    keeps(&name.as_str().into(), seen.uid_validity);
                }
            }
            _ => {}
        }
    }
    for (c, call) in calls.iter().enumerate() {
        let Some(ret) = &call.ret else { continue };
        let made: Vec<u64> = match (&call.op, ret) {
            (Op::Store { .. }, Ret::Stored(at, _)) if at.modseq == 0 => vec![],
            (Op::Store { replaces, .. }, Ret::Stored(at, _)) => match replaces {
                Some(_) => vec![at.modseq - 1, at.modseq],
                None => vec![at.modseq],
            },
            (
                _,
                Ret::Flags {
                    modseq, changed, ..
                },
            ) if !changed.is_empty() => vec![*modseq],
            (_, Ret::Expunged { modseq, uids }) if !uids.is_empty() => vec![*modseq],
            // IMAP tells no modseq.
            (Op::Carry { .. }, Ret::Carried { modseq: 0, .. }) => vec![],
            (Op::Carry { away, .. }, Ret::Carried { modseq, to, .. }) if !to.is_empty() => {
                match away {
                    true => vec![*modseq - 1, *modseq],
                    false => vec![*modseq],
                }
            }
            _ => vec![],
        };
        for modseq in made {
            evidence.made.entry(modseq).or_insert(c);
        }
        match (&call.op, ret) {
            (Op::Store { items, .. }, Ret::Stored(at, _)) => {
                for (uid, item) in (at.uid..).zip(items) {
                    evidence.blobs.insert((at.uid_validity, uid), item.blob);
                }
            }
            (
                Op::List(_),
                Ret::Messages {
                    uid_validity,
                    messages,
                    ..
                },
            ) => {
                for (uid, message) in messages {
                    evidence.blobs.insert((*uid_validity, *uid), message.blob);
                    let touched = evidence.touched.entry(message.modseq);
                    touched
                        .or_insert_with(|| (*uid_validity, Default::default()))
                        .1
                        .insert(*uid);
                }
            }
            (
                Op::Land { items, .. },
                Ret::Landed {
                    uid_validity,
                    first,
                },
            ) => {
                for (uid, (blob, _)) in (*first..).zip(items) {
                    if *blob != UNSEEN {
                        evidence.blobs.insert((*uid_validity, uid), *blob);
                    }
                }
            }
            (Op::Fetch(at, uid), Ret::Octets(blob)) => {
                let era = match at.era {
                    0 => evidence.eras.get(&at.name).copied(),
                    era => Some(era),
                };
                if let Some(era) = era {
                    evidence.blobs.insert((era, *uid), *blob);
                }
            }
            _ => {}
        }
    }
    evidence
}

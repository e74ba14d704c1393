//! Expunges messages, with \Deleted alone or whatever they carry. The call may be repeated under its
//! request id.

use crate::history::{Answer, Call, Done};

use super::known::Place;
use super::{At, account_id, account_name, answer, mailbox_name, ranges, request_id};

/// Which messages.
pub(super) struct Expunge {
    /// Where.
    pub place: Place,
    /// The first of the messages.
    pub pick: u32,
    /// How many.
    pub count: u32,
    /// Also those without \Deleted.
    pub force: bool,
    /// The mailbox is named by its number.
    pub by_id: bool,
}

/// Expunges.
pub(super) async fn expunge(at: &At<'_>, what: Expunge, repeat: u32) {
    let Expunge { place, force, .. } = what;
    let picked = at.pick(place, what.pick, what.count);
    let uids: Vec<u32> = picked.iter().map(|(uid, _)| *uid).collect();
    let account = account_id(place.0);
    let (which, era) = at.which(place, what.by_id);
    let request = at.request();
    for n in 0..=repeat {
        let client = at.client(n);
        let call = Call::Expunge {
            account: account_name(place.0),
            mailbox: mailbox_name(place.1),
            uids: uids.clone(),
            force,
            era,
            request,
        };
        let answer = at
            .call(call, async {
                let (uids, id) = (ranges(&uids), request_id(request));
                match client.expunge(&account, &which, uids, force, id).await {
                    Ok(expunged) => Answer::Done(Done::Expunged {
                        modseq: expunged.modseq,
                        uids: answer::uids(&expunged.vanished),
                    }),
                    Err(e) => answer::of(e),
                }
            })
            .await;
        if let Answer::Done(Done::Expunged { uids, .. }) = answer {
            let mut known = at.inner.known.lock();
            for uid in uids {
                known.gone(place, uid);
            }
        }
    }
}

//! Expunges one message, whether it carries \Deleted or not.

use posthouse_client::proto::UidRange;

use crate::history::{Answer, Call, Done};

use super::known::Place;
use super::{At, account_id, account_name, answer, mailbox_id, mailbox_name, request_id};

/// Expunges.
pub(super) async fn expunge(at: &At<'_>, place: Place, pick: u32) {
    let picked = at.inner.known.lock().pick(place, pick, 1);
    let uids: Vec<u32> = picked.iter().map(|(uid, _)| *uid).collect();
    let one = |uid: &u32| UidRange {
        first: *uid,
        last: *uid,
    };
    let ranges = uids.iter().map(one).collect();
    let (account, mailbox) = (account_id(place.0), mailbox_id(place.1));
    let client = at.client(0);
    let id = request_id(at.request());
    let call = Call::Expunge {
        account: account_name(place.0),
        mailbox: mailbox_name(place.1),
        uids: uids.clone(),
    };
    let answer = at
        .call(call, async {
            match client.expunge(&account, &mailbox, ranges, true, id).await {
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

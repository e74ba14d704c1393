//! Changes flags of one to three messages, on condition or not.

use posthouse_client::FlagChange;
use posthouse_client::proto::{self, UidRange};

use crate::history::{Answer, Call, Done};
use crate::plan::FlagMode;

use super::known::Place;
use super::{At, account_id, account_name, answer, mailbox_id, mailbox_name, request_id};

/// Changes flags.
pub(super) async fn set_flags(
    at: &At<'_>,
    place: Place,
    pick: u32,
    mode: FlagMode,
    flags: &[String],
    conditional: bool,
) {
    let count = 1 + pick as usize % 3;
    let picked = at.inner.known.lock().pick(place, pick, count);
    let unchanged_since = match (conditional, picked.first()) {
        (true, Some((_, modseq))) => *modseq,
        _ => 0,
    };
    let uids: Vec<u32> = picked.iter().map(|(uid, _)| *uid).collect();
    let one = |uid: &u32| UidRange {
        first: *uid,
        last: *uid,
    };
    let change = FlagChange {
        uids: uids.iter().map(one).collect(),
        mode: match mode {
            FlagMode::Add => proto::FlagMode::Add,
            FlagMode::Remove => proto::FlagMode::Remove,
            FlagMode::Replace => proto::FlagMode::Replace,
        },
        flags: flags.to_vec(),
        unchanged_since: (unchanged_since != 0).then_some(unchanged_since),
    };
    let (account, mailbox) = (account_id(place.0), mailbox_id(place.1));
    let client = at.client(0);
    let id = request_id(at.request());
    let call = Call::SetFlags {
        account: account_name(place.0),
        mailbox: mailbox_name(place.1),
        uids,
        mode,
        flags: flags.to_vec(),
        unchanged_since,
    };
    let answer = at
        .call(call, async {
            match client.set_flags(&account, &mailbox, change, id).await {
                Ok(set) => Answer::Done(Done::Flags {
                    modseq: set.modseq,
                    changed: answer::uids(&set.changed),
                    unchanged: answer::uids(&set.modified),
                }),
                Err(e) => answer::of(e),
            }
        })
        .await;
    if let Answer::Done(Done::Flags {
        modseq, changed, ..
    }) = answer
    {
        let mut known = at.inner.known.lock();
        for uid in changed {
            known.seen(place, uid, modseq);
        }
    }
}

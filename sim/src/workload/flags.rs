//! Changes flags of messages, on condition or not. The call may be repeated under its request id.

use posthouse_client::FlagChange;
use posthouse_client::proto;

use crate::history::{Answer, Call, Done};
use crate::plan::FlagMode;

use super::known::Place;
use super::{At, account_id, account_name, answer, mailbox_name, ranges, request_id};

/// Which change, of which messages.
pub(super) struct Change<'a> {
    /// Where.
    pub place: Place,
    /// The first of the messages.
    pub pick: u32,
    /// How many.
    pub count: u32,
    /// How.
    pub mode: FlagMode,
    /// Which flags.
    pub flags: &'a [String],
    /// On the condition that the client has seen the last change.
    pub conditional: bool,
    /// The mailbox is named by its number.
    pub by_id: bool,
}

/// Changes flags.
pub(super) async fn set_flags(at: &At<'_>, what: Change<'_>, repeat: u32) {
    let Change { place, mode, .. } = what;
    let picked = at.pick(place, what.pick, what.count);
    let unchanged_since = match (what.conditional, picked.first()) {
        (true, Some((_, modseq))) => *modseq,
        _ => 0,
    };
    let uids: Vec<u32> = picked.iter().map(|(uid, _)| *uid).collect();
    let account = account_id(place.0);
    let (which, era) = at.which(place, what.by_id);
    let request = at.request();
    for n in 0..=repeat {
        let client = at.client(n);
        let change = FlagChange {
            uids: ranges(&uids),
            mode: match mode {
                FlagMode::Add => proto::FlagMode::Add,
                FlagMode::Remove => proto::FlagMode::Remove,
                FlagMode::Replace => proto::FlagMode::Replace,
            },
            flags: what.flags.to_vec(),
            unchanged_since: (unchanged_since != 0).then_some(unchanged_since),
        };
        let call = Call::SetFlags {
            account: account_name(place.0),
            mailbox: mailbox_name(place.1),
            uids: uids.clone(),
            mode,
            flags: what.flags.to_vec(),
            unchanged_since,
            era,
            request,
        };
        let answer = at
            .call(call, async {
                let work = client.set_flags(&account, &which, change, request_id(request));
                match work.await {
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
}

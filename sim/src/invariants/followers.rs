//! Who follows an account by a watch and by changes knows at the end what a full reading finds.
//!
//! Source: the contract (`posthouse.proto`: "at least once, in the order of modseqs for each
//! account", changes that lead from one picture of an account to the next); RFC 7162, section 3.2.
//! It compares sets: the uids of every mailbox, and for each message, whether it was told of a change
//! as late as the message's last one. Where the account may have been deleted, a modseq of the old
//! account can be one of the new one, and where clocks may take the store past the window of changes,
//! they may rightly be forgotten: nothing is said there.

use std::collections::BTreeMap;

use super::story::Story;
use super::{Findings, Invariant, JUDGED, PAST_WINDOW};
use crate::history::{Answer, Call, Done, Followed, MessageSeen, Record};
use crate::workload::READER;
use crate::workload::body::Expected;

const NAME: &str = "followers";

/// Followers miss nothing.
pub struct Followers {
    expected: Expected,
    forgets: bool,
}

impl Followers {
    /// Judges by the final reading. `forgets`: the store may forget changes.
    pub fn new(expected: Expected, forgets: bool) -> Followers {
        Followers { expected, forgets }
    }
}

impl Invariant for Followers {
    fn name(&self) -> &'static str {
        NAME
    }

    fn end(&mut self, history: &[Record], found: &mut Findings) {
        let story = Story::new(history, &self.expected);
        for (record, r) in history.iter().enumerate() {
            let Call::Follow { account } = &r.call else {
                continue;
            };
            let Answer::Done(Done::Followed(followed)) = &r.answer else {
                found.judged(NAME, "skipped (the watch broke off)");
                continue;
            };
            if self.forgets {
                found.judged(NAME, PAST_WINDOW);
                continue;
            }
            if !story.one_generation(account) {
                found.judged(NAME, "skipped (deleted)");
                continue;
            }
            found.judged(NAME, JUDGED);
            for what in differences(history, account, followed) {
                story.report(found, NAME, record, what);
            }
        }
    }
}

fn differences(history: &[Record], account: &str, followed: &Followed) -> Vec<String> {
    let mut told: Vec<String> = followed.problems.clone();
    let finals = history.iter().filter(|r| r.client == READER);
    let mut mailboxes = None;
    let mut lists: BTreeMap<&str, &[MessageSeen]> = BTreeMap::new();
    for r in finals {
        match (&r.call, &r.answer) {
            (Call::Mailboxes { account: of }, Answer::Done(Done::Mailboxes(all)))
                if of == account =>
            {
                mailboxes = Some(all);
            }
            (
                Call::List {
                    account: of,
                    mailbox,
                },
                Answer::Done(Done::Messages { messages, .. }),
            ) if of == account => {
                lists.insert(mailbox, messages);
            }
            _ => {}
        }
    }
    let Some(all) = mailboxes else {
        return told;
    };
    if followed.modseq < all.modseq {
        told.push(format!(
            "who follows {account} heard of changes up to modseq {}, and it is at {}",
            followed.modseq, all.modseq
        ));
        return told;
    }
    for (name, seen) in &all.mailboxes {
        let nothing = BTreeMap::new();
        let known = followed.mailboxes.get(&seen.id).unwrap_or(&nothing);
        let there = lists.get(name.as_str()).copied().unwrap_or_default();
        let uids: Vec<u32> = there.iter().map(|m| m.uid).collect();
        if !known.keys().eq(uids.iter()) {
            let known: Vec<u32> = known.keys().copied().collect();
            told.push(format!(
                "who follows {account} knows uids {known:?} of {name}, and there are {uids:?}"
            ));
            continue;
        }
        for m in there {
            let heard = known.get(&m.uid).copied().unwrap_or(0);
            if heard < m.modseq {
                told.push(format!(
                    "who follows {account} heard of uid {} of {name} up to modseq {heard}, and it \
                     was changed at {}",
                    m.uid, m.modseq
                ));
            }
        }
    }
    let ids: Vec<u32> = all.mailboxes.values().map(|m| m.id).collect();
    for id in followed.mailboxes.keys().filter(|id| !ids.contains(id)) {
        told.push(format!(
            "who follows {account} knows mailbox {id}, which is gone"
        ));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::*;
    use super::*;

    fn follow(called_ms: u64, modseq: u64, uids: &[(u32, u64)]) -> Record {
        let call = Call::Follow {
            account: ANN.into(),
        };
        let followed = Followed {
            mailboxes: BTreeMap::from([(1, uids.iter().copied().collect())]),
            modseq,
            problems: Vec::new(),
        };
        let done = Answer::Done(Done::Followed(followed));
        record(called_ms, called_ms + 5, call, done)
    }

    fn judged(followed: Record) -> usize {
        let mut history = [
            mailboxes(10, 3, 4, 2),
            list(20, 4, vec![seen(1, 2, 1), seen(2, 4, 2)]),
            followed,
        ];
        for r in &mut history {
            r.client = READER;
        }
        judge(Followers::new(Expected::default(), false), &history).len()
    }

    #[test]
    fn what_was_missed_is_found() {
        assert_eq!(judged(follow(30, 4, &[(1, 2), (2, 4)])), 0);
        assert_eq!(judged(follow(30, 3, &[(1, 2), (2, 4)])), 1);
        assert_eq!(judged(follow(30, 4, &[(1, 2)])), 1);
        assert_eq!(judged(follow(30, 4, &[(1, 2), (2, 3)])), 1);
        assert_eq!(judged(follow(30, 4, &[(1, 2), (2, 4), (3, 4)])), 1);
    }
}

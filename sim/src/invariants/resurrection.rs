//! Invariant 7: what was expunged or deleted, and acknowledged as such, is never seen again.
//!
//! Source: RFC 9051, section 2.3.1.1 (a uid is never given again within a uidvalidity, and a
//! deleted and created mailbox has another one); "zombie" checks of replicated stores that repair
//! from old copies. It decides by uid and uidvalidity: an expunge names no uidvalidity, so the one
//! that it struck is taken from answers before it; where the account may have been deleted in
//! between and nothing tells the generations apart, nothing is said.

use std::collections::BTreeMap;

use super::story::{INBOX, Place, Story};
use super::{Findings, Invariant};
use crate::history::{Answer, Call, Done, Record};
use crate::workload::body::Expected;

const NAME: &str = "resurrection";

/// Invariant 7.
pub struct Resurrection {
    expected: Expected,
}

impl Resurrection {
    /// Judges by these octets.
    pub fn new(expected: Expected) -> Resurrection {
        Resurrection { expected }
    }
}

impl Invariant for Resurrection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn end(&mut self, history: &[Record], found: &mut Findings) {
        let story = Story::new(history, &self.expected);
        let evidence = evidence(&story);
        after_expunge(&story, &evidence, found);
        after_deletion(&story, &evidence, found);
        after_removal(&story, &evidence, found);
    }
}

/// No mailbox that was removed by its number is seen again.
fn after_removal(story: &Story, evidence: &Evidence, found: &mut Findings) {
    for (record, r) in story.history.iter().enumerate() {
        let (Call::DeleteMailbox { account, era, .. }, Answer::Done(_)) = (&r.call, &r.answer)
        else {
            continue;
        };
        let shown = evidence
            .get(&(account.as_str(), *era))
            .into_iter()
            .flatten();
        // A store that is repeated under its request id gets its first answer also later.
        let reads = |s: &&usize| {
            let call = &story.history[**s].call;
            matches!(call, Call::List { .. } | Call::Mailboxes { .. })
        };
        let again = shown.filter(reads).find(|s| story.before(record, **s));
        if let (Some(again), true) = (again, *era != 0) {
            let what = format!(
                "the mailbox of {account} with uidvalidity {era} is back: its removal was \
                 acknowledged at {} ms",
                r.returned_ms
            );
            story.report(found, NAME, *again, what);
        }
    }
}

/// Answers that show a generation of a mailbox, by account and uidvalidity.
type Evidence<'a> = BTreeMap<(&'a str, u32), Vec<usize>>;

fn evidence<'a>(story: &Story<'a>) -> Evidence<'a> {
    let mut evidence = Evidence::new();
    let mut shown = |account: &'a str, uid_validity, record| {
        let shown = evidence.entry((account, uid_validity)).or_default();
        shown.push(record);
    };
    for t in &story.tries {
        if let super::story::Stored::At(at) = t.stored {
            shown(t.place.0, at.uid_validity, t.record);
        }
    }
    for s in &story.sightings {
        shown(s.place.0, s.uid_validity, s.record);
    }
    for (record, r) in story.history.iter().enumerate() {
        if let (Call::Mailboxes { account }, Answer::Done(Done::Mailboxes(all))) =
            (&r.call, &r.answer)
        {
            for seen in all.mailboxes.values() {
                shown(account, seen.uid_validity, record);
            }
        }
    }
    evidence
}

/// Whether the generation was there before call `record` was made.
fn shown_before(story: &Story, evidence: &Evidence, of: (&str, u32), record: usize) -> bool {
    let shown = evidence.get(&of).into_iter().flatten();
    shown.into_iter().any(|e| story.before(*e, record))
}

/// No uid that was expunged is seen again.
fn after_expunge(story: &Story, evidence: &Evidence, found: &mut Findings) {
    // Where each uid was expunged, moved away or replaced, as acknowledged. Of a mailbox that is
    // named by its number, the uidvalidity is known; where names may have changed, of no other.
    let mut gone: BTreeMap<(Place, u32), Vec<usize>> = BTreeMap::new();
    let mut gone_for_ever: BTreeMap<(&str, u32, u32), usize> = BTreeMap::new();
    for (account, removals) in &story.removals {
        for r in removals {
            let named = r.era == 0 && (!story.restructured(account) || r.mailbox == INBOX);
            for uid in r.gone.iter().flatten() {
                if named {
                    let place = (*account, r.mailbox);
                    gone.entry((place, *uid)).or_default().push(r.record);
                } else if r.era != 0 {
                    gone_for_ever.insert((account, r.era, *uid), r.record);
                }
            }
        }
    }
    let mut told = std::collections::BTreeSet::new();
    let mut tell = |place: Place, uid: u32, e: usize, record: usize| {
        if told.insert((place.0.to_owned(), place.1.to_owned(), uid)) {
            let what = format!(
                "uid {uid} in {} of {} is back: its expunge was acknowledged at {} ms",
                place.1, place.0, story.history[e].returned_ms
            );
            story.report(found, NAME, record, what);
        }
    };
    for s in &story.sightings {
        for m in s.messages {
            let by_number = (s.place.0, s.uid_validity, m.uid);
            if let Some(e) = gone_for_ever.get(&by_number)
                && story.before(*e, s.record)
            {
                tell(s.place, m.uid, *e, s.record);
            }
            for e in gone.get(&(s.place, m.uid)).into_iter().flatten() {
                // The generation that was there before and is there now was there in between.
                let same = story.one_generation(s.place.0)
                    || shown_before(story, evidence, (s.place.0, s.uid_validity), *e);
                if same && story.before(*e, s.record) {
                    tell(s.place, m.uid, *e, s.record);
                }
            }
        }
    }
    for (record, r) in story.history.iter().enumerate() {
        let (
            Call::Fetch {
                account,
                mailbox,
                uid,
                era,
            },
            Answer::Done(Done::Octets { .. }),
        ) = (&r.call, &r.answer)
        else {
            continue;
        };
        let place = (account.as_str(), mailbox.as_str());
        if let Some(e) = gone_for_ever.get(&(place.0, *era, *uid))
            && story.before(*e, selection(story, record, account))
        {
            tell(place, *uid, *e, record);
        }
        if *era != 0 {
            // The name says nothing of it.
            continue;
        }
        for e in gone.get(&(place, *uid)).into_iter().flatten() {
            if story.one_generation(account) && story.before(*e, record) {
                tell(place, *uid, *e, record);
            }
        }
    }
}

/// The selection by which a session came to know what call `record` reads: it reads octets without
/// a quorum (node/ARCHITECTURE.md), so the message was there at some time since then, no more.
fn selection(story: &Story, record: usize, of: &str) -> usize {
    let client = story.history[record].client;
    let mut before = story.history[..record].iter();
    let selected = before.rposition(|r| {
        r.client == client && matches!(&r.call, Call::Select { account, .. } if account == of)
    });
    selected.unwrap_or(record)
}

/// No mailbox that was there before its account was deleted is seen again.
fn after_deletion(story: &Story, evidence: &Evidence, found: &mut Findings) {
    for ((account, uid_validity), shown) in evidence {
        let deletions = story.deletions.get(account).into_iter().flatten();
        for d in deletions {
            if !matches!(story.history[*d].answer, Answer::Done(_))
                || !shown_before(story, evidence, (account, *uid_validity), *d)
            {
                continue;
            }
            if let Some(again) = shown.iter().find(|s| story.before(*d, **s)) {
                let what = format!(
                    "a mailbox of {account} with uidvalidity {uid_validity} is back: the deletion of \
                     the account was acknowledged at {} ms",
                    story.history[*d].returned_ms
                );
                story.report(found, NAME, *again, what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::*;
    use super::*;

    fn judged(history: &[Record]) -> usize {
        judge(Resurrection::new(Expected::default()), history).len()
    }

    #[test]
    fn what_is_gone_stays_gone() {
        let good = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            expunge(20, 1, expunged(3, &[1])),
            list(21, 2, vec![seen(1, 2, 1)]), // overlaps the expunge
            list(30, 3, vec![]),
        ];
        assert_eq!(judged(&good), 0);
        let bad = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            expunge(20, 1, expunged(3, &[1])),
            list(30, 3, vec![seen(1, 2, 1)]),
            list(40, 3, vec![seen(1, 2, 1)]),
        ];
        assert_eq!(judged(&bad), 1);
    }

    #[test]
    fn a_session_may_read_what_it_knew() {
        let session = |called_ms, call, done| Record {
            client: 500,
            ..record(called_ms, called_ms + 5, call, Answer::Done(done))
        };
        let select = |called_ms, messages| {
            let call = Call::Select {
                account: ANN.into(),
                mailbox: INBOX.into(),
            };
            let done = Done::Selected {
                uid_validity: 7,
                uid_next: 2,
                messages,
            };
            session(called_ms, call, done)
        };
        let fetch = |called_ms| {
            let call = Call::Fetch {
                account: ANN.into(),
                mailbox: INBOX.into(),
                uid: 1,
                era: 7,
            };
            let seen = seen(1, 2, 1);
            let done = Done::Octets {
                blob: seen.blob,
                size: seen.size,
            };
            session(called_ms, call, done)
        };
        let expunge = |called_ms| {
            let mut by_number = expunge(called_ms, 1, expunged(3, &[1]));
            if let Call::Expunge { era, .. } = &mut by_number.call {
                *era = 7;
            }
            by_number
        };
        let stored = deliver(10, 1, delivered(at(1, 2)));
        let good = [
            create(0),
            stored.clone(),
            select(20, 1),
            expunge(30),
            fetch(40),
        ];
        assert_eq!(judged(&good), 0);
        let bad = [create(0), stored, expunge(20), select(30, 0), fetch(40)];
        assert_eq!(judged(&bad), 1);
    }

    #[test]
    fn what_was_moved_away_stays_away() {
        let bad = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            moved(20, 1, 4, 2),
            list(30, 4, vec![seen(1, 2, 1), seen(2, 3, 1)]),
        ];
        assert_eq!(judged(&bad), 1);
    }

    #[test]
    fn generations_are_told_apart() {
        let mut later = list(60, 3, vec![seen(1, 2, 1)]);
        let Answer::Done(Done::Messages { uid_validity, .. }) = &mut later.answer else {
            unreachable!()
        };
        *uid_validity = 8;
        let good = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            expunge(20, 1, expunged(3, &[1])),
            delete(30),
            create(40),
            later,
        ];
        assert_eq!(judged(&good), 0);
        let bad = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            delete(30),
            create(40),
            list(60, 3, vec![seen(1, 2, 1)]),
        ];
        assert_eq!(judged(&bad), 1);
        let bad = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            expunge(20, 1, expunged(3, &[1])),
            list(24, 3, vec![]),
            list(50, 3, vec![seen(1, 2, 1)]),
            delete(60),
        ];
        assert_eq!(judged(&bad), 1);
    }
}

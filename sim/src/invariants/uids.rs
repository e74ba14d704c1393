//! Invariant 3: uids rise and are never given twice; uidnext, uidvalidity and modseqs never go back.
//!
//! Source: RFC 9051, section 2.3.1.1 (uids strictly ascend within a uidvalidity, uidnext bounds the
//! next one, uidvalidity rises); RFC 7162, section 3.1 (modseqs strictly rise with each change;
//! here one counter an account serves all its mailboxes). It decides in real-time order, each pair
//! of calls of which one was over before the other was made; a request that is repeated counts as
//! its first call. Modseqs of an account that was deleted and created begin anew, and changes of
//! flags name no generation: for such accounts only what carries a uidvalidity is compared.

use std::collections::{BTreeMap, BTreeSet};

use super::story::{Identity, Place, Stored, Story};
use super::{Findings, Invariant};
use crate::history::{Answer, Call, Done, Record};
use crate::workload::body::{Expected, Held};

const NAME: &str = "uids";

/// Invariant 3.
pub struct Uids {
    expected: Expected,
}

impl Uids {
    /// Judges by these octets.
    pub fn new(expected: Expected) -> Uids {
        Uids { expected }
    }
}

impl Invariant for Uids {
    fn name(&self) -> &'static str {
        NAME
    }

    fn end(&mut self, history: &[Record], found: &mut Findings) {
        let story = Story::new(history, &self.expected);
        never_twice(&story, found);
        let mut lines = Lines::default();
        for record in 0..history.len() {
            lines.add(&story, record);
        }
        lines.add_stores(&story);
        lines.judge(&story, found);
    }
}

/// A uid has the same octets for ever, and a request has one uid.
fn never_twice(story: &Story, found: &mut Findings) {
    let mut owner: BTreeMap<(&str, u32, u32), (&str, usize)> = BTreeMap::new();
    let mut seen = |place, validity, uid, blob, record, found: &mut Findings| {
        let (account, mailbox): Place = place;
        // No two mailboxes of an account have one uidvalidity, also one after the other.
        let owner = owner.entry((account, validity, uid));
        let (first, by) = *owner.or_insert((blob, record));
        if first != blob {
            let what = format!(
                "uid {uid} in {mailbox} of {account} (uidvalidity {validity}) was blob {first} at \
                 {} ms and is blob {blob}",
                story.history[by].returned_ms
            );
            story.report(found, NAME, record, what);
        }
    };
    for t in &story.tries {
        if let Stored::At(at) = t.stored {
            let (validity, uid) = (at.uid_validity, at.uid);
            seen(t.place, validity, uid, &*t.held.blob, t.record, found);
        }
    }
    for s in &story.sightings {
        let mut last = 0;
        for m in s.messages {
            if m.uid <= last {
                let what = format!("uid {} is listed after uid {last}", m.uid);
                story.report(found, NAME, s.record, what);
            }
            last = m.uid;
            seen(s.place, s.uid_validity, m.uid, &m.blob, s.record, found);
        }
    }
}

/// A number that was told by a call.
#[derive(Debug, Clone, Copy)]
struct Told {
    value: u64,
    /// The call that told it.
    record: usize,
    /// When the change that made it may have been asked for first.
    called_ms: u64,
    /// The call made this number: no other call may tell it, and later ones tell higher ones.
    made: bool,
}

/// Sequences that never go back, by what they are of.
#[derive(Default)]
struct Lines<'a> {
    lines: BTreeMap<Line<'a>, Vec<Told>>,
    /// Request ids of changes that were asked for before.
    asked: BTreeSet<[u8; 16]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Line<'a> {
    /// uidvalidity of a mailbox.
    Validity(Place<'a>),
    /// uidnext and uids: uid + 1 where a message was stored. By account and uidvalidity: a mailbox
    /// may get another name.
    UidNext(&'a str, u32),
    /// Highest modseq of a mailbox, and modseqs of changes in it.
    Modseq(&'a str, u32),
    /// Modseqs of changes in an account of one generation.
    Account(&'a str),
}

impl<'a> Lines<'a> {
    fn tell(&mut self, line: Line<'a>, told: Told) {
        self.lines.entry(line).or_default().push(told);
    }

    fn add(&mut self, story: &Story<'a>, record: usize) {
        let r = &story.history[record];
        let told = |value: u64, made: bool| Told {
            value,
            record,
            called_ms: r.called_ms,
            made,
        };
        let place = |account: &'a String, mailbox: &'a String| (account.as_str(), mailbox.as_str());
        match (&r.call, &r.answer) {
            (Call::Mailboxes { account }, Answer::Done(Done::Mailboxes(all))) => {
                for (name, m) in &all.mailboxes {
                    let (place, validity) = (place(account, name), m.uid_validity);
                    if !story.restructured(account) {
                        self.tell(Line::Validity(place), told(validity as u64, false));
                    }
                    let next = told(m.uid_next as u64, false);
                    self.tell(Line::UidNext(account, validity), next);
                    let modseq = told(m.highest_modseq, false);
                    self.tell(Line::Modseq(account, validity), modseq);
                }
                if all.modseq != 0 && story.one_generation(account) {
                    self.tell(Line::Account(account), told(all.modseq, false));
                }
            }
            (Call::Status { account, mailbox }, Answer::Done(Done::Status(seen))) => {
                if !story.restructured(account) {
                    let place = place(account, mailbox);
                    self.tell(Line::Validity(place), told(seen.uid_validity.into(), false));
                }
                let next = told(seen.uid_next.into(), false);
                self.tell(Line::UidNext(account, seen.uid_validity), next);
            }
            (
                Call::Carry {
                    account,
                    to_account: Some(other),
                    request,
                    ..
                },
                answer,
            ) => {
                let first = self.asked.insert(*request);
                if let Answer::Done(Done::Carried {
                    modseq,
                    uid_validity,
                    to,
                    ..
                }) = answer
                    && first
                {
                    if let Some(last) = to.last() {
                        let next = told(u64::from(*last) + 1, true);
                        self.tell(Line::UidNext(other, *uid_validity), next);
                    }
                    // All of them may have been expunged on their way: then it is as it was.
                    if story.one_generation(account) {
                        self.tell(Line::Account(account), told(*modseq, false));
                    }
                }
            }
            (
                Call::Carry {
                    account, request, ..
                },
                answer,
            ) => {
                // A repetition tells what was so before.
                let first = self.asked.insert(*request);
                if let Answer::Done(Done::Carried {
                    modseq,
                    uid_validity,
                    to,
                    ..
                }) = answer
                    && let (Some(last), true) = (to.last(), first)
                {
                    let next = told(u64::from(*last) + 1, true);
                    self.tell(Line::UidNext(account, *uid_validity), next);
                    if *modseq != 0 && story.one_generation(account) {
                        self.tell(Line::Account(account), told(*modseq, true));
                    }
                }
            }
            (
                Call::List { account, mailbox },
                Answer::Done(Done::Messages {
                    uid_validity,
                    highest_modseq,
                    ..
                }),
            ) => {
                let place = place(account, mailbox);
                if !story.restructured(account) {
                    self.tell(Line::Validity(place), told(*uid_validity as u64, false));
                }
                let modseq = told(*highest_modseq, false);
                self.tell(Line::Modseq(account, *uid_validity), modseq);
            }
            (
                Call::SetFlags {
                    account, request, ..
                },
                answer,
            ) => {
                let first = self.asked.insert(*request);
                if let Answer::Done(Done::Flags {
                    modseq, changed, ..
                }) = answer
                    && first
                    && story.one_generation(account)
                {
                    let made = !changed.is_empty();
                    self.tell(Line::Account(account), told(*modseq, made));
                }
            }
            (
                Call::Expunge {
                    account, request, ..
                },
                answer,
            ) => {
                let first = self.asked.insert(*request);
                if let Answer::Done(Done::Expunged { modseq, uids }) = answer
                    && first
                    && story.one_generation(account)
                {
                    let made = !uids.is_empty();
                    self.tell(Line::Account(account), told(*modseq, made));
                }
            }
            _ => {}
        }
    }

    /// Acknowledged stores, each request once: with its first answer, as of its first call.
    fn add_stores(&mut self, story: &Story<'a>) {
        let mut known: BTreeMap<(Place, Identity, Held, u32), ()> = BTreeMap::new();
        for t in &story.tries {
            let Stored::At(at) = t.stored else { continue };
            let key = (t.place, t.identity, t.held.clone(), at.uid_validity);
            if known.insert(key, ()).is_some() {
                continue;
            }
            let told = |value| Told {
                value,
                record: t.record,
                called_ms: t.first_called_ms,
                made: true,
            };
            let validity = at.uid_validity;
            self.tell(Line::UidNext(t.place.0, validity), told(at.uid as u64 + 1));
            // IMAP tells no modseq.
            if at.modseq == 0 {
                continue;
            }
            self.tell(Line::Modseq(t.place.0, validity), told(at.modseq));
            if story.one_generation(t.place.0) {
                self.tell(Line::Account(t.place.0), told(at.modseq));
            }
        }
    }

    fn judge(self, story: &Story, found: &mut Findings) {
        for (line, told) in self.lines {
            twice(story, line, &told, found);
            back(story, line, told, found);
        }
    }
}

/// No two calls made the same number.
fn twice(story: &Story, line: Line, told: &[Told], found: &mut Findings) {
    let mut makers: BTreeMap<u64, usize> = BTreeMap::new();
    for t in told.iter().filter(|t| t.made) {
        if let Some(other) = makers.insert(t.value, t.record)
            // One call can deliver to an account once only.
            && other != t.record
        {
            let what = format!(
                "{line:?}: {} was given at {} ms already",
                t.value, story.history[other].returned_ms
            );
            story.report(found, NAME, t.record, what);
        }
    }
}

/// What was told before is not above what is told later.
fn back(story: &Story, line: Line, mut told: Vec<Told>, found: &mut Findings) {
    let mut over = told.clone();
    over.sort_by_key(|t| story.history[t.record].returned_ms);
    told.sort_by_key(|t| t.called_ms);
    let mut over = over.into_iter().peekable();
    let mut highest: Option<Told> = None;
    for t in told {
        while let Some(o) = over.peek()
            && story.history[o.record].returned_ms < t.called_ms
        {
            if highest.is_none_or(|h| h.value < o.value) {
                highest = Some(*o);
            }
            over.next();
        }
        let Some(h) = highest else { continue };
        // A number that is made by a later call is above all that were told before.
        let bad = match t.made {
            true => t.value <= h.value,
            false => t.value < h.value,
        };
        if bad {
            let what = format!(
                "{line:?}: {} after {} at {} ms",
                t.value, h.value, story.history[h.record].returned_ms
            );
            story.report(found, NAME, t.record, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::*;
    use super::*;

    fn judged(history: &[Record]) -> Vec<String> {
        let violations = judge(Uids::new(Expected::default()), history);
        violations.into_iter().map(|v| v.what).collect()
    }

    #[test]
    fn a_good_history() {
        let history = [
            create(0),
            mailboxes(5, 1, 1, 0),
            deliver(10, 1, delivered(at(1, 2))),
            deliver(11, 2, delivered(at(3, 4))),
            deliver(12, 3, delivered(at(2, 3))),
            mailboxes(20, 4, 4, 3),
            deliver(30, 2, delivered(at(3, 4))), // repeated
            expunge(40, 1, expunged(5, &[1])),
            list(50, 5, vec![seen(2, 3, 3), seen(3, 4, 2)]),
            expunge(60, 1, expunged(5, &[])),
            deliver(70, 4, delivered(at(4, 6))),
        ];
        assert_eq!(judged(&history), [""; 0]);
    }

    #[test]
    fn a_uid_given_again() {
        let history = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            expunge(20, 1, expunged(3, &[1])),
            list(50, 4, vec![seen(1, 4, 2)]),
        ];
        assert_eq!(judged(&history).len(), 1);
        let history = [
            create(0),
            deliver(10, 1, delivered(at(2, 2))),
            deliver(20, 2, delivered(at(1, 3))),
        ];
        assert_eq!(judged(&history).len(), 1);
        // The next one was told, and then one below it was given.
        let history = [
            create(0),
            mailboxes(10, 5, 8, 2),
            deliver(20, 2, delivered(at(4, 9))),
        ];
        assert_eq!(judged(&history).len(), 1);
    }

    #[test]
    fn numbers_that_go_back() {
        let history = [create(0), mailboxes(10, 5, 8, 2), mailboxes(20, 4, 8, 2)];
        assert_eq!(judged(&history).len(), 1);
        let history = [create(0), mailboxes(10, 5, 8, 2), list(20, 7, vec![])];
        assert_eq!(judged(&history).len(), 1);
        // A modseq that two changes have.
        let history = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            deliver(11, 2, delivered(at(2, 2))),
        ];
        assert_eq!(judged(&history).len(), 2); // in the mailbox and in the account
    }
}

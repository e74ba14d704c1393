//! Invariant 1: an acknowledged message stays readable and byte-identical until it is expunged.
//!
//! Source: the promise of the store (DESIGN.md, section 1, number 1); in kind the "lost write"
//! check of Jepsen's set tests. It decides by names and numbers alone, without a model of the
//! mailbox: what was acknowledged before a read was made must be in the read, with its octets
//! (BLAKE3 of what was sent), unless a call that may have removed it (also one whose outcome is
//! unknown) was made before the read answered. A message that came by LMTP is looked for by its
//! octets, since LMTP says no uid. Octets under a uid are compared wherever they are seen. What a copy
//! or a move has shown elsewhere, also in another account, as acknowledged, counts as stored there; a move, a replacement and
//! the removal of a mailbox count as what may have removed a message. A mailbox goes by its
//! uidvalidity; where names may have changed, by that alone.

use std::collections::{BTreeMap, BTreeSet};

use super::story::{INBOX, Place, Stored, Story};
use super::{Findings, Invariant};
use crate::history::{Answer, Call, Done, Record, StoredAt};
use crate::workload::answer;
use crate::workload::body::{Expected, Held};

const NAME: &str = "acknowledged";

/// Invariant 1.
pub struct Acknowledged {
    expected: Expected,
}

impl Acknowledged {
    /// Judges by these octets.
    pub fn new(expected: Expected) -> Acknowledged {
        Acknowledged { expected }
    }
}

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        NAME
    }

    fn end(&mut self, history: &[Record], found: &mut Findings) {
        let story = Story::new(history, &self.expected);
        let mut judge = Judge {
            story: &story,
            kept: BTreeMap::new(),
            blobs: BTreeMap::new(),
            told: BTreeSet::new(),
            asked: BTreeMap::new(),
        };
        for r in history {
            if let Call::Carry { request, .. } = &r.call {
                let first = judge.asked.entry(*request).or_insert(r.called_ms);
                *first = r.called_ms.min(*first);
            }
        }
        for t in &story.tries {
            if let Stored::At(_) | Stored::Somewhere = t.stored {
                let kept = Kept {
                    record: t.record,
                    place: t.place,
                    stored: t.stored,
                    held: Some(&t.held),
                    first_called_ms: t.first_called_ms,
                };
                judge.kept.entry(t.place.0).or_default().push(kept);
            }
        }
        for (record, r) in history.iter().enumerate() {
            judge.carried(record, r);
        }
        for sighting in &story.sightings {
            for message in sighting.messages {
                let at = (sighting.place, sighting.uid_validity, message.uid);
                let blobs = judge.blobs.entry(at);
                blobs.or_default().insert(&message.blob);
            }
        }
        for record in 0..history.len() {
            judge.read(record, found);
        }
    }
}

/// A message that was acknowledged, stored or carried here.
#[derive(Clone, Copy)]
struct Kept<'a> {
    /// The call that says so.
    record: usize,
    place: Place<'a>,
    stored: Stored,
    /// Its octets; of a message that was carried, they are not known.
    held: Option<&'a Held>,
    first_called_ms: u64,
}

struct Judge<'a> {
    story: &'a Story<'a>,
    /// Acknowledged messages by account.
    kept: BTreeMap<&'a str, Vec<Kept<'a>>>,
    /// Octets that were seen under a uidvalidity and uid.
    blobs: BTreeMap<(Place<'a>, u32, u32), BTreeSet<&'a str>>,
    /// Calls whose loss has been reported: every later read would show it again.
    told: BTreeSet<(usize, &'a str)>,
    /// When copies and moves were asked for first, by request.
    asked: BTreeMap<[u8; 16], u64>,
}

impl<'a> Judge<'a> {
    /// Messages that a call has shown elsewhere, as acknowledged, must be there.
    fn carried(&mut self, record: usize, r: &'a Record) {
        let (
            Call::Carry {
                account,
                to_account,
                to,
                request,
                ..
            },
            Answer::Done(Done::Carried {
                modseq,
                uid_validity,
                to: uids,
                ..
            }),
        ) = (&r.call, &r.answer)
        else {
            return;
        };
        // A repetition tells of what may have been done, and undone again, by then.
        let since_ms = *self.asked.get(request).unwrap_or(&r.called_ms);
        let owner = to_account.as_deref().unwrap_or(account);
        for uid in uids {
            let at = StoredAt {
                uid_validity: *uid_validity,
                uid: *uid,
                modseq: *modseq,
            };
            self.kept.entry(owner).or_default().push(Kept {
                record,
                place: (owner, to),
                stored: Stored::At(at),
                held: None,
                first_called_ms: since_ms,
            });
        }
    }

    fn read(&mut self, record: usize, found: &mut Findings) {
        let r = &self.story.history[record];
        match (&r.call, &r.answer) {
            (Call::List { account, mailbox }, _) => {
                self.list(record, (account, mailbox), found);
            }
            (
                Call::Fetch {
                    account,
                    mailbox,
                    uid,
                    era,
                },
                _,
            ) => self.fetch(record, (account, mailbox), *era, *uid, found),
            (Call::Mailboxes { account }, answer) => {
                self.mailboxes(record, account, answer, found);
            }
            _ => {}
        }
    }

    /// Messages of the mailbox that a name had, or of the one with this uidvalidity.
    fn kept_in(&self, place: Place<'a>, uid_validity: u32) -> Vec<Kept<'a>> {
        let renamed = self.story.restructured(place.0);
        let kept = self.kept.get(place.0).into_iter().flatten();
        let here = kept.filter(|k| match k.stored {
            Stored::At(at) if at.uid_validity == uid_validity => true,
            // What a name stood for is not known where names change.
            _ => k.place.1 == place.1 && !(renamed && place.1 != INBOX),
        });
        here.copied().collect()
    }

    fn list(&mut self, record: usize, place: Place<'a>, found: &mut Findings) {
        let (uid_validity, messages) = match &self.story.history[record].answer {
            Answer::Done(Done::Messages {
                uid_validity,
                messages,
                ..
            }) => (*uid_validity, messages.as_slice()),
            Answer::Refused(why) if missing(why) => (0, &[][..]),
            _ => return,
        };
        let by_uid: BTreeMap<u32, _> = messages.iter().map(|m| (m.uid, m)).collect();
        let by_blob: BTreeSet<&str> = messages.iter().map(|m| m.blob.as_str()).collect();
        for t in self.kept_in(place, uid_validity) {
            let message = match t.stored {
                Stored::At(at) if at.uid_validity == uid_validity => by_uid.get(&at.uid),
                _ => None,
            };
            if let (Some(m), Some(held)) = (message, t.held)
                && (*m.blob != *held.blob || m.size != held.size)
            {
                let what = format!(
                    "other octets: {} of {} octets instead of {} of {}",
                    m.blob, m.size, held.blob, held.size
                );
                self.tell(t, record, &what, found);
            }
            let there = match (t.stored, t.held) {
                (Stored::Somewhere, Some(held)) => by_blob.contains(&*held.blob),
                _ => message.is_some(),
            };
            if !there && self.must_be_there(t, record) {
                self.tell(t, record, "it is not in the list", found);
            }
        }
    }

    fn fetch(&mut self, record: usize, place: Place<'a>, era: u32, uid: u32, found: &mut Findings) {
        let answer = &self.story.history[record].answer;
        let renamed = self.story.restructured(place.0) && place.1 != INBOX;
        let one_generation = self.story.one_generation(place.0) && !renamed;
        let one_generation = one_generation || era != 0;
        for t in self.kept_in(place, era) {
            let here = |at: StoredAt| at.uid == uid && (era == 0 || at.uid_validity == era);
            if !matches!(t.stored, Stored::At(at) if here(at)) {
                continue;
            }
            match answer {
                // A fetch says no uidvalidity: the octets may be those of a later account.
                Answer::Done(Done::Octets { blob, size })
                    if one_generation
                        && t.held.is_some_and(|h| **blob != *h.blob || *size != h.size) =>
                {
                    let (wanted, n) = t.held.map_or(("", 0), |h| (&*h.blob, h.size));
                    let what = format!(
                        "other octets were read: {blob} of {size} octets instead of {wanted} of {n}"
                    );
                    self.tell(t, record, &what, found);
                }
                Answer::Refused(why) if missing(why) && self.must_be_there(t, record) => {
                    self.tell(t, record, why, found);
                }
                _ => {}
            }
        }
    }

    /// A mailbox goes by its uidvalidity, whatever its name is by now.
    fn mailboxes(
        &mut self,
        record: usize,
        account: &'a str,
        answer: &'a Answer,
        found: &mut Findings,
    ) {
        let seen: BTreeMap<u32, _> = match answer {
            Answer::Done(Done::Mailboxes(all)) => {
                let all = all.mailboxes.iter();
                all.map(|(name, m)| (m.uid_validity, (name, m))).collect()
            }
            Answer::Refused(why) if missing(why) => BTreeMap::new(),
            _ => return,
        };
        let mut there: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for t in self.kept.get(account).cloned().unwrap_or_default() {
            let Stored::At(at) = t.stored else { continue };
            if !self.must_be_there(t, record) {
                continue;
            }
            match seen.contains_key(&at.uid_validity) {
                true => drop(there.entry(at.uid_validity).or_default().insert(at.uid)),
                false => self.tell(t, record, "its mailbox is not there", found),
            }
        }
        for (uid_validity, uids) in there {
            let (name, seen) = seen[&uid_validity];
            if seen.messages < uids.len() as u64 {
                let what = format!(
                    "{name} in {account} counts {} messages, at least {} must be there",
                    seen.messages,
                    uids.len()
                );
                self.story.report(found, NAME, record, what);
            }
        }
    }

    /// Whether nothing may have removed the message before the read answered.
    fn must_be_there(&self, t: Kept, record: usize) -> bool {
        let since_ms = t.first_called_ms;
        if !self.story.before(t.record, record)
            || self.story.may_be_deleted(t.place.0, since_ms, record)
            || self.story.may_be_unboxed(t.place, since_ms, record)
        {
            return false;
        }
        match t.stored {
            Stored::At(at) => {
                let (place, era) = (t.place, at.uid_validity);
                !self.story.may_be_expunged(place, era, at.uid, record)
            }
            _ => !self.may_be_expunged(t, record),
        }
    }

    /// Whether a message that is known by its octets alone may have been expunged: under any uid
    /// at which these octets were seen, or that was never seen at all.
    ///
    /// Since the account was not deleted between the delivery and the read, the message was in the
    /// generation that the read shows. What other generations had under the uid of an expunge says
    /// nothing about it: a new account counts from uid 1 again.
    fn may_be_expunged(&self, t: Kept, record: usize) -> bool {
        let read = &self.story.history[record];
        let Answer::Done(Done::Messages { uid_validity, .. }) = &read.answer else {
            // The mailbox itself is missing, which no expunge explains.
            return false;
        };
        let Some(held) = t.held else { return true };
        let may_be_it = |uid: &u32| match self.blobs.get(&(t.place, *uid_validity, *uid)) {
            Some(blobs) => blobs.contains(&*held.blob),
            None => true,
        };
        let mut removals = self.story.removals_before(t.place, 0, record);
        removals.any(|r| match &r.uids {
            None => true,
            Some(uids) => uids.iter().any(may_be_it),
        })
    }

    fn tell(&mut self, t: Kept<'a>, record: usize, what: &str, found: &mut Findings) {
        if !self.told.insert((t.record, t.place.0)) {
            return;
        }
        let (account, mailbox) = t.place;
        let stored = &self.story.history[t.record];
        let uid = match t.stored {
            Stored::At(at) => format!("uid {} (uidvalidity {})", at.uid, at.uid_validity),
            _ => format!("blob {}", t.held.map_or("", |h| &*h.blob)),
        };
        let what = format!(
            "{uid} in {mailbox} of {account}, acknowledged at {} ms: {what}",
            stored.returned_ms
        );
        self.story.report(found, NAME, record, what);
    }
}

/// Whether the refusal of a read says that something is not there.
fn missing(why: &str) -> bool {
    let missing = [
        answer::NO_ACCOUNT,
        answer::NO_MAILBOX,
        answer::NO_MESSAGE,
        answer::NO_BLOB,
    ];
    missing.iter().any(|m| why.starts_with(m))
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::*;
    use super::*;

    fn judged(history: &[Record]) -> Vec<String> {
        let invariant = Acknowledged::new(Expected::default());
        let violations = judge(invariant, history);
        violations.into_iter().map(|v| v.what).collect()
    }

    fn fetch(called_ms: u64, uid: u32, answer: Answer) -> Record {
        let call = Call::Fetch {
            account: ANN.into(),
            mailbox: "INBOX".into(),
            uid,
            era: 0,
        };
        record(called_ms, called_ms + 5, call, answer)
    }

    #[test]
    fn what_is_kept_is_good() {
        let history = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            list(11, 1, vec![]), // overlaps the delivery
            deliver(20, 2, unknown()),
            list(30, 2, vec![seen(1, 2, 1)]),
            expunge(40, 1, unknown()),
            list(50, 3, vec![]),
            fetch(60, 1, Answer::Refused(answer::NO_MESSAGE.into())),
            mailboxes(70, 2, 3, 0),
        ];
        assert_eq!(judged(&history), [""; 0]);
    }

    #[test]
    fn a_lost_message_is_told_once() {
        let history = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            list(20, 2, vec![]),
            list(30, 2, vec![]),
        ];
        let told = judged(&history);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("uid 1 "), "{told:?}");
        // An expunge that came to nothing is no excuse.
        let history = [
            create(0),
            expunge(5, 1, expunged(1, &[])),
            deliver(10, 1, delivered(at(1, 2))),
            fetch(30, 1, Answer::Refused(answer::NO_MESSAGE.into())),
        ];
        assert_eq!(judged(&history).len(), 1);
        let history = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            mailboxes(30, 2, 2, 0),
        ];
        assert_eq!(judged(&history).len(), 1);
    }

    #[test]
    fn a_moved_message_is_where_it_came() {
        let moved = |after: Vec<_>| {
            let history = [
                create(0),
                deliver(10, 1, delivered(at(1, 2))),
                moved(20, 1, 4, 2),
                list(30, 4, after),
            ];
            judged(&history).len()
        };
        assert_eq!(moved(vec![seen(2, 3, 1)]), 0);
        assert_eq!(moved(vec![]), 1);
    }

    #[test]
    fn octets_are_compared() {
        let history = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            list(20, 2, vec![seen(1, 2, 9)]),
        ];
        assert!(judged(&history)[0].contains("other octets"));
        let octets = |blob: &str| {
            Answer::Done(Done::Octets {
                blob: blob.into(),
                size: 300,
            })
        };
        let history = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            fetch(20, 1, octets(&seen(1, 2, 1).blob)),
            fetch(30, 1, octets("00")),
        ];
        assert_eq!(judged(&history).len(), 1);
    }

    /// A delivery over LMTP, which tells nothing of where the message is.
    fn by_lmtp(called_ms: u64) -> Record {
        let nowhere = StoredAt {
            uid_validity: 0,
            uid: 0,
            modseq: 0,
        };
        let mut record = deliver(called_ms, 1, delivered(nowhere));
        let Call::Deliver { request, .. } = &mut record.call else {
            unreachable!()
        };
        *request = None;
        record
    }

    #[test]
    fn lmtp_messages_are_found_by_their_octets() {
        let by_lmtp = by_lmtp(10);
        let held = Expected::default().held(octets(1), true);
        let mut message = seen(1, 2, 1);
        message.blob = held.blob.to_string();
        message.size = held.size;
        let good = [create(0), by_lmtp.clone(), list(20, 2, vec![message])];
        assert_eq!(judged(&good), [""; 0]);
        let bad = [create(0), by_lmtp, list(20, 2, vec![seen(1, 2, 1)])];
        assert_eq!(judged(&bad).len(), 1);
    }

    #[test]
    fn a_new_account_counts_uids_anew() {
        let by_lmtp = by_lmtp(40);
        let empty = |validity| {
            let mut read = list(60, 3, vec![]);
            let Answer::Done(Done::Messages { uid_validity, .. }) = &mut read.answer else {
                unreachable!()
            };
            *uid_validity = validity;
            read
        };
        // Uid 1 was another message in the account before; in this one it may be the message.
        let mut history = [
            create(0),
            list(10, 2, vec![seen(1, 2, 9)]),
            delete(20),
            create(30),
            by_lmtp,
            expunge(50, 1, expunged(3, &[1])),
            empty(8),
        ];
        assert_eq!(judged(&history), [""; 0]);
        // Not so where the generation of the read has another message under uid 1.
        history[6] = empty(7);
        assert_eq!(judged(&history).len(), 1);
    }

    #[test]
    fn a_deleted_account_keeps_nothing() {
        let delete = |called_ms, answer| {
            let call = Call::DeleteAccount {
                account: ANN.into(),
            };
            record(called_ms, called_ms + 5, call, answer)
        };
        let gone = Answer::Refused(answer::NO_ACCOUNT.into());
        let read = |called_ms| Record {
            answer: gone.clone(),
            ..list(called_ms, 0, vec![])
        };
        let stored = deliver(10, 1, delivered(at(1, 2)));
        let good = [create(0), stored.clone(), delete(20, unknown()), read(30)];
        assert_eq!(judged(&good), [""; 0]);
        let early = [
            create(0),
            delete(5, Answer::Done(Done::Plain)),
            stored,
            read(30),
        ];
        // It was deleted before, and not again.
        let mut early = early.to_vec();
        early[2].called_ms = 12;
        assert_eq!(judged(&early).len(), 1);
    }
}

//! Invariant 2: one message per request id and recipient, across any fail-over, and none that
//! nobody sent.
//!
//! Source: the contract (`posthouse.proto`, "a retry with the same request_id gets the first answer
//! again and changes nothing") and the door's promise for LMTP (same sender, octets and recipient:
//! the same message). It decides by counting: within one generation of a mailbox, octets were seen
//! under no more uids than there are identities (request ids, or the octets themselves for LMTP)
//! whose calls may have stored them there. Whatever was listed and acknowledged counts, so that a
//! duplicate is found though it was expunged since. And calls with one request id that were
//! acknowledged name one place. What comes from another account counts once a request and message,
//! and not at all if the message is still where it was in the end. Octets that no call may have stored
//! there were sent by nobody: also what an LMTP session broke off before its end.

use std::collections::{BTreeMap, BTreeSet};

use super::story::{Identity, Place, Stored, Story, Try};
use super::{Findings, Invariant};
use crate::history::{Answer, Call, Done, Record, StoredAt};
use crate::workload::READER;
use crate::workload::body::Expected;

const NAME: &str = "once";

/// Invariant 2.
pub struct Once {
    expected: Expected,
    forgets: bool,
}

impl Once {
    /// Judges by these octets. Where the store `forgets`, since clocks may take it past its window
    /// for retries, a repetition may rightly be stored again; what nobody sent stays forbidden.
    pub fn new(expected: Expected, forgets: bool) -> Once {
        Once { expected, forgets }
    }
}

impl Invariant for Once {
    fn name(&self) -> &'static str {
        NAME
    }

    fn end(&mut self, history: &[Record], found: &mut Findings) {
        let story = Story::new(history, &self.expected);
        if !self.forgets {
            repeats(&story, found);
        }
        copies(&story, self.forgets, found);
    }
}

/// Acknowledged calls with one identity name one place.
fn repeats(story: &Story, found: &mut Findings) {
    let mut first: BTreeMap<(Place, [u8; 16]), (&Try, StoredAt)> = BTreeMap::new();
    for t in &story.tries {
        let (Stored::At(at), Identity::Request(id)) = (t.stored, t.identity) else {
            continue;
        };
        let (earlier, told) = *first.entry((t.place, id)).or_insert((t, at));
        // A new account of the name is another recipient.
        if told != at && story.one_generation(t.place.0) {
            let what = format!(
                "a repeated request for {} of {} was stored at uid {} (modseq {}, uidvalidity {}), \
                 but at uid {} (modseq {}, uidvalidity {}) before, as acknowledged at {} ms",
                t.place.1,
                t.place.0,
                at.uid,
                at.modseq,
                at.uid_validity,
                told.uid,
                told.modseq,
                told.uid_validity,
                story.history[earlier.record].returned_ms,
            );
            story.report(found, NAME, t.record, what);
        }
    }
    carries_once(story, found);
}

/// Acknowledged copies and moves with one request id made one set of messages.
fn carries_once(story: &Story, found: &mut Findings) {
    // By account and request: where they came, and under which uids.
    let mut first: BTreeMap<_, (u32, &[u32])> = BTreeMap::new();
    for (record, r) in story.history.iter().enumerate() {
        let (
            Call::Carry {
                account, request, ..
            },
            Answer::Done(Done::Carried {
                uid_validity, to, ..
            }),
        ) = (&r.call, &r.answer)
        else {
            continue;
        };
        let key = (account.as_str(), *request);
        let told = first.entry(key).or_insert((*uid_validity, to));
        if *told != (*uid_validity, to.as_slice()) && story.one_generation(account) {
            let what = format!(
                "a repeated copy or move in {account} made uids {to:?} (uidvalidity \
                 {uid_validity}), but {:?} (uidvalidity {}) before",
                told.1, told.0
            );
            story.report(found, NAME, record, what);
        }
    }
}

/// Uids under which octets were seen, with the record that shows the latest of them.
#[derive(Default)]
struct Copies {
    uids: BTreeSet<u32>,
    latest: usize,
}

/// How often octets may be in a mailbox.
struct Allowed<'a> {
    story: &'a Story<'a>,
    /// By account, mailbox and blob.
    here: BTreeMap<(Place<'a>, &'a str), BTreeSet<Identity>>,
    /// By account and blob.
    anywhere: BTreeMap<(&'a str, &'a str), BTreeSet<(&'a str, Identity)>>,
    /// Octets that somebody may have stored in some account.
    everywhere: BTreeSet<&'a str>,
    /// Messages of which octets are known, or not, that may have come from other accounts: by
    /// where they came, with their request.
    brought: BTreeMap<&'a str, Vec<Brought<'a>>>,
}

/// A message that may have come from another account.
struct Brought<'a> {
    mailbox: &'a str,
    /// Its octets, where they are known.
    blob: Option<String>,
    /// How often it may have come: a request is remembered by each account of a name apart.
    times: usize,
}

/// Everything that may have come from other accounts.
///
/// A message that is still where it was, once everything has healed, has not been moved: if it is
/// seen in the other account all the same, it is in both.
fn brought<'a>(story: &Story<'a>) -> BTreeMap<&'a str, Vec<Brought<'a>>> {
    let mut all: BTreeMap<&str, Vec<Brought>> = BTreeMap::new();
    for c in story.crossings.values() {
        let era = story.source_era(c);
        // The answer may be that of a new account of the name, which remembers nothing of what an
        // earlier try of the call took from the old one.
        let told = c.told;
        let told = told.filter(|_| !story.may_be_deleted(c.place.0, c.first_called_ms, c.record));
        let uids = told.map_or(c.uids, |told| told.from);
        let deleted = story.deletions.get(c.place.0).map_or(0, Vec::len);
        let steady = deleted == 0 && story.one_generation(c.to.0);
        for uid in uids {
            let stayed = era.is_some_and(|era| {
                let mut last = story.sightings.iter().rev();
                let last = last.find(|s| {
                    let here = s.place.0 == c.place.0 && s.uid_validity == era;
                    here && story.history[s.record].client == READER
                });
                last.is_some_and(|s| s.messages.iter().any(|m| m.uid == *uid))
            });
            if stayed && steady && c.away && c.told.is_none() {
                continue;
            }
            let known = era.and_then(|era| story.octets.get(&(c.place.0, era, *uid)));
            all.entry(c.to.0).or_default().push(Brought {
                mailbox: c.to.1,
                blob: known.cloned(),
                times: 1 + deleted,
            });
        }
    }
    all
}

impl<'a> Allowed<'a> {
    fn of(story: &'a Story<'a>) -> Allowed<'a> {
        let mut allowed = Allowed {
            story,
            here: BTreeMap::new(),
            anywhere: BTreeMap::new(),
            everywhere: BTreeSet::new(),
            brought: brought(story),
        };
        for t in story.tries.iter().filter(|t| t.stored != Stored::Refused) {
            let (place, blob) = (t.place, &*t.held.blob);
            allowed.everywhere.insert(blob);
            let here = allowed.here.entry((place, blob)).or_default();
            here.insert(t.identity);
            let anywhere = allowed.anywhere.entry((place.0, blob)).or_default();
            anywhere.insert((place.1, t.identity));
        }
        allowed
    }

    /// One for each request that may have stored them there, and one for each message that may have
    /// been carried there.
    fn copies(&self, place: Place<'a>, blob: &'a str) -> usize {
        let (account, mailbox) = place;
        let anywhere = self.anywhere.get(&(account, blob)).map_or(0, BTreeSet::len);
        let renamed = self.story.restructured(account);
        let brought = self.brought.get(account).into_iter().flatten();
        let brought = brought.filter(|b| b.blob.as_deref().is_none_or(|b| b == blob));
        let (mut came, mut came_here) = (0usize, 0usize);
        for b in brought {
            came += b.times;
            if renamed || b.mailbox == mailbox {
                came_here += b.times;
            }
        }
        if anywhere + came == 0 || !self.everywhere.contains(blob) {
            return 0;
        }
        let stored = match renamed {
            true => anywhere,
            false => self.here.get(&(place, blob)).map_or(0, BTreeSet::len),
        };
        let carries = self.story.carries.get(account).into_iter().flatten();
        let here = carries.filter(|c| renamed || c.to == mailbox);
        let once: BTreeMap<[u8; 16], usize> = here.map(|c| (c.request, c.count)).collect();
        let carried = once.values().fold(0usize, |sum, n| sum.saturating_add(*n));
        stored.saturating_add(carried).saturating_add(came_here)
    }
}

/// No more copies than identities.
fn copies(story: &Story, forgets: bool, found: &mut Findings) {
    let allowed = Allowed::of(story);
    let mut copies: BTreeMap<(Place, u32, &str), Copies> = BTreeMap::new();
    let mut seen = |place, uid_validity, blob, uid, record| {
        let copies: &mut Copies = copies.entry((place, uid_validity, blob)).or_default();
        if copies.uids.insert(uid) {
            copies.latest = record;
        }
    };
    for sighting in &story.sightings {
        for m in sighting.messages {
            let (place, validity) = (sighting.place, sighting.uid_validity);
            seen(place, validity, m.blob.as_str(), m.uid, sighting.record);
        }
    }
    for t in &story.tries {
        if let Stored::At(at) = t.stored {
            seen(t.place, at.uid_validity, &*t.held.blob, at.uid, t.record);
        }
    }
    for ((place, _, blob), copies) in copies {
        let identities = allowed.copies(place, blob);
        if copies.uids.len() <= identities || (forgets && identities > 0) {
            continue;
        }
        let (account, mailbox) = place;
        let uids = copies.uids;
        let what = match identities {
            0 => format!("blob {blob} in {mailbox} of {account}, uids {uids:?}: nobody sent it"),
            n => format!(
                "blob {blob} in {mailbox} of {account} has uids {uids:?}, but there were only {n} \
                 requests to store it"
            ),
        };
        story.report(found, NAME, copies.latest, what);
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::*;
    use super::*;

    fn judged(history: &[Record]) -> Vec<String> {
        let violations = judge(Once::new(Expected::default(), false), history);
        violations.into_iter().map(|v| v.what).collect()
    }

    #[test]
    fn repeats_and_equal_octets_are_good() {
        let mut second = deliver(30, 1, delivered(at(2, 3)));
        let Call::Deliver { request, .. } = &mut second.call else {
            unreachable!()
        };
        *request = Some([9; 16]);
        let history = [
            create(0),
            deliver(10, 1, unknown()),
            deliver(20, 1, delivered(at(1, 2))),
            second,
            list(40, 3, vec![seen(1, 2, 1), seen(2, 3, 1)]),
        ];
        assert_eq!(judged(&history), [""; 0]);
    }

    #[test]
    fn a_duplicate_is_found() {
        // By two answers of one request.
        let history = [
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            deliver(20, 1, delivered(at(2, 3))),
        ];
        // Both as another answer and as one copy too many.
        assert_eq!(judged(&history).len(), 2);
        // By what is there.
        let history = [
            create(0),
            deliver(10, 1, unknown()),
            list(40, 3, vec![seen(1, 2, 1), seen(2, 3, 1)]),
        ];
        assert_eq!(judged(&history).len(), 1);
        // By what was there, one after the other.
        let history = [
            create(0),
            deliver(10, 1, unknown()),
            list(20, 2, vec![seen(1, 2, 1)]),
            expunge(30, 1, unknown()),
            list(40, 4, vec![seen(2, 4, 1)]),
        ];
        assert_eq!(judged(&history).len(), 1);
    }

    #[test]
    fn a_copy_is_one_more_and_no_two() {
        let mut again = moved(30, 1, 4, 3);
        let history = |second: Record| {
            let history = [
                create(0),
                deliver(10, 1, delivered(at(1, 2))),
                moved(20, 1, 4, 2),
                second,
                list(40, 4, vec![seen(1, 2, 1), seen(2, 3, 1)]),
            ];
            judged(&history).len()
        };
        assert_eq!(history(list(30, 4, vec![])), 0);
        // The same request, with another answer.
        let Call::Carry { request, .. } = &mut again.call else {
            unreachable!()
        };
        *request = [20; 16];
        assert_eq!(history(again), 1);
    }

    #[test]
    fn what_nobody_sent_is_found() {
        let refused = Answer::Refused("busy".into());
        let history = [
            create(0),
            deliver(10, 1, refused),
            list(20, 2, vec![seen(1, 2, 1)]),
        ];
        assert!(judged(&history)[0].contains("nobody"));
        let mut broken_off = deliver(10, 1, unknown());
        let Call::Deliver { may_exist, .. } = &mut broken_off.call else {
            unreachable!()
        };
        *may_exist = false;
        let history = [create(0), broken_off, list(20, 2, vec![seen(1, 2, 1)])];
        assert!(judged(&history)[0].contains("nobody"));
    }
}

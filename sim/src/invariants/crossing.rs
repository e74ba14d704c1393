//! A message that goes to another account comes whole, all or none of them, and is in one place in the
//! end.
//!
//! Source: the contract (`posthouse.proto`, `CopyRequest`: "all or none"; "a message that is on its
//! way is in both accounts for a moment and stays in one"; stored there first, leaves then). The
//! call of a crossing may be acknowledged or not, and what was begun is seen through in any case, so
//! the end is judged, and of an acknowledged one also the way:
//!
//! - what has left its account, and nobody else has taken, is in the other one;
//! - who has seen it gone from the one sees it in the other from then on;
//! - the octets are the same, and so is when the message came;
//! - an acknowledged crossing leaves out nothing that was there all the time.
//!
//! That none comes twice, and that none is in both in the end, [`super::once`] says by counting;
//! that what was acknowledged stays, [`super::acknowledged`]; that what has left stays away,
//! [`super::resurrection`]. Messages go by uidvalidity and uid where they leave; where the call
//! named a mailbox whose name may have been another's, nothing is said.

use super::story::{self, Crossed, Sighting, Stored, Story};
use super::{Findings, Invariant};
use crate::history::{Call, Record};
use crate::workload::READER;
use crate::workload::body::Expected;

const NAME: &str = "crossing";

/// Crossings are all or none.
pub struct Crossing {
    expected: Expected,
    forgets: bool,
}

impl Crossing {
    /// Judges by these octets. Where the store `forgets` requests, a late repetition inside the client
    /// may rightly be carried out anew.
    pub fn new(expected: Expected, forgets: bool) -> Crossing {
        Crossing { expected, forgets }
    }
}

impl Invariant for Crossing {
    fn name(&self) -> &'static str {
        NAME
    }

    fn end(&mut self, history: &[Record], found: &mut Findings) {
        if self.forgets {
            return;
        }
        let story = Story::new(history, &self.expected);
        for c in story.crossings.values() {
            // Numbers that come again say nothing of which message it was.
            let Some(era) = story.source_era(c) else {
                continue;
            };
            let judge = Judge {
                story: &story,
                c,
                era,
            };
            if let Some(told) = c.told {
                judge.octets(told, found);
                judge.dates(told, found);
                judge.left_out(told, found);
                judge.way(told, found);
            } else if c.away {
                judge.end(found);
            }
        }
    }
}

struct Judge<'a, 'b> {
    story: &'b Story<'a>,
    c: &'b story::Crossing<'a>,
    /// uidvalidity of the mailbox that the messages leave.
    era: u32,
}

impl<'a> Judge<'a, '_> {
    fn report(&self, record: usize, what: String, found: &mut Findings) {
        let c = self.c;
        let how = if c.away { "moved" } else { "copied" };
        let what = format!(
            "{what}; {how} from {} of {} to {} of {} from {} ms on",
            c.place.1, c.place.0, c.to.1, c.to.0, c.first_called_ms
        );
        self.story.report(found, NAME, record, what);
    }

    /// The octets are the same at both ends.
    fn octets(&self, told: Crossed, found: &mut Findings) {
        for (from, to) in told.from.iter().zip(told.to) {
            let here = self.story.octets.get(&(self.c.place.0, self.era, *from));
            let there = (self.c.to.0, told.uid_validity, *to);
            let there = self.story.octets.get(&there);
            if let (Some(here), Some(there)) = (here, there)
                && here != there
            {
                let what = format!("uid {from} is blob {here}, and came as uid {to}, blob {there}");
                self.report(self.c.record, what, found);
            }
        }
        if told.from.len() != told.to.len() {
            let what = format!("uids {:?} became {:?}", told.from, told.to);
            self.report(self.c.record, what, found);
        }
    }

    /// When the message came is the same at both ends.
    fn dates(&self, told: Crossed, found: &mut Findings) {
        let seen = |account: &str, era: u32, uid: u32| {
            let lists = self.story.sightings.iter();
            let mut lists = lists.filter(|s| s.place.0 == account && s.uid_validity == era);
            lists.find_map(|s| s.messages.iter().find(|m| m.uid == uid).map(|m| m.date_ms))
        };
        for (from, to) in told.from.iter().zip(told.to) {
            let here = seen(self.c.place.0, self.era, *from);
            let there = seen(self.c.to.0, told.uid_validity, *to);
            if let (Some(here), Some(there)) = (here, there)
                && here != there
            {
                let what = format!("uid {from} came at {here} ms, and uid {to} at {there} ms");
                self.report(self.c.record, what, found);
            }
        }
    }

    /// A read or a store that showed the message where it was, before this call was made, or before
    /// read `read`.
    fn was_there(&self, uid: u32, before: impl Fn(usize) -> bool) -> bool {
        let (account, era) = (self.c.place.0, self.era);
        let mut seen = self.story.sightings.iter();
        let mut tries = self.story.tries.iter();
        seen.any(|s| {
            let here = s.place.0 == account && s.uid_validity == era && before(s.record);
            here && has(s, uid)
        }) || tries.any(|t| match t.stored {
            Stored::At(at) => {
                let here = t.place.0 == account && (at.uid_validity, at.uid) == (era, uid);
                here && before(t.record)
            }
            _ => false,
        })
    }

    /// An acknowledged crossing names all that was there from before to after.
    fn left_out(&self, told: Crossed, found: &mut Findings) {
        let (story, c) = (self.story, self.c);
        let first_ms = c.first_called_ms;
        if story.may_be_deleted(c.place.0, 0, c.record) || unboxed(story, c.place.0) {
            return;
        }
        let before = |r: usize| story.history[r].returned_ms < first_ms;
        for uid in c.uids.iter().filter(|uid| !told.from.contains(uid)) {
            let there = self.was_there(*uid, before);
            if there && !story.taken_otherwise(c, self.era, *uid, c.record) {
                let what = format!("uid {uid} was there, and was left out");
                self.report(c.record, what, found);
            }
        }
    }

    /// Who has seen a message gone sees it in the other account from then on.
    fn way(&self, told: Crossed, found: &mut Findings) {
        let (story, c) = (self.story, self.c);
        if !c.away {
            return;
        }
        for (from, to) in told.from.iter().zip(told.to) {
            // The first that does not see it any more, and before which it was there.
            let gone = story.sightings.iter().find(|s| {
                let here = s.place.0 == c.place.0 && s.uid_validity == self.era;
                here && !has(s, *from) && self.was_there(*from, |r| story.before(r, s.record))
            });
            let Some(gone) = gone else { continue };
            if story.taken_otherwise(c, self.era, *from, gone.record) {
                continue;
            }
            let missing = story.sightings.iter().find(|s| {
                let there = s.place.0 == c.to.0 && s.uid_validity == told.uid_validity;
                there && !has(s, *to) && story.before(gone.record, s.record)
            });
            let Some(missing) = missing else { continue };
            let (era, read) = (told.uid_validity, missing.record);
            if !story.may_be_expunged(c.to, era, *to, read) {
                let what = format!(
                    "uid {from} was seen gone at {} ms, and uid {to} is not there",
                    story.history[gone.record].returned_ms
                );
                self.report(read, what, found);
            }
        }
    }

    /// What has left, by a call that was never acknowledged, is in the other account in the end.
    fn end(&self, found: &mut Findings) {
        let (story, c) = (self.story, self.c);
        let last = story.sightings.iter().rev().find(|s| {
            let here = s.place.0 == c.place.0 && s.uid_validity == self.era;
            here && final_read(story, s)
        });
        let Some(last) = last else { return };
        let read = last.record;
        if story.may_be_deleted(c.to.0, 0, read) || unboxed(story, c.to.0) {
            return;
        }
        for uid in c.uids.iter().filter(|uid| !has(last, **uid)) {
            let known = story.octets.get(&(c.place.0, self.era, *uid));
            let Some(blob) = known else { continue };
            if !self.was_there(*uid, |r| story.before(r, read))
                || story.taken_otherwise(c, self.era, *uid, read)
                || self.may_be_removed_there(blob, read)
            {
                continue;
            }
            let lists = story.sightings.iter();
            let mut lists = lists.filter(|s| s.place.0 == c.to.0 && final_read(story, s));
            if !lists.any(|s| s.messages.iter().any(|m| m.blob == *blob)) {
                let what = format!(
                    "uid {uid}, blob {blob}, has left, and is nowhere in {}",
                    c.to.0
                );
                self.report(read, what, found);
            }
        }
    }

    /// Whether a call may have removed a message with these octets from the other account.
    fn may_be_removed_there(&self, blob: &str, read: usize) -> bool {
        let (story, to) = (self.story, self.c.to.0);
        let removals = story.removals.get(to).into_iter().flatten();
        let until_ms = story.history[read].returned_ms;
        let mut removals = removals.filter(|r| story.history[r.record].called_ms <= until_ms);
        removals.any(|r| {
            let era = match r.era {
                0 => story.era_of((to, r.mailbox)),
                era => Some(era),
            };
            let (Some(era), Some(uids)) = (era, r.gone.as_ref().or(r.uids.as_ref())) else {
                return true;
            };
            let may_be_it = |uid: &u32| {
                let known = story.octets.get(&(to, era, *uid));
                known.is_none_or(|known| known == blob)
            };
            uids.iter().any(may_be_it)
        })
    }
}

fn has(s: &Sighting, uid: u32) -> bool {
    s.messages.iter().any(|m| m.uid == uid)
}

fn final_read(story: &Story, s: &Sighting) -> bool {
    story.history[s.record].client == READER
}

/// Whether a mailbox of the account may have been removed.
fn unboxed(story: &Story, account: &str) -> bool {
    let all = story.restructures.get(account).into_iter().flatten();
    let removes = |r: &usize| matches!(story.history[*r].call, Call::DeleteMailbox { .. });
    all.into_iter().any(removes)
}

#[cfg(test)]
mod tests {
    use super::super::acknowledged::Acknowledged;
    use super::super::once::Once;
    use super::super::resurrection::Resurrection;
    use super::super::story::tests::*;
    use super::super::uids::Uids;
    use super::*;

    /// What each of the judges says, by its name.
    fn judged(history: &[Record]) -> Vec<String> {
        let octets = Expected::default;
        let mut told = judge(Crossing::new(octets(), false), history);
        told.extend(judge(Acknowledged::new(octets()), history));
        told.extend(judge(Once::new(octets(), false), history));
        told.extend(judge(Resurrection::new(octets()), history));
        told.extend(judge(Uids::new(octets()), history));
        told.into_iter().map(|v| v.invariant).collect()
    }

    /// Both accounts, and two messages in the first one's INBOX.
    fn begun() -> Vec<Record> {
        vec![
            create(0),
            of_bob(create(1)),
            deliver(10, 1, delivered(at(1, 2))),
            deliver(11, 2, delivered(at(2, 3))),
        ]
    }

    fn last(mut r: Record) -> Record {
        r.client = READER;
        r
    }

    #[test]
    fn a_move_that_is_acknowledged_or_not_is_good() {
        let mut acknowledged = begun();
        acknowledged.extend([
            crosses(30, &[1, 2], true, crossed(4, &[1, 2], &[1, 2])),
            crosses(36, &[1, 2], true, crossed(4, &[1, 2], &[1, 2])),
            last(list(50, 4, vec![])),
            last(of_bob(list(51, 2, vec![seen(1, 2, 1), seen(2, 2, 2)]))),
        ]);
        assert_eq!(judged(&acknowledged), [""; 0]);
        // Long after the call, and what was expunged meanwhile is in one of them, or in none.
        let mut unknown_one = begun();
        unknown_one.extend([
            crosses(30, &[1, 2], true, unknown()),
            expunge(40, 2, expunged(4, &[2])),
            list(50, 4, vec![seen(1, 2, 1)]),
            last(list(90, 5, vec![])),
            last(of_bob(list(91, 2, vec![seen(1, 2, 1)]))),
        ]);
        assert_eq!(judged(&unknown_one), [""; 0]);
        // It may never have begun.
        let mut nothing = begun();
        nothing.extend([
            crosses(30, &[1, 2], true, unknown()),
            last(list(90, 3, vec![seen(1, 2, 1), seen(2, 3, 2)])),
            last(of_bob(list(91, 1, vec![]))),
        ]);
        assert_eq!(judged(&nothing), [""; 0]);
    }

    #[test]
    fn what_is_in_neither_account_is_lost() {
        let acknowledged = crossed(4, &[1, 2], &[1, 2]);
        for (answer, who) in [(unknown(), "crossing"), (acknowledged, "acknowledged")] {
            let mut history = begun();
            history.extend([
                crosses(30, &[1, 2], true, answer),
                last(list(90, 4, vec![])),
                last(of_bob(list(91, 2, vec![seen(1, 2, 1)]))),
            ]);
            assert_eq!(judged(&history), [who]);
        }
    }

    #[test]
    fn what_is_in_both_accounts_in_the_end_is_found() {
        let mut history = begun();
        history.extend([
            crosses(30, &[1, 2], true, unknown()),
            last(list(90, 3, vec![seen(1, 2, 1), seen(2, 3, 2)])),
            last(of_bob(list(91, 2, vec![seen(1, 2, 1), seen(2, 2, 2)]))),
        ]);
        assert_eq!(judged(&history), ["once", "once"]);
        let mut history = begun();
        history.extend([
            crosses(30, &[1], true, crossed(4, &[1], &[1])),
            last(list(90, 4, vec![seen(1, 2, 1), seen(2, 3, 2)])),
            last(of_bob(list(91, 2, vec![seen(1, 2, 1)]))),
        ]);
        assert_eq!(judged(&history), ["resurrection"]);
    }

    #[test]
    fn what_comes_twice_or_from_nowhere_is_found() {
        let mut history = begun();
        history.extend([
            crosses(30, &[1], false, unknown()),
            last(of_bob(list(91, 3, vec![seen(1, 2, 1), seen(2, 3, 1)]))),
        ]);
        assert_eq!(judged(&history), ["once"]);
        let mut history = begun();
        history.extend([
            crosses(30, &[1], false, unknown()),
            last(of_bob(list(91, 3, vec![seen(1, 2, 2)]))),
        ]);
        assert_eq!(judged(&history), ["once"]);
    }

    /// The call's second try was answered by a new account, which never had the messages.
    #[test]
    fn what_an_account_gave_before_it_was_made_anew_has_come() {
        let nothing = crossed(1, &[], &[]);
        let mut anew = begun();
        let mut moved = crosses(30, &[1, 2], true, nothing.clone());
        moved.returned_ms = 80;
        anew.extend([
            delete(40),
            create(50),
            moved,
            of_bob(list(90, 2, vec![seen(1, 2, 1), seen(2, 2, 2)])),
        ]);
        assert_eq!(judged(&anew), [""; 0]);
        // One that was there all the time would know.
        let mut same = begun();
        same.extend([
            crosses(30, &[1, 2], true, nothing),
            of_bob(list(90, 2, vec![seen(1, 2, 1), seen(2, 2, 2)])),
        ]);
        assert!(judged(&same).contains(&"once".to_owned()));
    }

    #[test]
    fn other_octets_and_what_is_left_out_are_found() {
        let mut history = begun();
        history.extend([
            crosses(30, &[1, 2], false, crossed(3, &[1, 2], &[1, 2])),
            last(of_bob(list(91, 2, vec![seen(1, 2, 2), seen(2, 2, 1)]))),
        ]);
        assert_eq!(judged(&history), ["crossing", "crossing"]);
        let mut history = begun();
        history.extend([
            crosses(30, &[1, 2], false, crossed(3, &[1], &[1])),
            last(of_bob(list(91, 2, vec![seen(1, 2, 1)]))),
        ]);
        assert_eq!(judged(&history), ["crossing"]);
    }

    #[test]
    fn messages_keep_when_they_came() {
        let mut later = seen(1, 2, 1);
        later.date_ms += 1;
        for (there, wrong) in [(seen(1, 2, 1), 0), (later, 1)] {
            let mut history = begun();
            history.extend([
                list(20, 3, vec![seen(1, 2, 1), seen(2, 3, 2)]),
                crosses(30, &[1], false, crossed(3, &[1], &[1])),
                last(of_bob(list(91, 2, vec![there]))),
            ]);
            assert_eq!(judged(&history).len(), wrong);
        }
    }

    #[test]
    fn who_saw_it_leave_must_see_it_arrive() {
        let mut slow = crosses(30, &[1], true, crossed(4, &[1], &[1]));
        slow.returned_ms = 80;
        let mut history = begun();
        history.extend([
            list(50, 4, vec![seen(2, 3, 2)]),
            of_bob(list(60, 1, vec![])),
            slow,
            last(list(90, 4, vec![seen(2, 3, 2)])),
            last(of_bob(list(91, 2, vec![seen(1, 2, 1)]))),
        ]);
        assert_eq!(judged(&history), ["crossing"]);
        // Before it is there, it is where it was.
        history[4] = list(50, 3, vec![seen(1, 2, 1), seen(2, 3, 2)]);
        assert_eq!(judged(&history), [""; 0]);
    }
}

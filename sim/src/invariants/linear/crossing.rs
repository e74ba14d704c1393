//! Copies and moves to another account, as calls on both accounts, each judged by itself.
//!
//! Messages land in the one and depart from the other, in steps that each account takes at some
//! moment from the first call under the request on: before the answer, where there is one, and
//! otherwise at any time or never. What nobody has told is left open: flags of what has landed, until
//! they are listed; octets where the message was never seen at the source. Where it cannot be said
//! what a step did, the search may take it as its last resort, and says nothing from then on.

use super::search::Call;
use super::spec::{INBOX, Name, Op, Ret, UNKNOWN_SIZE, UNSEEN, Where};
use super::{Reader, Story};
use crate::history::Answer;
use crate::invariants::story::{Crossing, Place, Stored};

/// Octets that go in one step at most (posthouse.proto, `CopyRequest`), less what LMTP adds.
const STEP_BYTES: u64 = 31 << 20;

/// Whether nothing can be said of an account because of what crosses: requests are remembered by each
/// account of a name apart, so what came twice may have come rightly.
pub(super) fn untold(story: &Story, account: &str) -> bool {
    let mut all = story.crossings.values();
    all.any(|c| {
        let touched = c.place.0 == account || c.to.0 == account;
        touched && !(story.one_generation(c.place.0) && story.one_generation(account))
    })
}

/// What is known of a crossing before the search.
struct Known {
    /// Several steps each with a modseq of its own may have been needed.
    large: bool,
    /// The messages were there when it was called first, all of them.
    there: bool,
    /// ... and nobody else takes them away, or their mailbox, at any time.
    alone: bool,
}

impl Reader<'_> {
    /// Adds what crosses, after everything else.
    pub(super) fn crossings(&mut self) {
        let story = self.story;
        let octets = story.tries.iter().map(|t| t.held.size);
        let largest = octets.max().unwrap_or(0);
        for c in story.crossings.values() {
            let known = known(story, c, largest);
            self.depart(c, &known);
            self.land(c, &known);
        }
    }

    fn depart(&mut self, c: &Crossing, known: &Known) {
        let vague = known.large || !steady(self.story, c, c.place, c.era);
        let (uids, vague, ret) = match c.told {
            // A copy changes nothing here, and nobody tells when it did.
            None if !c.away => return,
            None => (c.uids.to_vec(), vague || !known.there, None),
            Some(told) if !c.away => (Vec::new(), known.large, Some(Ret::Departed(told.modseq))),
            Some(told) => (told.from.to_vec(), vague, Some(Ret::Departed(told.modseq))),
        };
        let op = Op::Depart {
            at: place(c.place, c.era),
            uids,
            vague,
            request: self.requests.of(c.request),
        };
        self.cross(c, c.place.0, op, ret);
    }

    fn land(&mut self, c: &Crossing, known: &Known) {
        let request = self.requests.of(c.request);
        let to = place(c.to, c.to_era);
        let items = |reader: &mut Self, uids: &[u32]| -> Vec<(Name, u64)> {
            uids.iter().map(|uid| reader.item(c, *uid)).collect()
        };
        let Some(told) = c.told else {
            let vague = known.large || !steady(self.story, c, c.to, c.to_era);
            let all = c.uids.len();
            // One of these, as many as there were: they have one request.
            let fewest = if known.alone || vague { all } else { 1 };
            for n in (fewest..=all).rev() {
                let op = Op::Land {
                    to: to.clone(),
                    told: 0,
                    items: match n == all {
                        true => items(self, c.uids),
                        false => vec![(UNSEEN, UNKNOWN_SIZE); n],
                    },
                    vague,
                    request,
                };
                self.cross(c, c.to.0, op, None);
            }
            return;
        };
        let Some(first) = told.to.first().copied() else {
            return;
        };
        let in_a_row = told
            .to
            .iter()
            .copied()
            .eq(first..first + told.to.len() as u32);
        let named = c.to_era == 0 && steady(self.story, c, c.to, 0);
        let op = Op::Land {
            to,
            // Its name says which it is; whether that is so, the answer shows.
            told: if named { 0 } else { told.uid_validity },
            items: items(self, told.from),
            vague: known.large || !in_a_row,
            request,
        };
        let ret = Ret::Landed {
            uid_validity: told.uid_validity,
            first,
        };
        self.cross(c, c.to.0, op, Some(ret));
    }

    /// What is known of the octets of a message that leaves.
    fn item(&mut self, c: &Crossing, uid: u32) -> (Name, u64) {
        let story = self.story;
        let era = story.source_era(c);
        let blob = era.and_then(|era| story.octets.get(&(c.place.0, era, uid)));
        let size = blob.and_then(|blob| story.size_of(blob));
        let name = blob.map_or(UNSEEN, |blob| self.blobs.of(blob));
        (name, size.unwrap_or(UNKNOWN_SIZE))
    }

    fn cross(&mut self, c: &Crossing, account: &str, op: Op, ret: Option<Ret>) {
        let call = Call {
            op,
            called_ms: c.first_called_ms,
            returned_ms: match ret {
                Some(_) => self.story.history[c.record].returned_ms,
                None => u64::MAX,
            },
            after: None,
            ret,
            record: c.record,
        };
        self.calls.entry(account.to_owned()).or_default().push(call);
    }
}

fn place(place: Place, era: u32) -> Where {
    Where {
        name: place.1.into(),
        era,
    }
}

fn known(story: &Story, c: &Crossing, largest: u64) -> Known {
    let large = largest.saturating_mul(c.uids.len() as u64) > STEP_BYTES;
    let era = story.source_era(c);
    // Uids rise: what is not above one that was there was there, or is gone.
    let shown = era.map_or(0, |era| {
        let before = |record: usize| story.history[record].returned_ms < c.first_called_ms;
        let stored = story.tries.iter().filter_map(|t| match t.stored {
            Stored::At(at) if t.place.0 == c.place.0 && at.uid_validity == era => {
                before(t.record).then_some(at.uid)
            }
            _ => None,
        });
        let listed = story.sightings.iter();
        let listed = listed.filter(|s| s.place.0 == c.place.0 && s.uid_validity == era);
        let listed = listed.filter(|s| before(s.record));
        let listed = listed.filter_map(|s| s.messages.last().map(|m| m.uid));
        stored.chain(listed).max().unwrap_or(0)
    });
    let there = c.uids.iter().all(|uid| *uid <= shown);
    let last = story.history.len() - 1;
    let alone = there
        && !story.restructured(c.place.0)
        && era.is_some_and(|era| {
            let seen = |uid| story.octets.contains_key(&(c.place.0, era, uid));
            let taken = |uid| story.taken_otherwise(c, era, uid, last);
            c.uids.iter().all(|uid| seen(*uid) && !taken(*uid))
        });
    Known {
        large,
        there,
        alone,
    }
}

/// Whether a name stands for one mailbox as long as the crossing may look at it.
fn steady(story: &Story, c: &Crossing, place: Place, era: u32) -> bool {
    if era != 0 || place.1 == INBOX {
        return true;
    }
    let until_ms = match c.told {
        Some(_) => story.history[c.record].returned_ms,
        None => u64::MAX,
    };
    let all = story.restructures.get(place.0).into_iter().flatten();
    !all.into_iter().any(|r| {
        let r = &story.history[*r];
        let over = matches!(r.answer, Answer::Done(_)) && r.returned_ms < c.first_called_ms;
        r.called_ms <= until_ms && !over
    })
}

#[cfg(test)]
mod tests {
    use super::super::Linear;
    use crate::history::Record;
    use crate::invariants::story::tests::*;
    use crate::workload::body::Expected;

    fn judged(history: &[Record]) -> usize {
        judge(Linear::new(Expected::default(), false, false), history).len()
    }

    /// Both accounts, and two messages in the first one's INBOX.
    fn begun(more: impl IntoIterator<Item = Record>) -> Vec<Record> {
        let mut history = vec![
            create(0),
            of_bob(create(1)),
            deliver(10, 1, delivered(at(1, 2))),
            deliver(11, 2, delivered(at(2, 3))),
        ];
        history.extend(more);
        history
    }

    fn flagged(mut r: Record) -> Record {
        if let crate::history::Answer::Done(crate::history::Done::Messages { messages, .. }) =
            &mut r.answer
        {
            messages[0].flags = vec!["\\Seen".into()];
        }
        r
    }

    #[test]
    fn both_halves_of_an_acknowledged_move_are_judged() {
        let moved = || crosses(30, &[1, 2], true, crossed(4, &[1, 2], &[1, 2]));
        let there = |at| of_bob(list(at, 2, vec![seen(1, 2, 1), seen(2, 2, 2)]));
        let good = begun([
            moved(),
            of_bob(mailboxes(40, 3, 2, 2)),
            list(50, 4, vec![]),
            there(60),
        ]);
        assert_eq!(judged(&good), 0);
        // Its repetition gets the same answer, later.
        let repeated = begun([
            crosses(30, &[1, 2], true, unknown()),
            list(40, 4, vec![]),
            deliver(50, 3, delivered(at(3, 5))),
            crosses(60, &[1, 2], true, crossed(4, &[1, 2], &[1, 2])),
            there(70),
        ]);
        assert_eq!(judged(&repeated), 0);
        let still_here = list(50, 4, vec![seen(1, 2, 1), seen(2, 3, 2)]);
        assert_eq!(judged(&begun([moved(), still_here])), 1);
        assert_eq!(judged(&begun([moved(), of_bob(list(50, 1, vec![]))])), 1);
        let late = crosses(30, &[1, 2], true, crossed(5, &[1, 2], &[1, 2]));
        assert_eq!(judged(&begun([late])), 1);
        let elsewhere = crosses(30, &[1], true, crossed(4, &[1], &[2]));
        assert_eq!(judged(&begun([elsewhere])), 1);
        let other = of_bob(list(50, 2, vec![seen(1, 2, 2), seen(2, 2, 1)]));
        assert_eq!(judged(&begun([moved(), other])), 1);
    }

    #[test]
    fn flags_that_came_along_are_known_from_the_first_list_on() {
        let copied = || crosses(30, &[1], false, crossed(3, &[1], &[1]));
        let shown = |at| of_bob(list(at, 2, vec![seen(1, 2, 1)]));
        let same = begun([copied(), flagged(shown(40)), flagged(shown(50))]);
        assert_eq!(judged(&same), 0);
        assert_eq!(judged(&begun([copied(), flagged(shown(40)), shown(50)])), 1);
    }

    #[test]
    fn a_move_that_nobody_acknowledged_happens_once_or_never() {
        let moved = || crosses(30, &[1, 2], true, unknown());
        assert_eq!(judged(&begun([moved(), of_bob(list(90, 1, vec![]))])), 0);
        let late = begun([
            moved(),
            of_bob(list(40, 1, vec![])),
            expunge(50, 2, expunged(4, &[2])),
            of_bob(list(60, 2, vec![seen(1, 2, 1)])),
            list(70, 5, vec![]),
        ]);
        assert_eq!(judged(&late), 0);
        let twice = of_bob(list(90, 3, vec![seen(1, 2, 1), seen(2, 3, 1)]));
        assert_eq!(judged(&begun([moved(), twice])), 1);
        // Nobody takes one of them elsewhere: half of it does not come.
        let half = of_bob(list(90, 2, vec![seen(1, 2, 1)]));
        assert_eq!(judged(&begun([moved(), half])), 1);
    }
}

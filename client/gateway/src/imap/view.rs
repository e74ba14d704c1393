//! The session's view of the selected mailbox: which messages the client knows, and what has
//! changed that it has not been told yet (RFC 9051, sections 5.5 and 7.5.1).
//!
//! A message's sequence number is its rank among the uids that the client knows. The store may
//! be far ahead: what vanished there keeps its number here until the client is told so, at a
//! moment when that is allowed. So the view is one compressed set for what is known and three
//! for the news; nothing in it grows with what a message holds.

use std::collections::BTreeMap;

use posthouse_client::Opened;
use posthouse_client::ids::{MailboxId, MailboxRef, ModSeq, Uid};
use posthouse_client::proto::{Keyword, MailboxChanges, UidRange};
use roaring::RoaringBitmap;

use super::parse::Set;

/// So many uids or fewer are one step of the store (`Messages.Copy` in the contract).
const ONE_STEP: u64 = 10_000;

/// The message whose number was asked for last, and its number.
#[derive(Debug, Default)]
pub struct Neighbour(Option<(Uid, u32)>);

/// A selected mailbox.
#[derive(Debug, Clone)]
pub struct View {
    /// Its number.
    pub id: MailboxId,
    /// Its era.
    pub uidvalidity: u32,
    /// EXAMINE.
    pub read_only: bool,
    /// Changes up to this modseq have been taken up, in `uids` or as news.
    pub modseq: ModSeq,
    /// The mailbox's own modseq when it was opened: what a client may go on from.
    pub opened_modseq: ModSeq,
    /// Names of keywords by their numbers.
    pub keywords: BTreeMap<u32, String>,
    /// Whether the client has not been told all of them.
    untold_keywords: bool,
    /// The result of the last search that was saved (RFC 5182).
    pub saved: RoaringBitmap,
    /// Whatever changed up to this modseq has been told.
    told: ModSeq,
    /// The highest modseq that was told since the last tagged answer.
    shown: ModSeq,
    /// Uids from here on have not been given out, as far as is known.
    next: Uid,
    uids: RoaringBitmap,
    arrived: RoaringBitmap,
    vanished: RoaringBitmap,
    updated: RoaringBitmap,
}

/// A set names a message that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchNumber;

/// News that the client is told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct News {
    /// Messages that are gone, with the sequence numbers to tell one after the other.
    pub expunged: Vec<u32>,
    /// The same by uid.
    pub vanished: RoaringBitmap,
    /// The number of messages, when it has grown.
    pub exists: Option<u64>,
    /// Messages that have come.
    pub arrived: RoaringBitmap,
    /// Messages whose flags may have changed.
    pub updated: RoaringBitmap,
}

impl View {
    /// A mailbox as it was opened.
    pub fn new(opened: Opened, read_only: bool) -> View {
        // A mailbox that has not changed for long has a modseq whose changes are forgotten;
        // between that one and the first that is known, nothing happened in it.
        let modseq = opened.mailbox.highest_modseq.max(opened.trimmed_modseq);
        View {
            id: MailboxId(opened.mailbox.mailbox_id),
            uidvalidity: opened.mailbox.uidvalidity,
            read_only,
            modseq,
            told: modseq,
            shown: 0,
            opened_modseq: opened.mailbox.highest_modseq,
            keywords: opened
                .keywords
                .into_iter()
                .map(|k| (k.id, k.name))
                .collect(),
            untold_keywords: false,
            saved: RoaringBitmap::new(),
            next: opened
                .mailbox
                .uidnext
                .max(opened.uids.max().map_or(1, |uid| uid.saturating_add(1))),
            uids: opened.uids,
            arrived: RoaringBitmap::new(),
            vanished: RoaringBitmap::new(),
            updated: RoaringBitmap::new(),
        }
    }

    /// How the store is asked for it.
    pub fn mailbox(&self) -> MailboxRef {
        MailboxRef::Id {
            id: self.id,
            uidvalidity: self.uidvalidity,
        }
    }

    /// Messages that the client knows.
    pub fn count(&self) -> u64 {
        self.uids.len()
    }

    /// Their uids.
    pub fn uids(&self) -> &RoaringBitmap {
        &self.uids
    }

    /// Whether the client has something to be told.
    pub fn has_news(&self) -> bool {
        !(self.arrived.is_empty() && self.vanished.is_empty() && self.updated.is_empty())
    }

    /// The sequence number of a message.
    pub fn number(&self, uid: Uid) -> Option<u32> {
        match self.uids.contains(uid) {
            true => Some(self.uids.rank(uid) as u32),
            false => None,
        }
    }

    /// The same for messages that are asked for one after the other. The view must not change
    /// between them.
    pub fn number_after(&self, before: &mut Neighbour, uid: Uid) -> Option<u32> {
        let number = match before.0 {
            Some((last, number)) if last.checked_add(1) == Some(uid) => {
                self.uids.contains(uid).then_some(number + 1)
            }
            _ => self.number(uid),
        };
        before.0 = number.map(|number| (uid, number));
        number
    }

    /// The uid behind a sequence number.
    pub fn uid(&self, number: u32) -> Option<Uid> {
        self.uids.select(number.checked_sub(1)?)
    }

    /// The messages of a set of uids; numbers that nobody has are passed over (RFC 9051, section
    /// 6.4.9).
    pub fn by_uid(&self, set: &Set) -> RoaringBitmap {
        let largest = self.uids.max().unwrap_or(0);
        let Some(ranges) = set.resolved(largest) else {
            return &self.saved & &self.uids;
        };
        let mut out = RoaringBitmap::new();
        for (first, last) in ranges {
            // No further than the mailbox reaches: a set of all numbers that there are would cost
            // megabytes, and thousands of such ranges in one command seconds.
            let last = last.min(largest);
            // 0: `*` of an empty mailbox.
            if last != 0 && first <= last {
                out.insert_range(first..=last);
            }
        }
        out & &self.uids
    }

    /// The messages of a set of sequence numbers.
    pub fn by_number(&self, set: &Set) -> Result<RoaringBitmap, NoSuchNumber> {
        let count = self.uids.len() as u32;
        let Some(ranges) = set.resolved(count) else {
            return Ok(&self.saved & &self.uids);
        };
        let mut out = RoaringBitmap::new();
        for (first, last) in ranges {
            let (Some(from), Some(to)) = (self.uid(first), self.uid(last)) else {
                return Err(NoSuchNumber);
            };
            out.insert_range(from..=to);
        }
        Ok(out & &self.uids)
    }

    /// The messages of a set of sequence numbers; those that nobody has are passed over.
    pub fn by_number_if_any(&self, set: &Set) -> RoaringBitmap {
        let count = self.uids.len() as u32;
        let Some(ranges) = set.resolved(count) else {
            return &self.saved & &self.uids;
        };
        let mut out = RoaringBitmap::new();
        for (first, last) in ranges {
            if let (Some(from), Some(to)) = (self.uid(first), self.uid(last.min(count))) {
                out.insert_range(from..=to);
            }
        }
        out & &self.uids
    }

    /// Uids of a set that have been given out at some time, whether they are there or not.
    pub fn uids_below_next(&self, set: &Set) -> RoaringBitmap {
        let newest = self.next - 1;
        let Some(ranges) = set.resolved(newest) else {
            return self.saved.clone();
        };
        let mut out = RoaringBitmap::new();
        for (first, last) in ranges {
            let last = last.min(newest);
            if first <= last {
                out.insert_range(first..=last);
            }
        }
        out.remove(0);
        out
    }

    /// All uids that have been given out.
    pub fn all_below_next(&self) -> RoaringBitmap {
        let mut out = RoaringBitmap::new();
        out.insert_range(1..self.next);
        out
    }

    /// The messages of a set, by uid or by number.
    pub fn resolve(&self, uid: bool, set: &Set) -> Result<RoaringBitmap, NoSuchNumber> {
        match uid {
            true => Ok(self.by_uid(set)),
            false => self.by_number(set),
        }
    }

    /// Sequence numbers of these messages, as a set.
    pub fn numbers(&self, uids: &RoaringBitmap) -> RoaringBitmap {
        // Ranges of neighbours keep their shape, so this costs per range and not per message.
        let mut out = RoaringBitmap::new();
        for range in ranges(&(uids & &self.uids)) {
            let first = self.uids.rank(range.first) as u32;
            let length = self.uids.range_cardinality(range.first..=range.last) as u32;
            out.insert_range(first..first + length);
        }
        out
    }

    /// These messages as ranges of uids, as few as there can be: what lies between two neighbours
    /// of the view is gone, and no uid comes back, so a range may pass over it.
    pub fn spans(&self, uids: &RoaringBitmap) -> Vec<UidRange> {
        let numbers = ranges(&self.numbers(uids));
        let span = |range: UidRange| {
            Some(UidRange {
                first: self.uid(range.first)?,
                last: self.uid(range.last)?,
            })
        };
        numbers.into_iter().filter_map(span).collect()
    }

    /// The same for a change: the store does what names few uids in one step, all or nothing, so
    /// nothing is passed over that would make them many.
    pub fn spans_of_change(&self, uids: &RoaringBitmap) -> Vec<UidRange> {
        let spans = self.spans(uids);
        let named = spans.iter().map(|r| u64::from(r.last - r.first) + 1);
        match named.sum::<u64>() > ONE_STEP && uids.len() <= ONE_STEP {
            true => ranges(uids),
            false => spans,
        }
    }

    /// Takes up what has happened in the store.
    pub fn absorb(&mut self, changes: &MailboxChanges, up_to: ModSeq) {
        self.modseq = self.modseq.max(up_to);
        let newest = self.uids.max().unwrap_or(0);
        for uid in each(&changes.created) {
            // A uid below those that are known would shift numbers that the client uses; the
            // store never gives one out, since uids ascend.
            if uid > newest {
                self.arrived.insert(uid);
                self.next = self.next.max(uid.saturating_add(1));
            }
        }
        for uid in each(&changes.updated) {
            if self.uids.contains(uid) {
                self.updated.insert(uid);
            }
        }
        for range in &changes.vanished {
            if range.first == 0 || range.last < range.first {
                continue;
            }
            let mut gone = RoaringBitmap::new();
            gone.insert_range(range.first..=range.last);
            self.arrived -= &gone;
            self.updated -= &gone;
            self.vanished |= gone & &self.uids;
        }
    }

    /// Flags of these messages are told in another way.
    pub fn told(&mut self, uids: &RoaringBitmap) {
        self.updated -= uids;
    }

    /// Flags of these messages are to be told again.
    pub fn tell(&mut self, uids: &RoaringBitmap) {
        self.updated |= uids & &self.uids;
    }

    /// The client is told the modseq of a message.
    pub fn show(&mut self, modseq: ModSeq) {
        self.shown = self.shown.max(modseq);
    }

    /// A modseq that the client may go on from when it is cut off now, and miss nothing.
    pub fn safe_modseq(&mut self) -> ModSeq {
        if !self.has_news() {
            self.told = self.modseq;
        }
        self.told
    }

    /// A tagged answer is due. A client takes the highest modseq that it was told for the one to
    /// go on from, unless it is given another one (RFC 7162, section 6): that is given where
    /// something older has not been told, such as messages that are gone.
    pub fn correction(&mut self) -> Option<ModSeq> {
        let shown = std::mem::take(&mut self.shown);
        let safe = self.safe_modseq();
        (shown > safe).then_some(safe)
    }

    /// Remembers names of keywords.
    pub fn learn(&mut self, keywords: &[Keyword]) {
        let before = self.keywords.len();
        for keyword in keywords {
            self.keywords
                .entry(keyword.id)
                .or_insert_with(|| keyword.name.clone());
        }
        self.untold_keywords |= self.keywords.len() != before;
    }

    /// Whether names of keywords are to be told; from now on they count as told.
    pub fn tell_keywords(&mut self) -> bool {
        std::mem::take(&mut self.untold_keywords)
    }

    /// Takes the news out: from now on, the client counts as told. Messages that vanished keep
    /// their numbers unless `expunges` are allowed now.
    pub fn take_news(&mut self, expunges: bool) -> News {
        let mut news = News::default();
        if expunges && !self.vanished.is_empty() {
            // Each number counts after the ones before it are gone; from the end to the start,
            // none of them shifts another.
            let vanished = std::mem::take(&mut self.vanished);
            let numbers = self.numbers(&vanished);
            news.expunged = numbers.iter().rev().collect();
            self.uids -= &vanished;
            self.saved -= &vanished;
            news.vanished = vanished;
        }
        if !self.arrived.is_empty() {
            news.arrived = std::mem::take(&mut self.arrived);
            self.uids |= &news.arrived;
            news.exists = Some(self.uids.len());
        }
        news.updated = std::mem::take(&mut self.updated);
        news
    }
}

fn each(ranges: &[UidRange]) -> impl Iterator<Item = Uid> + '_ {
    ranges
        .iter()
        .filter(|r| r.first != 0 && r.last >= r.first)
        .flat_map(|r| r.first..=r.last)
}

/// A set as ranges.
pub fn ranges(uids: &RoaringBitmap) -> Vec<UidRange> {
    let mut out: Vec<UidRange> = Vec::new();
    for uid in uids {
        match out.last_mut() {
            Some(range) if range.last.checked_add(1) == Some(uid) => range.last = uid,
            _ => out.push(UidRange {
                first: uid,
                last: uid,
            }),
        }
    }
    out
}

/// Ranges as a set.
pub fn set_of(ranges: &[UidRange]) -> RoaringBitmap {
    let mut out = RoaringBitmap::new();
    for range in ranges {
        if range.first != 0 && range.last >= range.first {
            out.insert_range(range.first..=range.last);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use posthouse_client::proto::Mailbox;
    use proptest::prelude::*;

    use super::*;

    fn view(uids: impl IntoIterator<Item = u32>) -> View {
        View::new(
            Opened {
                mailbox: Mailbox {
                    mailbox_id: 1,
                    uidvalidity: 2,
                    ..Mailbox::default()
                },
                uids: uids.into_iter().collect(),
                keywords: Vec::new(),
                first_unseen: None,
                trimmed_modseq: 0,
                account_modseq: 0,
            },
            false,
        )
    }

    #[test]
    fn sets_are_taken_by_number_and_by_uid() {
        let view = view([3, 5, 9]);
        let of = |s: &[(u32, u32)]| Set::Ranges(s.to_vec());
        let uids = |b: RoaringBitmap| b.iter().collect::<Vec<_>>();
        assert_eq!(view.by_number(&of(&[(1, 2)])).map(uids), Ok(vec![3, 5]));
        assert_eq!(view.by_number(&of(&[(0, 0)])).map(uids), Ok(vec![9]));
        assert_eq!(view.by_number(&of(&[(2, 4)])), Err(NoSuchNumber));
        assert_eq!(uids(view.by_uid(&of(&[(4, 0)]))), [5, 9]);
        assert_eq!(uids(view.by_uid(&of(&[(20, 0)]))), [9]);
        assert_eq!(uids(view.by_uid(&of(&[(u32::MAX, 5)]))), [5, 9]);
        assert_eq!(uids(view.by_uid(&of(&[(10, u32::MAX)]))), [] as [u32; 0]);
        assert_eq!(uids(view.by_uid(&of(&[(1, 2)]))), [] as [u32; 0]);
        let empty = super::tests::view([]);
        assert_eq!(uids(empty.by_uid(&of(&[(1, 0)]))), [] as [u32; 0]);
        assert_eq!(empty.by_number(&of(&[(1, 0)])), Err(NoSuchNumber));
    }

    /// The mailbox in the store, a change a step; and what a client has been told.
    #[derive(Default)]
    struct Model {
        stored: Vec<u32>,
        next: u32,
        told: Vec<u32>,
    }

    fn one(uid: u32) -> Vec<UidRange> {
        vec![UidRange {
            first: uid,
            last: uid,
        }]
    }

    proptest! {
        #[test]
        fn a_client_that_follows_the_news_sees_what_is_stored(
            steps in proptest::collection::vec((0u8..6, any::<u16>()), 0..200),
        ) {
            let mut view = view([]);
            let mut model = Model { next: 1, ..Model::default() };
            let (mut modseq, mut flagged) = (0, Vec::new());
            for (what, n) in steps {
                modseq += 1;
                let some = (!model.stored.is_empty()).then(|| usize::from(n) % model.stored.len().max(1));
                let mut changes = MailboxChanges::default();
                match (what, some) {
                    (0 | 1, _) => {
                        model.next += u32::from(n % 3);
                        model.stored.push(model.next);
                        changes.created = one(model.next);
                        model.next += 1;
                    }
                    (2, Some(i)) => {
                        let uid = model.stored.remove(i);
                        flagged.retain(|&f| f != uid);
                        changes.vanished = vec![UidRange { first: uid, last: uid }];
                    }
                    (3, Some(i)) => {
                        changes.updated = one(model.stored[i]);
                        if model.told.contains(&model.stored[i]) {
                            flagged.push(model.stored[i]);
                        }
                    }
                    _ => {}
                }
                view.absorb(&changes, modseq);
                if what >= 4 {
                    let expunges = what == 5;
                    let news = view.take_news(expunges);
                    for number in &news.expunged {
                        model.told.remove(*number as usize - 1);
                    }
                    prop_assert!(expunges || news.expunged.is_empty());
                    if let Some(exists) = news.exists {
                        let known = model.told.last().copied().unwrap_or(0);
                        let fresh: Vec<u32> = model.stored.iter().copied().filter(|&u| u > known).collect();
                        model.told.extend(fresh);
                        prop_assert_eq!(exists as usize, model.told.len());
                    }
                    if expunges {
                        prop_assert_eq!(&model.told, &model.stored);
                    }
                    flagged.sort_unstable();
                    flagged.dedup();
                    prop_assert_eq!(news.updated.iter().collect::<Vec<_>>(), std::mem::take(&mut flagged));
                    prop_assert!(!view.has_news() || !expunges);
                }
                prop_assert_eq!(view.count() as usize, model.told.len());
                for (i, &uid) in model.told.iter().enumerate() {
                    prop_assert_eq!(view.number(uid), Some(i as u32 + 1));
                    prop_assert_eq!(view.uid(i as u32 + 1), Some(uid));
                }
                prop_assert_eq!(view.modseq, modseq);
            }
        }

        #[test]
        fn a_change_of_few_names_few(
            uids in proptest::collection::btree_set(1u32..100_000, 0..100),
            some in proptest::collection::btree_set(1u32..100_000, 0..100),
        ) {
            let view = view(uids.union(&some).copied());
            let set: RoaringBitmap = some.iter().copied().collect();
            let spans = view.spans_of_change(&set);
            let named = spans.iter().map(|r| u64::from(r.last - r.first) + 1);
            prop_assert!(named.sum::<u64>() <= ONE_STEP);
            let named = spans.iter().map(|r| (r.first, r.last)).collect();
            prop_assert_eq!(view.by_uid(&Set::Ranges(named)), set);
        }

        #[test]
        fn numbers_of_sets_are_ranks(
            uids in proptest::collection::btree_set(1u32..300, 0..100),
            some in proptest::collection::btree_set(1u32..300, 0..100),
        ) {
            let view = view(uids.iter().copied());
            let set: RoaringBitmap = some.iter().copied().collect();
            let expected: Vec<u32> = uids.iter().enumerate()
                .filter(|(_, u)| some.contains(u)).map(|(i, _)| i as u32 + 1).collect();
            prop_assert_eq!(view.numbers(&set).iter().collect::<Vec<_>>(), expected.clone());
            let mut before = Neighbour::default();
            let each = some.iter().filter_map(|uid| view.number_after(&mut before, *uid));
            prop_assert_eq!(each.collect::<Vec<_>>(), expected);
            prop_assert_eq!(set_of(&ranges(&set)), set.clone());
            let spans = view.spans(&set);
            prop_assert_eq!(set_of(&spans) & view.uids(), &set & view.uids());
            let all: RoaringBitmap = uids.iter().copied().collect();
            prop_assert!(view.spans(&all).len() <= 1);
        }
    }
}

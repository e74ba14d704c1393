//! Sets of uids, compressed.
//!
//! A mailbox keeps the uids that exist in parts of 4,096, each one small row that changes in the
//! same batch as its messages, so that opening a mailbox of ten million messages reads kilobytes.
//! The encoding of a part is canonical (equal sets, equal octets, whatever their history): the
//! state hash covers it, so it must depend neither on a library's version nor on the order of
//! inserts and removals.

use roaring::RoaringBitmap;

use super::keys::UID_PART_BITS;
use crate::types::Uid;

const UIDS: usize = 1 << UID_PART_BITS;
const WORDS: usize = UIDS / 64;
const FORM_RUNS: u8 = 0;
const FORM_BITS: u8 = 1;

/// Which of 4,096 consecutive uids exist.
///
/// ```text
/// row  = 00 | run*          run  = gap:u12 | more:u12 packed in 3 octets, gap since the end of the
///                                  run before, `more` uids after the first
///      | 01 | 512 octets    bit i of octet n: uid n * 8 + i; when there are more than 170 runs
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UidPart {
    words: [u64; WORDS],
}

impl Default for UidPart {
    fn default() -> Self {
        UidPart { words: [0; WORDS] }
    }
}

impl UidPart {
    /// The part that a uid is in, and its place there.
    pub fn place(uid: Uid) -> (u32, u16) {
        (uid >> UID_PART_BITS, (uid as usize % UIDS) as u16)
    }

    /// Adds; false if it was there.
    pub fn insert(&mut self, place: u16) -> bool {
        let (word, bit) = Self::bit(place);
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Removes; false if it was not there.
    pub fn remove(&mut self, place: u16) -> bool {
        let (word, bit) = Self::bit(place);
        let there = self.words[word] & bit != 0;
        self.words[word] &= !bit;
        there
    }

    /// Whether it is there.
    pub fn contains(&self, place: u16) -> bool {
        let (word, bit) = Self::bit(place);
        self.words[word] & bit != 0
    }

    /// Adds all of `first..=last`, word by word.
    fn fill(&mut self, first: usize, last: usize) {
        for (n, word) in self.words.iter_mut().enumerate() {
            let (low, high) = (n * 64, n * 64 + 63);
            if first <= high && low <= last {
                let from = first.max(low) - low;
                let to = last.min(high) - low;
                *word |= (u64::MAX >> (63 - to)) & (u64::MAX << from);
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|w| *w == 0)
    }

    fn bit(place: u16) -> (usize, u64) {
        let place = place as usize;
        assert!(place < UIDS, "place outside of its part");
        (place / 64, 1 << (place % 64))
    }

    /// Runs of consecutive places, ascending, both ends inclusive.
    pub fn runs(&self) -> Vec<(u16, u16)> {
        let mut runs = Vec::new();
        let mut at = 0;
        while let Some(first) = self.next(at, true) {
            let end = self.next(first, false).unwrap_or(UIDS);
            runs.push((first as u16, (end - 1) as u16));
            at = end;
        }
        runs
    }

    /// The first place from `at` on that is in the set, or is not.
    fn next(&self, at: usize, in_set: bool) -> Option<usize> {
        let mut at = at;
        while at < UIDS {
            let word = if in_set {
                self.words[at / 64]
            } else {
                !self.words[at / 64]
            };
            let rest = word >> (at % 64);
            if rest != 0 {
                return Some(at + rest.trailing_zeros() as usize);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }

    /// The row.
    pub fn encode(&self) -> Vec<u8> {
        let runs = self.runs();
        if runs.len() * 3 >= UIDS / 8 {
            let mut row = vec![FORM_BITS];
            row.extend(self.words.iter().flat_map(|w| w.to_le_bytes()));
            return row;
        }
        let mut row = vec![FORM_RUNS];
        let mut at = 0;
        for (first, last) in runs {
            let packed = ((first - at) as u32) << 12 | (last - first) as u32;
            row.extend_from_slice(&packed.to_be_bytes()[1..]);
            at = last;
        }
        row
    }

    /// The set of a row; `None` when it is none.
    pub fn decode(row: &[u8]) -> Option<UidPart> {
        let mut part = UidPart::default();
        match row.split_first()? {
            (&FORM_RUNS, runs) => {
                let mut at = 0usize;
                let (runs, rest) = runs.as_chunks::<3>();
                if !rest.is_empty() {
                    return None;
                }
                for run in runs {
                    let packed = u32::from_be_bytes([0, run[0], run[1], run[2]]);
                    let first = at + (packed >> 12) as usize;
                    let last = first + (packed & 0xfff) as usize;
                    if last >= UIDS {
                        return None;
                    }
                    part.fill(first, last);
                    at = last;
                }
            }
            (&FORM_BITS, bits) => {
                let (words, rest) = bits.as_chunks::<8>();
                if words.len() != WORDS || !rest.is_empty() {
                    return None;
                }
                for (word, octets) in part.words.iter_mut().zip(words) {
                    *word = u64::from_le_bytes(*octets);
                }
            }
            _ => return None,
        }
        Some(part)
    }

    /// Adds this part's uids to a set.
    pub fn add_to(&self, part: u32, set: &mut RoaringBitmap) {
        let base = part << UID_PART_BITS;
        for (first, last) in self.runs() {
            set.insert_range(base + first as u32..=base + last as u32);
        }
    }
}

/// Ascending uids as inclusive ranges.
pub fn to_ranges(uids: impl IntoIterator<Item = Uid>) -> Vec<(Uid, Uid)> {
    let mut ranges: Vec<(Uid, Uid)> = Vec::new();
    for uid in uids {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(uid) => *last = uid,
            _ => ranges.push((uid, uid)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_part_reads_back_and_is_canonical(places in prop::collection::vec(0u16..4096, 0..2000), undo in prop::collection::vec(0u16..4096, 0..200)) {
            let mut part = UidPart::default();
            let mut model = std::collections::BTreeSet::new();
            for p in &undo { part.insert(*p); }
            for p in &places { part.insert(*p); model.insert(*p); }
            for p in undo.iter().filter(|p| !model.contains(p)) { part.remove(*p); }
            let mut fresh = UidPart::default();
            for p in &model { prop_assert!(fresh.insert(*p)); }
            prop_assert_eq!(&part, &fresh);
            let row = part.encode();
            prop_assert!(row.len() <= 513);
            prop_assert_eq!(UidPart::decode(&row), Some(part.clone()));
            let mut set = RoaringBitmap::new();
            part.add_to(3, &mut set);
            prop_assert!(set.iter().eq(model.iter().map(|p| (3 << 12) + *p as u32)));
        }

        #[test]
        fn garbage_is_refused_or_read_without_panic(row in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = UidPart::decode(&row);
        }
    }

    #[test]
    fn a_full_part_is_four_octets() {
        let mut part = UidPart::default();
        (0..4096).for_each(|p| assert!(part.insert(p)));
        assert_eq!(part.encode().len(), 4);
        assert_eq!(to_ranges([1, 2, 3, 7, 9, 10]), [(1, 3), (7, 7), (9, 10)]);
    }
}

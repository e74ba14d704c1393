//! What the clients believe to be in their accounts, from acknowledged answers: the targets of
//! later operations are chosen from it. It may be behind; nothing is checked against it.

use std::collections::BTreeMap;

/// An account and a mailbox of the plan.
pub type Place = (u32, u32);

/// Uids with the modseqs last seen.
#[derive(Debug, Default)]
pub struct Known {
    mailboxes: BTreeMap<Place, BTreeMap<u32, u64>>,
    /// Number and uidvalidity of mailboxes.
    ids: BTreeMap<Place, (u32, u32)>,
}

impl Known {
    /// A message was stored or changed.
    pub fn seen(&mut self, place: Place, uid: u32, modseq: u64) {
        let known = self.mailboxes.entry(place).or_default().entry(uid);
        let known = known.or_default();
        *known = (*known).max(modseq);
    }

    /// A whole mailbox was listed.
    pub fn listed(&mut self, place: Place, messages: impl Iterator<Item = (u32, u64)>) {
        self.mailboxes.insert(place, messages.collect());
    }

    /// A message is gone.
    pub fn gone(&mut self, place: Place, uid: u32) {
        if let Some(known) = self.mailboxes.get_mut(&place) {
            known.remove(&uid);
        }
    }

    /// A mailbox was made or listed.
    pub fn named(&mut self, place: Place, id: u32, uid_validity: u32) {
        self.ids.insert(place, (id, uid_validity));
    }

    /// A mailbox is gone. Its number stays known: asking for what is not there is worth testing.
    pub fn forget(&mut self, place: Place) {
        self.mailboxes.remove(&place);
    }

    /// A mailbox has another name; INBOX lost its messages to the new one.
    pub fn renamed(&mut self, (account, from): Place, to: u32) {
        let messages = self.mailboxes.remove(&(account, from));
        self.mailboxes
            .insert((account, to), messages.unwrap_or_default());
    }

    /// Number and uidvalidity of a mailbox.
    pub fn id(&self, place: Place) -> Option<(u32, u32)> {
        self.ids.get(&place).copied()
    }

    /// The account is gone, or new.
    pub fn reset(&mut self, account: u32) {
        self.mailboxes.retain(|(a, _), _| *a != account);
    }

    /// Up to `count` neighbouring messages with their modseqs, chosen by `pick`. Where none is
    /// known, uids that may or may not be there: asking for what is not there is worth testing.
    pub fn pick(&self, place: Place, pick: u32, count: usize) -> Vec<(u32, u64)> {
        match self.mailboxes.get(&place) {
            Some(known) if !known.is_empty() => {
                let first = pick as usize % known.len();
                let from = known.iter().skip(first).take(count);
                from.map(|(uid, modseq)| (*uid, *modseq)).collect()
            }
            _ => vec![(1 + pick % 3, 1)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_from_what_was_seen() {
        let mut known = Known::default();
        assert_eq!(known.pick((0, 0), 7, 3), [(2, 1)]);
        known.seen((0, 0), 5, 9);
        known.seen((0, 0), 6, 10);
        known.seen((0, 0), 6, 4);
        assert_eq!(known.pick((0, 0), 3, 3), [(6, 10)]);
        assert_eq!(known.pick((0, 0), 2, 3), [(5, 9), (6, 10)]);
        known.gone((0, 0), 5);
        assert_eq!(known.pick((0, 0), 2, 1), [(6, 10)]);
        known.listed((0, 0), [(8, 11)].into_iter());
        assert_eq!(known.pick((0, 0), 0, 9), [(8, 11)]);
        known.reset(0);
        assert_eq!(known.pick((0, 0), 0, 9), [(1, 1)]);
    }
}

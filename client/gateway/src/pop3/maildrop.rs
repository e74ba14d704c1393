//! What a session sees of INBOX: the messages that were there at the login, and which of them the
//! client has marked as deleted (RFC 1939, sections 4 to 6).
//!
//! A message's number is its place here, from 1; what comes or goes meanwhile changes no number.
//! Nine octets a message, and the number of messages is limited, so a session's memory is.

use posthouse_client::ids::Uid;

use super::store::Inbox;

/// INBOX at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    inbox: Inbox,
    uids: Vec<Uid>,
    sizes: Vec<u32>,
}

impl Contents {
    /// An empty one.
    pub fn new(inbox: Inbox) -> Contents {
        Contents {
            inbox,
            uids: Vec::new(),
            sizes: Vec::new(),
        }
    }

    /// Adds a message. They come in the order of their uids; one that does not is no message of
    /// this mailbox, and is passed over. The store takes none of 4 GiB.
    pub fn push(&mut self, uid: Uid, size: u64) {
        if self.uids.last().is_none_or(|last| *last < uid) {
            self.uids.push(uid);
            self.sizes.push(size.try_into().unwrap_or(u32::MAX));
        }
    }
}

/// A session's view of INBOX.
#[derive(Debug)]
pub struct Maildrop {
    contents: Contents,
    deleted: Vec<bool>,
    count: u64,
    bytes: u64,
}

/// A message that is there and not marked as deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Its number in the session, from 1.
    pub number: u32,
    /// Its uid.
    pub uid: Uid,
    /// Its octets, as stored.
    pub size: u32,
}

impl Maildrop {
    /// A view of these contents, nothing deleted.
    pub fn new(contents: Contents) -> Maildrop {
        let mut maildrop = Maildrop {
            deleted: Vec::new(),
            count: 0,
            bytes: 0,
            contents,
        };
        maildrop.reset();
        maildrop
    }

    /// Which mailbox this is.
    pub fn inbox(&self) -> Inbox {
        self.contents.inbox
    }

    /// Messages that are not deleted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their octets, as stored.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The message with this number, unless it is deleted.
    pub fn get(&self, number: u32) -> Option<Message> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        match self.deleted.get(at)? {
            true => None,
            false => Some(Message {
                number,
                uid: self.contents.uids[at],
                size: self.contents.sizes[at],
            }),
        }
    }

    /// All messages that are not deleted.
    pub fn messages(&self) -> impl Iterator<Item = Message> + '_ {
        (1..=self.deleted.len() as u32).filter_map(|number| self.get(number))
    }

    /// The last number there is, deleted or not.
    pub fn last(&self) -> u32 {
        self.deleted.len() as u32
    }

    /// A message's unique id, the same in every session (RFC 1939, section 7, UIDL): at most 21
    /// characters of the 70 that are allowed.
    pub fn unique_id(&self, message: Message) -> String {
        format!("{}.{}", self.contents.inbox.uidvalidity, message.uid)
    }

    /// Marks a message as deleted.
    pub fn delete(&mut self, message: Message) {
        let at = message.number as usize - 1;
        if !std::mem::replace(&mut self.deleted[at], true) {
            self.count -= 1;
            self.bytes -= u64::from(message.size);
        }
    }

    /// Takes all marks away.
    pub fn reset(&mut self) {
        self.deleted = vec![false; self.contents.uids.len()];
        self.count = self.contents.uids.len() as u64;
        self.bytes = self
            .contents
            .sizes
            .iter()
            .map(|size| u64::from(*size))
            .sum();
    }

    /// The uids of deleted messages, as inclusive ranges. Between two messages that follow each
    /// other here there is none, and none can come: new ones get higher uids. So one range covers
    /// all deleted ones that follow each other, whatever lies between their uids.
    pub fn deleted(&self) -> Vec<(Uid, Uid)> {
        let mut ranges: Vec<(Uid, Uid)> = Vec::new();
        let mut open = false;
        for (uid, deleted) in self.contents.uids.iter().zip(&self.deleted) {
            match ranges.last_mut() {
                Some((_, last)) if open && *deleted => *last = *uid,
                _ if *deleted => ranges.push((*uid, *uid)),
                _ => {}
            }
            open = *deleted;
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use posthouse_client::ids::MailboxId;
    use proptest::prelude::*;

    use super::*;

    fn maildrop(uids: impl IntoIterator<Item = Uid>) -> Maildrop {
        let mut contents = Contents::new(Inbox {
            id: MailboxId(1),
            uidvalidity: u32::MAX,
        });
        for uid in uids {
            contents.push(uid, 10 + u64::from(uid));
        }
        Maildrop::new(contents)
    }

    #[test]
    fn deleted_messages_keep_their_numbers_and_are_seen_no_more() {
        let mut drop = maildrop([3, 5, u32::MAX]);
        assert_eq!((drop.count(), drop.last()), (3, 3));
        assert_eq!(drop.get(0), None);
        assert_eq!(drop.get(4), None);
        let second = drop.get(2).unwrap();
        drop.delete(second);
        drop.delete(second);
        assert_eq!(drop.get(2), None);
        assert_eq!(drop.get(3).unwrap().uid, u32::MAX);
        assert_eq!((drop.count(), drop.last()), (2, 3));
        assert_eq!(drop.bytes(), 13 + u64::from(u32::MAX));
        assert_eq!(drop.deleted(), [(5, 5)]);
        let longest = drop.unique_id(drop.get(3).unwrap());
        assert_eq!(longest, "4294967295.4294967295");
        drop.reset();
        assert_eq!((drop.count(), drop.deleted()), (3, vec![]));
    }

    proptest! {
        #[test]
        fn ranges_hold_what_was_deleted_and_nothing_else_that_is_there(
            uids in proptest::collection::btree_set(1u32..200, 0..60),
            numbers in proptest::collection::vec(1u32..70, 0..40),
        ) {
            let mut drop = maildrop(uids.iter().copied());
            let mut expected = BTreeSet::new();
            for number in numbers {
                if let Some(message) = drop.get(number) {
                    expected.insert(message.uid);
                    drop.delete(message);
                }
            }
            let ranges = drop.deleted();
            let within = |uid: &u32| ranges.iter().any(|(a, b)| a <= uid && uid <= b);
            let hit: BTreeSet<u32> = uids.iter().copied().filter(within).collect();
            prop_assert_eq!(&hit, &expected);
            prop_assert!(ranges.len() <= uids.len().div_ceil(2));
            prop_assert!(ranges.windows(2).all(|w| w[0].1 < w[1].0));
            let sum: u64 = drop.messages().map(|m| u64::from(m.size)).sum();
            prop_assert_eq!(drop.bytes(), sum);
            prop_assert_eq!(drop.count() as usize, uids.len() - expected.len());
        }
    }
}

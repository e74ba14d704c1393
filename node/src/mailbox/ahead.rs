//! Rows of emails, read ahead of whoever asks for them one after the other.
//!
//! The emails of a mailbox mostly have numbers that follow each other, because they came one after
//! the other; finding each row anew costs several times as much as stepping to the next one. So a
//! reader whose questions have come close to each other gets the following rows along, a few at
//! first and then more, bounded in number and octets. All questions must be about one view and one
//! account.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::index::keys::{Key, KeyRange, Space};
use crate::index::{IndexError, Next, View};
use crate::types::*;

/// An email this much further than the one before may be worth reading ahead for: the rows between
/// are read for nothing.
const NEAR: u64 = 4;
/// Rows that are read ahead at first, and at most.
const FIRST_ROWS: usize = 4;
const MOST_ROWS: usize = 64;
/// Octets of rows after which no further one is read ahead.
const MOST_BYTES: usize = 256 << 10;

/// Rows of one kind.
pub struct Ahead {
    key: fn(AccountId, EmailId) -> Key<'static>,
    /// The email of the last question.
    last: Option<EmailId>,
    /// Ascending; all rows that there are from the first to the last of them.
    rows: VecDeque<(EmailId, Bytes)>,
    /// How many to read the next time.
    next_rows: usize,
}

impl Ahead {
    /// Summaries, encoded.
    pub fn summaries() -> Ahead {
        Ahead::of(|account, email| Key::Summary { account, email })
    }

    /// Rows of emails, encoded.
    pub fn emails() -> Ahead {
        Ahead::of(|account, email| Key::Email { account, email })
    }

    fn of(key: fn(AccountId, EmailId) -> Key<'static>) -> Ahead {
        Ahead {
            key,
            last: None,
            rows: VecDeque::new(),
            next_rows: FIRST_ROWS,
        }
    }

    /// Forgets what was read: from now on, another view is asked.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.last = None;
    }

    /// The row of an email.
    pub fn get(
        &mut self,
        view: &dyn View,
        space: Space,
        account: AccountId,
        email: EmailId,
    ) -> Result<Option<Bytes>, IndexError> {
        let before = self.last.replace(email);
        while self.rows.pop_front_if(|(id, _)| *id < email).is_some() {}
        if let Some((_, row)) = self.rows.pop_front_if(|(id, _)| *id == email) {
            return Ok(Some(row));
        }
        self.rows.clear();
        let near = before.is_some_and(|b| email > b && email.0 - b.0 <= NEAR);
        if !near {
            self.next_rows = FIRST_ROWS;
            let key = (self.key)(account, email);
            return view.get(key.family(), &key.encode(space));
        }
        self.read(view, space, account, email)?;
        self.next_rows = (self.next_rows * 2).min(MOST_ROWS);
        let found = self.rows.pop_front_if(|(id, _)| *id == email);
        Ok(found.map(|(_, row)| row))
    }

    fn read(
        &mut self,
        view: &dyn View,
        space: Space,
        account: AccountId,
        first: EmailId,
    ) -> Result<(), IndexError> {
        let from = (self.key)(account, first);
        let to = (self.key)(account, EmailId(u64::MAX));
        let range = KeyRange::inclusive(&from, &to, space);
        let (mut bytes, mut damaged) = (0, None);
        view.scan(from.family(), &range.from, &range.to, &mut |key, row| {
            let (Some((_, Key::Summary { email, .. } | Key::Email { email, .. })), true) =
                (Key::decode(key), self.rows.len() < self.next_rows)
            else {
                if Key::decode(key).is_none() {
                    damaged = Some(IndexError::Corrupt(format!("{key:02x?} is no key")));
                }
                return Next::Stop;
            };
            bytes += row.len();
            self.rows.push_back((email, Bytes::copy_from_slice(row)));
            match bytes < MOST_BYTES {
                true => Next::Continue,
                false => Next::Stop,
            }
        })?;
        damaged.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::memory::MemoryStore;
    use crate::index::{Batch, Index};

    proptest! {
        /// Whatever is asked in whatever order: what comes is what a plain read gives.
        #[test]
        fn rows_are_those_that_are_there(
            there in proptest::collection::btree_set(0u64..200, 0..150),
            asked in proptest::collection::vec((0u64..200, 1u64..40), 1..20),
        ) {
            let index = MemoryStore::default().open();
            let (space, account) = (Space::FIRST, AccountId(7));
            let mut batch = Batch::default();
            for account in [AccountId(6), account, AccountId(8)] {
                for &email in &there {
                    let key = Key::Summary { account, email: EmailId(email) };
                    let row = format!("{} {email}", account.0).into_bytes();
                    batch.put(key.family(), key.encode(space), row);
                }
            }
            index.write(batch).unwrap();
            let view = index.view();
            let mut ahead = Ahead::summaries();
            for (from, count) in asked {
                for email in from..from + count {
                    let expected = there.contains(&email).then(|| Bytes::from(format!("7 {email}")));
                    let got = ahead.get(&*view, space, account, EmailId(email)).unwrap();
                    prop_assert_eq!(got, expected);
                }
            }
        }
    }
}

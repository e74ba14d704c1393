//! Keywords of one mailbox for several messages of one command: looked up or given a number in
//! memory first, so that the command can still be refused, and written once nothing is refused
//! any more.

use std::collections::BTreeMap;

use super::scope::{Flags, system_flag, too_many_keywords};
use super::txn::limit;
use super::{Stop, Txn, limits};
use crate::index::keys::Key;
use crate::index::values::{KeywordNameRow, KeywordRow, MailboxRow};
use crate::types::*;

/// Numbers of keywords of one mailbox.
pub struct Keywords {
    account: AccountId,
    mailbox: MailboxId,
    next: u16,
    /// Lower case, and the number.
    known: BTreeMap<String, u16>,
    /// Lower case, and as spelled, in the order of their numbers.
    new: Vec<(String, String)>,
}

impl Keywords {
    /// Those of this mailbox.
    pub fn of(account: AccountId, mailbox: MailboxId, row: &MailboxRow) -> Keywords {
        Keywords {
            account,
            mailbox,
            next: row.next_keyword,
            known: BTreeMap::new(),
            new: Vec::new(),
        }
    }

    /// The flags of these names, which are the flags of one message.
    pub fn flags(&mut self, txn: &Txn, names: &[String]) -> Result<Flags, Stop> {
        let mut flags = Flags::default();
        for name in names {
            match system_flag(name) {
                Some(bit) => flags.system |= 1 << bit,
                None => flags.keywords.push(self.number(txn, name)?),
            }
        }
        flags.keywords.sort_unstable();
        flags.keywords.dedup();
        match flags.keywords.len() <= limits::KEYWORDS_PER_MESSAGE {
            true => Ok(flags),
            false => Err(too_many_keywords().into()),
        }
    }

    /// The number of a keyword; the next one for one that the mailbox has not seen yet.
    pub fn number(&mut self, txn: &Txn, name: &str) -> Result<u16, Stop> {
        let lower = name.to_ascii_lowercase();
        if let Some(id) = self.known.get(&lower) {
            return Ok(*id);
        }
        let key = Key::KeywordName {
            account: self.account,
            mailbox: self.mailbox,
            name: &lower,
        };
        let id = match txn.get::<KeywordNameRow>(&key)? {
            Some(row) => row.id,
            None => {
                let n = limits::KEYWORDS_PER_MAILBOX;
                let id = self.next;
                if id >= n {
                    return Err(limit(format!("{n} keywords in a mailbox")).into());
                }
                self.next += 1;
                self.new.push((lower.clone(), name.to_owned()));
                id
            }
        };
        self.known.insert(lower, id);
        Ok(id)
    }

    /// Writes the new keywords; the caller writes the mailbox.
    pub fn write(self, txn: &mut Txn, row: &mut MailboxRow) {
        for (lower, name) in self.new {
            let id = row.next_keyword;
            row.next_keyword += 1;
            let key = Key::KeywordName {
                account: self.account,
                mailbox: self.mailbox,
                name: &lower,
            };
            txn.put(&key, &KeywordNameRow { id });
            let key = Key::Keyword {
                account: self.account,
                mailbox: self.mailbox,
                id,
            };
            txn.put(&key, &KeywordRow { name });
        }
        assert!(row.next_keyword == self.next, "numbers without a gap");
    }
}

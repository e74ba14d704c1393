//! Copies messages inside an account (RFC 9051, section 6.4.7): all or nothing, and no octets.
//!
//! A copy shows the email of its original, so its email id and its thread are the same (RFC 8474,
//! section 5.1). Flags, keywords and the internal date go along; the save date is new (RFC 8514,
//! section 3). Uids that do not exist are left out.

use std::collections::BTreeMap;

use crate::index::keys::{Key, RequestKind};
use crate::index::uids::to_ranges;
use crate::index::values::{AccountRow, Answer, EmailRow, KeywordRow, MailboxRow, MessageRow};
use crate::machine::command::{CopyMessages, Reply};
use crate::machine::keywords::Keywords;
use crate::machine::txn::limit;
use crate::machine::{Stop, Txn, placing, request, scope};
use crate::types::*;

pub(in crate::machine) fn apply(txn: &mut Txn, copy: &CopyMessages) -> Result<Reply, Stop> {
    let (id, mut account) = scope::account(txn, &copy.account)?;
    // The scope is the account, since there are two mailboxes.
    let request = request::of_account(RequestKind::Copy, id, MailboxId(0), copy.request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let (from, _) = scope::mailbox(txn, id, &copy.from)?;
    let (to, row) = scope::mailbox(txn, id, &copy.to)?;
    let found = scope::messages(txn, id, from, &copy.uids)?;
    let carried = carry(txn, id, from, (to, row), &found)?;
    let emails = shared(txn, id, &found)?;

    // From here on nothing is refused.
    for (email, row) in emails {
        txn.put(&Key::Email { account: id, email }, &row);
    }
    let (uidvalidity, to) = carried.place(txn, id, &mut account)?;
    txn.put(&Key::Account(id), &account);
    let reply = Reply::Copied {
        uidvalidity,
        modseq: account.highest_modseq,
        from: to_ranges(found.iter().map(|(uid, _)| *uid)),
        to,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

/// The emails of messages with one reference more for each message.
fn shared(
    txn: &Txn,
    account: AccountId,
    messages: &[(Uid, MessageRow)],
) -> Result<BTreeMap<EmailId, EmailRow>, Stop> {
    let mut emails: BTreeMap<EmailId, EmailRow> = BTreeMap::new();
    for (_, message) in messages {
        let email = message.email;
        let row = match emails.get_mut(&email) {
            Some(row) => row,
            None => {
                let row = txn.need(&Key::Email { account, email })?;
                emails.entry(email).or_insert(row)
            }
        };
        let refs = row.refs.checked_add(1);
        row.refs = refs.ok_or_else(|| limit("copies of one email"))?;
    }
    Ok(emails)
}

/// Messages on their way into a mailbox of the account; nothing is written yet.
pub(super) struct Carried {
    to: (MailboxId, MailboxRow),
    keywords: Keywords,
    messages: Vec<MessageRow>,
}

/// Takes messages of `from` over to `to`, in their order. Keywords have numbers of their own in
/// each mailbox: they are found by their names.
pub(super) fn carry(
    txn: &Txn,
    account: AccountId,
    from: MailboxId,
    to: (MailboxId, MailboxRow),
    messages: &[(Uid, MessageRow)],
) -> Result<Carried, Stop> {
    placing::check_room(&to.1, messages.len())?;
    let mut keywords = Keywords::of(account, to.0, &to.1);
    let mut numbers: BTreeMap<u16, u16> = BTreeMap::new();
    let mut carried = Vec::with_capacity(messages.len());
    for (_, message) in messages {
        let mut message = message.clone();
        for id in &mut message.keywords {
            let number = match numbers.get(id) {
                Some(number) => *number,
                None => {
                    let key = Key::Keyword {
                        account,
                        mailbox: from,
                        id: *id,
                    };
                    let KeywordRow { name } = txn.need(&key)?;
                    let number = keywords.number(txn, &name)?;
                    numbers.insert(*id, number);
                    number
                }
            };
            *id = number;
        }
        message.keywords.sort_unstable();
        carried.push(message);
    }
    Ok(Carried {
        to,
        keywords,
        messages: carried,
    })
}

impl Carried {
    /// Gives the messages their uids; answers the mailbox's uidvalidity, and which they are.
    #[allow(clippy::type_complexity)]
    pub(super) fn place(
        self,
        txn: &mut Txn,
        id: AccountId,
        account: &mut AccountRow,
    ) -> Result<(u32, Vec<(Uid, Uid)>), Stop> {
        let (to, mut row) = self.to;
        if self.messages.is_empty() {
            return Ok((row.uidvalidity, Vec::new()));
        }
        self.keywords.write(txn, &mut row);
        let count = self.messages.len() as u32;
        let placed = placing::arrive(txn, id, account, (to, row), self.messages)?;
        let uids = vec![(placed.first, placed.first + (count - 1))];
        Ok((placed.uidvalidity, uids))
    }
}

//! Messages that come into a mailbox and leave it: rows, uids, counters, and the one change row
//! with the modseq of all of them. What store, append, copy, move and expunge share.
//!
//! Nothing here refuses: the callers have checked. Each function reads the mailbox's row from the
//! transaction or gets it, and writes it; the account's row is in the caller's hands, because one
//! command may do several of these. So a command whose two mailboxes are one needs no care.

use bytes::Bytes;
use roaring::RoaringTreemap;

use super::command::ApplyError;
use super::txn::limit;
use super::{Txn, scope, thread};
use crate::index::IndexError;
use crate::index::keys::Key;
use crate::index::uids::{UidPart, to_ranges};
use crate::index::values::{AccountRow, ChangeKind, EmailRow, MailboxRow, MessageRow};
use crate::types::*;

/// Messages that came into a mailbox, with uids from `first` on without a gap.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// Era of the mailbox.
    pub uidvalidity: u32,
    /// The first one.
    pub first: Uid,
    /// The change that brought them.
    pub modseq: ModSeq,
}

/// Whether a mailbox has uids for so many more messages. The highest number is never given: it
/// means "no upper bound" in ranges.
pub fn check_room(mailbox: &MailboxRow, messages: usize) -> Result<(), ApplyError> {
    match u32::try_from(messages) {
        Ok(n) if n <= Uid::MAX - mailbox.uidnext => Ok(()),
        _ => Err(limit("the mailbox has no uids left")),
    }
}

/// Makes an email, for one message to show it.
pub fn new_email(
    txn: &mut Txn,
    id: AccountId,
    account: &mut AccountRow,
    blob: BlobId,
    summary: Bytes,
    keys: &[ThreadKey],
) -> Result<EmailId, IndexError> {
    let email = EmailId(account.next_email);
    account.next_email += 1;
    let row = EmailRow {
        blob,
        refs: 1,
        thread: thread::join(txn, id, email, keys)?,
        thread_keys: keys.to_vec(),
    };
    txn.put(&Key::Email { account: id, email }, &row);
    txn.put_octets(&Key::Summary { account: id, email }, summary);
    Ok(email)
}

/// Gives messages, at least one, the next uids of a mailbox. Their modseq and save date are set
/// here. `mailbox` may have been changed by the caller, and is written.
pub fn arrive(
    txn: &mut Txn,
    id: AccountId,
    account: &mut AccountRow,
    (mailbox_id, mut mailbox): (MailboxId, MailboxRow),
    messages: Vec<MessageRow>,
) -> Result<Placed, IndexError> {
    let save_date_ms = txn.now_ms()?;
    let first = mailbox.uidnext;
    let next = first + messages.len() as u32;
    assert!(next > first, "a change row of no message");
    let kind = ChangeKind::Created;
    let modseq = scope::change(txn, id, account, mailbox_id, kind, vec![(first, next - 1)])?;
    mailbox.uidnext = next;
    mailbox.highest_modseq = modseq;
    let mut uids = UidSet::of(id, mailbox_id);
    for (uid, mut message) in (first..).zip(messages) {
        message.modseq = modseq;
        message.save_date_ms = save_date_ms;
        scope::count(account, &mut mailbox, &message, true);
        let (number, place) = UidPart::place(uid);
        let new = uids.part(txn, number)?.insert(place);
        assert!(new, "uid {uid} is given once");
        let key = Key::Message {
            account: id,
            mailbox: mailbox_id,
            uid,
        };
        txn.put(&key, &message);
    }
    uids.close(txn);
    let key = Key::Mailbox {
        account: id,
        mailbox: mailbox_id,
    };
    txn.put(&key, &mailbox);
    Ok(Placed {
        uidvalidity: mailbox.uidvalidity,
        first,
        modseq,
    })
}

/// Takes messages, at least one, in the order of their uids, out of a mailbox, and emails that no
/// other message shows with them.
pub fn remove(
    txn: &mut Txn,
    id: AccountId,
    account: &mut AccountRow,
    mailbox_id: MailboxId,
    messages: &[(Uid, MessageRow)],
) -> Result<(), IndexError> {
    let mut destroyed = RoaringTreemap::new();
    for (_, message) in messages {
        if scope::drop_email_ref(txn, id, message.email)? {
            destroyed.insert(message.email.0);
        }
    }
    take_out(txn, id, account, mailbox_id, messages, emails(&destroyed))
}

/// Takes messages, at least one, in the order of their uids, out of a mailbox; other messages show
/// what they showed.
pub fn leave(
    txn: &mut Txn,
    id: AccountId,
    account: &mut AccountRow,
    mailbox_id: MailboxId,
    messages: &[(Uid, MessageRow)],
) -> Result<(), IndexError> {
    take_out(txn, id, account, mailbox_id, messages, Vec::new())
}

/// Emails as ascending ranges.
pub fn emails(set: &RoaringTreemap) -> Vec<(EmailId, EmailId)> {
    let mut ranges: Vec<(EmailId, EmailId)> = Vec::new();
    for email in set {
        match ranges.last_mut() {
            Some((_, last)) if last.0 + 1 == email => *last = EmailId(email),
            _ => ranges.push((EmailId(email), EmailId(email))),
        }
    }
    ranges
}

fn take_out(
    txn: &mut Txn,
    id: AccountId,
    account: &mut AccountRow,
    mailbox_id: MailboxId,
    messages: &[(Uid, MessageRow)],
    destroyed: Vec<(EmailId, EmailId)>,
) -> Result<(), IndexError> {
    let key = Key::Mailbox {
        account: id,
        mailbox: mailbox_id,
    };
    let mut mailbox: MailboxRow = txn.need(&key)?;
    let gone = to_ranges(messages.iter().map(|(uid, _)| *uid));
    assert!(!gone.is_empty(), "a change row of no message");
    let kind = ChangeKind::Vanished;
    mailbox.highest_modseq =
        scope::change_with(txn, id, account, mailbox_id, kind, gone, destroyed)?;
    let mut uids = UidSet::of(id, mailbox_id);
    for (uid, message) in messages {
        let uid = *uid;
        scope::count(account, &mut mailbox, message, false);
        txn.delete(&Key::Message {
            account: id,
            mailbox: mailbox_id,
            uid,
        });
        let (number, place) = UidPart::place(uid);
        let there = uids.part(txn, number)?.remove(place);
        assert!(there, "uid {uid} has a row, so it is in the set");
    }
    uids.close(txn);
    txn.put(&key, &mailbox);
    Ok(())
}

/// The uid set of a mailbox at work: the part of the last uid is held, the others are written.
struct UidSet {
    account: AccountId,
    mailbox: MailboxId,
    open: Option<(u32, UidPart)>,
}

impl UidSet {
    fn of(account: AccountId, mailbox: MailboxId) -> UidSet {
        UidSet {
            account,
            mailbox,
            open: None,
        }
    }

    fn key(&self, part: u32) -> Key<'static> {
        Key::UidSet {
            account: self.account,
            mailbox: self.mailbox,
            part,
        }
    }

    fn part(&mut self, txn: &mut Txn, number: u32) -> Result<&mut UidPart, IndexError> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            self.close(txn);
            let set = txn.get(&self.key(number))?.unwrap_or_default();
            self.open = Some((number, set));
        }
        let (_, set) = self.open.as_mut().expect("opened just now");
        Ok(set)
    }

    /// Writes what is held; a part without uids has no row.
    fn close(&mut self, txn: &mut Txn) {
        let Some((number, set)) = self.open.take() else {
            return;
        };
        match set.is_empty() {
            true => txn.delete(&self.key(number)),
            false => txn.put(&self.key(number), &set),
        }
    }
}

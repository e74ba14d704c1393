//! Removes messages (RFC 9051, sections 6.4.3 and 6.4.9), and remembers which (RFC 7162, section
//! 3.2.10): one change row with the modseq of all of them.

use crate::index::keys::{Key, RequestKind};
use crate::index::uids::{UidPart, to_ranges};
use crate::index::values::{Answer, ChangeKind, MessageRow, flag};
use crate::machine::command::Reply;
use crate::machine::{Stop, Txn, request, scope};
use crate::types::*;

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    mailbox: &MailboxRef,
    uids: &[(Uid, Uid)],
    force: bool,
) -> Result<Reply, Stop> {
    let (id, mut account) = scope::account(txn, account)?;
    let (mailbox_id, mut mailbox) = scope::mailbox(txn, id, mailbox)?;
    let request = request::of_account(RequestKind::Expunge, id, mailbox_id, request_id);
    if let Some(first) = request::reply(txn, &request)? {
        return Ok(first);
    }
    let mut gone: Vec<(Uid, MessageRow)> = scope::messages(txn, id, mailbox_id, uids)?;
    gone.retain(|(_, message)| force || message.flags & flag::DELETED != 0);

    let vanished = to_ranges(gone.iter().map(|(uid, _)| *uid));
    if !gone.is_empty() {
        mailbox.highest_modseq = scope::change(
            txn,
            id,
            &mut account,
            mailbox_id,
            ChangeKind::Vanished,
            vanished.clone(),
        )?;
        let mut part: Option<(u32, UidPart)> = None;
        for (uid, message) in gone {
            scope::count(&mut account, &mut mailbox, &message, false);
            txn.delete(&Key::Message {
                account: id,
                mailbox: mailbox_id,
                uid,
            });
            scope::drop_email_ref(txn, id, message.email)?;
            let (number, place) = UidPart::place(uid);
            let set = match &mut part {
                Some((open, set)) if *open == number => set,
                _ => {
                    if let Some((number, set)) = part.take() {
                        write_part(txn, id, mailbox_id, number, &set);
                    }
                    let key = part_key(id, mailbox_id, number);
                    &mut part.insert((number, txn.need(&key)?)).1
                }
            };
            assert!(
                set.remove(place),
                "uid {uid} has a row, so it is in the set"
            );
        }
        if let Some((number, set)) = part {
            write_part(txn, id, mailbox_id, number, &set);
        }
        let key = Key::Mailbox {
            account: id,
            mailbox: mailbox_id,
        };
        txn.put(&key, &mailbox);
        txn.put(&Key::Account(id), &account);
    }
    let reply = Reply::Expunged {
        modseq: account.highest_modseq,
        vanished,
    };
    request::remember(txn, request, Answer::Reply(reply.clone()))?;
    Ok(reply)
}

fn part_key(account: AccountId, mailbox: MailboxId, part: u32) -> Key<'static> {
    Key::UidSet {
        account,
        mailbox,
        part,
    }
}

fn write_part(txn: &mut Txn, account: AccountId, mailbox: MailboxId, part: u32, set: &UidPart) {
    let key = part_key(account, mailbox, part);
    match set.is_empty() {
        true => txn.delete(&key),
        false => txn.put(&key, set),
    }
}

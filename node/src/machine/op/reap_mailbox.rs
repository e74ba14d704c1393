//! Removes rows of a deleted mailbox, a bounded number a step: messages first, each with its
//! reference to the email; then everything else that begins with the mailbox. The row that says
//! that it is going goes last, so that a step always finds the way on.

use super::reap_account;
use crate::index::keys::{Key, KeyRange};
use crate::machine::command::Reply;
use crate::machine::{Stop, Txn, limits};
use crate::rare::{self, Rare};
use crate::types::*;

pub(in crate::machine) fn apply(
    txn: &mut Txn,
    account: AccountId,
    mailbox: MailboxId,
    limit: u32,
) -> Result<Reply, Stop> {
    let going = Key::GoingMailbox { account, mailbox };
    if !txn.has(&going)? {
        return Ok(Reply::Reaped { more: false });
    }
    let mut left = u64::from(limit).clamp(1, limits::MESSAGES_PER_COMMAND) as usize;
    let like = Key::Message {
        account,
        mailbox,
        uid: 0,
    };
    let range = KeyRange::mailbox(txn.space(), &like, account, mailbox);
    left -= reap_account::messages(txn, account, &range, left)?;
    for like in [
        Key::UidSet {
            account,
            mailbox,
            part: 0,
        },
        Key::Keyword {
            account,
            mailbox,
            id: 0,
        },
        Key::KeywordName {
            account,
            mailbox,
            name: "",
        },
        Key::Annotation {
            account,
            mailbox,
            entry: "",
        },
    ] {
        let range = KeyRange::mailbox(txn.space(), &like, account, mailbox);
        left -= reap_account::rows(txn, &like, &range, left)?;
        if left == 0 {
            return Ok(Reply::Reaped { more: true });
        }
    }
    rare::hit(Rare::MailboxReaped);
    txn.delete(&going);
    Ok(Reply::Reaped { more: false })
}

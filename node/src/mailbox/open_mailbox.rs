//! What a session begins with (RFC 9051, section 6.3.2): counters, keywords, and the set of uids, as
//! of one moment. The set is compressed, so a mailbox of millions opens with kilobytes.

use roaring::RoaringBitmap;

use super::check::MailboxFields;
use super::create_mailbox::MailboxInfo;
use super::{Operations, Result, check, list_accounts, list_mailboxes};
use crate::machine::read;
use crate::types::*;

/// Messages that are looked at for the first one without \Seen: an old client's comfort is not
/// worth reading every message of a large mailbox.
const FIRST_UNSEEN_AMONG: usize = 10_000;

/// A mailbox as a session begins with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// Name, numbers and counters.
    pub mailbox: MailboxInfo,
    /// The uids that exist.
    pub uids: RoaringBitmap,
    /// Keywords that the mailbox has seen, by number.
    pub keywords: Vec<(u16, String)>,
    /// The first message without \Seen, if it is among the first 10,000.
    pub first_unseen: Option<Uid>,
    /// Changes since a modseq below this one are forgotten.
    pub trimmed_modseq: ModSeq,
    /// The account's.
    pub account_modseq: ModSeq,
}

impl Opened {
    /// The uids in the portable format of Roaring bitmaps.
    pub fn uids_portable(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(self.uids.serialized_size());
        self.uids
            .serialize_into(&mut octets)
            .expect("a vector takes all octets");
        octets
    }
}

impl Operations {
    /// What a session needs to begin with.
    pub async fn open_mailbox(
        &self,
        account: &str,
        mailbox: impl Into<MailboxFields>,
    ) -> Result<Opened> {
        let account = check::account("account", account)?;
        let mailbox = mailbox.into().check("mailbox")?;
        let read_view = self.read(&self.replica_of(&account)?).await?;
        let (view, space) = (&*read_view.view, read_view.space);
        let (id, account_row) = list_accounts::find(&read_view, &account)?;
        let found = list_mailboxes::find(&read_view, &account, mailbox)?;
        let mailbox = found.mailbox;
        let mut uids = read::uids(view, space, id, mailbox, 1, Uid::MAX)?;
        uids.optimize();
        let first_unseen = match found.row.unseen {
            0 => None,
            _ => read::first_unseen(view, space, id, mailbox, FIRST_UNSEEN_AMONG)?,
        };
        let keywords = read::keywords_of(view, space, id, (mailbox, &found.row))?;
        Ok(Opened {
            mailbox: found.info(&read_view)?,
            uids,
            keywords: keywords.into_iter().collect(),
            first_unseen,
            trimmed_modseq: account_row.trimmed_modseq,
            account_modseq: account_row.highest_modseq,
        })
    }
}

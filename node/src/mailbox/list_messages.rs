//! Messages of a mailbox by uid range, in pages.
//!
//! A page reads the hot rows that it returns, and the cold ones only when they are asked for. It
//! ends early when it grows large, whatever its limit: an answer is bounded in octets.

use super::check::MailboxFields;
use super::create_mailbox::MailboxInfo;
use super::limits::MAX_PAGE_BYTES;
use super::list_accounts::{self, page_limit};
use super::summary::Summary;
use super::{MailboxError, Operations, Result, check, list_mailboxes};
use crate::machine::read;
use crate::types::*;

/// Rows after which others of this thread have their turn.
const ROWS_AT_A_TIME: usize = 256;

/// One message of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedMessage {
    /// Its number in the mailbox.
    pub uid: Uid,
    /// The change that it was last touched by.
    pub modseq: ModSeq,
    /// Flags and keywords.
    pub flags: Vec<String>,
    /// RFC 9051 INTERNALDATE, ms since the epoch.
    pub internal_date_ms: u64,
    /// Octets.
    pub size: u64,
    /// The email.
    pub email: EmailId,
    /// Blob and summary, where asked for.
    pub cold: Option<Box<(BlobId, Summary)>>,
}

/// A page of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePage {
    /// In the order of their uids.
    pub messages: Vec<ListedMessage>,
    /// The first uid of the next page; 0: there is none.
    pub next_uid: Uid,
    /// The mailbox at the moment of the read.
    pub mailbox: MailboxInfo,
    /// The account's modseq at that moment.
    pub account_modseq: ModSeq,
}

impl Operations {
    /// Messages of a mailbox. `uids`: inclusive, a last uid of 0 is no upper bound; `limit` 0: the
    /// usual page.
    pub async fn list_messages(
        &self,
        account: &str,
        mailbox: impl Into<MailboxFields>,
        uids: Option<(Uid, Uid)>,
        limit: u32,
        with_summary: bool,
    ) -> Result<MessagePage> {
        let account = check::account("account", account)?;
        let mailbox = mailbox.into().check("mailbox")?;
        let range = check::uids("uids", [uids.unwrap_or((1, 0))].into_iter())?[0];
        let read_view = self.read(&self.replica_of(&account)?).await?;
        let (_, of) = list_accounts::find(&read_view, &account)?;
        let found = list_mailboxes::find(&read_view, &account, &mailbox)?;
        let (view, space) = (&*read_view.view, read_view.space);
        let (account, mailbox) = (found.account, found.mailbox);

        let limit = page_limit(limit);
        let (rows, next) = read::messages(view, space, account, mailbox, range, limit)?;
        // Most pages show no keyword at all.
        let keywords = match rows.iter().any(|(_, row)| !row.keywords.is_empty()) {
            true => read::keywords(view, space, account, mailbox)?,
            false => Default::default(),
        };
        let mut page = MessagePage {
            messages: Vec::with_capacity(rows.len()),
            next_uid: next.unwrap_or(0),
            mailbox: found.info(&read_view)?,
            account_modseq: of.highest_modseq,
        };
        let mut bytes = 0;
        for (i, (uid, row)) in rows.into_iter().enumerate() {
            if bytes >= MAX_PAGE_BYTES {
                page.next_uid = uid;
                break;
            }
            if i % ROWS_AT_A_TIME == ROWS_AT_A_TIME - 1 {
                tokio::task::yield_now().await;
            }
            let flags = read::flag_names(&row, &keywords);
            bytes += 64 + flags.iter().map(|f| f.len() + 4).sum::<usize>();
            let cold = match with_summary {
                true => {
                    let email = read::email(view, space, account, row.email)?;
                    let summary = read::summary(view, space, account, row.email)?;
                    let (Some(email), Some(summary)) = (email, summary) else {
                        return Err(MailboxError::Corrupt(format!(
                            "email {} of account {account} has no rows",
                            row.email.0
                        )));
                    };
                    bytes += 64 + summary.len();
                    // A summary of a later version is for readers of that version.
                    let summary = Summary::decode(&summary).unwrap_or_default();
                    Some(Box::new((email.blob, summary)))
                }
                false => None,
            };
            page.messages.push(ListedMessage {
                uid,
                modseq: row.modseq,
                flags,
                internal_date_ms: row.internal_date_ms,
                size: row.size,
                email: row.email,
                cold,
            });
        }
        Ok(page)
    }
}

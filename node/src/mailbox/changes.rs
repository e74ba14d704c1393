//! What has changed since a modseq: the difference between two pictures of an account.
//!
//! Change rows are folded for each mailbox, in order, into three sets of uids, so that whoever
//! knows the account as it was at `since` and applies the answer knows it as it was at `up_to`
//! (RFC 7162, section 3.2; RFC 8620, section 5.2, for the shape):
//!
//! ```text
//! row        created                  updated                       vanished
//! Created    ∪ uids
//! Updated                             ∪ (uids not in created)
//! Vanished   ∖ uids                   ∖ uids                        ∪ uids
//! ```
//!
//! Emails that went with their last message are told beside them (RFC 8621, section 4.3: destroyed).
//! Those of a deleted mailbox go by and by, and are not: who keeps emails by their ids reads them all
//! anew then.
//!
//! A uid that came and went between the two is in `vanished`: to the caller it is one more that is
//! not there, and so is every uid that a later page takes away again.
//!
//! A `since` above the account's modseq is no modseq of this account: it is one of an earlier
//! account of the same name, or nonsense. The caller cannot go on from it and reads everything
//! anew, so the answer is the same as to one whose changes are forgotten, [`MailboxError::TooOld`].

use std::collections::BTreeMap;

use roaring::{RoaringBitmap, RoaringTreemap};

use super::check::UidRanges;
use super::limits::{MAX_CHANGE_RANGES, MAX_CHANGES};
use super::list_accounts::find;
use super::{MailboxError, Operations, Result, What, check};
use crate::index::Next;
use crate::index::uids::to_ranges;
use crate::index::values::{ChangeKind, ChangeRow};
use crate::machine::{changes, placing, read};
use crate::types::*;

/// Changes as asked for.
#[derive(Debug, Clone, Default)]
pub struct GetChanges {
    /// Whose.
    pub account: String,
    /// Of one mailbox: its name, if not empty ...
    pub mailbox: String,
    /// ... or its number, if not 0.
    pub mailbox_id: u32,
    /// Not found with another one, if not 0.
    pub uidvalidity: u32,
    /// What the caller knows.
    pub since: ModSeq,
    /// Changes to look at; 0: as many as there may be.
    pub limit: u32,
}

/// What has changed in one mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailboxChanges {
    /// The mailbox itself.
    pub changed: bool,
    /// It is gone, with all that was in it.
    pub destroyed: bool,
    /// Messages that came.
    pub created: UidRanges,
    /// Messages whose flags changed.
    pub updated: UidRanges,
    /// Messages that are gone.
    pub vanished: UidRanges,
    /// It did not exist before.
    pub appeared: bool,
    /// Emails that no message shows any more, ascending.
    pub destroyed_emails: Vec<(EmailId, EmailId)>,
}

/// What has changed in an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// By number.
    pub mailboxes: BTreeMap<MailboxId, MailboxChanges>,
    /// State, credentials, subscriptions without a mailbox, or annotations of the account.
    pub account_changed: bool,
    /// How far this reaches.
    pub up_to: ModSeq,
    /// Whether there is more after that.
    pub more: bool,
}

/// The sets of one mailbox while rows are folded into them.
#[derive(Default)]
struct Fold {
    changed: bool,
    destroyed: bool,
    created: RoaringBitmap,
    updated: RoaringBitmap,
    vanished: RoaringBitmap,
    appeared: bool,
    destroyed_emails: RoaringTreemap,
}

impl Fold {
    fn row(&mut self, row: &ChangeRow) {
        let uids = &row.uids[..];
        for (first, last) in &row.destroyed {
            self.destroyed_emails.insert_range(first.0..=last.0);
        }
        match row.kind {
            ChangeKind::Created => each(uids, |range| {
                self.created.insert_range(range);
            }),
            ChangeKind::Updated => {
                let mut set = RoaringBitmap::new();
                each(uids, |range| {
                    set.insert_range(range);
                });
                set -= &self.created;
                self.updated |= set;
            }
            ChangeKind::Vanished => each(uids, |range| {
                self.created.remove_range(range.clone());
                self.updated.remove_range(range.clone());
                self.vanished.insert_range(range);
            }),
            ChangeKind::MailboxDeleted => {
                // Its messages went with it; a number is never given again.
                *self = Fold {
                    destroyed: true,
                    ..Fold::default()
                };
            }
            ChangeKind::MailboxCreated => (self.appeared, self.changed) = (true, true),
            ChangeKind::MailboxChanged => self.changed = true,
            ChangeKind::AccountChanged => {}
        }
    }

    fn finish(self) -> MailboxChanges {
        MailboxChanges {
            changed: self.changed,
            destroyed: self.destroyed,
            created: to_ranges(self.created),
            updated: to_ranges(self.updated),
            vanished: to_ranges(self.vanished),
            appeared: self.appeared,
            destroyed_emails: placing::emails(&self.destroyed_emails),
        }
    }
}

fn each(uids: &[(Uid, Uid)], mut with: impl FnMut(std::ops::RangeInclusive<Uid>)) {
    for (first, last) in uids {
        with(*first..=*last);
    }
}

/// All rows of a window, folded.
#[derive(Default)]
struct Folded {
    mailboxes: BTreeMap<MailboxId, Fold>,
    account_changed: bool,
    ranges: usize,
}

impl Folded {
    fn row(&mut self, row: &ChangeRow, only: Option<MailboxId>) {
        if only.is_some_and(|only| only != row.mailbox) {
            return;
        }
        self.ranges += row.uids.len() + row.destroyed.len();
        match (row.mailbox, row.kind) {
            // Mailbox 0 is none: the account's own.
            (MailboxId(0), _) | (_, ChangeKind::AccountChanged) => self.account_changed = true,
            (mailbox, _) => self.mailboxes.entry(mailbox).or_default().row(row),
        }
    }
}

impl Operations {
    /// What has changed after `since`, of an account or of one mailbox of it; looks at a bounded
    /// number of changes, and says how far it came.
    pub async fn get_changes(&self, request: GetChanges) -> Result<Changes> {
        let account = check::account("account", &request.account)?;
        let mailbox = match (request.mailbox_id, request.mailbox.as_str()) {
            (0, "") => None,
            (0, name) => Some(MailboxRef::Name(check::mailbox("mailbox", name)?)),
            (id, _) => Some(MailboxRef::Id {
                id: MailboxId(id),
                uidvalidity: request.uidvalidity,
            }),
        };
        let view = self.read(&self.replica_of(&account)?).await?;
        let (id, row) = find(&view, &account)?;
        let mut only = None;
        if let Some(mailbox) = &mailbox {
            let found = read::mailbox(&*view.view, view.space, id, mailbox)?
                .filter(|(_, m)| request.uidvalidity == 0 || m.uidvalidity == request.uidvalidity)
                .ok_or(MailboxError::NotFound(What::Mailbox))?;
            // A mailbox that has not changed since needs no history, however old `since` is.
            if found.1.highest_modseq <= request.since && request.since <= row.highest_modseq {
                return Ok(Changes {
                    up_to: row.highest_modseq,
                    ..Changes::default()
                });
            }
            only = Some(found.0);
        }
        if request.since < row.trimmed_modseq || request.since > row.highest_modseq {
            return Err(MailboxError::TooOld {
                since: request.since,
            });
        }
        let limit = match request.limit {
            0 => MAX_CHANGES,
            n => n.min(MAX_CHANGES),
        };
        let last = row
            .highest_modseq
            .min(request.since.saturating_add(u64::from(limit)));
        let mut folded = Folded::default();
        let mut up_to = request.since;
        let window = (request.since.saturating_add(1), last);
        changes::changes(&*view.view, view.space, id, window, &mut |modseq, row| {
            folded.row(&row, only);
            up_to = modseq;
            match folded.ranges < MAX_CHANGE_RANGES {
                true => Next::Continue,
                false => Next::Stop,
            }
        })?;
        let mailboxes = folded.mailboxes.into_iter();
        Ok(Changes {
            mailboxes: mailboxes.map(|(id, fold)| (id, fold.finish())).collect(),
            account_changed: folded.account_changed,
            up_to,
            more: up_to < row.highest_modseq,
        })
    }
}

#[cfg(test)]
mod tests;

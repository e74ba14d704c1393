//! Rows of mailboxes that were read as a whole, kept in memory for the next reader.
//!
//! Programs ask for the flags of all messages, and search all of them, again and again. A scan of
//! the index costs some hundred nanoseconds a row, most of it in finding it and taking it apart.
//!
//! ```text
//! view ─▶ mailbox row: highest modseq ─▶ as kept ────────────────────▶ rows from memory
//!                                        newer, few changes since ───▶ kept rows, changes applied
//!                                        newer, or nothing is kept ──▶ read, and kept
//! ```
//!
//! **Why that is never wrong.** A row of a message changes, comes and goes by a command alone, and
//! each such command gives the mailbox a modseq of its own. Commands are applied in one order on
//! every replica, so the number of an account, the number of a mailbox and its highest modseq say
//! which rows there are, at whatever replica and in whatever space they are. Whoever reads takes
//! the modseq from the view that the other rows of the answer come from.

use std::collections::BTreeMap;
use std::mem::size_of;
use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::index::values::{AccountRow, ChangeKind, MailboxRow, MessageRow};
use crate::index::{IndexError, Next};
use crate::machine::{changes, read};
use crate::raft::shard::ReadView;
use crate::rare::{self, Rare};
use crate::types::*;

/// Rows that are read before others of this thread have their turn.
const PAGE_ROWS: usize = 4096;
/// Changes that are looked at before a mailbox is rather read anew.
const MAX_CHANGES: u64 = 1000;
/// Messages that are read one by one before a mailbox is rather read anew.
const MAX_TOUCHED: u64 = 1000;
/// What a mailbox without messages costs.
const MAILBOX_BYTES: usize = 256;

/// Messages of a mailbox, in the order of their uids.
pub type Rows = Arc<Vec<(Uid, MessageRow)>>;

/// Where to read.
pub struct Place<'a> {
    /// Whose rows.
    pub shard: ShardId,
    /// At what moment.
    pub view: &'a ReadView,
    /// Whose mailbox.
    pub account: (AccountId, &'a AccountRow),
    /// Which.
    pub mailbox: (MailboxId, &'a MailboxRow),
}

type Name = (ShardId, AccountId, MailboxId);

/// What is kept of a mailbox.
struct Kept {
    modseq: ModSeq,
    rows: Rows,
    bytes: usize,
    /// When it was last asked for, counted in questions.
    used: u64,
}

#[derive(Default)]
struct State {
    mailboxes: BTreeMap<Name, Kept>,
    /// By when they were last asked for.
    order: BTreeMap<u64, Name>,
    bytes: usize,
    questions: u64,
}

impl State {
    /// The number of a new question, about this mailbox.
    fn question(&mut self, name: Name) -> u64 {
        self.questions += 1;
        self.order.insert(self.questions, name);
        self.questions
    }
}

/// The rows that are kept.
pub struct RowCache {
    limit: usize,
    state: Mutex<State>,
}

impl RowCache {
    /// Keeps about so many octets at most; 0: nothing.
    pub fn new(limit: usize) -> RowCache {
        let state = Mutex::default();
        RowCache { limit, state }
    }

    /// The rows of a mailbox, if they are at hand, or if so many of them are `wanted` that it is
    /// best to read all.
    pub async fn rows(
        &self,
        at: &Place<'_>,
        wanted: &[(Uid, Uid)],
    ) -> Result<Option<Rows>, IndexError> {
        let (mailbox, row) = at.mailbox;
        // One mailbox must not drive out all others.
        if row
            .messages
            .saturating_mul(size_of::<(Uid, MessageRow)>() as u64)
            > self.limit as u64 / 2
        {
            return Ok(None);
        }
        let name = (at.shard, at.account.0, mailbox);
        let known = self.get(name);
        if let Some((modseq, rows)) = &known
            && *modseq == row.highest_modseq
        {
            rare::hit(Rare::RowsFromMemory);
            return Ok(Some(Arc::clone(rows)));
        }
        let last = row.uidnext.saturating_sub(1);
        let width = |(first, end): &(Uid, Uid)| {
            let end = (*end).min(last);
            (u64::from(end) + 1).saturating_sub(u64::from(*first))
        };
        if wanted.iter().map(width).sum::<u64>() * 2 < u64::from(last) {
            return Ok(None);
        }
        let patched = match &known {
            Some((modseq, rows)) => patched(at, *modseq, rows)?,
            None => None,
        };
        let rows = match patched {
            Some(rows) => rows,
            None => read_all(at).await?,
        };
        let rows = Arc::new(rows);
        self.keep(name, row.highest_modseq, &rows);
        Ok(Some(rows))
    }

    fn get(&self, name: Name) -> Option<(ModSeq, Rows)> {
        let state = &mut *self.state.lock();
        let before = state.mailboxes.get(&name)?.used;
        state.order.remove(&before);
        let now = state.question(name);
        let kept = state.mailboxes.get_mut(&name)?;
        kept.used = now;
        Some((kept.modseq, Arc::clone(&kept.rows)))
    }

    fn keep(&self, name: Name, modseq: ModSeq, rows: &Rows) {
        let keywords = rows.iter().map(|(_, row)| row.keywords.capacity());
        let bytes = MAILBOX_BYTES
            + rows.capacity() * size_of::<(Uid, MessageRow)>()
            + keywords.sum::<usize>() * size_of::<u16>();
        let state = &mut *self.state.lock();
        if let Some(kept) = state.mailboxes.get(&name)
            && kept.modseq > modseq
        {
            return;
        }
        let kept = Kept {
            modseq,
            rows: Arc::clone(rows),
            bytes,
            used: state.question(name),
        };
        state.bytes += bytes;
        if let Some(before) = state.mailboxes.insert(name, kept) {
            state.order.remove(&before.used);
            state.bytes -= before.bytes;
        }
        while state.bytes > self.limit
            && let Some((_, oldest)) = state.order.pop_first()
        {
            if let Some(gone) = state.mailboxes.remove(&oldest) {
                state.bytes -= gone.bytes;
            }
        }
    }
}

/// The rows among these with a uid in `first..=last`.
pub fn within(rows: &[(Uid, MessageRow)], (first, last): (Uid, Uid)) -> &[(Uid, MessageRow)] {
    let from = rows.partition_point(|(uid, _)| *uid < first);
    let to = rows.partition_point(|(uid, _)| *uid <= last);
    &rows[from..to.max(from)]
}

async fn read_all(at: &Place<'_>) -> Result<Vec<(Uid, MessageRow)>, IndexError> {
    let (mailbox, row) = at.mailbox;
    let mut all = Vec::with_capacity(row.messages.min(1 << 20) as usize);
    let mut next = Some(1);
    while let Some(first) = next {
        let (view, space) = (&*at.view.view, at.view.space);
        let range = (first, Uid::MAX);
        let rows;
        (rows, next) = read::messages(view, space, at.account.0, mailbox, range, PAGE_ROWS)?;
        all.extend(rows);
        if next.is_some() {
            tokio::task::yield_now().await;
        }
    }
    Ok(all)
}

/// `rows`, which were those at `modseq`, as they are now; `None`: too much has changed since, or
/// it is not known what.
fn patched(
    at: &Place<'_>,
    modseq: ModSeq,
    rows: &[(Uid, MessageRow)],
) -> Result<Option<Vec<(Uid, MessageRow)>>, IndexError> {
    let ((account, of), (mailbox, row)) = (at.account, at.mailbox);
    let (view, space) = (&*at.view.view, at.view.space);
    let now = row.highest_modseq;
    // An older view than that of the rows knows nothing of what has changed between the two.
    if modseq > now || modseq < of.trimmed_modseq || now - modseq > MAX_CHANGES {
        return Ok(None);
    }
    let (mut touched, mut gone) = (RoaringBitmap::new(), RoaringBitmap::new());
    changes::changes(view, space, account, (modseq + 1, now), &mut |_, change| {
        let set = match change.kind {
            _ if change.mailbox != mailbox => None,
            ChangeKind::Created | ChangeKind::Updated => Some(&mut touched),
            ChangeKind::Vanished => Some(&mut gone),
            ChangeKind::MailboxCreated
            | ChangeKind::MailboxChanged
            | ChangeKind::MailboxDeleted
            | ChangeKind::AccountChanged => None,
        };
        if let Some(set) = set {
            for (first, last) in change.uids {
                set.insert_range(first..=last);
            }
        }
        Next::Continue
    })?;
    touched -= &gone;
    if touched.len() > MAX_TOUCHED {
        return Ok(None);
    }
    let mut fresh = touched.iter().peekable();
    let mut all = Vec::with_capacity(rows.len() + touched.len() as usize);
    let read = |uid| {
        let row = read::message(view, space, account, mailbox, uid)?;
        row.map(|row| (uid, row)).ok_or_else(|| {
            let what = format!(
                "message {uid} of mailbox {} of account {account}",
                mailbox.0
            );
            IndexError::Corrupt(format!("a row is missing: {what}"))
        })
    };
    for (uid, row) in rows {
        while let Some(before) = fresh.next_if(|fresh| fresh < uid) {
            all.push(read(before)?);
        }
        if fresh.next_if_eq(uid).is_some() {
            all.push(read(*uid)?);
        } else if !gone.contains(*uid) {
            all.push((*uid, row.clone()));
        }
    }
    for uid in fresh {
        all.push(read(uid)?);
    }
    rare::hit(Rare::RowsPatched);
    Ok(Some(all))
}

#[cfg(test)]
mod tests;

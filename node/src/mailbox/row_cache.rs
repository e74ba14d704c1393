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
use std::sync::atomic::{AtomicUsize, Ordering};

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
/// What something in memory of its own costs beside what it holds.
const ALLOCATION_BYTES: usize = 16;

/// What the rows of a mailbox take, but for their keywords.
fn row_bytes(mailbox: &MailboxRow) -> usize {
    let rows = mailbox.messages as usize;
    rows.saturating_mul(size_of::<(Uid, MessageRow)>())
        .saturating_add(MAILBOX_BYTES)
}

/// Messages of a mailbox, in the order of their uids, however many read them.
pub type Rows = Arc<Shared>;

/// Rows that are counted as long as anybody has them.
pub struct Shared {
    rows: Vec<(Uid, MessageRow)>,
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Shared {
    /// Room for the rows of a mailbox, if `all` has so much left below `limit`.
    fn room(mailbox: &MailboxRow, all: &Arc<AtomicUsize>, limit: usize) -> Option<Shared> {
        let bytes = row_bytes(mailbox);
        let more = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= limit);
        let order = Ordering::Relaxed;
        all.fetch_update(order, order, more).ok()?;
        let mut room = Shared {
            rows: Vec::new(),
            bytes,
            all: Arc::clone(all),
        };
        room.rows.reserve_exact(mailbox.messages as usize);
        Some(room)
    }

    /// Adds rows, so long as there are no more than `most` octets; others have their turn. False:
    /// they are too many.
    async fn add(&mut self, rows: impl Iterator<Item = (Uid, MessageRow)>, most: usize) -> bool {
        let mut more = 0;
        for (uid, row) in rows {
            if !row.keywords.is_empty() {
                more += ALLOCATION_BYTES + row.keywords.len() * size_of::<u16>();
            }
            self.rows.push((uid, row));
        }
        self.bytes += more;
        self.all.fetch_add(more, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.bytes <= most
    }

    /// Those with a uid in `first..=last`.
    pub fn within(&self, (first, last): (Uid, Uid)) -> &[(Uid, MessageRow)] {
        let from = self.rows.partition_point(|(uid, _)| *uid < first);
        let to = self.rows.partition_point(|(uid, _)| *uid <= last);
        &self.rows[from..to.max(from)]
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

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
    /// `None`: it is too large.
    rows: Option<Rows>,
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
    /// Octets of rows that are kept, being gathered or being read.
    all: Arc<AtomicUsize>,
}

impl RowCache {
    /// Keeps about so many octets at most, and as many again for who reads what is not kept any
    /// more; 0: nothing.
    pub fn new(limit: usize) -> RowCache {
        RowCache {
            limit,
            state: Mutex::default(),
            all: Arc::default(),
        }
    }

    /// Octets that are kept, counted anew.
    pub fn kept_bytes(&self) -> usize {
        let state = self.state.lock();
        state.mailboxes.values().map(|kept| kept.bytes).sum()
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
        let most = self.limit / 2;
        if row_bytes(row) > most {
            return Ok(None);
        }
        let name = (at.shard, at.account.0, mailbox);
        let known = match self.get(name) {
            Some((modseq, None)) if row.highest_modseq.abs_diff(modseq) <= MAX_CHANGES => {
                return Ok(None);
            }
            Some((modseq, Some(rows))) if modseq == row.highest_modseq => {
                rare::hit(Rare::RowsFromMemory);
                return Ok(Some(rows));
            }
            Some((modseq, Some(rows))) => Some((modseq, rows)),
            Some((_, None)) | None => None,
        };
        let last = row.uidnext.saturating_sub(1);
        let width = |(first, end): &(Uid, Uid)| {
            let end = (*end).min(last);
            (u64::from(end) + 1).saturating_sub(u64::from(*first))
        };
        let few = wanted.iter().map(width).sum::<u64>() * 2 < u64::from(last);
        if few {
            return Ok(None);
        }
        let Some(mut gathered) = Shared::room(row, &self.all, self.limit.saturating_mul(2)) else {
            return Ok(None);
        };
        let patched = match known {
            Some((modseq, rows)) => match patch(at, modseq, &rows, &mut gathered, most).await {
                Err(IndexError::Corrupt(why)) => {
                    // The rows themselves may be whole.
                    tracing::warn!("changes cannot be applied to rows in memory: {why}");
                    None
                }
                patched => patched?,
            },
            None => None,
        };
        let fits = match patched {
            Some(fits) => fits,
            None => read_all(at, &mut gathered, most).await?,
        };
        let rows = fits.then(|| Arc::new(gathered));
        self.keep(name, row.highest_modseq, &rows);
        Ok(rows)
    }

    fn get(&self, name: Name) -> Option<(ModSeq, Option<Rows>)> {
        let state = &mut *self.state.lock();
        let before = state.mailboxes.get(&name)?.used;
        state.order.remove(&before);
        let now = state.question(name);
        let kept = state.mailboxes.get_mut(&name)?;
        kept.used = now;
        Some((kept.modseq, kept.rows.clone()))
    }

    fn keep(&self, name: Name, modseq: ModSeq, rows: &Option<Rows>) {
        // Freed after the lock.
        let mut gone = Vec::new();
        let state = &mut *self.state.lock();
        if let Some(kept) = state.mailboxes.get(&name)
            && kept.modseq > modseq
        {
            return;
        }
        let kept = Kept {
            modseq,
            rows: rows.clone(),
            bytes: rows.as_ref().map_or(MAILBOX_BYTES, |rows| rows.bytes),
            used: state.question(name),
        };
        state.bytes += kept.bytes;
        if let Some(before) = state.mailboxes.insert(name, kept) {
            state.order.remove(&before.used);
            state.bytes -= before.bytes;
            gone.push(before);
        }
        while state.bytes > self.limit
            && let Some((_, oldest)) = state.order.pop_first()
        {
            if let Some(oldest) = state.mailboxes.remove(&oldest) {
                state.bytes -= oldest.bytes;
                gone.push(oldest);
            }
        }
    }
}

/// Gathers all rows; false: they are too many.
async fn read_all(at: &Place<'_>, all: &mut Shared, most: usize) -> Result<bool, IndexError> {
    let (mailbox, _) = at.mailbox;
    let mut next = Some(1);
    while let Some(first) = next {
        let (view, space) = (&*at.view.view, at.view.space);
        let range = (first, Uid::MAX);
        let rows;
        (rows, next) = read::messages(view, space, at.account.0, mailbox, range, PAGE_ROWS)?;
        if !all.add(rows.into_iter(), most).await {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gathers the rows `before`, those at `modseq`, as they are now; whether they are not too many.
/// `None`: too much has changed since, or it is not known what. Nothing is gathered then, nor after
/// an error.
async fn patch(
    at: &Place<'_>,
    modseq: ModSeq,
    before: &Shared,
    all: &mut Shared,
    most: usize,
) -> Result<Option<bool>, IndexError> {
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
    let mut fresh = Vec::with_capacity(touched.len() as usize);
    for uid in &touched {
        let row = read::message(view, space, account, mailbox, uid)?.ok_or_else(|| {
            let what = format!(
                "message {uid} of mailbox {} of account {account}",
                mailbox.0
            );
            IndexError::Corrupt(format!("a row is missing: {what}"))
        })?;
        fresh.push((uid, row));
    }
    let mut fresh = fresh.into_iter().peekable();
    for page in before.rows.chunks(PAGE_ROWS) {
        let mut merged = Vec::with_capacity(page.len());
        for (uid, row) in page {
            while let Some(new) = fresh.next_if(|(fresh, _)| fresh < uid) {
                merged.push(new);
            }
            if let Some(now) = fresh.next_if(|(fresh, _)| fresh == uid) {
                merged.push(now);
            } else if !gone.contains(*uid) {
                merged.push((*uid, row.clone()));
            }
        }
        if !all.add(merged.into_iter(), most).await {
            return Ok(Some(false));
        }
    }
    let fits = all.add(fresh, most).await;
    rare::hit(Rare::RowsPatched);
    Ok(Some(fits))
}

#[cfg(test)]
mod tests;

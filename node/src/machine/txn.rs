//! Pending writes of one or several commands over a view of the index; reads see them.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::Event;
use super::command::ApplyError;
use crate::index::keys::{Key, KeyRange, Space};
use crate::index::values::{self, ChunkLoc, MetaRow, Row};
use crate::index::{Batch, Family, IndexError, Next, View};
use crate::types::*;

/// Writes of commands that are applied one after the other and become one batch.
pub struct Txn<'a> {
    view: &'a dyn View,
    space: Space,
    stored_at: Option<Location>,
    pending: [BTreeMap<Bytes, Option<Bytes>>; 3],
    live: BTreeMap<u64, i64>,
    meta: Option<MetaRow>,
    accounts: BTreeMap<AccountId, ModSeq>,
    going: Vec<AccountId>,
    going_mailboxes: Vec<(AccountId, MailboxId)>,
    placement: Option<u64>,
}

impl<'a> Txn<'a> {
    /// An empty one over `view`, for the rows of `space`. `stored_at`: where the stored octets that
    /// travel with the first command lie.
    pub fn new(view: &'a dyn View, space: Space, stored_at: Option<Location>) -> Txn<'a> {
        Txn {
            view,
            space,
            stored_at,
            pending: Default::default(),
            live: BTreeMap::new(),
            meta: None,
            accounts: BTreeMap::new(),
            going: Vec::new(),
            going_mailboxes: Vec::new(),
            placement: None,
        }
    }

    /// Says where the stored octets that travel with the next command lie.
    pub fn set_stored_at(&mut self, stored_at: Option<Location>) {
        self.stored_at = stored_at;
    }

    /// Where the stored octets of the command at work lie.
    pub fn stored_at(&self) -> Option<Location> {
        self.stored_at
    }

    /// The space that it writes to.
    pub fn space(&self) -> Space {
        self.space
    }

    /// One batch with the last write of every row, and the events. The caller may add rows of its
    /// own (what is applied) to the batch.
    pub fn finish(mut self) -> (Batch, Vec<Event>) {
        if let Some(meta) = self.meta {
            self.put(&Key::Meta, &meta);
        }
        let mut batch = Batch::default();
        for (family, rows) in Family::ALL.into_iter().zip(self.pending) {
            for (key, value) in rows {
                match value {
                    Some(value) => batch.put(family, key, value),
                    None => batch.delete(family, key),
                }
            }
        }
        for (segment, delta) in self.live {
            batch.add(Key::SegmentLive(segment).encode(Space::NODE), delta);
        }
        let changed = self
            .accounts
            .into_iter()
            .map(|(account, modseq)| Event::AccountChanged { account, modseq });
        let going = self
            .going
            .into_iter()
            .map(|account| Event::AccountGoing { account });
        let mailboxes = self
            .going_mailboxes
            .into_iter()
            .map(|(account, mailbox)| Event::MailboxGoing { account, mailbox });
        let placement = self
            .placement
            .map(|version| Event::PlacementChanged { version });
        let events = changed.chain(going).chain(mailboxes).chain(placement);
        (batch, events.collect())
    }

    /// Reads a row.
    pub fn get<R: Row>(&self, key: &Key) -> Result<Option<R>, IndexError> {
        values::get(self, self.space, key)
    }

    /// Reads a row that must be there, because another row says so.
    pub fn need<R: Row>(&self, key: &Key) -> Result<R, IndexError> {
        self.get(key)?
            .ok_or_else(|| IndexError::Corrupt(format!("a row is missing: {key:?}")))
    }

    /// Whether a row is there.
    pub fn has(&self, key: &Key) -> Result<bool, IndexError> {
        let octets = key.encode(self.space);
        Ok(View::get(self, key.family(), &octets)?.is_some())
    }

    /// Sets a row.
    pub fn put<R: Row>(&mut self, key: &Key, row: &R) {
        self.put_octets(key, row.encode().into());
    }

    /// Sets a row to these octets.
    pub fn put_octets(&mut self, key: &Key, row: Bytes) {
        self.pending[key.family() as usize].insert(key.encode(self.space), Some(row));
    }

    /// Removes a row.
    pub fn delete(&mut self, key: &Key) {
        self.pending[key.family() as usize].insert(key.encode(self.space), None);
    }

    /// Removes a row by its octets.
    pub fn delete_octets(&mut self, family: Family, key: Bytes) {
        self.pending[family as usize].insert(key, None);
    }

    /// The keys of a range, at most `limit`.
    pub fn keys(
        &self,
        family: Family,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<Bytes>, IndexError> {
        let mut keys = Vec::new();
        if limit == 0 {
            return Ok(keys);
        }
        self.scan(family, &range.from, &range.to, &mut |key, _| {
            keys.push(Bytes::copy_from_slice(key));
            match keys.len() < limit {
                true => Next::Continue,
                false => Next::Stop,
            }
        })?;
        Ok(keys)
    }

    /// Sets a location row and counts its octets as live.
    pub fn put_loc(&mut self, key: &Key, loc: &ChunkLoc) {
        self.put(key, loc);
        *self.live.entry(loc.location.segment).or_default() += loc.location.len as i64;
    }

    /// Removes a location row, if it is there, and its octets from those that are live.
    pub fn delete_loc(&mut self, key: &Key) -> Result<(), IndexError> {
        if let Some(loc) = self.get::<ChunkLoc>(key)? {
            self.delete(key);
            *self.live.entry(loc.location.segment).or_default() -= loc.location.len as i64;
        }
        Ok(())
    }

    /// The shard's own row.
    pub fn meta(&mut self) -> Result<&mut MetaRow, IndexError> {
        if self.meta.is_none() {
            self.meta = Some(self.get(&Key::Meta)?.unwrap_or_default());
        }
        Ok(self.meta.as_mut().expect("set just now"))
    }

    /// Moves the effective time on; it never goes back.
    pub fn advance(&mut self, time_ms: u64) -> Result<(), IndexError> {
        let meta = self.meta()?;
        meta.time_ms = meta.time_ms.max(time_ms);
        Ok(())
    }

    /// The effective time.
    pub fn now_ms(&mut self) -> Result<u64, IndexError> {
        Ok(self.meta()?.time_ms)
    }

    /// Notes that an account has a new modseq.
    pub fn account_changed(&mut self, account: AccountId, modseq: ModSeq) {
        let last = self.accounts.insert(account, modseq);
        assert!(
            last.is_none_or(|last| last < modseq),
            "the modseq of account {account} did not rise: {last:?} to {modseq}"
        );
    }

    /// Notes that an account was deleted.
    pub fn account_going(&mut self, account: AccountId) {
        self.going.push(account);
    }

    /// Notes that a mailbox was deleted.
    pub fn mailbox_going(&mut self, account: AccountId, mailbox: MailboxId) {
        self.going_mailboxes.push((account, mailbox));
    }

    /// Notes a new placement version.
    pub fn placement_changed(&mut self, version: u64) {
        self.placement = Some(version);
    }
}

/// The error of a counter or command that is as large as it may get.
pub fn limit(what: impl Into<String>) -> ApplyError {
    ApplyError::Limit(what.into())
}

impl View for Txn<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        match self.pending[family as usize].get(key) {
            Some(pending) => Ok(pending.clone()),
            None => self.view.get(family, key),
        }
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        if from >= to {
            return Ok(());
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        let pending = self.pending[family as usize].range::<[u8], _>(range);
        merge(
            pending,
            |visit| self.view.scan(family, from, to, visit),
            |a, b| a < b,
            visit,
        )
    }

    fn scan_back(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        if from >= to {
            return Ok(());
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        let pending = self.pending[family as usize].range::<[u8], _>(range).rev();
        merge(
            pending,
            |visit| self.view.scan_back(family, from, to, visit),
            |a, b| a > b,
            visit,
        )
    }
}

/// Shows the rows of a scan below and the pending ones in one order; pending ones win.
fn merge<'p>(
    pending: impl Iterator<Item = (&'p Bytes, &'p Option<Bytes>)>,
    scan_below: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]) -> Next) -> Result<(), IndexError>,
    before: impl Fn(&[u8], &[u8]) -> bool,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
) -> Result<(), IndexError> {
    let mut pending = pending.peekable();
    let mut stopped = false;
    scan_below(&mut |key, value| {
        while let Some((k, v)) = pending.next_if(|(k, _)| before(k, key)) {
            if let Some(v) = v
                && visit(k, v) == Next::Stop
            {
                stopped = true;
                return Next::Stop;
            }
        }
        let next = match pending.next_if(|(k, _)| k[..] == *key) {
            Some((_, None)) => Next::Continue,
            Some((k, Some(v))) => visit(k, v),
            None => visit(key, value),
        };
        stopped = next == Next::Stop;
        next
    })?;
    if stopped {
        return Ok(());
    }
    for (k, v) in pending {
        if let Some(v) = v
            && visit(k, v) == Next::Stop
        {
            break;
        }
    }
    Ok(())
}

//! The log of one replica: where each entry lies in the journal, and the newest entries themselves.
//!
//! Positions, as the replica keeps them (an inequality that [`Log`] asserts):
//!
//! ```text
//!   purged ───── first ═════════════ flushed ───────────── last
//!     │            └ entries[0]         │  still in memory    │
//!     │                                 │  alone, pending     │
//!   purged + 1 == first        purged ≤ flushed ≤ last
//! ```
//!
//! An entry is *pending* from the moment it is submitted until the journal has synced it; only then
//! does it have a location. Pending entries stay in memory; flushed ones stay as long as the
//! cache's byte budget allows, so that followers and the state machine rarely read them from disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use openraft::entry::RaftEntry;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::marks::{self, Change, LogMarks, Recovered};
use super::types::*;
use crate::journal::{Append, Journal, JournalError, RecordHead, RecordKind};
use crate::rare::{self, Rare};
use crate::types::*;

/// The most entries behind an unreadable one that are tried in one go.
const MAX_RUN: u64 = 1024;
/// How long they are tried: a sector that the disk refuses is read several times.
const MAX_RUN_TIME: Duration = Duration::from_millis(500);

/// One entry's place.
#[derive(Debug, Clone)]
struct Slot {
    leader: LeaderId,
    place: Option<Location>,
    cached: Option<Entry>,
}

#[derive(Debug)]
struct State {
    vote: Option<Vote>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    committed_written: Option<LogId>,
    first: u64,
    entries: VecDeque<Slot>,
    cached_bytes: usize,
    cached_from: u64,
    /// What a replay of the records that are synced so far would give.
    durable: LogMarks,
    /// Its entries hold no segment any more.
    let_go: bool,
}

/// The log of one replica, shared by openraft's log store, its readers and the workers.
pub struct Log {
    shard: ShardId,
    replica: ReplicaId,
    journal: Arc<Journal>,
    cache_bytes: usize,
    state: Mutex<State>,
    /// One behind the highest synced index.
    flushed: watch::Sender<u64>,
}

/// An entry that a reader wants, as far as the log knows it.
pub enum Found {
    /// In memory.
    Cached(Entry),
    /// In the journal.
    At(LogId, Location),
}

impl Log {
    /// An empty log, or the one described by a recovery (see [`super::recover`]).
    pub fn new(
        shard: ShardId,
        replica: ReplicaId,
        journal: Arc<Journal>,
        cache_bytes: usize,
        recovered: Recovered,
    ) -> Log {
        let purged_index = recovered.purged.map_or(0, |l| l.index());
        let first = match recovered.purged {
            Some(_) => purged_index + 1,
            None => recovered.entries.first().map_or(0, |e| e.0.index()),
        };
        for (i, (id, location)) in recovered.entries.iter().enumerate() {
            assert_eq!(
                id.index(),
                first + i as u64,
                "shard {shard}: hole in the recovered log"
            );
            journal.pin(location.segment, 1);
        }
        let entries: VecDeque<Slot> = recovered
            .entries
            .into_iter()
            .map(|(id, at)| Slot {
                leader: *id.committed_leader_id(),
                place: Some(at),
                cached: None,
            })
            .collect();
        let next = first + entries.len() as u64;
        let mut durable = LogMarks::new(shard, replica);
        durable.vote = recovered.vote;
        durable.purged = recovered.purged;
        durable.committed = recovered.committed;
        let mut state = State {
            vote: recovered.vote,
            purged: recovered.purged,
            committed: recovered.committed,
            committed_written: recovered.committed,
            first,
            entries,
            cached_bytes: 0,
            cached_from: next,
            durable,
            let_go: false,
        };
        state.durable.last = state.last();
        Log {
            shard,
            replica,
            journal,
            cache_bytes,
            state: Mutex::new(state),
            // What a recovery reports is synced.
            flushed: watch::Sender::new(next),
        }
    }

    fn head(&self, kind: RecordKind, id: Option<LogId>) -> RecordHead {
        let (index, term, leader) = id.map_or((0, 0, 0), |l| {
            (
                l.index(),
                l.committed_leader_id().term,
                l.committed_leader_id().node_id.0,
            )
        });
        RecordHead {
            kind,
            shard: self.shard,
            replica: self.replica,
            index,
            term,
            leader,
            codec: 0,
        }
    }

    fn mark(&self, kind: RecordKind, id: Option<LogId>) -> Append {
        Append {
            head: self.head(kind, id),
            payload: Vec::new(),
        }
    }

    /// What a checkpoint must say of this log.
    pub fn marks(&self) -> LogMarks {
        self.state.lock().durable.clone()
    }

    /// Submits a record and waits until it is synced. The marks change and the segments of ended
    /// entries are let go of by then, even when nobody waits any more.
    async fn write(
        self: &Arc<Self>,
        record: Append,
        change: Change,
        unpin: Vec<u64>,
    ) -> Result<(), JournalError> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let this = Arc::clone(self);
        let done = Box::new(move |result: Result<Vec<Location>, JournalError>| {
            if result.is_ok() {
                this.state.lock().durable.change(change);
                unpin.iter().for_each(|s| this.journal.pin(*s, -1));
            }
            let _ = tx.send(result.map(drop));
        });
        self.journal.submit(vec![record], done).await?;
        rx.await.map_err(|_| JournalError::Closed)?
    }

    /// Makes the log known to the journal. A replica of which the journal knows nothing at all has
    /// lost its journal.
    pub async fn begin(self: &Arc<Self>) -> Result<(), JournalError> {
        let record = self.mark(RecordKind::Reset, None);
        self.write(record, Change::Reset(None), Vec::new()).await
    }

    /// Saves a vote; durable when this returns.
    pub async fn save_vote(self: &Arc<Self>, vote: Vote) -> Result<(), JournalError> {
        let payload = postcard::to_stdvec(&vote).expect("votes always encode");
        let head = self.head(RecordKind::Vote, None);
        self.state.lock().vote = Some(vote);
        let record = Append {
            head,
            payload: vec![payload.into()],
        };
        self.write(record, Change::Vote(vote), Vec::new()).await
    }

    /// The last vote.
    pub fn vote(&self) -> Option<Vote> {
        self.state.lock().vote
    }

    /// Remembers how far the log is committed; written along with the next append, because losing
    /// the newest value costs nothing but a later apply.
    pub fn save_committed(&self, committed: Option<LogId>) {
        self.state.lock().committed = committed;
    }

    /// How far the log is known to be committed.
    pub fn committed(&self) -> Option<LogId> {
        self.state.lock().committed
    }

    /// Up to where the log is purged.
    pub fn purged(&self) -> Option<LogId> {
        self.state.lock().purged
    }

    /// The last entry's id, or the purge mark when there is none.
    pub fn last(&self) -> Option<LogId> {
        self.state.lock().last()
    }

    /// Appends entries; readable when this returns, synced when `done` is called.
    pub async fn append(
        self: &Arc<Self>,
        entries: Vec<Entry>,
        done: impl FnOnce(Result<(), JournalError>) + Send + 'static,
    ) -> Result<(), JournalError> {
        let mut records = Vec::with_capacity(entries.len() + 1);
        let mut ids = Vec::with_capacity(entries.len());
        let mut committed = None;
        {
            let mut s = self.state.lock();
            if s.committed != s.committed_written && s.committed.is_some() {
                records.push(self.mark(RecordKind::Committed, s.committed));
                s.committed_written = s.committed;
                committed = s.committed;
            }
            for entry in entries {
                let id = entry.log_id();
                if s.entries.is_empty() && s.purged.is_none() && s.first == 0 {
                    // A new log begins wherever its first entry stands (0 for the first membership).
                    s.first = id.index();
                    s.cached_from = id.index();
                }
                let next = s.first + s.entries.len() as u64;
                assert_eq!(id.index(), next, "shard {}: hole in the log", self.shard);
                records.push(Append {
                    head: self.head(RecordKind::Entry, Some(id)),
                    payload: encode_payload(&entry),
                });
                ids.push(id);
                s.cached_bytes += payload_len(&entry);
                s.entries.push_back(Slot {
                    leader: *id.committed_leader_id(),
                    place: None,
                    cached: Some(entry),
                });
            }
        }
        let this = Arc::clone(self);
        let marks = records.len() - ids.len();
        let flushed = move |result: Result<Vec<Location>, JournalError>| {
            done(result.map(|places| this.on_flushed(committed, &ids, &places[marks..])));
        };
        self.journal.submit(records, Box::new(flushed)).await
    }

    fn on_flushed(&self, committed: Option<LogId>, ids: &[LogId], places: &[Location]) {
        assert_eq!(ids.len(), places.len(), "one location per entry");
        let mut s = self.state.lock();
        if let Some(id) = committed {
            s.durable.change(Change::Committed(id));
        }
        if let Some(id) = ids.last() {
            s.durable.change(Change::Appended(*id));
        }
        let mut upto = None;
        let let_go = s.let_go;
        for (id, place) in ids.iter().zip(places) {
            // The entry may have been truncated, and another written in its place, meanwhile.
            let first = s.first;
            let slot = id
                .index()
                .checked_sub(first)
                .and_then(|i| s.entries.get_mut(i as usize));
            if let Some(slot) = slot
                && slot.leader == *id.committed_leader_id()
                && slot.place.is_none()
            {
                slot.place = Some(*place);
                if !let_go {
                    self.journal.pin(place.segment, 1);
                }
                upto = Some(id.index() + 1);
            }
        }
        s.evict(self.cache_bytes);
        drop(s);
        if let Some(upto) = upto {
            self.flushed.send_if_modified(|f| {
                let newer = upto > *f;
                *f = upto.max(*f);
                newer
            });
        }
    }

    /// Removes the entries after `last`, exclusive.
    pub async fn truncate_after(self: &Arc<Self>, last: Option<LogId>) -> Result<(), JournalError> {
        rare::hit(Rare::ConflictTruncated);
        let mut unpin = Vec::new();
        {
            let mut s = self.state.lock();
            let keep_upto = last.map_or(s.first, |l| l.index() + 1).max(s.first);
            assert!(
                s.committed.is_none_or(|c| c.index() < keep_upto),
                "shard {}: truncating committed entries",
                self.shard
            );
            while s.first + s.entries.len() as u64 > keep_upto {
                s.drop_back(&mut unpin);
            }
            self.flushed.send_if_modified(|f| {
                *f = keep_upto.min(*f);
                false
            });
        }
        // Everything: index 0 would keep entry 0, so the whole log is reset instead.
        let (kind, change) = match last {
            Some(last) => (RecordKind::Truncate, Change::Truncated(last)),
            None => (RecordKind::Reset, Change::Reset(None)),
        };
        self.write(self.mark(kind, last), change, unpin).await
    }

    /// Removes the entries up to `upto`, inclusive. Beyond the last entry, the log starts anew there
    /// (a snapshot was installed).
    pub async fn purge(self: &Arc<Self>, upto: LogId) -> Result<(), JournalError> {
        let mut unpin = Vec::new();
        let kind = {
            let mut s = self.state.lock();
            if s.purged.is_some_and(|p| p.index() >= upto.index()) {
                return Ok(());
            }
            let next = s.first + s.entries.len() as u64;
            s.purged = Some(upto);
            match upto.index() >= next {
                true => {
                    while !s.entries.is_empty() {
                        s.drop_front(&mut unpin);
                    }
                    s.first = upto.index() + 1;
                    s.cached_from = s.first;
                    RecordKind::Reset
                }
                false => {
                    while s.first <= upto.index() {
                        s.drop_front(&mut unpin);
                    }
                    RecordKind::Purge
                }
            }
        };
        if kind == RecordKind::Reset {
            rare::hit(Rare::LogBegunAnew);
        }
        // All of it is durable in the index. A snapshot may also end within the log, or with it, and
        // its entries be on their way to the disk: when they arrive they are not in the log any more.
        self.flushed.send_if_modified(|f| {
            let newer = upto.index() + 1 > *f;
            *f = (upto.index() + 1).max(*f);
            newer
        });
        let change = match kind {
            RecordKind::Reset => Change::Reset(Some(upto)),
            _ => {
                rare::hit(Rare::LogPurged);
                Change::Purged(upto)
            }
        };
        self.write(self.mark(kind, Some(upto)), change, unpin).await
    }

    /// Lets go of the segments that hold its entries: its group has ended, it is lost, and nobody
    /// will purge it. The entries keep their places for whoever still reads one.
    pub fn let_go(&self) {
        let mut s = self.state.lock();
        if std::mem::replace(&mut s.let_go, true) {
            return;
        }
        let places = s.entries.iter().filter_map(|slot| slot.place);
        places.for_each(|place| self.journal.pin(place.segment, -1));
    }

    /// What the log knows of the entry at `index`; `None` when it does not hold it.
    pub fn find(&self, index: u64) -> Option<Found> {
        let s = self.state.lock();
        let slot = index
            .checked_sub(s.first)
            .and_then(|i| s.entries.get(i as usize))?;
        Some(match (&slot.cached, slot.place) {
            (Some(entry), _) => Found::Cached(entry.clone()),
            (None, Some(place)) => Found::At(LogId::new(slot.leader, index), place),
            (None, None) => unreachable!("pending entries stay in memory"),
        })
    }

    /// The range of indexes that the log holds: first and one behind the last.
    pub fn range(&self) -> (u64, u64) {
        let s = self.state.lock();
        (s.first, s.first + s.entries.len() as u64)
    }

    /// Octets of the entries that are kept in memory although they are synced, counted anew: what
    /// the bound of the cache holds for. What is not synced yet stays in memory in any case.
    pub fn cached_bytes(&self) -> usize {
        let s = self.state.lock();
        let synced = s.entries.iter().filter(|slot| slot.place.is_some());
        synced
            .filter_map(|slot| slot.cached.as_ref().map(payload_len))
            .sum()
    }

    /// Waits until the entry at `index` is synced here; fails when it never will be.
    pub async fn wait_flushed(&self, index: u64) -> Result<(), JournalError> {
        let mut flushed = self.flushed.subscribe();
        let mut poisoned = self.journal.poisoned();
        tokio::select! {
            biased;
            flushed = flushed.wait_for(|f| *f > index) => {
                flushed.map(drop).map_err(|_| JournalError::Closed)
            }
            failed = poisoned.wait_for(Option::is_some) => match failed.as_deref() {
                Ok(Some(e)) => Err(JournalError::clone(e)),
                _ => Err(JournalError::Closed),
            }
        }
    }

    /// One behind the highest synced index.
    pub fn flushed(&self) -> u64 {
        *self.flushed.borrow()
    }

    /// Where the payload of the flushed entry at `index` lies.
    pub fn place(&self, index: u64) -> Option<Location> {
        let s = self.state.lock();
        s.entries.get(index.checked_sub(s.first)? as usize)?.place
    }

    /// The highest index whose entry lies in a segment before `segment`, for purging what would
    /// otherwise pin old segments.
    pub fn last_before(&self, segment: u64) -> Option<u64> {
        let s = self.state.lock();
        let n = s
            .entries
            .iter()
            .take_while(|slot| slot.place.is_some_and(|p| p.segment < segment))
            .count() as u64;
        (n > 0).then(|| s.first + n - 1)
    }

    /// Reads the entry at `index` from memory or from the journal.
    pub async fn read(self: &Arc<Self>, index: u64) -> Result<Option<Entry>, JournalError> {
        let (id, place) = match self.find(index) {
            None => return Ok(None),
            Some(Found::Cached(entry)) => return Ok(Some(entry)),
            Some(Found::At(id, place)) => (id, place),
        };
        let invalid = |e: Undecodable| JournalError::Io {
            what: format!("read entry {index} of shard {}", self.shard),
            kind: std::io::ErrorKind::InvalidData,
            message: e.to_string(),
        };
        rare::hit(Rare::EntryReadFromDisk);
        match self.journal.read(place).await {
            Ok(payload) => decode_payload(id, payload).map(Some).map_err(invalid),
            // Purged or truncated while we read, and its segment given back.
            Err(_) if self.place(index) != Some(place) => Ok(None),
            Err(e) => {
                if matches!(e, JournalError::Damaged(_)) && self.missing() < Some(index) {
                    rare::hit(Rare::EntryUnreadable);
                    tracing::error!(shard = %self.shard, index, "an entry is unreadable: {e}");
                    self.note_missing(index).await;
                }
                Err(e)
            }
        }
    }

    /// The highest index whose entry was found to be unreadable, until it is purged.
    pub fn missing(&self) -> Option<u64> {
        self.state.lock().durable.missing
    }

    /// Whether no follower gets the entry at `index` from here: it is purged, or stands at or below
    /// one that was found to be unreadable, up to which the log is purged as soon as that may be.
    pub fn withholds(&self, index: u64) -> bool {
        let s = self.state.lock();
        let purged = s.purged.map(|p| p.index());
        purged.max(s.durable.missing) >= Some(index)
    }

    /// The first entry after `applied` that cannot be read, if a reader has met one. They are read
    /// again, because what follows cannot be taken back and a disk may refuse once what it gives
    /// later; and all up to the mark are, because it stands for those below it, too.
    pub async fn unreadable_after(self: &Arc<Self>, applied: Option<u64>) -> Option<u64> {
        let missing = self.missing()?;
        let (first, _) = self.range();
        for index in applied.map_or(first, |a| first.max(a + 1))..=missing {
            if matches!(self.read(index).await, Err(JournalError::Damaged(_))) {
                return Some(index);
            }
        }
        None
    }

    /// The last of the entries in a row that cannot be read: `index`, which cannot, or one behind it,
    /// not past `upto`, as far as half a second reaches. A leader that looks for where a follower's
    /// log agrees with its own meets them one at a time, each only after the one before it is purged.
    pub async fn unreadable_run(&self, index: u64, upto: u64) -> u64 {
        let end = Instant::now() + MAX_RUN_TIME;
        let mut last = index;
        for next in index + 1..=upto.min(index + MAX_RUN) {
            let Some(Found::At(_, place)) = self.find(next) else {
                break;
            };
            let damaged = matches!(
                self.journal.read(place).await,
                Err(JournalError::Damaged(_))
            );
            // Of what was purged meanwhile, and its segment given back, nothing is known.
            if !damaged || self.place(next) != Some(place) {
                break;
            }
            last = next;
            if Instant::now() >= end {
                break;
            }
        }
        last
    }

    /// Remembers that an entry cannot be read, also for the next start: it must not rely on it.
    async fn note_missing(self: &Arc<Self>, index: u64) {
        let mut marks = LogMarks::new(self.shard, self.replica);
        marks.missing = Some(index);
        let record = marks::record(marks::ONE, &[marks]);
        if let Err(e) = self.write(record, Change::Missing(index), Vec::new()).await {
            tracing::warn!(shard = %self.shard, index, "cannot note an unreadable entry: {e}");
        }
    }
}

impl State {
    fn last(&self) -> Option<LogId> {
        match self.entries.back() {
            Some(slot) => Some(LogId::new(
                slot.leader,
                self.first + self.entries.len() as u64 - 1,
            )),
            None => self.purged,
        }
    }

    fn drop_front(&mut self, unpin: &mut Vec<u64>) {
        let slot = self.entries.pop_front().expect("an entry to drop");
        self.forget(&slot, unpin);
        self.first += 1;
        self.cached_from = self.cached_from.max(self.first);
    }

    fn drop_back(&mut self, unpin: &mut Vec<u64>) {
        let slot = self.entries.pop_back().expect("an entry to drop");
        self.forget(&slot, unpin);
        self.cached_from = self.cached_from.min(self.first + self.entries.len() as u64);
    }

    fn forget(&mut self, slot: &Slot, unpin: &mut Vec<u64>) {
        if let Some(entry) = &slot.cached {
            self.cached_bytes -= payload_len(entry);
        }
        if let Some(place) = slot.place.filter(|_| !self.let_go) {
            unpin.push(place.segment);
        }
    }

    /// Lets go of the oldest flushed entries past the budget.
    fn evict(&mut self, budget: usize) {
        while self.cached_bytes > budget {
            let i = (self.cached_from - self.first) as usize;
            let Some(slot) = self.entries.get_mut(i) else {
                break;
            };
            if slot.place.is_none() {
                break;
            }
            if let Some(entry) = slot.cached.take() {
                self.cached_bytes -= payload_len(&entry);
            }
            self.cached_from += 1;
        }
    }
}

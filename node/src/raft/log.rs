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

use bytes::Bytes;
use openraft::entry::RaftEntry;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::types::*;
use crate::journal::{Append, Journal, JournalError, RecordHead, RecordKind};
use crate::types::*;

/// What of a replica's log must survive although its record may be far back in the journal. Opens
/// every new segment, one for all replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCheckpoint {
    /// Which shard.
    pub shard: ShardId,
    /// Which replica of it.
    pub replica: ReplicaId,
    /// Its last vote.
    pub vote: Option<Vote>,
    /// Up to where its log is purged.
    pub purged: Option<LogId>,
    /// Up to where it knows the log to be committed.
    pub committed: Option<LogId>,
    /// Its last entry; what a replay has read of later ones was truncated.
    pub last: Option<LogId>,
}

/// One entry's place.
#[derive(Debug, Clone)]
struct Slot {
    leader: LeaderId,
    place: Option<Location>,
    cached: Option<Entry>,
}

#[derive(Debug, Default)]
struct State {
    vote: Option<Vote>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    committed_written: Option<LogId>,
    first: u64,
    entries: VecDeque<Slot>,
    cached_bytes: usize,
    cached_from: u64,
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
        Log {
            shard,
            replica,
            journal,
            cache_bytes,
            state: Mutex::new(State {
                vote: recovered.vote,
                purged: recovered.purged,
                committed: recovered.committed,
                committed_written: recovered.committed,
                first,
                entries,
                cached_bytes: 0,
                cached_from: next,
            }),
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
    pub fn checkpoint(&self) -> LogCheckpoint {
        let s = self.state.lock();
        LogCheckpoint {
            shard: self.shard,
            replica: self.replica,
            vote: s.vote,
            purged: s.purged,
            committed: s.committed,
            last: s.last(),
        }
    }

    /// Submits a record and waits until it is synced.
    async fn submit_and_wait(&self, record: Append) -> Result<(), JournalError> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result: Result<Vec<Location>, JournalError>| {
            let _ = tx.send(result.map(drop));
        });
        self.journal.submit(vec![record], done).await?;
        rx.await.map_err(|_| JournalError::Closed)?
    }

    /// Saves a vote; durable when this returns.
    pub async fn save_vote(&self, vote: Vote) -> Result<(), JournalError> {
        let payload = postcard::to_stdvec(&vote).expect("votes always encode");
        let head = self.head(RecordKind::Vote, None);
        // In memory first, so that a checkpoint taken meanwhile can only be newer than the record.
        self.state.lock().vote = Some(vote);
        self.submit_and_wait(Append {
            head,
            payload: vec![payload.into()],
        })
        .await
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
        {
            let mut s = self.state.lock();
            if s.committed != s.committed_written && s.committed.is_some() {
                records.push(self.mark(RecordKind::Committed, s.committed));
                s.committed_written = s.committed;
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
            done(result.map(|places| this.on_flushed(&ids, &places[marks..])));
        };
        self.journal.submit(records, Box::new(flushed)).await
    }

    fn on_flushed(&self, ids: &[LogId], places: &[Location]) {
        assert_eq!(ids.len(), places.len(), "one location per entry");
        let mut s = self.state.lock();
        let mut upto = None;
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
                self.journal.pin(place.segment, 1);
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
    pub async fn truncate_after(&self, last: Option<LogId>) -> Result<(), JournalError> {
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
        let mut mark = self.mark(RecordKind::Truncate, last);
        if last.is_none() {
            // Everything: index 0 would keep entry 0, so the whole log is reset instead.
            mark.head.kind = RecordKind::Reset;
        }
        self.submit_and_wait(mark).await?;
        self.unpin(unpin);
        Ok(())
    }

    /// Lets go of segments, once the record that ended their entries is synced.
    fn unpin(&self, segments: Vec<u64>) {
        segments.into_iter().for_each(|s| self.journal.pin(s, -1));
    }

    /// Removes the entries up to `upto`, inclusive. Beyond the last entry, the log starts anew there
    /// (a snapshot was installed).
    pub async fn purge(&self, upto: LogId) -> Result<(), JournalError> {
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
            self.flushed.send_if_modified(|f| {
                let newer = upto.index() + 1 > *f;
                *f = (upto.index() + 1).max(*f);
                newer
            });
        }
        self.submit_and_wait(self.mark(kind, Some(upto))).await?;
        self.unpin(unpin);
        Ok(())
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

    /// Waits until the entry at `index` is synced here.
    pub async fn wait_flushed(&self, index: u64) -> Result<(), JournalError> {
        let mut flushed = self.flushed.subscribe();
        flushed
            .wait_for(|f| *f > index)
            .await
            .map(drop)
            .map_err(|_| JournalError::Closed)
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
    pub async fn read(&self, index: u64) -> Result<Option<Entry>, JournalError> {
        match self.find(index) {
            None => Ok(None),
            Some(Found::Cached(entry)) => Ok(Some(entry)),
            Some(Found::At(id, place)) => {
                let payload: Bytes = self.journal.read(place).await?;
                decode_payload(id, payload)
                    .map(Some)
                    .map_err(|e| JournalError::Io {
                        what: format!("read entry {index} of shard {}", self.shard),
                        kind: std::io::ErrorKind::InvalidData,
                        message: e.to_string(),
                    })
            }
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
        if let Some(place) = slot.place {
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

/// What a replay found of one replica's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Its last vote.
    pub vote: Option<Vote>,
    /// Up to where it is purged.
    pub purged: Option<LogId>,
    /// Up to where it is known to be committed.
    pub committed: Option<LogId>,
    /// Its entries, without holes, from the one behind the purge mark.
    pub entries: Vec<(LogId, Location)>,
}

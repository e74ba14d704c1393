//! openraft's log storage over [`Log`].

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures::Stream;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use super::log::{Found, Log};
use super::types::*;
use crate::journal::JournalError;
use crate::rare::{self, Rare};

/// Octets of entries after which a read ends, so that no append request grows with the number of
/// entries alone. A follower takes a request when the whole of it is there, and answers it as a whole:
/// on a slow link, a small write that shares one with large chunks waits for all of them.
const READ_BYTES: usize = 1 << 20;

/// The log of one replica as openraft sees it. Clones share the log.
#[derive(Clone)]
pub struct LogStore {
    log: Arc<Log>,
    /// Entries up to this one were applied and durable at the start: they are not applied again.
    applied: Option<LogId>,
}

impl LogStore {
    /// The store over this log, of which the index holds everything up to `applied` durably.
    pub fn new(log: Arc<Log>, applied: Option<LogId>) -> LogStore {
        LogStore { log, applied }
    }

    /// An applied entry without its content. openraft, as it starts, reads single entries to learn
    /// their ids alone (`RaftLogReaderExt::get_log_id`); one whose octets have rotted must not keep
    /// the node from starting, because only its blob is still of use, and that is mended when read.
    fn id_alone(&self, index: u64) -> Option<Entry> {
        let applied = self.applied.is_some_and(|a| index <= a.index());
        match self.log.find(index).filter(|_| applied)? {
            Found::Cached(entry) => Some(entry),
            Found::At(id, _) => Some(Entry::new_blank(id)),
        }
    }

    /// What the log holds of the range. An unreadable entry is an error, or, when `lenient`, the
    /// end of what is read.
    async fn read(
        &self,
        from: u64,
        to: u64,
        limit_bytes: usize,
        lenient: bool,
    ) -> io::Result<Vec<Entry>> {
        let (first, next) = self.log.range();
        let (from, to) = (from.max(first), to.min(next));
        let mut out = Vec::new();
        let mut bytes = 0;
        for index in from..to {
            let entry = match self.log.read(index).await {
                Ok(Some(entry)) => entry,
                // An entry may be purged while we read: what is gone from the front is no error.
                Ok(None) if out.is_empty() => continue,
                Ok(None) => break,
                Err(JournalError::Damaged(_)) if lenient => {
                    rare::hit(Rare::UnreadableForFollower);
                    break;
                }
                Err(e) => return Err(io_error(e)),
            };
            bytes += payload_len(&entry);
            out.push(entry);
            if bytes >= limit_bytes {
                break;
            }
        }
        Ok(out)
    }
}

fn io_error(e: JournalError) -> io::Error {
    io::Error::other(e)
}

fn bounds(range: impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(i) => *i,
        Bound::Excluded(i) => *i + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(i) => i.saturating_add(1),
        Bound::Excluded(i) => *i,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (from, to) = bounds(range);
        // What is sent to followers or applied is read by the other two calls.
        if to == from.saturating_add(1)
            && let Some(entry) = self.id_alone(from)
        {
            return Ok(vec![entry]);
        }
        self.read(from, to, usize::MAX, false).await
    }

    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        // For a follower that lags: an old entry that rotted here is no reason to end. It is purged
        // soon, and the follower gets a snapshot instead. One that is not applied here can neither
        // be purged nor given to anyone: with it the replica is given up (`workers::persist`).
        let entries = self.read(from, to, READ_BYTES, true).await?;
        // What was purged meanwhile must not be skipped: the caller takes the first entry for the
        // one that it asked for.
        match entries.first() {
            Some(first) if first.log_id().index() != from => Ok(Vec::new()),
            _ => Ok(entries),
        }
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log.vote())
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = bounds(range);
        let log = Arc::clone(&self.log);
        let (_, next) = log.range();
        futures::stream::unfold(from, move |index| {
            let log = Arc::clone(&log);
            async move {
                if index >= to.min(next) {
                    return None;
                }
                let entry = log.read(index).await.map_err(io_error).and_then(|entry| {
                    entry
                        .ok_or_else(|| io::Error::other(format!("entry {index} is not in the log")))
                });
                Some((entry, index + 1))
            }
        })
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(LogState {
            last_purged_log_id: self.log.purged(),
            last_log_id: self.log.last(),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.log.save_vote(*vote).await.map_err(io_error)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.log.save_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        // A recovery keeps the mark only when the log holds what it names.
        Ok(self.log.committed())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        debug_assert!(
            entries
                .windows(2)
                .all(|w| w[0].log_id().index() + 1 == w[1].log_id().index())
        );
        let done =
            move |result: Result<(), JournalError>| callback.io_completed(result.map_err(io_error));
        self.log.append(entries, done).await.map_err(io_error)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.log.truncate_after(last).await.map_err(io_error)
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.log.purge(upto).await.map_err(io_error)
    }
}

#[cfg(test)]
#[path = "log_store_tests.rs"]
mod tests;

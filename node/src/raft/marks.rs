//! What of a replica's log must survive although its record may be far back in the journal.
//!
//! A [`LogMarks`] says what a replay of the stream up to one moment gives: it is changed in the
//! callbacks of the journal alone, in the order of the records, and never ahead of them. So the
//! marks at the head of a segment can be compared with what was replayed before it, and a record
//! that is missing is noticed although nothing else names it.

use serde::{Deserialize, Serialize};

use super::types::*;
use crate::journal::{Append, RecordHead, RecordKind};
use crate::types::*;

/// The marks of one log at one moment of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMarks {
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
    /// Its last entry, or the purge mark when there is none.
    pub last: Option<LogId>,
    /// The highest index whose entry was found to be unreadable.
    pub missing: Option<u64>,
    /// It lost what it may have acknowledged, and waits to be replaced: it must never vote again.
    pub lost: bool,
}

/// What one record changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A vote.
    Vote(Vote),
    /// Entries up to this one.
    Appended(LogId),
    /// A committed mark.
    Committed(LogId),
    /// No entries after this one.
    Truncated(LogId),
    /// No entries up to this one.
    Purged(LogId),
    /// The log begins anew after this one.
    Reset(Option<LogId>),
    /// This entry cannot be read.
    Missing(u64),
}

impl LogMarks {
    /// The marks of an empty log.
    pub fn new(shard: ShardId, replica: ReplicaId) -> LogMarks {
        LogMarks {
            shard,
            replica,
            vote: None,
            purged: None,
            committed: None,
            last: None,
            missing: None,
            lost: false,
        }
    }

    /// Notes a change, once its record is synced.
    pub fn change(&mut self, change: Change) {
        match change {
            Change::Vote(vote) => self.vote = Some(vote),
            Change::Appended(id) => self.last = Some(id),
            Change::Truncated(id) => {
                self.last = Some(id);
                self.missing = self.missing.filter(|m| *m <= id.index());
            }
            Change::Committed(id) => self.committed = Some(id),
            Change::Purged(id) => {
                self.purged = Some(id);
                if self.last.is_none_or(|last| last.index() < id.index()) {
                    self.last = Some(id);
                }
            }
            Change::Reset(id) => {
                self.purged = id;
                self.last = id;
                self.missing = None;
            }
            Change::Missing(index) => self.missing = self.missing.max(Some(index)),
        }
        let purged = self.purged.map(|p| p.index());
        self.missing = self.missing.filter(|m| purged.is_none_or(|p| *m > p));
    }
}

/// Who a checkpoint record speaks for: all logs of the node, as at the head of a segment, ...
pub const ALL: u8 = 0;
/// ... or the one that it names, of which it tells nothing but what is missing or lost.
pub const ONE: u8 = 1;

/// The record of these marks.
pub fn record(whose: u8, marks: &[LogMarks]) -> Append {
    let payload = postcard::to_stdvec(marks).expect("marks always encode");
    let head = RecordHead {
        kind: RecordKind::Checkpoint,
        shard: ShardId::SYSTEM,
        replica: ReplicaId(0),
        index: 0,
        term: 0,
        leader: 0,
        codec: whose,
    };
    Append {
        head,
        payload: vec![payload.into()],
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

impl Recovered {
    /// Where the log ends.
    pub fn last(&self) -> Option<LogId> {
        self.entries.last().map(|(id, _)| *id).or(self.purged)
    }
}

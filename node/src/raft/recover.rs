//! From the journal's records to the logs of the replicas: what a restart knows.
//!
//! Records and damage come in the order of the stream. A checkpoint at the head of a segment names
//! every log of the node and restates all but its entries: what was said of votes, purges and
//! commits before it no longer matters, damaged or not, and whether entries before it are missing
//! shows in where each log ends. So damage is judged where it lies, because only the logs know what
//! a lost record means (Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage",
//! FAST 2018):
//!
//! - a lost entry at or below the persisted applied index is only a blob to repair: the log is
//!   taken as purged up to there;
//! - a lost entry above it may have been acknowledged, a lost vote may have been counted: the
//!   replica must not vote again and is rebuilt;
//! - octets that may have been anyone's record, with no checkpoint behind them, are everyone's loss.

use std::collections::{BTreeMap, BTreeSet};

use super::marks::{self, LogMarks, Recovered};
use super::types::{LogId, Vote, log_id};
use crate::journal::{Cause, DamagedRange, RecordHead, RecordKind, Recovery, Replayed};
use crate::rare::{self, Rare};
use crate::types::*;

/// Identity of a log in the journal.
pub type LogKey = (ShardId, ReplicaId);

/// The logs that a journal holds.
#[derive(Debug, Default)]
pub struct RecoveredLogs {
    logs: BTreeMap<LogKey, Replay>,
    /// Since the last checkpoint there were octets that may have been anyone's record.
    unreadable: bool,
}

/// Whether a replica may go on after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its log is whole.
    Whole(Recovered),
    /// It lost what it may have acknowledged.
    Lost,
}

/// One log in the middle of a replay. An index behind the purge mark up to the last entry that is
/// not among the entries is a hole: segments in the middle of the stream may be gone, and rightly so
/// when a later record purges or truncates what was in them. Only the end of the replay tells.
#[derive(Debug, Clone, Default)]
struct Replay {
    vote: Option<Vote>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    /// Where the log ends.
    last: Option<LogId>,
    /// An entry whose payload is damaged has no location.
    entries: BTreeMap<u64, (LogId, Option<Location>)>,
    /// Octets were unreadable since the last record: entries may have been replaced in them.
    doubt: bool,
    /// A vote is lost, and no checkpoint has restated it since.
    unsure: bool,
    /// An earlier start found that it lost something.
    lost: bool,
}

fn id_of(head: &RecordHead) -> LogId {
    log_id(head.term, ReplicaId(head.leader), head.index)
}

impl RecoveredLogs {
    /// Replays records and damage in the order of the stream.
    pub fn replay(recovery: &Recovery) -> RecoveredLogs {
        let mut out = RecoveredLogs::default();
        let mut damage: Vec<&DamagedRange> = recovery.damage.iter().collect();
        damage.sort_by_key(|d| (d.segment, d.offset));
        let mut damage = damage.into_iter().peekable();
        for record in &recovery.records {
            let at = (record.location.segment, record.location.offset as u64);
            while let Some(before) = damage.next_if(|d| (d.segment, d.offset) < at) {
                out.damaged(before);
            }
            out.take(record);
        }
        damage.for_each(|d| out.damaged(d));
        out
    }

    /// The logs that say anything, by shard and replica: one that has only just begun does not.
    pub fn known(&self) -> impl Iterator<Item = LogKey> + '_ {
        let blank = |log: &Replay| log.vote.is_none() && log.last.is_none() && !log.lost;
        self.logs
            .iter()
            .filter(move |(_, log)| !blank(log))
            .map(|(key, _)| *key)
    }

    /// Whether there may have been logs of which nothing is left here: octets that were anyone's
    /// record, and no checkpoint behind them that names them all.
    pub fn may_lack_logs(&self) -> bool {
        self.unreadable
    }

    /// The logs that an earlier start found to have lost something.
    pub fn lost(&self) -> impl Iterator<Item = LogKey> + '_ {
        let lost = self.logs.iter().filter(|(_, log)| log.lost);
        lost.map(|(key, _)| *key)
    }

    fn take(&mut self, record: &Replayed) {
        let head = &record.head;
        match head.kind {
            RecordKind::Checkpoint => {
                match postcard::from_bytes::<Vec<LogMarks>>(&record.payload) {
                    Ok(marks) if head.codec == marks::ALL => self.checkpoint(marks),
                    Ok(marks) if head.codec == marks::ONE => marks.iter().for_each(|m| {
                        let log = self.logs.entry((m.shard, m.replica)).or_default();
                        log.lost |= m.lost;
                        log.miss(m.missing);
                    }),
                    _ => self.unreadable(),
                }
            }
            RecordKind::Vote => {
                let log = self.log(head);
                match postcard::from_bytes(&record.payload) {
                    Ok(vote) => log.vote = Some(vote),
                    Err(_) => log.unsure = true,
                }
            }
            RecordKind::Entry => self.log(head).entry(id_of(head), Some(record.location)),
            _ => self.mark(head),
        }
    }

    /// Records that say everything in their head.
    fn mark(&mut self, head: &RecordHead) {
        let id = id_of(head);
        match head.kind {
            RecordKind::Truncate => self.log(head).ends_at(Some(id)),
            RecordKind::Purge => self.log(head).purge(id),
            RecordKind::Reset => {
                let log = self.log(head);
                log.entries.clear();
                log.doubt = false;
                log.purged = (head.term != 0 || head.index != 0).then_some(id);
                log.last = log.purged;
            }
            RecordKind::Committed => self.log(head).committed = Some(id),
            RecordKind::Entry | RecordKind::Vote | RecordKind::Checkpoint | RecordKind::Blob => {}
        }
    }

    fn log(&mut self, head: &RecordHead) -> &mut Replay {
        self.logs.entry((head.shard, head.replica)).or_default()
    }

    fn checkpoint(&mut self, marks: Vec<LogMarks>) {
        self.unreadable = false;
        let named: BTreeSet<LogKey> = marks.iter().map(|m| (m.shard, m.replica)).collect();
        self.logs.retain(|key, _| named.contains(key));
        for m in marks {
            let log = self.logs.entry((m.shard, m.replica)).or_default();
            log.vote = m.vote;
            log.committed = m.committed;
            log.unsure = false;
            log.lost = m.lost;
            if let Some(purged) = m.purged {
                log.purge(purged);
            }
            log.ends_at(m.last);
            log.miss(m.missing);
        }
    }

    fn damaged(&mut self, damage: &DamagedRange) {
        // A footer repeats what the records say.
        if damage.cause == Cause::Footer {
            return;
        }
        match damage.record.as_ref().map(|(head, _)| head) {
            Some(head) => match head.kind {
                // Moved octets are repaired when they are read or scrubbed.
                RecordKind::Blob => {}
                RecordKind::Entry => self.log(head).entry(id_of(head), None),
                RecordKind::Vote => self.log(head).unsure = true,
                RecordKind::Checkpoint => self.unreadable(),
                _ => self.mark(head),
            },
            // With its header a segment may have lost all of its records; if not, its checkpoint
            // comes next.
            None => self.unreadable(),
        }
    }

    fn unreadable(&mut self) {
        self.unreadable = true;
        self.logs.values_mut().for_each(|log| log.doubt = true);
    }

    /// The places of a log's entries after `applied`: a start that relies on them verifies them,
    /// because opening a journal reads what a sealed segment lists and not what it holds.
    pub fn unapplied(&self, key: LogKey, applied: Option<LogId>) -> Vec<Location> {
        let applied = applied.map(|a| a.index());
        let log = self.logs.get(&key);
        log.into_iter()
            .flat_map(|log| &log.entries)
            .filter(|(index, _)| Some(**index) > applied)
            .filter_map(|(_, (_, at))| *at)
            .collect()
    }

    /// The entry of a log at this place was read and is damaged.
    pub fn rotten(&mut self, key: LogKey, damage: &DamagedRange) {
        let Some(log) = self.logs.get_mut(&key) else {
            return;
        };
        let here =
            |at: &Location| (at.segment, at.offset as u64) == (damage.segment, damage.offset);
        let mut entries = log.entries.values_mut();
        match entries.find(|(_, at)| at.as_ref().is_some_and(here)) {
            Some((_, at)) => *at = None,
            None => log.unsure = true,
        }
    }

    /// What replica `key` may do, given the log id up to which its applied state is persisted.
    pub fn judge(&self, key: LogKey, persisted: Option<LogId>) -> Verdict {
        // A replica makes itself known to the journal before it is in the index.
        match self.logs.get(&key) {
            Some(log) if !self.unreadable => log.clone().judge(persisted),
            _ => {
                rare::hit(Rare::AnyonesRecordLost);
                Verdict::Lost
            }
        }
    }
}

impl Replay {
    fn entry(&mut self, id: LogId, at: Option<Location>) {
        let index = id.index();
        if self.purged.is_some_and(|p| index <= p.index()) {
            return;
        }
        self.entries.split_off(&index);
        if std::mem::take(&mut self.doubt)
            && let Some((before, place)) =
                index.checked_sub(1).and_then(|i| self.entries.get_mut(&i))
            && before.committed_leader_id() != id.committed_leader_id()
        {
            // One leader writes one log: had it written both, they would belong together. As it
            // is, the entry before may have been replaced where nothing can be read.
            *place = None;
        }
        self.entries.insert(index, (id, at));
        self.last = Some(id);
    }

    fn purge(&mut self, upto: LogId) {
        if self.purged.is_none_or(|p| p.index() < upto.index()) {
            self.purged = Some(upto);
        }
        self.entries = self.entries.split_off(&(upto.index() + 1));
        if self.last.is_none_or(|l| l.index() < upto.index()) {
            self.last = Some(upto);
        }
    }

    fn miss(&mut self, index: Option<u64>) {
        if let Some((_, at)) = index.and_then(|i| self.entries.get_mut(&i)) {
            *at = None;
        }
    }

    /// A truncation or a checkpoint says where the log ends.
    fn ends_at(&mut self, last: Option<LogId>) {
        let end = last.map_or(0, |l| l.index() + 1);
        self.entries.split_off(&end);
        if let Some(last) = last
            && let Some((id, place)) = self.entries.get_mut(&last.index())
            && *id != last
        {
            // Replaced by an entry that is gone.
            *place = None;
        }
        self.last = last;
        self.doubt = false;
    }

    /// The highest index whose entry the log should hold and does not.
    fn hole(&self) -> Option<u64> {
        let first = self.purged.map_or(0, |p| p.index() + 1);
        let end = self.last.map_or(0, |l| l.index() + 1);
        let held = |i: &u64| matches!(self.entries.get(i), Some((_, Some(_))));
        (first..end).rev().find(|i| !held(i))
    }

    fn judge(mut self, persisted: Option<LogId>) -> Verdict {
        if self.unsure {
            rare::hit(Rare::VoteLost);
        }
        if self.lost || self.unsure {
            return Verdict::Lost;
        }
        // The index has gone back behind what the log relies on it for.
        if self.purged.map(|p| p.index()) > persisted.map(|p| p.index()) {
            return Verdict::Lost;
        }
        // The index holds the effect of another entry than the log.
        let at = |id: LogId| self.entries.get(&id.index());
        if let Some(p) = persisted
            && at(p).is_some_and(|(id, place)| *id != p && place.is_some())
        {
            return Verdict::Lost;
        }
        if let Some(hole) = self.hole() {
            match persisted {
                Some(p) if hole <= p.index() => {
                    rare::hit(Rare::AppliedEntryLost);
                    self.purge(p)
                }
                _ => {
                    rare::hit(Rare::EntryLost);
                    return Verdict::Lost;
                }
            }
        }
        let term = |id: LogId| id.committed_leader_id().term;
        if self.vote.map(|v| v.leader_id().term) > self.last.map(term) {
            rare::hit(Rare::VoteNewerThanLog);
        }
        let places = self.entries.into_values();
        let entries: Vec<_> = places.filter_map(|(id, at)| Some((id, at?))).collect();
        // The mark may be of entries that were never synced here and are gone with a torn tail.
        let holds = |id: &LogId| {
            let purged = self.purged.is_some_and(|p| id.index() <= p.index());
            purged || entries.iter().any(|(e, _)| e == id)
        };
        Verdict::Whole(Recovered {
            vote: self.vote,
            purged: self.purged,
            committed: self.committed.filter(holds),
            entries,
        })
    }
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;

//! From the journal's records to the logs of the replicas: what a restart knows.
//!
//! Records come in stream order. A checkpoint at the head of a segment stands for everything that
//! was said of votes, purges and commits before it. Damaged records are judged here, because only
//! the logs know what a lost record means (Alagappan et al., "Protocol-Aware Recovery for
//! Consensus-Based Storage", FAST 2018):
//!
//! - an entry at or below the persisted applied index is only a blob to repair: the log is taken
//!   as purged up to it;
//! - anything else may have been acknowledged: the replica must not vote again and is rebuilt.

use std::collections::BTreeMap;

use super::log::{LogCheckpoint, Recovered};
use super::types::{LogId, log_id};
use crate::journal::{Cause, DamagedRange, RecordHead, RecordKind, Recovery, Replayed};
use crate::types::*;

/// Identity of a log in the journal.
pub type LogKey = (ShardId, ReplicaId);

/// The logs that a journal holds.
#[derive(Debug, Default)]
pub struct RecoveredLogs {
    /// By shard and replica.
    pub logs: BTreeMap<LogKey, Recovered>,
    /// Logs with a hole or a lost record that is not known to be applied: index of the first loss.
    holes: BTreeMap<LogKey, u64>,
    /// Damage without a readable header: it may have been anyone's record.
    nameless: bool,
}

/// Whether a replica may go on after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its log is whole.
    Whole(Recovered),
    /// It lost what it may have acknowledged.
    Lost,
}

fn id_of(head: &RecordHead) -> LogId {
    log_id(head.term, ReplicaId(head.leader), head.index)
}

impl RecoveredLogs {
    /// Replays the records.
    pub fn replay(recovery: &Recovery) -> RecoveredLogs {
        let mut out = RecoveredLogs::default();
        recovery.records.iter().for_each(|r| out.take(r));
        recovery.damage.iter().for_each(|d| out.damaged(d));
        out
    }

    fn take(&mut self, record: &Replayed) {
        let head = &record.head;
        if head.kind == RecordKind::Checkpoint {
            let Ok(marks) = postcard::from_bytes::<Vec<LogCheckpoint>>(&record.payload) else {
                self.nameless = true;
                return;
            };
            for mark in marks {
                let log = self.logs.entry((mark.shard, mark.replica)).or_default();
                log.vote = mark.vote;
                log.committed = mark.committed;
                if let Some(purged) = mark.purged {
                    purge(log, purged);
                }
                truncate(log, mark.last.map_or(0, |l| l.index() + 1));
            }
            return;
        }
        let key = (head.shard, head.replica);
        let log = self.logs.entry(key).or_default();
        match head.kind {
            RecordKind::Entry => {
                let id = id_of(head);
                if log.purged.is_some_and(|p| id.index() <= p.index()) {
                    return;
                }
                truncate(log, id.index());
                let next = match log.entries.last() {
                    Some((last, _)) => Some(last.index() + 1),
                    None => log.purged.map(|p| p.index() + 1),
                };
                if next.is_some_and(|n| n != id.index()) {
                    let hole = next.unwrap_or(0);
                    self.holes
                        .entry(key)
                        .and_modify(|h| *h = hole.max(*h))
                        .or_insert(hole);
                    log.entries.clear();
                }
                log.entries.push((id, record.location));
            }
            RecordKind::Vote => match postcard::from_bytes(&record.payload) {
                Ok(vote) => log.vote = Some(vote),
                Err(_) => {
                    self.holes.insert(key, u64::MAX);
                }
            },
            RecordKind::Truncate => truncate(log, head.index + 1),
            RecordKind::Purge => purge(log, id_of(head)),
            RecordKind::Reset if head.term == 0 && head.index == 0 => log.entries.clear(),
            RecordKind::Reset => {
                log.entries.clear();
                log.purged = Some(id_of(head));
            }
            RecordKind::Committed => log.committed = Some(id_of(head)),
            RecordKind::Blob | RecordKind::Checkpoint => {}
        }
    }

    fn damaged(&mut self, damage: &DamagedRange) {
        // The headers and footers of segments repeat what the records say.
        if matches!(damage.cause, Cause::SegmentHeader | Cause::Footer) {
            return;
        }
        match damage.record.as_ref().map(|(head, _)| head) {
            // A moved blob is repaired when it is read or scrubbed.
            Some(head) if head.kind == RecordKind::Blob => {}
            Some(head) if head.kind == RecordKind::Entry => {
                let key = (head.shard, head.replica);
                let lost = head.index;
                let log = self.logs.entry(key).or_default();
                // Only entries behind the lost one are of use.
                if log.purged.is_none_or(|p| p.index() < lost) {
                    log.entries.retain(|(id, _)| id.index() > lost);
                    self.holes
                        .entry(key)
                        .and_modify(|h| *h = lost.max(*h))
                        .or_insert(lost);
                }
            }
            Some(head) => {
                self.holes.insert((head.shard, head.replica), u64::MAX);
            }
            None => self.nameless = true,
        }
    }

    /// What replica `key` may do, given the log id up to which its applied state is persisted.
    pub fn judge(&self, key: LogKey, persisted: Option<LogId>) -> Verdict {
        let Some(log) = self.logs.get(&key) else {
            // No record at all: a fresh replica, unless something unreadable may have been its.
            return match self.nameless {
                false => Verdict::Whole(Recovered::default()),
                true => Verdict::Lost,
            };
        };
        let mut log = log.clone();
        let persisted_index = persisted.map(|p| p.index());
        if let Some(hole) = self.holes.get(&key) {
            match (persisted, persisted_index) {
                (Some(persisted), Some(upto)) if *hole <= upto => purge(&mut log, persisted),
                _ => return Verdict::Lost,
            }
        }
        if self.nameless {
            // A vote could have been lost, or the newest entries.
            return Verdict::Lost;
        }
        // The log must reach from the persisted state on without a hole.
        let first = log.entries.first().map(|(id, _)| id.index());
        let base = log.purged.map(|p| p.index()).or(persisted_index);
        match (first, base) {
            (Some(first), Some(base)) if first > base + 1 => match persisted {
                Some(p) if first <= p.index() + 1 => log.purged = Some(p),
                _ => return Verdict::Lost,
            },
            _ => {}
        }
        Verdict::Whole(log)
    }
}

fn truncate(log: &mut Recovered, from: u64) {
    while log.entries.last().is_some_and(|(id, _)| id.index() >= from) {
        log.entries.pop();
    }
}

fn purge(log: &mut Recovered, upto: LogId) {
    if log.purged.is_none_or(|p| p.index() < upto.index()) {
        log.purged = Some(upto);
    }
    log.entries.retain(|(id, _)| id.index() > upto.index());
}

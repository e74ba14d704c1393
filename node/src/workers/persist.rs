//! Makes the index durable from time to time, and purges the logs behind it.
//!
//! A restart replays what was written since the last flush of the index, so the flush is due by
//! octets written as well as by time. A log is purged only up to what is applied *and durable*,
//! keeps its newest entries for followers that lag, but lets go of old segments, which could not be
//! compacted while an entry pins them.
//!
//! An entry that was found to be unreadable is purged as soon as it is applied and durable, with
//! those in a row behind it, and whoever needs them gets a snapshot. One that is not applied takes
//! its replica with it.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::journal::Journal;
use crate::raft::Shard;
use crate::raft::groups::Groups;

/// Newest segments whose entries are kept, as far as `keep_entries` allows.
pub const KEEP_SEGMENTS: u64 = 4;

/// When the index is flushed, and what the logs keep.
#[derive(Debug, Clone, Copy)]
pub struct PersistSettings {
    /// Octets of journal between flushes.
    pub flush_bytes: u64,
    /// Time between flushes.
    pub flush_every: Duration,
    /// Entries kept in each log.
    pub keep_entries: u64,
}

/// Flushes and purges.
pub struct Persist {
    groups: Arc<Groups>,
    settings: PersistSettings,
    last: Mutex<(Instant, u64)>,
}

impl Persist {
    /// Over these replicas.
    pub fn new(groups: Arc<Groups>, settings: PersistSettings) -> Persist {
        let written = groups.journal().stats().bytes_written;
        Persist {
            groups,
            settings,
            last: Mutex::new((Instant::now(), written)),
        }
    }

    /// Ends the replicas that have lost what they have not applied; flushes if it is due.
    pub async fn turn(&self) -> anyhow::Result<Option<String>> {
        let given_up = self.give_up().await?;
        if given_up > 0 {
            return Ok(Some(format!(
                "{given_up} replicas could not read what they had not applied"
            )));
        }
        let written = self.groups.journal().stats().bytes_written;
        let (at, bytes) = *self.last.lock().await;
        let due = written - bytes >= self.settings.flush_bytes
            || at.elapsed() >= self.settings.flush_every && written > bytes
            || self.groups.shards().all().iter().any(|s| unreadable(s));
        match due {
            false => Ok(None),
            true => self.flush().await.map(Some),
        }
    }

    /// Gives up the replicas whose logs hold an entry that cannot be read and is not applied. Says
    /// how many.
    async fn give_up(&self) -> anyhow::Result<usize> {
        let applied = |shard: &Shard| shard.replicated.applied.borrow().map(|a| a.index());
        let mut given_up = 0;
        for shard in self.groups.shards().all() {
            let found = shard.log.unreadable_after(applied(&shard)).await;
            // Applied meanwhile, out of memory; or a snapshot has come.
            let Some(index) = found.filter(|index| applied(&shard) < Some(*index)) else {
                continue;
            };
            given_up += usize::from(self.groups.give_up(&shard, index).await?);
        }
        Ok(given_up)
    }

    /// Flushes now.
    pub async fn flush(&self) -> anyhow::Result<String> {
        let mut last = self.last.lock().await;
        let started = Instant::now();
        let written = self.groups.journal().stats().bytes_written;
        let shards = self.groups.shards().all();
        let applied: Vec<_> = shards
            .iter()
            .map(|s| *s.replicated.applied.borrow())
            .collect();
        self.groups.index().flush().await?;
        for (shard, applied) in shards.iter().zip(applied) {
            shard.replicated.persisted.send_if_modified(|p| {
                let newer = applied > *p;
                *p = applied.max(*p);
                newer
            });
        }
        *last = (Instant::now(), written);
        drop(last);
        let mut purged = 0;
        for shard in &shards {
            purged += self.purge(shard).await?;
        }
        Ok(format!(
            "index flushed in {} ms, {purged} entries purged",
            started.elapsed().as_millis()
        ))
    }

    async fn purge(&self, shard: &Shard) -> anyhow::Result<u64> {
        let Some(persisted) = *shard.replicated.persisted.borrow() else {
            return Ok(0);
        };
        let (first, next) = shard.log.range();
        let missing = match shard.log.missing() {
            Some(index) => Some(shard.log.unreadable_run(index, persisted.index()).await),
            None => None,
        };
        let upto = purge_upto(
            persisted.index(),
            first,
            next,
            self.settings.keep_entries,
            old_segment(self.groups.journal())
                .and_then(|s| shard.log.last_before(s))
                .max(missing),
        );
        let Some(upto) = upto else { return Ok(0) };
        shard.raft.trigger().snapshot().await?;
        let mut metrics = shard.raft.metrics();
        let covered = async {
            while metrics
                .borrow_watched()
                .snapshot
                .is_none_or(|s| s.index() < upto)
            {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), covered).await;
        shard.raft.trigger().purge_log(upto).await?;
        Ok(upto + 1 - first)
    }
}

/// Whether a log holds an entry that cannot be read and can be purged: a follower that needs it
/// then gets a snapshot.
fn unreadable(shard: &Shard) -> bool {
    let applied = shard.replicated.applied.borrow().map(|a| a.index());
    let missing = shard.log.missing();
    missing.is_some() && missing <= applied
}

/// The first of the segments whose entries may stay.
fn old_segment(journal: &Journal) -> Option<u64> {
    let newest = journal.segments().last()?.number;
    newest.checked_sub(KEEP_SEGMENTS)
}

/// Up to which index to purge: never past `persisted`; at least what lies in old segments, else what
/// is more than `keep` behind, once that is worth a record.
fn purge_upto(persisted: u64, first: u64, next: u64, keep: u64, old: Option<u64>) -> Option<u64> {
    let surplus = next
        .saturating_sub(keep)
        .checked_sub(1)
        .filter(|u| *u >= first + keep / 4);
    let upto = surplus.max(old)?.min(persisted);
    (upto >= first && next > first).then_some(upto)
}

#[cfg(test)]
mod tests {
    use super::purge_upto;

    #[test]
    fn purges_only_what_is_durable_and_worth_it() {
        assert_eq!(purge_upto(900, 0, 1000, 100, None), Some(899));
        assert_eq!(
            purge_upto(500, 0, 1000, 100, None),
            Some(500),
            "never past the durable state"
        );
        assert_eq!(purge_upto(90, 0, 100, 100, None), None, "keeps the newest");
        assert_eq!(
            purge_upto(90, 0, 100, 100, Some(40)),
            Some(40),
            "but lets go of old segments"
        );
        assert_eq!(
            purge_upto(10, 20, 100, 10, Some(40)),
            None,
            "nothing durable to purge"
        );
        assert_eq!(purge_upto(10, 11, 11, 10, None), None, "an empty log");
    }
}

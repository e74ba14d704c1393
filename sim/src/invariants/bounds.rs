//! Nothing grows without bound: tasks of a process, entries of a log, octets of the journal.
//! What is unbounded under a failure is how a store dies of its own recovery (metastable failures,
//! Bronson et al. 2021).

use super::Findings;
use crate::run::look::Replica;

/// Name in reports.
pub const NAME: &str = "bounds";

/// Tasks of one process. Each call of a client and each stream of a peer has a few.
const TASKS: usize = 4_000;
/// Entries of a log beyond those that are kept for followers: what is not yet flushed.
const ENTRIES: u64 = 20_000;

/// Looks at one process.
pub fn process(node: u32, tasks: usize, found: &mut Findings) {
    if tasks > TASKS {
        found.report(
            NAME,
            Some(node),
            format!("{tasks} tasks are alive, more than {TASKS}"),
        );
    }
}

/// Looks at one replica.
pub fn replica(r: &Replica, keep_entries: u64, found: &mut Findings) {
    let held = r.last.map_or(0, |l| l.index)
        - r.purged
            .map_or(0, |l| l.index)
            .min(r.last.map_or(0, |l| l.index));
    if held > keep_entries + ENTRIES {
        let what = format!(
            "the log of shard {} holds {held} entries, and should keep {keep_entries}",
            r.shard
        );
        found.report(NAME, Some(r.node), what);
    }
}

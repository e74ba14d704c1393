//! Invariant 8: nothing grows without bound: tasks of a process, octets in memory, entries of a
//! log, octets of the journal. What is unbounded under a failure is how a store dies of its own
//! recovery (metastable failures, Bronson et al. 2021).
//!
//! There are bounds of two kinds. Some hold at any moment and under every fault ([`Bounds`]): what
//! a cache may hold is a setting. Others a fault rightly holds up: as long as a disk stands still,
//! nothing can be flushed, so no entry can be purged and no segment be freed. Those hold once
//! nothing is under way any more ([`entries`], [`segments`], [`under_way`]), and follow from what
//! the workers of the node say that they leave.

use std::collections::BTreeMap;

use posthouse_node::journal::SegmentInfo;
use posthouse_node::mailbox::Held;
use posthouse_node::mailbox::limits::Limits;
use posthouse_node::workers::persist::KEEP_SEGMENTS;

use super::Findings;
use crate::plan::Plan;
use crate::run::look::Replica;

/// Name in reports.
pub const NAME: &str = "bounds";

/// Entries of a log beyond those that are kept for followers, at any moment: what is not flushed yet
/// or cannot be. A run makes some hundreds.
const ENTRIES: u64 = 2_000;

/// What holds at any moment.
pub struct Bounds {
    tasks: usize,
    entries: u64,
    entry_cache_bytes: u64,
    row_cache_bytes: u64,
    search_bytes: u64,
    /// The most that was seen of each.
    pub peaks: BTreeMap<String, u64>,
}

impl Bounds {
    /// Those of a plan's settings.
    pub fn new(plan: &Plan) -> Bounds {
        let limits = Limits::default();
        Bounds {
            tasks: tasks(plan),
            entries: plan.settings.keep_entries + ENTRIES,
            entry_cache_bytes: plan.settings.entry_cache_bytes,
            row_cache_bytes: plan.settings.row_cache_bytes,
            search_bytes: limits.search_memory_bytes as u64,
            peaks: BTreeMap::new(),
        }
    }

    /// Looks at one process.
    pub fn process(&mut self, node: u32, tasks: usize, found: &mut Findings) {
        let limit = self.tasks as u64;
        self.judge(node, "tasks alive", tasks as u64, limit, found);
    }

    /// Looks at what one process holds in memory and in files.
    pub fn node(&mut self, node: u32, held: &Held, journal_bytes: u64, found: &mut Findings) {
        let (rows, searches) = (held.row_bytes as u64, held.search_bytes as u64);
        self.judge(
            node,
            "octets of rows kept",
            rows,
            self.row_cache_bytes,
            found,
        );
        let limit = self.search_bytes;
        self.judge(node, "octets of searches kept", searches, limit, found);
        self.peak("octets of a journal", journal_bytes);
    }

    /// Looks at one replica, whose log holds so many entries, and so many octets of those that are
    /// synced in memory.
    pub fn replica(&mut self, r: &Replica, entries: u64, cached: u64, found: &mut Findings) {
        let (entry_limit, cache_limit) = (self.entries, self.entry_cache_bytes);
        self.judge(r.node, "entries of a log", entries, entry_limit, found);
        let what = "octets of synced entries in memory";
        self.judge(r.node, what, cached, cache_limit, found);
    }

    fn judge(&mut self, node: u32, what: &str, n: u64, limit: u64, found: &mut Findings) {
        self.peak(what, n);
        if n > limit {
            found.report(NAME, Some(node), format!("{n} {what}, more than {limit}"));
        }
    }

    fn peak(&mut self, what: &str, n: u64) {
        match self.peaks.get_mut(what) {
            Some(known) => *known = n.max(*known),
            None => drop(self.peaks.insert(what.to_owned(), n)),
        }
    }
}

/// Tasks of one process: some for each replica that it may hold and for each connection to the
/// others, and some for each call, all of which may be under way at once. And while a disk stands
/// still, what other nodes ask waits for it: some tens a second, for up to a minute.
fn tasks(plan: &Plan) -> usize {
    let groups = plan.shards as usize + 1;
    2_000 + 20 * plan.nodes.len() * groups + 4 * plan.ops.len()
}

/// What a log holds at rest: the entries that are kept for followers, and a quarter more, since it
/// is not purged for less (`workers::persist`).
pub fn entries(held: u64, keep_entries: u64) -> Option<String> {
    let limit = keep_entries + keep_entries / 4;
    let what = || format!("its log holds {held} entries, more than {limit}");
    (held > limit).then(what)
}

/// What is left of the journal at rest, where location rows refer to so many octets of each
/// segment: a log lets go of segments that are older than the newest ones, and what neither a log
/// nor a row needs is given back.
pub fn segments(segments: &[SegmentInfo], live: &BTreeMap<u64, i64>) -> Vec<(u64, String)> {
    let newest = segments.last().map_or(0, |s| s.number);
    let kept = newest.saturating_sub(KEEP_SEGMENTS);
    let needless = segments.iter().filter_map(|s| {
        let refers = live.get(&s.number).is_some_and(|octets| *octets != 0);
        let what = match s.pins > 0 {
            true if s.number < kept => format!(
                "segment {} is held for {} entries of logs, and the newest is {newest}",
                s.number, s.pins
            ),
            false if s.sealed && s.number != newest && !refers => format!(
                "segment {} with {} octets is not given back, though nothing needs it",
                s.number, s.bytes
            ),
            _ => return None,
        };
        Some((s.number, what))
    });
    needless.collect()
}

/// Octets under way at rest: none. A place in a window that is not given back is one less for ever.
pub fn under_way(what: &str, octets: usize) -> Option<String> {
    (octets > 0).then(|| format!("{octets} octets of {what} are under way, and nobody waits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u64, sealed: bool, pins: i64) -> SegmentInfo {
        SegmentInfo {
            number,
            bytes: 1000,
            sealed,
            pins,
            created_ms: 0,
        }
    }

    #[test]
    fn segments_are_needed_by_rows_or_by_the_newest_entries() {
        let live = BTreeMap::from([(1, 10), (2, 0)]);
        let of = |all: &[(u64, bool, i64)]| {
            let all: Vec<SegmentInfo> = all.iter().map(|s| segment(s.0, s.1, s.2)).collect();
            let needless = segments(&all, &live).into_iter();
            needless.map(|(number, _)| number).collect::<Vec<u64>>()
        };
        assert!(of(&[]).is_empty());
        // Live octets, entries of a log, and the newest.
        assert!(of(&[(1, true, 0), (7, true, 1), (8, true, 0)]).is_empty());
        assert_eq!(of(&[(2, true, 0), (3, true, 0), (8, false, 0)]), [2, 3]);
        // Not complete yet.
        assert!(of(&[(3, false, 0), (8, false, 0)]).is_empty());
        assert_eq!(of(&[(3, true, 1), (4, true, 1), (8, false, 0)]), [3]);
    }

    #[test]
    fn a_log_is_not_purged_for_a_few_entries() {
        assert_eq!(entries(40, 32), None);
        assert!(entries(41, 32).is_some());
        assert_eq!(entries(1, 1), None);
        assert!(entries(2, 1).is_some());
    }

    #[test]
    fn more_than_a_bound_is_told_with_both_numbers() {
        let plan = crate::plan::generate::generate(1, &Default::default());
        let mut bounds = Bounds::new(&plan);
        let mut found = Findings::default();
        bounds.process(0, 10, &mut found);
        assert!(found.violations.is_empty());
        let limit = bounds.tasks;
        bounds.process(0, limit + 1, &mut found);
        let what = &found.violations[0].what;
        assert!(what.contains(&limit.to_string()), "{what}");
        assert_eq!(bounds.peaks["tasks alive"], limit as u64 + 1);
    }
}

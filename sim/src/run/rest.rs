//! What faults and calls have held up is given back once nothing is under way: entries of logs,
//! segments of the journal, room in windows.

use std::collections::BTreeMap;

use posthouse_node::machine::audit;
use posthouse_node::workers::refs;

use super::phases::Run;
use crate::invariants::bounds;

/// Time for flushing, purging and compaction, which go in turns, ms; more where their settings ask
/// for more.
const REST_MS: u64 = 60_000;
/// How often it is looked whether they have ended, ms.
const LOOK_MS: u64 = 200;
/// What turns of workers take longer than they are apart, ms.
const SLACK_MS: u64 = 1_000;

/// What can be held for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Entries of a shard.
    Log(u32),
    /// Room in a shard's window.
    Window(u32),
    /// Room in the node's windows.
    Mail,
    /// A space of the index.
    Space(u32),
    /// A segment of the journal.
    Segment(u64),
    /// Nobody can tell.
    Index,
}

/// By node.
type Needless = BTreeMap<(u32, Part), String>;

impl Run {
    /// Nobody calls any more: within a while nothing is held that nobody needs. Where compaction is
    /// never done, since small mail fills no segment as full as its setting asks, there is always some
    /// segment that it is about to give back; so it is enough that each has its turn.
    pub(super) fn rest(&mut self) {
        let settings = &self.cluster.plan.settings;
        let since_ms = self.cluster.now_ms();
        let settled_ms = since_ms + settings.flush_ms + settings.compaction_every_ms + SLACK_MS;
        let rest_ms = REST_MS.max(settled_ms - since_ms + SLACK_MS);
        let mut next_ms = since_ms;
        let mut left: Option<Needless> = None;
        self.go_on(None, rest_ms, |run| {
            let now = run.cluster.now_ms();
            if now < next_ms {
                return false;
            }
            next_ms = now + LOOK_MS;
            let mut seen = run.needless();
            if let Some(before) = &left {
                seen.retain(|part, _| before.contains_key(part));
            }
            let rests = seen.is_empty();
            left = Some(seen).filter(|_| rests || now >= settled_ms);
            rests
        });
        self.waited("nothing needless is left", since_ms);
        for ((node, _), what) in left.unwrap_or_default() {
            let what = format!("{rest_ms} ms after the last call, {what}");
            self.violated(bounds::NAME, Some(node), what);
        }
    }

    fn needless(&self) -> Needless {
        let mut found = Needless::new();
        let keep = self.cluster.plan.settings.keep_entries;
        self.cluster.for_each_replica(|r, shard| {
            let (first, next) = shard.log.range();
            let entries = bounds::entries(next - first, keep);
            let proposals = bounds::under_way("proposals", shard.proposed_bytes());
            for (part, what) in [
                (Part::Log(r.shard), entries),
                (Part::Window(r.shard), proposals),
            ] {
                let what = what.map(|what| format!("shard {}: {what}", r.shard));
                found.extend(what.map(|what| ((r.node, part), what)));
            }
        });
        for n in self.present() {
            let parts = self.needless_of(n).into_iter();
            found.extend(parts.map(|(part, what)| ((n, part), what)));
        }
        found
    }

    fn needless_of(&self, n: u32) -> Vec<(Part, String)> {
        let Some(running) = self.cluster.nodes[n as usize].running() else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let held = running.ops.held();
        let octets = held.incoming_bytes + held.outgoing_bytes;
        found.extend(bounds::under_way("mail", octets).map(|what| (Part::Mail, what)));
        let view = running.groups.index().view();
        let (Ok(all), Ok(owned)) = (audit::all_live_bytes(&*view), refs::owned_spaces(&*view))
        else {
            found.push((Part::Index, "its index cannot be read".into()));
            return found;
        };
        let mut live = BTreeMap::new();
        for ((space, segment), octets) in all {
            *live.entry(segment).or_default() += octets;
            if !owned.contains_key(&space) {
                let what = format!("rows of space {}, which is no shard's, are left", space.0);
                found.push((Part::Space(space.0), what));
            }
        }
        let segments = bounds::segments(&running.groups.journal().segments(), &live).into_iter();
        found.extend(segments.map(|(number, what)| (Part::Segment(number), what)));
        found
    }
}

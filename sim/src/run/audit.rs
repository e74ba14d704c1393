//! What every node holds is read and compared, once all is whole and nothing is under way.

use std::collections::BTreeMap;
use std::time::Duration;

use posthouse_client::Target;
use posthouse_client::proto::ScrubResponse;
use posthouse_node::index::View;
use posthouse_node::machine::{audit, local};

use super::look;
use super::phases::{LIVENESS, Run};
use crate::invariants::{blobs, replicas};
use crate::world::HostId;

impl Run {
    /// Every replica passes its audit and has the same state as the others.
    pub(super) fn audit(&mut self) {
        let mut states: BTreeMap<u32, (u32, u64, [u8; 32])> = BTreeMap::new();
        let mut problems = Vec::new();
        self.cluster.for_each_replica(|r, shard| {
            match shard.local_view() {
                Ok(rows) => match audit::problems(&*rows.view, rows.space) {
                    Ok(found) => problems.extend(
                        found
                            .into_iter()
                            .map(|p| (r.node, format!("shard {}: {p}", r.shard))),
                    ),
                    Err(e) => problems.push((r.node, format!("shard {}: {e}", r.shard))),
                },
                Err(e) => problems.push((r.node, format!("shard {}: {e}", r.shard))),
            }
            if let Some((applied, hash)) = look::state(shard) {
                let (first, at, known) = *states.entry(r.shard).or_insert((r.node, applied, hash));
                if at == applied && known != hash {
                    problems.push((
                        r.node,
                        format!(
                            "shard {} at entry {applied} differs from node{first}'s",
                            r.shard
                        ),
                    ));
                }
            }
        });
        for n in self.present() {
            let node = &self.cluster.nodes[n as usize];
            let index = node.running().map(|r| r.groups.index().view());
            let what = index.and_then(|view| live_octets(&*view));
            problems.extend(what.map(|what| (n, what)));
        }
        for (node, what) in problems {
            self.violated(replicas::NAME, Some(node), what);
        }
    }

    /// Every blob is whole on every node.
    pub(super) fn blobs(&mut self) {
        let mut slots = Vec::new();
        for n in self.present() {
            let node = &self.cluster.nodes[n as usize];
            let (host, Some(running)) = (node.host, node.running()) else {
                continue;
            };
            let slot = self.cluster.spawn_on(host, blobs::verify(running));
            slots.extend(slot.map(|slot| (n, slot)));
        }
        self.go_on(None, 60_000, |_| {
            slots.iter().all(|(_, s)| s.lock().is_some())
        });
        for (n, slot) in slots {
            let result = slot.lock().take();
            for what in result.unwrap_or_else(|| vec!["they cannot be read".into()]) {
                self.violated(blobs::NAME, Some(n), what);
            }
        }
    }

    /// Every record and every row is read and verified, on every node. What each node answered.
    pub(super) fn scrub(&mut self) -> Vec<(u32, std::result::Result<ScrubResponse, String>)> {
        let mut slots = Vec::new();
        for n in self.present() {
            let client = self.cluster.client().with_deadline(Duration::from_secs(20));
            let target = Target::Addr(self.cluster.nodes[n as usize].addr());
            let slot = self.cluster.spawn_on(HostId::CLIENTS, async move {
                client.scrub(&target).await.map_err(|e| e.to_string())
            });
            slots.extend(slot.map(|slot| (n, slot)));
        }
        self.go_on(None, 60_000, |_| {
            slots.iter().all(|(_, s)| s.lock().is_some())
        });
        let unanswered = || Err("it does not end".to_owned());
        let answers = slots
            .into_iter()
            .map(|(n, slot)| (n, slot.lock().take().unwrap_or_else(unanswered)));
        answers.collect()
    }

    /// A second round finds nothing that the first did not mend.
    pub(super) fn scrubbed_clean(&mut self) {
        for (n, answer) in self.scrub() {
            match answer {
                Ok(done) if done.damaged == done.repaired => {}
                Ok(done) => {
                    let what = format!(
                        "{} records stay damaged of {} found",
                        done.damaged - done.repaired,
                        done.damaged
                    );
                    self.violated(replicas::NAME, Some(n), what);
                }
                Err(e) => self.violated(LIVENESS, Some(n), format!("its scrub failed: {e}")),
            }
        }
    }
}

/// Where the counters of live octets say something else than the rows, in one view of an index.
/// Compaction goes by them: a segment of which they count too much is never emptied.
fn live_octets(view: &dyn View) -> Option<String> {
    let counted = audit::all_live_bytes(view).and_then(|all| {
        let mut live: BTreeMap<u64, i64> = BTreeMap::new();
        for ((_, segment), octets) in all {
            *live.entry(segment).or_default() += octets;
        }
        Ok((local::live_bytes(view)?, live))
    });
    let (mut kept, mut counted) = match counted {
        Ok(both) => both,
        Err(e) => return Some(format!("live octets cannot be read: {e}")),
    };
    kept.retain(|_, octets| *octets != 0);
    counted.retain(|_, octets| *octets != 0);
    (kept != counted)
        .then(|| format!("live octets of segments are kept as {kept:?} and counted as {counted:?}"))
}

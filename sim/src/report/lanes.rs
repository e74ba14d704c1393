//! Events of a run put together to lives and roles, each with its beginning and its end.

use std::collections::{BTreeMap, BTreeSet};

use crate::outcome::{Event, EventKind, Outcome};

/// Something that lasted.
#[derive(Debug, Clone, PartialEq)]
pub struct Span<T> {
    /// When it began, ms.
    pub from_ms: u64,
    /// When it ended, ms; the end of the run when it did not.
    pub to_ms: u64,
    /// What it was.
    pub what: T,
}

/// A replica's role.
#[derive(Debug, Clone, PartialEq)]
pub struct Role {
    /// `leader`, `follower`, `candidate`, `learner`.
    pub name: String,
    /// Term.
    pub term: u64,
}

/// What one node did.
#[derive(Debug, Clone, Default)]
pub struct Lane {
    /// Lives of its process, by incarnation.
    pub lives: Vec<Span<u32>>,
    /// When it died, stopped or gave up, and why.
    pub ends: Vec<(u64, String)>,
    /// Roles by shard.
    pub roles: BTreeMap<u32, Vec<Span<Role>>>,
}

impl Lane {
    /// Whether it lives at a time.
    pub fn is_alive(&self, at_ms: u64) -> bool {
        covering(&self.lives, at_ms).is_some()
    }

    /// Its role in a shard at a time.
    pub fn role(&self, shard: u32, at_ms: u64) -> Option<&Role> {
        covering(self.roles.get(&shard)?, at_ms)
    }
}

fn covering<T>(spans: &[Span<T>], at_ms: u64) -> Option<&T> {
    // Spans of a lane follow one another.
    let next = spans.partition_point(|s| s.from_ms <= at_ms);
    let span = spans.get(next.checked_sub(1)?)?;
    (at_ms < span.to_ms).then_some(&span.what)
}

/// The lanes of a run.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// By node.
    pub nodes: BTreeMap<u32, Lane>,
    /// All shards that have a role anywhere.
    pub shards: BTreeSet<u32>,
    /// The end of the run, ms.
    pub end_ms: u64,
}

/// When everything has ended, ms.
pub fn end_of(outcome: &Outcome) -> u64 {
    let seen = outcome.events.iter().map(|e| e.at_ms).max().unwrap_or(0);
    let violated = outcome.violations.iter().map(|v| v.at_ms).max();
    outcome
        .stats
        .simulated_ms
        .max(seen)
        .max(violated.unwrap_or(0))
        .max(1)
}

/// Puts the events together.
pub fn lanes(outcome: &Outcome) -> Lanes {
    let end_ms = end_of(outcome);
    let mut lanes = Lanes {
        nodes: (0..outcome.plan.nodes.len() as u32)
            .map(|n| (n, Lane::default()))
            .collect(),
        shards: BTreeSet::new(),
        end_ms,
    };
    let mut events: Vec<&Event> = outcome.events.iter().collect();
    // Calls are listed when they end, faults when they begin: not all sources are in order.
    events.sort_by_key(|e| e.at_ms);
    for event in events {
        let (Some(node), at_ms) = (event.node, event.at_ms) else {
            continue;
        };
        let lane = lanes.nodes.entry(node).or_default();
        match &event.kind {
            EventKind::Started { incarnation } => {
                close(&mut lane.lives, at_ms, end_ms);
                lane.lives.push(Span {
                    from_ms: at_ms,
                    to_ms: end_ms + 1,
                    what: *incarnation,
                });
            }
            EventKind::Ended { why } => {
                close(&mut lane.lives, at_ms, end_ms);
                lane.ends.push((at_ms, why.clone()));
                for roles in lane.roles.values_mut() {
                    close(roles, at_ms, end_ms);
                }
            }
            EventKind::Role { shard, role, term } => {
                lanes.shards.insert(*shard);
                let roles = lane.roles.entry(*shard).or_default();
                close(roles, at_ms, end_ms);
                roles.push(Span {
                    from_ms: at_ms,
                    to_ms: end_ms + 1,
                    what: Role {
                        name: role.clone(),
                        term: *term,
                    },
                });
            }
            _ => {}
        }
    }
    lanes
}

/// Ends the last span, if it still lasts.
fn close<T>(spans: &mut [Span<T>], at_ms: u64, end_ms: u64) {
    if let Some(last) = spans.last_mut().filter(|s| s.to_ms > end_ms) {
        last.to_ms = at_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::sample;
    use super::*;

    #[test]
    fn lives_and_roles_have_ends() {
        let lanes = lanes(&sample());
        let node = &lanes.nodes[&1];
        assert_eq!(node.lives.len(), 2);
        assert!(node.is_alive(1000) && !node.is_alive(6000) && node.is_alive(9000));
        assert_eq!(node.role(1, 3000).unwrap().name, "leader");
        assert!(node.role(1, 6000).is_none());
        assert!(node.role(1, lanes.end_ms).is_some());
        assert_eq!(lanes.shards.len(), 3);
    }
}

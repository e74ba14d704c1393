//! Named disasters: the questions that operators ask before they choose a topology, a version or a
//! setting.
//!
//! A scenario is a function from a seed to a plan: what it is about is fixed, the rest (workload,
//! moments, places) is drawn, so that it can be run with many seeds, written to a file and edited.
//!
//! - [`stops`]: nodes and zones that go away. [`links`]: the network. [`disks`]: what disks do.
//!   [`shapes`]: clusters and workloads of unusual size, clocks.

mod disks;
mod links;
mod shapes;
mod stops;

use crate::plan::generate::{Choice, generate};
use crate::plan::{Fault, FaultKind, Plan, Transport};
use crate::stream::{Stream, stream};

/// A named disaster.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// Its plan for a seed.
    pub plan: fn(u64) -> Plan,
}

/// All of them, by name.
pub fn all() -> &'static [Scenario] {
    &ALL
}

const ALL: [Scenario; 22] = [
    Scenario {
        name: "clock-chaos",
        about: "wall clocks jump, freeze and drift on every node at once",
        plan: shapes::clock_chaos,
    },
    Scenario {
        name: "copied-directory",
        about: "an operator starts a copy of a node's directory on another machine",
        plan: disks::copied_directory,
    },
    Scenario {
        name: "disk-full-everywhere",
        about: "all disks fill up at once and are emptied again",
        plan: disks::disk_full_everywhere,
    },
    Scenario {
        name: "flapping-link",
        about: "the links of one node fail and come back twice a second",
        plan: links::flapping_link,
    },
    Scenario {
        name: "growing-cluster",
        about: "nodes join one after the other, two of them at once, under load",
        plan: shapes::growing_cluster,
    },
    Scenario {
        name: "hundred-shards",
        about: "a hundred shards on three nodes, and the one that leads most of them dies",
        plan: shapes::hundred_shards,
    },
    Scenario {
        name: "large-messages",
        about: "messages of up to 20 MB while leaders die in the middle of them",
        plan: shapes::large_messages,
    },
    Scenario {
        name: "leader-hunt",
        about: "one node after the other dies, as soon as it may lead again",
        plan: stops::leader_hunt,
    },
    Scenario {
        name: "lost-disks",
        about: "a disk is lost, a new node joins, then another disk is lost, with five replicas",
        plan: disks::lost_disks,
    },
    Scenario {
        name: "nine-nodes-five-replicas",
        about: "nine nodes in three zones with five replicas; a zone and a node go away",
        plan: shapes::nine_nodes_five_replicas,
    },
    Scenario {
        name: "old-image",
        about: "a node is restored from an image of its disk that is some seconds old",
        plan: disks::old_image,
    },
    Scenario {
        name: "old-image-cut-off",
        about: "that node starts where it reaches nobody who could tell it what it has forgotten",
        plan: disks::old_image_cut_off,
    },
    Scenario {
        name: "one-node",
        about: "a cluster of one loses power again and again",
        plan: shapes::one_node,
    },
    Scenario {
        name: "one-way-mirror",
        about: "a node hears everyone and is heard by nobody",
        plan: links::one_way_mirror,
    },
    Scenario {
        name: "power-cut-everywhere",
        about: "the whole data centre loses power three times",
        plan: stops::power_cut_everywhere,
    },
    Scenario {
        name: "retry-storm",
        about: "clients repeat every call many times while connections break",
        plan: links::retry_storm,
    },
    Scenario {
        name: "rolling-restart",
        about: "each node is stopped and started in turn",
        plan: stops::rolling_restart,
    },
    Scenario {
        name: "rot-everywhere",
        about: "sectors rot on all nodes, one node after the other",
        plan: disks::rot_everywhere,
    },
    Scenario {
        name: "slow-follower",
        about: "one disk is twenty times slower than the others, then stalls",
        plan: disks::slow_follower,
    },
    Scenario {
        name: "split-brain",
        about: "the cluster is cut in two, in three, and along another line before it has healed",
        plan: links::split_brain,
    },
    Scenario {
        name: "upgrade-under-load",
        about: "two rounds of restarts without a pause under a full load, leaders moved away first",
        plan: stops::upgrade_under_load,
    },
    Scenario {
        name: "zone-loss",
        about: "a whole zone loses power and comes back",
        plan: stops::zone_loss,
    },
];

/// The cluster and the workload of a scenario, before anything goes wrong.
struct Base {
    title: &'static str,
    seed: u64,
    nodes: u32,
    zones: u32,
    shards: u32,
    replication: u32,
    duration_ms: u64,
    ops: u32,
}

impl Base {
    /// Five nodes in three zones, three shards with three replicas, 15 s.
    fn usual(title: &'static str, seed: u64) -> Base {
        Base {
            title,
            seed,
            nodes: 5,
            zones: 3,
            shards: 3,
            replication: 3,
            duration_ms: 15_000,
            ops: 150,
        }
    }

    fn plan(self) -> Plan {
        let choice = Choice {
            nodes: Some(self.nodes),
            zones: Some(self.zones),
            shards: Some(self.shards),
            replication: Some(self.replication),
            transport: Some(Transport::Message),
            duration_ms: Some(self.duration_ms),
            faults: Some(false),
            ops: Some(self.ops),
            shipped: Some(true),
            title: Some(self.title.into()),
            ..Choice::default()
        };
        generate(self.seed, &choice)
    }
}

/// Where a scenario draws from.
fn draws(plan: &Plan) -> Stream {
    stream(plan.seed, &plan.title, 0)
}

/// Lets it go wrong at these times.
fn strike(plan: &mut Plan, faults: impl IntoIterator<Item = (u64, FaultKind)>) {
    let faults = faults
        .into_iter()
        .map(|(at_ms, kind)| Fault { at_ms, kind });
    plan.faults.extend(faults);
    plan.faults.sort_by_key(|f| f.at_ms);
}

/// The nodes of a zone.
fn zone(plan: &Plan, zone: u32) -> Vec<u32> {
    let nodes = plan.nodes.iter().zip(0..);
    nodes
        .filter(|(n, _)| n.zone == zone)
        .map(|(_, i)| i)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_scenario_gives_plans_that_can_be_run() {
        for scenario in all() {
            for seed in 0..100 {
                let plan = (scenario.plan)(seed);
                plan.check()
                    .unwrap_or_else(|e| panic!("{} {seed}: {e}", scenario.name));
                assert_eq!(plan, (scenario.plan)(seed));
                assert!(!plan.faults.is_empty() && !plan.ops.is_empty());
                assert_eq!(plan.title, scenario.name);
            }
            let plan = (scenario.plan)(1);
            let text = plan.to_toml();
            assert_eq!(Plan::parse(&text, Path::new("x")).unwrap(), plan);
        }
    }

    #[test]
    fn names_are_sorted_and_short_lines_say_what_happens() {
        assert!(all().is_sorted_by(|a, b| a.name < b.name));
        assert!(all().iter().all(|s| (20..=90).contains(&s.about.len())));
    }
}

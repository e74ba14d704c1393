//! Clusters and workloads of unusual size, and clocks that nobody can trust.

use rand::RngExt;

use super::{Base, draws, strike, zone};
use crate::plan::{CrashPoint, FaultKind, OpKind, Plan};

/// No peer to repair from, no majority to wait for: only the journal.
pub fn one_node(seed: u64) -> Plan {
    let mut base = Base::usual("one-node", seed);
    (base.nodes, base.zones, base.replication, base.shards) = (1, 1, 1, 2);
    let mut plan = base.plan();
    let rng = &mut draws(&plan);
    let faults: Vec<_> = (0..6u64)
        .map(|turn| {
            let n = rng.random_range(1..20);
            let point = match turn % 3 {
                0 => CrashPoint::Now,
                1 => CrashPoint::Write { n },
                _ => CrashPoint::Sync { n },
            };
            let kind = FaultKind::Crash {
                node: 0,
                point,
                power: true,
                down_ms: rng.random_range(100..800),
            };
            (1000 + turn * 2200, kind)
        })
        .collect();
    strike(&mut plan, faults);
    plan
}

/// Five replicas bear the loss of a zone and, in the nick of time, of one more node.
pub fn nine_nodes_five_replicas(seed: u64) -> Plan {
    let mut base = Base::usual("nine-nodes-five-replicas", seed);
    (base.nodes, base.replication, base.shards) = (9, 5, 4);
    let mut plan = base.plan();
    let rng = &mut draws(&plan);
    let gone = rng.random_range(0..3);
    let nodes = zone(&plan, gone);
    let down_ms = rng.random_range(4000..8000);
    let at_ms = rng.random_range(1000..4000);
    let others = zone(&plan, (gone + 1) % 3);
    let pause = FaultKind::Pause {
        node: others[rng.random_range(0..others.len())],
        ms: 2500,
    };
    strike(
        &mut plan,
        [
            (at_ms, FaultKind::PowerCut { nodes, down_ms }),
            (at_ms + 1500, pause),
        ],
    );
    plan
}

/// Many groups share journals, connections and elections.
pub fn hundred_shards(seed: u64) -> Plan {
    let mut base = Base::usual("hundred-shards", seed);
    (base.nodes, base.shards, base.duration_ms, base.ops) = (3, 100, 6000, 60);
    let mut plan = base.plan();
    let rng = &mut draws(&plan);
    let crash = FaultKind::Crash {
        node: rng.random_range(0..3),
        point: CrashPoint::Now,
        power: true,
        down_ms: 1000,
    };
    strike(&mut plan, [(2500, crash)]);
    plan
}

/// Uploads of many pieces, broken off by whatever goes away.
pub fn large_messages(seed: u64) -> Plan {
    let mut base = Base::usual("large-messages", seed);
    base.ops = 40;
    let mut plan = base.plan();
    let rng = &mut draws(&plan);
    let mut left = 48u64 << 20;
    for op in &mut plan.ops {
        let size = match &mut op.kind {
            OpKind::Deliver { size, repeat, .. } | OpKind::Append { size, repeat, .. } => {
                *repeat = 0;
                size
            }
            OpKind::Lmtp { size, .. } => size,
            _ => continue,
        };
        let large = rng.random_range(1 << 20..=20 << 20);
        if large <= left {
            left -= large;
            *size = large;
        }
    }
    let mut faults = Vec::new();
    for turn in 0..4u64 {
        let node = rng.random_range(0..5);
        let kind = match turn % 2 {
            0 => FaultKind::Crash {
                node,
                point: CrashPoint::Write {
                    n: rng.random_range(1..30),
                },
                power: true,
                down_ms: rng.random_range(200..1500),
            },
            _ => FaultKind::Pause { node, ms: 1500 },
        };
        faults.push((1500 + turn * 3000, kind));
    }
    strike(&mut plan, faults);
    plan
}

/// Every node has another time, and it changes.
pub fn clock_chaos(seed: u64) -> Plan {
    let mut plan = Base::usual("clock-chaos", seed).plan();
    let rng = &mut draws(&plan);
    let mut faults = Vec::new();
    for node in 0..5u32 {
        let ppm = match node % 2 {
            0 => 20_000,
            _ => -20_000,
        };
        let drift = FaultKind::ClockDrift {
            node,
            ppm,
            ms: 14_000,
        };
        faults.push((100, drift));
        let day = 24 * 3600 * 1000i64;
        let by_ms = rng.random_range(-day..=day);
        faults.push((
            rng.random_range(1000..12_000),
            FaultKind::ClockJump { node, by_ms },
        ));
        let ms = rng.random_range(500..5000);
        faults.push((
            rng.random_range(1000..9000),
            FaultKind::ClockFreeze { node, ms },
        ));
    }
    strike(&mut plan, faults);
    plan
}

/// Two joins under way at once, and the node that may lead the system shard dies meanwhile.
pub fn growing_cluster(seed: u64) -> Plan {
    let mut base = Base::usual("growing-cluster", seed);
    base.nodes = 3;
    let mut plan = base.plan();
    let rng = &mut draws(&plan);
    let crash = FaultKind::Crash {
        node: rng.random_range(0..3),
        point: CrashPoint::Now,
        power: true,
        down_ms: 1500,
    };
    let add = |zone| FaultKind::AddNode {
        zone,
        first_life: None,
    };
    strike(
        &mut plan,
        [
            (1000, add(0)),
            (5000, add(1)),
            (5000, add(2)),
            (rng.random_range(5050..6500), crash),
        ],
    );
    plan
}

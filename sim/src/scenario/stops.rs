//! Nodes and zones that stop, crash and lose power.

use rand::RngExt;

use super::{Base, draws, strike, zone};
use crate::plan::{CrashPoint, FaultKind, Plan};

/// A zone loses power while mail comes in.
pub fn zone_loss(seed: u64) -> Plan {
    let mut plan = Base::usual("zone-loss", seed).plan();
    let rng = &mut draws(&plan);
    let nodes = zone(&plan, rng.random_range(0..3));
    let at_ms = rng.random_range(1000..5000);
    let down_ms = rng.random_range(3000..9000);
    strike(&mut plan, [(at_ms, FaultKind::PowerCut { nodes, down_ms })]);
    plan
}

/// One node after the other, each back before the next goes.
pub fn rolling_restart(seed: u64) -> Plan {
    let mut plan = Base::usual("rolling-restart", seed).plan();
    let rng = &mut draws(&plan);
    let down_ms = rng.random_range(200..1500);
    let stops = (0..5u32).map(|node| {
        let at_ms = 500 + u64::from(node) * 2800;
        (at_ms, FaultKind::Stop { node, down_ms })
    });
    strike(&mut plan, stops);
    plan
}

/// Leaders are moved away, then the node stops and comes back with the new version; twice, and
/// without waiting for more than the process.
pub fn upgrade_under_load(seed: u64) -> Plan {
    let mut base = Base::usual("upgrade-under-load", seed);
    base.ops = 400;
    base.duration_ms = 18_000;
    let mut plan = base.plan();
    let rng = &mut draws(&plan);
    let mut faults = Vec::new();
    for turn in 0..10u32 {
        let (node, at_ms) = (turn % 5, 300 + u64::from(turn) * 1700);
        let down_ms = rng.random_range(300..900);
        faults.push((at_ms, FaultKind::MoveLeaders { node }));
        faults.push((at_ms + 400, FaultKind::Stop { node, down_ms }));
    }
    strike(&mut plan, faults);
    plan
}

/// All nodes lose what they had not synced, three times; once before they have come back whole.
pub fn power_cut_everywhere(seed: u64) -> Plan {
    let mut plan = Base::usual("power-cut-everywhere", seed).plan();
    let rng = &mut draws(&plan);
    let first = rng.random_range(1500..4000);
    let second = first + rng.random_range(100..2500);
    let third = second + rng.random_range(3000..6000);
    let cuts = [first, second, third].map(|at_ms| {
        let nodes = (0..5).collect();
        let down_ms = rng.random_range(100..1500);
        (at_ms, FaultKind::PowerCut { nodes, down_ms })
    });
    strike(&mut plan, cuts);
    plan
}

/// Nobody knows who will lead, so everyone is hunted in turn, half of them in the middle of a
/// write or a sync.
pub fn leader_hunt(seed: u64) -> Plan {
    let mut plan = Base::usual("leader-hunt", seed).plan();
    let rng = &mut draws(&plan);
    let mut faults = Vec::new();
    let mut at_ms = 800;
    for turn in 0..12u32 {
        let n = rng.random_range(1..20);
        let point = match turn % 4 {
            0 => CrashPoint::Now,
            1 => CrashPoint::Write { n },
            2 => CrashPoint::Sync { n },
            _ => CrashPoint::Send { n: n * 10 },
        };
        let kind = FaultKind::Crash {
            node: turn % 5,
            point,
            power: rng.random_bool(0.5),
            down_ms: rng.random_range(100..1200),
        };
        faults.push((at_ms, kind));
        at_ms += rng.random_range(700..1400);
    }
    faults.retain(|(at_ms, _)| *at_ms <= plan.duration_ms);
    strike(&mut plan, faults);
    plan
}

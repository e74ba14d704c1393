//! What disks do, and what operators do with them.

use std::ops::Range;

use rand::RngExt;

use super::{Base, draws, strike};
use crate::plan::draw::shuffled;
use crate::plan::{FaultKind, Plan, RotPlace};

/// All disks full within a second, for some seconds: reads go on, nothing acknowledged is lost, and
/// service comes back by itself.
pub fn disk_full_everywhere(seed: u64) -> Plan {
    let mut plan = Base::usual("disk-full-everywhere", seed).plan();
    let rng = &mut draws(&plan);
    let full: Vec<_> = (0..5u32)
        .map(|node| {
            let ms = rng.random_range(3000..6000);
            let at_ms = rng.random_range(2000..3000);
            let left = 0;
            (at_ms, FaultKind::DiskFull { node, ms, left })
        })
        .collect();
    strike(&mut plan, full);
    plan
}

/// One disk is slow for a long time and stands still in the middle of it.
pub fn slow_follower(seed: u64) -> Plan {
    let mut plan = Base::usual("slow-follower", seed).plan();
    let rng = &mut draws(&plan);
    let node = rng.random_range(0..5);
    let slow = FaultKind::DiskSlow {
        node,
        times: 20,
        ms: 13_000,
        reads_ms: 0,
    };
    let stall = FaultKind::DiskStall { node, ms: 5000 };
    strike(
        &mut plan,
        [(500, slow), (rng.random_range(3000..7000), stall)],
    );
    plan
}

/// Sectors rot on every node, but never on two at once without time to mend. The budget counts a node
/// as hurt for good and would spare all but two, so it is off: with five replicas a record is lost only
/// where three of them rot in the same place before anybody has mended one.
pub fn rot_everywhere(seed: u64) -> Plan {
    let mut base = Base::usual("rot-everywhere", seed);
    base.replication = 5;
    let mut plan = base.plan();
    plan.budget = false;
    plan.settings.scrub_every_ms = 1000;
    let rng = &mut draws(&plan);
    let order = shuffled(rng, 5);
    let rot: Vec<_> = order
        .into_iter()
        .zip(0..)
        .map(|(node, turn)| {
            let kind = FaultKind::Rot {
                node,
                sectors: rng.random_range(1..=8),
                index: turn == 2,
                place: RotPlace::Files,
            };
            (2500 + turn * 2500, kind)
        })
        .collect();
    strike(&mut plan, rot);
    plan
}

/// Two disks in a row: the second goes when a new node has joined for the first. What the lost nodes
/// held is not copied to the new ones: three of five replicas have to do.
pub fn lost_disks(seed: u64) -> Plan {
    let mut base = Base::usual("lost-disks", seed);
    base.replication = 5;
    let mut plan = base.plan();
    let rng = &mut draws(&plan);
    let order = shuffled(rng, 5);
    let lost = |node, down_ms| FaultKind::DiskLost {
        node,
        down_ms,
        first_life: None,
    };
    let first = rng.random_range(1500..3500);
    strike(
        &mut plan,
        [
            (first, lost(order[0], rng.random_range(200..1500))),
            (first + 7000, lost(order[1], rng.random_range(200..1500))),
        ],
    );
    plan
}

/// A node forgets what it has promised in the last seconds; it must not vote as if it knew.
pub fn old_image(seed: u64) -> Plan {
    restored(Base::usual("old-image", seed), 500..5000, None)
}

/// It starts in ignorance and learns only later what it has promised. Until then it might vote as
/// if it knew, so the budget, which sees to it that somebody can tell it, is off.
pub fn old_image_cut_off(seed: u64) -> Plan {
    let mut plan = restored(
        Base::usual("old-image-cut-off", seed),
        1000..5000,
        Some(1500..4000),
    );
    plan.budget = false;
    plan
}

/// One node is restored from an image of such an age, ms, and may then be cut off from the others
/// for so long, ms.
fn restored(base: Base, age_ms: Range<u64>, alone_ms: Option<Range<u64>>) -> Plan {
    let mut plan = base.plan();
    let rng = &mut draws(&plan);
    let image = FaultKind::OldImage {
        node: rng.random_range(0..5),
        age_ms: rng.random_range(age_ms),
        down_ms: rng.random_range(100..2000),
        alone_ms: alone_ms.map_or(0, |ms| rng.random_range(ms)),
    };
    strike(&mut plan, [(rng.random_range(5500..9000), image)]);
    plan
}

/// Two processes with one identity: the second must not take part.
pub fn copied_directory(seed: u64) -> Plan {
    let mut plan = Base::usual("copied-directory", seed).plan();
    let rng = &mut draws(&plan);
    let node = rng.random_range(0..5);
    let at_ms = rng.random_range(2000..5000);
    let stop = FaultKind::Stop {
        node,
        down_ms: 1500,
    };
    strike(
        &mut plan,
        [(at_ms, FaultKind::Copied { node }), (at_ms + 4000, stop)],
    );
    plan
}

//! What the network does.

use rand::RngExt;

use super::{Base, draws, strike};
use crate::plan::{FaultKind, OpKind, Plan};

/// Cut in two, then along another line before the first cut has healed, then in three.
pub fn split_brain(seed: u64) -> Plan {
    let mut plan = Base::usual("split-brain", seed).plan();
    let rng = &mut draws(&plan);
    let shift = rng.random_range(0..5u32);
    let node = |n: u32| (n + shift) % 5;
    let group = |nodes: &[u32]| nodes.iter().map(|n| node(*n)).collect::<Vec<u32>>();
    let cut = |groups: &[&[u32]], ms| FaultKind::Partition {
        groups: groups.iter().map(|g| group(g)).collect(),
        ms,
        late: None,
        clients: None,
    };
    let ms = rng.random_range(2500..4500);
    strike(
        &mut plan,
        [
            (1000, cut(&[&[0, 1], &[2, 3, 4]], ms)),
            (1000 + ms * 2 / 3, cut(&[&[0, 3, 4], &[1, 2]], ms)),
            (1000 + ms * 2, cut(&[&[0, 1], &[2, 3], &[4]], ms / 2)),
        ],
    );
    plan
}

/// The links of one node to all others, both ways, up and down like a bad cable.
pub fn flapping_link(seed: u64) -> Plan {
    let mut plan = Base::usual("flapping-link", seed).plan();
    let rng = &mut draws(&plan);
    let alone = rng.random_range(0..5u32);
    let others: Vec<u32> = (0..5).filter(|n| *n != alone).collect();
    let mut faults = Vec::new();
    for turn in 0..20u64 {
        let kind = FaultKind::Partition {
            groups: vec![vec![alone], others.clone()],
            ms: rng.random_range(100..350),
            late: None,
            clients: None,
        };
        faults.push((800 + turn * 500, kind));
    }
    strike(&mut plan, faults);
    plan
}

/// Nothing that it sends arrives; without a check it would stand for election again and again, or
/// lead without followers.
pub fn one_way_mirror(seed: u64) -> Plan {
    let mut plan = Base::usual("one-way-mirror", seed).plan();
    let rng = &mut draws(&plan);
    let from = rng.random_range(0..5u32);
    let ms = rng.random_range(4000..9000);
    let lost = (0..5).filter(|to| *to != from).map(|to| {
        (
            1500,
            FaultKind::OneWay {
                from,
                to,
                ms,
                clients: None,
            },
        )
    });
    strike(&mut plan, lost);
    plan
}

/// Every message is sent several times under its request id, through connections that break and
/// messages that come twice.
pub fn retry_storm(seed: u64) -> Plan {
    let mut base = Base::usual("retry-storm", seed);
    base.ops = 120;
    let mut plan = base.plan();
    let rng = &mut draws(&plan);
    for op in &mut plan.ops {
        if let OpKind::Deliver { repeat, size, .. } | OpKind::Append { repeat, size, .. } =
            &mut op.kind
        {
            *repeat = rng.random_range(2..=6);
            *size = (*size).min(20_000);
        }
    }
    let ms = 12_000;
    let (node, each_ms) = (rng.random_range(0..5), rng.random_range(100..400));
    let nodes = vec![node, (node + 1) % 5, (node + 3) % 5];
    strike(
        &mut plan,
        [
            (500, FaultKind::Resets { per_mille: 30, ms }),
            (500, FaultKind::Disorder { per_mille: 100, ms }),
            (4000, FaultKind::Clog { nodes, each_ms }),
            (7000, FaultKind::HalfOpen { node }),
        ],
    );
    plan
}

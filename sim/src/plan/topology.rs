//! How large the cluster is, where its nodes stand, how fast its network and its disks are.

use rand::RngExt;

use super::draw::{one_in, scaled, weighted};
use super::generate::Choice;
use super::{Disk, Network, NodePlan, Transport};
use crate::stream::stream;

/// The cluster of a run.
pub struct Shape {
    /// The nodes.
    pub nodes: Vec<NodePlan>,
    /// Data shards.
    pub shards: u32,
    /// Replicas that a shard should have.
    pub replication: u32,
    /// How gRPC travels.
    pub transport: Transport,
    /// Milliseconds of operations and faults.
    pub duration_ms: u64,
    /// The network.
    pub network: Network,
    /// The disks.
    pub disk: Disk,
}

/// Draws it. Everything is drawn before a choice replaces it, so that no choice shifts the rest.
pub fn draw(seed: u64, choice: &Choice) -> Shape {
    let rng = &mut stream(seed, "topology", 0);
    let sizes = [
        (5, 1),
        (3, 2),
        (36, 3),
        (12, 4),
        (30, 5),
        (4, 6),
        (5, 7),
        (2, 8),
        (3, 9),
    ];
    let drawn = weighted(rng, &sizes);
    let nodes: u32 = choice.nodes.unwrap_or(drawn);
    let drawn = weighted(rng, &[(50, 1), (15, 2), (35, 3)]);
    let zones: u32 = choice.zones.unwrap_or(drawn).clamp(1, nodes.max(1));
    let drawn = weighted(
        rng,
        &[(6, 1), (42, 2), (34, 3), (13, 4), (3, 5), (1, 6), (1, 8)],
    );
    let shards = choice.shards.unwrap_or(drawn);
    let drawn = weighted(rng, &[(7, 1), (84, 3), (9, 5)]);
    let replication = choice.replication.unwrap_or(drawn);
    let drawn = weighted(rng, &[(3, Transport::Message), (1, Transport::Http2)]);
    let transport = choice.transport.unwrap_or(drawn);
    let drawn = rng.random_range(8..=20) * 1000;
    let duration_ms = choice.duration_ms.unwrap_or(drawn);
    let long = &mut stream(seed, "topology-long", 0);
    let duration_ms = match one_in(long, 40) && choice.duration_ms.is_none() {
        true => long.random_range(60..=90) * 1000,
        false => duration_ms,
    };
    // Mostly in turn; sometimes one zone holds more than its share.
    let uneven = one_in(rng, 5);
    let place = |node: u32, drawn: u32| match uneven && node >= zones {
        true => drawn,
        false => node % zones,
    };
    let zone_of: Vec<u32> = (0..16).map(|_| rng.random_range(0..6)).collect();
    let nodes = (0..nodes)
        .map(|n| NodePlan {
            zone: place(n, zone_of[n as usize % 16] % zones),
        })
        .collect();
    Shape {
        nodes,
        shards,
        replication,
        transport,
        duration_ms,
        network: network(seed),
        disk: disk(seed),
    }
}

fn network(seed: u64) -> Network {
    let rng = &mut stream(seed, "network", 0);
    Network {
        delay_ms: weighted(rng, &[(10, 1), (45, 2), (35, 3), (6, 4), (4, 5)]),
        jitter_ms: weighted(rng, &[(30, 0), (30, 1), (30, 3), (10, 10)]),
        zone_delay_ms: weighted(rng, &[(60, 0), (30, 2), (10, 10)]),
    }
}

fn disk(seed: u64) -> Disk {
    let rng = &mut stream(seed, "disk", 0);
    Disk {
        sync_ms: scaled(rng, 1, 8),
        sync_jitter_ms: weighted(rng, &[(40, 0), (40, 2), (15, 8), (5, 30)]),
        sector: weighted(rng, &[(1, 512), (1, 4096)]),
        // The node keeps about 130 MiB free; smaller disks would only ever refuse mail.
        bytes: weighted(rng, &[(1, 512 << 20), (3, 1 << 30), (1, 4 << 30)]),
    }
}

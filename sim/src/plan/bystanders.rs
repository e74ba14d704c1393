//! Who is none of the plan's nodes, and is struck all the same: nodes that join in the run, and the
//! clients.

use rand::RngExt;

use super::draw::{one_in, scaled, weighted};
use super::{CrashPoint, End, Fault, FaultKind, FirstLife};
use crate::stream::{Stream, stream};

/// Lets faults that are drawn already meet them as well.
pub fn draw(seed: u64, faults: &mut [Fault]) {
    let mut joins = false;
    for (i, fault) in faults.iter_mut().enumerate() {
        let rng = &mut stream(seed, "faults-first-life", i as u64);
        if let FaultKind::AddNode { first_life, .. } | FaultKind::DiskLost { first_life, .. } =
            &mut fault.kind
        {
            joins = true;
            if one_in(rng, 2) {
                *first_life = Some(short(rng));
            }
        }
    }
    for (i, fault) in faults.iter_mut().enumerate() {
        let rng = &mut stream(seed, "faults-sides", i as u64);
        match &mut fault.kind {
            FaultKind::Partition {
                groups,
                late,
                clients,
                ..
            } => {
                let sides = groups.len() as u32;
                let (of_late, of_clients) =
                    (rng.random_range(0..sides), rng.random_range(0..sides));
                *late = (joins && one_in(rng, 2)).then_some(of_late);
                *clients = one_in(rng, 4).then_some(of_clients);
            }
            FaultKind::OneWay { clients, .. } if one_in(rng, 3) => {
                *clients = Some(weighted(rng, &[(1, End::From), (1, End::To)]));
            }
            _ => {}
        }
    }
}

/// To join takes a few packets and a few small files.
fn short(rng: &mut Stream) -> FirstLife {
    let few = rng.random_range(1..=12);
    let poll = scaled(rng, 1, 1000);
    FirstLife {
        point: weighted(
            rng,
            &[
                (3, CrashPoint::Send { n: few }),
                (2, CrashPoint::Write { n: few }),
                (2, CrashPoint::Sync { n: few }),
                (3, CrashPoint::Poll { n: poll }),
            ],
        ),
        power: one_in(rng, 2),
        down_ms: scaled(rng, 20, 2000),
    }
}

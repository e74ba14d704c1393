//! Faults that are aimed at what seldom happens by itself: deaths in the middle of long work, and nodes
//! that join at the same time.

use rand::RngExt;

use super::draw::{one_in, scaled, weighted};
use super::{CrashPoint, Fault, FaultKind, Job, Plan};
use crate::stream::{Stream, stream};

/// Lets faults that are drawn already meet them.
pub fn draw(plan: &Plan, faults: &mut Vec<Fault>) {
    let mut company = Vec::new();
    for (i, fault) in faults.iter_mut().enumerate() {
        let rng = &mut stream(plan.seed, "faults-aimed", i as u64);
        match &mut fault.kind {
            FaultKind::Crash { node, point, .. }
                if matches!(point, CrashPoint::Poll { .. } | CrashPoint::Send { .. })
                    && one_in(rng, 2) =>
            {
                let (job, n) = work(rng);
                *point = CrashPoint::During { job, n };
                let others = (0..plan.nodes.len() as u32).filter(|n| n != node);
                company.extend(behind(rng, job, fault.at_ms, *node, others.collect()));
            }
            // Two membership changes at once.
            FaultKind::AddNode { .. } if one_in(rng, 2) => {
                let mut second = fault.clone();
                second.at_ms += weighted(rng, &[(2, 0), (1, 5), (1, 500)]);
                second.at_ms = second.at_ms.min(plan.duration_ms);
                company.push(second);
            }
            _ => {}
        }
    }
    faults.extend(company);
}

fn work(rng: &mut Stream) -> (Job, u64) {
    let job = weighted(
        rng,
        &[(1, Job::Sending), (2, Job::Snapshot), (2, Job::Compaction)],
    );
    let most = match job {
        Job::Sending => 3,
        Job::Snapshot => 30,
        Job::Compaction => 300,
    };
    (job, scaled(rng, 1, most))
}

/// Who is to receive a snapshot lacks the head of the log: its node was away.
fn behind(rng: &mut Stream, job: Job, at_ms: u64, node: u32, others: Vec<u32>) -> Option<Fault> {
    let away = match job {
        Job::Snapshot => node,
        Job::Sending => *others.get(rng.random_range(0..others.len().max(1)))?,
        Job::Compaction => return None,
    };
    let down_ms = rng.random_range(1000..=4000);
    Some(Fault {
        at_ms: at_ms.saturating_sub(down_ms + 300),
        kind: FaultKind::Crash {
            node: away,
            point: CrashPoint::Now,
            power: false,
            down_ms,
        },
    })
}

//! Faults that are longer than the time-outs that a node ships with: in a run of seconds everything
//! heals before one of those has passed.

use rand::RngExt;

use super::draw::{one_in, weighted};
use super::{Fault, FaultKind, Plan};
use crate::stream::stream;

/// Runs from this length on have such faults, ms.
pub const LONG_MS: u64 = 60_000;
/// What is left of the run when they have ended, ms.
const AFTER_MS: u64 = 5_000;

/// Lets some of the faults of a long run last long, and sees to it that there is one.
pub fn draw(plan: &Plan, faults: &mut Vec<Fault>) {
    if plan.duration_ms < LONG_MS || faults.is_empty() {
        return;
    }
    let rng = &mut stream(plan.seed, "faults-lasting", 0);
    let node = rng.random_range(0..plan.nodes.len() as u32);
    let at_ms = rng.random_range(0..=plan.duration_ms);
    let kinds = [
        (3, FaultKind::Pause { node, ms: 0 }),
        (2, FaultKind::DiskStall { node, ms: 0 }),
        (1, FaultKind::ClockFreeze { node, ms: 0 }),
    ];
    let kind = weighted(rng, &kinds);
    let mut lasting = vec![Fault { at_ms, kind }];
    faults.retain(|fault| {
        let may = matches!(
            fault.kind,
            FaultKind::Pause { .. } | FaultKind::DiskStall { .. }
        );
        let lasts = may && one_in(rng, 2);
        if lasts {
            lasting.push(fault.clone());
        }
        !lasts
    });
    for mut fault in lasting {
        let for_ms = match fault.kind {
            FaultKind::DiskStall { .. } => 30_000,
            _ => rng.random_range(20_000..=LONG_MS - AFTER_MS),
        };
        if let Some(ms) = fault.kind.lasts_mut() {
            *ms = for_ms;
        }
        let last = plan.duration_ms.saturating_sub(AFTER_MS + for_ms);
        fault.at_ms = fault.at_ms.min(last);
        faults.push(fault);
    }
}

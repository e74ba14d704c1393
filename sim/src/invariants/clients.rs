//! What must hold of the history of the clients, whatever the nodes look like inside.
//!
//! All of these judge at the end, when every call has an answer: a call that is under way may have
//! taken effect already, so what a read may have seen is known only later. A violation still
//! carries the moment of the read that shows it. They need no final reading, but see more with one.

use super::Invariant;
use super::acknowledged::Acknowledged;
use super::crossing::Crossing;
use super::deadlines::Deadlines;
use super::followers::Followers;
use super::linear::Linear;
use super::once::Once;
use super::resurrection::Resurrection;
use super::sessions::Sessions;
use super::uids::Uids;
use crate::plan::{FaultKind, Plan};
use crate::workload::body::Expected;

/// The contract's window for retries ("default 5 days"), less an hour for what drifts, halted
/// clocks and the run itself add.
const WINDOW_MS: u64 = (5 * 24 - 1) * 3600 * 1000;

/// All that hold of a run of this plan.
pub fn all(plan: &Plan) -> Vec<Box<dyn Invariant>> {
    let expected = Expected::default();
    let forgets = may_forget(plan);
    vec![
        Box::new(Deadlines),
        Box::new(Acknowledged::new(expected.clone())),
        Box::new(Once::new(expected.clone(), forgets)),
        Box::new(Uids::new(expected.clone())),
        Box::new(Resurrection::new(expected.clone())),
        Box::new(Crossing::new(expected.clone(), forgets)),
        Box::new(Sessions::new(expected.clone())),
        Box::new(Followers::new(expected.clone(), forgets)),
        Box::new(Linear::new(expected, strangers(plan), forgets)),
    ]
}

/// Whether clocks may take the store past its window for retries, so that it may rightly carry a
/// request out again. No two clocks, at any two moments, differ by more than all jumps together.
fn may_forget(plan: &Plan) -> bool {
    let jumps = plan.faults.iter().map(|f| match f.kind {
        FaultKind::ClockJump { by_ms, .. } => by_ms.unsigned_abs(),
        _ => 0,
    });
    jumps.fold(0, u64::saturating_add) >= WINDOW_MS
}

/// Whether nodes of another cluster may answer at the addresses of this one.
fn strangers(plan: &Plan) -> bool {
    let mut kinds = plan.faults.iter().map(|f| &f.kind);
    kinds.any(|k| matches!(k, FaultKind::WrongCluster { .. }))
}

//! One run: a plan in, an outcome out.
//!
//! ```text
//!  form ──▶ faults (operations and faults of the plan) ──▶ majority ──▶ heal ──▶ check
//! ```
//!
//! | phase | what must hold at its end |
//! |---|---|
//! | form | every node serves, every shard has its replicas |
//! | faults | nothing acknowledged is lost; nothing is promised about time |
//! | majority | a healthy majority has acknowledged a write in every shard within 5 s, with the rest still broken |
//! | heal | all replicas are equal within 60 s |
//! | check | everything that was acknowledged is read back, and every replica passes its audit |

mod audit;
mod budget;
mod chaos;
mod cluster;
pub mod look;
mod majority;
pub mod nodes;
mod phases;
mod rest;
mod rot;

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;

use crate::outcome::{Outcome, Stats, Violation};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::log::Log;
use crate::world::turn::{self, speaker};

/// What a caller wants beside the outcome.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Keep the event log as text.
    pub trace: bool,
}

/// An outcome and what was wanted beside it.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The outcome.
    pub outcome: Outcome,
    /// The event log, when it was wanted.
    pub trace: Vec<String>,
}

thread_local! {
    /// Panics on this thread since the run began, and where.
    static PANICS: RefCell<Vec<(Option<u32>, String)>> = const { RefCell::new(Vec::new()) };
}

/// Lets panics on this thread be noted as violations of the run: a node's task that panics is
/// caught by its runtime, but a real process would have ended.
fn note_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let node = speaker().and_then(|host| host.as_node());
            let text = match std::env::var_os("RUST_BACKTRACE") {
                Some(_) => format!("{info}\n{}", std::backtrace::Backtrace::force_capture()),
                None => info.to_string(),
            };
            PANICS.with_borrow_mut(|panics| panics.push((node, text)));
        }));
    });
}

fn take_panics() -> Vec<(Option<u32>, String)> {
    PANICS.take()
}

/// Runs a plan from its beginning to its end.
pub fn execute(plan: &Plan, options: &Options) -> Ran {
    let taken_over = turn::is_taken_over();
    assert!(taken_over, "the clocks of the system would show in a run");
    note_panics();
    take_panics();
    posthouse_node::rare::take_thread();
    let trace = Trace::new(options.trace);
    let queue_log = phases::Run::new(plan, trace.clone());
    let log = Log::new(trace.clone(), queue_log.queue(), options.trace);
    let ran = tracing::subscriber::with_default(log, || {
        std::panic::catch_unwind(AssertUnwindSafe(|| queue_log.run()))
    });
    let (mut violations, events, mut stats) = ran.unwrap_or_else(|_| Default::default());
    for (node, what) in take_panics() {
        violations.push(Violation {
            invariant: "panic".into(),
            at_ms: stats.simulated_ms,
            what,
            node,
        });
    }
    stats.rare = rare();
    let outcome = Outcome {
        plan: plan.clone(),
        violations,
        events,
        stats,
        trace_hash: trace.hash(),
    };
    Ran {
        outcome,
        trace: trace.lines(),
    }
}

fn rare() -> std::collections::BTreeMap<String, u64> {
    let taken = posthouse_node::rare::take_thread();
    taken
        .into_iter()
        .map(|(name, n)| (name.to_owned(), n))
        .collect()
}

type Result = (Vec<Violation>, Vec<crate::outcome::Event>, Stats);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Event, EventKind};
    use crate::plan::Transport;
    use crate::plan::generate::{Choice, generate};

    #[test]
    fn nothing_of_a_world_outlives_its_run() {
        for transport in [Transport::Message, Transport::Http2] {
            let choice = Choice {
                transport: Some(transport),
                ..Choice::default()
            };
            // Its processes are killed, lose power and are asked to stop.
            let plan = generate(1, &choice);
            let run = phases::Run::new(&plan, Trace::new(false));
            let left = run.left();
            let (violations, events, _) = run.run();
            assert_eq!(violations, []);
            let ended = |e: &Event| matches!(e.kind, EventKind::Ended { .. });
            assert!(events.iter().any(ended));
            let held: Vec<usize> = left.iter().map(|part| part.strong_count()).collect();
            assert_eq!(held, vec![0; left.len()], "{transport:?}");
        }
    }
}

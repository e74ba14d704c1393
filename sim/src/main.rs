//! `posthouse-sim`: see [`posthouse_sim::cli`].

use std::process::ExitCode;

use posthouse_sim::cli::{self, Options, Ran};
use posthouse_sim::outcome::{Outcome, Stats, Violation};
use posthouse_sim::plan::Plan;

fn main() -> ExitCode {
    cli::main(|plan: &Plan, _: &Options| Ran {
        outcome: Outcome {
            plan: plan.clone(),
            violations: vec![Violation {
                invariant: "world".into(),
                at_ms: 0,
                what: "this build has no world to run the plan in".into(),
                node: None,
            }],
            events: Vec::new(),
            stats: Stats::default(),
            trace_hash: String::new(),
        },
        trace: Vec::new(),
    })
}

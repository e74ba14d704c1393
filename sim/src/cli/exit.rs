//! Exit codes that a pipeline can rely on, and error lines that say what to do.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::plan::PlanError;

/// Appended to `posthouse-sim --help`.
pub const HELP: &str = "\
Exit codes:
  0  everything that was run has passed
  1  an invariant was violated, a run panicked or did not end
  2  wrong usage: arguments, a plan that cannot be run, a file that cannot be read
  3  the simulator itself failed: it could not write, or could not start a run

Examples:
  posthouse-sim run --seed 42                      one run, with what happened
  posthouse-sim run --seeds 0..1000 --jobs 4       a thousand runs
  posthouse-sim run --seeds 5000.. --minutes 30    as many as half an hour allows
  posthouse-sim plan 42 -o plan.toml               the plan of a run, to be edited
  posthouse-sim replay plan.toml --report out.html run it, and draw what happened
  posthouse-sim shrink 42 -o small.toml            the smallest plan that still fails";

/// The invariant under which a run is listed that panicked.
pub const PANIC: &str = "panic";
/// The invariant under which a run is listed that did not end.
pub const STUCK: &str = "stuck";

/// The invariant under which a run is listed that was another one when it was run again.
pub const DIFFERENT: &str = "determinism";

/// Why a command ends with another code than 0.
#[derive(Debug)]
pub enum Failure {
    /// Something was found; all of it has been said.
    Found,
    /// Wrong usage.
    Usage(String),
    /// The simulator itself failed.
    Broken(String),
    /// Nobody reads any more.
    Unheard,
}

/// The outcome of a command.
pub type Outcome = Result<(), Failure>;

/// Wrong usage.
pub fn usage(message: impl Into<String>) -> Failure {
    Failure::Usage(message.into())
}

impl From<PlanError> for Failure {
    fn from(e: PlanError) -> Failure {
        usage(e.to_string())
    }
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Unheard => 0,
            Failure::Found => 1,
            Failure::Usage(_) => 2,
            Failure::Broken(_) => 3,
        }
    }
}

/// Tells the failure, if any, and gives the exit code.
pub fn finish(outcome: Outcome) -> ExitCode {
    let Err(failure) = outcome else {
        return ExitCode::SUCCESS;
    };
    if let Failure::Usage(text) | Failure::Broken(text) = &failure {
        // Nobody is left to tell when standard error is closed.
        writeln!(io::stderr(), "posthouse-sim: {text}").ok();
    }
    ExitCode::from(failure.code())
}

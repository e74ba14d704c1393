//! One run, told to people: configuration, a sign of life, what happened, the verdict, and at the
//! end of a failure the one line that reproduces it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::choice::Subject;
use super::engine::{Engine, Finished, run_one, twice};
use super::exit::{Failure, Outcome, usage};
use super::{output, summary};
use crate::report;
use crate::run::Options;

/// How one run is shown.
#[derive(Args, Debug, Clone)]
pub struct ShowArgs {
    /// Print the event log; two runs of a seed print the same
    #[arg(long)]
    pub trace: bool,
    /// Print one JSON object instead of text
    #[arg(long, conflicts_with = "trace")]
    pub json: bool,
    /// Run it twice, and fail where the two differ
    #[arg(long)]
    pub twice: bool,
    /// Write a report of the run: one HTML file with a timeline
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Give a run up after so many seconds on the wall clock
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub stuck: u64,
}

/// Runs it and shows it.
pub fn run(engine: &Engine, subject: &Subject, show: &ShowArgs) -> Outcome {
    subject.plan.check()?;
    let engine = match show.twice {
        true => &twice(Engine::clone(engine)),
        false => engine,
    };
    if !show.json {
        output::print(&summary::configuration(subject))?;
    }
    let finished = carry_out(engine, subject, show.trace, show.stuck)?;
    for line in &finished.ran.trace {
        output::say(line)?;
    }
    let outcome = &finished.ran.outcome;
    if let Some(path) = &show.report {
        output::write(path, &report::html(outcome))?;
        output::note(&format!("the report is in {}", path.display()));
    }
    match show.json {
        true => output::json(&summary::object(&finished, subject))?,
        false => {
            output::print(&summary::events(outcome))?;
            output::print(&summary::verdict(&finished))?;
        }
    }
    conclude(outcome, subject, show.json)
}

/// Runs several, each told in a line: plans that have failed once and must not again.
pub fn run_many(engine: &Engine, subjects: &[Subject], show: &ShowArgs) -> Outcome {
    if show.trace || show.report.is_some() {
        return Err(usage("--trace and --report are for one plan"));
    }
    let engine = match show.twice {
        true => &twice(Engine::clone(engine)),
        false => engine,
    };
    let mut last = None;
    for subject in subjects {
        let finished = carry_out(engine, subject, false, show.stuck)?;
        let failed = finished.ran.outcome.violations.first();
        match (show.json, failed) {
            (true, _) => output::json(&summary::object(&finished, subject))?,
            (false, None) => output::say(&format!("passed: {}", subject.again))?,
            (false, Some(v)) => {
                let what = v.what.lines().next().unwrap_or_default();
                let again = &subject.again;
                output::say(&format!("FAILED: {again}: {}: {what}", v.invariant))?;
            }
        }
        last = last.or(failed.map(|_| subject));
    }
    match last {
        None => Ok(()),
        Some(_) if show.json => Err(Failure::Found),
        Some(subject) => {
            output::say(&subject.line())?;
            Err(Failure::Found)
        }
    }
}

/// Runs it with a sign of life on standard error.
pub fn carry_out(
    engine: &Engine,
    subject: &Subject,
    trace: bool,
    stuck_s: u64,
) -> Result<Finished, Failure> {
    let spinner = output::spinner("running");
    let stuck = Duration::from_secs(stuck_s.max(1));
    let finished = run_one(engine, Options { trace }, stuck, &subject.plan);
    spinner.finish_and_clear();
    finished
}

/// Ends a run: a failure with the line that reproduces it, the last of the output. With JSON the
/// line is in the object.
pub fn conclude(outcome: &crate::outcome::Outcome, subject: &Subject, json: bool) -> Outcome {
    if outcome.passed() {
        return Ok(());
    }
    if !json {
        output::say(&subject.line())?;
    }
    Err(Failure::Found)
}

//! `posthouse-sim`: the simulator from the command line.
//!
//! - [`choice`]: what to run: a seed and what a user fixes, or a plan in a file.
//! - [`engine`]: runs on threads of their own. [`single`]: one run, [`sweep`]: many.
//! - [`summary`]: a run as people and programs read it. [`output`], [`exit`]: streams, files, codes.
//! - [`tools`]: plan, shrink, report, scenario. [`measure`]: bench, coverage.
// The command line is where people, their files and their time are: it touches the world itself.
#![allow(clippy::disallowed_methods)]

mod choice;
mod engine;
mod exit;
mod marks;
mod measure;
mod output;
mod single;
mod summary;
mod sweep;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::run::{Options, Ran};
use choice::{ChoiceArgs, Subject};
use engine::Engine;
use exit::{Outcome, usage};
use single::ShowArgs;
use sweep::{Seeds, SweepArgs};

/// Runs whole Posthouse clusters in simulated time under every fault; a number is a run.
#[derive(Parser)]
#[command(name = "posthouse-sim", version = crate::version::version(), about, after_long_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a seed, or many
    Run(RunArgs),
    /// Run the plan in a file, or those in several
    Replay {
        /// The plans
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Find the smallest plan that fails in the same way
    Shrink(tools::ShrinkArgs),
    /// Print the plan of a seed as TOML, to be edited and replayed
    Plan(tools::PlanArgs),
    /// Run a named disaster; without a name, list them
    Scenario(tools::ScenarioArgs),
    /// Run a seed or a plan and draw what happened
    Report(tools::ReportArgs),
    /// Measure the simulator: simulated seconds per second, seeds per hour
    Bench(measure::BenchArgs),
    /// Run many seeds and list the rare situations that none of them met
    Coverage(measure::CoverageArgs),
}

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["seed", "seeds"]))]
struct RunArgs {
    /// The seed of one run
    #[arg(long, value_name = "S", conflicts_with_all = ["jobs", "minutes", "stop_at_first"])]
    seed: Option<u64>,
    /// The seeds of many: A..B, A..=B, or A.. with --minutes
    #[arg(long, value_name = "A..B", value_parser = sweep::seeds)]
    seeds: Option<Seeds>,
    /// With --seed: print the event log; two runs of a seed print the same
    #[arg(long, conflicts_with_all = ["seeds", "json"])]
    trace: bool,
    /// With --seed: write a report of the run, one HTML file with a timeline
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    report: Option<PathBuf>,
    #[command(flatten)]
    sweep: SweepArgs,
    #[command(flatten)]
    choice: ChoiceArgs,
}

impl RunArgs {
    fn run(self, engine: &Engine) -> Outcome {
        let choice = self.choice.choice()?;
        match (self.seed, self.seeds) {
            (Some(seed), _) => {
                let show = ShowArgs {
                    trace: self.trace,
                    json: self.sweep.json,
                    report: self.report,
                    twice: self.sweep.twice,
                    stuck: self.sweep.stuck,
                };
                single::run(engine, &Subject::of_seed(seed, &choice), &show)
            }
            (None, Some(seeds)) => sweep::run(engine, seeds, &choice, &self.sweep),
            (None, None) => Err(usage("give --seed S or --seeds A..B")),
        }
    }
}

fn replay(engine: &Engine, files: &[PathBuf], show: &ShowArgs) -> Outcome {
    let subjects: Result<Vec<Subject>, _> = files.iter().map(|f| Subject::of_file(f)).collect();
    match subjects?.as_slice() {
        [subject] => single::run(engine, subject, show),
        subjects => single::run_many(engine, subjects, show),
    }
}

/// The program: reads the arguments, carries them out with `execute`, gives the exit code.
pub fn main(
    execute: impl Fn(&crate::plan::Plan, &Options) -> Ran + Send + Sync + 'static,
) -> ExitCode {
    let engine: Engine = Arc::new(execute);
    exit::finish(match Cli::parse().command {
        Command::Run(args) => args.run(&engine),
        Command::Replay { files, show } => replay(&engine, &files, &show),
        Command::Shrink(args) => tools::shrink(&engine, args),
        Command::Plan(args) => tools::plan(args),
        Command::Scenario(args) => tools::scenario(&engine, args),
        Command::Report(args) => tools::report(&engine, args),
        Command::Bench(args) => measure::bench(&engine, args),
        Command::Coverage(args) => measure::coverage(&engine, args),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn command_lines_are_understood() {
        for line in [
            "run --seed 42",
            "run --seed 42 --nodes 5 --trace --report x.html",
            "run --seeds 0..300 --jobs 2 --minutes 5 --stop-at-first --json --shards 3",
            "replay plan.toml --json --twice",
            "replay a.toml b.toml",
            "shrink 42 -o small.toml --runs 50",
            "shrink plan.toml --json",
            "plan 42 -o plan.toml --nodes 3",
            "scenario",
            "scenario --json",
            "scenario zone-loss --seed 3",
            "report 42 -o out.html",
            "report plan.toml --text",
            "report 42 --json",
            "bench --seeds 0..5",
            "coverage --seeds 0..100 --jobs 2",
        ] {
            let parsed = Cli::try_parse_from(format!("posthouse-sim {line}").split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
        }
        for line in [
            "run",
            "run --seed 1 --seeds 2..3",
            "run --seeds 1..2 --trace",
            "run --seed 1 --jobs 2",
            "run --seed 1 --minutes 2",
            "run --seed x",
        ] {
            let parsed = Cli::try_parse_from(format!("posthouse-sim {line}").split(' '));
            assert!(parsed.is_err(), "{line}");
        }
    }
}

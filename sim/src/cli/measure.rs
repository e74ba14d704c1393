//! `bench`: how fast the simulator is. `coverage`: which rare situations it reaches.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use super::choice::ChoiceArgs;
use super::engine::{Engine, run_one};
use super::exit::{Failure, Outcome, usage};
use super::sweep::{Seeds, SweepArgs, Tally, conclude, never, seeds, sweep};
use super::{marks, output};
use crate::plan::Transport;
use crate::plan::generate::Choice;
use crate::run::Options;
use crate::scenario;

/// Seeds of 30 simulated seconds that one processor should do in a day, all checks on.
const GOAL_PER_DAY: f64 = 100_000.0;

/// What is measured.
#[derive(Args)]
pub struct BenchArgs {
    /// The seeds
    #[arg(long, value_name = "A..B", value_parser = seeds, default_value = "0..20")]
    seeds: Seeds,
    /// Give a run up after so many seconds on the wall clock
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    stuck: u64,
    /// One JSON object for each row instead of a table
    #[arg(long)]
    json: bool,
}

/// One row of the table.
struct Row {
    name: &'static str,
    tally: Tally,
}

impl Row {
    fn cpu_s(&self) -> f64 {
        self.tally.cpu.as_secs_f64().max(1e-6)
    }

    fn simulated_s(&self) -> f64 {
        self.tally.simulated_ms as f64 / 1000.0
    }

    fn per_hour(&self) -> f64 {
        self.tally.runs as f64 * 3600.0 / self.cpu_s()
    }

    /// In runs of 30 simulated seconds, so that rows compare.
    fn per_day(&self) -> f64 {
        self.simulated_s() / 30.0 * 86_400.0 / self.cpu_s()
    }

    fn cells(&self) -> Vec<String> {
        let t = &self.tally;
        vec![
            self.name.into(),
            t.runs.to_string(),
            t.failed.len().to_string(),
            format!("{:.1}", self.simulated_s()),
            format!("{:.2}", self.cpu_s()),
            format!("{:.1}", self.simulated_s() / self.cpu_s()),
            format!("{:.0}", self.per_hour()),
            format!("{:.0}", self.per_day()),
            format!("{:.2}", self.per_day() / GOAL_PER_DAY),
        ]
    }

    fn object(&self) -> serde_json::Value {
        serde_json::json!({
            "transport": self.name,
            "seeds": self.tally.runs,
            "failed": self.tally.failed.len(),
            "simulated_s": self.simulated_s(),
            "cpu_s": self.cpu_s(),
            "wall_s": self.tally.wall.as_secs_f64(),
            "simulated_s_per_cpu_s": self.simulated_s() / self.cpu_s(),
            "seeds_per_hour": self.per_hour(),
            "seeds_of_30_s_per_core_day": self.per_day(),
        })
    }
}

/// Measures on one core: five nodes, three shards, three replicas, each transport.
pub fn bench(engine: &Engine, args: BenchArgs) -> Outcome {
    if args.seeds.to.is_none() {
        return Err(usage("--seeds needs an end: A..B"));
    }
    let choice = |transport| Choice {
        nodes: Some(5),
        shards: Some(3),
        replication: Some(3),
        transport,
        ..Choice::default()
    };
    let sweep_args = SweepArgs {
        jobs: Some(1),
        minutes: None,
        stop_at_first: false,
        twice: false,
        json: false,
        stuck: args.stuck,
    };
    let mut rows = Vec::new();
    for (name, transport) in [
        ("mixed", None),
        ("message", Some(Transport::Message)),
        ("http2", Some(Transport::Http2)),
    ] {
        let choice = choice(transport);
        let tally = sweep(engine, args.seeds, &choice, &sweep_args)?;
        if tally.cpu == Duration::ZERO {
            return Err(Failure::Broken(
                "the processor time of a thread cannot be read; /proc/thread-self/schedstat is needed".into(),
            ));
        }
        rows.push(Row { name, tally });
    }
    if args.json {
        return rows.iter().try_for_each(|row| output::json(&row.object()));
    }
    output::say("5 nodes, 3 shards × 3, one core, all checks; \"mixed\" is what seeds are like")?;
    let names = [
        "transport",
        "#seeds",
        "#failed",
        "#simulated s",
        "#cpu s",
        "#sim s / cpu s",
        "#seeds / hour",
        "#30 s seeds / core-day",
        "#of the goal",
    ];
    let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
    output::print(&output::table(&names, &cells))
}

/// Which seeds are looked at.
#[derive(Args)]
pub struct CoverageArgs {
    /// The seeds: A..B, A..=B, or A.. with --minutes
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Seeds,
    #[command(flatten)]
    sweep: SweepArgs,
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// Of so many seeds, one is run once more without the budget: some rare situations are met by those
/// alone who lose more than replication promises to bear.
const BEYOND: u64 = 8;

/// Runs some of the seeds without the budget, for what they meet; how they end says nothing.
fn beyond(
    engine: &Engine,
    seeds: Seeds,
    choice: &Choice,
    quiet: &SweepArgs,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let Some(count) = seeds.count().filter(|_| choice.budget.is_none()) else {
        return Ok(());
    };
    let some = Seeds {
        from: seeds.from,
        to: Some(seeds.from + count.div_ceil(BEYOND)),
    };
    let choice = Choice {
        budget: Some(false),
        ..choice.clone()
    };
    for (name, n) in sweep(engine, some, &choice, quiet)?.rare {
        *tally.rare.entry(name).or_default() += n;
    }
    Ok(())
}

/// Runs every named disaster once, for what it meets: seeds seldom draw all that one of them sets up.
/// One that breaks a promise within its budget is a failure.
fn disasters(engine: &Engine, stuck: Duration, tally: &mut Tally) -> Result<(), Failure> {
    for scenario in scenario::all() {
        let finished = run_one(engine, Options::default(), stuck, &(scenario.plan)(1))?;
        let outcome = finished.ran.outcome;
        if outcome.plan.budget && !outcome.passed() {
            return Err(Failure::Broken(format!(
                "scenario {0} fails: posthouse-sim scenario {0} --seed 1",
                scenario.name
            )));
        }
        for (name, n) in outcome.stats.rare {
            *tally.rare.entry(name).or_default() += n;
        }
    }
    Ok(())
}

/// Sweeps and lists all rare situations, the rarest first.
pub fn coverage(engine: &Engine, args: CoverageArgs) -> Outcome {
    let choice = args.choice.choice()?;
    let json = args.sweep.json;
    let quiet = SweepArgs {
        json: false,
        ..args.sweep
    };
    let mut tally = sweep(engine, args.seeds, &choice, &quiet)?;
    beyond(engine, args.seeds, &choice, &quiet, &mut tally)?;
    disasters(engine, Duration::from_secs(quiet.stuck.max(1)), &mut tally)?;
    let known = marks::known();
    let times = |name: &str| tally.rare.get(name).copied().unwrap_or(0);
    if json {
        let all: BTreeMap<&str, u64> = known.iter().map(|(n, _)| (*n, times(n))).collect();
        output::json(&serde_json::json!({ "runs": tally.runs, "rare": all }))?;
        return conclude(&tally, &choice, true);
    }
    let mut rows: Vec<(u64, &str, &str)> = known
        .iter()
        .map(|(n, meaning)| (times(n), *n, *meaning))
        .collect();
    rows.sort_unstable();
    let per_run = |n: u64| format!("{:.3}", n as f64 / tally.runs.max(1) as f64);
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|(n, name, meaning)| {
            vec![
                (*name).into(),
                n.to_string(),
                per_run(*n),
                (*meaning).into(),
            ]
        })
        .collect();
    let names = ["rare situation", "#times", "#each run", "what it is"];
    output::print(&output::table(&names, &cells))?;
    output::print(&never(&tally))?;
    conclude(&tally, &choice, false)
}

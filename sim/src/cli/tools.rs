//! `plan`, `shrink`, `scenario`, `report`: what one does with a single run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::choice::{ChoiceArgs, Subject};
use super::engine::Engine;
use super::exit::{Failure, Outcome, usage};
use super::output;
use super::single::{self, ShowArgs};
use super::summary;
use crate::plan::generate::generate;
use crate::run::Options;
use crate::shrink::{Progress, shrink as smaller};
use crate::version::version;
use crate::{report as pages, scenario as scenarios};

/// `plan SEED`.
#[derive(Args)]
pub struct PlanArgs {
    /// The seed
    seed: u64,
    /// Write it to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// Prints or writes the plan of a seed.
pub fn plan(args: PlanArgs) -> Outcome {
    let text = generate(args.seed, &args.choice.choice()?).to_toml();
    match args.out {
        Some(path) => output::write(&path, &text),
        None => output::print(&text),
    }
}

/// `shrink SEED|FILE`.
#[derive(Args)]
pub struct ShrinkArgs {
    /// A seed, or the file of a plan
    #[arg(value_name = "SEED|FILE")]
    subject: String,
    /// Write the smallest plan here [default: shrunk-SEED.toml]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Runs at most
    #[arg(long, value_name = "N", default_value_t = 1000)]
    runs: u32,
    /// Give a run up after so many seconds on the wall clock
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    stuck: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// Finds the smallest plan that violates the same invariant.
pub fn shrink(engine: &Engine, args: ShrinkArgs) -> Outcome {
    let subject = Subject::of_argument(&args.subject, &args.choice)?;
    subject.plan.check()?;
    let path = args
        .out
        .unwrap_or_else(|| format!("shrunk-{}.toml", subject.plan.seed).into());
    let bar = output::bar(Some(args.runs.into()));
    let stuck = std::time::Duration::from_secs(args.stuck.max(1));
    let mut broken = None;
    let mut first = None;
    let mut fails = |plan: &crate::plan::Plan| {
        let ran = super::engine::run_one(engine, Options::default(), stuck, plan);
        match ran {
            Ok(finished) => {
                let violation = finished.ran.outcome.violations.into_iter().next();
                let name = violation.map(|v| v.invariant);
                first.get_or_insert(name.clone());
                name
            }
            Err(failure) => {
                broken.get_or_insert(failure);
                None
            }
        }
    };
    let mut progress = |p: Progress<'_>| {
        bar.set_position(p.runs.into());
        bar.set_message(format!(
            "{} faults, {} operations, {} nodes ({})",
            p.best.faults.len(),
            p.best.ops.len(),
            p.best.nodes.len(),
            p.step
        ));
    };
    let found = smaller(&subject.plan, args.runs, &mut fails, &mut progress);
    bar.finish_and_clear();
    if let Some(failure) = broken {
        return Err(failure);
    }
    let Some(invariant) = first.flatten() else {
        return match args.json {
            true => output::json(&json!({ "seed": subject.plan.seed, "verdict": "passed" })),
            false => output::say("passed: there is nothing to shrink"),
        };
    };
    output::write(&path, &found.to_toml())?;
    let sizes = [
        ("faults", subject.plan.faults.len(), found.faults.len()),
        ("operations", subject.plan.ops.len(), found.ops.len()),
        ("nodes", subject.plan.nodes.len(), found.nodes.len()),
    ];
    if args.json {
        let sizes = sizes.map(|(what, before, after)| (what, json!([before, after])));
        let sizes: BTreeMap<_, _> = sizes.into_iter().collect();
        output::json(&json!({
            "seed": subject.plan.seed,
            "verdict": "failed",
            "invariant": invariant,
            "before_and_after": sizes,
            "file": path,
            "plan": found.to_toml(),
            "version": version(),
            "reproduce": Subject::of_file(&path)?.line(),
        }))?;
        return Err(Failure::Found);
    }
    output::say(&format!("still violates: {invariant}"))?;
    for (what, before, after) in sizes {
        output::say(&format!("  {what:<10} {before} -> {after}"))?;
    }
    for fault in &found.faults {
        output::say(&format!("  {}", fault.words()))?;
    }
    for op in &found.ops {
        output::say(&format!("  {} ms: {}", op.at_ms, op.words()))?;
    }
    output::say("")?;
    output::say(found.to_toml().trim_end())?;
    output::say("")?;
    output::say(&Subject::of_file(&path)?.line())?;
    Err(Failure::Found)
}

/// `scenario [NAME]`.
#[derive(Args)]
pub struct ScenarioArgs {
    /// Which; without it all are listed
    name: Option<String>,
    /// What the scenario leaves open is drawn from this seed
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Write its plan to a file and do not run it
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    show: ShowArgs,
}

/// Runs a named disaster, or lists them.
pub fn scenario(engine: &Engine, args: ScenarioArgs) -> Outcome {
    let Some(name) = args.name else {
        if args.show.json {
            let all = scenarios::all().iter();
            let all: BTreeMap<&str, &str> = all.map(|s| (s.name, s.about)).collect();
            return output::json(&json!(all));
        }
        let rows: Vec<Vec<String>> = scenarios::all()
            .iter()
            .map(|s| vec![s.name.into(), s.about.into()])
            .collect();
        return output::print(&output::table(&["scenario", "about"], &rows));
    };
    let Some(scenario) = scenarios::all().iter().find(|s| s.name == name) else {
        let names: Vec<&str> = scenarios::all().iter().map(|s| s.name).collect();
        let names = names.join(", ");
        return Err(usage(format!(
            "there is no scenario {name:?}; there are: {names}"
        )));
    };
    let subject = Subject {
        plan: (scenario.plan)(args.seed),
        again: format!("scenario {name} --seed {}", args.seed),
    };
    match args.plan {
        Some(path) => output::write(&path, &subject.plan.to_toml()),
        None => single::run(engine, &subject, &args.show),
    }
}

/// `report SEED|FILE`.
#[derive(Args)]
pub struct ReportArgs {
    /// A seed, or the file of a plan
    #[arg(value_name = "SEED|FILE")]
    subject: String,
    /// Write one HTML file with a timeline [default: report-SEED.html]
    #[arg(short, long, value_name = "FILE", conflicts_with = "text")]
    out: Option<PathBuf>,
    /// Print the timeline as text instead
    #[arg(long)]
    text: bool,
    /// Print what happened as one JSON object, with the place of the report
    #[arg(long, conflicts_with = "text")]
    json: bool,
    /// Give the run up after so many seconds on the wall clock
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    stuck: u64,
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// Runs and draws.
pub fn report(engine: &Engine, args: ReportArgs) -> Outcome {
    let subject = Subject::of_argument(&args.subject, &args.choice)?;
    subject.plan.check()?;
    let finished = single::carry_out(engine, &subject, false, args.stuck)?;
    let outcome = &finished.ran.outcome;
    match args.text {
        true => output::print(&pages::text(outcome))?,
        false => {
            let seed = subject.plan.seed;
            let path = args
                .out
                .unwrap_or_else(|| format!("report-{seed}.html").into());
            output::write(&path, &pages::html(outcome))?;
            if args.json {
                let mut object = summary::object(&finished, &subject);
                object["report"] = json!(path);
                output::json(&object)?;
                return single::conclude(outcome, &subject, true);
            }
            let passed = if outcome.passed() { "passed" } else { "FAILED" };
            output::say(&format!(
                "{passed}; the report is in {} (version {})",
                path.display(),
                version()
            ))?;
        }
    }
    single::conclude(outcome, &subject, false)
}

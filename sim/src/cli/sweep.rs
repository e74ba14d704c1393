//! Many runs: a range of seeds over some threads, with speed and failures as they come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;

use super::choice::Subject;
use super::engine::{Engine, Finished, Limits, Next, run_all, twice};
use super::exit::{Failure, Outcome, STUCK, usage};
use super::{marks, output, summary};
use crate::outcome::Judged;
use crate::plan::generate::{Choice, generate};
use crate::run::Options;

/// Runs that do not end cost a processor each; after so many a sweep makes no sense.
const STUCK_AT_MOST: usize = 8;

/// Which seeds, and how.
#[derive(Args, Debug, Clone)]
pub struct SweepArgs {
    /// Runs at once [default: as many as the machine has processors]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Start no run after so many minutes
    #[arg(long, value_name = "MINUTES")]
    pub minutes: Option<f64>,
    /// Stop at the first failure
    #[arg(long)]
    pub stop_at_first: bool,
    /// Run each twice, and fail where the two differ
    #[arg(long)]
    pub twice: bool,
    /// One JSON object for each run instead of text
    #[arg(long)]
    pub json: bool,
    /// Give a run up after so many seconds on the wall clock
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub stuck: u64,
}

/// Seeds from the first up to, and without, the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seeds {
    /// The first.
    pub from: u64,
    /// The one behind the last; `None`: there is none.
    pub to: Option<u64>,
}

impl Seeds {
    /// How many, where that is known.
    pub fn count(&self) -> Option<u64> {
        self.to.map(|to| to - self.from)
    }

    fn iter(self) -> impl Iterator<Item = u64> {
        self.from..self.to.unwrap_or(u64::MAX)
    }
}

/// Reads `A..B`, `A..=B` or `A..`.
pub fn seeds(text: &str) -> Result<Seeds, String> {
    let wrong = || format!("{text:?} is not a range of seeds: A..B, A..=B or A..");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
    let from = number(from)?;
    let to = match to.strip_prefix('=') {
        Some(last) => Some(number(last)?.checked_add(1).ok_or_else(wrong)?),
        None if to.trim().is_empty() => None,
        None => Some(number(to)?),
    };
    match to {
        Some(to) if to <= from => Err(format!("{text:?} is a range without seeds")),
        to => Ok(Seeds { from, to }),
    }
}

/// What a sweep has come to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Runs that ended.
    pub runs: u64,
    /// Their simulated time.
    pub simulated_ms: u64,
    /// Their processor time.
    pub cpu: Duration,
    /// Time on the wall clock.
    pub wall: Duration,
    /// Those that failed: seed and the invariants, the first one first.
    pub failed: Vec<(u64, Vec<String>)>,
    /// Rare situations, how often, by name.
    pub rare: BTreeMap<String, u64>,
    /// Of how many accounts the judges could say something.
    pub judged: Judged,
    /// What was violated first, for each failure.
    whats: BTreeMap<u64, String>,
}

impl Tally {
    fn add(&mut self, finished: &Finished) {
        let outcome = &finished.ran.outcome;
        self.runs += 1;
        self.simulated_ms += outcome.stats.simulated_ms;
        self.cpu += finished.cpu;
        for (name, n) in &outcome.stats.rare {
            *self.rare.entry(name.clone()).or_default() += n;
        }
        for (name, said) in &outcome.stats.judged {
            let of = self.judged.entry(name.clone()).or_default();
            for (said, n) in said {
                *of.entry(said.clone()).or_default() += n;
            }
        }
        if let Some(first) = outcome.violations.first() {
            let mut seen = BTreeSet::new();
            let names = outcome.violations.iter().map(|v| v.invariant.clone());
            let names = names.filter(|name| seen.insert(name.clone())).collect();
            self.failed.push((outcome.plan.seed, names));
            let what = first.what.lines().next().unwrap_or_default();
            self.whats.insert(outcome.plan.seed, what.to_owned());
        }
    }

    fn stuck(&self) -> usize {
        let stuck = |(_, names): &&(u64, Vec<String>)| names.iter().any(|n| n == STUCK);
        self.failed.iter().filter(stuck).count()
    }

    fn seeds_per_minute(&self) -> f64 {
        self.runs as f64 * 60.0 / self.wall.as_secs_f64().max(0.001)
    }

    fn speed(&self) -> String {
        format!(
            "{:.0} seeds/min, {} simulated, {} failed",
            self.seeds_per_minute(),
            simulated(self.simulated_ms),
            self.failed.len()
        )
    }
}

/// Simulated time, also in years: that is what one compares with a cluster that runs.
fn simulated(ms: u64) -> String {
    let years = ms as f64 / (365.25 * 86_400_000.0);
    format!("{} ({years:.5} years)", output::span(ms))
}

/// Runs the seeds and counts; failures and JSON are printed as they come.
pub fn sweep(
    engine: &Engine,
    seeds: Seeds,
    choice: &Choice,
    args: &SweepArgs,
) -> Result<Tally, Failure> {
    if seeds.to.is_none() && args.minutes.is_none() {
        return Err(usage("seeds without an end need --minutes"));
    }
    if args.minutes.is_some_and(|m| !(m > 0.0 && m < 1e6)) {
        return Err(usage("--minutes must be above 0"));
    }
    if args.jobs == Some(0) || args.jobs > Some(1024) {
        return Err(usage("--jobs must be 1 to 1024"));
    }
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let limits = Limits {
        jobs: args.jobs.unwrap_or(processors),
        stuck: Duration::from_secs(args.stuck.max(1)),
        until: args.minutes.map(|m| Duration::from_secs_f64(m * 60.0)),
    };
    let engine = match args.twice {
        true => &twice(Engine::clone(engine)),
        false => engine,
    };
    let bar = output::bar(seeds.count());
    let begun = Instant::now();
    let tally = std::cell::RefCell::new(Tally::default());
    let mut plans = seeds.iter().map(|seed| generate(seed, choice));
    let mut on = |finished: Finished| {
        let tally = &mut *tally.borrow_mut();
        tally.add(&finished);
        tally.wall = begun.elapsed();
        let shown = bar.suspend(|| show(&finished, choice, args.json));
        shown?;
        bar.set_position(tally.runs);
        bar.set_message(tally.speed());
        let failed = !finished.ran.outcome.passed();
        Ok(
            match failed && args.stop_at_first || tally.stuck() >= STUCK_AT_MOST {
                true => Next::Enough,
                false => Next::More,
            },
        )
    };
    let mut tick = || tick(&bar);
    let ran = run_all(
        engine,
        Options::default(),
        limits,
        &mut plans,
        &mut on,
        &mut tick,
    );
    bar.finish_and_clear();
    ran?;
    let mut tally = tally.into_inner();
    tally.wall = begun.elapsed();
    tally.failed.sort();
    Ok(tally)
}

fn tick(bar: &ProgressBar) {
    bar.tick();
}

fn show(finished: &Finished, choice: &Choice, json: bool) -> Outcome {
    let outcome = &finished.ran.outcome;
    if json {
        let subject = Subject::of_seed(outcome.plan.seed, choice);
        return output::json(&summary::object(finished, &subject));
    }
    match outcome.violations.first() {
        None => Ok(()),
        Some(v) => output::say(&format!(
            "seed {} FAILED: {} at {:.3} s: {}",
            outcome.plan.seed,
            v.invariant,
            v.at_ms as f64 / 1000.0,
            v.what.lines().next().unwrap_or_default()
        )),
    }
}

/// `run --seeds`.
pub fn run(engine: &Engine, seeds: Seeds, choice: &Choice, args: &SweepArgs) -> Outcome {
    let tally = sweep(engine, seeds, choice, args)?;
    if args.json {
        return conclude(&tally, choice, true);
    }
    output::say(&format!(
        "{} runs in {}, {} of processor time: {}",
        tally.runs,
        output::span(tally.wall.as_millis() as u64),
        output::span(tally.cpu.as_millis() as u64),
        tally.speed()
    ))?;
    output::print(&never(&tally))?;
    output::print(&summary::judged(&tally.judged))?;
    conclude(&tally, choice, false)
}

/// Which rare situations no run has met.
pub fn never(tally: &Tally) -> String {
    let known = marks::known();
    let missed: Vec<_> = known
        .iter()
        .filter(|(name, _)| !tally.rare.contains_key(*name))
        .collect();
    let reached = known.len() - missed.len();
    let mut text = format!("rare situations: {reached} of {} reached\n", known.len());
    for (name, meaning) in missed {
        text.push_str(&format!("  never {name}: {meaning}\n"));
    }
    text
}

/// Lists failures by invariant; the last line reproduces the first of them.
pub fn conclude(tally: &Tally, choice: &Choice, json: bool) -> Outcome {
    let Some((first, _)) = tally.failed.first() else {
        return match json {
            true => Ok(()),
            false => output::say("passed"),
        };
    };
    if json {
        return Err(Failure::Found);
    }
    let rows: Vec<Vec<String>> = tally
        .failed
        .iter()
        .map(|(seed, names)| {
            let what = tally.whats.get(seed).cloned().unwrap_or_default();
            vec![names.join(", "), seed.to_string(), shortened(&what)]
        })
        .collect();
    let mut rows = rows;
    rows.sort();
    output::print(&output::table(&["invariant", "#seed", "what"], &rows))?;
    output::say(&format!("FAILED: {} of {}", tally.failed.len(), tally.runs))?;
    output::say(&Subject::of_seed(*first, choice).line())?;
    Err(Failure::Found)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::engine::tests::fake;

    fn args() -> SweepArgs {
        SweepArgs {
            jobs: Some(2),
            minutes: None,
            stop_at_first: false,
            twice: false,
            json: false,
            stuck: 60,
        }
    }

    #[test]
    fn ranges_are_read_as_in_rust() {
        let range = |from, to| Ok(Seeds { from, to });
        assert_eq!(seeds("0..300"), range(0, Some(300)));
        assert_eq!(seeds("5..=5"), range(5, Some(6)));
        assert_eq!(seeds("7.."), range(7, None));
        for bad in [
            "",
            "5",
            "..5",
            "5..5",
            "9..2",
            "a..b",
            "1..=x",
            "0..=18446744073709551615",
        ] {
            assert!(seeds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn failures_are_counted_and_told() {
        let range = seeds("0..30").unwrap();
        let mut args = args();
        args.stuck = 1;
        let tally = sweep(&fake(), range, &Choice::default(), &args).unwrap();
        let seeds: Vec<u64> = tally.failed.iter().map(|(s, _)| *s).collect();
        assert_eq!((tally.runs, seeds), (30, vec![0, 7, 10, 13, 20]));
        assert!(matches!(
            conclude(&tally, &Choice::default(), false),
            Err(Failure::Found)
        ));
    }

    #[test]
    fn the_first_failure_can_be_the_last() {
        let range = seeds("20..100000").unwrap();
        let mut args = args();
        args.stop_at_first = true;
        let tally = sweep(&fake(), range, &Choice::default(), &args).unwrap();
        assert!(tally.runs < 50 && tally.failed.len() == 1, "{tally:?}");
    }

    #[test]
    fn without_an_end_there_must_be_a_time() {
        let range = seeds("21..").unwrap();
        let mut args = args();
        assert!(sweep(&fake(), range, &Choice::default(), &args).is_err());
        args.minutes = Some(0.002);
        let tally = sweep(&fake(), range, &Choice::default(), &args).unwrap();
        assert!(tally.runs > 0 && tally.wall < Duration::from_secs(20));
    }
}

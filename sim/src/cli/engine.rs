//! Carries runs out on threads of their own: one thread, one run.
//!
//! A fresh thread has fresh thread-locals, so that a run cannot see what another left behind, and a
//! stack on which deep trees of mail can be dropped. A run that does not end cannot be ended from
//! outside: its thread is left behind, and the run is reported as stuck.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::exit::{DIFFERENT, Failure, PANIC, STUCK};
use crate::outcome::{Outcome, Stats, Violation};
use crate::plan::Plan;
use crate::run::{Options, Ran};

/// What runs a plan.
pub type Engine = Arc<dyn Fn(&Plan, &Options) -> Ran + Send + Sync>;

/// Address space, not memory: pages are taken as they are touched.
const STACK_BYTES: usize = 64 << 20;
/// How often somebody looks at the clock while runs are under way.
const TICK: Duration = Duration::from_millis(200);

/// A run that has ended, or was given up.
#[derive(Debug)]
pub struct Finished {
    /// Its number in the order in which they were started.
    pub number: u64,
    /// What came out.
    pub ran: Ran,
    /// How long it took.
    pub wall: Duration,
    /// Processor time of its thread.
    pub cpu: Duration,
}

/// How many at once, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Threads.
    pub jobs: usize,
    /// After so long a run is stuck.
    pub stuck: Duration,
    /// No run is started after so long.
    pub until: Option<Duration>,
}

/// Whether more runs are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    More,
    /// Start none any more; those under way are dropped.
    Enough,
}

/// Runs plans until there are none, the time is over or `on` has had enough. `on` hears of each
/// that has ended; `tick` every so often.
pub fn run_all(
    engine: &Engine,
    options: Options,
    limits: Limits,
    plans: &mut dyn Iterator<Item = Plan>,
    on: &mut dyn FnMut(Finished) -> Result<Next, Failure>,
    tick: &mut dyn FnMut(),
) -> Result<(), Failure> {
    let (done, results) = channel();
    let begun = Instant::now();
    let mut running: BTreeMap<u64, (Instant, Plan)> = BTreeMap::new();
    let mut number = 0;
    let mut left_behind = 0;
    loop {
        let in_time = limits.until.is_none_or(|until| begun.elapsed() < until);
        // Threads that were left behind still take their share of the machine.
        while in_time && running.len() + left_behind < limits.jobs.max(left_behind + 1) {
            let Some(plan) = plans.next() else { break };
            running.insert(number, (Instant::now(), plan.clone()));
            start(engine, options, number, plan, done.clone())?;
            number += 1;
        }
        if running.is_empty() {
            return Ok(());
        }
        let finished = match next(&results) {
            Some(finished) if running.remove(&finished.number).is_some() => Some(finished),
            // It was given up before, and came to an end after all.
            Some(_) => {
                left_behind -= 1;
                None
            }
            None => {
                tick();
                let stuck = |(began, _): &(Instant, Plan)| began.elapsed() > limits.stuck;
                let late = running.iter().find(|(_, run)| stuck(run)).map(|(n, _)| *n);
                late.and_then(|n| Some((n, running.remove(&n)?)))
                    .map(|(number, (began, plan))| {
                        left_behind += 1;
                        given_up(number, began.elapsed(), plan)
                    })
            }
        };
        if let Some(finished) = finished
            && on(finished)? == Next::Enough
        {
            return Ok(());
        }
    }
}

/// Runs one plan.
pub fn run_one(
    engine: &Engine,
    options: Options,
    stuck: Duration,
    plan: &Plan,
) -> Result<Finished, Failure> {
    let limits = Limits {
        jobs: 1,
        stuck,
        until: None,
    };
    let mut ended = None;
    let mut plans = std::iter::once(plan.clone());
    let mut on = |finished| {
        ended = Some(finished);
        Ok(Next::Enough)
    };
    run_all(engine, options, limits, &mut plans, &mut on, &mut || {})?;
    ended.ok_or_else(|| Failure::Broken("the run came to no end".into()))
}

/// Runs every plan twice, one after the other, and finds a violation where the two differ: something
/// that does not follow from the plan has leaked in.
pub fn twice(engine: Engine) -> Engine {
    Arc::new(move |plan: &Plan, options: &Options| {
        let first = engine(plan, options);
        let mut second = engine(plan, options);
        let hashes = (&first.outcome.trace_hash, &second.outcome.trace_hash);
        if hashes.0 == hashes.1 {
            return second;
        }
        let what = format!(
            "the same plan gave the traces {} and {}; {}",
            hashes.0,
            hashes.1,
            first_difference(&engine, plan)
        );
        second
            .outcome
            .violations
            .insert(0, violation(DIFFERENT, what));
        second
    })
}

/// Where the event logs of two runs part.
fn first_difference(engine: &Engine, plan: &Plan) -> String {
    let options = Options { trace: true };
    let [one, other] = [(); 2].map(|()| engine(plan, &options).trace);
    let equal = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let line = |of: &[String]| of.get(equal).cloned().unwrap_or_else(|| "the end".into());
    match equal == one.len() && equal == other.len() {
        true => format!("their event logs are equal, {equal} lines"),
        false => format!(
            "their event logs part at line {}:\n{}\n{}",
            equal + 1,
            line(&one),
            line(&other)
        ),
    }
}

fn next(results: &Receiver<Finished>) -> Option<Finished> {
    // A sender lives on this side, so that the only error is that nothing came in time.
    results.recv_timeout(TICK).ok()
}

fn start(
    engine: &Engine,
    options: Options,
    number: u64,
    plan: Plan,
    done: Sender<Finished>,
) -> Result<(), Failure> {
    let engine = Arc::clone(engine);
    let work = move || {
        let (began, cpu) = (Instant::now(), thread_cpu());
        let ran = match catch_unwind(AssertUnwindSafe(|| engine(&plan, &options))) {
            Ok(ran) => ran,
            Err(thrown) => {
                let text = thrown.downcast_ref::<&str>().map(|s| (*s).to_owned());
                let text = text.or_else(|| thrown.downcast_ref::<String>().cloned());
                broken(plan, PANIC, text.unwrap_or_else(|| "no message".into()))
            }
        };
        // The receiver has gone when nobody wants to know any more.
        done.send(Finished {
            number,
            ran,
            wall: began.elapsed(),
            cpu: thread_cpu().saturating_sub(cpu),
        })
        .ok();
    };
    std::thread::Builder::new()
        .name(format!("run {number}"))
        .stack_size(STACK_BYTES)
        .spawn(work)
        .map(|_| ())
        .map_err(|e| Failure::Broken(format!("cannot start a thread: {e}; use fewer --jobs")))
}

fn given_up(number: u64, wall: Duration, plan: Plan) -> Finished {
    let what = format!("no end after {} s on the wall clock", wall.as_secs());
    Finished {
        number,
        ran: broken(plan, STUCK, what),
        wall,
        cpu: Duration::ZERO,
    }
}

fn broken(plan: Plan, invariant: &str, what: String) -> Ran {
    let violation = violation(invariant, what);
    Ran {
        outcome: Outcome {
            plan,
            violations: vec![violation],
            events: Vec::new(),
            stats: Stats::default(),
            trace_hash: String::new(),
        },
        trace: Vec::new(),
    }
}

fn violation(invariant: &str, what: String) -> Violation {
    Violation {
        invariant: invariant.into(),
        at_ms: 0,
        what,
        node: None,
    }
}

/// Processor time of this thread, as Linux counts it in /proc (proc(5)); nothing elsewhere.
pub fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split(' ').next().and_then(|n| n.parse().ok());
    Duration::from_nanos(ns.unwrap_or(0))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::plan::generate::{Choice, generate};

    /// An engine that fails where a plan's seed is divisible by 10, panics at 7 and sticks at 13.
    pub fn fake() -> Engine {
        Arc::new(|plan: &Plan, _: &Options| {
            if plan.seed == 7 {
                // Nothing of a backtrace, which takes seconds where the machine is busy.
                std::panic::resume_unwind(Box::new("seven".to_string()));
            }
            if plan.seed == 13 {
                std::thread::sleep(Duration::from_secs(3));
            }
            let mut ran = broken(plan.clone(), "acknowledged", "a message is gone".into());
            ran.outcome.stats.simulated_ms = 30_000;
            if !plan.seed.is_multiple_of(10) {
                ran.outcome.violations.clear();
            }
            ran
        })
    }

    fn sweep(
        seeds: std::ops::Range<u64>,
        stuck_ms: u64,
        enough_at: Option<u64>,
    ) -> Vec<(u64, String)> {
        let mut plans = seeds.map(|s| generate(s, &Choice::default()));
        let limits = Limits {
            jobs: 3,
            stuck: Duration::from_millis(stuck_ms),
            until: None,
        };
        let mut failed = Vec::new();
        let mut on = |f: Finished| {
            let seed = f.ran.outcome.plan.seed;
            let first = f.ran.outcome.violations.first();
            failed.extend(first.map(|v| (seed, v.invariant.clone())));
            Ok(match Some(seed) == enough_at {
                true => Next::Enough,
                false => Next::More,
            })
        };
        run_all(
            &fake(),
            Options::default(),
            limits,
            &mut plans,
            &mut on,
            &mut || {},
        )
        .unwrap();
        failed.sort();
        failed
    }

    #[test]
    fn what_panics_sticks_or_fails_is_told_apart() {
        let expected = [
            (0, "acknowledged"),
            (7, PANIC),
            (10, "acknowledged"),
            (13, STUCK),
        ];
        let expected = expected.map(|(s, i)| (s, i.to_owned()));
        assert_eq!(sweep(0..16, 1500, None), expected);
    }

    #[test]
    fn a_late_run_that_ends_after_all_is_not_counted_twice() {
        let begun = Instant::now();
        let failed = sweep(12..15, 1500, None);
        assert_eq!(failed, [(13, STUCK.to_owned())]);
        assert!(begun.elapsed() < Duration::from_secs(6));
    }

    #[test]
    fn one_can_have_enough() {
        let failed = sweep(20..100_000, 60_000, Some(20));
        assert!(failed.len() < 1000, "of 9998 that fail: {}", failed.len());
    }

    #[test]
    fn two_runs_that_differ_are_found() {
        let count = std::sync::atomic::AtomicU64::new(0);
        let unsteady: Engine = Arc::new(move |plan: &Plan, options: &Options| {
            let mut ran = broken(plan.clone(), "x", String::new());
            ran.outcome.violations.clear();
            let n = count.fetch_add(plan.seed, std::sync::atomic::Ordering::Relaxed);
            ran.outcome.trace_hash = n.to_string();
            let lines = ["same".to_owned(), format!("draw {n}")];
            ran.trace = lines.into_iter().filter(|_| options.trace).collect();
            ran
        });
        let engine = twice(unsteady);
        let run = |seed| engine(&generate(seed, &Choice::default()), &Options::default()).outcome;
        assert!(run(0).passed());
        let violation = run(1).violations.remove(0);
        assert_eq!(violation.invariant, DIFFERENT);
        assert!(violation.what.contains("line 2"), "{}", violation.what);
    }

    #[test]
    fn processor_time_is_counted() {
        let before = thread_cpu();
        let begun = Instant::now();
        let mut x = 1u64;
        while begun.elapsed() < Duration::from_millis(60) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(thread_cpu() > before, "{x}");
    }
}

//! The simulator as its users run it: equal seeds give equal runs, in whatever process and after
//! whatever other runs; a sweep finds nothing, and plans that once showed a bug pass.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

/// Seeds that are run more than once: some of them over real HTTP/2.
const SEEDS: std::ops::Range<u64> = 0..12;

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse-sim"));
    command
        .args(arguments)
        .output()
        .expect("the simulator starts")
}

/// Hash of the trace by seed.
fn hashes(output: &Output) -> BTreeMap<u64, String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let runs = text.lines().filter_map(|line| {
        let run: serde_json::Value = serde_json::from_str(line).ok()?;
        Some((
            run["seed"].as_u64()?,
            run["trace_hash"].as_str()?.to_owned(),
        ))
    });
    runs.collect()
}

#[test]
fn a_seed_is_the_same_run_in_every_process_and_after_others() {
    let range = format!("{}..{}", SEEDS.start, SEEDS.end);
    let in_sequence = hashes(&sim(&["run", "--seeds", &range, "--jobs", "1", "--json"]));
    assert_eq!(
        in_sequence.len() as u64,
        SEEDS.end - SEEDS.start,
        "every seed has a hash"
    );
    for transport in ["message", "http2"] {
        let again = [
            "run",
            "--seeds",
            &range,
            "--jobs",
            "2",
            "--json",
            "--transport",
            transport,
        ];
        let (first, second) = (hashes(&sim(&again)), hashes(&sim(&again)));
        assert_eq!(first.len(), in_sequence.len());
        assert_eq!(first, second, "{transport}: two processes differ");
    }
    for (seed, hash) in &in_sequence {
        let alone = hashes(&sim(&["run", "--seed", &seed.to_string(), "--json"]));
        assert_eq!(
            alone.get(seed),
            Some(hash),
            "seed {seed} alone differs from a sequence"
        );
    }
}

/// The first of the seeds that nobody has run yet: every commit has its own, so that a failure comes
/// again. `POSTHOUSE_SEEDS_FROM` names another one; without a repository it is 0.
fn fresh() -> u64 {
    if let Ok(first) = std::env::var("POSTHOUSE_SEEDS_FROM") {
        return first.parse().expect("POSTHOUSE_SEEDS_FROM is a number");
    }
    let mut git = Command::new("git");
    git.args(["rev-parse", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let commit = git.output().map(|o| o.stdout).unwrap_or_default();
    let commit = String::from_utf8_lossy(&commit);
    let digits = commit.get(..10).unwrap_or_default();
    u64::from_str_radix(digits, 16).unwrap_or(0)
}

#[test]
fn a_sweep_of_fresh_seeds_finds_nothing() {
    let jobs = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .to_string();
    let first = fresh();
    let seeds = format!("{first}..{}", first + 300);
    let began = Instant::now();
    let output = sim(&["run", "--seeds", &seeds, "--jobs", &jobs]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "seeds {seeds}: {said}");
    eprintln!("seeds {seeds} took {:?}", began.elapsed());
}

#[test]
fn plans_that_once_failed_pass() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let names = std::fs::read_dir(&dir).expect("the directory of plans is there");
    let mut plans: Vec<_> = names.map(|name| name.expect("readable").path()).collect();
    plans.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    plans.sort();
    assert!(!plans.is_empty());
    for plan in plans {
        let path = plan.to_str().expect("a name in ASCII");
        let output = sim(&["replay", path]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{path}:\n{said}");
    }
}

//! One run as people and as programs read it: configuration, what happened, verdict.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::choice::Subject;
use super::engine::Finished;
use super::output::{octets, span};
use crate::outcome::{EventKind, Judged, Outcome};
use crate::plan::{Plan, settings};
use crate::version::version;

/// Violations that are printed whole; of more only the number.
const SHOWN: usize = 5;

/// What is going to be run.
pub fn configuration(subject: &Subject) -> String {
    let plan = &subject.plan;
    let mut text = format!("{}\n", plan.summary());
    if !plan.title.is_empty() {
        text = format!("{}: {text}", plan.title);
    }
    let (net, disk, s) = (&plan.network, &plan.disk, &plan.settings);
    text.push_str(&format!(
        "  network   {} ms, up to {} more, {} between zones\n  \
           disks     {}, sync {} ms, up to {} more, sectors of {}\n  \
           settings  {}: segments {}, flush {} or {} ms, keep {} entries, elections {}-{} ms\n",
        net.delay_ms,
        net.jitter_ms,
        net.zone_delay_ms,
        octets(disk.bytes),
        disk.sync_ms,
        disk.sync_jitter_ms,
        disk.sector,
        kind_of_settings(plan),
        octets(s.segment_bytes),
        octets(s.flush_bytes),
        s.flush_ms,
        s.keep_entries,
        s.election_ms.0,
        s.election_ms.1,
    ));
    let budget = match plan.budget {
        true => "",
        false => " (without budget: mail may be lost)",
    };
    text.push_str(&format!("  faults    {}{budget}\n", plan.faults.len()));
    for fault in &plan.faults {
        text.push_str(&format!(
            "    {:>8.3} s  {}\n",
            seconds(fault.at_ms),
            fault.kind.words()
        ));
    }
    text
}

fn kind_of_settings(plan: &Plan) -> &'static str {
    let shipped = settings::shipped();
    let s = &plan.settings;
    match (s.raft_window_bytes, s.heartbeat_ms) == (shipped.raft_window_bytes, shipped.heartbeat_ms)
    {
        true => "shipped",
        false => "for rare branches",
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn counts(map: &BTreeMap<String, u64>) -> String {
    let pairs: Vec<String> = map.iter().map(|(name, n)| format!("{n} {name}")).collect();
    match pairs.is_empty() {
        true => "none".into(),
        false => pairs.join(", "),
    }
}

/// Of how many accounts the judges could say something, a line each.
pub fn judged(judged: &Judged) -> String {
    let lines = judged.iter().map(|(name, said)| {
        let all: u64 = said.values().sum();
        format!("  {name:<9} {all} accounts: {}\n", counts(said))
    });
    lines.collect()
}

/// What happened, by kind.
pub fn events(outcome: &Outcome) -> String {
    let stats = &outcome.stats;
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut phases = Vec::new();
    for event in &outcome.events {
        let kind = match &event.kind {
            EventKind::Started { .. } => "starts",
            EventKind::Ended { .. } => "ends",
            EventKind::Role { role, .. } if role == "leader" => "leaders",
            EventKind::Phase { name } => {
                phases.push(format!("{name} {:.1} s", seconds(event.at_ms)));
                continue;
            }
            _ => continue,
        };
        *seen.entry(kind.to_owned()).or_default() += 1;
    }
    format!(
        "  phases    {}\n  calls     {}\n  faults    {}; {} held back\n  nodes     {}\n  \
           work      {} packets, {} polls\n  rare      {} situations\n  peaks     {}\n  waited ms {}\n",
        phases.join(", "),
        counts(&stats.answers),
        counts(&stats.faults),
        stats.held_back,
        counts(&seen),
        stats.packets,
        stats.polls,
        stats.rare.len(),
        counts(&stats.peaks),
        counts(&stats.waited_ms),
    ) + &judged(&stats.judged)
}

/// Passed or not, and why.
pub fn verdict(finished: &Finished) -> String {
    let outcome = &finished.ran.outcome;
    let ran = format!(
        "{} simulated in {:.2} s ({:.2} s of processor time), trace {}",
        span(outcome.stats.simulated_ms),
        finished.wall.as_secs_f64(),
        finished.cpu.as_secs_f64(),
        outcome.trace_hash.get(..16).unwrap_or("-")
    );
    if outcome.passed() {
        return format!("passed: {ran}\n");
    }
    let mut text = format!("FAILED: {ran}\n");
    for violation in outcome.violations.iter().take(SHOWN) {
        let node = violation
            .node
            .map_or(String::new(), |n| format!(" on node {n}"));
        text.push_str(&format!(
            "  {} violated at {:.3} s{node}\n",
            violation.invariant,
            seconds(violation.at_ms)
        ));
        for line in violation.what.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    if outcome.violations.len() > SHOWN {
        let more = outcome.violations.len() - SHOWN;
        text.push_str(&format!(
            "  and {more} more; see them with --json or --report\n"
        ));
    }
    text
}

/// The run as one JSON object.
pub fn object(finished: &Finished, subject: &Subject) -> Value {
    let outcome = &finished.ran.outcome;
    let stats = &outcome.stats;
    json!({
        "seed": outcome.plan.seed,
        "verdict": if outcome.passed() { "passed" } else { "failed" },
        "violations": outcome.violations,
        "simulated_ms": stats.simulated_ms,
        "wall_ms": finished.wall.as_millis() as u64,
        "cpu_ms": finished.cpu.as_millis() as u64,
        "trace_hash": outcome.trace_hash,
        "answers": stats.answers,
        "faults": stats.faults,
        "held_back": stats.held_back,
        "packets": stats.packets,
        "polls": stats.polls,
        "rare": stats.rare,
        "peaks": stats.peaks,
        "waited_ms": stats.waited_ms,
        "judged": stats.judged,
        "version": version(),
        "reproduce": subject.line(),
    })
}

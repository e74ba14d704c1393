//! The timeline for a terminal: one line an interval, one column a node.
//!
//! ```text
//!     time   node 0  node 1  node 2   calls      what
//!    5.000 s Lff     xffL    .fL      +7 ?1      node 1 loses power, down 3000 ms
//! ```
//!
//! A letter a shard: `L` leader, `f` follower, `c` candidate, `l` learner, `-` no replica; dots
//! where the process is not there; `x` before it when it ended in this interval.

use std::fmt::Write;

use super::lanes::{Lane, Lanes, lanes};
use crate::outcome::{EventKind, Outcome};

/// Lines of a timeline, about.
const LINES: u64 = 80;
/// With more shards than this a column counts roles.
const LETTERS: usize = 10;

/// The timeline as text.
pub fn text(outcome: &Outcome) -> String {
    let lanes = lanes(outcome);
    let step = step(lanes.end_ms);
    let width = lanes.shards.len().min(LETTERS) + 2;
    let width = width.max(8);
    let mut text = head(outcome);
    let _ = write!(text, "{:>10}  ", "time");
    for node in lanes.nodes.keys() {
        let _ = write!(text, "{:<width$}", format!("node {node}"));
    }
    let _ = writeln!(text, "{:<16}what", "calls");
    let mut last = String::new();
    let mut skipped = false;
    for from in (0..=lanes.end_ms).step_by(step as usize) {
        let to = from + step;
        let states: String = lanes
            .nodes
            .values()
            .map(|lane| format!("{:<width$}", state(&lanes, lane, from, to)))
            .collect();
        let (calls, said) = happened(outcome, from, to);
        if calls.is_empty() && said.is_empty() && states == last {
            skipped = true;
            continue;
        }
        if skipped {
            let _ = writeln!(text, "{:>10}", "…");
            skipped = false;
        }
        let seconds = from as f64 / 1000.0;
        let mut said = said.into_iter();
        let first = said.next().unwrap_or_default();
        let line = format!("{seconds:>8.3} s  {states}{calls:<16}{first}");
        let _ = writeln!(text, "{}", line.trim_end());
        for more in said {
            let indent = 12 + lanes.nodes.len() * width + 16;
            let _ = writeln!(text, "{:indent$}{more}", "");
        }
        last = states;
    }
    text
}

fn head(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let title = if plan.title.is_empty() {
        "run"
    } else {
        &plan.title
    };
    let mut text = format!("{title}, seed {}: {}\n", plan.seed, plan.summary());
    match outcome.violations.as_slice() {
        [] => text.push_str("passed\n"),
        violations => {
            for v in violations {
                let at = v.at_ms as f64 / 1000.0;
                let _ = writeln!(text, "FAILED: {} at {at:.3} s: {}", v.invariant, v.what);
            }
        }
    }
    text.push_str(
        "L leader, f follower, c candidate, l learner, - no replica, . not running, x ended; \
         + acknowledged, ? unknown, ! refused\n\n",
    );
    text
}

/// A round interval that gives about [`LINES`] lines.
fn step(end_ms: u64) -> u64 {
    let round = [
        50, 100, 200, 250, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000,
    ];
    let enough = round.into_iter().find(|step| end_ms / step <= LINES);
    enough.unwrap_or(end_ms.div_ceil(LINES))
}

/// What a node is at the end of an interval.
fn state(lanes: &Lanes, lane: &Lane, from: u64, to: u64) -> String {
    let ended = lane.ends.iter().any(|(at, _)| (from..to).contains(at));
    let at = (to - 1).min(lanes.end_ms);
    let mark = if ended { "x" } else { "" };
    if !lane.is_alive(at) {
        let dots = lanes.shards.len().clamp(1, LETTERS);
        return format!("{mark}{}", ".".repeat(dots));
    }
    let letter = |shard: &u32| match lane.role(*shard, at).map(|r| r.name.as_str()) {
        Some("leader") => 'L',
        Some("follower") => 'f',
        Some("candidate") => 'c',
        Some("learner") => 'l',
        Some(_) => '?',
        None => '-',
    };
    let letters: String = lanes.shards.iter().map(letter).collect();
    match letters.len() <= LETTERS {
        true => format!("{mark}{letters}"),
        false => {
            let leads = letters.matches('L').count();
            let follows = letters.matches('f').count();
            format!("{mark}L{leads} f{follows}")
        }
    }
}

/// How calls were answered in an interval, and what began in it.
fn happened(outcome: &Outcome, from: u64, to: u64) -> (String, Vec<String>) {
    let (mut done, mut unknown, mut refused) = (0, 0, 0);
    let mut said = Vec::new();
    let mut events: Vec<_> = outcome.events.iter().collect();
    events.retain(|e| (from..to).contains(&e.at_ms));
    events.sort_by_key(|e| e.at_ms);
    for event in events {
        match &event.kind {
            EventKind::Phase { name } => said.push(format!("== {name}")),
            EventKind::Ended { why } => {
                let node = event.node.map_or(String::new(), |n| format!("node {n} "));
                said.push(format!("{node}ended: {why}"));
            }
            EventKind::Fault {
                what, held_back, ..
            } => said.push(match held_back {
                Some(why) => format!("(held back: {what}: {why})"),
                None => what.clone(),
            }),
            EventKind::Violation { invariant, what } => {
                said.push(format!("!! {invariant}: {what}"));
            }
            EventKind::Call { answer, .. } => match answer.as_str() {
                "acknowledged" => done += 1,
                "refused" => refused += 1,
                _ => unknown += 1,
            },
            EventKind::Started { .. } | EventKind::Serving | EventKind::Role { .. } => {}
        }
    }
    let counts: Vec<String> = [('+', done), ('?', unknown), ('!', refused)]
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(sign, n)| format!("{sign}{n}"))
        .collect();
    (counts.join(" "), said)
}

#[cfg(test)]
mod tests {
    use super::super::sample::sample;
    use super::*;

    #[test]
    fn a_terminal_shows_who_led_and_what_went_wrong() {
        let text = text(&sample());
        let line = |start: &str| {
            text.lines()
                .find(|l| l.trim_start().starts_with(start))
                .unwrap()
        };
        assert!(line("4.500 s").contains("Lff"), "{text}");
        assert!(
            line("5.000 s").contains("x...") && text.contains("loses power"),
            "{text}"
        );
        assert!(
            text.contains("!! acknowledged") && text.contains("(held back: node 0 loses its disk")
        );
        assert!(text.contains("?") && text.lines().count() < 120, "{text}");
    }

    #[test]
    fn intervals_are_round() {
        assert_eq!(
            (step(30_000), step(4000), step(100_000_000)),
            (500, 50, 1_250_000)
        );
    }
}

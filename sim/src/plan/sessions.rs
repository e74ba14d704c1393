//! What IMAP sessions do beside reading, carrying and marking a message; followers that ask for the
//! changes of whole accounts; and messages that are read range by range.
//!
//! Drawn from streams of their own, for what the others have drawn, after everything else that clients
//! do: what a seed draws elsewhere stays as it is.

use rand::RngExt;

use super::draw::{one_in, scaled, weighted};
use super::{Cut, ImapStep, Op, OpKind, Plan};
use crate::stream::{Stream, stream};

/// The first body number: those of others are far below.
const BODIES: u64 = 1 << 34;
/// Octets of a new message at most.
const SIZE: u64 = 4 << 10;
/// Mailboxes whose counters are asked for.
const MAILBOXES: [u32; 5] = [0, 1, 2, 3, 8];
/// What messages have or have not.
const FLAGS: [&str; 4] = ["\\Seen", "\\Deleted", "\\Flagged", "$Forwarded"];

/// Draws them into the plan; `wanted`: the plan has about so many other operations.
pub fn draw(plan: &mut Plan, wanted: Option<u32>) {
    steps(plan);
    followers(plan);
    ranges(plan, wanted);
}

/// Two seeds of three have sessions that do more.
fn steps(plan: &mut Plan) {
    let rng = &mut stream(plan.seed, "imap steps", 0);
    let share = weighted(rng, &[(1, 0), (1, 40), (1, 100)]);
    let kinds: [(u32, u32); 6] = std::array::from_fn(|kind| (rng.random_range(1..=4), kind as u32));
    let mut next_body = BODIES;
    for op in &mut plan.ops {
        let OpKind::Imap { mailbox, also, .. } = &mut op.kind else {
            continue;
        };
        if rng.random_range(0..100) >= share {
            continue;
        }
        for _ in 0..weighted(rng, &[(3, 1), (2, 2), (1, 5)]) {
            let kind = weighted(rng, &kinds);
            also.push(step(rng, kind, *mailbox, &mut next_body));
        }
    }
}

/// A step of a session that has selected this mailbox.
fn step(rng: &mut Stream, kind: u32, selected: u32, next_body: &mut u64) -> ImapStep {
    // The door takes no message without octets.
    let size = |rng: &mut Stream| scaled(rng, 1, SIZE);
    match kind {
        0 => {
            let count: u64 = weighted(rng, &[(1, 1), (3, 2), (2, 3), (1, 7)]);
            let body = *next_body;
            *next_body += count;
            ImapStep::AppendMany {
                sizes: (0..count).map(|_| size(rng)).collect(),
                body,
            }
        }
        1 => {
            let body = *next_body;
            *next_body += 1;
            ImapStep::Replace {
                pick: rng.random_range(0..1000),
                size: size(rng),
                body,
            }
        }
        2 => {
            let others = MAILBOXES.into_iter().filter(|m| *m != selected);
            let others: Vec<u32> = others.collect();
            ImapStep::Status {
                mailbox: others[rng.random_range(0..others.len())],
            }
        }
        3 => ImapStep::List {
            status: !one_in(rng, 3),
        },
        4 => ImapStep::Search {
            flag: FLAGS[rng.random_range(0..FLAGS.len())].to_owned(),
            // Most messages have none.
            on: one_in(rng, 3),
        },
        _ => ImapStep::Pieces {
            cut: scaled(rng, 1, SIZE) as u32,
        },
    }
}

/// Half of the seeds have followers of whole accounts.
fn followers(plan: &mut Plan) {
    let rng = &mut stream(plan.seed, "whole accounts", 0);
    let share = weighted(rng, &[(1, 0), (1, 60)]);
    for op in &mut plan.ops {
        if let OpKind::Follow { whole, .. } = &mut op.kind {
            *whole = rng.random_range(0..100) < share;
        }
    }
}

/// Half of the seeds have messages read range by range.
fn ranges(plan: &mut Plan, wanted: Option<u32>) {
    let rng = &mut stream(plan.seed, "ranges", 0);
    let none = one_in(rng, 2);
    let count = scaled(rng, 2, 20);
    let count = wanted.map_or(count, |few| u64::from(few) / 20);
    if none {
        return;
    }
    let hot = rng.random_range(0..plan.accounts);
    for n in 0..count {
        let rng = &mut stream(plan.seed, "range", n);
        plan.ops.push(Op {
            at_ms: rng.random_range(plan.duration_ms / 40..=plan.duration_ms),
            client: rng.random_range(0..plan.clients),
            account: match one_in(rng, 3) {
                true => rng.random_range(0..plan.accounts),
                false => hot,
            },
            kind: OpKind::Sections {
                mailbox: weighted(rng, &[(6, 0), (2, 1), (1, 2)]),
                pick: rng.random_range(0..1000),
                cut: Cut::Ranges,
            },
        });
    }
    plan.ops.sort_by_key(|op| op.at_ms);
}

#[cfg(test)]
mod tests {
    use super::super::generate::{Choice, generate};
    use super::*;

    #[test]
    fn they_add_to_what_is_drawn_and_change_nothing_of_it() {
        let (mut many, mut whole, mut ranges) = (0, 0, 0);
        for seed in 0..100 {
            let with = generate(seed, &Choice::default());
            let mut bare = with.clone();
            let by_range = |op: &Op| match op.kind {
                OpKind::Sections { cut, .. } => cut == Cut::Ranges,
                _ => false,
            };
            bare.ops.retain(|op| !by_range(op));
            ranges += with.ops.len() - bare.ops.len();
            for op in &mut bare.ops {
                match &mut op.kind {
                    OpKind::Imap { also, .. } => {
                        let appends =
                            |step: &&ImapStep| matches!(step, ImapStep::AppendMany { .. });
                        many += also.iter().filter(appends).count();
                        also.clear();
                    }
                    OpKind::Follow { whole: all, .. } => whole += usize::from(std::mem::take(all)),
                    _ => {}
                }
            }
            draw(&mut bare, None);
            assert_eq!(bare, with, "{seed}");
        }
        assert!(
            many > 20 && whole > 20 && ranges > 100,
            "{many} {whole} {ranges}"
        );
    }
}

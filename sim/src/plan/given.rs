//! What new messages are given beside their octets: flags, a date, and for a delivery the mailbox
//! that a filter chose; what an IMAP session does with a message; and questions about the sums that such messages move.
//!
//! Drawn from streams of their own, for what the others have drawn: what a seed draws elsewhere stays
//! as it is. Dates are whole seconds of other years than that of the run, so that none is the
//! clock's by chance, and few, so that some are equal.

use rand::RngExt;

use super::draw::{one_in, scaled, some, weighted};
use super::{ImapCarry, Op, OpKind, Plan};
use crate::stream::{Stream, stream};

/// Flags and keywords, by their weight: those that counters count are the common ones.
const FLAGS: [(u32, &str); 7] = [
    (6, "\\Seen"),
    (4, "\\Deleted"),
    (2, "\\Flagged"),
    (1, "\\Answered"),
    (1, "\\Draft"),
    (1, "$Forwarded"),
    (1, "filed"),
];
/// Dates that messages of one seed are given.
const DATES: u64 = 6;
/// In 2001, ms since 1970.
const FIRST_MS: u64 = 1_000_000_000_000;

/// Draws them into the plan; `wanted`: the plan has about so many other operations.
pub fn draw(plan: &mut Plan, wanted: Option<u32>) {
    stores(plan);
    questions(plan, wanted);
}

fn stores(plan: &mut Plan) {
    let rng = &mut stream(plan.seed, "given", 0);
    let flagged = weighted(rng, &[(1, 0), (2, 30), (1, 90)]);
    let dated = weighted(rng, &[(1, 0), (2, 30), (1, 90)]);
    let filed = weighted(rng, &[(1, 0), (2, 25), (1, 80)]);
    let made: Vec<(u32, u32)> = plan.ops.iter().filter_map(made).collect();
    let carried = weighted(rng, &[(1, 0), (2, 30), (2, 80)]);
    for op in &mut plan.ops {
        if let OpKind::Imap {
            flags: set, carry, ..
        } = &mut op.kind
        {
            if rng.random_range(0..100) < flagged {
                *set = flags(rng);
            }
            *carry = (rng.random_range(0..100) < carried).then(|| ImapCarry {
                to: rng.random_range(0..=2),
                away: one_in(rng, 2),
            });
        }
        let Some(given) = op.kind.given_mut() else {
            continue;
        };
        if rng.random_range(0..100) < flagged {
            given.flags = flags(rng);
        }
        if rng.random_range(0..100) < dated {
            given.date_ms = FIRST_MS + 1000 * rng.random_range(0..DATES);
        }
        let OpKind::Deliver { into, .. } = &mut op.kind else {
            continue;
        };
        if rng.random_range(0..100) >= filed {
            continue;
        }
        let of = made.iter().filter(|(account, _)| *account == op.account);
        let there: Vec<u32> = of.map(|(_, mailbox)| *mailbox).collect();
        // Rarely one that is not there.
        *into = match there.is_empty() || one_in(rng, 15) {
            true => Some(rng.random_range(0..=2)),
            false => Some(there[rng.random_range(0..there.len())]),
        };
    }
}

/// The mailbox that an operation makes, with its account.
fn made(op: &Op) -> Option<(u32, u32)> {
    match op.kind {
        OpKind::CreateMailbox { mailbox } | OpKind::MakeMailbox { mailbox, .. } => {
            Some((op.account, mailbox))
        }
        _ => None,
    }
}

fn flags(rng: &mut Stream) -> Vec<String> {
    let count = weighted(rng, &[(6, 1), (3, 2), (1, 4)]);
    let chosen: Vec<&str> = (0..count).map(|_| weighted(rng, &FLAGS)).collect();
    let mut flags: Vec<String> = Vec::new();
    for flag in chosen {
        if !flags.iter().any(|known| known == flag) {
            flags.push(flag.to_owned());
        }
    }
    flags
}

/// Half of the seeds ask what accounts hold and which there are.
fn questions(plan: &mut Plan, wanted: Option<u32>) {
    let rng = &mut stream(plan.seed, "sums", 0);
    if one_in(rng, 2) {
        return;
    }
    let count = scaled(rng, 2, 30);
    let count = wanted.map_or(count, |few| u64::from(few) / 15);
    let hot = some(rng, 1, plan.accounts);
    for n in 0..count {
        let rng = &mut stream(plan.seed, "sum", n);
        let account = match one_in(rng, 2) {
            true => hot[0],
            false => rng.random_range(0..plan.accounts),
        };
        plan.ops.push(Op {
            at_ms: rng.random_range(0..=plan.duration_ms),
            client: rng.random_range(0..plan.clients),
            account,
            kind: match one_in(rng, 3) {
                true => OpKind::Accounts {
                    page: weighted(rng, &[(2, 1), (1, 2), (1, 1000)]),
                },
                false => OpKind::Usage,
            },
        });
    }
    plan.ops.sort_by_key(|op| op.at_ms);
}

#[cfg(test)]
mod tests {
    use super::super::Given;
    use super::super::generate::{Choice, generate};
    use super::*;

    /// What a delivery is given, and its mailbox.
    type Drawn = (Given, Option<u32>);

    #[test]
    fn they_add_to_what_is_drawn_and_change_nothing_of_it() {
        let mut all: Vec<Drawn> = Vec::new();
        for seed in 0..100 {
            let with = generate(seed, &Choice::default());
            let mut bare = with.clone();
            let asks = |op: &Op| matches!(op.kind, OpKind::Usage | OpKind::Accounts { .. });
            bare.ops.retain(|op| !asks(op));
            for op in &mut bare.ops {
                if let OpKind::Deliver { given, into, .. } = &mut op.kind {
                    all.push((given.clone(), *into));
                    *into = None;
                }
                if let OpKind::Imap { flags, carry, .. } = &mut op.kind {
                    (*flags, *carry) = (Vec::new(), None);
                }
                if let Some(given) = op.kind.given_mut() {
                    *given = Given::default();
                }
            }
            draw(&mut bare, None);
            assert_eq!(bare.ops.len(), with.ops.len());
            assert!(bare.ops.iter().all(|op| with.ops.contains(op)), "{seed}");
        }
        let share = |what: &dyn Fn(&Drawn) -> bool| {
            all.iter().filter(|g| what(g)).count() * 100 / all.len()
        };
        assert!(share(&|(given, _)| !given.flags.is_empty()) > 20);
        assert!(share(&|(given, _)| given.date_ms != 0) > 20);
        assert!(share(&|(_, into)| into.is_some_and(|m| m != 0)) > 10);
    }
}

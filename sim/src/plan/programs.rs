//! What programs of users do beside [`super::mail`]: they log in by passwords of their own, have
//! messages told in an order or in threads, and fetch mail by POP3.
//!
//! Each of the three is drawn from streams of its own, after everything else that clients do: what
//! a seed draws elsewhere stays as it is. Half of the seeds have each of them.

use std::collections::BTreeSet;

use rand::RngExt;

use super::draw::{one_in, scaled, weighted};
use super::{LoginState, Op, OpKind, Plan, SortBy};
use crate::stream::{Stream, stream};

/// The mailboxes that are looked at, by their weight.
const MAILBOXES: [(u32, u32); 4] = [(6, 0), (2, 1), (1, 2), (1, 8)];
/// What messages have or have not.
const FLAGS: [&str; 4] = ["\\Seen", "\\Deleted", "\\Flagged", "$Forwarded"];
/// Programs of an account.
const PROGRAMS: u32 = 3;
/// Commands of a POP3 session.
const COMMANDS: u32 = 9;

/// Draws these operations into the plan; `wanted`: the plan has about so many others.
pub fn draw(plan: &mut Plan, wanted: Option<u32>) {
    passwords(plan, wanted);
    orders(plan, wanted);
    pop3(plan, wanted);
    plan.ops.sort_by_key(|op| op.at_ms);
}

/// When each of the operations of one kind is, and who does it to whom.
struct Places {
    hot: u32,
    hot_percent: u32,
}

impl Places {
    fn new(rng: &mut Stream, plan: &Plan) -> Places {
        Places {
            hot: rng.random_range(0..plan.accounts),
            hot_percent: weighted(rng, &[(1, 0), (2, 70), (1, 100)]),
        }
    }

    /// An operation at some time, by somebody.
    fn op(&self, rng: &mut Stream, plan: &Plan, kind: OpKind) -> Op {
        let from = plan.duration_ms / 40;
        let account = match rng.random_range(0..100) < self.hot_percent {
            true => self.hot,
            false => rng.random_range(0..plan.accounts),
        };
        Op {
            at_ms: rng.random_range(from..=plan.duration_ms),
            client: rng.random_range(0..plan.clients),
            account,
            kind,
        }
    }
}

/// How many there are.
fn count(rng: &mut Stream, wanted: Option<u32>, low: u64, high: u64) -> u32 {
    let count = scaled(rng, low, high) as u32;
    wanted.map_or(count, |few| few / 15)
}

fn passwords(plan: &mut Plan, wanted: Option<u32>) {
    let rng = &mut stream(plan.seed, "app passwords", 0);
    let none = one_in(rng, 2);
    let count = count(rng, wanted, 12, 50);
    let places = Places::new(rng, plan);
    let repeated = weighted(rng, &[(1, 0), (2, 30), (1, 60)]);
    // In a third of them nobody is kept out.
    let kept_out = u32::from(!one_in(rng, 3));
    if none {
        return;
    }
    for n in 0..count {
        let rng = &mut stream(plan.seed, "app password", n.into());
        let app = rng.random_range(0..PROGRAMS);
        let repeat = match rng.random_range(0..100) < repeated {
            true => weighted(rng, &[(4, 1), (1, 3)]),
            false => 0,
        };
        let kind = match weighted(rng, &[(6, 0), (3, 1), (3, 2), (9, 3), (kept_out, 4)]) {
            0 => OpKind::AddAppPassword { app, repeat },
            1 => OpKind::RemoveAppPassword { app, repeat },
            2 => OpKind::ListAppPasswords,
            3 => OpKind::AppLogin {
                pick: rng.random_range(0..1000),
            },
            _ => OpKind::SetState {
                state: weighted(rng, &[(3, LoginState::Frozen), (1, LoginState::Closed)]),
            },
        };
        let op = places.op(rng, plan, kind);
        if let OpKind::SetState { .. } = op.kind {
            // Not for long: there is more to see of an account that lets people in.
            plan.ops.push(Op {
                at_ms: (op.at_ms + scaled(rng, 1, 2000)).min(plan.duration_ms),
                kind: OpKind::SetState {
                    state: LoginState::Active,
                },
                ..op.clone()
            });
        }
        plan.ops.push(op);
    }
}

fn orders(plan: &mut Plan, wanted: Option<u32>) {
    let rng = &mut stream(plan.seed, "orders", 0);
    let none = one_in(rng, 2);
    let count = count(rng, wanted, 4, 25);
    let places = Places::new(rng, plan);
    if none {
        return;
    }
    for n in 0..count {
        let rng = &mut stream(plan.seed, "order", n.into());
        let mailbox = weighted(rng, &MAILBOXES);
        let flag = FLAGS[rng.random_range(0..FLAGS.len())].to_owned();
        // Most messages have none.
        let on = one_in(rng, 4);
        let kind = match one_in(rng, 3) {
            true => OpKind::Thread { mailbox, flag, on },
            false => OpKind::Sort {
                mailbox,
                flag,
                on,
                by: weighted(
                    rng,
                    &[(1, SortBy::Arrival), (3, SortBy::Size), (2, SortBy::Date)],
                ),
                reverse: one_in(rng, 2),
            },
        };
        let op = places.op(rng, plan, kind);
        plan.ops.push(op);
    }
}

fn pop3(plan: &mut Plan, wanted: Option<u32>) {
    let rng = &mut stream(plan.seed, "pop3", 0);
    let none = one_in(rng, 2);
    let count = count(rng, wanted, 2, 15);
    let places = Places::new(rng, plan);
    if none {
        return;
    }
    let mut sessions = Vec::new();
    for n in 0..count {
        let rng = &mut stream(plan.seed, "pop3 session", n.into());
        let kind = OpKind::Pop3 {
            password: 1,
            pick: rng.random_range(0..1000),
            keep: one_in(rng, 5),
            cut: one_in(rng, 4).then(|| rng.random_range(0..COMMANDS)),
        };
        sessions.push(places.op(rng, plan, kind));
    }
    // Who fetches mail has a password.
    let owners: BTreeSet<u32> = sessions.iter().map(|op| op.account).collect();
    for account in owners {
        plan.ops.push(Op {
            at_ms: plan.duration_ms / 40,
            client: rng.random_range(0..plan.clients),
            account,
            kind: OpKind::SetPassword { password: 1 },
        });
    }
    plan.ops.append(&mut sessions);
}

#[cfg(test)]
mod tests {
    use super::super::generate::{Choice, generate};
    use super::*;

    #[test]
    fn they_come_after_everything_else_and_take_nothing_away() {
        for seed in 0..50 {
            let with = generate(seed, &Choice::default());
            let mut without = with.clone();
            without.ops.clear();
            draw(&mut without, None);
            assert!(without.ops.iter().all(|op| with.ops.contains(op)));
            assert!(without.ops.iter().all(|op| op.at_ms <= with.duration_ms));
            assert!(without.ops.is_sorted_by_key(|op| op.at_ms));
            let of = |kind: &OpKind| matches!(kind, OpKind::Pop3 { .. });
            let drawn = |plan: &Plan| plan.ops.iter().filter(|op| of(&op.kind)).count();
            assert_eq!(drawn(&with), drawn(&without));
        }
    }
}

//! Copies and moves of messages to another account, and what happens to these messages and to both
//! accounts meanwhile.
//!
//! Drawn from a stream of its own, after everything else that clients do: what a seed draws elsewhere
//! stays as it is. They come in bursts on one pair of accounts, because what is interesting is what
//! meets: repetitions that overtake each other, messages that are expunged, flagged or carried
//! elsewhere while they are on their way, a target that closes or goes.

use rand::RngExt;

use super::draw::{one_in, scaled, weighted};
use super::{FlagMode, Given, LoginState, Op, OpKind, Plan};
use crate::stream::{Stream, stream};

/// The mailboxes of which these operations draw, by their weight.
const MAILBOXES: [(u32, u32); 3] = [(3, 0), (2, 1), (1, 2)];
/// Bodies of these operations begin here, so that none is one of another operation by chance.
const BODIES: u64 = 1 << 33;
/// Octets of their messages at most.
const LARGEST: u64 = 2 << 10;

/// Draws them into the plan; `wanted`: the plan has about so many others.
pub fn draw(plan: &mut Plan, wanted: Option<u32>) {
    let rng = &mut stream(plan.seed, "crossing", 0);
    let none = !one_in(rng, 2);
    let bursts = match wanted {
        Some(few) => few / 30,
        None => weighted(rng, &[(2, 2), (4, 5), (2, 12)]),
    };
    if none || plan.accounts < 2 {
        return;
    }
    let mut draw = Draw {
        next_body: BODIES,
        // Half of the seeds delete no account: then everything can be judged.
        destroys: one_in(rng, 2),
        restructures: one_in(rng, 2),
        repeated: weighted(rng, &[(1, 0), (2, 40), (1, 80)]),
        by_id: weighted(rng, &[(1, 0), (2, 50), (1, 100)]),
        away: weighted(rng, &[(1, 50), (3, 80)]),
        client: 0,
        ops: Vec::new(),
    };
    let pair = other_of(rng, plan.accounts);
    for n in 0..bursts {
        let rng = &mut stream(plan.seed, "crossing burst", n.into());
        let pair = match one_in(rng, 3) {
            true => other_of(rng, plan.accounts),
            false => pair,
        };
        draw.burst(rng, plan, pair);
    }
    for op in &mut draw.ops {
        op.at_ms = op.at_ms.min(plan.duration_ms);
    }
    plan.ops.append(&mut draw.ops);
    plan.ops.sort_by_key(|op| op.at_ms);
}

/// Two different accounts.
fn other_of(rng: &mut Stream, accounts: u32) -> (u32, u32) {
    let from = rng.random_range(0..accounts);
    let to = (from + rng.random_range(1..accounts)) % accounts;
    (from, to)
}

struct Draw {
    next_body: u64,
    /// Whether accounts are deleted ...
    destroys: bool,
    /// ... and mailboxes.
    restructures: bool,
    /// Percent of the calls that ...
    repeated: u32,
    by_id: u32,
    away: u32,
    /// Whose turn it was last.
    client: u32,
    ops: Vec<Op>,
}

impl Draw {
    fn push(&mut self, rng: &mut Stream, plan: &Plan, at_ms: u64, account: u32, kind: OpKind) {
        // Another one than the last: what one client does is one after the other.
        self.client += rng.random_range(1..plan.clients.max(2));
        self.ops.push(Op {
            at_ms,
            client: self.client % plan.clients,
            account,
            kind,
        });
    }

    /// Messages come, and then everybody wants something of them.
    fn burst(&mut self, rng: &mut Stream, plan: &Plan, (from, to): (u32, u32)) {
        let begin = rng.random_range(0..=plan.duration_ms);
        let mailbox = weighted(rng, &MAILBOXES);
        let target = weighted(rng, &MAILBOXES);
        for (account, mailbox) in [(from, mailbox), (to, target)] {
            if mailbox != 0 && !one_in(rng, 8) {
                let make = OpKind::MakeMailbox {
                    mailbox,
                    uses: Vec::new(),
                    repeat: 0,
                };
                self.push(rng, plan, begin, account, make);
            }
        }
        let count: u32 = weighted(rng, &[(2, 3), (2, 10), (1, 40)]);
        let sizes: Vec<u64> = (0..count).map(|_| scaled(rng, 0, LARGEST)).collect();
        let body = self.next_body;
        self.next_body += u64::from(count);
        let append = OpKind::AppendMany {
            mailbox,
            sizes,
            body,
            repeat: 0,
            given: Given::default(),
        };
        let begin = begin + scaled(rng, 20, 400);
        self.push(rng, plan, begin, from, append);
        let within = weighted(rng, &[(2, 200), (2, 1000), (1, 4000)]);
        let calls = weighted(rng, &[(1, 1), (3, 3), (2, 8)]);
        let mut times = Vec::new();
        for _ in 0..calls {
            let at_ms = begin + scaled(rng, 50, within.max(300));
            let back = one_in(rng, 6);
            let pick = rng.random_range(0..1000);
            times.push((at_ms, pick));
            let places = match back {
                true => ((to, target), (from, mailbox)),
                false => ((from, mailbox), (to, target)),
            };
            let kind = self.cross(rng, pick, places);
            self.push(rng, plan, at_ms, places.0.0, kind);
        }
        let others = weighted(rng, &[(1, 0), (3, 3), (2, 8)]);
        for _ in 0..others {
            // Right after one of them is when its messages are on their way.
            let (at_ms, pick) = times[rng.random_range(0..times.len())];
            let at = (at_ms + scaled(rng, 1, 300), pick);
            self.meanwhile(rng, plan, at, (from, mailbox), (to, target));
        }
    }

    fn cross(
        &mut self,
        rng: &mut Stream,
        pick: u32,
        ((_, mailbox), (to_account, to)): ((u32, u32), (u32, u32)),
    ) -> OpKind {
        OpKind::Carry {
            mailbox,
            to,
            to_account: Some(to_account),
            pick,
            count: weighted(rng, &[(2, 1), (3, 3), (2, 10), (2, 40)]),
            away: rng.random_range(0..100) < self.away,
            by_id: rng.random_range(0..100) < self.by_id,
            repeat: match rng.random_range(0..100) < self.repeated {
                true => weighted(rng, &[(5, 1), (1, 3)]),
                false => 0,
            },
        }
    }

    /// What meets messages on their way.
    fn meanwhile(
        &mut self,
        rng: &mut Stream,
        plan: &Plan,
        (at_ms, pick): (u64, u32),
        (from, mailbox): (u32, u32),
        (to, target): (u32, u32),
    ) {
        let count = weighted(rng, &[(1, 1), (1, 5), (1, 40)]);
        let by_id = one_in(rng, 2);
        match rng.random_range(0..12) {
            0..=2 => {
                let kind = OpKind::ExpungeSet {
                    mailbox,
                    pick,
                    count,
                    force: true,
                    by_id,
                    repeat: 0,
                };
                self.push(rng, plan, at_ms, from, kind);
            }
            3..=4 => {
                let kind = OpKind::FlagSet {
                    mailbox,
                    pick,
                    count,
                    mode: FlagMode::Add,
                    flags: vec!["\\Flagged".to_owned()],
                    unchanged_since: false,
                    by_id,
                    repeat: 0,
                };
                self.push(rng, plan, at_ms, from, kind);
            }
            5 => {
                let kind = OpKind::Carry {
                    mailbox,
                    to: weighted(rng, &MAILBOXES),
                    to_account: None,
                    pick,
                    count,
                    away: true,
                    by_id,
                    repeat: 0,
                };
                self.push(rng, plan, at_ms, from, kind);
            }
            6 => {
                let state = LoginState::Closed;
                self.push(rng, plan, at_ms, to, OpKind::SetState { state });
                let state = LoginState::Active;
                let later = at_ms + scaled(rng, 20, 2000);
                self.push(rng, plan, later, to, OpKind::SetState { state });
            }
            7 | 8 if self.destroys => {
                let account = if one_in(rng, 3) { from } else { to };
                self.push(rng, plan, at_ms, account, OpKind::DeleteAccount);
                let later = at_ms + scaled(rng, 1, 1000);
                self.push(rng, plan, later, account, OpKind::CreateAccount);
            }
            9 | 10 if self.restructures && target != 0 => {
                let kind = OpKind::DeleteMailbox {
                    mailbox: target,
                    by_id: false,
                    repeat: 0,
                };
                self.push(rng, plan, at_ms, to, kind);
                let kind = OpKind::MakeMailbox {
                    mailbox: target,
                    uses: Vec::new(),
                    repeat: 0,
                };
                let later = at_ms + scaled(rng, 1, 1000);
                self.push(rng, plan, later, to, kind);
            }
            _ => {
                let (account, mailbox) = if one_in(rng, 2) {
                    (from, mailbox)
                } else {
                    (to, target)
                };
                let page = 1000;
                self.push(rng, plan, at_ms, account, OpKind::List { mailbox, page });
            }
        }
    }
}

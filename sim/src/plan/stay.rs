//! Mail programs that are left open: each stays in one mailbox from some time on, while others do
//! there what the rest of the plan says.
//!
//! Drawn from a stream of its own, after everything else that clients do: what a seed draws elsewhere
//! stays as it is.

use rand::RngExt;

use super::draw::{one_in, weighted};
use super::{Op, OpKind, Plan};
use crate::stream::stream;

/// The mailboxes that they stay in, by their weight.
const MAILBOXES: [(u32, u32); 4] = [(6, 0), (3, 1), (1, 2), (1, 8)];

/// Draws them into the plan: into two seeds of five.
pub fn draw(plan: &mut Plan) {
    let rng = &mut stream(plan.seed, "stay", 0);
    if rng.random_range(0..5) >= 2 {
        return;
    }
    // Where most happens there is most to hear of.
    let busiest = (0..plan.accounts).max_by_key(|account| {
        let of = plan.ops.iter().filter(|op| op.account == *account);
        of.count()
    });
    let count: u32 = weighted(rng, &[(3, 1), (2, 2), (1, 4)]);
    for _ in 0..count {
        let account = match one_in(rng, 3) {
            true => rng.random_range(0..plan.accounts),
            false => busiest.unwrap_or(0),
        };
        let client = rng.random_range(0..plan.clients);
        let at_ms = rng.random_range(0..=plan.duration_ms / 2);
        let kind = OpKind::Stay {
            mailbox: weighted(rng, &MAILBOXES),
            password: 1,
            qresync: one_in(rng, 2),
            idle: !one_in(rng, 3),
            notify: false,
        };
        // Who stays has a password; another one's change, or a new account of that name, keeps nobody
        // out to the end.
        let set = OpKind::SetPassword { password: 1 };
        for (at_ms, kind) in [
            (at_ms / 2, set.clone()),
            (at_ms, kind),
            (plan.duration_ms / 10 * 9, set),
        ] {
            plan.ops.push(Op {
                at_ms,
                client,
                account,
                kind,
            });
        }
    }
    plan.ops.sort_by_key(|op| op.at_ms);
    notify(plan);
}

/// Two of five say NOTIFY. Drawn from a stream of its own, too.
fn notify(plan: &mut Plan) {
    let rng = &mut stream(plan.seed, "notify", 0);
    for op in &mut plan.ops {
        if let OpKind::Stay { notify, .. } = &mut op.kind {
            *notify = rng.random_range(0..5) < 2;
        }
    }
}

//! A rush: everybody brings mail for one account through the doors at once.
//!
//! Drawn from a stream of its own, after everything else that clients do: what a seed draws elsewhere
//! stays as it is. [`super::faults`] lets the disks stand still in the middle of it.

use rand::RngExt;

use super::draw::{one_in, weighted};
use super::{Op, OpKind, Plan};
use crate::stream::stream;

/// Bodies of these operations begin here, so that none is one of another operation by chance.
const BODIES: u64 = 3 << 32;
/// Octets of their messages at most.
const LARGEST: u64 = 128 << 10;
/// One seed in so many has one.
const SHARE: u32 = 10;

/// Draws it into the plan; `wanted`: the plan has about so many others.
pub fn draw(plan: &mut Plan, wanted: Option<u32>) {
    let rng = &mut stream(plan.seed, "rush", 0);
    if !one_in(rng, SHARE) || plan.clients < 2 || wanted.is_some_and(|few| few < 30) {
        return;
    }
    let at_ms = rng.random_range(0..=plan.duration_ms * 3 / 4);
    let account = rng.random_range(0..plan.accounts);
    // Two of them fill the window of the shard, where it is a small one.
    let window = plan.settings.raft_window_bytes.min(LARGEST);
    let largest = weighted(rng, &[(1, 1 << 10), (3, window)]);
    let messages = plan.clients * weighted(rng, &[(1, 1), (2, 2), (1, 4)]);
    for n in 0..messages {
        let kind = OpKind::Lmtp {
            node: rng.random_range(0..plan.nodes.len() as u32),
            also: Vec::new(),
            size: rng.random_range(0..=largest),
            body: BODIES + u64::from(n),
            cut: None,
        };
        plan.ops.push(Op {
            at_ms,
            client: n % plan.clients,
            account,
            kind,
        });
    }
    plan.ops.sort_by_key(|op| op.at_ms);
}

/// When it begins, where the plan has one.
pub fn begin(plan: &Plan) -> Option<u64> {
    let of_rush = |op: &&Op| matches!(op.kind, OpKind::Lmtp { body: BODIES, .. });
    plan.ops.iter().find(of_rush).map(|op| op.at_ms)
}

//! What clients do: operations of the kinds that this seed has chosen, on hot and cold accounts, in
//! bursts or in an even stream.
//!
//! Kinds are switched on and off by seed (swarm testing, Groce et al., ISSTA 2012): a run that never
//! expunges fills mailboxes that another run would keep empty.

use rand::RngExt;

use super::draw::{one_in, scaled, some, weighted};
use super::{FlagMode, Given, LmtpCut, Op, OpKind, Plan};
use crate::stream::{Stream, stream};

/// Octets that a run stores at most, about ...
const OCTETS: u64 = 4 << 20;
/// ... and that of the one in [`LARGE`] which also stores large messages.
const OCTETS_LARGE: u64 = 40 << 20;
const LARGE: u32 = 30;

/// Kinds of operations that a seed may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Accounts,
    CreateMailbox,
    Deliver,
    Append,
    SetFlags,
    Expunge,
    Mailboxes,
    List,
    Fetch,
    Lmtp,
}

/// How operations follow one another.
#[derive(Clone, Copy)]
enum Arrival {
    /// Evenly over the whole time.
    Even,
    /// Many at once, then nothing.
    Bursts,
    /// As fast as the answers come.
    AtOnce,
}

/// The ways of one seed.
struct Style {
    kinds: Vec<(u32, Kind)>,
    arrival: Arrival,
    /// Percent of the operations that go to the hot accounts.
    hot: u32,
    hot_accounts: u32,
    mailboxes: u32,
    /// Percent of the messages ...
    medium: u32,
    repeated: u32,
    several: u32,
    known_body: u32,
    cut: u32,
    octets: u64,
    large: u32,
}

fn style(rng: &mut Stream, seed: u64, accounts: u32) -> Style {
    let all = [
        (2, Kind::Accounts),
        (2, Kind::CreateMailbox),
        (12, Kind::Deliver),
        (8, Kind::Append),
        (8, Kind::SetFlags),
        (6, Kind::Expunge),
        (5, Kind::Mailboxes),
        (6, Kind::List),
        (6, Kind::Fetch),
        (6, Kind::Lmtp),
    ];
    let mut kinds = Vec::new();
    for (weight, kind) in all {
        let factor = weighted(rng, &[(1, 1), (2, 2), (1, 6)]);
        if !one_in(rng, 4) {
            kinds.push((weight * factor, kind));
        }
    }
    let stores = |(_, k): &(u32, Kind)| matches!(k, Kind::Deliver | Kind::Append | Kind::Lmtp);
    if !kinds.iter().any(stores) {
        kinds.push((20, Kind::Deliver));
    }
    let large = one_in(rng, LARGE);
    // Some seeds read more than they write, and those with large messages read them.
    let readers = one_in(&mut stream(seed, "readers", 0), 8);
    if large || readers {
        kinds.push((40, Kind::Fetch));
    }
    Style {
        kinds,
        arrival: weighted(
            rng,
            &[
                (5, Arrival::Even),
                (3, Arrival::Bursts),
                (2, Arrival::AtOnce),
            ],
        ),
        hot: weighted(rng, &[(1, 0), (2, 50), (1, 90)]),
        hot_accounts: rng.random_range(1..=accounts.min(2)),
        mailboxes: weighted(rng, &[(2, 0), (3, 1), (1, 3)]),
        medium: weighted(rng, &[(3, 1), (1, 6)]),
        repeated: weighted(rng, &[(1, 0), (2, 15), (1, 50)]),
        several: weighted(rng, &[(1, 0), (2, 20), (1, 60)]),
        known_body: weighted(rng, &[(2, 0), (2, 10), (1, 40)]),
        cut: weighted(rng, &[(1, 0), (2, 30), (1, 80)]),
        octets: if large { OCTETS_LARGE } else { OCTETS },
        large: if large { rng.random_range(1..=4) } else { 0 },
    }
}

/// Draws accounts, clients and operations into the plan; `wanted`: about so many operations.
pub fn draw(plan: &mut Plan, wanted: Option<u32>) {
    let rng = &mut stream(plan.seed, "workload", 0);
    plan.accounts = rng.random_range(2..=8);
    plan.clients = rng.random_range(1..=6);
    let count = scaled(rng, 60, 250) as u32;
    let count = wanted.unwrap_or(count);
    let style = style(rng, plan.seed, plan.accounts);
    let mut ops = Vec::new();
    opening(plan, &style, &mut ops);
    let mut writer = Writer {
        left: style.octets,
        large: style.large,
        known: Vec::new(),
        next_body: 1,
        style,
        accounts: plan.accounts,
        nodes: plan.nodes.len() as u32,
    };
    let mut times = times(
        &mut stream(plan.seed, "arrival", 0),
        writer.style.arrival,
        count,
        plan.duration_ms,
    );
    times.sort_unstable();
    for (i, at_ms) in times.into_iter().enumerate() {
        let rng = &mut stream(plan.seed, "op", i as u64);
        let client = rng.random_range(0..plan.clients);
        let account = writer.account(rng);
        match weighted(rng, &writer.style.kinds) {
            Kind::Accounts => again(rng, plan, &mut ops, at_ms, client, account),
            kind => ops.push(Op {
                at_ms,
                client,
                account,
                kind: writer.op(rng, kind, account),
            }),
        }
    }
    ops.sort_by_key(|op| op.at_ms);
    plan.ops = ops;
}

/// Creates accounts and mailboxes; leaves a few out, so that operations are refused.
fn opening(plan: &Plan, style: &Style, ops: &mut Vec<Op>) {
    let rng = &mut stream(plan.seed, "accounts", 0);
    for account in 0..plan.accounts {
        let client = rng.random_range(0..plan.clients);
        let mut begin = |at_ms, kind| {
            ops.push(Op {
                at_ms,
                client,
                account,
                kind,
            });
        };
        let missing = one_in(rng, 12) && account > 0;
        if !missing {
            begin(0, OpKind::CreateAccount);
        }
        for mailbox in 1..=style.mailboxes {
            if !one_in(rng, 8) && !missing {
                begin(0, OpKind::CreateMailbox { mailbox });
            }
        }
    }
}

/// An account is created, or deleted and, mostly, created once more.
fn again(rng: &mut Stream, plan: &Plan, ops: &mut Vec<Op>, at_ms: u64, client: u32, account: u32) {
    let mut begin = |at_ms: u64, client, kind| {
        ops.push(Op {
            at_ms: at_ms.min(plan.duration_ms),
            client,
            account,
            kind,
        });
    };
    if one_in(rng, 3) {
        return begin(at_ms, client, OpKind::CreateAccount);
    }
    begin(at_ms, client, OpKind::DeleteAccount);
    if !one_in(rng, 5) {
        let other = rng.random_range(0..plan.clients);
        let later = at_ms + scaled(rng, 1, 2000);
        begin(later, other, OpKind::CreateAccount);
    }
}

fn times(rng: &mut Stream, arrival: Arrival, count: u32, duration_ms: u64) -> Vec<u64> {
    // Accounts come first.
    let (from, to) = (duration_ms / 50, duration_ms);
    match arrival {
        Arrival::Even => (0..count).map(|_| rng.random_range(from..=to)).collect(),
        Arrival::AtOnce => (0..count)
            .map(|_| rng.random_range(from..=to / 4 + from))
            .collect(),
        Arrival::Bursts => {
            let bursts: Vec<u64> = (0..rng.random_range(2..=6))
                .map(|_| rng.random_range(from..=to))
                .collect();
            (0..count)
                .map(|_| {
                    let burst = bursts[rng.random_range(0..bursts.len())];
                    (burst + scaled(rng, 0, 300)).min(to)
                })
                .collect()
        }
    }
}

/// Draws one operation after the other.
struct Writer {
    style: Style,
    accounts: u32,
    nodes: u32,
    /// Octets that may still be stored.
    left: u64,
    /// Large messages that are still to come.
    large: u32,
    /// Bodies that were used already.
    known: Vec<(u64, u64)>,
    next_body: u64,
}

impl Writer {
    fn account(&self, rng: &mut Stream) -> u32 {
        match rng.random_range(0..100) < self.style.hot {
            true => rng.random_range(0..self.style.hot_accounts),
            false => rng.random_range(0..self.accounts),
        }
    }

    fn mailbox(&self, rng: &mut Stream) -> u32 {
        match one_in(rng, 2) {
            true => 0,
            // Rarely one that nobody has created.
            false if one_in(rng, 30) => self.style.mailboxes + 1,
            false => rng.random_range(0..=self.style.mailboxes),
        }
    }

    /// Others, and sometimes one that may not be there.
    fn also(&self, rng: &mut Stream, account: u32) -> Vec<u32> {
        if rng.random_range(0..100) >= self.style.several {
            return Vec::new();
        }
        let count = scaled(rng, 1, 5) as u32;
        let mut also = some(rng, count, self.accounts);
        also.retain(|other| *other != account);
        also
    }

    fn repeat(&self, rng: &mut Stream) -> u32 {
        match rng.random_range(0..100) < self.style.repeated {
            true => weighted(rng, &[(6, 1), (2, 2), (1, 4)]),
            false => 0,
        }
    }

    /// Size and body; a body may be one that was sent before.
    fn octets(&mut self, rng: &mut Stream, times: u32) -> (u64, u64) {
        let times = u64::from(times).max(1);
        let known = rng.random_range(0..100) < self.style.known_body && !self.known.is_empty();
        let (size, body) = match known {
            true => self.known[rng.random_range(0..self.known.len())],
            false => (self.size(rng), self.next_body),
        };
        let (size, body) = match size * times <= self.left {
            true => (size, body),
            false => ((self.left / times).min(300), self.next_body),
        };
        self.left -= (size * times).min(self.left);
        if body == self.next_body {
            self.next_body += 1;
            self.known.push((size, body));
        }
        (size, body)
    }

    fn size(&mut self, rng: &mut Stream) -> u64 {
        if self.large > 0 && one_in(rng, 5) {
            self.large -= 1;
            return scaled(rng, 2 << 20, 20 << 20).min(self.left / 2);
        }
        if rng.random_range(0..100) < self.style.medium {
            // Up to two chunks, so that messages that come in pieces are not only the large ones.
            return scaled(rng, 64 << 10, 2 << 20);
        }
        weighted(rng, &[(1, 0), (9, 1), (40, 2)]) * scaled(rng, 60, 4 << 10)
    }

    fn op(&mut self, rng: &mut Stream, kind: Kind, account: u32) -> OpKind {
        match kind {
            Kind::Accounts => OpKind::CreateAccount,
            Kind::CreateMailbox => OpKind::CreateMailbox {
                mailbox: rng.random_range(1..=self.style.mailboxes + 1),
            },
            Kind::Deliver => {
                let (mut also, repeat) = (self.also(rng, account), self.repeat(rng));
                let (size, body) = self.octets(rng, 1 + repeat);
                if size > 1 << 20 && one_in(rng, 2) {
                    // Into several shards at once, each of which may fail on the way.
                    also = (0..self.accounts).filter(|a| *a != account).collect();
                }
                OpKind::Deliver {
                    also,
                    size,
                    body,
                    repeat,
                    into: None,
                    given: Given::default(),
                }
            }
            Kind::Append => {
                let repeat = self.repeat(rng);
                let (size, body) = self.octets(rng, 1 + repeat);
                OpKind::Append {
                    mailbox: self.mailbox(rng),
                    size,
                    body,
                    repeat,
                    given: Given::default(),
                }
            }
            Kind::SetFlags => OpKind::SetFlags {
                mailbox: self.mailbox(rng),
                pick: rng.random_range(0..1000),
                mode: weighted(
                    rng,
                    &[
                        (3, FlagMode::Add),
                        (2, FlagMode::Remove),
                        (2, FlagMode::Replace),
                    ],
                ),
                flags: flags(rng),
                unchanged_since: one_in(rng, 4),
            },
            Kind::Expunge => OpKind::Expunge {
                mailbox: self.mailbox(rng),
                pick: rng.random_range(0..1000),
            },
            Kind::Mailboxes => OpKind::Mailboxes,
            Kind::List => OpKind::List {
                mailbox: self.mailbox(rng),
                page: weighted(rng, &[(1, 1), (2, 3), (3, 10), (4, 1000)]),
            },
            Kind::Fetch => OpKind::Fetch {
                mailbox: self.mailbox(rng),
                pick: rng.random_range(0..1000),
            },
            Kind::Lmtp => {
                let also = self.also(rng, account);
                let (size, body) = self.octets(rng, 1);
                let cut = rng.random_range(0..100) < self.style.cut;
                OpKind::Lmtp {
                    node: rng.random_range(0..self.nodes),
                    also,
                    size,
                    body,
                    cut: cut.then(|| LmtpCut::ALL[rng.random_range(0..LmtpCut::ALL.len())]),
                }
            }
        }
    }
}

fn flags(rng: &mut Stream) -> Vec<String> {
    let names = [
        "\\Seen",
        "\\Answered",
        "\\Flagged",
        "\\Deleted",
        "\\Draft",
        "$Forwarded",
        "work",
    ];
    let count = weighted(rng, &[(1, 0), (6, 1), (3, 2), (1, 4)]);
    let chosen = some(rng, count, names.len() as u32);
    chosen
        .into_iter()
        .map(|i| names[i as usize].to_owned())
        .collect()
}

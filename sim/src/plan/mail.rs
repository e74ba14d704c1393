//! What clients do with mailboxes and in them beyond delivery, as mail programs do: names and
//! trees of mailboxes, copies, moves, replacements, sets of messages, searches, passwords.
//!
//! Drawn from streams of their own, after everything else: what [`super::workload`] draws for a
//! seed stays as it is. Kinds are switched on and off by seed, as there.

use rand::RngExt;

use super::draw::{one_in, scaled, some, weighted};
use super::{Cut, FlagMode, Given, LoginState, MANY_PARTS_BYTES, Op, OpKind, Plan, has_many_parts};
use crate::stream::{Stream, stream};

/// The mailboxes of which these operations draw: INBOX, three others, and children of each.
const MAILBOXES: [u32; 8] = [0, 1, 2, 3, 8, 9, 10, 17];

/// Octets that these operations store at most, about.
const OCTETS: u64 = 768 << 10;

/// Bodies of these operations begin here, so that none is one of another operation by chance.
const BODIES: u64 = 1 << 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Make,
    Delete,
    Rename,
    Names,
    Metadata,
    AppendMany,
    Replace,
    Carry,
    FlagSet,
    ExpungeSet,
    Search,
    Sections,
    Passwords,
    Imap,
    State,
    Look,
}

/// Draws these operations into the plan; `wanted`: the plan has about so many others.
pub fn draw(plan: &mut Plan, wanted: Option<u32>) {
    let rng = &mut stream(plan.seed, "mail", 0);
    let none = one_in(rng, 6);
    let count = scaled(rng, 15, 90) as u32;
    let count = wanted.map_or(count, |n| n / 4);
    let kinds = kinds(rng);
    let mut writer = Writer {
        left: OCTETS,
        next_body: BODIES,
        repeated: weighted(rng, &[(1, 0), (2, 15), (1, 50)]),
        by_id: weighted(rng, &[(1, 0), (2, 50), (1, 100)]),
        // A few mailboxes that everything happens to, or many.
        mailboxes: rng.random_range(2..=MAILBOXES.len()),
        hot: rng.random_range(0..plan.accounts),
        hot_percent: weighted(rng, &[(1, 0), (2, 60), (1, 95)]),
    };
    if none {
        return;
    }
    if kinds.iter().any(|(_, kind)| *kind == Kind::Imap) {
        let passwords = &mut stream(plan.seed, "passwords", 0);
        for account in 0..plan.accounts {
            plan.ops.push(Op {
                at_ms: 0,
                client: passwords.random_range(0..plan.clients),
                account,
                kind: OpKind::SetPassword { password: 1 },
            });
        }
    }
    let bursts = one_in(rng, 3);
    let burst = rng.random_range(0..=plan.duration_ms);
    for i in 0..count {
        let rng = &mut stream(plan.seed, "mail op", i.into());
        let from = plan.duration_ms / 40;
        let mut at_ms = rng.random_range(from..=plan.duration_ms.max(from));
        if bursts && !one_in(rng, 4) {
            at_ms = (burst + scaled(rng, 0, 400)).min(plan.duration_ms);
        }
        let account = match rng.random_range(0..100) < writer.hot_percent {
            true => writer.hot,
            false => rng.random_range(0..plan.accounts),
        };
        let client = rng.random_range(0..plan.clients);
        let mut begin = |at_ms: u64, kind| {
            plan.ops.push(Op {
                at_ms: at_ms.min(plan.duration_ms),
                client,
                account,
                kind,
            });
        };
        match weighted(rng, &kinds) {
            Kind::State => {
                let state = weighted(rng, &[(1, LoginState::Frozen), (1, LoginState::Closed)]);
                begin(at_ms, OpKind::SetState { state });
                let state = LoginState::Active;
                begin(at_ms + scaled(rng, 1, 3000), OpKind::SetState { state });
            }
            kind => begin(at_ms, writer.op(rng, kind)),
        }
    }
    followers(plan);
    plan.ops.sort_by_key(|op| op.at_ms);
}

/// Some accounts are followed, each by one client at most.
fn followers(plan: &mut Plan) {
    let rng = &mut stream(plan.seed, "followers", 0);
    let share = weighted(rng, &[(1, 0), (2, 40), (1, 100)]);
    for account in 0..plan.accounts {
        if rng.random_range(0..100) >= share {
            continue;
        }
        plan.ops.push(Op {
            at_ms: rng.random_range(0..=plan.duration_ms / 2),
            client: rng.random_range(0..plan.clients),
            account,
            kind: OpKind::Follow {
                page: weighted(rng, &[(2, 1), (2, 3), (2, 1000)]),
                whole: false,
            },
        });
    }
}

fn kinds(rng: &mut Stream) -> Vec<(u32, Kind)> {
    let all = [
        (4, Kind::Make),
        (2, Kind::Delete),
        (3, Kind::Rename),
        (2, Kind::Names),
        (2, Kind::Metadata),
        (4, Kind::AppendMany),
        (4, Kind::Replace),
        (8, Kind::Carry),
        (5, Kind::FlagSet),
        (3, Kind::ExpungeSet),
        (3, Kind::Search),
        (3, Kind::Sections),
        (2, Kind::Passwords),
        (4, Kind::Imap),
        (1, Kind::State),
    ];
    let mut kinds = vec![(4, Kind::Look)];
    for (weight, kind) in all {
        let factor = weighted(rng, &[(1, 1), (2, 2), (1, 5)]);
        if !one_in(rng, 3) {
            kinds.push((weight * factor, kind));
        }
    }
    kinds
}

struct Writer {
    /// Octets that may still be stored.
    left: u64,
    next_body: u64,
    /// Percent of the calls ...
    repeated: u32,
    by_id: u32,
    mailboxes: usize,
    hot: u32,
    hot_percent: u32,
}

impl Writer {
    fn mailbox(&self, rng: &mut Stream) -> u32 {
        MAILBOXES[rng.random_range(0..self.mailboxes)]
    }

    /// Not INBOX.
    fn other(&self, rng: &mut Stream) -> u32 {
        MAILBOXES[rng.random_range(1..self.mailboxes)]
    }

    fn repeat(&self, rng: &mut Stream) -> u32 {
        match rng.random_range(0..100) < self.repeated {
            true => weighted(rng, &[(5, 1), (1, 3)]),
            false => 0,
        }
    }

    fn by_id(&self, rng: &mut Stream) -> bool {
        rng.random_range(0..100) < self.by_id
    }

    /// Sizes of so many new messages, and the first one's body.
    fn octets(&mut self, rng: &mut Stream, count: u32, times: u32) -> (Vec<u64>, u64) {
        let mut sizes = Vec::new();
        for _ in 0..count {
            let most = if one_in(rng, 25) { 200 << 10 } else { 4 << 10 };
            let size = scaled(rng, 0, most);
            let size = size.min(self.left / u64::from(times));
            self.left -= size * u64::from(times);
            sizes.push(size);
        }
        let mut body = self.next_body;
        if one_in(rng, 20) && self.left > 2 * MANY_PARTS_BYTES * u64::from(times) {
            self.left -= MANY_PARTS_BYTES * u64::from(times);
            sizes[0] = MANY_PARTS_BYTES + rng.random_range(0..2000);
            body = body.next_multiple_of(8) + 5;
            debug_assert!(has_many_parts(body, sizes[0]));
        }
        self.next_body = body + u64::from(count);
        (sizes, body)
    }

    fn op(&mut self, rng: &mut Stream, kind: Kind) -> OpKind {
        let pick = rng.random_range(0..1000);
        let count = weighted(rng, &[(3, 1), (3, 2), (2, 5), (1, 40)]);
        match kind {
            Kind::Make => OpKind::MakeMailbox {
                mailbox: self.other(rng),
                uses: uses(rng),
                repeat: self.repeat(rng),
            },
            Kind::Delete => OpKind::DeleteMailbox {
                mailbox: match one_in(rng, 15) {
                    true => 0,
                    false => self.other(rng),
                },
                by_id: self.by_id(rng),
                repeat: self.repeat(rng),
            },
            Kind::Rename => OpKind::RenameMailbox {
                mailbox: self.mailbox(rng),
                to: self.other(rng),
                repeat: self.repeat(rng),
            },
            Kind::Names => match one_in(rng, 2) {
                true => OpKind::Subscribe {
                    mailbox: self.mailbox(rng),
                    on: !one_in(rng, 3),
                },
                false => OpKind::SpecialUse {
                    mailbox: self.mailbox(rng),
                    uses: uses(rng),
                },
            },
            Kind::Metadata => {
                let mailbox = (!one_in(rng, 3)).then(|| self.mailbox(rng));
                let entries = ["/private/comment", "/shared/comment", "/private/x/y"];
                match one_in(rng, 3) {
                    true => OpKind::Metadata { mailbox },
                    false => OpKind::SetMetadata {
                        mailbox,
                        entry: entries[rng.random_range(0..entries.len())].to_owned(),
                        value: weighted(rng, &[(1, ""), (1, "a note"), (1, "another")]).to_owned(),
                    },
                }
            }
            Kind::AppendMany => {
                let repeat = self.repeat(rng);
                let count = weighted(rng, &[(1, 1), (4, 2), (2, 4), (1, 9)]);
                let (sizes, body) = self.octets(rng, count, 1 + repeat);
                OpKind::AppendMany {
                    mailbox: self.mailbox(rng),
                    sizes,
                    body,
                    repeat,
                    given: Given::default(),
                }
            }
            Kind::Replace => {
                let repeat = self.repeat(rng);
                let (sizes, body) = self.octets(rng, 1, 1 + repeat);
                OpKind::Replace {
                    mailbox: self.mailbox(rng),
                    pick,
                    size: sizes[0],
                    body,
                    repeat,
                    given: Given::default(),
                }
            }
            Kind::Carry => OpKind::Carry {
                mailbox: self.mailbox(rng),
                to: self.mailbox(rng),
                to_account: None,
                pick,
                count,
                away: one_in(rng, 2),
                by_id: self.by_id(rng),
                repeat: self.repeat(rng),
            },
            Kind::FlagSet => OpKind::FlagSet {
                mailbox: self.mailbox(rng),
                pick,
                count,
                mode: weighted(
                    rng,
                    &[
                        (3, FlagMode::Add),
                        (2, FlagMode::Remove),
                        (1, FlagMode::Replace),
                    ],
                ),
                flags: flags(rng),
                unchanged_since: one_in(rng, 3),
                by_id: self.by_id(rng),
                repeat: self.repeat(rng),
            },
            Kind::ExpungeSet => OpKind::ExpungeSet {
                mailbox: self.mailbox(rng),
                pick,
                count,
                force: one_in(rng, 3),
                by_id: self.by_id(rng),
                repeat: self.repeat(rng),
            },
            Kind::Search => OpKind::Search {
                mailbox: self.mailbox(rng),
                flag: FLAGS[rng.random_range(0..FLAGS.len())].to_owned(),
                on: !one_in(rng, 3),
            },
            Kind::Sections => OpKind::Sections {
                mailbox: self.mailbox(rng),
                pick,
                cut: weighted(
                    rng,
                    &[(2, Cut::Structure), (2, Cut::Halves), (3, Cut::Part)],
                ),
            },
            Kind::Passwords => {
                let password = rng.random_range(1..=2);
                match weighted(rng, &[(1, 0), (2, 1), (4, 2)]) {
                    0 => OpKind::SetPassword { password: 0 },
                    1 => OpKind::SetPassword { password },
                    // So many wrong ones are too many.
                    _ => OpKind::Login {
                        password,
                        times: weighted(rng, &[(9, 1), (1, 25)]),
                    },
                }
            }
            Kind::Imap => {
                let (sizes, body) = self.octets(rng, 1, 1);
                OpKind::Imap {
                    mailbox: self.mailbox(rng),
                    password: 1,
                    // The door takes no message without octets.
                    size: sizes[0].max(1),
                    body,
                    pick,
                    cut: one_in(rng, 4).then(|| rng.random_range(0..6)),
                    flags: Vec::new(),
                    carry: None,
                    also: Vec::new(),
                }
            }
            Kind::State | Kind::Look => match one_in(rng, 2) {
                true => OpKind::Mailboxes,
                false => OpKind::List {
                    mailbox: self.mailbox(rng),
                    page: 1000,
                },
            },
        }
    }
}

/// Some of these are keywords.
const FLAGS: [&str; 7] = [
    "\\Seen",
    "\\Answered",
    "\\Flagged",
    "\\Deleted",
    "\\Draft",
    "$Forwarded",
    "work",
];

fn flags(rng: &mut Stream) -> Vec<String> {
    // What an expunge asks for is common.
    if one_in(rng, 2) {
        return vec!["\\Deleted".to_owned()];
    }
    let count = weighted(rng, &[(6, 1), (3, 2), (1, 4)]);
    let chosen = some(rng, count, FLAGS.len() as u32);
    let names = chosen.into_iter().map(|i| FLAGS[i as usize].to_owned());
    names.collect()
}

fn uses(rng: &mut Stream) -> Vec<String> {
    let uses = ["\\Sent", "\\Trash", "\\Archive"];
    let count = weighted(rng, &[(3, 0), (2, 1), (1, 2)]);
    let chosen = some(rng, count, uses.len() as u32);
    chosen
        .into_iter()
        .map(|i| uses[i as usize].to_owned())
        .collect()
}

//! Transfers to other accounts, here of the same shard: their steps, and what the model makes of
//! them. What a step means is settled when it is its turn, as a leader does, by what is there.

use super::*;
use crate::index::values::{AccountRow, EmailRow, TransferRow};
use crate::machine::transfers;

/// Steps of transfers; numbers choose among what there is.
#[derive(Debug, Clone)]
pub(super) enum Transfer {
    /// Whether the originals go; account, mailbox, uids; the other account.
    Begin(bool, usize, usize, Vec<(Uid, Uid)>, usize),
    /// A leader sends what is left, or gives up.
    Arrive(u64, bool),
    /// A leader that knows the target's answer.
    End(u64),
    /// What is over is forgotten at its target.
    Forget(u64),
    /// What is over is forgotten, as if its target had.
    Settle(u64),
}

pub(super) fn transfer() -> impl Strategy<Value = Transfer> {
    let (a, m) = (0..ACCOUNTS.len(), 0..BOXES.len());
    let m = prop_oneof![2 => Just(0), 1 => m];
    prop_oneof![
        3 => (any::<bool>(), a.clone(), m, uids(), a)
            .prop_map(|(away, a, m, u, to)| Transfer::Begin(away, a, m, u, to)),
        4 => (0u64..8, prop::bool::weighted(0.1)).prop_map(|(n, no)| Transfer::Arrive(n, no)),
        3 => (0u64..8).prop_map(Transfer::End),
        1 => (0u64..8).prop_map(Transfer::Forget),
        1 => (0u64..8).prop_map(Transfer::Settle),
    ]
}

/// The command of a step, which is aimed when it is its turn: uids stand where messages will, the
/// other account's place in the list where its number will.
pub(super) fn transfer_command(step: &Transfer, request_id: RequestId) -> Op {
    let any = |number| TransferId {
        source: AccountId(0),
        number,
    };
    let place = |to| Place {
        account: AccountId(to),
        mailbox: MailboxId(1),
        uidvalidity: 0,
    };
    let why = || ApplyError::Refused("unreadable".into());
    match step {
        Transfer::Begin(away, a, m, uids, to) => Op::BeginTransfer(Box::new(BeginTransfer {
            request_id,
            account: account(ACCOUNTS[*a]),
            mailbox: MailboxName::new(BOXES[*m]).unwrap().into(),
            messages: uids
                .iter()
                .map(|(a, b)| (*a, EmailId(u64::from(*b))))
                .collect(),
            to: place(*to as u64),
            away: *away,
            next: 0,
        })),
        Transfer::Arrive(n, no) => Op::Arrive(Box::new(Arrive {
            transfer: any(*n),
            to: place(0),
            what: match no {
                true => Arriving::Nothing(why()),
                false => Arriving::Messages {
                    from: Vec::new(),
                    items: Vec::new(),
                },
            },
        })),
        Transfer::End(n) => Op::EndTransfer {
            transfer: any(*n),
            arrival: Arrival::Refused(why()),
        },
        Transfer::Forget(n) => Op::ForgetArrivals {
            account: AccountId(0),
            source: AccountId(0),
            below: *n,
        },
        Transfer::Settle(n) => Op::SettleTransfers {
            account: AccountId(0),
            target: AccountId(0),
            below: *n,
        },
    }
}

/// The n-th transfer, if there is one.
fn nth(b: &Bench, n: u64, over: Option<bool>) -> Option<(TransferId, TransferRow)> {
    let mut all = transfers::unsettled(&*b.index, b.space, usize::MAX).unwrap();
    all.retain(|(_, row)| over.is_none_or(|over| row.over == over));
    let at = n as usize % all.len().max(1);
    (!all.is_empty()).then(|| all.remove(at))
}

fn is_live(b: &Bench, account: AccountId) -> bool {
    let row: Option<AccountRow> = b.get(Key::Account(account));
    row.is_some_and(|row| !row.going)
}

/// The commands that a leader makes of one by [`transfer_command`]; `turn` is another each time.
pub(super) fn aim_transfer(b: &Bench, op: &Op, turn: usize) -> Vec<Op> {
    let below = |source, target| transfers::over_below(&*b.index, b.space, source, target).unwrap();
    match op {
        Op::BeginTransfer(begin) => vec![aim_begin(b, begin)],
        Op::Arrive(arrive) => match nth(b, arrive.transfer.number, Some(false)) {
            Some((id, row)) => aim_arrive(b, id, &row, &arrive.what, turn),
            None => vec![],
        },
        Op::EndTransfer { transfer, .. } => {
            let Some((id, row)) = nth(b, transfer.number, Some(false)) else {
                return vec![];
            };
            let account = row.to.account;
            let transfer = id;
            let arrival = match is_live(b, account) {
                true => b.get(Key::Arrival { account, transfer }),
                false => Some(Arrival::Refused(ApplyError::NoAccount)),
            };
            let end = arrival.map(|arrival| Op::EndTransfer { transfer, arrival });
            end.into_iter().collect()
        }
        Op::ForgetArrivals { below: n, .. } => match nth(b, *n, None) {
            Some((id, row)) => vec![Op::ForgetArrivals {
                account: row.to.account,
                source: id.source,
                below: below(id.source, row.to.account),
            }],
            None => vec![],
        },
        Op::SettleTransfers { below: n, .. } => {
            let Some((id, row)) = nth(b, *n, Some(true)) else {
                return vec![];
            };
            let (source, target) = (id.source, row.to.account);
            let below = below(source, target);
            vec![
                Op::ForgetArrivals {
                    account: target,
                    source,
                    below,
                },
                Op::SettleTransfers {
                    account: source,
                    target,
                    below,
                },
            ]
        }
        other => vec![other.clone()],
    }
}

fn aim_begin(b: &Bench, begin: &BeginTransfer) -> Op {
    let mut aimed = begin.clone();
    aimed.messages = Vec::new();
    let (rows, space) = (&*b.index, b.space);
    if let Some((id, _)) = read::account(rows, space, &begin.account).unwrap()
        && let Some((mailbox, _)) = read::mailbox(rows, space, id, &begin.mailbox).unwrap()
    {
        let all = read::messages(rows, space, id, mailbox, (1, Uid::MAX), usize::MAX);
        let ranges = || begin.messages.iter().map(|(a, b)| (*a, b.0 as Uid));
        for (uid, row) in all.unwrap().0 {
            if ranges().any(|(a, b)| (a..=b).contains(&uid)) {
                aimed.messages.push((uid, row.email));
            }
        }
    }
    let to = account(ACCOUNTS[begin.to.account.0 as usize]);
    aimed.to.account = AccountId(0);
    if let Some((id, _)) = read::account(rows, space, &to).unwrap() {
        aimed.to.account = id;
        let inbox = MailboxName::inbox().into();
        let (mailbox, row) = read::mailbox(rows, space, id, &inbox).unwrap().unwrap();
        (aimed.to.mailbox, aimed.to.uidvalidity) = (mailbox, row.uidvalidity);
    }
    Op::BeginTransfer(Box::new(aimed))
}

fn aim_arrive(
    b: &Bench,
    id: TransferId,
    row: &TransferRow,
    what: &Arriving,
    turn: usize,
) -> Vec<Op> {
    let mut ops = Vec::new();
    let mut aimed = what.clone();
    if let Arriving::Messages { from, items } = &mut aimed {
        let account = id.source;
        let here = Key::Mailbox {
            account,
            mailbox: row.mailbox,
        };
        let there = b.get::<crate::index::values::MailboxRow>(here).is_some();
        let keywords = read::keywords(&*b.index, b.space, account, row.mailbox).unwrap();
        for (n, (uid, email)) in (0u8..).zip(&row.messages) {
            let message = read::message(&*b.index, b.space, account, row.mailbox, *uid).unwrap();
            let message = message.filter(|m| m.email == *email);
            let Some(message) = message.filter(|_| there && is_live(b, account)) else {
                continue;
            };
            let email = *email;
            let shown: EmailRow = b.get(Key::Email { account, email }).unwrap();
            let octets = BLOBS.iter().find(|o| BlobId::of(o) == shown.blob).unwrap();
            let mut upload = [0xaa; 16];
            upload[..8].copy_from_slice(&(turn as u64).to_be_bytes());
            upload[8] = n;
            let (blob, puts) = by_upload(octets, UploadId(upload));
            ops.extend(puts);
            from.push((*uid, *uid));
            items.push(AppendItem {
                flags: read::flag_names(&message, &keywords),
                internal_date_ms: message.internal_date_ms,
                blob,
                summary: vec![n],
                threads: shown.thread_keys,
            });
        }
    }
    ops.push(Op::Arrive(Box::new(Arrive {
        transfer: id,
        to: row.to,
        what: aimed,
    })));
    ops
}

/// Sees every transfer through and forgets it, as leaders do in the end.
pub(super) fn finish_transfers(b: &mut Bench) {
    let why = ApplyError::NoAccount;
    for (transfer, row) in transfers::unsettled(&*b.index, b.space, usize::MAX).unwrap() {
        if !row.over {
            let arrival = Arrival::Refused(why.clone());
            b.apply(Op::EndTransfer { transfer, arrival });
        }
        let op = Op::SettleTransfers {
            account: transfer.source,
            target: row.to.account,
            below: u64::MAX,
        };
        b.apply(op);
    }
}

/// A transfer as the model knows it.
pub(super) struct Sent {
    request_id: RequestId,
    away: bool,
    mailbox: u32,
    messages: Vec<(Uid, u64)>,
    to: Place,
    over: bool,
}

/// All transfers as the model knows them.
#[derive(Default)]
pub(super) struct Transfers {
    next: BTreeMap<u64, u64>,
    sent: BTreeMap<TransferId, Sent>,
    answered: BTreeMap<(AccountId, TransferId), Arrival>,
    below: BTreeMap<(AccountId, AccountId), u64>,
}

impl Transfers {
    /// Whether a message is about to leave its account.
    pub(super) fn holds(&self, account: u64, mailbox: u32, uid: Uid) -> bool {
        let of = |id: &TransferId, sent: &Sent| {
            id.source.0 == account && sent.mailbox == mailbox && sent.away && !sent.over
        };
        let mut own = self.sent.iter().filter(|(id, sent)| of(id, sent));
        own.any(|(_, sent)| sent.messages.iter().any(|(held, _)| *held == uid))
    }
}

impl Model {
    pub(super) fn transfer(&mut self, op: &Op, reply: &Reply) -> Reply {
        match op {
            Op::BeginTransfer(begin) => self.begin(begin),
            Op::Arrive(arrive) => self.arrive(arrive, reply),
            Op::EndTransfer { transfer, arrival } => self.end(*transfer, arrival),
            Op::ForgetArrivals {
                account,
                source,
                below,
            } => {
                if self.accounts.values().any(|a| a.id == account.0) {
                    let t = &mut self.transfers;
                    t.below.insert((*account, *source), *below);
                    t.answered.retain(|(to, id), _| {
                        to != account || id.source != *source || id.number >= *below
                    });
                }
                Reply::Done
            }
            Op::SettleTransfers {
                account,
                target,
                below,
            } => {
                self.transfers.sent.retain(|id, sent| {
                    let its = id.source == *account && sent.to.account == *target;
                    !(its && sent.over && id.number < *below)
                });
                Reply::Done
            }
            other => panic!("{other:?}"),
        }
    }

    fn begin(&mut self, begin: &BeginTransfer) -> Reply {
        let Some(a) = self.accounts.get(&begin.account) else {
            return Reply::Error(ApplyError::NoAccount);
        };
        let key = (a.id, format!("across {}", begin.away), begin.request_id);
        if let Some(first) = self.answers.get(&key) {
            return first.clone();
        }
        let source = AccountId(a.id);
        let same = |id: &TransferId, sent: &Sent| {
            let request = (sent.request_id, sent.away) == (begin.request_id, begin.away);
            id.source == source && !sent.over && request
        };
        let t = &mut self.transfers;
        if let Some((id, _)) = t.sent.iter().find(|(id, sent)| same(id, sent)) {
            return Reply::Transferring { number: id.number };
        }
        if begin.to.account == source {
            return Reply::Error(ApplyError::Refused("the account is the same".into()));
        }
        let Some(name) = a.find(&begin.mailbox) else {
            return Reply::Error(ApplyError::NoMailbox);
        };
        let m = &a.boxes[&name];
        let messages = begin.messages.iter().map(|(uid, email)| (*uid, email.0));
        let messages: Vec<(Uid, u64)> = messages.collect();
        if messages.is_empty() {
            let reply = Reply::Transferred {
                uidvalidity: begin.to.uidvalidity,
                modseq: a.modseq,
                from: vec![],
                to: vec![],
                next: 0,
            };
            self.answers.insert(key, reply.clone());
            return reply;
        }
        let unsettled = t.sent.keys().filter(|id| id.source == source).count();
        let held = messages.iter().any(|(uid, _)| t.holds(a.id, m.id, *uid));
        if unsettled >= crate::machine::limits::TRANSFERS || (begin.away && held) {
            return Reply::Error(ApplyError::InTransfer);
        }
        let next = t.next.entry(a.id).or_default();
        *next += 1;
        let number = *next;
        let sent = Sent {
            request_id: begin.request_id,
            away: begin.away,
            mailbox: m.id,
            messages,
            to: begin.to,
            over: false,
        };
        t.sent.insert(TransferId { source, number }, sent);
        Reply::Transferring { number }
    }

    fn arrive(&mut self, arrive: &Arrive, reply: &Reply) -> Reply {
        let items = match &arrive.what {
            Arriving::Messages { items, .. } => &items[..],
            Arriving::Nothing(_) => &[],
        };
        for item in items {
            assert!(self.arrived(&item.blob));
        }
        let id = arrive.transfer;
        let key = (arrive.to.account, id);
        if let Some(first) = self.transfers.answered.get(&key) {
            return Reply::Arrived(first.clone());
        }
        let mut all = self.accounts.values_mut();
        let Some(a) = all.find(|a| a.id == arrive.to.account.0) else {
            return Reply::Error(ApplyError::NoAccount);
        };
        let below = self.transfers.below.get(&(arrive.to.account, id.source));
        if below.is_some_and(|below| id.number < *below) {
            return Reply::Done;
        }
        let to = MailboxRef::Id {
            id: arrive.to.mailbox,
            uidvalidity: 0,
        };
        let arrival = match (&arrive.what, a.find(&to)) {
            (Arriving::Nothing(why), _) => Arrival::Refused(why.clone()),
            (Arriving::Messages { from, items }, _) if items.is_empty() => Arrival::Here {
                first: 0,
                from: from.clone(),
            },
            (_, None) => Arrival::Refused(ApplyError::NoMailbox),
            (Arriving::Messages { items, .. }, Some(name)) => {
                let Reply::Arrived(Arrival::Here { from, .. }) = reply else {
                    panic!("{reply:?}")
                };
                a.modseq += 1;
                let modseq = a.modseq;
                let first = a.boxes[&name].uidnext + 1;
                for item in items {
                    let (email, thread) = new_email(&mut a.emails, &mut a.threads, &item.threads);
                    a.email_keys.insert(email, item.threads.clone());
                    let m = a.boxes.get_mut(&name).unwrap();
                    m.add(Message {
                        flags: item.flags.iter().cloned().collect(),
                        modseq,
                        blob: item.blob.id,
                        email,
                        thread,
                    });
                    m.modseq = modseq;
                }
                let from = from.clone();
                Arrival::Here { first, from }
            }
        };
        self.transfers.answered.insert(key, arrival.clone());
        Reply::Arrived(arrival)
    }

    fn end(&mut self, id: TransferId, arrival: &Arrival) -> Reply {
        let Some(sent) = self.transfers.sent.get_mut(&id) else {
            return Reply::Done;
        };
        let key = (
            id.source.0,
            format!("across {}", sent.away),
            sent.request_id,
        );
        if sent.over {
            return self.answers.get(&key).cloned().unwrap_or(Reply::Done);
        }
        sent.over = true;
        let mut all = self.accounts.values_mut();
        let (Arrival::Here { first, from }, Some(a)) = (arrival, all.find(|a| a.id == id.source.0))
        else {
            return Reply::Done;
        };
        let next = a.modseq + 1;
        let m = a.boxes.values_mut().find(|m| m.id == sent.mailbox);
        if let Some(m) = m.filter(|_| sent.away) {
            let before = m.messages.len();
            for (uid, email) in &sent.messages {
                let same = m.messages.get(uid).is_some_and(|m| m.email == *email);
                if same && within(*uid, from) {
                    m.messages.remove(uid);
                }
            }
            if m.messages.len() < before {
                m.modseq = next;
                a.modseq = next;
            }
        }
        let count: u32 = from.iter().map(|(a, b)| b - a + 1).sum();
        let reply = Reply::Transferred {
            uidvalidity: sent.to.uidvalidity,
            modseq: a.modseq,
            from: from.clone(),
            to: match count {
                0 => vec![],
                n => vec![(*first, first + n - 1)],
            },
            next: 0,
        };
        a.forget();
        self.answers.insert(key, reply.clone());
        reply
    }
}

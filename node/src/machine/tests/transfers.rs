//! Transfers between accounts: their steps, and random schedules of them.
//!
//! In the schedules every command for the other shard may come late, again, or after everything is
//! over, as if leaders died and networks kept what they were given; users expunge, delete and close
//! meanwhile. However it goes, a message is in one of both accounts, unless its user removed it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::index::values::{AccountRow, MessageRow, TransferRow};
use crate::machine::{limits, read, transfers};

const INBOX: MailboxId = MailboxId(1);

/// Two shards, an account in each.
struct Pair {
    source: Bench,
    target: Bench,
    ann: AccountId,
    to: Place,
    uploads: u8,
}

fn pair() -> Pair {
    let (mut source, mut target) = (Bench::new(), Bench::new());
    let ann = source.create("ann@x");
    let bob = target.create("bob@x");
    let key = Key::Mailbox {
        account: bob,
        mailbox: INBOX,
    };
    let row: crate::index::values::MailboxRow = target.get(key).unwrap();
    let to = Place {
        account: bob,
        mailbox: INBOX,
        uidvalidity: row.uidvalidity,
    };
    Pair {
        source,
        target,
        ann,
        to,
        uploads: 0,
    }
}

/// Messages of an account's INBOX.
fn inbox(b: &Bench, account: AccountId) -> Vec<(Uid, MessageRow)> {
    let all = (1, Uid::MAX);
    let found = read::messages(&*b.index, b.space, account, INBOX, all, usize::MAX);
    found.unwrap().0
}

/// What the messages of an account's INBOX show.
fn shown(b: &Bench, account: AccountId) -> Vec<BlobId> {
    let blob = |(_, row): (Uid, MessageRow)| {
        let email = read::email(&*b.index, b.space, account, row.email).unwrap();
        email.unwrap().blob
    };
    let live = b.get::<AccountRow>(Key::Account(account));
    match live.is_some_and(|row| !row.going) {
        true => inbox(b, account).into_iter().map(blob).collect(),
        false => Vec::new(),
    }
}

impl Pair {
    fn begin(&mut self, request_id: RequestId, uids: &[Uid], away: bool) -> Reply {
        let rows = inbox(&self.source, self.ann);
        let chosen = rows.iter().filter(|(uid, _)| uids.contains(uid));
        let messages = chosen.map(|(uid, row)| (*uid, row.email)).collect();
        self.source.apply(Op::BeginTransfer(Box::new(BeginTransfer {
            request_id,
            account: account("ann@x"),
            mailbox: MailboxName::inbox().into(),
            messages,
            to: self.to,
            away,
            next: 0,
        })))
    }

    fn id(&self, number: u64) -> TransferId {
        let source = self.ann;
        TransferId { source, number }
    }

    /// The arrival of what is left of a transfer, and the chunks that come before.
    fn arrival(&mut self, number: u64) -> Option<Vec<Op>> {
        let row: TransferRow = self.source.get(Key::Transfer(self.id(number)))?;
        let rows: BTreeMap<Uid, MessageRow> = inbox(&self.source, self.ann).into_iter().collect();
        let (mut ops, mut uids, mut items) = (Vec::new(), Vec::new(), Vec::new());
        let here = self.source.get::<AccountRow>(Key::Account(self.ann));
        let here = here.is_some_and(|row| !row.going);
        for (uid, email) in row.messages.iter().filter(|_| here) {
            if rows.get(uid).is_none_or(|row| row.email != *email) {
                continue;
            }
            let account = self.ann;
            let key = Key::Email {
                account,
                email: *email,
            };
            let shown: crate::index::values::EmailRow = self.source.get(key).unwrap();
            self.uploads = self.uploads.wrapping_add(1);
            let upload = UploadId([self.uploads; 16]);
            let blob: crate::index::values::BlobRow =
                self.source.get(Key::Blob(shown.blob)).unwrap();
            ops.push(Op::PutChunk {
                upload,
                seq: 0,
                chunk: blob.chunks[0],
            });
            uids.push((*uid, *uid));
            items.push(AppendItem {
                flags: vec!["k".into()],
                internal_date_ms: 7,
                blob: BlobMeta {
                    id: shown.blob,
                    size: blob.size,
                    chunks: blob.chunks,
                    upload: Some(upload),
                },
                summary: b"summary".to_vec(),
                threads: Vec::new(),
            });
        }
        let what = Arriving::Messages { from: uids, items };
        ops.push(self.arrive(number, what));
        Some(ops)
    }

    fn arrive(&self, number: u64, what: Arriving) -> Op {
        Op::Arrive(Box::new(Arrive {
            transfer: self.id(number),
            to: self.to,
            what,
        }))
    }

    /// Brings what is left of a transfer to its target.
    fn bring(&mut self, number: u64) -> Reply {
        let ops = self.arrival(number).unwrap();
        let replies = ops.into_iter().map(|op| self.target.apply(op));
        replies.last().unwrap()
    }

    fn end(&mut self, number: u64, arrival: Arrival) -> Reply {
        let transfer = self.id(number);
        self.source.apply(Op::EndTransfer { transfer, arrival })
    }

    fn below(&self) -> u64 {
        let (b, to) = (&self.source, self.to.account);
        transfers::over_below(&*b.index, b.space, self.ann, to).unwrap()
    }

    fn forget(&self, below: u64) -> Op {
        Op::ForgetArrivals {
            account: self.to.account,
            source: self.ann,
            below,
        }
    }

    fn settle(&mut self, below: u64) {
        let (account, target) = (self.ann, self.to.account);
        let op = Op::SettleTransfers {
            account,
            target,
            below,
        };
        assert_eq!(self.source.apply(op), Reply::Done);
    }

    /// What the target has answered to a transfer.
    fn answered(&self, number: u64) -> Option<Arrival> {
        let account = self.to.account;
        let transfer = self.id(number);
        let bob = self.target.get::<AccountRow>(Key::Account(account));
        match bob.is_some_and(|row| !row.going) {
            true => self.target.get(Key::Arrival { account, transfer }),
            // As the target would answer an arrival.
            false => Some(Arrival::Refused(ApplyError::NoAccount)),
        }
    }

    fn open(&self) -> Vec<(u64, TransferRow)> {
        transfers::of_account(&*self.source.index, self.source.space, self.ann).unwrap()
    }

    fn audit(&self) {
        self.source.audit();
        self.target.audit();
    }
}

fn here(first: Uid, from: &[(Uid, Uid)]) -> Arrival {
    Arrival::Here {
        first,
        from: from.to_vec(),
    }
}

#[test]
fn messages_arrive_and_then_leave_and_each_step_may_be_repeated() {
    let mut p = pair();
    for octets in [b"one", b"two", b"six"] {
        p.source.store("ann@x", octets, &["\\Seen"]);
    }
    let id = fresh();
    let begun = Reply::Transferring { number: 1 };
    assert_eq!(p.begin(id, &[1, 3], true), begun);
    assert_eq!(p.begin(id, &[1, 3], true), begun);
    assert_eq!(shown(&p.source, p.ann).len(), 3, "nothing has left yet");
    let arrived = here(1, &[(1, 1), (3, 3)]);
    assert_eq!(p.bring(1), Reply::Arrived(arrived.clone()));
    assert_eq!(p.bring(1), Reply::Arrived(arrived.clone()));
    assert_eq!(p.target.count(crate::index::keys::tag::UPLOAD), 0);
    let done = p.end(1, arrived.clone());
    let Reply::Transferred {
        from, to, modseq, ..
    } = &done
    else {
        panic!("{done:?}")
    };
    assert_eq!((&from[..], &to[..]), (&[(1, 1), (3, 3)][..], &[(1, 2)][..]));
    assert_eq!(p.end(1, arrived), done);
    assert_eq!(p.begin(id, &[2], true), done, "a retry gets the answer");
    let row: AccountRow = p.source.get(Key::Account(p.ann)).unwrap();
    assert_eq!((row.highest_modseq, row.messages), (*modseq, 1));
    let moved = [BlobId::of(b"one"), BlobId::of(b"six")];
    assert_eq!(shown(&p.target, p.to.account), moved);
    p.audit();

    let late = p.target.get::<Arrival>(Key::Arrival {
        account: p.to.account,
        transfer: p.id(1),
    });
    assert!(late.is_some());
    let below = p.below();
    let forget = p.forget(below);
    assert_eq!(p.target.apply(forget.clone()), Reply::Done);
    assert_eq!(p.target.apply(forget), Reply::Done);
    p.settle(below);
    p.settle(below);
    assert_eq!((p.open(), p.answered(1)), (vec![], None));
    // It is forgotten, and nothing comes by it all the same.
    let what = Arriving::Messages {
        from: vec![],
        items: vec![],
    };
    let again = p.arrive(1, what);
    assert_eq!(p.target.apply(again), Reply::Done);
    assert_eq!(
        p.begin(fresh(), &[2], false),
        Reply::Transferring { number: 2 }
    );
    p.audit();
}

#[test]
fn a_refusal_of_the_target_is_remembered_and_nothing_leaves() {
    let mut p = pair();
    p.source.store("ann@x", b"one", &[]);
    let id = fresh();
    p.begin(id, &[1], true);
    let close = |state| Op::SetAccountState {
        request_id: fresh(),
        account: account("bob@x"),
        state,
    };
    p.target.apply(close(AccountState::Closed));
    let refused = p.bring(1);
    let Reply::Arrived(arrival @ Arrival::Refused(ApplyError::Refused(_))) = refused.clone() else {
        panic!("{refused:?}")
    };
    p.target.apply(close(AccountState::Active));
    // The source may believe it already.
    assert_eq!(p.bring(1), refused);
    assert_eq!(p.end(1, arrival), Reply::Done);
    assert_eq!(shown(&p.source, p.ann).len(), 1);
    // The same request is another try, under another number.
    assert_eq!(p.begin(id, &[1], true), Reply::Transferring { number: 2 });
    assert_eq!(p.bring(2), Reply::Arrived(here(1, &[(1, 1)])));
    p.audit();
    // What the source gives up is refused, unless it has come.
    let nothing = || Arriving::Nothing(ApplyError::Refused("unreadable".into()));
    let gives_up = p.arrive(2, nothing());
    assert_eq!(p.target.apply(gives_up), Reply::Arrived(here(1, &[(1, 1)])));
    let gives_up = p.arrive(3, nothing());
    let reply = p.target.apply(gives_up);
    assert!(
        matches!(reply, Reply::Arrived(Arrival::Refused(_))),
        "{reply:?}"
    );
}

#[test]
fn messages_on_their_way_are_not_taken_elsewhere() {
    let mut p = pair();
    for octets in [b"one", b"two"] {
        p.source.store("ann@x", octets, &[]);
    }
    p.source.apply(Op::CreateMailbox {
        request_id: fresh(),
        account: account("ann@x"),
        mailbox: MailboxName::new("Work").unwrap(),
        special_use: 0,
    });
    p.begin(fresh(), &[1], true);
    let carry = |uids: &[(Uid, Uid)]| CopyMessages {
        request_id: fresh(),
        account: account("ann@x"),
        from: MailboxName::inbox().into(),
        uids: uids.to_vec(),
        to: MailboxName::new("Work").unwrap().into(),
    };
    let held = Reply::Error(ApplyError::InTransfer);
    assert_eq!(p.source.apply(Op::Move(carry(&[(1, 2)]))), held);
    assert_eq!(p.begin(fresh(), &[1], true), held);
    for free in [Op::Move(carry(&[(2, 2)])), Op::Copy(carry(&[(1, 1)]))] {
        let reply = p.source.apply(free);
        assert!(matches!(reply, Reply::Copied { .. }), "{reply:?}");
    }
    assert_eq!(
        p.begin(fresh(), &[1], false),
        Reply::Transferring { number: 2 }
    );
    // As many as may be; one more comes when others are settled.
    for number in 3..=limits::TRANSFERS as u64 {
        assert_eq!(
            p.begin(fresh(), &[1], false),
            Reply::Transferring { number }
        );
    }
    assert_eq!(p.begin(fresh(), &[1], false), held);
    p.audit();
}

#[test]
fn what_is_not_there_does_not_go() {
    let mut p = pair();
    p.source.store("ann@x", b"one", &[]);
    let reply = p.begin(fresh(), &[9], true);
    assert!(
        matches!(&reply, Reply::Transferred { from, .. } if from.is_empty()),
        "{reply:?}"
    );
    assert!(p.open().is_empty());
    let mut begin = BeginTransfer {
        request_id: fresh(),
        account: account("ann@x"),
        mailbox: MailboxName::inbox().into(),
        messages: vec![(2, EmailId(1)), (1, EmailId(1))],
        to: p.to,
        away: true,
        next: 0,
    };
    let mut refused = |begin: &BeginTransfer| {
        let reply = p.source.apply(Op::BeginTransfer(Box::new(begin.clone())));
        assert!(matches!(reply, Reply::Error(_)), "{reply:?}");
    };
    refused(&begin);
    begin.messages = vec![(1, EmailId(1)); limits::ITEMS_PER_APPEND + 1];
    refused(&begin);
    begin.messages = vec![(1, EmailId(1))];
    begin.to.account = AccountId::new(Slot::of(&account("ann@x")), 1);
    refused(&begin);
    for from in [
        vec![],
        vec![(1, 2)],
        vec![(2, 1)],
        vec![(0, 0)],
        vec![(1, Uid::MAX)],
    ] {
        let upload = UploadId([1; 16]);
        p.target.apply(Op::PutChunk {
            upload,
            seq: 0,
            chunk: chunk(b"one"),
        });
        let blob = BlobMeta {
            id: BlobId::of(b"one"),
            size: 3,
            chunks: vec![chunk(b"one")],
            upload: Some(upload),
        };
        let item = AppendItem {
            flags: vec![],
            internal_date_ms: 0,
            blob,
            summary: vec![],
            threads: vec![],
        };
        let items = vec![item];
        let op = p.arrive(1, Arriving::Messages { from, items });
        let reply = p.target.apply(op);
        assert!(matches!(reply, Reply::Error(_)), "{reply:?}");
    }
    assert_eq!(p.answered(1), None);
}

#[test]
fn a_deleted_account_leaves_what_another_one_is_owed_and_no_more() {
    let mut p = pair();
    p.source.store("ann@x", b"one", &[]);
    p.begin(fresh(), &[1], true);
    p.bring(1);
    let reap = |b: &mut Bench, name: &str| {
        b.apply(Op::DeleteAccount {
            request_id: fresh(),
            name: account(name),
        });
        while let Some(account) = read::reapable(&*b.index, b.space).unwrap() {
            b.apply(Op::ReapAccount { account, limit: 7 });
        }
    };
    reap(&mut p.source, "ann@x");
    p.audit();
    assert_eq!(p.open().len(), 1);
    // Whoever carries it on has nothing to send; what came has come.
    assert_eq!(p.bring(1), Reply::Arrived(here(1, &[(1, 1)])));
    assert_eq!(p.end(1, here(1, &[(1, 1)])), Reply::Done);
    let below = p.below();
    let forget = p.forget(below);
    p.target.apply(forget.clone());
    p.settle(below);
    use crate::index::keys::tag;
    for tag in [tag::TRANSFERS, tag::TRANSFER, tag::ARRIVAL] {
        assert_eq!(p.source.count(tag) + p.target.count(tag), 0);
    }
    reap(&mut p.target, "bob@x");
    assert_eq!(p.target.count(tag::ARRIVALS), 0);
    assert_eq!(p.target.apply(forget), Reply::Done);
    assert_eq!(p.target.count(tag::ARRIVALS), 0);
    p.audit();
}

/// A step of a schedule; numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    Store,
    Begin(Vec<Uid>, bool),
    /// Again, under the request of an earlier one.
    BeginAgain(usize),
    /// A leader sends what is left.
    Send(usize),
    /// A leader gives up.
    GiveUp(usize),
    /// Something that was sent is delivered, and may be delivered again.
    Deliver(usize),
    /// A leader that knows what the target has answered.
    End(usize),
    /// A leader has the target forget.
    SendForget,
    /// A leader that knows of what was forgotten.
    Settle(usize),
    Expunge(Uid),
    Flag(Uid),
    Close(bool),
    DeleteSource,
    DeleteTarget,
    Reap,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0usize..8;
    prop_oneof![
        3 => Just(Step::Store),
        4 => (prop::collection::vec(1u32..9, 1..4), prop::bool::weighted(0.8))
            .prop_map(|(uids, away)| Step::Begin(uids, away)),
        1 => n.clone().prop_map(Step::BeginAgain),
        6 => n.clone().prop_map(Step::Send),
        1 => n.clone().prop_map(Step::GiveUp),
        10 => (0usize..64).prop_map(Step::Deliver),
        6 => n.clone().prop_map(Step::End),
        3 => Just(Step::SendForget),
        3 => n.prop_map(Step::Settle),
        1 => (1u32..9).prop_map(Step::Expunge),
        1 => (1u32..9).prop_map(Step::Flag),
        1 => any::<bool>().prop_map(Step::Close),
        1 => prop::bool::weighted(0.1).prop_map(|yes| match yes {
            true => Step::DeleteSource,
            false => Step::Reap,
        }),
        1 => prop::bool::weighted(0.1).prop_map(|yes| match yes {
            true => Step::DeleteTarget,
            false => Step::Reap,
        }),
    ]
}

struct Schedule {
    p: Pair,
    /// Octets of what was stored, and whether its user expunged it.
    stored: Vec<(BlobId, bool)>,
    requests: Vec<(RequestId, Vec<Uid>, bool)>,
    /// Commands on their way to the target; an arrival with its chunks.
    sent: Vec<Vec<Op>>,
    /// What the target was made to forget.
    forgotten: Vec<u64>,
    /// Messages of copies.
    copied: Vec<BlobId>,
    deleted: [bool; 2],
}

impl Schedule {
    fn run(&mut self, step: &Step) {
        let p = &mut self.p;
        let open = p.open();
        let pick = |n: usize, over: bool| {
            let of: Vec<u64> = open
                .iter()
                .filter(|(_, row)| row.over == over)
                .map(|(number, _)| *number)
                .collect();
            of.get(n % of.len().max(1)).copied()
        };
        match step {
            Step::Store if !self.deleted[0] => {
                let octets = format!("message {}", self.stored.len());
                p.source.store("ann@x", octets.as_bytes(), &[]);
                self.stored.push((BlobId::of(octets.as_bytes()), false));
            }
            Step::Begin(uids, away) => {
                let id = fresh();
                let rows = shown(&p.source, p.ann);
                let uids_there: Vec<Uid> = inbox(&p.source, p.ann).iter().map(|r| r.0).collect();
                let begun = p.begin(id, uids, *away);
                if matches!(begun, Reply::Transferring { .. }) {
                    self.requests.push((id, uids.clone(), *away));
                    for (uid, blob) in uids_there.iter().zip(rows) {
                        if !away && uids.contains(uid) {
                            self.copied.push(blob);
                        }
                    }
                }
            }
            Step::BeginAgain(n) => {
                if let Some((id, uids, away)) = self.requests.get(*n).cloned() {
                    // Some of it may be refused, copied or not; the request is the same.
                    if away {
                        p.begin(id, &uids, away);
                    }
                }
            }
            Step::Send(n) => {
                if let Some(ops) = pick(*n, false).and_then(|number| p.arrival(number)) {
                    self.sent.push(ops);
                }
            }
            Step::GiveUp(n) => {
                if let Some(number) = pick(*n, false) {
                    let why = ApplyError::Refused("unreadable".into());
                    self.sent
                        .push(vec![p.arrive(number, Arriving::Nothing(why))]);
                }
            }
            Step::Deliver(n) => {
                if !self.sent.is_empty() {
                    self.deliver(n % self.sent.len());
                }
            }
            Step::End(n) => {
                if let Some(number) = pick(*n, false)
                    && let Some(arrival) = p.answered(number)
                {
                    p.end(number, arrival);
                }
            }
            Step::SendForget => {
                let below = p.below();
                let op = p.forget(below);
                self.sent.push(vec![op]);
            }
            Step::Settle(n) => {
                if let Some(below) = self.forgotten.get(n % self.forgotten.len().max(1)) {
                    p.settle(*below);
                }
            }
            Step::Expunge(uid) => {
                let rows = shown(&p.source, p.ann);
                let there = inbox(&p.source, p.ann);
                if let Some(at) = there.iter().position(|(there, _)| there == uid)
                    && !self.deleted[0]
                {
                    p.source.apply(expunge("ann@x", &[(*uid, *uid)], true));
                    let gone = self.stored.iter_mut().find(|(blob, _)| *blob == rows[at]);
                    gone.unwrap().1 = true;
                }
            }
            Step::Flag(uid) => {
                let uids = [(*uid, *uid)];
                let flag = set_flags("ann@x", &uids, FlagMode::Add, &["\\Flagged"]);
                p.source.apply(flag);
            }
            Step::Close(close) => {
                let state = match close {
                    true => AccountState::Closed,
                    false => AccountState::Active,
                };
                p.target.apply(Op::SetAccountState {
                    request_id: fresh(),
                    account: account("bob@x"),
                    state,
                });
            }
            Step::DeleteSource => {
                self.deleted[0] = true;
                p.source.apply(Op::DeleteAccount {
                    request_id: fresh(),
                    name: account("ann@x"),
                });
            }
            Step::DeleteTarget => {
                self.deleted[1] = true;
                p.target.apply(Op::DeleteAccount {
                    request_id: fresh(),
                    name: account("bob@x"),
                });
            }
            Step::Reap => {
                for b in [&mut p.source, &mut p.target] {
                    if let Some(account) = read::reapable(&*b.index, b.space).unwrap() {
                        b.apply(Op::ReapAccount { account, limit: 2 });
                    }
                }
            }
            Step::Store => {}
        }
    }

    /// Delivers something that was sent; it stays on its way.
    fn deliver(&mut self, n: usize) {
        for op in self.sent[n].clone() {
            let reply = self.p.target.apply(op.clone());
            if let (Op::ForgetArrivals { below, .. }, Reply::Done) = (&op, &reply) {
                self.forgotten.push(*below);
            }
        }
    }

    /// Nothing is twice, and nothing that nobody removed is lost.
    fn check(&self, at_rest: bool) {
        let source = shown(&self.p.source, self.p.ann);
        let target = shown(&self.p.target, self.p.to.account);
        for (blob, expunged) in &self.stored {
            let n = |of: &[BlobId]| of.iter().filter(|b| *b == blob).count();
            let (here, there) = (n(&source), n(&target));
            let copies = n(&self.copied);
            let all = [here, there, copies];
            assert!(here <= 1 && there <= copies + 1, "stored twice: {all:?}");
            if !expunged && self.deleted == [false; 2] {
                assert!(here + there >= 1, "lost: {all:?}");
            }
            if at_rest && copies == 0 {
                assert!(here + there <= 1, "left in both: {all:?}");
            }
        }
    }

    /// Leaders see everything through; what is still on its way comes after that.
    fn finish(&mut self) {
        for (number, row) in self.p.open() {
            if row.over {
                continue;
            }
            if self.p.answered(number).is_none() {
                let reply = self.p.bring(number);
                assert!(matches!(reply, Reply::Arrived(_)), "{reply:?}");
            }
            let arrival = self.p.answered(number).unwrap();
            self.p.end(number, arrival);
        }
        let below = self.p.below();
        let forget = self.p.forget(below);
        assert_eq!(self.p.target.apply(forget), Reply::Done);
        self.p.settle(below);
        assert_eq!(self.p.open(), []);
        self.check(true);
        for n in 0..self.sent.len() {
            self.deliver(n);
        }
        self.check(true);
        let p = &mut self.p;
        for b in [&mut p.source, &mut p.target] {
            while let Some(account) = read::reapable(&*b.index, b.space).unwrap() {
                b.apply(Op::ReapAccount {
                    account,
                    limit: 100,
                });
            }
        }
        p.audit();
        use crate::index::keys::tag;
        assert_eq!(p.target.count(tag::ARRIVAL), 0, "all is forgotten");
        let pairs = usize::from(!self.deleted[1]);
        assert!(p.target.count(tag::ARRIVALS) <= pairs);
        let accounts = usize::from(!self.deleted[0]);
        assert!(p.source.count(tag::TRANSFERS) <= accounts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn however_it_goes_a_message_is_in_one_account(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut s = Schedule {
            p: pair(),
            stored: Vec::new(),
            requests: Vec::new(),
            sent: Vec::new(),
            forgotten: Vec::new(),
            copied: Vec::new(),
            deleted: [false; 2],
        };
        for _ in 0..4 {
            s.run(&Step::Store);
        }
        for step in &steps {
            s.run(step);
            s.check(false);
        }
        s.p.audit();
        s.finish();
    }
}

//! The search against hand-made histories and against stateright's tester.

use rand::RngExt;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::search::{Call as C, search};
use super::spec::{Account, Fit, Item};
use super::*;
use crate::history::StoredAt;
use crate::invariants::story::tests::*;
use crate::plan::FlagMode;

mod given;
mod imap;
mod programs;

/// A message that is given nothing beside its octets.
fn item(blob: Name, size: u64) -> Item {
    Item {
        blob,
        size,
        flags: Vec::new(),
        date_ms: 0,
    }
}

fn judged(history: &[Record]) -> Vec<String> {
    let violations = judge(Linear::new(Expected::default(), false, false), history);
    violations.into_iter().map(|v| v.what).collect()
}

#[test]
fn a_good_history_with_unknown_calls() {
    let history = [
        create(0),
        deliver(10, 1, unknown()),
        deliver(11, 2, unknown()),
        deliver(12, 3, delivered(at(2, 3))),
        list(30, 3, vec![seen(1, 2, 2), seen(2, 3, 3)]),
        deliver(40, 4, delivered(at(4, 5))), // the first one came late
        deliver(50, 1, delivered(at(3, 4))), // its repetition
        expunge(60, 2, unknown()),
        mailboxes(70, 5, 6, 3),
        list(80, 6, vec![seen(1, 2, 2), seen(3, 4, 1), seen(4, 5, 4)]),
    ];
    assert_eq!(judged(&history), [""; 0]);
}

/// Who found nothing to change is remembered all the same (contract: a retry gets the first answer).
#[test]
fn a_repetition_is_told_what_a_lost_try_left_as_it_was() {
    let first = expunge(10, 1, unknown());
    let again = |modseq| {
        let answer = expunged(modseq, &[]);
        record(30, 35, first.call.clone(), answer)
    };
    let deliver = || deliver(20, 1, delivered(at(1, 2)));
    let lost = expunge(10, 1, unknown());
    assert_eq!(judged(&[create(0), lost, deliver(), again(1)]), [""; 0]);
    // It would have taken the message, had it been carried out only then.
    let lost = expunge(10, 1, unknown());
    assert_eq!(judged(&[create(0), lost, deliver(), again(2)]).len(), 1);
    assert_eq!(judged(&[create(0), deliver(), again(1)]).len(), 1);
}

#[test]
fn a_stale_read_is_found() {
    let stale = [
        create(0),
        deliver(10, 1, delivered(at(1, 2))),
        list(30, 1, vec![]),
    ];
    assert_eq!(judged(&stale).len(), 1);
    // Two readers who see an unknown delivery come and go.
    let flicker = [
        create(0),
        deliver(10, 1, unknown()),
        mailboxes(30, 2, 2, 1),
        list(40, 1, vec![]),
    ];
    assert_eq!(judged(&flicker).len(), 1);
}

#[test]
fn a_modseq_or_uid_that_no_order_gives_is_found() {
    let gap = [create(0), deliver(10, 1, delivered(at(1, 3)))];
    assert_eq!(judged(&gap).len(), 1);
    let explained = [
        create(0),
        expunge(5, 1, unknown()),
        deliver(6, 2, unknown()),
        deliver(10, 1, delivered(at(2, 3))),
    ];
    assert_eq!(judged(&explained), [""; 0]);
    let uid = [
        create(0),
        deliver(6, 2, delivered(at(1, 2))),
        deliver(20, 1, delivered(at(3, 3))),
    ];
    assert_eq!(judged(&uid).len(), 1);
}

#[test]
fn a_session_may_read_what_it_knew() {
    let session = |called_ms, call, done| Record {
        client: 500,
        ..record(called_ms, called_ms + 5, call, Answer::Done(done))
    };
    let select = |called_ms, messages| {
        let call = Call::Select {
            account: ANN.into(),
            mailbox: INBOX.into(),
        };
        let done = Done::Selected {
            uid_validity: 7,
            uid_next: 2,
            messages,
        };
        session(called_ms, call, done)
    };
    let fetch = |called_ms| {
        let call = Call::Fetch {
            account: ANN.into(),
            mailbox: INBOX.into(),
            uid: 1,
            era: 7,
        };
        let seen = seen(1, 2, 1);
        let done = Done::Octets {
            blob: seen.blob,
            size: seen.size,
        };
        session(called_ms, call, done)
    };
    let stored = deliver(10, 1, delivered(at(1, 2)));
    let gone = |called_ms| expunge(called_ms, 1, expunged(3, &[1]));
    let good = [
        create(0),
        stored.clone(),
        select(20, 1),
        gone(30),
        fetch(40),
    ];
    assert_eq!(judged(&good), [""; 0]);
    let bad = [create(0), stored, gone(20), select(30, 0), fetch(40)];
    assert_eq!(judged(&bad).len(), 1);
}

#[test]
fn an_account_that_comes_again_begins_anew() {
    let delete = |called_ms, answer| {
        let call = Call::DeleteAccount {
            account: ANN.into(),
        };
        record(called_ms, called_ms + 5, call, answer)
    };
    let later = |called_ms, body| {
        let at = StoredAt {
            uid_validity: 9,
            uid: 1,
            modseq: 2,
        };
        deliver(called_ms, body, delivered(at))
    };
    let good = [
        create(0),
        deliver(10, 1, delivered(at(1, 2))),
        delete(20, unknown()),
        create(30),
        later(40, 2),
    ];
    assert_eq!(judged(&good), [""; 0]);
    let bad = [
        create(0),
        deliver(10, 1, delivered(at(1, 2))),
        delete(20, Answer::Refused(answer::NO_ACCOUNT.into())),
        create(30),
    ];
    assert_eq!(judged(&bad).len(), 1);
}

#[test]
fn octets_may_go_away_while_they_are_read() {
    let fetch = |called_ms, returned_ms, why: &str| {
        let call = Call::Fetch {
            account: ANN.into(),
            mailbox: INBOX.into(),
            uid: 1,
            era: 0,
        };
        let answer = Answer::Refused(why.to_owned());
        record(called_ms, returned_ms, call, answer)
    };
    let stored = || deliver(10, 1, delivered(at(1, 2)));
    // The account goes, then the answer says of what.
    let with_account = |why| [create(0), stored(), fetch(20, 60, why), delete(30)];
    assert_eq!(judged(&with_account(answer::NO_BLOB)), [""; 0]);
    assert_eq!(judged(&with_account(answer::NO_ACCOUNT)), [""; 0]);
    // That message was never missing from an account that is there.
    assert_eq!(judged(&with_account(answer::NO_MESSAGE)).len(), 1);
    let with_message = [
        create(0),
        stored(),
        fetch(20, 60, answer::NO_BLOB),
        expunge(30, 1, expunged(3, &[1])),
    ];
    assert_eq!(judged(&with_message), [""; 0]);
    // Nothing took it away before the answer.
    let kept = [create(0), stored(), fetch(20, 60, answer::NO_BLOB)];
    assert_eq!(judged(&kept).len(), 1);
    let later = [
        create(0),
        stored(),
        fetch(20, 60, answer::NO_BLOB),
        delete(70),
    ];
    assert_eq!(judged(&later).len(), 1);
}

#[test]
fn a_selection_tells_which_mailbox_it_is() {
    let select = |called_ms, uid_validity| {
        let call = Call::Select {
            account: ANN.into(),
            mailbox: INBOX.into(),
        };
        let done = Done::Selected {
            uid_validity,
            uid_next: 2,
            messages: 1,
        };
        record(called_ms, called_ms + 5, call, Answer::Done(done))
    };
    // LMTP does not say where.
    let nowhere = StoredAt {
        uid_validity: 0,
        uid: 0,
        modseq: 0,
    };
    let by_lmtp = deliver(10, 1, delivered(nowhere));
    let mut by_number = expunge(30, 1, expunged(3, &[1]));
    if let Call::Expunge { era, .. } = &mut by_number.call {
        *era = 7;
    }
    let good = [create(0), by_lmtp.clone(), select(20, 7), by_number];
    assert_eq!(judged(&good), [""; 0]);
    let bad = [create(0), by_lmtp, select(20, 7), select(30, 8)];
    assert_eq!(judged(&bad).len(), 1);
}

#[test]
fn many_unknown_calls_are_no_burden() {
    let mut history = vec![create(0)];
    let mut kept = Vec::new();
    let mut modseq = 1;
    for n in 0..100u64 {
        // One in three is unknown, and one in six of them was carried out.
        let t = 10 + n * 10;
        match n % 6 {
            0 => history.push(deliver(t, n, unknown())),
            3 => {
                modseq += 1;
                kept.push(seen(kept.len() as u32 + 1, modseq, n));
                history.push(deliver(t, n, unknown()));
            }
            5 => history.push(list(t, modseq, kept.clone())),
            _ => {
                modseq += 1;
                let uid = kept.len() as u32 + 1;
                kept.push(seen(uid, modseq, n));
                history.push(deliver(t, n, delivered(at(uid, modseq))));
            }
        }
    }
    assert_eq!(judged(&history), [""; 0]);
    let lost = kept.remove(7);
    history.push(list(2_000, modseq, kept));
    assert_eq!(judged(&history).len(), 1, "{lost:?}");
}

/// [`Account`] as stateright wants it.
#[derive(Clone, Debug)]
struct Spec(Account);

impl SequentialSpec for Spec {
    type Op = Op;
    type Ret = Ret;

    fn invoke(&mut self, op: &Op) -> Ret {
        let ret = self.0.answer(op);
        self.0.apply(op, None);
        ret
    }

    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        let fits = self.0.fits(op, Some(ret)) != Fit::No;
        if fits {
            self.0.apply(op, Some(ret));
        }
        fits
    }
}

fn inbox() -> Where {
    Where {
        name: INBOX.into(),
        era: 0,
    }
}

/// A call with its thread and the order of its events.
struct Drawn {
    op: Op,
    ret: Option<Ret>,
    called: u64,
    returned: u64,
}

/// Draws a history that an account would give, then spoils it or not.
fn draw(seed: u64) -> Vec<Drawn> {
    let mut random = crate::stream::stream(seed, "linear tests", 0);
    let mut account = Account::default();
    let mut drawn = Vec::new();
    let (mut now, mut generation) = (0, 0);
    // Who calls again under a request asks for the same.
    let stores: [(usize, Option<Replaced>); 3] = std::array::from_fn(|_| {
        let one = Replaced { era: 0, uid: 1 };
        let replaces = (random.random_range(0..4) == 0).then_some(one);
        (random.random_range(1..3), replaces)
    });
    let away: [bool; 2] = random.random();
    for n in 0..7u32 {
        let op = match random.random_range(0..if n == 0 { 1 } else { 11 }) {
            0 => Op::CreateAccount,
            1 if random.random_range(0..3) == 0 => Op::DeleteAccount,
            1..=3 => {
                let request = random.random_range(0..stores.len());
                let (items, replaces) = stores[request];
                Op::Store {
                    mailbox: INBOX.into(),
                    request: request as Name + 1,
                    items: vec![item(1, 5); items],
                    replaces,
                }
            }
            4 => Op::Expunge {
                at: inbox(),
                request: 100 + n,
                uids: vec![random.random_range(1..3)],
                force: true,
            },
            5 => Op::SetFlags {
                at: inbox(),
                request: 100 + n,
                uids: vec![1, 2],
                mode: FlagMode::Add,
                flags: vec![random.random_range(0..2)],
                unchanged_since: random.random_range(0..3),
            },
            6 => Op::Fetch(inbox(), random.random_range(1..3)),
            7 => {
                let request = random.random_range(0..away.len());
                Op::Carry {
                    from: inbox(),
                    to: inbox(),
                    uids: vec![1, 2],
                    away: away[request],
                    request: 200 + request as Name,
                }
            }
            8 => Op::Subscribe {
                name: INBOX.into(),
                on: random.random(),
                request: 100 + n,
            },
            _ => Op::Mailboxes,
        };
        let mut ret = account.answer(&op);
        match &mut ret {
            Ret::Stored(at, _) => at.uid_validity = generation,
            Ret::Carried { uid_validity, .. } => *uid_validity = generation,
            Ret::Mailboxes(all) => {
                for m in all.mailboxes.values_mut() {
                    (m.uid_validity, m.id) = (generation, 1);
                }
            }
            _ => {}
        }
        // A call whose answer is lost may have been carried out or not.
        let unknown = random.random_range(0..4) == 0;
        if !unknown || random.random() {
            generation += u32::from(account.answer(&op) == Ret::Done && op == Op::CreateAccount);
            account.apply(&op, None);
        }
        // Answers that may be wrong: as of another moment.
        if random.random_range(0..12) == 0 {
            ret = Account::default().answer(&op);
        }
        now += random.random_range(1..4);
        drawn.push(Drawn {
            op,
            ret: (!unknown).then_some(ret),
            called: now,
            returned: now + random.random_range(1..8),
        });
    }
    drawn
}

fn by_stateright(drawn: &[Drawn]) -> bool {
    // All calls have odd, all answers even moments: none meet.
    let mut events: Vec<(u64, usize)> = Vec::new();
    for (i, d) in drawn.iter().enumerate() {
        events.push((d.called * 2 + 1, i));
        if d.ret.is_some() {
            events.push((d.returned * 2, i));
        }
    }
    events.sort();
    let mut tester = LinearizabilityTester::new(Spec(Account::default()));
    let mut begun = vec![false; drawn.len()];
    for (_, i) in events {
        match begun[i] {
            false => drop(tester.on_invoke(i, drawn[i].op.clone()).unwrap()),
            true => drop(tester.on_return(i, drawn[i].ret.clone().unwrap()).unwrap()),
        }
        begun[i] = true;
    }
    tester.is_consistent()
}

#[test]
fn the_search_agrees_with_stateright() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..1500 {
        let drawn = draw(seed);
        let calls: Vec<C> = drawn
            .iter()
            .enumerate()
            .map(|(i, d)| C {
                op: d.op.clone(),
                ret: d.ret.clone(),
                called_ms: d.called * 2 + 1,
                returned_ms: match d.ret {
                    Some(_) => d.returned * 2,
                    None => u64::MAX,
                },
                after: None,
                record: i,
            })
            .collect();
        let expected = by_stateright(&drawn);
        let deleted = calls.iter().any(|c| c.op == Op::DeleteAccount);
        for evidence in [None, (!deleted).then(|| evidence::of(&calls, true))] {
            let found = match search(&calls, evidence.as_ref(), 1_000_000) {
                Verdict::Good | Verdict::Blind => true,
                Verdict::Bad { .. } => false,
                Verdict::Undecided => panic!("seed {seed} has no end"),
            };
            assert_eq!(found, expected, "seed {seed}: {calls:?}");
        }
        match expected {
            true => good += 1,
            false => bad += 1,
        }
    }
    assert!(good > 300 && bad > 300, "{good} good, {bad} bad");
}

/// What a mail program does to mailboxes, one after the other, and what it is told.
#[test]
fn names_and_moves_follow_the_rules() {
    let mut account = Account::default();
    let mut n = 0;
    let mut does = |op: &dyn Fn(Name) -> Op| {
        n += 1;
        let op = op(n);
        let ret = account.answer(&op);
        account.apply(&op, None);
        (ret, account.clone())
    };
    let name = |name: &str| -> Arc<str> { name.into() };
    does(&|_| Op::CreateAccount);
    let make = |to: &'static str| {
        move |request| Op::Make {
            name: to.into(),
            uses: Vec::new(),
            for_inbox: false,
            request,
        }
    };
    // A parent is a mailbox with a modseq of its own.
    let (_, after) = does(&make("a/b"));
    assert_eq!(after.modseq, 3);
    assert!(after.mailboxes.contains_key("a"));
    assert_eq!(does(&make("a")).0, Ret::Exists);
    let rename = |from: &'static str, to: &'static str| {
        move |request| Op::Rename {
            from: from.into(),
            to: to.into(),
            request,
        }
    };
    assert_eq!(does(&rename("a", "a/c")).0, Ret::Refused);
    assert_eq!(does(&rename("x", "y")).0, Ret::NoMailbox);
    assert_eq!(does(&rename("a", "a/b")).0, Ret::Refused);
    let (_, after) = does(&rename("a", "c"));
    assert_eq!(after.modseq, 5);
    assert_eq!(
        after.mailboxes.keys().collect::<Vec<_>>(),
        [&name("INBOX"), &name("c"), &name("c/b")]
    );
    let (ret, _) = does(&|request| Op::Store {
        mailbox: "c".into(),
        request,
        items: vec![item(1, 5), item(2, 6)],
        replaces: None,
    });
    let first = StoredAt {
        uid_validity: 0,
        uid: 1,
        modseq: 6,
    };
    assert_eq!(ret, Ret::Stored(first, 2));
    let (ret, after) = does(&|request| Op::Carry {
        from: Where {
            name: "c".into(),
            era: 0,
        },
        to: inbox(),
        uids: vec![2, 9],
        away: true,
        request,
    });
    let carried = Ret::Carried {
        uid_validity: 0,
        modseq: 8,
        from: vec![2],
        to: vec![1],
    };
    assert_eq!(ret, carried);
    assert_eq!(after.mailboxes["c"].messages.len(), 1);
    // INBOX gives what it has when the target is made, and no more.
    does(&|_| Op::Make {
        name: "old".into(),
        uses: Vec::new(),
        for_inbox: true,
        request: 1000,
    });
    does(&|request| Op::Store {
        mailbox: INBOX.into(),
        request,
        items: vec![item(3, 7)],
        replaces: None,
    });
    let (_, after) = does(&|_| Op::MoveInbox { made: 1000 });
    assert_eq!(after.mailboxes["old"].messages.len(), 1);
    let left: Vec<u32> = after.mailboxes[INBOX].messages.keys().copied().collect();
    assert_eq!((left, after.modseq), (vec![2], 12));
    let (_, after) = does(&|request| Op::DeleteMailbox {
        at: Where {
            name: "c".into(),
            era: 0,
        },
        request,
    });
    assert!(after.mailboxes.contains_key("c/b"));
}

/// A retry gets the first answer again, whatever became of the mailbox that was made.
#[test]
fn inbox_is_renamed_once_nothing_is_left_to_move() {
    let mut account = Account::default();
    let mut does = |op: Op| {
        let ret = account.answer(&op);
        account.apply(&op, None);
        ret
    };
    let make = |to: &str, request| Op::Make {
        name: to.into(),
        uses: Vec::new(),
        for_inbox: true,
        request,
    };
    let delete = |gone: &str, request| Op::DeleteMailbox {
        at: Where {
            name: gone.into(),
            era: 0,
        },
        request,
    };
    does(Op::CreateAccount);
    // INBOX was empty.
    does(make("a", 1));
    does(delete("a", 2));
    assert_eq!(does(Op::MoveInbox { made: 1 }), Ret::Done);
    does(Op::Store {
        mailbox: INBOX.into(),
        request: 3,
        items: vec![item(1, 5)],
        replaces: None,
    });
    assert_eq!(does(Op::MoveInbox { made: 1 }), Ret::Done);
    // A message cannot go where no mailbox is any more ...
    does(make("b", 4));
    does(delete("b", 5));
    assert_eq!(does(Op::MoveInbox { made: 4 }), Ret::NoMailbox);
    // ... and one that has gone there is not asked for again.
    does(make("c", 6));
    assert_eq!(does(Op::MoveInbox { made: 6 }), Ret::Done);
    does(delete("c", 7));
    assert_eq!(does(Op::MoveInbox { made: 6 }), Ret::Done);
}

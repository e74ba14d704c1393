//! Passwords and states of accounts in the machine.

use super::*;
use crate::index::values::{AccountRow, ChangeKind, ChangeRow, CredentialRow, Secret};
use crate::machine::{changes, limits};

fn set(request_id: RequestId, hash: Option<&str>) -> Op {
    Op::SetPassword {
        request_id,
        account: account("ann@x"),
        hash: hash.map(str::to_owned),
    }
}

fn add(request_id: RequestId, name: &str, hash: u8) -> Op {
    Op::AddAppPassword {
        request_id,
        account: account("ann@x"),
        name: name.to_owned(),
        hash: [hash; 32],
    }
}

fn remove(request_id: RequestId, name: &str) -> Op {
    Op::RemoveAppPassword {
        request_id,
        account: account("ann@x"),
        name: name.to_owned(),
    }
}

fn state(request_id: RequestId, state: AccountState) -> Op {
    Op::SetAccountState {
        request_id,
        account: account("ann@x"),
        state,
    }
}

fn kept(b: &Bench, id: AccountId) -> Vec<(String, CredentialRow)> {
    changes::credentials(&*b.index, b.space, id).unwrap()
}

fn modseq(b: &Bench, id: AccountId) -> ModSeq {
    b.get::<AccountRow>(Key::Account(id))
        .unwrap()
        .highest_modseq
}

#[test]
fn each_change_has_a_modseq_and_a_retry_has_none() {
    let mut b = Bench::new();
    let id = b.create("ann@x");
    let first = fresh();
    let changed = |modseq| Reply::Changed { modseq };
    assert_eq!(b.apply(set(first, Some("one"))), changed(2));
    assert_eq!(b.apply(set(fresh(), Some("two"))), changed(3));
    assert_eq!(b.apply(set(first, Some("one"))), changed(2));
    let own = &kept(&b, id)[0];
    assert_eq!(own.1.secret, Secret::Password("two".into()));
    assert_eq!((own.0.as_str(), own.1.modseq), ("", 3));
    let row: ChangeRow = b
        .get(Key::Change {
            account: id,
            modseq: 3,
        })
        .unwrap();
    assert_eq!(
        (row.kind, row.mailbox),
        (ChangeKind::AccountChanged, MailboxId(0))
    );

    let phone = fresh();
    assert_eq!(b.apply(add(phone, "phone", 1)), changed(4));
    // Another draw of the same request changes nothing.
    assert_eq!(b.apply(add(phone, "phone", 2)), changed(4));
    assert_eq!(kept(&b, id)[1].1.secret, Secret::App([1; 32]));
    let exists = Reply::Error(ApplyError::Exists);
    assert_eq!(b.apply(add(fresh(), "phone", 3)), exists);
    let gone = fresh();
    assert_eq!(b.apply(remove(gone, "phone")), changed(5));
    assert_eq!(b.apply(remove(gone, "phone")), changed(5));
    let missing = Reply::Error(ApplyError::NoAppPassword);
    assert_eq!(b.apply(remove(fresh(), "phone")), missing);
    assert_eq!(b.apply(set(fresh(), None)), changed(6));
    assert_eq!(b.apply(set(fresh(), None)), changed(6), "there was none");
    assert_eq!(kept(&b, id), []);
    let newest = Event::AccountChanged {
        account: id,
        modseq: 6,
    };
    assert_eq!(b.events.last(), Some(&newest));
    b.audit();
}

#[test]
fn the_own_password_is_no_programs_and_these_are_bounded() {
    let mut b = Bench::new();
    let id = b.create("ann@x");
    b.apply(set(fresh(), Some("own")));
    let before = b.hash();
    for name in ["", &"x".repeat(101)] {
        let refused = b.apply(add(fresh(), name, 1));
        assert!(matches!(refused, Reply::Error(ApplyError::Refused(_))));
    }
    let missing = Reply::Error(ApplyError::NoAppPassword);
    assert_eq!(b.apply(remove(fresh(), "")), missing);
    assert_eq!(b.hash(), before);
    for n in 0..limits::APP_PASSWORDS {
        let reply = b.apply(add(fresh(), &format!("p{n}"), 1));
        assert!(matches!(reply, Reply::Changed { .. }));
    }
    let full = b.apply(add(fresh(), "one more", 1));
    assert!(matches!(full, Reply::Error(ApplyError::Limit(_))));
    assert_eq!(kept(&b, id).len(), limits::APP_PASSWORDS + 1);
    b.audit();

    b.apply(Op::DeleteAccount {
        request_id: fresh(),
        name: account("ann@x"),
    });
    let no_account = Reply::Error(ApplyError::NoAccount);
    assert_eq!(b.apply(set(fresh(), Some("own"))), no_account);
    while b.apply(Op::ReapAccount {
        account: id,
        limit: 7,
    }) == (Reply::Reaped { more: true })
    {
        b.audit();
    }
    assert_eq!(b.count(0x17), 0);
    b.audit();
}

#[test]
fn a_state_is_a_change_when_it_is_another_and_closed_takes_no_mail() {
    let mut b = Bench::new();
    let id = b.create("ann@x");
    let closed = fresh();
    b.apply(state(fresh(), AccountState::Active));
    assert_eq!(modseq(&b, id), 1);
    let mail = fresh();
    let stored = b.apply(store(&[(mail, "ann@x", &[])], b"one"));
    b.apply(state(closed, AccountState::Closed));
    assert_eq!(modseq(&b, id), 3);
    let refused = b.store("ann@x", b"two", &[]);
    assert!(matches!(
        refused,
        StoreResult::Failed(ApplyError::Refused(_))
    ));
    // That it is closed is said first, whatever mailboxes it has.
    let target = target(fresh(), "ann@x", "Nowhere", &[]);
    let Reply::Stored(nowhere) = b.apply(store_targets(vec![target], b"two")) else {
        panic!("not answered")
    };
    assert_eq!(nowhere, [refused]);
    // What was stored before is answered as before.
    let (Reply::Stored(first), Reply::Stored(again)) =
        (stored, b.apply(store(&[(mail, "ann@x", &[])], b"one")))
    else {
        panic!("not stored")
    };
    let uid = |r: &StoreResult| match r {
        StoreResult::Stored { uid, .. } => Some(*uid),
        StoreResult::Failed(_) => None,
    };
    assert_eq!(uid(&first[0]), uid(&again[0]));
    b.apply(state(fresh(), AccountState::Frozen));
    assert!(uid(&b.store("ann@x", b"two", &[])).is_some());
    // A retry does not close it again.
    b.apply(state(closed, AccountState::Closed));
    let row: AccountRow = b.get(Key::Account(id)).unwrap();
    assert_eq!(row.state, AccountState::Frozen);
    b.audit();
}

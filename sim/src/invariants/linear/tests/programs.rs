//! Passwords of programs, orders and POP3, by hand.

use super::*;
use crate::history::Octets;
use crate::plan::{LoginState, SortBy};

fn asks(called_ms: u64, call: Call, answer: Answer) -> Record {
    record(called_ms, called_ms + 5, call, answer)
}

fn refused(why: impl Into<String>) -> Answer {
    Answer::Refused(why.into())
}

fn add(called_ms: u64, request: u8, answer: Answer) -> Record {
    let call = Call::AddAppPassword {
        account: ANN.into(),
        name: "phone".into(),
        // None that a delivery has.
        request: [100 + request; 16],
    };
    asks(called_ms, call, answer)
}

fn secret(hash: &str) -> Answer {
    Answer::Done(Done::Secret(hash.into()))
}

fn told_once() -> Answer {
    let (refused_as, told) = (answer::REFUSED, answer::TOLD_ONCE);
    refused(format!("{refused_as}the password was {told}"))
}

fn remove(called_ms: u64, request: u8, answer: Answer) -> Record {
    let call = Call::RemoveAppPassword {
        account: ANN.into(),
        name: "phone".into(),
        // None that a delivery has.
        request: [100 + request; 16],
    };
    asks(called_ms, call, answer)
}

fn removed() -> Answer {
    Answer::Done(Done::Plain)
}

fn login(called_ms: u64, hash: &str, answer: Answer) -> Record {
    let call = Call::AppLogin {
        account: ANN.into(),
        secret: hash.into(),
    };
    asks(called_ms, call, answer)
}

fn entered(name: &str) -> Answer {
    Answer::Done(Done::Entered(name.into()))
}

fn apps(called_ms: u64, names: &[&str]) -> Record {
    let call = Call::ListAppPasswords {
        account: ANN.into(),
    };
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let done = Done::AppPasswords { own: false, names };
    asks(called_ms, call, Answer::Done(done))
}

fn state(called_ms: u64, state: LoginState) -> Record {
    let call = Call::SetState {
        account: ANN.into(),
        state,
        request: [called_ms as u8; 16],
    };
    asks(called_ms, call, Answer::Done(Done::Plain))
}

#[test]
fn a_program_logs_in_while_it_has_a_password() {
    let good = [
        create(0),
        login(5, "aa", refused(answer::NO_LOGIN)),
        add(10, 1, secret("aa")),
        login(20, "aa", entered("phone")),
        apps(30, &["phone"]),
        add(40, 2, refused(format!("{}: app_password", answer::EXISTS))),
        // The same request again, as long as it likes.
        add(50, 1, told_once()),
        remove(60, 3, removed()),
        remove(70, 3, removed()),
        remove(80, 4, refused(answer::NO_APP)),
        add(90, 1, told_once()),
        login(100, "aa", refused(answer::NO_LOGIN)),
        apps(110, &[]),
        add(120, 5, secret("bb")),
        login(130, "bb", entered("phone")),
        login(140, "aa", refused(answer::NO_LOGIN)),
        // Two were made, and one was removed: each has a modseq.
        deliver(150, 1, delivered(at(1, 5))),
    ];
    assert_eq!(judged(&good), [""; 0]);
    let after = |last: Record| {
        let history = [create(0), add(10, 1, secret("aa")), last];
        judged(&history).len()
    };
    assert_eq!(after(login(20, "aa", refused(answer::NO_LOGIN))), 1);
    assert_eq!(after(login(20, "aa", entered("mutt"))), 1);
    assert_eq!(after(login(20, "bb", entered("phone"))), 1);
    assert_eq!(after(apps(20, &[])), 1);
    assert_eq!(after(apps(20, &["mutt", "phone"])), 1);
    assert_eq!(after(add(20, 2, secret("bb"))), 1);
    assert_eq!(after(add(20, 1, secret("bb"))), 1);
    assert_eq!(after(remove(20, 2, refused(answer::NO_APP))), 1);
    assert_eq!(after(deliver(20, 1, delivered(at(1, 2)))), 1);
    assert_eq!(after(login(20, "aa", refused(answer::NOT_LOOKED_AT))), 0);
    let gone = [
        create(0),
        add(10, 1, secret("aa")),
        remove(20, 2, removed()),
        login(30, "aa", entered("phone")),
    ];
    assert_eq!(judged(&gone).len(), 1);
}

#[test]
fn nobody_logs_in_to_an_account_that_is_frozen() {
    let frozen = |answer| {
        let history = [
            create(0),
            add(10, 1, secret("aa")),
            state(20, LoginState::Frozen),
            login(30, "aa", answer),
            state(40, LoginState::Active),
            login(50, "aa", entered("phone")),
        ];
        judged(&history).len()
    };
    assert_eq!(frozen(refused(answer::NO_LOGIN)), 0);
    assert_eq!(frozen(entered("phone")), 1);
}

#[test]
fn what_nobody_answered_may_have_made_a_password_that_nobody_knows() {
    let good = [
        create(0),
        add(10, 1, unknown()),
        apps(20, &[]),
        apps(30, &["phone"]),
        add(40, 1, told_once()),
        remove(50, 2, unknown()),
        apps(60, &[]),
        add(70, 3, secret("aa")),
        login(80, "aa", entered("phone")),
    ];
    assert_eq!(judged(&good), [""; 0]);
    // It goes once.
    let bad = [
        create(0),
        add(10, 1, secret("aa")),
        remove(20, 2, unknown()),
        apps(30, &[]),
        login(40, "aa", entered("phone")),
    ];
    assert_eq!(judged(&bad).len(), 1);
    // It was told to nobody, and removed by nobody.
    let told = [
        create(0),
        add(10, 1, told_once()),
        apps(20, &["phone"]),
        apps(30, &[]),
    ];
    assert_eq!(judged(&told).len(), 1);
}

#[test]
fn an_account_may_go_before_a_password_is_told() {
    let add = |answer| add(10, 1, answer);
    let gone = || refused(answer::NO_ACCOUNT);
    let never = [create(0), add(gone())];
    assert_eq!(judged(&never).len(), 1);
    let mut deleted = [create(0), add(gone()), apps(20, &["phone"]), delete(30)];
    deleted[1].returned_ms = 50;
    assert_eq!(judged(&deleted), [""; 0]);
}

/// Three messages of these octets.
fn three(sizes: [(u64, u64); 3]) -> Vec<Record> {
    let mut history = vec![create(0)];
    for (uid, (body, size)) in (1..).zip(sizes) {
        let stored = delivered(at(uid, u64::from(uid) + 1));
        let mut r = deliver(10 * u64::from(uid), body, stored);
        if let Call::Deliver { octets, .. } = &mut r.call {
            *octets = Octets { body, size };
        }
        history.push(r);
    }
    history
}

fn sorted(sizes: [(u64, u64); 3], by: SortBy, reverse: bool, told: &[u32]) -> bool {
    let call = Call::Sort {
        account: ANN.into(),
        mailbox: INBOX.into(),
        flag: "\\Seen".into(),
        on: false,
        by,
        reverse,
    };
    let mut history = three(sizes);
    let done = Done::Sorted(told.to_vec());
    history.push(asks(100, call, Answer::Done(done)));
    judged(&history).is_empty()
}

#[test]
fn an_order_holds_all_that_is_found_and_goes_by_size() {
    let by_size = |reverse, told: &[u32]| {
        let sizes = [(1, 500), (2, 300), (3, 500)];
        sorted(sizes, SortBy::Size, reverse, told)
    };
    assert!(by_size(false, &[2, 1, 3]) && by_size(true, &[1, 3, 2]));
    for bad in [
        &[1, 2, 3][..],
        &[2, 3, 1],
        &[2, 1],
        &[2, 1, 3, 3],
        &[1, 3, 2],
    ] {
        assert!(!by_size(false, bad), "{bad:?}");
    }
    assert!(!by_size(true, &[3, 1, 2]) && !by_size(true, &[2, 1, 3]));
}

#[test]
fn what_has_one_date_goes_by_uid_and_of_the_rest_nothing_is_said() {
    // The third is binary.
    let by_date = |reverse, told: &[u32]| {
        let sizes = [(1, 300), (2, 300), (7, 300)];
        sorted(sizes, SortBy::Date, reverse, told)
    };
    for told in [[1, 2, 3], [1, 3, 2], [3, 1, 2]] {
        assert!(by_date(false, &told) && by_date(true, &told), "{told:?}");
    }
    assert!(!by_date(false, &[2, 1, 3]) && !by_date(true, &[2, 3, 1]));
    let by_arrival = |told: &[u32]| {
        let sizes = [(1, 300), (2, 300), (3, 300)];
        sorted(sizes, SortBy::Arrival, false, told)
    };
    assert!(by_arrival(&[3, 1, 2]) && !by_arrival(&[3, 1]) && !by_arrival(&[1, 1, 2]));
}

#[test]
fn threads_hold_every_message_once() {
    let threads = |told: &[(u32, u32)]| {
        let call = Call::Thread {
            account: ANN.into(),
            mailbox: INBOX.into(),
            flag: "\\Seen".into(),
            on: false,
        };
        let mut history = three([(1, 300), (2, 300), (3, 300)]);
        let done = Done::Threads(told.to_vec());
        history.push(asks(100, call, Answer::Done(done)));
        judged(&history).is_empty()
    };
    assert!(threads(&[(1, 0), (2, 0), (3, 0)]));
    assert!(threads(&[(3, 0), (1, 1), (2, 2)]));
    assert!(threads(&[(0, 0), (1, 1), (2, 1), (3, 0)]));
    for bad in [
        &[(1, 0), (2, 2), (3, 0)][..],
        &[(1, 1), (2, 1), (3, 1)],
        &[(1, 0), (2, 0)],
        &[(1, 0), (2, 0), (2, 0), (3, 0)],
        &[(0, 0), (1, 0), (2, 0), (3, 0)],
        &[(1, 0), (2, 0), (3, 0), (0, 0)],
        &[],
    ] {
        assert!(!threads(bad), "{bad:?}");
    }
}

/// A login by POP3 that sees these messages.
fn maildrop(called_ms: u64, returned_ms: u64, messages: &[(u32, u64)]) -> Record {
    let call = Call::Maildrop {
        account: ANN.into(),
    };
    let done = Done::Maildrop {
        uid_validity: if messages.is_empty() { 0 } else { 7 },
        count: messages.len() as u64,
        bytes: messages.iter().map(|(_, size)| size).sum(),
        messages: messages.to_vec(),
    };
    record(called_ms, returned_ms, call, Answer::Done(done))
}

#[test]
fn a_maildrop_holds_what_was_there() {
    let one = || deliver(10, 1, delivered(at(1, 2)));
    let two = || deliver(11, 2, delivered(at(2, 3)));
    let seen = |drop: Record| judged(&[create(0), one(), two(), drop]).len();
    assert_eq!(seen(maildrop(20, 30, &[(1, 300), (2, 300)])), 0);
    assert_eq!(seen(maildrop(20, 30, &[(1, 300)])), 1);
    assert_eq!(seen(maildrop(20, 30, &[])), 1);
    assert_eq!(seen(maildrop(20, 30, &[(1, 300), (2, 299)])), 1);
    assert_eq!(seen(maildrop(20, 30, &[(1, 300), (2, 300), (3, 300)])), 1);
    let mut wrong = maildrop(20, 30, &[(1, 300), (2, 300)]);
    if let Answer::Done(Done::Maildrop { count, .. }) = &mut wrong.answer {
        *count = 3;
    }
    assert_eq!(seen(wrong), 1);
    // What comes and goes meanwhile may be shown or not.
    let meanwhile = |messages: &[(u32, u64)]| {
        let history = [
            create(0),
            one(),
            two(),
            expunge(30, 1, expunged(4, &[1])),
            deliver(40, 3, delivered(at(3, 5))),
            maildrop(20, 60, messages),
        ];
        judged(&history).len()
    };
    assert_eq!(meanwhile(&[(1, 300), (2, 300)]), 0);
    assert_eq!(meanwhile(&[(2, 300)]), 0);
    assert_eq!(meanwhile(&[(2, 300), (3, 300)]), 0);
    assert_eq!(meanwhile(&[(1, 300)]), 1);
}

#[test]
fn messages_go_when_a_pop3_session_quits_and_only_then() {
    let quit = |answer| {
        let mut r = expunge(40, 1, answer);
        if let Call::Expunge { era, .. } = &mut r.call {
            *era = 7;
        }
        r
    };
    let begin = || {
        vec![
            create(0),
            deliver(10, 1, delivered(at(1, 2))),
            maildrop(20, 30, &[(1, 300)]),
        ]
    };
    let after = |quit: Option<Record>, last: Record| {
        let mut history = begin();
        history.extend(quit);
        history.push(last);
        judged(&history).len()
    };
    let (there, gone) = (|| list(60, 2, vec![seen(1, 2, 1)]), || list(60, 3, vec![]));
    let done = || Answer::Done(Done::Plain);
    assert_eq!(after(Some(quit(done())), gone()), 0);
    assert_eq!(after(Some(quit(done())), there()), 1);
    assert_eq!(after(Some(quit(unknown())), gone()), 0);
    assert_eq!(after(Some(quit(unknown())), there()), 0);
    // It broke off before.
    assert_eq!(after(None, there()), 0);
    assert_eq!(after(None, gone()), 1);
}

//! What IMAP tells, which is less than what the library tells, is judged as far as it goes.

use super::*;
use crate::history::StatusSeen;

fn judged(history: &[Record]) -> usize {
    judge(Linear::new(Expected::default(), false, false), history).len()
}

/// What happened, and then this answer to a call of a session.
fn after(call: Call, done: Done) -> usize {
    let history = [
        create(0),
        deliver(10, 1, delivered(at(1, 2))),
        deliver(20, 2, delivered(at(2, 3))),
        record(30, 35, call, Answer::Done(done)),
    ];
    judged(&history)
}

#[test]
fn copyuid_tells_where_messages_are() {
    let copy = |from: &[u32], to: &[u32]| {
        let mut copied = moved(30, 1, 0, 3);
        if let Call::Carry { uids, away, .. } = &mut copied.call {
            (*uids, *away) = (vec![1, 2], false);
        }
        let told = Done::Carried {
            modseq: 0,
            uid_validity: 7,
            from: from.to_vec(),
            to: to.to_vec(),
        };
        after(copied.call, told)
    };
    assert_eq!(copy(&[1, 2], &[3, 4]), 0);
    assert_eq!(copy(&[1, 2], &[4, 5]), 1);
    assert_eq!(copy(&[1], &[3]), 1);
}

#[test]
fn a_session_need_not_tell_what_it_does_not_know() {
    let search = |untold, uids: &[u32]| {
        let call = Call::Search {
            account: ANN.into(),
            mailbox: INBOX.into(),
            era: 7,
            untold,
            flag: "\\Seen".into(),
            on: false,
        };
        after(call, Done::Found(uids.to_vec()))
    };
    assert_eq!(search(0, &[1, 2]), 0);
    assert_eq!(search(0, &[1]), 1);
    assert_eq!(search(2, &[1]), 0);
    assert_eq!(search(2, &[1, 2]), 0);
    assert_eq!(search(2, &[2]), 1);
    assert_eq!(search(2, &[0, 1]), 1);
    assert_eq!(search(2, &[1, 3]), 1);
}

#[test]
fn counters_and_names_are_those_of_their_moment() {
    let size = Expected::default().held(octets(1), false).size;
    let status = |messages, uid_next, bytes| {
        let call = Call::Status {
            account: ANN.into(),
            mailbox: INBOX.into(),
        };
        let seen = StatusSeen {
            uid_validity: 7,
            uid_next,
            messages,
            unseen: messages,
            deleted: 0,
            bytes,
        };
        after(call, Done::Status(seen))
    };
    assert_eq!(status(2, 3, 2 * size), 0);
    assert_eq!(status(1, 3, size), 1);
    assert_eq!(status(2, 4, 2 * size), 1);
    assert_eq!(status(2, 3, 2 * size + 1), 1);
    let names = |all: &[&str]| {
        let all = all.iter().map(|name| ((*name).to_owned(), Vec::new()));
        let call = Call::Names {
            account: ANN.into(),
        };
        after(call, Done::Names(all.collect()))
    };
    assert_eq!(names(&["INBOX"]), 0);
    assert_eq!(names(&["INBOX", "old"]), 1);
    assert_eq!(names(&[]), 1);
    // LIST tells no modseq of the account, but those of its mailboxes.
    let list = |uid_next, modseq| {
        let mut listed = mailboxes(30, uid_next, modseq, 2);
        let Answer::Done(Done::Mailboxes(all)) = &mut listed.answer else {
            unreachable!()
        };
        all.modseq = 0;
        for seen in all.mailboxes.values_mut() {
            seen.bytes = 2 * size;
        }
        after(listed.call, Done::Mailboxes(all.clone()))
    };
    assert_eq!(list(3, 3), 0);
    assert_eq!(list(4, 3), 1);
    assert_eq!(list(3, 2), 1);
}

#[test]
fn what_is_replaced_is_where_the_session_saw_it() {
    let replace = |era, uid| {
        let call = Call::Replace {
            account: ANN.into(),
            mailbox: INBOX.into(),
            era,
            uid,
            octets: octets(3),
            given: Given::default(),
            request: [30; 16],
        };
        after(call, Done::Appended(at(3, 0)))
    };
    assert_eq!(replace(0, 1), 0);
    assert_eq!(replace(7, 1), 0);
    assert_eq!(replace(8, 1), 1);
    assert_eq!(replace(7, 5), 1);
}

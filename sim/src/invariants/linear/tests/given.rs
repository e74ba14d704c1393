//! Messages that are given flags, dates and mailboxes, and the sums and lists that show them.

use super::*;
use crate::history::UsageSeen;
use crate::plan::Given;

/// A delivery to INBOX with these flags and this date.
fn given(called_ms: u64, flags: &[&str], date_ms: u64) -> Record {
    let mut r = deliver(called_ms, 1, delivered(at(1, 2)));
    if let Call::Deliver { given, .. } = &mut r.call {
        *given = Given {
            flags: flags.iter().map(|flag| flag.to_string()).collect(),
            date_ms,
        };
    }
    r
}

/// INBOX has this one message.
fn shown(called_ms: u64, flags: &[&str], date_ms: u64) -> Record {
    let mut message = seen(1, 2, 1);
    message.flags = flags.iter().map(|flag| flag.to_string()).collect();
    message.date_ms = date_ms;
    list(called_ms, 2, vec![message])
}

fn usage(called_ms: u64, unseen: u64, deleted: u64) -> Record {
    let call = Call::Usage {
        account: ANN.into(),
    };
    let held = UsageSeen {
        mailboxes: 1,
        messages: 1,
        unseen,
        deleted,
        bytes: 300,
    };
    record(
        called_ms,
        called_ms + 5,
        call,
        Answer::Done(Done::Usage(held)),
    )
}

fn accounts(called_ms: u64, all: &[(&str, u64)]) -> Record {
    let all = all.iter().map(|(name, modseq)| (name.to_string(), *modseq));
    let done = Done::Accounts(all.collect());
    record(called_ms, called_ms + 5, Call::Accounts, Answer::Done(done))
}

#[test]
fn flags_and_dates_are_as_they_were_given() {
    let good = |shown: Record| judged(&[create(0), given(10, &["\\Seen"], 7000), shown]).is_empty();
    assert!(good(shown(20, &["\\Seen"], 7000)));
    assert!(!good(shown(20, &[], 7000)));
    assert!(!good(shown(20, &["\\Seen"], 8000)));
    assert!(good(usage(20, 0, 0)));
    assert!(!good(usage(20, 1, 0)));
    assert!(!good(usage(20, 0, 1)));
}

#[test]
fn a_date_that_the_clock_told_stays() {
    let twice = |second| [create(0), given(10, &[], 0), shown(20, &[], 7000), second];
    assert_eq!(judged(&twice(shown(30, &[], 7000))), [""; 0]);
    assert_eq!(judged(&twice(shown(30, &[], 7001))).len(), 1);
}

#[test]
fn a_delivery_is_where_it_was_sent() {
    let mut elsewhere = given(10, &[], 0);
    if let Call::Deliver { mailbox, .. } = &mut elsewhere.call {
        *mailbox = "Box-1".into();
    }
    // There is no such mailbox.
    assert_eq!(judged(&[create(0), elsewhere.clone()]).len(), 1);
    let refusal = Answer::Refused(answer::NO_MAILBOX.into());
    elsewhere.answer = Answer::Done(Done::Delivered(vec![Err(refusal)]));
    assert_eq!(judged(&[create(0), elsewhere]), [""; 0]);
}

#[test]
fn every_account_is_listed_once_with_its_modseq() {
    let good = |all: &[(&str, u64)]| judged(&[create(0), given(10, &[], 0), accounts(20, all)]);
    assert_eq!(good(&[(ANN, 2)]), [""; 0]);
    for wrong in [
        &[][..],
        &[(ANN, 1)],
        &[(ANN, 2), (ANN, 2)],
        &[(ANN, 2), (BOB, 1)],
    ] {
        assert_eq!(good(wrong).len(), 1, "{wrong:?}");
    }
}

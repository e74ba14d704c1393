//! Edges of copy, move, append of several messages, and threads.

use super::*;
use crate::index::values::{
    BlobRow, ChangeKind, ChangeRow, EmailRow, MailboxRow, MessageRow, ThreadRow,
};
use crate::machine::{limits, read};

const INBOX: MailboxId = MailboxId(1);
const WORK: MailboxId = MailboxId(2);

/// An account with INBOX and Work.
fn ann(b: &mut Bench) -> AccountId {
    let id = b.create("ann@x");
    let made = b.apply(Op::CreateMailbox {
        request_id: fresh(),
        account: account("ann@x"),
        mailbox: MailboxName::new("Work").unwrap(),
        special_use: 0,
    });
    assert!(
        matches!(made, Reply::Mailbox { mailbox: WORK, .. }),
        "{made:?}"
    );
    id
}

fn by_name(name: &str) -> MailboxRef {
    MailboxName::new(name).unwrap().into()
}

fn copy(from: &str, uids: &[(Uid, Uid)], to: &str) -> CopyMessages {
    CopyMessages {
        request_id: fresh(),
        account: account("ann@x"),
        from: by_name(from),
        uids: uids.to_vec(),
        to: by_name(to),
    }
}

fn row(b: &Bench, account: AccountId, mailbox: MailboxId, uid: Uid) -> Option<MessageRow> {
    read::message(&*b.index, b.space, account, mailbox, uid).unwrap()
}

fn email(b: &Bench, account: AccountId, mailbox: MailboxId, uid: Uid) -> EmailRow {
    let email = row(b, account, mailbox, uid).unwrap().email;
    b.get(Key::Email { account, email }).unwrap()
}

fn flags(b: &Bench, account: AccountId, mailbox: MailboxId, uid: Uid) -> Vec<String> {
    let names = read::keywords(&*b.index, b.space, account, mailbox).unwrap();
    read::flag_names(&row(b, account, mailbox, uid).unwrap(), &names)
}

fn mailbox(b: &Bench, account: AccountId, mailbox: MailboxId) -> MailboxRow {
    b.get(Key::Mailbox { account, mailbox }).unwrap()
}

/// Changes after a modseq, each with its first uid or 0.
fn changes(b: &Bench, account: AccountId, since: ModSeq) -> Vec<(MailboxId, ChangeKind, Uid)> {
    let change = |modseq| b.get::<ChangeRow>(Key::Change { account, modseq });
    let rows = (since + 1..).map_while(change);
    rows.map(|c| (c.mailbox, c.kind, c.uids.first().map_or(0, |r| r.0)))
        .collect()
}

fn item(octets: &[u8], flags: &[&str], upload: Option<UploadId>) -> AppendItem {
    AppendItem {
        flags: flags.iter().map(|f| f.to_string()).collect(),
        internal_date_ms: 7,
        blob: BlobMeta {
            id: BlobId::of(octets),
            size: octets.len() as u64,
            chunks: vec![chunk(octets)],
            upload,
        },
        summary: b"summary".to_vec(),
        threads: Vec::new(),
    }
}

fn append(items: Vec<AppendItem>, replace: Replaced) -> AppendMany {
    AppendMany {
        request_id: fresh(),
        account: account("ann@x"),
        mailbox: by_name("Work"),
        items,
        replace,
    }
}

/// Puts the only chunk of each under an upload of its own.
fn uploaded(b: &mut Bench, octets: &[&[u8]]) -> Vec<AppendItem> {
    let mut items = Vec::new();
    for (n, octets) in (1u8..).zip(octets) {
        let upload = UploadId([n; 16]);
        let chunk = chunk(octets);
        b.apply(Op::PutChunk {
            upload,
            seq: 0,
            chunk,
        });
        items.push(item(octets, &["\\Seen"], Some(upload)));
    }
    items
}

#[test]
fn a_copy_shares_the_email_and_maps_keywords_by_name() {
    let mut b = Bench::new();
    let id = ann(&mut b);
    b.store("ann@x", b"one", &["\\Seen", "Old", "Urgent"]);
    b.store("ann@x", b"two", &["\\Deleted"]);
    // In Work "Urgent" has another number than in INBOX.
    let first = b.apply(Op::AppendMany(Box::new(append(
        vec![item(b"three", &["urgent"], None)],
        Replaced::Nothing,
    ))));
    assert!(
        matches!(
            first,
            Reply::Appended {
                uid: 1,
                count: 1,
                ..
            }
        ),
        "{first:?}"
    );
    b.now_ms += 5000;
    let since = row(&b, id, WORK, 1).unwrap().modseq;
    let copied = copy("INBOX", &[(1, 1), (2, 9)], "Work");
    let reply = b.apply(Op::Copy(copied.clone()));
    let Reply::Copied {
        from,
        to,
        modseq,
        uidvalidity,
    } = &reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!(
        (&from[..], &to[..], *modseq),
        (&[(1, 2)][..], &[(2, 3)][..], since + 1)
    );
    assert_eq!(*uidvalidity, mailbox(&b, id, WORK).uidvalidity);
    assert_eq!(flags(&b, id, WORK, 2), ["\\Seen", "urgent", "Old"]);
    assert_eq!(flags(&b, id, WORK, 3), ["\\Deleted"]);
    assert_eq!(changes(&b, id, since), [(WORK, ChangeKind::Created, 2)]);
    let (old, new) = (
        row(&b, id, INBOX, 1).unwrap(),
        row(&b, id, WORK, 2).unwrap(),
    );
    assert_eq!(
        (old.email, old.internal_date_ms),
        (new.email, new.internal_date_ms)
    );
    assert_eq!(new.save_date_ms, old.save_date_ms + 5000);
    assert_eq!(email(&b, id, WORK, 2).refs, 2);
    let blob: BlobRow = b.get(Key::Blob(BlobId::of(b"one"))).unwrap();
    assert_eq!(blob.refs, 1, "a copy is no further email");
    assert_eq!(
        (mailbox(&b, id, WORK).messages, mailbox(&b, id, WORK).unseen),
        (3, 2)
    );
    b.audit();

    let hash = b.hash();
    assert_eq!(
        b.apply(Op::Copy(copied)),
        reply,
        "a retry gets the first answer"
    );
    assert_eq!(b.hash(), hash);
    b.apply(expunge("ann@x", &[(1, 9)], true));
    assert_eq!(email(&b, id, WORK, 2).refs, 1);
    b.audit();
}

#[test]
fn a_copy_of_nothing_or_to_nowhere_changes_nothing() {
    let mut b = Bench::new();
    let id = ann(&mut b);
    b.store("ann@x", b"one", &[]);
    let before = changes(&b, id, 0).len();
    let nothing = b.apply(Op::Copy(copy("INBOX", &[(7, 9)], "Work")));
    assert!(
        matches!(&nothing, Reply::Copied { from, to, .. } if from.is_empty() && to.is_empty()),
        "{nothing:?}"
    );
    let nothing = b.apply(Op::Move(copy("Work", &[(1, Uid::MAX)], "INBOX")));
    assert!(matches!(&nothing, Reply::Copied { from, .. } if from.is_empty()));
    for (from, to) in [("INBOX", "Nowhere"), ("Nowhere", "INBOX")] {
        let refused = Reply::Error(ApplyError::NoMailbox);
        assert_eq!(b.apply(Op::Copy(copy(from, &[(1, 1)], to))), refused);
        assert_eq!(b.apply(Op::Move(copy(from, &[(1, 1)], to))), refused);
    }
    assert_eq!(changes(&b, id, 0).len(), before);
    b.audit();
}

#[test]
fn a_move_comes_before_it_goes_and_takes_the_email_along() {
    let mut b = Bench::new();
    let id = ann(&mut b);
    for octets in [b"one", b"two", b"six"] {
        b.store("ann@x", octets, &["k"]);
    }
    let since = row(&b, id, INBOX, 3).unwrap().modseq;
    let moved = copy("INBOX", &[(1, 1), (3, 3)], "Work");
    let reply = b.apply(Op::Move(moved.clone()));
    let Reply::Copied {
        from, to, modseq, ..
    } = &reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!((&from[..], &to[..]), (&[(1, 1), (3, 3)][..], &[(1, 2)][..]));
    assert_eq!(*modseq, since + 2);
    assert_eq!(
        changes(&b, id, since),
        [
            (WORK, ChangeKind::Created, 1),
            (INBOX, ChangeKind::Vanished, 1)
        ]
    );
    assert_eq!(email(&b, id, WORK, 2).refs, 1);
    assert_eq!(flags(&b, id, WORK, 2), ["k"]);
    assert_eq!(row(&b, id, INBOX, 3), None);
    b.audit();
    assert_eq!(
        b.apply(Op::Move(moved)),
        reply,
        "a retry gets the first answer"
    );

    // Inside one mailbox a message gets a new uid, a copy is one more.
    let reply = b.apply(Op::Move(copy("Work", &[(1, Uid::MAX)], "Work")));
    assert!(
        matches!(&reply, Reply::Copied { to, .. } if *to == [(3, 4)]),
        "{reply:?}"
    );
    let reply = b.apply(Op::Copy(copy("Work", &[(4, 4)], "Work")));
    assert!(
        matches!(&reply, Reply::Copied { to, .. } if *to == [(5, 5)]),
        "{reply:?}"
    );
    let work = mailbox(&b, id, WORK);
    assert_eq!((work.messages, work.uidnext), (3, 6));
    assert_eq!(row(&b, id, WORK, 1), None);
    assert_eq!(email(&b, id, WORK, 5).refs, 2);
    b.audit();
}

#[test]
fn a_closed_account_takes_no_message_by_append_but_answers_what_it_took_before() {
    let mut b = Bench::new();
    ann(&mut b);
    let before = append(vec![item(b"one", &[], None)], Replaced::Nothing);
    let stored = b.apply(Op::AppendMany(Box::new(before.clone())));
    assert!(matches!(stored, Reply::Appended { .. }), "{stored:?}");
    b.apply(Op::SetAccountState {
        request_id: fresh(),
        account: account("ann@x"),
        state: AccountState::Closed,
    });
    let late = append(vec![item(b"two", &[], None)], Replaced::Nothing);
    let refused = b.apply(Op::AppendMany(Box::new(late)));
    assert!(
        matches!(refused, Reply::Error(ApplyError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(b.apply(Op::AppendMany(Box::new(before))), stored);
    b.audit();
}

/// Whose answer got lost asks again; by then the name may be another mailbox's, or nobody's.
#[test]
fn a_retry_gets_its_first_answer_whatever_its_mailbox_is_called_by_then() {
    let mut b = Bench::new();
    let ann = ann(&mut b);
    let in_a = |b: &mut Bench, octets| {
        let target = target(fresh(), "ann@x", "A", &[]);
        let op = store_targets(vec![target], octets);
        (b.apply(op.clone()), op)
    };
    b.apply(Op::CreateMailbox {
        request_id: fresh(),
        account: account("ann@x"),
        mailbox: MailboxName::new("A").unwrap(),
        special_use: 0,
    });
    let (stored, store) = in_a(&mut b, b"one");
    in_a(&mut b, b"two");
    let flags = Op::SetFlags {
        request_id: fresh(),
        account: account("ann@x"),
        mailbox: by_name("A"),
        uids: vec![(1, 9)],
        mode: FlagMode::Add,
        flags: vec!["\\Seen".into()],
        unchanged_since: None,
    };
    let expunge = Op::Expunge {
        request_id: fresh(),
        account: account("ann@x"),
        mailbox: by_name("A"),
        uids: vec![(1, 1)],
        force: true,
    };
    let (seen, gone) = (b.apply(flags.clone()), b.apply(expunge.clone()));
    let again = |b: &mut Bench| {
        assert_eq!(b.apply(flags.clone()), seen);
        assert_eq!(b.apply(expunge.clone()), gone);
        let (Reply::Stored(first), Reply::Stored(repeated)) = (&stored, b.apply(store.clone()))
        else {
            panic!("{stored:?}")
        };
        let (
            StoreResult::Stored { mailbox, uid, .. },
            StoreResult::Stored {
                mailbox: same,
                uid: same_uid,
                duplicate: true,
                ..
            },
        ) = (&first[0], &repeated[0])
        else {
            panic!("{repeated:?}")
        };
        assert_eq!((mailbox, uid), (same, same_uid));
    };
    b.apply(Op::RenameMailbox {
        request_id: fresh(),
        account: account("ann@x"),
        mailbox: by_name("A"),
        to: MailboxName::new("B").unwrap(),
    });
    again(&mut b);
    b.apply(Op::CreateMailbox {
        request_id: fresh(),
        account: account("ann@x"),
        mailbox: MailboxName::new("A").unwrap(),
        special_use: 0,
    });
    in_a(&mut b, b"three");
    let before = b.hash();
    again(&mut b);
    assert_eq!(b.hash(), before, "{ann:?}");
    b.audit();
}

#[test]
fn several_messages_come_with_one_modseq_or_not_at_all() {
    let mut b = Bench::new();
    let id = ann(&mut b);
    let items = uploaded(&mut b, &[b"one", b"two", b"one"]);
    let mut incomplete = items.clone();
    incomplete[1].blob.upload = Some(UploadId([9; 16]));
    let many = append(items, Replaced::Nothing);
    let before = changes(&b, id, 0).len() as u64;
    let reply = b.apply(Op::AppendMany(Box::new(many.clone())));
    let Reply::Appended {
        uid,
        count,
        email: first,
        modseq,
        mailbox: to,
        ..
    } = reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!((uid, count, modseq, to), (1, 3, before + 1, WORK));
    for n in 0..3 {
        let message = row(&b, id, WORK, 1 + n).unwrap();
        assert_eq!(
            (message.email.0, message.modseq),
            (first.0 + u64::from(n), modseq)
        );
    }
    assert_eq!(changes(&b, id, before).len(), 1);
    let blob: BlobRow = b.get(Key::Blob(BlobId::of(b"one"))).unwrap();
    assert_eq!(blob.refs, 2);
    assert_eq!(
        (b.count(0x11), b.count(0x61)),
        (0, 0),
        "the uploads are over"
    );
    b.audit();

    // The retry needs no octets, and whatever it brought is dropped.
    uploaded(&mut b, &[b"one"]);
    assert_eq!(b.apply(Op::AppendMany(Box::new(many))), reply);
    assert_eq!(b.count(0x11), 0);

    uploaded(&mut b, &[b"one", b"two", b"one"]);
    let refused = Reply::Error(ApplyError::NoUpload);
    let op = Op::AppendMany(Box::new(append(incomplete, Replaced::Nothing)));
    assert_eq!(b.apply(op), refused);
    // Octets that should have come before cannot travel with several messages, and one upload is
    // one message.
    let two = vec![item(b"x", &[], None), item(b"y", &[], None)];
    assert_eq!(
        b.apply(Op::AppendMany(Box::new(append(two, Replaced::Nothing)))),
        refused
    );
    let mut twice = uploaded(&mut b, &[b"x"]);
    twice.push(twice[0].clone());
    assert_eq!(
        b.apply(Op::AppendMany(Box::new(append(twice, Replaced::Nothing)))),
        refused
    );
    for items in [
        vec![],
        vec![item(b"", &[], None); limits::ITEMS_PER_APPEND + 1],
    ] {
        let reply = b.apply(Op::AppendMany(Box::new(append(items, Replaced::Nothing))));
        assert!(
            matches!(reply, Reply::Error(ApplyError::Limit(_))),
            "{reply:?}"
        );
    }
    assert_eq!(mailbox(&b, id, WORK).messages, 3);
    b.audit();
}

#[test]
fn too_many_keywords_over_all_messages_refuse_them_all() {
    let mut b = Bench::new();
    let id = ann(&mut b);
    let names =
        |from: usize| -> Vec<String> { (from..from + 1000).map(|n| format!("k{n}")).collect() };
    let room = limits::KEYWORDS_PER_MAILBOX as usize / 1000;
    let mut items = uploaded(&mut b, &vec![&b"x"[..]; room + 1]);
    for (n, item) in items.iter_mut().enumerate() {
        item.flags = names(n * 1000);
    }
    let reply = b.apply(Op::AppendMany(Box::new(append(
        items.clone(),
        Replaced::Nothing,
    ))));
    assert!(
        matches!(reply, Reply::Error(ApplyError::Limit(_))),
        "{reply:?}"
    );
    assert_eq!(mailbox(&b, id, WORK).next_keyword, 0);
    assert_eq!(b.count(0x09), 0);
    uploaded(&mut b, &vec![&b"x"[..]; room]);
    items.pop();
    let reply = b.apply(Op::AppendMany(Box::new(append(items, Replaced::Nothing))));
    assert!(matches!(reply, Reply::Appended { .. }), "{reply:?}");
    b.audit();
    // A copy to where there is no number left is refused whole.
    b.store("ann@x", b"plain", &[]);
    b.store("ann@x", b"marked", &["another"]);
    let reply = b.apply(Op::Copy(copy("INBOX", &[(1, 2)], "Work")));
    assert!(
        matches!(reply, Reply::Error(ApplyError::Limit(_))),
        "{reply:?}"
    );
    assert_eq!(mailbox(&b, id, WORK).messages as usize, room);
    b.audit();
}

#[test]
fn what_is_replaced_is_encoded_as_before_there_was_a_condition() {
    let pairs = [
        (Replaced::Nothing, None),
        (Replaced::At(WORK, 300), Some((WORK, 300 as Uid))),
    ];
    for (now, before) in pairs {
        let (now, before) = (postcard::to_allocvec(&now), postcard::to_allocvec(&before));
        assert_eq!(now.unwrap(), before.unwrap());
    }
}

#[test]
fn a_message_takes_the_place_of_another_or_is_not_stored() {
    let mut b = Bench::new();
    let id = ann(&mut b);
    b.store("ann@x", b"draft", &["\\Draft"]);
    let since = row(&b, id, INBOX, 1).unwrap().modseq;
    let replace = append(
        vec![item(b"better", &["\\Draft"], None)],
        Replaced::At(INBOX, 1),
    );
    let reply = b.apply(Op::AppendMany(Box::new(replace.clone())));
    assert!(matches!(reply, Reply::Appended { uid: 1, modseq, .. } if modseq == since + 2));
    assert_eq!(
        changes(&b, id, since),
        [
            (WORK, ChangeKind::Created, 1),
            (INBOX, ChangeKind::Vanished, 1)
        ]
    );
    assert_eq!(b.get::<BlobRow>(Key::Blob(BlobId::of(b"draft"))), None);
    assert_eq!(mailbox(&b, id, INBOX).messages, 0);
    b.audit();
    assert_eq!(b.apply(Op::AppendMany(Box::new(replace))), reply, "a retry");

    // In the same mailbox; then it is gone, and a mailbox that is not there has none.
    let same = || {
        append(
            vec![item(b"best", &[], None)],
            Replaced::At(MailboxId(0), 1),
        )
    };
    let reply = b.apply(Op::AppendMany(Box::new(same())));
    assert!(matches!(reply, Reply::Appended { uid: 2, .. }), "{reply:?}");
    let hash = b.hash();
    let nowhere = append(
        vec![item(b"best", &[], None)],
        Replaced::At(MailboxId(77), 1),
    );
    for gone in [same(), nowhere] {
        let reply = b.apply(Op::AppendMany(Box::new(gone)));
        assert_eq!(reply, Reply::Error(ApplyError::NoMessage));
    }
    // The mailbox is meant by its number in an account that is not there any more.
    let own = mailbox(&b, id, WORK).uidvalidity;
    let of = |uidvalidity| {
        append(
            vec![item(b"good", &[], None)],
            Replaced::If(WORK, uidvalidity, 2),
        )
    };
    let reply = b.apply(Op::AppendMany(Box::new(of(own + 1))));
    assert_eq!(reply, Reply::Error(ApplyError::NoMessage));
    assert_eq!(b.hash(), hash, "nothing is stored");
    let reply = b.apply(Op::AppendMany(Box::new(of(own))));
    assert!(matches!(reply, Reply::Appended { uid: 3, .. }), "{reply:?}");
    let two = uploaded(&mut b, &[b"x", b"y"]);
    let reply = b.apply(Op::AppendMany(Box::new(append(two, Replaced::At(WORK, 2)))));
    assert!(
        matches!(reply, Reply::Error(ApplyError::Refused(_))),
        "{reply:?}"
    );
    assert_eq!(mailbox(&b, id, WORK).messages, 1);
    b.audit();
}

/// Stores a message with these thread keys.
fn with_keys(b: &mut Bench, keys: &[u64]) -> Reply {
    let mut op = store(&[(fresh(), "ann@x", &[])], b"x");
    if let Op::Store(store) = &mut op {
        store.threads = keys.iter().map(|key| ThreadKey(*key)).collect();
    }
    b.apply(op)
}

#[test]
fn an_email_joins_the_lowest_thread_and_stays_there() {
    let mut b = Bench::new();
    let id = ann(&mut b);
    // A first message, an answer to one that is missing, the missing one, an answer to all, one
    // alone.
    for keys in [&[1][..], &[2, 3], &[1, 2], &[1, 2, 3, 4], &[]] {
        let reply = with_keys(&mut b, keys);
        assert!(matches!(reply, Reply::Stored(_)), "{reply:?}");
    }
    let threads: Vec<u64> = (1..=5)
        .map(|uid| email(&b, id, INBOX, uid).thread.0)
        .collect();
    assert_eq!(threads, [1, 2, 1, 1, 5]);
    let refs = |key| {
        let key = ThreadKey(key);
        b.get::<ThreadRow>(Key::Thread { account: id, key })
            .map(|row| row.refs)
    };
    assert_eq!([1, 2, 3, 4].map(refs), [Some(3), Some(3), Some(2), Some(1)]);
    b.audit();
    // A copy keeps a thread alive, and the last message takes it along.
    b.apply(Op::Copy(copy("INBOX", &[(4, 4)], "Work")));
    b.apply(expunge("ann@x", &[(1, 5)], true));
    assert_eq!(b.count(0x0f), 4);
    b.audit();
    with_keys(&mut b, &[4]);
    assert_eq!(
        email(&b, id, INBOX, 6).thread.0,
        1,
        "though its first email is gone"
    );
    b.apply(Op::Move(copy("Work", &[(1, 1)], "INBOX")));
    b.apply(expunge("ann@x", &[(1, 9)], true));
    assert_eq!(b.count(0x0f), 0);
    with_keys(&mut b, &[4]);
    assert_eq!(email(&b, id, INBOX, 8).thread.0, 7, "a thread begins anew");
    b.audit();
    // Keys out of order or too many are no keys.
    let many: Vec<u64> = (0..=limits::THREAD_KEYS as u64).collect();
    for keys in [&[2, 1][..], &[1, 1], &many] {
        let reply = with_keys(&mut b, keys);
        assert!(matches!(reply, Reply::Error(_)), "{reply:?}");
    }
    // An account that goes leaves none.
    b.apply(Op::DeleteAccount {
        request_id: fresh(),
        name: account("ann@x"),
    });
    while let Some(account) = read::reapable(&*b.index, b.space).unwrap() {
        b.apply(Op::ReapAccount { account, limit: 1 });
    }
    assert_eq!(b.count(0x0f), 0);
    b.audit();
}

//! One case an edge.

use super::*;
use crate::index::values::{AccountRow, BlobRow, ChangeKind, ChangeRow, MailboxRow, MessageRow};
use crate::index::{Change, IndexError};
use crate::machine::{limits, read, rows};

const INBOX: MailboxId = MailboxId(1);

fn message(bench: &Bench, account: AccountId, uid: Uid) -> Option<MessageRow> {
    read::message(&*bench.index, bench.space, account, INBOX, uid).unwrap()
}

fn flags_of(bench: &Bench, account: AccountId, uid: Uid) -> Vec<String> {
    let keywords = read::keywords(&*bench.index, bench.space, account, INBOX).unwrap();
    read::flag_names(&message(bench, account, uid).unwrap(), &keywords)
}

#[test]
fn an_account_comes_with_an_inbox_and_a_retry_changes_nothing() {
    let mut b = Bench::new();
    let id = fresh();
    let first = b.apply(create_account(id, "Ann@example.org"));
    let hash = b.hash();
    assert_eq!(b.apply(create_account(id, "ann@example.org")), first);
    assert_eq!(b.hash(), hash);
    assert_eq!(
        b.apply(create_account(fresh(), "ann@example.org")),
        Reply::Error(ApplyError::Exists)
    );
    assert_ne!(
        b.apply(create_account(id, "bob@example.org")),
        first,
        "one request_id may create several accounts"
    );
    let (ann, row) = read::account(&*b.index, b.space, &account("ann@example.org"))
        .unwrap()
        .unwrap();
    assert_eq!((row.highest_modseq, row.mailboxes), (1, 1));
    assert_eq!(ann.slot(), Slot::of(&account("ann@example.org")));
    let boxes = read::mailboxes(&*b.index, b.space, ann).unwrap();
    assert_eq!(boxes[0].1.name, MailboxName::inbox());
    b.audit();
}

#[test]
fn a_store_answers_each_target_for_itself() {
    let mut b = Bench::new();
    let ann = b.create("ann@x");
    b.create("bob@x");
    let (r1, r2, r3) = (fresh(), fresh(), fresh());
    let op = store_targets(
        vec![
            target(r1, "ann@x", "INBOX", &["\\seen", "Work"]),
            target(r2, "nobody@x", "INBOX", &[]),
            target(r3, "bob@x", "Nowhere", &[]),
            target(r3, "bob@x", "INBOX", &[]),
        ],
        b"octets",
    );
    let Reply::Stored(results) = b.apply(op.clone()) else {
        panic!("not stored")
    };
    assert!(matches!(
        results[0],
        StoreResult::Stored {
            uid: 1,
            duplicate: false,
            ..
        }
    ));
    assert_eq!(results[1], StoreResult::Failed(ApplyError::NoAccount));
    assert_eq!(results[2], StoreResult::Failed(ApplyError::NoMailbox));
    assert!(matches!(results[3], StoreResult::Stored { uid: 1, .. }));
    let blob: BlobRow = b.get(Key::Blob(BlobId::of(b"octets"))).unwrap();
    assert_eq!(blob.refs, 2);
    assert_eq!(flags_of(&b, ann, 1), ["\\Seen", "Work"]);
    b.audit();

    // The account comes into being; the retry stores what failed and nothing twice.
    b.create("nobody@x");
    let Reply::Stored(again) = b.apply(op) else {
        panic!("not stored")
    };
    assert!(matches!(
        again[0],
        StoreResult::Stored {
            uid: 1,
            duplicate: true,
            ..
        }
    ));
    assert!(matches!(
        again[1],
        StoreResult::Stored {
            uid: 1,
            duplicate: false,
            ..
        }
    ));
    assert!(matches!(
        again[3],
        StoreResult::Stored {
            uid: 1,
            duplicate: true,
            ..
        }
    ));
    assert_eq!(b.count(0x60), 1, "one location for one blob");
    b.audit();
}

#[test]
fn an_arrival_in_chunks_becomes_a_blob() {
    let mut b = Bench::new();
    b.create("ann@x");
    let upload = UploadId([9; 16]);
    let parts: [&[u8]; 3] = [b"one", b"two", b"three"];
    let whole = parts.concat();
    let blob = BlobMeta {
        id: BlobId::of(&whole),
        size: whole.len() as u64,
        chunks: parts.iter().map(|p| chunk(p)).collect(),
        upload: Some(upload),
    };
    let request = fresh();
    let op = |name: &str| {
        Op::Store(Box::new(Store {
            threads: Vec::new(),
            targets: vec![target(request, name, "INBOX", &[])],
            internal_date_ms: 5,
            blob: blob.clone(),
            summary: vec![],
        }))
    };
    // Out of order, and one of them twice.
    for seq in [2, 0, 2, 1] {
        let chunk = chunk(parts[seq as usize]);
        let reply = b.apply(Op::PutChunk { upload, seq, chunk });
        assert_eq!(reply, Reply::Done);
    }
    b.audit();
    let Reply::Stored(results) = b.apply(op("ann@x")) else {
        panic!("not stored")
    };
    assert!(matches!(
        results[0],
        StoreResult::Stored {
            duplicate: false,
            ..
        }
    ));
    assert_eq!((b.count(0x60), b.count(0x61), b.count(0x11)), (3, 0, 0));
    b.audit();
    // The arrival is gone, but the retry needs none.
    let Reply::Stored(again) = b.apply(op("ann@x")) else {
        panic!("not stored")
    };
    assert!(matches!(
        again[0],
        StoreResult::Stored {
            duplicate: true,
            ..
        }
    ));
    b.create("bob@x");
    let reply = b.apply(op("bob@x"));
    assert_eq!(
        reply,
        Reply::Stored(vec![StoreResult::Failed(ApplyError::NoUpload)])
    );
    b.audit();
}

#[test]
fn an_arrival_for_nobody_is_dropped_and_old_ones_too() {
    let mut b = Bench::new();
    let put = |upload: u8| Op::PutChunk {
        upload: UploadId([upload; 16]),
        seq: 0,
        chunk: chunk(b"x"),
    };
    b.apply(put(1));
    let mut op = store(&[(fresh(), "nobody@x", &[])], b"x");
    if let Op::Store(store) = &mut op {
        store.blob.upload = Some(UploadId([1; 16]));
    }
    b.apply(op);
    assert_eq!((b.count(0x11), b.count(0x12), b.count(0x61)), (0, 0, 0));
    for n in 10..30 {
        b.now_ms += 1;
        b.apply(put(n));
    }
    b.audit();
    let before_ms = b.now_ms;
    let drop = || Op::DropUploadsBefore { before_ms };
    assert_eq!(b.apply(drop()), Reply::Reaped { more: true });
    assert_eq!(b.apply(drop()), Reply::Reaped { more: false });
    assert_eq!(b.count(0x11), 1, "the one of this moment stays");
    let upload = UploadId([29; 16]);
    b.apply(Op::DropUpload { upload });
    assert_eq!((b.count(0x11), b.count(0x12), b.count(0x61)), (0, 0, 0));
    b.audit();
}

#[test]
fn flags_change_what_they_must_and_nothing_else() {
    let mut b = Bench::new();
    let ann = b.create("ann@x");
    for n in 0..4u8 {
        b.store("ann@x", &[n], &[]);
    }
    let reply = b.apply(set_flags(
        "ann@x",
        &[(2, 3), (9, 9)],
        FlagMode::Add,
        &["\\SEEN", "Work"],
    ));
    let Reply::Flags {
        modseq,
        changed,
        modified,
    } = reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!((changed, modified), (vec![(2, 3)], vec![]));
    assert_eq!(flags_of(&b, ann, 2), ["\\Seen", "Work"]);
    // The same again changes nothing: no modseq.
    let reply = b.apply(set_flags(
        "ann@x",
        &[(2, 3)],
        FlagMode::Add,
        &["\\Seen", "wORK"],
    ));
    assert_eq!(
        reply,
        Reply::Flags {
            modseq,
            changed: vec![],
            modified: vec![]
        }
    );
    let reply = b.apply(set_flags(
        "ann@x",
        &[(1, u32::MAX)],
        FlagMode::Replace,
        &["\\Deleted"],
    ));
    assert!(matches!(&reply, Reply::Flags { changed, .. } if *changed == [(1, 4)]));
    let row: MailboxRow = b
        .get(Key::Mailbox {
            account: ann,
            mailbox: INBOX,
        })
        .unwrap();
    assert_eq!((row.unseen, row.deleted), (4, 4));
    // An unknown keyword is not made in order to be taken away.
    b.apply(set_flags(
        "ann@x",
        &[(1, 4)],
        FlagMode::Remove,
        &["\\Deleted", "Other"],
    ));
    assert_eq!(b.count(0x09), 1);
    b.audit();

    let old = message(&b, ann, 1).unwrap().modseq;
    b.apply(set_flags("ann@x", &[(3, 3)], FlagMode::Add, &["\\Draft"]));
    let mut op = set_flags("ann@x", &[(1, 4)], FlagMode::Add, &["\\Flagged"]);
    if let Op::SetFlags {
        unchanged_since, ..
    } = &mut op
    {
        *unchanged_since = Some(old);
    }
    let reply = b.apply(op.clone());
    let Reply::Flags {
        changed, modified, ..
    } = &reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!(*changed, [(1, 2), (4, 4)]);
    assert_eq!(*modified, [(3, 3)]);
    let hash = b.hash();
    assert_eq!(b.apply(op), reply, "a retry gets the first answer");
    assert_eq!(b.hash(), hash);
    b.audit();
}

#[test]
fn refused_flags_leave_no_trace() {
    let mut b = Bench::new();
    let ann = b.create("ann@x");
    b.store("ann@x", b"1", &["a"]);
    let many: Vec<String> = (0..=limits::KEYWORDS_PER_MESSAGE)
        .map(|n| format!("k{n}"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let hash = b.hash();
    let reply = b.apply(set_flags("ann@x", &[(1, 1)], FlagMode::Replace, &many));
    assert!(matches!(reply, Reply::Error(ApplyError::Limit(_))));
    let refused = b.store("ann@x", b"2", &many);
    assert!(matches!(refused, StoreResult::Failed(ApplyError::Limit(_))));
    assert_eq!(b.hash(), hash);
    let reply = b.apply(set_flags("ann@x", &[(1, 1)], FlagMode::Replace, &many[1..]));
    assert!(matches!(reply, Reply::Flags { .. }));
    assert_eq!(flags_of(&b, ann, 1).len(), limits::KEYWORDS_PER_MESSAGE);
    b.audit();
}

#[test]
fn expunge_takes_what_is_deleted_and_says_so() {
    let mut b = Bench::new();
    let ann = b.create("ann@x");
    for n in 0..5u8 {
        b.store("ann@x", &[n / 2], &[]);
    }
    b.apply(set_flags(
        "ann@x",
        &[(1, 2), (4, 4)],
        FlagMode::Add,
        &["\\Deleted"],
    ));
    let reply = b.apply(expunge("ann@x", &[(1, u32::MAX)], false));
    let Reply::Expunged { modseq, vanished } = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(vanished, [(1, 2), (4, 4)]);
    let change: ChangeRow = b
        .get(Key::Change {
            account: ann,
            modseq,
        })
        .unwrap();
    assert_eq!((change.kind, change.uids), (ChangeKind::Vanished, vanished));
    b.audit();
    let rest = read::uids(&*b.index, b.space, ann, INBOX, 1, u32::MAX).unwrap();
    assert_eq!(rest.iter().collect::<Vec<_>>(), [3, 5]);
    // Nothing is deleted: nothing happens. By force everything goes, and uids go on rising.
    let reply = b.apply(expunge("ann@x", &[(1, u32::MAX)], false));
    assert_eq!(
        reply,
        Reply::Expunged {
            modseq,
            vanished: vec![]
        }
    );
    b.apply(expunge("ann@x", &[(1, u32::MAX)], true));
    assert_eq!((b.count(0x10), b.count(0x60), b.count(0x40)), (0, 0, 0));
    assert!(matches!(
        b.store("ann@x", b"new", &[]),
        StoreResult::Stored { uid: 6, .. }
    ));
    b.audit();
}

#[test]
fn a_command_touches_a_bounded_number_of_messages() {
    let mut b = Bench::new();
    b.create("ann@x");
    let commands: Vec<Command> = (0..=limits::MESSAGES_PER_COMMAND)
        .map(|_| Command {
            time_ms: b.now_ms,
            op: store(&[(fresh(), "ann@x", &[])], b"same"),
        })
        .collect();
    b.batch(&commands);
    let hash = b.hash();
    for op in [
        set_flags("ann@x", &[(1, u32::MAX)], FlagMode::Add, &["x"]),
        expunge("ann@x", &[(1, u32::MAX)], true),
    ] {
        let reply = b.apply(op);
        assert!(
            matches!(&reply, Reply::Error(ApplyError::Limit(what)) if what.contains("10000")),
            "{reply:?}"
        );
    }
    assert_eq!(b.hash(), hash);
    let reply = b.apply(expunge("ann@x", &[(2, u32::MAX)], true));
    assert!(matches!(reply, Reply::Expunged { .. }));
    b.audit();
}

#[test]
fn a_deleted_account_frees_its_name_at_once_and_its_rows_in_steps() {
    let mut b = Bench::new();
    let old = b.create("ann@x");
    for n in 0..25u8 {
        b.store("ann@x", &[n], &["k"]);
    }
    b.create("bob@x");
    b.store("bob@x", &[3], &[]);
    let era = |b: &Bench, id| {
        let key = Key::Mailbox {
            account: id,
            mailbox: INBOX,
        };
        b.get::<MailboxRow>(key).unwrap().uidvalidity
    };
    let old_era = era(&b, old);
    let request_id = fresh();
    let op = Op::DeleteAccount {
        request_id,
        name: account("ann@x"),
    };
    let first = b.apply(op.clone());
    assert!(matches!(first, Reply::Account { account, .. } if account == old));
    assert!(b.events.contains(&Event::AccountGoing { account: old }));
    assert!(matches!(
        b.store("ann@x", b"late", &[]),
        StoreResult::Failed(ApplyError::NoAccount)
    ));
    let new = b.create("ann@x");
    assert_ne!(new, old);
    assert!(era(&b, new) > old_era, "uidvalidity rises under one name");
    assert_eq!(
        b.apply(op),
        first,
        "a late retry does not delete the new one"
    );
    b.store("ann@x", b"new", &[]);
    b.audit();
    assert_eq!(read::reapable(&*b.index, b.space).unwrap(), Some(old));
    let mut steps = 0;
    while let Reply::Reaped { more: true } = b.apply(Op::ReapAccount {
        account: old,
        limit: 4,
    }) {
        steps += 1;
        assert!(steps < 100);
    }
    assert!(steps > 5);
    assert_eq!(read::reapable(&*b.index, b.space).unwrap(), None);
    assert_eq!(b.get::<AccountRow>(Key::Account(old)), None);
    assert_eq!(b.count(0x10), 2, "blobs of bob and of the new ann");
    b.audit();
    let reply = b.apply(Op::ReapAccount {
        account: new,
        limit: 4,
    });
    assert_eq!(reply, Reply::Reaped { more: false }, "only what is going");
    assert!(matches!(
        b.store("ann@x", b"more", &[]),
        StoreResult::Stored { uid: 2, .. }
    ));
    b.audit();
}

#[test]
fn requests_and_changes_are_forgotten_after_their_windows() {
    let mut b = Bench::new();
    let ann = b.create("ann@x");
    let request = fresh();
    let op = store(&[(request, "ann@x", &[])], b"1");
    b.apply(op.clone());
    b.now_ms += limits::REQUEST_WINDOW_MS;
    assert!(matches!(&b.apply(op.clone()), Reply::Stored(r)
        if matches!(r[0], StoreResult::Stored { duplicate: true, .. })));
    b.now_ms += 1;
    b.store("ann@x", b"2", &[]);
    assert!(matches!(&b.apply(op), Reply::Stored(r)
        if matches!(r[0], StoreResult::Stored { duplicate: false, .. })));
    b.audit();
    // A clock that goes back does not bring anything back.
    b.now_ms -= 1_000_000;
    b.store("ann@x", b"3", &[]);
    let row: AccountRow = b.get(Key::Account(ann)).unwrap();
    assert_eq!((row.highest_modseq, row.trimmed_modseq), (5, 0));
    b.now_ms += limits::CHANGE_WINDOW_MS + 2_000_000;
    for _ in 0..3 {
        b.store("ann@x", b"4", &[]);
        b.audit();
    }
    let row: AccountRow = b.get(Key::Account(ann)).unwrap();
    assert_eq!((row.highest_modseq, row.trimmed_modseq), (8, 5));
    assert_eq!(b.count(0x13), 3, "requests of the last minutes only");
}

#[test]
fn missing_octets_are_found_and_filled_by_the_next_arrival() {
    let mut b = Bench::new();
    b.create("ann@x");
    b.store("ann@x", b"1", &[]);
    b.store("ann@x", b"2", &[]);
    let blob = BlobId::of(b"2");
    let chunk = local::Chunk::Blob(blob, 0);
    let loc = local::loc(&*b.index, b.space, chunk).unwrap().unwrap();
    let (at, elsewhere) = (
        loc.location,
        Location {
            segment: 99,
            ..loc.location
        },
    );
    let none = local::relocate(&*b.index, b.space, chunk, elsewhere, at).unwrap();
    assert_eq!(none, None, "it does not lie there");
    let moved = local::relocate(&*b.index, b.space, chunk, at, elsewhere).unwrap();
    b.index.write(moved.unwrap()).unwrap();
    b.audit();
    assert_eq!(local::forget(&*b.index, b.space, chunk, at).unwrap(), None);
    let lost = local::forget(&*b.index, b.space, chunk, elsewhere).unwrap();
    b.index.write(lost.unwrap()).unwrap();
    b.audit();
    let missing = |b: &Bench| {
        let (mut all, mut after) = (vec![], None);
        loop {
            let page = read::missing_chunks(&*b.index, b.space, after, 1).unwrap();
            all.extend(page.0.iter().map(|m| m.blob));
            after = page.1;
            if after.is_none() {
                return all;
            }
        }
    };
    assert_eq!(missing(&b), [blob]);
    b.store("ann@x", b"2", &[]);
    assert_eq!(missing(&b), []);
    b.audit();
    for _ in 0..2 {
        let placed = local::place(&*b.index, b.space, blob, 0, &loc).unwrap();
        b.index.write(placed.unwrap()).unwrap();
        b.audit();
    }
    b.apply(expunge("ann@x", &[(1, u32::MAX)], true));
    let gone = local::place(&*b.index, b.space, blob, 0, &loc).unwrap();
    assert_eq!(gone, None, "the blob is gone meanwhile");
    b.audit();
}

#[test]
fn chunks_of_arrivals_without_octets_are_found() {
    let mut b = Bench::new();
    for upload in [1, 2] {
        for seq in 0..2 {
            b.apply(Op::PutChunk {
                upload: UploadId([upload; 16]),
                seq,
                chunk: chunk(b"x"),
            });
        }
    }
    let lost = local::Chunk::Upload(UploadId([2; 16]), 0);
    let loc = local::loc(&*b.index, b.space, lost).unwrap().unwrap();
    let forgotten = local::forget(&*b.index, b.space, lost, loc.location).unwrap();
    b.index.write(forgotten.unwrap()).unwrap();
    let (mut found, mut after) = (vec![], None);
    loop {
        let (page, next) = read::missing_arrivals(&*b.index, b.space, after, 1).unwrap();
        found.extend(page.iter().map(|(chunk, _)| *chunk));
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, [lost]);
    b.audit();
}

#[test]
fn pages_go_on_where_they_ended() {
    let mut b = Bench::new();
    let ann = b.create("ann@x");
    for n in 0..10u8 {
        b.store("ann@x", &[n], &[]);
        b.create(&format!("u{n}@x"));
    }
    b.apply(expunge("ann@x", &[(4, 6)], true));
    let page = |range, limit| read::messages(&*b.index, b.space, ann, INBOX, range, limit).unwrap();
    let uids = |rows: Vec<(Uid, MessageRow)>| rows.into_iter().map(|r| r.0).collect::<Vec<_>>();
    let (rows, next) = page((2, u32::MAX), 3);
    assert_eq!((uids(rows), next), (vec![2, 3, 7], Some(8)));
    let (rows, next) = page((8, u32::MAX), 3);
    assert_eq!((uids(rows), next), (vec![8, 9, 10], None));
    let (mut names, mut after) = (vec![], None);
    loop {
        let (page, next) = read::accounts(&*b.index, b.space, after.as_ref(), 3).unwrap();
        assert!(page.len() <= 3);
        names.extend(page.into_iter().map(|(_, row)| row.name));
        after = next;
        if after.is_none() {
            break;
        }
    }
    let mut sorted = names.clone();
    sorted.sort_by_key(|n| (Slot::of(n), n.clone()));
    sorted.dedup();
    assert_eq!((names.len(), &names), (11, &sorted));
}

#[test]
fn a_snapshot_carries_the_state_and_a_purge_leaves_nothing() {
    let mut b = Bench::new();
    b.create("ann@x");
    for n in 0..50u8 {
        b.store("ann@x", &[n], &["k"]);
    }
    let mut copy = Bench::over(b.index.clone(), Space(8));
    let mut cursor = rows::Cursor::default();
    let mut pages = 0;
    loop {
        let page = rows::page(&*b.index, b.space, &mut cursor, 1000).unwrap();
        if page.is_empty() {
            break;
        }
        pages += 1;
        let mut batch = crate::index::Batch::default();
        rows::write(&mut batch, copy.space, page).unwrap();
        copy.index.write(batch).unwrap();
    }
    assert!(pages > 10);
    assert_eq!(copy.hash(), b.hash());
    let bad = rows::SpaceRow {
        family: Family::Cold,
        key: Key::Meta.encode(b.space).slice(4..),
        value: vec![].into(),
    };
    let refused = rows::write(&mut crate::index::Batch::default(), copy.space, vec![bad]);
    assert!(matches!(refused, Err(IndexError::Failed(_))));

    let mut steps = 0;
    while let Some(batch) = rows::purge_step(&*b.index, b.space).unwrap() {
        assert!(batch.changes.iter().all(|c| !matches!(c, Change::Put(..))));
        b.index.write(batch).unwrap();
        steps += 1;
        assert!(steps < 10);
    }
    let empty = Bench::over(b.index.clone(), Space(99));
    assert_eq!(b.hash(), empty.hash());
    assert_ne!(copy.hash(), empty.hash());
    assert_eq!(b.count(0x60), 0);
    // The copy has no octets of its own yet; with the old space all live octets went.
    copy.audit();
    copy.now_ms += 1;
    copy.store("ann@x", b"more", &[]);
    copy.audit();
}

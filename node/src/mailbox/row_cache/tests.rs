//! Rows from memory against rows from the index, after all sorts of changes.

use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::machine::command::FlagMode;
use crate::mailbox::check::MailboxFields;
use crate::mailbox::copy::Copy;
use crate::mailbox::deliver::{DeliverHead, Recipient};
use crate::mailbox::expunge::Expunge;
use crate::mailbox::fake::{id, node_with, pieces};
use crate::mailbox::fetch_messages::{FetchMessages, Item};
use crate::mailbox::set_flags::SetFlags;
use crate::mailbox::{Caller, Limits, Operations};

const ACCOUNT: &str = "a@x";

fn named(name: &str) -> MailboxFields {
    MailboxFields {
        name: name.to_owned(),
        ..MailboxFields::default()
    }
}

async fn fetch(ops: &Arc<Operations>, mailbox: &str, rows: bool) -> Vec<(Uid, MessageRow)> {
    let request = FetchMessages {
        account: ACCOUNT.to_owned(),
        mailbox: mailbox.to_owned(),
        rows,
        ..FetchMessages::default()
    };
    let batches = ops.fetch_messages(request).await.unwrap();
    let batches: Vec<_> = batches.try_collect().await.unwrap();
    let mut all = Vec::new();
    for batch in batches {
        assert!(batch.items.is_empty() || !rows);
        all.extend(batch.rows);
        let message = |item| match item {
            Item::Message(m) => (m.uid, m.row),
            Item::Section(s) => panic!("{s:?}"),
        };
        all.extend(batch.items.into_iter().map(message));
    }
    all
}

async fn change(ops: &Arc<Operations>, n: u8, mailbox: &str, draws: &mut StdRng) {
    let request_id = vec![n; 16];
    let account = ACCOUNT.to_owned();
    let first = draws.random_range(1..60);
    let uids = vec![(first, first + draws.random_range(0..4))];
    let other = if mailbox == "INBOX" { "b" } else { "INBOX" };
    match draws.random_range(0..6) {
        0 | 1 => {
            let head = DeliverHead {
                request_id,
                recipients: vec![Recipient {
                    account,
                    mailbox: mailbox.to_owned(),
                    ..Recipient::default()
                }],
                ..DeliverHead::default()
            };
            let caller = Caller::default();
            let mail = pieces(b"Subject: s\r\n\r\nx", 100);
            ops.deliver(&caller, head, mail).await.unwrap();
        }
        2 => {
            let set = SetFlags {
                request_id,
                account,
                mailbox: named(mailbox),
                uids,
                mode: FlagMode::Replace,
                flags: vec!["\\Seen".to_owned(), format!("k{}", n % 5)],
                unchanged_since: None,
            };
            ops.set_flags(set).await.unwrap();
        }
        3 => {
            let expunge = Expunge {
                request_id,
                account,
                mailbox: named(mailbox),
                uids,
                force: true,
            };
            ops.expunge(expunge).await.unwrap();
        }
        way => {
            let copy = Copy {
                request_id,
                account,
                from: named(mailbox),
                uids,
                to_account: String::new(),
                to: named(other),
            };
            // Nothing there to be copied is a refusal, and no change.
            let _ = match way {
                4 => ops.copy(copy).await,
                _ => ops.move_messages(copy).await,
            };
        }
    }
}

async fn compared(bytes: usize, seed: u64) {
    let (_, ops) = node_with(Limits {
        row_cache_bytes: bytes,
        ..Limits::default()
    });
    ops.create_account(&id(1), ACCOUNT).await.unwrap();
    let second = id(2);
    let made = ops.create_mailbox(&second, ACCOUNT, "b", &[]);
    made.await.unwrap();
    let draws = &mut StdRng::seed_from_u64(seed);
    for n in 3..=255 {
        let mailbox = ["INBOX", "b"][draws.random_range(0..2)];
        change(&ops, n, mailbox, draws).await;
        if draws.random_range(0..3) > 0 {
            for mailbox in ["INBOX", "b"] {
                let kept = fetch(&ops, mailbox, true).await;
                assert_eq!(
                    kept,
                    fetch(&ops, mailbox, false).await,
                    "seed {seed}, step {n}"
                );
            }
        }
    }
    assert!(ops.rows.state.lock().bytes <= bytes);
}

#[tokio::test]
async fn rows_from_memory_are_those_of_the_index() {
    for seed in 0..8 {
        for bytes in [0, 8 << 10, 64 << 20] {
            compared(bytes, seed).await;
        }
    }
}

#[test]
fn a_range_of_rows_is_found() {
    let row = |uid| {
        let row = MessageRow {
            flags: 0,
            keywords: Vec::new(),
            modseq: 1,
            email: EmailId(1),
            size: 1,
            internal_date_ms: 0,
            save_date_ms: 0,
        };
        (uid, row)
    };
    let rows = Shared {
        rows: [2, 3, 7].map(row).into(),
        bytes: 0,
        all: Arc::default(),
    };
    for (range, expected) in [
        ((1, Uid::MAX), &[2, 3, 7][..]),
        ((3, 6), &[3]),
        ((4, 6), &[]),
        ((8, 9), &[]),
    ] {
        let found = rows.within(range).iter().map(|(uid, _)| *uid);
        assert!(found.eq(expected.iter().copied()), "{range:?}");
    }
}

/// Who reads slowly holds rows that are not kept any more, and they are counted.
#[tokio::test]
async fn rows_count_as_long_as_they_are_held() {
    let (_, ops) = node_with(Limits {
        row_cache_bytes: 4 << 10,
        ..Limits::default()
    });
    ops.create_account(&id(1), ACCOUNT).await.unwrap();
    let draws = &mut StdRng::seed_from_u64(1);
    for n in 3..=120 {
        change(&ops, n, "INBOX", draws).await;
        let kept = fetch(&ops, "INBOX", true).await;
        assert_eq!(kept, fetch(&ops, "INBOX", false).await);
        let state = ops.rows.state.lock();
        let all = ops.rows.all.load(Ordering::Relaxed);
        let kept = state.mailboxes.values().filter_map(|k| k.rows.as_ref());
        assert_eq!(all, kept.map(|rows| rows.bytes).sum::<usize>());
    }
}

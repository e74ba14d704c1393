//! The operations end to end, on a machine without Raft.

mod mailboxes;
mod messages;
mod transfers;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::append::AppendHead;
use super::deliver::{DeliverHead, Recipient};
use super::expunge::Expunge;
use super::fake::{FakeNode, id, node, node_with, pieces};
use super::fetch::FetchBlob;
use super::fetch_messages::FetchMessages;
use super::search::Search;
use super::set_flags::SetFlags;
use super::*;
use crate::machine::command::{FlagMode, Op};

fn to(accounts: &[&str]) -> Vec<Recipient> {
    let recipient = |account: &&str| Recipient {
        account: account.to_string(),
        ..Recipient::default()
    };
    accounts.iter().map(recipient).collect()
}

fn head(n: u8, accounts: &[&str]) -> DeliverHead {
    DeliverHead {
        request_id: id(n),
        recipients: to(accounts),
        ..DeliverHead::default()
    }
}

/// Octets that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}

fn mail(body: &[u8]) -> Vec<u8> {
    [b"From: a@x\r\nSubject: The Post\r\n\r\n", body].concat()
}

async fn account(ops: &Operations, name: &str) {
    ops.create_account(&blake3::hash(name.as_bytes()).as_bytes()[..16], name)
        .await
        .unwrap();
}

async fn fetch(
    ops: &Arc<Operations>,
    account: &str,
    uid: u32,
    range: (u64, u64),
) -> Result<Vec<u8>> {
    let (fetching, _) = ops
        .fetch(FetchBlob {
            account: account.to_owned(),
            mailbox: "INBOX".to_owned(),
            uid,
            offset: range.0,
            length: range.1,
            ..FetchBlob::default()
        })
        .await?;
    let read: Vec<_> = ops.read_pieces(&fetching).try_collect().await?;
    let mut at = range.0;
    for piece in &read {
        assert_eq!(piece.offset, at);
        at += piece.data.len() as u64;
    }
    Ok(read.iter().flat_map(|p| p.data.to_vec()).collect())
}

/// Names of one account in each shard.
fn one_in_each(node: &FakeNode) -> [String; 2] {
    [1, 2].map(|shard| {
        (0..)
            .map(|n| format!("u{n}@example.org"))
            .find(|name| {
                let slot = Slot::of(&AccountName::new(name).unwrap());
                node.shard_of(slot) == Some(ShardId(shard))
            })
            .unwrap()
    })
}

#[tokio::test]
async fn what_is_delivered_is_listed_and_fetched() {
    let (_, ops) = node();
    let created = ops.create_account(&id(7), "Ann@example.org").await;
    assert_eq!(ops.get_account("ann@EXAMPLE.org").await, created);
    let octets = mail(b"Hello from the relay station.\r\n");
    let outcome = ops
        .deliver(
            &Caller::default(),
            head(1, &["ann@example.org"]),
            pieces(&octets, 7),
        )
        .await
        .unwrap();
    assert_eq!(
        outcome.blob,
        Some((BlobId::of(&octets), octets.len() as u64))
    );
    let stored = outcome.results[0].outcome.clone().unwrap();
    assert_eq!((stored.uid, stored.duplicate), (1, false));
    assert_eq!(outcome.results[0].mailbox, "INBOX");

    let page = ops
        .list_messages("ann@example.org", "inbox", None, 0, true)
        .await
        .unwrap();
    assert_eq!(
        (page.messages.len(), page.next_uid, page.mailbox.uidnext),
        (1, 0, 2)
    );
    let (blob, summary) = *page.messages[0].cold.clone().unwrap();
    assert_eq!(blob, BlobId::of(&octets));
    assert_eq!(summary.envelope.subject, "The Post");
    assert_eq!(summary.preview, "Hello from the relay station.");

    assert_eq!(
        fetch(&ops, "ann@example.org", 1, (0, 0)).await.unwrap(),
        octets
    );
    assert_eq!(
        fetch(&ops, "ann@example.org", 1, (6, 3)).await.unwrap(),
        b"a@x"
    );
    assert_eq!(
        fetch(&ops, "ann@example.org", 2, (0, 0)).await,
        Err(MailboxError::NotFound(What::Message))
    );
    let usage = ops.usage("ann@example.org").await.unwrap();
    assert_eq!(
        (usage.messages, usage.bytes, usage.unseen),
        (1, octets.len() as u64, 1)
    );
    let list = ops.list_mailboxes("ann@example.org").await.unwrap();
    assert_eq!((list.mailboxes.len(), list.mailboxes[0].messages), (1, 1));
    assert_eq!(list.highest_modseq, stored.modseq);
}

#[tokio::test]
async fn large_messages_travel_in_chunks_and_come_back_whole() {
    let (node, ops) = node();
    account(&ops, "a@x").await;
    for (n, len) in [
        (1, 0),
        (2, 1 << 20),
        (3, (1 << 20) + 1),
        (4, 3 << 20),
        (5, 9_999_999),
    ] {
        let octets = noise(len);
        let outcome = ops
            .deliver(
                &Caller::default(),
                head(n, &["a@x"]),
                pieces(&octets, 100_001),
            )
            .await
            .unwrap();
        let stored = outcome.results[0].outcome.clone().unwrap();
        assert_eq!(
            fetch(&ops, "a@x", stored.uid, (0, 0)).await.unwrap(),
            octets
        );
        if len > 2 << 20 {
            let (from, len) = (1_000_000, 1_500_000);
            assert_eq!(
                fetch(&ops, "a@x", stored.uid, (from as u64, len as u64))
                    .await
                    .unwrap(),
                octets[from..from + len]
            );
        }
    }
    // Nothing waits for a `Store` any more, and no arrival was dropped by mistake.
    let logs = node.shards.iter().flat_map(|s| s.log.lock().clone());
    assert!(
        !logs
            .into_iter()
            .any(|op| matches!(op, Op::DropUpload { .. }))
    );
    assert_eq!(ops.window.free_bytes(), ops.limits().node_window_bytes);
}

#[tokio::test]
async fn a_retry_is_one_message() {
    let (_, ops) = node();
    account(&ops, "a@x").await;
    let octets = mail(&noise(3 << 20));
    for round in 0..2 {
        let outcome = ops
            .deliver(
                &Caller::default(),
                head(1, &["a@x"]),
                pieces(&octets, 1 << 18),
            )
            .await
            .unwrap();
        let stored = outcome.results[0].outcome.clone().unwrap();
        assert_eq!((stored.uid, stored.duplicate), (1, round == 1));
    }
    // By content: the same octets from the same sender, another sender, other octets.
    for (sender, octets, uid) in [
        ("s@x", b"one".as_slice(), 2),
        ("s@x", b"one", 2),
        ("t@x", b"one", 3),
        ("s@x", b"two", 4),
    ] {
        let head = DeliverHead {
            by_content: true,
            sender: sender.to_owned(),
            recipients: to(&["a@x"]),
            ..DeliverHead::default()
        };
        let outcome = ops
            .deliver(&Caller::default(), head, pieces(octets, 2))
            .await
            .unwrap();
        assert_eq!(outcome.results[0].outcome.clone().unwrap().uid, uid);
    }
}

#[tokio::test]
async fn recipients_of_two_shards_have_their_own_outcomes() {
    for len in [100, 2 << 20] {
        let (node, ops) = node();
        let [one, two] = one_in_each(&node);
        account(&ops, &one).await;
        account(&ops, &two).await;
        let octets = mail(&noise(len));
        let all = [one.as_str(), two.as_str(), "nobody@x"];
        let outcome = ops
            .deliver(&Caller::default(), head(1, &all), pieces(&octets, 50_000))
            .await
            .unwrap();
        assert!(outcome.results[0].outcome.is_ok() && outcome.results[1].outcome.is_ok());
        assert_eq!(
            outcome.results[2].outcome,
            Err(MailboxError::NotFound(What::Account))
        );
        for name in [&one, &two] {
            assert_eq!(fetch(&ops, name, 1, (0, 0)).await.unwrap(), octets);
        }

        // Shard 2 is led elsewhere now: its recipient hears where, the other one is served.
        node.shards[1].leads.store(false, Ordering::Relaxed);
        let outcome = ops
            .deliver(
                &Caller::default(),
                head(2, &all[..2]),
                pieces(&octets, 50_000),
            )
            .await
            .unwrap();
        assert_eq!(outcome.results[0].outcome.clone().unwrap().uid, 2);
        assert_eq!(
            outcome.results[1].outcome,
            Err(MailboxError::WrongLeader {
                leader: Some(NodeId(2)),
                addr: Some("node2:6600".to_owned())
            })
        );
        // With nobody left, no octet is read.
        let outcome = ops
            .deliver(
                &Caller::default(),
                head(3, &all[1..2]),
                futures::stream::pending().boxed(),
            )
            .await
            .unwrap();
        assert_eq!(outcome.blob, None);
    }
}

#[tokio::test]
async fn a_shard_that_fails_midway_does_not_take_the_others_along() {
    let (node, ops) = node();
    let [one, two] = one_in_each(&node);
    account(&ops, &one).await;
    account(&ops, &two).await;
    node.shards[0].failures.lock().push(ShardError::ReadOnly);
    let octets = mail(&noise(4 << 20));
    let outcome = ops
        .deliver(
            &Caller::default(),
            head(1, &[&one, &two]),
            pieces(&octets, 1 << 18),
        )
        .await
        .unwrap();
    assert_eq!(outcome.results[0].outcome, Err(MailboxError::ReadOnly));
    assert!(outcome.results[1].outcome.is_ok());
    assert_eq!(fetch(&ops, &two, 1, (0, 0)).await.unwrap(), octets);
    settle().await;
    // The one that failed was told to forget the arrival; the other was not.
    let drops = |i: usize| {
        let log = node.shards[i].log.lock();
        log.iter()
            .filter(|op| matches!(op, Op::DropUpload { .. }))
            .count()
    };
    assert_eq!((drops(0), drops(1)), (1, 0));
}

/// Lets tasks that were spawned run.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_stores_nothing() {
    let (node, ops) = node();
    account(&ops, "a@x").await;
    let broken = pieces(&noise(3 << 20), 1 << 18).chain(futures::stream::iter([Err(
        MailboxError::Unavailable("gone".into()),
    )]));
    let result = ops
        .deliver(&Caller::default(), head(1, &["a@x"]), broken)
        .await;
    assert_eq!(result, Err(MailboxError::Unavailable("gone".into())));
    settle().await;
    let log: Vec<Op> = node
        .shards
        .iter()
        .flat_map(|s| s.log.lock().clone())
        .collect();
    assert!(log.iter().any(|op| matches!(op, Op::PutChunk { .. })));
    assert!(log.iter().any(|op| matches!(op, Op::DropUpload { .. })));
    assert_eq!(ops.usage("a@x").await.unwrap().messages, 0);
    assert_eq!(ops.window.free_bytes(), ops.limits().node_window_bytes);
}

#[tokio::test]
async fn a_full_window_is_an_early_answer() {
    let (_, ops) = node_with(Limits {
        node_window_bytes: 1000,
        window_wait: Duration::from_millis(20),
        ..Limits::default()
    });
    account(&ops, "a@x").await;
    // One delivery that never ends holds the window.
    let slow = {
        let ops = Arc::clone(&ops);
        let stream = pieces(&noise(1000), 1000).chain(futures::stream::pending());
        tokio::spawn(async move {
            let result = ops
                .deliver(&Caller::default(), head(1, &["a@x"]), stream.boxed())
                .await;
            drop(result);
        })
    };
    settle().await;
    let result = ops
        .deliver(&Caller::default(), head(2, &["a@x"]), pieces(b"small", 5))
        .await;
    assert_eq!(
        result,
        Err(MailboxError::Busy {
            retry_after_ms: 200
        })
    );
    slow.abort();
    let _ = slow.await;
    let outcome = ops
        .deliver(&Caller::default(), head(2, &["a@x"]), pieces(b"small", 5))
        .await
        .unwrap();
    assert_eq!(outcome.results[0].outcome.clone().unwrap().uid, 1);
}

#[tokio::test]
async fn a_message_larger_than_the_window_passes_through_it() {
    let (_, ops) = node_with(Limits {
        node_window_bytes: 3 << 19,
        window_wait: Duration::from_secs(5),
        ..Limits::default()
    });
    account(&ops, "a@x").await;
    let octets = noise(10 << 20);
    // The room that it waits for is held by its own chunks in flight.
    let outcome = ops
        .deliver(
            &Caller::default(),
            head(1, &["a@x"]),
            pieces(&octets, 256 << 10),
        )
        .await
        .unwrap();
    assert!(outcome.results[0].outcome.is_ok());
    assert_eq!(fetch(&ops, "a@x", 1, (0, 0)).await.unwrap(), octets);
}

#[tokio::test]
async fn messages_over_the_limit_are_refused() {
    let (_, ops) = node_with(Limits {
        max_message_bytes: 100,
        ..Limits::default()
    });
    account(&ops, "a@x").await;
    let too_large = Err(MailboxError::TooLarge { limit: 100 });
    let hinted = DeliverHead {
        size_hint: 101,
        ..head(1, &["a@x"])
    };
    let endless = futures::stream::pending().boxed();
    assert_eq!(
        ops.deliver(&Caller::default(), hinted, endless).await,
        too_large
    );
    let result = ops
        .deliver(
            &Caller::default(),
            head(1, &["a@x"]),
            pieces(&noise(101), 10),
        )
        .await;
    assert_eq!(result, too_large);
    let result = ops
        .deliver(
            &Caller::default(),
            head(1, &["a@x"]),
            pieces(&noise(100), 10),
        )
        .await;
    assert!(result.is_ok());
}

#[tokio::test]
async fn appended_messages_carry_flags_and_date() {
    let (_, ops) = node();
    account(&ops, "a@x").await;
    ops.create_mailbox(&id(1), "a@x", "Sent/2024", &[])
        .await
        .unwrap();
    let head = AppendHead {
        request_id: id(2),
        account: "A@X".to_owned(),
        mailbox: "Sent/2024".into(),
        flags: vec!["\\seen".to_owned(), "$Forwarded".to_owned()],
        internal_date_ms: 1_000_000,
        ..AppendHead::default()
    };
    let appended = ops
        .append(&Caller::default(), head.clone(), pieces(b"\r\nbody", 3))
        .await
        .unwrap();
    assert_eq!((appended.stored.uid, appended.size), (1, 6));
    let page = ops
        .list_messages("a@x", "Sent/2024", Some((1, 0)), 10, false)
        .await
        .unwrap();
    assert_eq!(page.messages[0].flags, ["\\Seen", "$Forwarded"]);
    assert_eq!(page.messages[0].internal_date_ms, 1_000_000);
    let nowhere = AppendHead {
        mailbox: "Nowhere".into(),
        ..head
    };
    assert_eq!(
        ops.append(&Caller::default(), nowhere, pieces(b"x", 1))
            .await,
        Err(MailboxError::NotFound(What::Mailbox))
    );
}

#[tokio::test]
async fn pages_are_bounded_in_rows_and_octets() {
    let (_, ops) = node();
    account(&ops, "a@x").await;
    // A summary of about eight kilobytes each.
    let mail = format!(
        "Subject: x\r\nTo: {}\r\n\r\n",
        "a-rather-long-name@subdomain.example.org, ".repeat(200)
    );
    for n in 0..300u32 {
        let head = DeliverHead {
            request_id: [n.to_le_bytes(); 4].concat(),
            recipients: to(&["a@x"]),
            ..DeliverHead::default()
        };
        ops.deliver(&Caller::default(), head, pieces(mail.as_bytes(), 1 << 18))
            .await
            .unwrap();
    }
    for (limit, with_summary) in [(0, false), (7, false), (100, true), (10_000, true)] {
        let (mut next, mut uids) = (1, Vec::new());
        while next != 0 {
            let page = ops
                .list_messages("a@x", "INBOX", Some((next, 0)), limit, with_summary)
                .await
                .unwrap();
            assert!(limit == 0 || page.messages.len() <= limit as usize);
            uids.extend(page.messages.iter().map(|m| m.uid));
            next = page.next_uid;
        }
        assert_eq!(uids, (1..=300).collect::<Vec<_>>());
    }
    let page = ops
        .list_messages("a@x", "INBOX", None, 10_000, true)
        .await
        .unwrap();
    assert!(
        page.messages.len() < 300,
        "an answer of {} summaries",
        page.messages.len()
    );
}

#[tokio::test]
async fn damaged_octets_are_never_handed_out_as_good() {
    let (node, ops) = node();
    account(&ops, "a@x").await;
    let octets = noise(2 << 20);
    ops.deliver(
        &Caller::default(),
        head(1, &["a@x"]),
        pieces(&octets, 1 << 18),
    )
    .await
    .unwrap();
    node.shards.iter().for_each(|s| s.rot());
    let result = fetch(&ops, "a@x", 1, (0, 0)).await;
    assert!(
        matches!(result, Err(MailboxError::Corrupt(_))),
        "{result:?}"
    );
}

#[tokio::test]
async fn accounts_are_listed_shard_by_shard() {
    let (_, ops) = node();
    let mut names: Vec<String> = (0..50).map(|n| format!("u{n}@example.org")).collect();
    for name in &names {
        account(&ops, name).await;
    }
    let mut listed = Vec::new();
    for shard in [1, 2] {
        let mut token = Vec::new();
        loop {
            let (page, next) = ops.list_accounts(shard, &token, 7).await.unwrap();
            listed.extend(page.into_iter().map(|a| a.name.to_string()));
            token = next;
            if token.is_empty() {
                break;
            }
        }
    }
    listed.sort();
    names.sort();
    assert_eq!(listed, names);
    assert_eq!(
        ops.list_accounts(3, &[], 0).await,
        Err(MailboxError::NotFound(What::Shard))
    );
    assert!(ops.list_accounts(0, &[], 0).await.is_err());
    assert!(ops.list_accounts(1, b"\xff", 0).await.is_err());
    assert_eq!(
        ops.create_account(&id(9), "u1@example.org").await,
        Err(MailboxError::AlreadyExists(What::Account))
    );
    assert_eq!(
        ops.get_account("nobody@x").await,
        Err(MailboxError::NotFound(What::Account))
    );
}

#[tokio::test]
async fn an_unknown_outcome_keeps_the_chunks() {
    let (node, ops) = node();
    account(&ops, "a@x").await;
    let octets = noise(1 << 21);
    let shard = ops
        .routes()
        .shard_of(Slot::of(&AccountName::new("a@x").unwrap()))
        .unwrap();
    let shard = &node.shards[shard.0 as usize - 1];
    // Everything but the `Store` goes well.
    let stream = pieces(&octets, 1 << 20).chain(futures::stream::once(async {
        settle().await;
        shard.failures.lock().push(ShardError::Unknown);
        Ok(Bytes::new())
    }));
    let outcome = ops
        .deliver(&Caller::default(), head(1, &["a@x"]), stream.boxed())
        .await;
    drop(outcome);
    settle().await;
    let retry = ops
        .deliver(
            &Caller::default(),
            head(1, &["a@x"]),
            pieces(&octets, 1 << 20),
        )
        .await
        .unwrap();
    assert_eq!(retry.results[0].outcome.clone().unwrap().uid, 1);
    assert_eq!(fetch(&ops, "a@x", 1, (0, 0)).await.unwrap(), octets);
}

/// Delivers so many small messages.
async fn fill(ops: &Operations, account: &str, messages: u32) {
    for n in 0..messages {
        let head = DeliverHead {
            request_id: [n.to_le_bytes(), *b"fill", *b"fill", *b"fill"].concat(),
            recipients: to(&[account]),
            ..DeliverHead::default()
        };
        let octets = n.to_le_bytes();
        let outcome = ops
            .deliver(&Caller::default(), head, pieces(&octets, 4))
            .await
            .unwrap();
        outcome.results[0].outcome.clone().unwrap();
    }
}

#[tokio::test]
async fn flags_are_set_and_messages_expunged() {
    let (_, ops) = node();
    account(&ops, "a@x").await;
    fill(&ops, "a@x", 10).await;
    let set = |n: u8, uids: Vec<(u32, u32)>, flags: &[&str], unchanged_since| SetFlags {
        request_id: id(n),
        account: "a@x".to_owned(),
        mailbox: "INBOX".into(),
        uids,
        mode: FlagMode::Add,
        flags: flags.iter().map(|f| f.to_string()).collect(),
        unchanged_since,
    };
    let first = ops
        .set_flags(set(1, vec![(2, 4), (9, 0)], &["\\deleted", "$Junk"], None))
        .await
        .unwrap();
    assert_eq!(first.changed, [(2, 4), (9, 10)]);
    let again = ops
        .set_flags(set(1, vec![(2, 4), (9, 0)], &["\\deleted", "$Junk"], None))
        .await;
    assert_eq!(again.as_ref(), Ok(&first));
    let conditional = ops
        .set_flags(set(2, vec![(1, 2)], &["\\Seen"], Some(first.modseq - 1)))
        .await
        .unwrap();
    assert_eq!(
        (conditional.changed, conditional.modified),
        (vec![(1, 1)], vec![(2, 2)])
    );
    let nothing = ops
        .set_flags(set(3, vec![(90_000, 0)], &["\\Seen"], None))
        .await
        .unwrap();
    assert_eq!(nothing.changed, []);
    for (bad, field) in [
        (set(4, vec![], &["\\Seen"], None), "uids"),
        (set(4, vec![(1, 0)], &["\\Recent"], None), "flags[0]"),
    ] {
        match ops.set_flags(bad).await {
            Err(MailboxError::BadRequest { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{other:?}"),
        }
    }

    let expunge = |n: u8, uids: Vec<(u32, u32)>, force| Expunge {
        request_id: id(n),
        account: "a@x".to_owned(),
        mailbox: "INBOX".into(),
        uids,
        force,
    };
    let gone = ops.expunge(expunge(5, vec![(3, 5)], false)).await.unwrap();
    assert_eq!(gone.vanished, [(3, 4)]);
    assert_eq!(ops.expunge(expunge(5, vec![(3, 5)], false)).await, Ok(gone));
    let all = ops.expunge(expunge(6, vec![], false)).await.unwrap();
    assert_eq!(all.vanished, [(2, 2), (9, 10)]);
    let forced = ops.expunge(expunge(7, vec![(1, 0)], true)).await.unwrap();
    assert_eq!(forced.vanished, [(1, 1), (5, 8)]);
    assert_eq!(
        ops.expunge(expunge(7, vec![(1, 0)], true)).await,
        Ok(forced)
    );
    assert_eq!(ops.usage("a@x").await.unwrap().messages, 0);
    let nowhere = Expunge {
        mailbox: "Nowhere".into(),
        ..expunge(8, vec![], false)
    };
    assert_eq!(
        ops.expunge(nowhere).await,
        Err(MailboxError::NotFound(What::Mailbox))
    );
}

#[tokio::test]
async fn huge_uid_sets_go_in_steps_and_a_retry_changes_nothing() {
    let (node, ops) = node();
    account(&ops, "a@x").await;
    fill(&ops, "a@x", 20_500).await;
    let all = Expunge {
        request_id: id(1),
        account: "a@x".to_owned(),
        mailbox: "INBOX".into(),
        uids: Vec::new(),
        force: true,
    };
    let first = ops.expunge(all.clone()).await.unwrap();
    assert_eq!(first.vanished, [(1, 20_500)]);
    let expunges = |node: &FakeNode| {
        let logs = node.shards.iter().flat_map(|s| s.log.lock().clone());
        logs.filter(|op| matches!(op, Op::Expunge { .. })).count()
    };
    assert_eq!(expunges(&node), 3);
    // Between try and retry a message came: the retry does not see it.
    ops.deliver(&Caller::default(), head(9, &["a@x"]), pieces(b"new", 3))
        .await
        .unwrap();
    assert_eq!(ops.expunge(all).await, Ok(first));
    assert_eq!(ops.usage("a@x").await.unwrap().messages, 1);
}

#[tokio::test]
async fn every_read_tells_the_accounts_modseq() {
    let (_, ops) = node();
    account(&ops, "a@x").await;
    fill(&ops, "a@x", 3).await;
    ops.create_mailbox(&id(1), "a@x", "Other", &[])
        .await
        .unwrap();
    let modseq = ops.get_account("a@x").await.unwrap().highest_modseq;
    let opened = ops.open_mailbox("a@x", "INBOX").await.unwrap();
    assert!(opened.mailbox.highest_modseq < modseq);
    let page = ops.list_messages("a@x", "INBOX", None, 0, false).await;
    let fetch = FetchMessages {
        account: "a@x".to_owned(),
        mailbox: "INBOX".to_owned(),
        ..FetchMessages::default()
    };
    let fetched = ops.fetch_messages(fetch).await.unwrap();
    let fetched: Vec<_> = fetched.try_collect().await.unwrap();
    let search = Search {
        account: "a@x".to_owned(),
        mailbox: "INBOX".to_owned(),
        ..Search::default()
    };
    let found = ops.search(search).await.unwrap();
    let found: Vec<_> = found.try_collect().await.unwrap();
    let octets = FetchBlob {
        account: "a@x".to_owned(),
        mailbox: "INBOX".to_owned(),
        uid: 1,
        ..FetchBlob::default()
    };
    assert_eq!(
        [
            ops.fetch(octets).await.unwrap().1,
            opened.account_modseq,
            page.unwrap().account_modseq,
            fetched[0].opening.as_ref().unwrap().account_modseq,
            found.last().unwrap().last.unwrap().account_modseq,
            ops.usage("a@x").await.unwrap().account_modseq,
            ops.list_app_passwords("a@x").await.unwrap().modseq,
            ops.list_mailboxes("a@x").await.unwrap().highest_modseq,
        ],
        [modseq; 8]
    );
}

#[tokio::test]
async fn a_deleted_account_is_gone_and_its_name_free() {
    let (_, ops) = node();
    account(&ops, "a@x").await;
    fill(&ops, "a@x", 10).await;
    ops.delete_account(&id(1), "a@x").await.unwrap();
    ops.delete_account(&id(1), "A@x").await.unwrap();
    let gone = Err(MailboxError::NotFound(What::Account));
    assert_eq!(ops.delete_account(&id(2), "a@x").await, gone);
    assert_eq!(ops.usage("a@x").await.map(|_| ()), gone);
    ops.create_account(&id(3), "a@x").await.unwrap();
    assert_eq!(ops.usage("a@x").await.unwrap().messages, 0);
}

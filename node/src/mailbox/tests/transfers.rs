//! Messages that go to another account, and what may go wrong on their way.

use super::super::copy::{Copied, Copy};
use super::*;
use crate::index::keys::{KeyRange, Space, tag};
use crate::machine::command::CHUNK_BYTES;
use crate::machine::transfers;
use crate::mailbox::fake::FakeShard;
use crate::types::AccountState;

const PATIENCE: Duration = Duration::from_secs(20);

/// A node with an account in each shard; the first has these messages.
async fn two(messages: &[&[u8]]) -> (Arc<FakeNode>, Arc<Operations>, [String; 2]) {
    let (node, ops) = node();
    let names = one_in_each(&node);
    for name in &names {
        account(&ops, name).await;
    }
    for (n, octets) in messages.iter().enumerate() {
        let head = AppendHead {
            request_id: [&[0xaa; 15][..], &[n as u8]].concat(),
            account: names[0].clone(),
            mailbox: "INBOX".into(),
            flags: vec!["\\Seen".into(), format!("$n{n}")],
            internal_date_ms: 1_000 + n as u64,
            ..AppendHead::default()
        };
        let appended = ops
            .append(&Caller::default(), head, pieces(octets, 9_999))
            .await;
        appended.unwrap();
    }
    (node, ops, names)
}

fn across(n: u8, names: &[String; 2], uids: &[(Uid, Uid)]) -> Copy {
    Copy {
        request_id: id(n),
        account: names[0].clone(),
        from: "INBOX".into(),
        uids: uids.to_vec(),
        to_account: names[1].clone(),
        to: "INBOX".into(),
    }
}

/// The octets of an account's INBOX.
async fn all(ops: &Arc<Operations>, account: &str) -> Vec<Vec<u8>> {
    let page = ops.list_messages(account, "INBOX", None, 0, false).await;
    let mut found = Vec::new();
    for message in page.unwrap().messages {
        found.push(fetch(ops, account, message.uid, (0, 0)).await.unwrap());
    }
    found
}

/// Rows about transfers but those that stay, and of arrivals that were not used up.
fn left(node: &FakeNode) -> usize {
    let mut n = 0;
    for shard in &node.shards {
        let at = shard.local_view().unwrap();
        for tag in [tag::TRANSFER, tag::ARRIVAL, tag::UPLOAD] {
            let range = KeyRange::tag(Space::FIRST, tag);
            let count = &mut |_: &[u8], _: &[u8]| {
                n += 1;
                crate::index::Next::Continue
            };
            let family = crate::index::Family::State;
            at.view.scan(family, &range.from, &range.to, count).unwrap();
        }
    }
    n
}

/// Waits until nothing is left of any transfer, as what runs beside the calls brings it about.
async fn settled(node: &FakeNode, ops: &Arc<Operations>) {
    let led = ops.replica(ShardId(1)).unwrap();
    let begin = tokio::time::Instant::now();
    while left(node) > 0 {
        assert!(begin.elapsed() < PATIENCE, "{} rows are left", left(node));
        tokio::time::sleep(Duration::from_millis(20)).await;
        // As the worker does.
        let at = ops.local_view(&led).unwrap();
        for (id, row) in transfers::unsettled(&*at.view, at.space, 100).unwrap() {
            match row.over {
                true => {
                    let target = row.to.account;
                    ops.settle_transfers(&led, id.source, target).await.ok();
                }
                false => drop(ops.carry_transfer(&led, id).await),
            }
        }
    }
}

fn audit(node: &FakeNode) {
    for shard in &node.shards {
        let at = shard.local_view().unwrap();
        let found = crate::machine::audit::problems(&*at.view, at.space).unwrap();
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[tokio::test]
async fn messages_go_to_an_account_of_another_shard_with_all_that_they_are() {
    let large = noise(3 << 20);
    let (node, ops, names) = two(&[b"one", &large, b"", b"four"]).await;
    let moving = || across(1, &names, &[(1, 3), (9, 0)]);
    let moved = ops.move_messages(moving()).await.unwrap();
    assert_eq!(
        (&moved.from[..], &moved.to[..], moved.next),
        (&[(1, 3)][..], &[(1, 3)][..], 0)
    );
    assert_eq!(all(&ops, &names[0]).await, [b"four".to_vec()]);
    let want = [b"one".to_vec(), large, b"".to_vec()];
    assert_eq!(all(&ops, &names[1]).await, want);
    let page = ops.list_messages(&names[1], "INBOX", None, 0, false).await;
    let page = page.unwrap();
    let uidvalidity = page.mailbox.uidvalidity;
    assert_eq!(moved.uidvalidity, uidvalidity);
    for (n, message) in (0u64..).zip(page.messages) {
        assert_eq!(message.flags, ["\\Seen".to_owned(), format!("$n{n}")]);
        assert_eq!(message.internal_date_ms, 1_000 + n);
    }
    assert_eq!(ops.move_messages(moving()).await, Ok(moved.clone()));
    let there = ops.get_account(&names[0]).await.unwrap().highest_modseq;
    assert_eq!(moved.modseq, there);

    // A copy stays; to the account itself it is a copy like any other.
    let copying = || across(1, &names, &[(4, 4)]);
    let copied = ops.copy(copying()).await.unwrap();
    assert_eq!(
        (&copied.from[..], &copied.to[..]),
        (&[(4, 4)][..], &[(4, 4)][..])
    );
    assert_eq!(ops.copy(copying()).await, Ok(copied));
    let mut own = across(2, &names, &[(4, 4)]);
    own.to_account = names[0].clone();
    assert_eq!(ops.copy(own).await.unwrap().to, [(5, 5)]);
    assert_eq!(all(&ops, &names[0]).await.len(), 2);
    assert_eq!(all(&ops, &names[1]).await.len(), 4);
    // Also after the mailbox is gone that the answer is about.
    settled(&node, &ops).await;
    audit(&node);
    ops.delete_account(&id(3), &names[1]).await.unwrap();
    assert_eq!(ops.move_messages(moving()).await, Ok(moved));
    let none = ops.move_messages(across(4, &names, &[(4, 4)])).await;
    assert_eq!(none, Err(MailboxError::NotFound(What::Account)));
}

#[tokio::test]
async fn whichever_command_or_answer_is_lost_a_retry_moves_once() {
    // More proposals than a move of two messages needs in either shard.
    const PROPOSALS: usize = 5;
    for lost in [false, true] {
        for shard in 0..2 {
            for after in 0..PROPOSALS {
                let (node, ops, names) = two(&[b"one", b"two"]).await;
                let fails = &node.shards[shard];
                match lost {
                    true => *fails.answer_lost_after.lock() = Some(after),
                    false => {
                        fails
                            .successes_before_failures
                            .store(after, Ordering::Relaxed);
                        *fails.failures.lock() = vec![ShardError::Unknown];
                    }
                }
                let mut tries = 0;
                let moved: Copied = loop {
                    match ops.move_messages(across(1, &names, &[(1, 0)])).await {
                        Ok(moved) => break moved,
                        Err(MailboxError::Unavailable(_)) => tries += 1,
                        Err(e) => panic!("{e}"),
                    }
                    assert!(tries < 5, "lost {lost} in {shard} after {after}");
                };
                assert_eq!(moved.to, [(1, 2)]);
                *fails.answer_lost_after.lock() = None;
                fails.failures.lock().clear();
                fails.successes_before_failures.store(0, Ordering::Relaxed);
                assert_eq!(all(&ops, &names[0]).await, Vec::<Vec<u8>>::new());
                let want = [b"one".to_vec(), b"two".to_vec()];
                assert_eq!(all(&ops, &names[1]).await, want);
                let again = ops.move_messages(across(1, &names, &[(1, 0)])).await;
                assert_eq!(again, Ok(moved));
                settled_but_uploads(&node, &ops).await;
                audit(&node);
            }
        }
    }
}

/// Like [`settled`]; chunks whose fate was unknown wait to be old.
async fn settled_but_uploads(node: &FakeNode, ops: &Arc<Operations>) {
    let at = |shard: &FakeShard| {
        let at = shard.local_view().unwrap();
        transfers::unsettled(&*at.view, at.space, 100).unwrap()
    };
    let led = ops.replica(ShardId(1)).unwrap();
    for (id, row) in at(&node.shards[0]) {
        assert!(row.over);
        let settled = ops.settle_transfers(&led, id.source, row.to.account);
        settled.await.unwrap();
    }
    assert_eq!(at(&node.shards[0]), []);
}

#[tokio::test]
async fn a_target_that_does_not_answer_is_waited_for_and_nothing_is_in_doubt() {
    let (node, ops, names) = two(&[b"one"]).await;
    let away = &node.shards[1].leads;
    away.store(false, Ordering::Relaxed);
    let silent = |e: &Result<Copied>| matches!(e, Err(MailboxError::Unavailable(_)));
    let moved = ops.move_messages(across(1, &names, &[(1, 1)])).await;
    assert!(silent(&moved), "{moved:?}");
    assert_eq!(left(&node), 0, "nothing was begun");
    away.store(true, Ordering::Relaxed);
    // It goes away once the first chunk was asked for.
    *node.shards[1].failures.lock() = vec![ShardError::Unknown; 20];
    let moved = ops.move_messages(across(1, &names, &[(1, 1)])).await;
    assert!(silent(&moved), "{moved:?}");
    assert_eq!(all(&ops, &names[0]).await.len(), 1);
    // A message on its way is not moved elsewhere meanwhile.
    ops.create_mailbox(&id(7), &names[0], "Work", &[])
        .await
        .unwrap();
    let mut elsewhere = across(8, &names, &[(1, 1)]);
    elsewhere.to_account.clear();
    elsewhere.to = "Work".into();
    let held = ops.move_messages(elsewhere).await;
    assert!(matches!(held, Err(MailboxError::Busy { .. })), "{held:?}");
    node.shards[1].failures.lock().clear();
    settled(&node, &ops).await;
    assert_eq!(all(&ops, &names[0]).await.len(), 0);
    assert_eq!(all(&ops, &names[1]).await, [b"one".to_vec()]);
    let answer = ops.move_messages(across(1, &names, &[(1, 1)])).await;
    assert_eq!(answer.map(|c| c.to), Ok(vec![(1, 1)]));
    audit(&node);
}

#[tokio::test]
async fn what_the_target_refuses_stays_and_the_caller_hears_why() {
    let (node, ops, names) = two(&[b"one", b"two"]).await;
    let mut nowhere = across(1, &names, &[(1, 1)]);
    nowhere.to = "Nowhere".into();
    let no_mailbox = Err(MailboxError::NotFound(What::Mailbox));
    assert_eq!(ops.move_messages(nowhere).await, no_mailbox);
    let mut nobody = across(1, &names, &[(1, 1)]);
    nobody.to_account = "nobody@x".into();
    let no_account = Err(MailboxError::NotFound(What::Account));
    assert_eq!(ops.move_messages(nobody).await, no_account);
    let closed = |closed| match closed {
        true => AccountState::Closed,
        false => AccountState::Active,
    };
    ops.set_account_state(&id(2), &names[1], closed(true))
        .await
        .unwrap();
    let refused = ops.move_messages(across(1, &names, &[(1, 1)])).await;
    assert!(
        matches!(refused, Err(MailboxError::Refused(_))),
        "{refused:?}"
    );
    ops.set_account_state(&id(3), &names[1], closed(false))
        .await
        .unwrap();

    // The target's disk is nearly full: said at once, and no more is tried.
    *node.shards[1].failures.lock() = vec![ShardError::ReadOnly];
    let full = ops.move_messages(across(1, &names, &[(1, 1)])).await;
    assert_eq!(full, Err(MailboxError::ReadOnly));
    // Octets that nobody can read do not go, and keep no other transfer from going.
    node.shards[0].rot();
    let rotten = ops.move_messages(across(1, &names, &[(1, 1)])).await;
    assert!(
        matches!(rotten, Err(MailboxError::Corrupt(_))),
        "{rotten:?}"
    );
    node.shards[0].rot();
    assert_eq!(all(&ops, &names[0]).await.len(), 2);
    assert_eq!(all(&ops, &names[1]).await.len(), 0);
    let moved = ops.move_messages(across(1, &names, &[(1, 1)])).await;
    assert_eq!(moved.map(|c| c.to), Ok(vec![(1, 1)]));
    settled(&node, &ops).await;
    audit(&node);
}

#[tokio::test]
async fn one_call_takes_one_step_and_says_where_the_next_begins() {
    let (node, ops, names) = two(&[]).await;
    fill(&ops, &names[0], 1_003).await;
    let first = ops
        .move_messages(across(1, &names, &[(2, 0)]))
        .await
        .unwrap();
    assert_eq!(
        (&first.from[..], &first.to[..], first.next),
        (&[(2, 1_001)][..], &[(1, 1_000)][..], 1_002)
    );
    let again = ops.move_messages(across(1, &names, &[(2, 0)])).await;
    assert_eq!(again, Ok(first));
    let rest = ops
        .move_messages(across(2, &names, &[(1_002, 0)]))
        .await
        .unwrap();
    assert_eq!((&rest.to[..], rest.next), (&[(1_001, 1_002)][..], 0));
    settled(&node, &ops).await;
    audit(&node);
    // Octets bound a step, too; a message that is larger than that goes alone.
    let (node, ops, names) = two(&[&noise(20 << 20), b"s", &noise(20 << 20), b"s"]).await;
    for (n, from, next) in [(1, 1, 3), (2, 3, 0)] {
        let step = ops.copy(across(n, &names, &[(from, 0)])).await.unwrap();
        assert_eq!((step.to.len(), step.next), (1, next));
    }
    assert_eq!(all(&ops, &names[1]).await.len(), 4);
    settled(&node, &ops).await;
}

#[tokio::test]
async fn two_calls_for_one_move_share_the_work_and_the_answer() {
    let (node, ops, names) = two(&[b"one", b"two"]).await;
    let calls = (0..4).map(|_| ops.move_messages(across(1, &names, &[(1, 0)])));
    let answers = futures::future::join_all(calls).await;
    let sure: Vec<&Copied> = answers.iter().flatten().collect();
    assert!(!sure.is_empty(), "{answers:?}");
    assert!(sure.iter().all(|a| *a == sure[0]), "{answers:?}");
    assert_eq!(all(&ops, &names[1]).await.len(), 2);
    let arrivals = node.shards[1].log.lock();
    let arrivals = arrivals.iter().filter(|op| matches!(op, Op::Arrive(_)));
    assert_eq!(arrivals.count(), 1);
}

#[tokio::test]
async fn a_source_that_goes_on_the_way_does_not_say_that_nothing_came() {
    let (node, ops, names) = two(&[b"one"]).await;
    let source = &node.shards[0];
    // It is begun, it arrives, and its end does not get through.
    source.successes_before_failures.store(1, Ordering::Relaxed);
    *source.failures.lock() = vec![ShardError::Unknown];
    let moved = ops.move_messages(across(1, &names, &[(1, 1)])).await;
    assert!(
        matches!(moved, Err(MailboxError::Unavailable(_))),
        "{moved:?}"
    );
    assert_eq!(all(&ops, &names[1]).await, [b"one".to_vec()]);
    ops.delete_account(&id(2), &names[0]).await.unwrap();
    let led = ops.replica(ShardId(1)).unwrap();
    let at = ops.local_view(&led).unwrap();
    let open = transfers::unsettled(&*at.view, at.space, 100).unwrap();
    drop(at);
    assert!(open.len() == 1 && !open[0].1.over, "{open:?}");
    let moved = ops.carry_transfer(&led, open[0].0).await;
    assert!(
        matches!(moved, Err(MailboxError::Unavailable(_))),
        "{moved:?}"
    );
    assert_eq!(all(&ops, &names[1]).await, [b"one".to_vec()]);
}

#[tokio::test]
async fn what_is_begun_stays_open_when_its_node_cannot_end_it() {
    let cannot = [
        ShardError::NotLeader { leader: None },
        ShardError::Busy { retry_after_ms: 1 },
        ShardError::ReadOnly,
    ];
    for error in cannot {
        let (node, ops, names) = two(&[b"one"]).await;
        let source = &node.shards[0];
        // It is begun, it arrives, and its end is not taken.
        source.successes_before_failures.store(1, Ordering::Relaxed);
        *source.failures.lock() = vec![error];
        let copying = || across(1, &names, &[(1, 1)]);
        let copied = ops.copy(copying()).await;
        assert!(
            matches!(copied, Err(MailboxError::Unavailable(_))),
            "{copied:?}"
        );
        assert_eq!(all(&ops, &names[1]).await, [b"one".to_vec()]);
        let again = ops.copy(copying()).await.unwrap();
        assert_eq!(again.to, [(1, 1)]);
        assert_eq!(all(&ops, &names[1]).await.len(), 1);
    }
}

#[tokio::test]
async fn a_target_whose_window_is_full_keeps_what_it_has_of_a_transfer() {
    let large = noise(2 * CHUNK_BYTES as usize + 1);
    let (node, ops, names) = two(&[&large, b"small"]).await;
    let target = &node.shards[1];
    // One chunk gets in, and the others find the window full, more often than the whole is tried.
    target.successes_before_failures.store(1, Ordering::Relaxed);
    *target.failures.lock() = vec![ShardError::Busy { retry_after_ms: 1 }; 15];
    let moved = ops.move_messages(across(1, &names, &[(1, 0)])).await;
    assert_eq!(moved.map(|c| c.to), Ok(vec![(1, 2)]));
    {
        let log = target.log.lock();
        let chunks = log.iter().filter(|op| matches!(op, Op::PutChunk { .. }));
        assert_eq!(chunks.count(), 4, "each is sent once");
        assert!(!log.iter().any(|op| matches!(op, Op::DropUpload { .. })));
    }
    assert_eq!(all(&ops, &names[1]).await, [large, b"small".to_vec()]);
    settled(&node, &ops).await;
    audit(&node);
}

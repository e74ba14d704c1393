//! Several messages at once, one in the place of another, copies, moves, threads.

use super::super::append::{AppendHead, AppendPart};
use super::super::check::MailboxFields;
use super::super::copy::{Copied, Copy};
use super::*;
use crate::index::keys::{KeyRange, Space, tag};
use crate::index::{Family, Next, View};
use crate::machine::command::Replaced;
use crate::machine::limits::KEYWORDS_PER_MAILBOX;
use crate::machine::read;

fn append_head(n: u8, mailbox: &str, more: bool) -> AppendHead {
    AppendHead {
        request_id: id(n),
        account: "a@x".to_owned(),
        mailbox: mailbox.into(),
        more,
        ..AppendHead::default()
    }
}

/// The stream of messages with a flag each, and what follows its first head.
fn together(
    n: u8,
    mailbox: &str,
    messages: &[(&[u8], &str)],
) -> (AppendHead, Vec<Result<AppendPart>>) {
    let mut parts = Vec::new();
    for (i, (octets, flag)) in messages.iter().enumerate() {
        let mut head = append_head(n, mailbox, i + 1 < messages.len());
        head.flags = vec![flag.to_string()];
        parts.push(AppendPart::Head(head));
        let pieces = octets.chunks(300_000).map(Bytes::copy_from_slice);
        parts.extend(pieces.map(AppendPart::Data));
        parts.push(AppendPart::End);
    }
    let AppendPart::Head(first) = parts.remove(0) else {
        panic!("a head comes first")
    };
    (first, parts.into_iter().map(Ok).collect())
}

fn copy(n: u8, from: &str, uids: &[(u32, u32)], to: &str) -> Copy {
    Copy {
        request_id: id(n),
        account: "a@x".to_owned(),
        from: from.into(),
        uids: uids.to_vec(),
        to_account: String::new(),
        to: to.into(),
    }
}

/// Rows of uploads that wait for their command.
async fn uploads(node: &FakeNode) -> usize {
    let mut n = 0;
    for shard in &node.shards {
        let view = shard.read().await.unwrap().view;
        let range = KeyRange::tag(Space::FIRST, tag::UPLOAD);
        let count = &mut |_: &[u8], _: &[u8]| {
            n += 1;
            Next::Continue
        };
        view.scan(Family::State, &range.from, &range.to, count)
            .unwrap();
    }
    n
}

async fn messages(ops: &Operations, mailbox: &str) -> u64 {
    let boxes = ops.list_mailboxes("a@x").await.unwrap().mailboxes;
    let found = boxes.into_iter().find(|b| b.name.as_str() == mailbox);
    found.unwrap().messages
}

#[tokio::test]
async fn several_messages_are_appended_together() {
    let (node, ops) = node();
    account(&ops, "a@x").await;
    let large = noise(3 << 20);
    let all: [(&[u8], &str); 3] = [(b"\r\none", "\\Seen"), (&large, "$Junk"), (b"", "\\Draft")];
    let (head, parts) = together(1, "INBOX", &all);
    let stream = || futures::stream::iter(parts.clone());
    let caller = Caller::default();
    let first = ops
        .append_many(&caller, head.clone(), stream())
        .await
        .unwrap();
    assert_eq!((first.stored.uid, first.count, first.size), (1, 3, 0));
    assert_eq!(first.stored.mailbox, MailboxId(1));
    for (uid, (octets, flag)) in (1..).zip(&all) {
        assert_eq!(fetch(&ops, "a@x", uid, (0, 0)).await.unwrap(), *octets);
        let page = ops
            .list_messages("a@x", "INBOX", Some((uid, uid)), 1, false)
            .await
            .unwrap();
        assert_eq!(page.messages[0].flags, [*flag]);
    }
    assert_eq!(uploads(&node).await, 0);
    // Every message is under an upload of its own, and none travels with the command.
    let log: Vec<Op> = node
        .shards
        .iter()
        .flat_map(|s| s.log.lock().clone())
        .collect();
    let puts = log.iter().filter(|op| matches!(op, Op::PutChunk { .. }));
    assert_eq!(puts.count(), 1 + 3 + 1);
    assert!(log.iter().all(|op| !matches!(op, Op::Store(_))));
    // A retry sends it all again, and gets the first answer.
    let again = ops.append_many(&caller, head, stream()).await;
    assert_eq!(again, Ok(first));
    assert_eq!(
        (uploads(&node).await, messages(&ops, "INBOX").await),
        (0, 3)
    );
    assert_eq!(ops.window.free_bytes(), ops.limits().node_window_bytes);
}

#[tokio::test]
async fn of_several_messages_all_are_stored_or_none() {
    let (node, ops) = node();
    account(&ops, "a@x").await;
    let caller = Caller::default();
    let large = noise(2 << 20);
    let all: [(&[u8], &str); 2] = [(b"one", "a"), (&large, "b")];
    let (head, whole) = together(1, "INBOX", &all);
    let cut = |n: usize| whole[..n].to_vec();
    let with = |n: usize, part: AppendPart| [cut(n), vec![Ok(part)]].concat();
    let replacing = AppendHead {
        replace: Replaced::At(MailboxId(0), 1),
        ..append_head(1, "INBOX", false)
    };
    let flagged = AppendHead {
        flags: vec!["\\Recent".to_owned()],
        ..append_head(1, "INBOX", false)
    };
    for broken in [
        cut(0),
        cut(1),
        cut(2),
        cut(whole.len() - 1),
        with(2, AppendPart::End),
        with(1, AppendPart::Head(append_head(1, "INBOX", false))),
        with(2, AppendPart::Head(replacing)),
        with(2, AppendPart::Head(flagged)),
        [cut(4), vec![Err(MailboxError::ReadOnly)]].concat(),
    ] {
        let stream = futures::stream::iter(broken.clone());
        let result = ops.append_many(&caller, head.clone(), stream).await;
        assert!(result.is_err(), "{result:?} of {} parts", broken.len());
        settle().await;
        assert_eq!(uploads(&node).await, 0, "{} parts", broken.len());
    }
    let (nowhere, parts) = together(2, "Nowhere", &all);
    let result = ops
        .append_many(&caller, nowhere, futures::stream::iter(parts))
        .await;
    assert_eq!(result, Err(MailboxError::NotFound(What::Mailbox)));
    assert_eq!(
        (uploads(&node).await, messages(&ops, "INBOX").await),
        (0, 0)
    );
    assert_eq!(ops.window.free_bytes(), ops.limits().node_window_bytes);
}

#[tokio::test]
async fn a_message_replaces_another_or_is_not_stored() {
    let (node, ops) = node();
    account(&ops, "a@x").await;
    let caller = Caller::default();
    let draft = ops
        .append(&caller, append_head(1, "INBOX", false), pieces(b"draft", 5))
        .await
        .unwrap();
    assert_eq!((draft.count, draft.stored.mailbox), (1, MailboxId(1)));
    let large = noise(2 << 20);
    // A small one travels with the command, a large one came before.
    for (n, octets) in [(2, &b"better"[..]), (3, &large)] {
        let replacing = AppendHead {
            replace: Replaced::At(MailboxId(u32::from(n) - 2), u32::from(n) - 1),
            ..append_head(n, "INBOX", false)
        };
        let append = || ops.append(&caller, replacing.clone(), pieces(octets, 1 << 18));
        let first = append().await.unwrap();
        assert_eq!((first.stored.uid, first.count), (u32::from(n), 1));
        assert_eq!(append().await, Ok(first), "a retry");
        assert_eq!(fetch(&ops, "a@x", n.into(), (0, 0)).await.unwrap(), octets);
        assert_eq!(messages(&ops, "INBOX").await, 1);
        let late = AppendHead {
            request_id: id(n + 10),
            ..replacing.clone()
        };
        let late = ops.append(&caller, late, pieces(octets, 1 << 18)).await;
        assert_eq!(late, Err(MailboxError::NotFound(What::Message)));
        settle().await;
        assert_eq!(
            (uploads(&node).await, messages(&ops, "INBOX").await),
            (0, 1)
        );
    }
}

#[tokio::test]
async fn messages_are_copied_and_moved_by_name_and_by_number() {
    let (_, ops) = node();
    account(&ops, "a@x").await;
    fill(&ops, "a@x", 5).await;
    let (trash, _) = ops
        .create_mailbox(&id(1), "a@x", "Trash", &[])
        .await
        .unwrap();
    let first = ops.copy(copy(2, "INBOX", &[(2, 3), (5, 9)], "Trash")).await;
    let first = first.unwrap();
    assert_eq!(
        (&first.from[..], &first.to[..]),
        (&[(2, 3), (5, 5)][..], &[(1, 3)][..])
    );
    assert_eq!(first.uidvalidity, trash.uidvalidity);
    let again = ops.copy(copy(2, "INBOX", &[(2, 3), (5, 9)], "Trash")).await;
    assert_eq!(again, Ok(first));
    // The same request_id is another request when it moves.
    let inbox = MailboxFields {
        id: 1,
        ..MailboxFields::default()
    };
    let to = MailboxFields {
        id: trash.id.0,
        ..MailboxFields::default()
    };
    let moving = Copy {
        from: inbox,
        to,
        ..copy(2, "", &[(1, 0)], "")
    };
    let moved = ops.move_messages(moving.clone()).await.unwrap();
    assert_eq!(
        (&moved.from[..], &moved.to[..]),
        (&[(1, 5)][..], &[(4, 8)][..])
    );
    assert_eq!(ops.move_messages(moving.clone()).await, Ok(moved));
    assert_eq!(
        (messages(&ops, "INBOX").await, messages(&ops, "Trash").await),
        (0, 8)
    );
    let none = ops
        .move_messages(copy(3, "INBOX", &[(1, 5)], "Trash"))
        .await;
    assert_eq!(none.map(|c| (c.from, c.to)), Ok((vec![], vec![])));
    let mut other_era = moving;
    other_era.request_id = id(4);
    other_era.from.uidvalidity = 1;
    let no_mailbox = Err(MailboxError::NotFound(What::Mailbox));
    assert_eq!(ops.copy(other_era).await, no_mailbox);
    assert_eq!(
        ops.copy(copy(4, "Trash", &[(1, 1)], "Nowhere")).await,
        no_mailbox
    );
    for (bad, field) in [
        (copy(4, "Trash", &[], "INBOX"), "uids"),
        (copy(4, "Trash", &[(1, 1)], ""), "to"),
        (copy(4, "", &[(1, 1)], "INBOX"), "mailbox"),
    ] {
        match ops.copy(bad).await {
            Err(MailboxError::BadRequest { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn huge_copies_go_in_steps_and_a_retry_changes_nothing() {
    let (node, ops) = node();
    account(&ops, "a@x").await;
    fill(&ops, "a@x", 10_500).await;
    ops.create_mailbox(&id(5), "a@x", "Few", &[]).await.unwrap();
    // A few are copied at once, wherever they are.
    let few = ops.copy(copy(
        6,
        "INBOX",
        &[(9_999, 10_000), (10_400, 10_400)],
        "Few",
    ));
    assert_eq!(few.await.unwrap().to, [(1, 3)]);
    let logs = node.shards.iter().flat_map(|s| s.log.lock().clone());
    assert_eq!(logs.filter(|op| matches!(op, Op::Copy(_))).count(), 1);
    ops.create_mailbox(&id(1), "a@x", "All", &[]).await.unwrap();
    let all = |n| copy(n, "INBOX", &[(1, 0)], "All");
    let whole = |copied: Copied| (copied.from, copied.to);
    let copied = ops.copy(all(2)).await.unwrap();
    assert_eq!(
        whole(copied.clone()),
        (vec![(1, 10_500)], vec![(1, 10_500)])
    );
    assert_eq!(ops.copy(all(2)).await, Ok(copied));
    assert_eq!(messages(&ops, "All").await, 10_500);
    // Inside one mailbox, copies are not copied: not by a later step, not by a retry.
    let inside = || copy(3, "INBOX", &[(1, 0)], "INBOX");
    let copied = ops.copy(inside()).await.unwrap();
    assert_eq!(
        whole(copied.clone()),
        (vec![(1, 10_500)], vec![(10_501, 21_000)])
    );
    assert_eq!(ops.copy(inside()).await, Ok(copied));
    assert_eq!(messages(&ops, "INBOX").await, 21_000);
    let moved = ops.move_messages(copy(4, "All", &[(1, 0)], "INBOX")).await;
    assert_eq!(
        moved.map(whole),
        Ok((vec![(1, 10_500)], vec![(21_001, 31_500)]))
    );
    assert_eq!(
        (messages(&ops, "All").await, messages(&ops, "INBOX").await),
        (0, 31_500)
    );
}

#[tokio::test]
async fn a_copy_that_is_refused_in_a_later_step_is_taken_back() {
    let (_, ops) = node();
    account(&ops, "a@x").await;
    fill(&ops, "a@x", 10_001).await;
    ops.create_mailbox(&id(1), "a@x", "Full", &[])
        .await
        .unwrap();
    // All numbers of keywords but one are given.
    let caller = Caller::default();
    let keywords: Vec<String> = (1..KEYWORDS_PER_MAILBOX).map(|n| format!("k{n}")).collect();
    for (n, some) in keywords.chunks(100).enumerate() {
        let head = AppendHead {
            request_id: [[n as u8; 8], *b"keywords"].concat(),
            flags: some.to_vec(),
            ..append_head(0, "Full", false)
        };
        ops.append(&caller, head, pieces(b"x", 1)).await.unwrap();
    }
    let flag = |n, uid, name: &str| SetFlags {
        request_id: id(n),
        account: "a@x".to_owned(),
        mailbox: "INBOX".into(),
        uids: vec![(uid, uid)],
        mode: FlagMode::Add,
        flags: vec![name.to_owned()],
        unchanged_since: None,
    };
    ops.set_flags(flag(2, 1, "new")).await.unwrap();
    ops.set_flags(flag(3, 10_001, "newer")).await.unwrap();
    let all = |n| copy(n, "INBOX", &[(1, 0)], "Full");
    let refused = ops.copy(all(4)).await;
    assert!(
        matches!(refused, Err(MailboxError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(messages(&ops, "Full").await, 100, "what was there before");
    // Its steps would answer what they answered before: the request is used up.
    ops.set_flags(SetFlags {
        mode: FlagMode::Remove,
        ..flag(5, 10_001, "newer")
    })
    .await
    .unwrap();
    let again = ops.copy(all(4)).await;
    assert!(matches!(again, Err(MailboxError::Refused(_))), "{again:?}");
    assert_eq!(messages(&ops, "Full").await, 100);
    let copied = ops.copy(all(6)).await.unwrap();
    assert_eq!(copied.from, [(1, 10_001)]);
    assert_eq!(messages(&ops, "Full").await, 10_101);
}

#[tokio::test]
async fn an_unknown_outcome_of_a_step_is_gone_on_from() {
    let (node, ops) = node();
    account(&ops, "a@x").await;
    fill(&ops, "a@x", 10_001).await;
    ops.create_mailbox(&id(1), "a@x", "All", &[]).await.unwrap();
    let all = || copy(2, "INBOX", &[(1, 0)], "All");
    // Taken from the end: the first step finds the shard busy, the next outcome is unknown.
    for shard in &node.shards {
        let busy = ShardError::Busy { retry_after_ms: 1 };
        *shard.failures.lock() = vec![ShardError::Unknown, busy];
    }
    let lost = ops.copy(all()).await;
    assert!(
        matches!(lost, Err(MailboxError::Unavailable(_))),
        "{lost:?}"
    );
    let copied = ops.copy(all()).await.unwrap();
    assert_eq!(copied.to, [(1, 10_001)]);
    assert_eq!(messages(&ops, "All").await, 10_001);
}

#[tokio::test]
async fn an_answer_is_in_the_thread_of_what_it_answers() {
    let (node, ops) = node();
    account(&ops, "a@x").await;
    let mails = [
        "Message-ID: <1@x>\r\nSubject: Post\r\n\r\n",
        "Message-ID: <2@x>\r\nIn-Reply-To: <1@x>\r\nSubject: Re: Post\r\n\r\n",
        "Message-ID: <3@x>\r\nReferences: <1@x>\r\nSubject: Else\r\n\r\n",
        "Message-ID: <4@x>\r\nReferences: <1@x> <2@x>\r\nSubject: AW: Post\r\n\r\n",
    ];
    let caller = Caller::default();
    for (n, mail) in (1u8..).zip(&mails[..2]) {
        let delivered = ops
            .deliver(&caller, head(n, &["a@x"]), pieces(mail.as_bytes(), 9))
            .await
            .unwrap();
        assert!(delivered.results[0].outcome.is_ok());
    }
    let rest = [(mails[2].as_bytes(), "a"), (mails[3].as_bytes(), "b")];
    let (first, parts) = together(9, "INBOX", &rest);
    ops.append_many(&caller, first, futures::stream::iter(parts))
        .await
        .unwrap();
    let name = AccountName::new("a@x").unwrap();
    let shard = ops.routes().shard_of(Slot::of(&name)).unwrap();
    let at = node.shards[shard.0 as usize - 1].read().await.unwrap();
    let (view, space): (&dyn View, _) = (&*at.view, at.space);
    let (account, _) = read::account(view, space, &name).unwrap().unwrap();
    let thread = |n| {
        let row = read::email(view, space, account, EmailId(n)).unwrap();
        row.unwrap().thread.0
    };
    assert_eq!([1, 2, 3, 4].map(thread), [1, 1, 3, 1]);
}

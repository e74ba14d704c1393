//! Mailboxes, from request fields to answers.

use roaring::RoaringBitmap;

use super::*;
use crate::mailbox::check::MailboxFields;
use crate::mailbox::create_mailbox::MailboxInfo;

const ANN: &str = "a@x";

async fn ann() -> (Arc<FakeNode>, Arc<Operations>) {
    let (node, ops) = node();
    account(&ops, ANN).await;
    (node, ops)
}

fn by_number(info: &MailboxInfo) -> MailboxFields {
    MailboxFields {
        id: info.id.0,
        uidvalidity: info.uidvalidity,
        ..MailboxFields::default()
    }
}

async fn create(ops: &Operations, n: u8, name: &str) -> MailboxInfo {
    let created = ops.create_mailbox(&id(n), ANN, name, &[]).await;
    created.unwrap().0
}

async fn names(ops: &Operations) -> Vec<String> {
    let list = ops.list_mailboxes(ANN).await.unwrap();
    let mut names: Vec<String> = list.mailboxes.iter().map(|m| m.name.to_string()).collect();
    names.sort();
    names
}

/// Uids of a mailbox.
async fn uids(ops: &Operations, mailbox: &str) -> Vec<u32> {
    let opened = ops.open_mailbox(ANN, mailbox).await.unwrap();
    opened.uids.iter().collect()
}

fn field_of<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Err(MailboxError::BadRequest { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_created_mailbox_is_listed_with_its_parents_and_uses() {
    let (_, ops) = ann().await;
    ops.subscribe(&id(1), ANN, "Work/Sent", true).await.unwrap();
    let uses = ["\\sent".to_owned(), "\\Archive".to_owned()];
    let created = ops.create_mailbox(&id(2), ANN, "Work/Sent", &uses).await;
    let (info, modseq) = created.clone().unwrap();
    assert_eq!((info.special_use, info.subscribed), (1 << 5 | 1 << 1, true));
    assert_eq!((info.highest_modseq, info.uidnext), (modseq, 1));
    let again = ops.create_mailbox(&id(2), ANN, "Work/Sent", &uses).await;
    assert_eq!(again, created);

    let list = ops.list_mailboxes(ANN).await.unwrap();
    assert_eq!(names(&ops).await, ["INBOX", "Work", "Work/Sent"]);
    assert_eq!(list.mailboxes.last(), Some(&info));
    assert_eq!(list.subscriptions, ["Work/Sent"]);
    assert_eq!(list.highest_modseq, modseq);
    let set = ops
        .set_special_use(&id(3), ANN, by_number(&info), &[])
        .await;
    assert_eq!(set, Ok(modseq + 1));
    let opened = ops.open_mailbox(ANN, by_number(&info)).await.unwrap();
    assert_eq!(opened.mailbox.special_use, 0);

    let bad = ["\\Sent".to_owned(), "\\Outbox".to_owned()];
    let made = ops.create_mailbox(&id(4), ANN, "x", &bad).await;
    assert_eq!(field_of(made), "special_use[1]");
    let made = ops.create_mailbox(&id(4), ANN, "x//y", &[]).await;
    assert_eq!(field_of(made), "mailbox");
    assert_eq!(
        ops.create_mailbox(&id(5), ANN, "Work", &[]).await,
        Err(MailboxError::AlreadyExists(What::Mailbox))
    );
}

#[tokio::test]
async fn a_deleted_mailbox_is_not_found_and_its_successor_is_another() {
    let (_, ops) = ann().await;
    let first = create(&ops, 1, "Work/Old").await;
    let parent = ops.open_mailbox(ANN, "Work").await.unwrap().mailbox;
    let modseq = ops.delete_mailbox(&id(2), ANN, by_number(&parent)).await;
    assert_eq!(
        ops.delete_mailbox(&id(2), ANN, by_number(&parent)).await,
        modseq
    );
    assert_eq!(names(&ops).await, ["INBOX", "Work/Old"]);
    let gone = MailboxError::NotFound(What::Mailbox);
    assert_eq!(ops.open_mailbox(ANN, "Work").await, Err(gone.clone()));
    let listed = ops.list_messages(ANN, by_number(&parent), None, 0, false);
    assert_eq!(listed.await, Err(gone.clone()));

    let next = create(&ops, 3, "Work").await;
    assert!(next.id > parent.id && next.uidvalidity > parent.uidvalidity);
    let mut wrong = by_number(&first);
    wrong.uidvalidity += 1;
    assert_eq!(ops.delete_mailbox(&id(4), ANN, wrong).await, Err(gone));
    let inbox = ops.delete_mailbox(&id(5), ANN, "inbox").await;
    assert!(matches!(inbox, Err(MailboxError::Refused(_))), "{inbox:?}");
}

#[tokio::test]
async fn a_renamed_mailbox_is_the_same_under_its_number() {
    let (_, ops) = ann().await;
    let old = create(&ops, 1, "Work/Old").await;
    create(&ops, 2, "Home").await;
    let renamed = ops.rename_mailbox(&id(3), ANN, "Work", "Home/Job").await;
    let (info, modseq) = renamed.clone().unwrap();
    assert_eq!(info.name.as_str(), "Home/Job");
    assert_eq!(
        ops.rename_mailbox(&id(3), ANN, "Work", "Home/Job").await,
        renamed
    );
    assert_eq!(
        names(&ops).await,
        ["Home", "Home/Job", "Home/Job/Old", "INBOX"]
    );
    let opened = ops.open_mailbox(ANN, by_number(&old)).await.unwrap();
    assert_eq!(opened.mailbox.name.as_str(), "Home/Job/Old");
    assert_eq!(opened.mailbox.highest_modseq, modseq);

    for (from, to, error) in [
        ("Nowhere", "x", MailboxError::NotFound(What::Mailbox)),
        ("Home", "Home/Job", MailboxError::Refused(String::new())),
        (
            "Home/Job",
            "Home",
            MailboxError::AlreadyExists(What::Mailbox),
        ),
        ("INBOX", "Home", MailboxError::AlreadyExists(What::Mailbox)),
    ] {
        let got = ops.rename_mailbox(&id(4), ANN, from, to).await.unwrap_err();
        let same = std::mem::discriminant(&got) == std::mem::discriminant(&error);
        assert!(same, "{from} to {to}: {got:?}");
    }
    let bad = ops.rename_mailbox(&id(5), ANN, "Home", "").await;
    assert_eq!(field_of(bad), "to");
}

#[tokio::test]
async fn renaming_inbox_moves_what_was_in_it_and_a_retry_nothing_else() {
    let (node, ops) = ann().await;
    fill(&ops, ANN, 20_100).await;
    create(&ops, 1, "INBOX/Child").await;
    let inbox = ops.open_mailbox(ANN, "INBOX").await.unwrap().mailbox;
    let moves = || {
        let logs = node.shards.iter().flat_map(|s| s.log.lock().clone());
        logs.filter(|op| matches!(op, Op::Move(_))).count()
    };

    // The first try breaks off after the target is made and one of three steps is done.
    let shard = node
        .shard_of(Slot::of(&AccountName::new(ANN).unwrap()))
        .unwrap();
    let shard = &node.shards[shard.0 as usize - 1];
    shard.failures.lock().push(ShardError::Unknown);
    shard.successes_before_failures.store(2, Ordering::Relaxed);
    let broken = ops
        .rename_mailbox(&id(2), ANN, by_number(&inbox), "Old/Mail")
        .await;
    assert!(
        matches!(broken, Err(MailboxError::Unavailable(_))),
        "{broken:?}"
    );
    assert_eq!(moves(), 1);
    // Mail goes on arriving, some of it in a later block of uids.
    fill_more(&ops, 10_000).await;

    let renamed = ops
        .rename_mailbox(&id(2), ANN, by_number(&inbox), "Old/Mail")
        .await;
    let (info, modseq) = renamed.unwrap();
    assert_eq!((info.name.as_str(), info.messages), ("Old/Mail", 20_100));
    // INBOX changed after it: what left it came first.
    assert!(info.highest_modseq < modseq);
    assert_eq!(moves(), 4, "the first step again, for its first answer");
    let left = ops.open_mailbox(ANN, "INBOX").await.unwrap();
    assert_eq!((left.mailbox.id, left.mailbox.messages), (inbox.id, 10_000));
    assert_eq!(left.uids.min(), Some(20_101));
    assert_eq!(
        names(&ops).await,
        ["INBOX", "INBOX/Child", "Old", "Old/Mail"]
    );

    // A late retry changes nothing, also after mail came.
    let again = ops.rename_mailbox(&id(2), ANN, "INBOX", "Old/Mail").await;
    assert_eq!(again.unwrap().0.messages, 20_100);
    assert_eq!(uids(&ops, "INBOX").await.len(), 10_000);
    assert_eq!(ops.usage(ANN).await.unwrap().messages, 30_100);
}

async fn fill_more(ops: &Operations, messages: u32) {
    for n in 0..messages {
        let head = DeliverHead {
            request_id: [n.to_le_bytes(), *b"more", *b"more", *b"more"].concat(),
            recipients: to(&[ANN]),
            ..DeliverHead::default()
        };
        ops.deliver(&Caller::default(), head, pieces(b"more", 4))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_empty_inbox_is_renamed_without_a_move() {
    let (node, ops) = ann().await;
    let renamed = ops.rename_mailbox(&id(1), ANN, "inbox", "Old").await;
    assert_eq!(renamed.unwrap().0.messages, 0);
    assert_eq!(names(&ops).await, ["INBOX", "Old"]);
    let mut logs = node.shards.iter().flat_map(|s| s.log.lock().clone());
    assert!(!logs.any(|op| matches!(op, Op::Move(_))));
}

#[tokio::test]
async fn an_opened_mailbox_says_what_a_session_needs() {
    let (_, ops) = ann().await;
    fill(&ops, ANN, 12).await;
    let change = |n: u8, uids: Vec<(u32, u32)>, flags: &[&str]| SetFlags {
        request_id: id(n),
        account: ANN.to_owned(),
        mailbox: "INBOX".into(),
        uids,
        mode: FlagMode::Add,
        flags: flags.iter().map(|f| f.to_string()).collect(),
        unchanged_since: None,
    };
    ops.set_flags(change(1, vec![(1, 5)], &["\\Seen", "$Junk", "two"]))
        .await
        .unwrap();
    let expunge = Expunge {
        request_id: id(2),
        account: ANN.to_owned(),
        mailbox: "INBOX".into(),
        uids: vec![(3, 3), (9, 10)],
        force: true,
    };
    ops.expunge(expunge).await.unwrap();
    let opened = ops.open_mailbox(ANN, "INBOX").await.unwrap();
    let left = [1, 2, 4, 5, 6, 7, 8, 11, 12];
    assert_eq!(opened.uids, RoaringBitmap::from_iter(left));
    let portable = opened.uids_portable();
    let read = RoaringBitmap::deserialize_from(&portable[..]).unwrap();
    assert_eq!(read, opened.uids);
    assert_eq!(opened.first_unseen, Some(6));
    assert_eq!(opened.keywords, [(0, "$Junk".into()), (1, "two".into())]);
    let counters = (opened.mailbox.messages, opened.mailbox.unseen);
    assert_eq!(counters, (9, 5));
    assert_eq!((opened.mailbox.uidnext, opened.trimmed_modseq), (13, 0));
    ops.set_flags(change(3, vec![(1, 0)], &["\\Seen"]))
        .await
        .unwrap();
    let opened = ops.open_mailbox(ANN, "INBOX").await.unwrap();
    assert_eq!(opened.first_unseen, None);
    create(&ops, 4, "Empty").await;
    let opened = ops.open_mailbox(ANN, "Empty").await.unwrap();
    assert!(opened.uids.is_empty() && opened.first_unseen.is_none());
}

#[tokio::test]
async fn subscriptions_outlive_their_mailbox() {
    let (_, ops) = ann().await;
    create(&ops, 1, "Work").await;
    let on = ops.subscribe(&id(2), ANN, "Work", true).await.unwrap();
    assert_eq!(ops.subscribe(&id(3), ANN, "Work", true).await, Ok(on));
    let page = ops
        .list_messages(ANN, "Work", None, 0, false)
        .await
        .unwrap();
    assert!(page.mailbox.subscribed);
    ops.delete_mailbox(&id(4), ANN, "Work").await.unwrap();
    let list = ops.list_mailboxes(ANN).await.unwrap();
    assert_eq!(
        (list.mailboxes.len(), list.subscriptions),
        (1, vec!["Work".to_owned()])
    );
    assert!(create(&ops, 5, "Work").await.subscribed);
    ops.subscribe(&id(6), ANN, "Work", false).await.unwrap();
    assert!(
        ops.list_mailboxes(ANN)
            .await
            .unwrap()
            .subscriptions
            .is_empty()
    );
}

#[tokio::test]
async fn annotations_are_of_a_mailbox_or_of_the_account() {
    let (_, ops) = ann().await;
    let work = create(&ops, 1, "Work").await;
    let set =
        |entry: &str, value: Option<&[u8]>| vec![(entry.to_owned(), value.map(<[u8]>::to_vec))];
    let modseq = ops
        .set_metadata(
            &id(2),
            ANN,
            by_number(&work),
            set("/Private/Comment", Some(b"\0\xff")),
        )
        .await
        .unwrap();
    ops.set_metadata(&id(3), ANN, "", set("/shared/admin", Some(b"")))
        .await
        .unwrap();
    let found = ops.get_metadata(ANN, "Work").await.unwrap();
    assert_eq!(
        found.entries,
        [("/private/comment".into(), b"\0\xff".to_vec())]
    );
    assert_eq!(found.modseq, modseq + 1);
    let found = ops.get_metadata(ANN, "").await.unwrap();
    assert_eq!(found.entries, [("/shared/admin".into(), Vec::new())]);
    ops.set_metadata(&id(4), ANN, "", set("/shared/ADMIN", None))
        .await
        .unwrap();
    assert!(ops.get_metadata(ANN, "").await.unwrap().entries.is_empty());
    assert_eq!(
        ops.get_metadata(ANN, "Nowhere").await,
        Err(MailboxError::NotFound(What::Mailbox))
    );
    let bad = ops.set_metadata(&id(5), ANN, "", set("/other", None)).await;
    assert_eq!(field_of(bad), "annotations[0].entry");
    let none = ops.set_metadata(&id(5), ANN, "", vec![]).await;
    assert_eq!(field_of(none), "annotations");
}

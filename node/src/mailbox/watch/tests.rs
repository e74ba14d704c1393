//! Streams of changes over a machine without Raft, with the clock paused.

use std::sync::atomic::Ordering as Atomic;

use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::super::fake::{FakeNode, id, node};
use super::*;
use crate::machine::command::{Command, Op};

struct Client {
    node: Arc<FakeNode>,
    ops: Arc<Operations>,
    requests: mpsc::UnboundedSender<Result<WatchChange>>,
    events: BoxStream<'static, Result<Vec<WatchEvent>>>,
}

fn watch(node: &Arc<FakeNode>, ops: &Arc<Operations>) -> Client {
    let (requests, rx) = mpsc::unbounded_channel();
    let events = ops.watch(UnboundedReceiverStream::new(rx).boxed()).boxed();
    Client {
        node: Arc::clone(node),
        ops: Arc::clone(ops),
        requests,
        events,
    }
}

fn start() -> Client {
    let (node, ops) = node();
    watch(&node, &ops)
}

impl Client {
    fn add(&self, account: &str, since: ModSeq) {
        let add = vec![(account.to_owned(), since)];
        let remove = Vec::new();
        self.requests.send(Ok(WatchChange { add, remove })).unwrap();
    }

    fn remove(&self, account: &str) {
        let remove = vec![account.to_owned()];
        let add = Vec::new();
        self.requests.send(Ok(WatchChange { add, remove })).unwrap();
    }

    async fn create(&self, account: &str) {
        let hash = blake3::hash(account.as_bytes());
        let request_id = &hash.as_bytes()[..16];
        self.ops.create_account(request_id, account).await.unwrap();
    }

    /// Changes something: mailbox `m1`, `m2` … is created.
    async fn change(&self, account: &str, n: u32) -> ModSeq {
        let name = AccountName::new(account).unwrap();
        let shard = self.ops.replica_of(&name).unwrap();
        let op = Op::CreateMailbox {
            request_id: RequestId::try_from(&*id(n as u8)).unwrap(),
            account: name,
            mailbox: MailboxName::new(&format!("m{n}")).unwrap(),
            special_use: 0,
        };
        let command = Command { time_ms: 1, op };
        shard
            .replica
            .propose(command, bytes::Bytes::new())
            .await
            .unwrap();
        self.ops.get_account(account).await.unwrap().highest_modseq
    }

    async fn next(&mut self) -> Vec<WatchEvent> {
        self.events.next().await.unwrap().unwrap()
    }

    /// The next events but the signs of life.
    async fn one(&mut self) -> WatchEvent {
        loop {
            let mut events = self.next().await;
            if let Some(event) = events.pop() {
                assert!(events.is_empty(), "{events:?}");
                return event;
            }
        }
    }

    /// Nothing comes until the stream says that it lives.
    async fn quiet(&mut self) {
        assert_eq!(self.next().await, []);
    }

    fn watched(&self) -> usize {
        self.ops.hub().watched.load(Atomic::Relaxed)
    }
}

fn changed(account: &str, modseq: ModSeq, mailboxes: &[u32]) -> WatchEvent {
    WatchEvent {
        account: AccountName::new(account).unwrap(),
        modseq,
        mailboxes: mailboxes.iter().copied().map(MailboxId).collect(),
        resync: false,
        gone: false,
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_comes_at_once_and_the_rest_as_it_happens() {
    let mut c = start();
    c.create("a@x").await;
    c.change("a@x", 1).await;
    let seen = c.change("a@x", 2).await;
    c.add("a@x", 1);
    assert_eq!(c.one().await, changed("a@x", seen, &[2, 3]));
    for n in 3..6 {
        let modseq = c.change("a@x", n).await;
        assert_eq!(c.one().await, changed("a@x", modseq, &[n + 1]));
    }
    // Who has seen everything hears nothing, and who names it again is told again.
    c.add("a@x", seen + 3);
    c.quiet().await;
    c.add("A@X", seen + 2);
    assert_eq!(c.one().await, changed("a@x", seen + 3, &[6]));
    c.quiet().await;
    c.remove("a@x");
    c.change("a@x", 9).await;
    c.quiet().await;
    assert_eq!(c.watched(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_finds_one_event_and_others_none() {
    let mut c = start();
    for account in ["a@x", "b@x"] {
        c.create(account).await;
    }
    c.add("a@x", 1);
    c.quiet().await;
    let mut last = 0;
    for n in 1..200 {
        last = c.change("a@x", n).await;
        c.change("b@x", n).await;
    }
    {
        let notes = c.ops.hub().subscribers.lock();
        let pending: usize = notes
            .inboxes
            .values()
            .map(|i| i.notes.lock().accounts.len())
            .sum();
        assert_eq!(pending, 1);
    }
    let all: Vec<u32> = (2..201).collect();
    assert_eq!(c.one().await, changed("a@x", last, &all));
    c.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn several_streams_hear_the_same_and_end_apart() {
    let mut one = start();
    let mut two = watch(&one.node, &one.ops);
    one.create("a@x").await;
    one.add("a@x", 1);
    two.add("a@x", 1);
    one.quiet().await;
    two.quiet().await;
    let modseq = one.change("a@x", 1).await;
    assert_eq!(one.one().await, changed("a@x", modseq, &[2]));
    assert_eq!(two.one().await, changed("a@x", modseq, &[2]));
    drop(two);
    assert_eq!(one.watched(), 1);
    let modseq = one.change("a@x", 2).await;
    assert_eq!(one.one().await, changed("a@x", modseq, &[3]));
    let hub = Arc::clone(one.ops.hub());
    drop(one);
    assert_eq!(hub.watched.load(Atomic::Relaxed), 0);
    assert!(hub.subscribers.lock().inboxes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn modseqs_that_lead_nowhere_are_told_to_read_anew() {
    let mut c = start();
    c.create("a@x").await;
    c.add("a@x", 77);
    let anew = WatchEvent {
        resync: true,
        ..changed("a@x", 1, &[])
    };
    assert_eq!(c.one().await, anew);
    let name = AccountName::new("a@x").unwrap();
    let led = c.ops.replica_of(&name).unwrap();
    let set = |n: u64| Op::SetPassword {
        request_id: RequestId(u128::from(n).to_be_bytes()),
        account: name.clone(),
        hash: Some(n.to_string()),
    };
    let most = c.ops.limits.watch_changes;
    for n in 0..=most {
        let (op, time_ms) = (set(n), 2);
        let command = Command { time_ms, op };
        led.replica
            .propose(command, bytes::Bytes::new())
            .await
            .unwrap();
    }
    // More than are looked at for one event.
    let highest = most + 2;
    let event = c.one().await;
    assert_eq!((event.modseq, event.resync), (highest, true));
    // The last few are, as long as they are kept.
    c.add("a@x", highest - 2);
    assert_eq!(c.one().await, changed("a@x", highest, &[]));
    for n in 1..=400 {
        let op = set(10_000 + n);
        let time_ms = 1 << 42;
        let command = Command { time_ms, op };
        led.replica
            .propose(command, bytes::Bytes::new())
            .await
            .unwrap();
    }
    assert_eq!(c.one().await, changed("a@x", highest + 400, &[]));
    // Four of the old ones went with each.
    c.add("a@x", highest);
    assert_eq!(c.one().await, changed("a@x", highest + 400, &[]));
    c.add("a@x", highest - 3);
    let event = c.one().await;
    assert_eq!((event.modseq, event.resync), (highest + 400, true));
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_deleted_or_never_was_is_gone() {
    let mut c = start();
    c.create("a@x").await;
    c.add("nobody@x", 0);
    let gone = |account: &str| WatchEvent::gone(AccountName::new(account).unwrap());
    assert_eq!(c.one().await, gone("nobody@x"));
    c.add("a@x", 1);
    c.quiet().await;
    c.change("a@x", 1).await;
    c.ops.delete_account(&id(9), "a@x").await.unwrap();
    assert_eq!(c.one().await, gone("a@x"));
    assert_eq!(c.watched(), 0);
    // A later one of the same name is another, and is watched only when it is named again.
    c.ops.create_account(&id(8), "a@x").await.unwrap();
    c.quiet().await;
    c.add("a@x", 2);
    let event = c.one().await;
    assert!(event.resync && event.modseq == 1, "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leads_no_more_ends_the_stream_and_says_who_does() {
    for with_event in [false, true] {
        let mut c = start();
        c.create("a@x").await;
        c.add("a@x", 1);
        c.quiet().await;
        if with_event {
            c.change("a@x", 1).await;
        }
        for shard in &c.node.shards {
            shard.leads.store(false, Atomic::Relaxed);
        }
        let began = Instant::now();
        let error = c.events.next().await.unwrap().unwrap_err();
        assert!(
            matches!(
                &error,
                MailboxError::WrongLeader {
                    leader: Some(NodeId(2)),
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(began.elapsed() <= LEADS_EVERY);
        assert!(c.events.next().await.is_none());
        assert_eq!(c.watched(), 0);
        // Nor does it take up any there.
        let mut again = watch(&c.node, &c.ops);
        again.add("a@x", 1);
        let error = again.events.next().await.unwrap().unwrap_err();
        assert!(matches!(error, MailboxError::WrongLeader { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_says_that_it_lives_and_ends_with_its_caller() {
    let mut c = start();
    let began = Instant::now();
    for n in 1..4 {
        c.quiet().await;
        assert_eq!(began.elapsed(), BEAT_EVERY * n);
    }
    let Client {
        requests,
        mut events,
        ..
    } = c;
    drop(requests);
    assert!(events.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn rows_that_a_snapshot_replaced_end_all_streams() {
    let mut c = start();
    c.create("a@x").await;
    c.add("a@x", 1);
    c.quiet().await;
    c.ops.hub().interrupt();
    let error = c.events.next().await.unwrap().unwrap_err();
    assert!(matches!(error, MailboxError::Unavailable(_)));
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_watches_is_bounded_and_checked() {
    let mut c = start();
    let add = (0..=MAX_WATCHED).map(|n| (format!("u{n}@x"), 0)).collect();
    let remove = Vec::new();
    c.requests.send(Ok(WatchChange { add, remove })).unwrap();
    let error = c.events.next().await.unwrap().unwrap_err();
    assert!(matches!(error, MailboxError::Refused(_)), "{error:?}");
    let mut c = start();
    c.add("a\nb", 0);
    let error = c.events.next().await.unwrap().unwrap_err();
    assert!(
        matches!(error, MailboxError::BadRequest { .. }),
        "{error:?}"
    );
    // Many at once come in several answers.
    let mut c = start();
    let add = (0..500).map(|n| (format!("u{n}@x"), 0)).collect();
    let remove = Vec::new();
    c.requests.send(Ok(WatchChange { add, remove })).unwrap();
    let mut gone = 0;
    while gone < 500 {
        let events = c.next().await;
        assert!(events.len() <= EVENTS && events.iter().all(|e| e.gone));
        gone += events.len();
    }
}

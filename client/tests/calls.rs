//! The client library against a pretended cluster: routing, hints, retries and streams for real,
//! over loopback.

#![allow(clippy::disallowed_methods)]

mod fake;

use std::time::{Duration, Instant};

use bytes::Bytes;
use fake::FakeCluster;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use posthouse_client::body::Pieces;
use posthouse_client::ids::{AccountName, BlobId, MailboxName, RequestId};
use posthouse_client::*;

fn client(cluster: &FakeCluster) -> Client {
    let addrs: Vec<String> = (1..=3).map(|n| cluster.addr(n)).collect();
    Client::new(&addrs, Settings::default()).unwrap()
}

fn octets(len: usize) -> Bytes {
    (0..len as u64).map(|i| (i * i % 251) as u8).collect()
}

fn delivery(id: u8, recipients: &[&AccountName]) -> Delivery {
    Delivery {
        identity: Identity::Request(RequestId([id; 16])),
        recipients: recipients
            .iter()
            .map(|a| Recipient::inbox(AccountName::clone(a)))
            .collect(),
        internal_date_ms: 0,
    }
}

fn count(cluster: &FakeCluster, name: &str) -> usize {
    let world = cluster.world.lock();
    world.calls.iter().filter(|(_, n)| *n == name).count()
}

fn mail(cluster: &FakeCluster, account: &AccountName) -> Vec<Bytes> {
    cluster.world.lock().mail[account.as_str()].clone()
}

#[tokio::test]
async fn one_upload_a_leader_and_one_result_a_recipient_in_order() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let [a, b, c] = [(1, "a"), (2, "b"), (1, "c")].map(|(s, p)| cluster.account_of(s, p));
    let nobody = AccountName::new("nobody@example.org").unwrap();
    let body = octets(700_000);
    let answer = client
        .deliver(&delivery(1, &[&a, &b, &nobody, &c]), &body)
        .await
        .unwrap();
    assert_eq!(answer.blob_id, Some(BlobId::of(&body)));
    assert_eq!(answer.size, 700_000);
    assert!(matches!(&answer.results[2], Err(Error::NotFound { what, .. }) if what == "account"));
    for (account, i) in [(&a, 0), (&b, 1), (&c, 3)] {
        assert_eq!(answer.results[i].as_ref().unwrap().uid, 1);
        assert_eq!(mail(&cluster, account), std::slice::from_ref(&body));
    }
    assert_eq!(count(&cluster, "deliver"), 2);
}

#[tokio::test]
async fn hints_are_followed_and_remembered() {
    let cluster = FakeCluster::start().await;
    cluster.world.lock().told_leaders.insert(1, 3);
    let client = client(&cluster);
    let a = cluster.account_of(1, "a");
    client.get_account(&a).await.unwrap();
    client.get_account(&a).await.unwrap();
    let calls = cluster.world.lock().calls.clone();
    let gets: Vec<u64> = calls
        .iter()
        .filter(|(_, n)| *n == "get")
        .map(|(node, _)| *node)
        .collect();
    assert_eq!(gets, [3, 1, 1]);
}

#[tokio::test]
async fn without_hints_the_leader_is_found_by_asking_round() {
    let cluster = FakeCluster::start().await;
    {
        let mut world = cluster.world.lock();
        world.hints = false;
        world.told_leaders.insert(1, 0);
        world.shards.get_mut(&1).unwrap().2 = 3;
    }
    let client = client(&cluster);
    let a = cluster.account_of(1, "a");
    let started = Instant::now();
    client.get_account(&a).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(500));
    assert_eq!(count(&cluster, "get"), 3);
}

#[tokio::test]
async fn a_lost_answer_and_a_dead_leader_do_not_double_a_message() {
    let mut cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let [a, b] = [(1, "a"), (2, "b")].map(|(s, p)| cluster.account_of(s, p));
    cluster.world.lock().lost_answers = 2;
    let body = octets(5000);
    let answer = client.deliver(&delivery(2, &[&a, &b]), &body).await;
    let answer = answer.unwrap();
    assert!(answer.results.iter().all(|r| r.as_ref().unwrap().duplicate));

    cluster.kill(1);
    cluster.world.lock().shards.get_mut(&1).unwrap().2 = 3;
    let again = client.deliver(&delivery(2, &[&a, &b]), &body).await;
    assert!(again.unwrap().results.iter().all(|r| r.is_ok()));
    let started = Instant::now();
    let next = client.deliver(&delivery(3, &[&a]), &body).await.unwrap();
    assert!(next.results[0].is_ok());
    assert!(started.elapsed() < Duration::from_millis(500));
    assert_eq!(mail(&cluster, &a).len(), 2);
    assert_eq!(mail(&cluster, &b).len(), 1);
}

#[tokio::test]
async fn a_call_waits_for_an_election_and_little_longer() {
    let mut cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let a = cluster.account_of(1, "a");
    client.get_account(&a).await.unwrap();
    cluster.kill(1);
    let world = cluster.world.clone();
    let election = Duration::from_millis(900);
    tokio::spawn(async move {
        tokio::time::sleep(election).await;
        world.lock().shards.get_mut(&1).unwrap().2 = 2;
    });
    let started = Instant::now();
    client.get_account(&a).await.unwrap();
    let took = started.elapsed();
    assert!(
        took >= election && took < election + Duration::from_millis(400),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_silent_leader_is_left_when_there_is_another() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let a = cluster.account_of(1, "a");
    client.get_account(&a).await.unwrap();
    {
        let mut world = cluster.world.lock();
        world.frozen.push(1);
        world.shards.get_mut(&1).unwrap().2 = 2;
    }
    let started = Instant::now();
    let answer = client.deliver(&delivery(4, &[&a]), &octets(100)).await;
    assert!(answer.unwrap().results[0].is_ok());
    assert!(started.elapsed() < Duration::from_millis(2500));
}

#[tokio::test]
async fn busy_nodes_are_given_the_time_they_ask_for() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let a = cluster.account_of(1, "a");
    cluster.world.lock().busy = 2;
    let started = Instant::now();
    client.get_account(&a).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(240));

    cluster.world.lock().busy = u32::MAX;
    let hasty = client.with_deadline(Duration::from_millis(300));
    let error = hasty.get_account(&a).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    let answer = hasty.deliver(&delivery(5, &[&a]), &octets(10)).await;
    let results = answer.unwrap().results;
    assert!(matches!(results[0], Err(Error::Busy { .. })));
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_is_an_unknown_outcome() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster).with_deadline(Duration::from_millis(400));
    let a = cluster.account_of(1, "a");
    {
        let mut world = cluster.world.lock();
        world.lost_answers = 1;
        world.then_busy = true;
    }
    let answer = client.deliver(&delivery(5, &[&a]), &octets(10)).await;
    let results = answer.unwrap().results;
    assert!(results[0].as_ref().is_err_and(Error::outcome_unknown));
    assert_eq!(mail(&cluster, &a).len(), 1, "it was stored after all");
}

#[tokio::test]
async fn a_stale_map_is_fetched_again() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let a = cluster.account_of(1, "a");
    client.get_account(&a).await.unwrap();
    assert_eq!(client.placement().await.unwrap().version, 1);
    {
        let mut world = cluster.world.lock();
        world.version = 2;
        world.stale = 1;
    }
    client.get_account(&a).await.unwrap();
    assert_eq!(client.placement().await.unwrap().version, 2);
    // An answer that mentions a newer version is enough.
    cluster.world.lock().version = 3;
    client.get_account(&a).await.unwrap();
    assert_eq!(client.placement().await.unwrap().version, 3);
}

#[tokio::test]
async fn strangers_and_beginners_are_told_apart() {
    let cluster = FakeCluster::start().await;
    let settings = Settings {
        cluster_id: Some("another".into()),
        ..Settings::default()
    };
    let stranger = Client::new(&[cluster.addr(1)], settings).unwrap();
    let error = stranger.placement().await.unwrap_err();
    assert!(matches!(error, Error::WrongCluster { .. }), "{error:?}");
    cluster.world.lock().cluster_id.clear();
    let error = client(&cluster).placement().await.unwrap_err();
    assert!(matches!(error, Error::NotInitialized { .. }), "{error:?}");
    assert!(Client::new(&["localhost"], Settings::default()).is_err());
    assert!(Client::new::<&str>(&[], Settings::default()).is_err());
}

/// A source that fails after some octets, or has other octets than it says.
struct Broken {
    len: Option<u64>,
    fails: bool,
}

impl Body for Broken {
    fn open(&self) -> BoxFuture<'_, std::io::Result<Pieces>> {
        let mut pieces = vec![Ok(octets(100_000))];
        if self.fails {
            pieces.push(Err(std::io::Error::other("the disk is gone")));
        }
        Box::pin(async { Ok(stream::iter(pieces).boxed()) })
    }

    fn len(&self) -> Option<u64> {
        self.len
    }
}

#[tokio::test]
async fn a_source_that_fails_stores_nothing() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let a = cluster.account_of(1, "a");
    let inbox = MailboxName::inbox();
    for (len, fails) in [(None, true), (Some(100_001), false), (Some(99_999), false)] {
        let body = Broken { len, fails };
        let error = client
            .append(&a, &inbox, &body, AppendOptions::default())
            .await;
        assert!(matches!(error, Err(Error::Source { .. })), "{error:?}");
        let answer = client.deliver(&delivery(6, &[&a]), &body).await.unwrap();
        assert!(matches!(answer.results[0], Err(Error::Source { .. })));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(mail(&cluster, &a).is_empty());
}

#[tokio::test]
async fn messages_appended_together_are_sent_again_together() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let a = cluster.account_of(1, "a");
    let inbox = MailboxName::inbox();
    let bodies = [0, 300_000, 7].map(octets);
    let part = |body| AppendPart {
        body,
        flags: vec!["\\Seen".into()],
        internal_date_ms: 5,
    };
    let parts: Vec<AppendPart> = bodies.iter().map(|b| part(b as &dyn Body)).collect();
    cluster.world.lock().lost_answers = 1;
    let stored = client.append_many(&a, &inbox, &parts, None).await.unwrap();
    assert_eq!((stored.first.uid, stored.count), (1, 3));
    let leader = cluster.world.lock().shards[&1].2;
    let calls = cluster.world.lock().calls.clone();
    let at_leader = calls.iter().filter(|call| **call == (leader, "append"));
    assert_eq!(at_leader.count(), 2, "the first answer was lost");
    assert_eq!(mail(&cluster, &a), bodies);

    let broken = Broken {
        len: None,
        fails: true,
    };
    let parts = [part(&bodies[1]), part(&broken)];
    let error = client.append_many(&a, &inbox, &parts, None).await;
    assert!(matches!(error, Err(Error::Source { .. })), "{error:?}");
    let none = client.append_many(&a, &inbox, &[], None).await;
    assert!(matches!(none, Err(Error::BadRequest { .. })), "{none:?}");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(mail(&cluster, &a).len(), 3);
}

#[tokio::test]
async fn appended_octets_come_back_verified() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let a = cluster.account_of(2, "a");
    let inbox = MailboxName::inbox();
    for (i, len) in [0, 1, 999, 300_000].into_iter().enumerate() {
        let body = octets(len);
        let options = AppendOptions::default();
        let stored = client.append(&a, &inbox, &body, options).await.unwrap();
        assert_eq!(stored.blob_id, BlobId::of(&body));
        let uid = stored.stored.uid;
        assert_eq!(uid, i as u32 + 1);
        let fetched = client.fetch(&a, &inbox, uid).await.unwrap();
        assert_eq!(fetched.size, len as u64);
        assert_eq!(fetched.collect(u64::MAX).await.unwrap(), body);
        let source = Source::Blob(BlobId::of(&body));
        let range = client.fetch_range(&a, source, 100, 50).await.unwrap();
        let part = range.collect(50).await.unwrap();
        assert_eq!(part, body[100.min(len)..150.min(len)]);
    }
    let missing = client.fetch(&a, &inbox, 77).await.err().unwrap();
    assert!(matches!(missing, Error::NotFound { .. }));
    let too_large = client.fetch(&a, &inbox, 4).await.unwrap();
    let error = too_large.collect(1000).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }));

    cluster.world.lock().damage = true;
    let fetched = client.fetch(&a, &inbox, 4).await.unwrap();
    let error = fetched.collect(u64::MAX).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }));
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_was() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let a = cluster.account_of(1, "a");
    let inbox = MailboxName::inbox();
    let body = octets(20_000);
    let options = AppendOptions::default();
    client.append(&a, &inbox, &body, options).await.unwrap();
    cluster.world.lock().fetch_breaks = (3000, 4);
    let fetched = client.fetch(&a, &inbox, 1).await.unwrap();
    assert_eq!(fetched.collect(u64::MAX).await.unwrap(), body);
    assert_eq!(count(&cluster, "fetch"), 5);
}

#[tokio::test]
async fn lists_are_walked_page_by_page() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let mut names: Vec<_> = [(1, "a"), (2, "b"), (1, "c"), (1, "d"), (2, "e")]
        .map(|(shard, prefix)| cluster.account_of(shard, prefix).to_string())
        .into();
    let listed: Vec<_> = client.list_accounts(1).try_concat().await.unwrap();
    let mut listed: Vec<_> = listed.into_iter().map(|a| a.name).collect();
    listed.sort();
    names.sort();
    assert_eq!(listed, names);

    let a = AccountName::new(&names[0]).unwrap();
    let inbox = MailboxName::inbox();
    for _ in 0..7 {
        let options = AppendOptions::default();
        client
            .append(&a, &inbox, &octets(1), options)
            .await
            .unwrap();
    }
    let options = ListOptions {
        page: 3,
        ..ListOptions::default()
    };
    let pages: Vec<_> = client
        .list_pages(&a, &inbox, options)
        .try_collect()
        .await
        .unwrap();
    let uids = pages.iter().map(|p| p.messages.iter().map(|m| m.uid));
    assert_eq!(uids.flatten().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(pages.len(), 3);
}

#[tokio::test]
async fn any_node_will_do_for_the_status_and_one_when_it_is_asked_for() {
    let mut cluster = FakeCluster::start().await;
    let client = client(&cluster);
    assert_eq!(client.status(&Target::Node(2)).await.unwrap().node_id, 2);
    cluster.world.lock().frozen.push(1);
    let started = Instant::now();
    assert!(client.status(&Target::Any).await.unwrap().node_id > 1);
    assert!(started.elapsed() < Duration::from_secs(4));
    cluster.kill(1);
    assert!(client.status(&Target::Any).await.unwrap().node_id > 1);
    let gone = client.status(&Target::Addr(cluster.addr(1))).await;
    assert!(matches!(gone, Err(Error::Transport { .. })));
    let unknown = client.status(&Target::Node(9)).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn calls_can_be_made_from_tasks() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let a = cluster.account_of(1, "a");
    let tasks: Vec<_> = (0..20)
        .map(|i| {
            let (client, a) = (client.clone(), a.clone());
            tokio::spawn(async move {
                let body = octets(i * 100);
                let inbox = MailboxName::inbox();
                let appended = client
                    .append(&a, &inbox, &body, AppendOptions::default())
                    .await;
                let fetched = client.fetch(&a, &inbox, appended?.stored.uid).await?;
                assert_eq!(fetched.collect(u64::MAX).await?, body);
                let options = ListOptions {
                    page: 9,
                    ..ListOptions::default()
                };
                let pages = client.list_pages(&a, &inbox, options);
                pages.try_collect::<Vec<_>>().await?;
                client.list_accounts(1).try_collect::<Vec<_>>().await?;
                client.status(&Target::Any).await?;
                client.deliver(&delivery(i as u8, &[&a]), &body).await
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().unwrap().results[0].is_ok());
    }
    assert_eq!(mail(&cluster, &a).len(), 40);
}

#[tokio::test]
async fn a_search_begins_again_and_its_deadline_counts_between_pieces() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let a = cluster.account_of(1, "a");
    let letters = vec![Bytes::from_static(b"x"); 8];
    let inbox = MailboxName::inbox();
    cluster.world.lock().mail.insert(a.to_string(), letters);
    let all = |found: &Found| found.uids.iter().eq(1..=8) && found.count == 8;

    // Nine pieces at 60 ms each take longer than the deadline, which none of them does.
    let hasty = client.with_deadline(Duration::from_millis(400));
    let found = hasty.search(&a, &inbox, SearchOptions::default()).await;
    assert!(found.as_ref().is_ok_and(all), "{found:?}");

    cluster.world.lock().search_breaks = (2, Some(3));
    let found = client.search(&a, &inbox, SearchOptions::default()).await;
    assert!(found.as_ref().is_ok_and(all), "{found:?}");
    let last = |name| {
        let world = cluster.world.lock();
        let mut calls = world.calls.iter().rev();
        calls.find(|(_, n)| *n == name).map(|(node, _)| *node)
    };
    assert_eq!(last("search"), Some(3));

    // For ever is too often.
    cluster.world.lock().search_breaks = (u32::MAX, None);
    let broken = client.search(&a, &inbox, SearchOptions::default()).await;
    assert!(broken.is_err());
    cluster.world.lock().search_breaks.0 = 0;

    let before = count(&cluster, "search");
    let deep = (0..200).fold(search::keys::flag("x"), |key, n| match n % 2 {
        0 => search::keys::any_of([key, search::keys::flag("y")]),
        _ => search::keys::all_of([key, search::keys::flag("y")]),
    });
    let options = SearchOptions {
        key: Some(deep),
        ..SearchOptions::default()
    };
    let refused = client.search(&a, &inbox, options).await;
    assert!(matches!(refused, Err(Error::BadRequest { .. })));
    assert_eq!(count(&cluster, "search"), before);
}

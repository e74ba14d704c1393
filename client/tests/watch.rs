//! Watching accounts of a pretended cluster: nothing is missed, whatever happens to nodes.

#![allow(clippy::disallowed_methods)]

mod fake;

use std::time::Duration;

use fake::FakeCluster;
use posthouse_client::ids::{AccountName, MailboxId};
use posthouse_client::{Change, Client, Settings, Subscription};

fn client(cluster: &FakeCluster) -> Client {
    let addrs: Vec<String> = (1..=3).map(|n| cluster.addr(n)).collect();
    Client::new(&addrs, Settings::default()).unwrap()
}

async fn next(subscription: &mut Subscription) -> Option<Change> {
    tokio::time::timeout(Duration::from_secs(20), subscription.next())
        .await
        .expect("a change comes in time")
}

/// Nothing comes for a moment.
async fn quiet(subscription: &mut Subscription) {
    let wait = Duration::from_millis(200);
    let came = tokio::time::timeout(wait, subscription.next()).await;
    assert!(came.is_err(), "{came:?}");
}

fn changed(modseq: u64, mailboxes: &[u32]) -> Option<Change> {
    Some(Change {
        modseq,
        mailboxes: mailboxes.iter().copied().map(MailboxId).collect(),
        ..Change::default()
    })
}

fn anew(modseq: u64) -> Option<Change> {
    Some(Change {
        modseq,
        resync: true,
        ..Change::default()
    })
}

fn streams(cluster: &FakeCluster) -> Vec<u64> {
    let world = cluster.world.lock();
    let calls = world.calls.iter().filter(|(_, name)| *name == "watch");
    calls.map(|(node, _)| *node).collect()
}

async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("it happens in time");
}

#[tokio::test]
async fn one_stream_a_shard_serves_all_subscribers() {
    let cluster = FakeCluster::start().await;
    let watch = client(&cluster).watch();
    let [a, b, c] = [(1, "a"), (2, "b"), (1, "c")].map(|(s, p)| cluster.account_of(s, p));
    cluster.change(&a, 1);
    let mut subscriptions: Vec<Subscription> = [&a, &b, &c]
        .into_iter()
        .map(|name| watch.subscribe(name.clone(), 0))
        .collect();
    assert_eq!(next(&mut subscriptions[0]).await, changed(1, &[1]));
    cluster.change(&b, 4);
    assert_eq!(next(&mut subscriptions[1]).await, changed(1, &[4]));
    cluster.change(&c, 5);
    assert_eq!(next(&mut subscriptions[2]).await, changed(1, &[5]));
    let mut used = streams(&cluster);
    used.sort();
    assert_eq!(used, [1, 2]);

    // One more reader of an account shares what the node says.
    let mut second = watch.subscribe(a.clone(), 1);
    let mut third = watch.subscribe(a.clone(), 0);
    assert_eq!(
        next(&mut third).await,
        anew(1),
        "it has missed what was told"
    );
    cluster.change(&a, 2);
    for subscription in [&mut subscriptions[0], &mut second, &mut third] {
        assert_eq!(next(subscription).await, changed(2, &[2]));
        quiet(subscription).await;
    }
    let asked = |name: &AccountName| {
        let world = cluster.world.lock();
        let of_account = world.watches.iter().filter(|(_, n, _)| n == name.as_str());
        of_account.map(|(.., since)| *since).collect::<Vec<_>>()
    };
    assert_eq!(asked(&a), [Some(0)]);

    // The last reader that goes takes the account away; the first ones do not.
    drop(second);
    drop(third);
    cluster.change(&a, 3);
    assert_eq!(next(&mut subscriptions[0]).await, changed(3, &[3]));
    subscriptions.remove(0);
    until(|| asked(&a) == [Some(0), None]).await;
    let mut again = watch.subscribe(a.clone(), 3);
    until(|| asked(&a).len() == 3).await;
    cluster.change(&a, 8);
    // An event from before might have been on its way: so the first one is not taken at its word.
    assert_eq!(next(&mut again).await, anew(4));
    cluster.change(&a, 9);
    assert_eq!(next(&mut again).await, changed(5, &[9]));
}

#[tokio::test]
async fn a_slow_reader_finds_one_change() {
    let cluster = FakeCluster::start().await;
    let watch = client(&cluster).watch();
    let a = cluster.account_of(1, "a");
    let mut slow = watch.subscribe(a.clone(), 0);
    let mut quick = watch.subscribe(a.clone(), 0);
    for n in 0..50 {
        let modseq = cluster.change(&a, 1 + n % 3);
        while next(&mut quick).await.unwrap().modseq < modseq {}
    }
    assert_eq!(next(&mut slow).await, changed(50, &[1, 2, 3]));
    quiet(&mut slow).await;
}

#[tokio::test]
async fn changes_of_leaders_lose_nothing() {
    let cluster = FakeCluster::start().await;
    let watch = client(&cluster).watch();
    let a = cluster.account_of(1, "a");
    let mut subscription = watch.subscribe(a.clone(), 0);
    let (mut told, mut seen) = (Vec::new(), 0);
    for round in 1..=12 {
        cluster.change(&a, round);
        cluster.lead(1, 1 + u64::from(round) % 3);
        cluster.change(&a, 100 + round);
        while seen < 2 * u64::from(round) {
            let change = next(&mut subscription).await.unwrap();
            assert!(change.modseq > seen && !change.resync && !change.gone);
            seen = change.modseq;
            told.extend(change.mailboxes.iter().map(|m| m.0));
        }
    }
    for round in 1..=12 {
        assert!(told.contains(&round) && told.contains(&(100 + round)));
    }
}

#[tokio::test]
async fn a_node_that_dies_or_freezes_is_left_for_the_next_leader() {
    let mut cluster = FakeCluster::start().await;
    let watch = client(&cluster).watch();
    let a = cluster.account_of(1, "a");
    let mut subscription = watch.subscribe(a.clone(), 0);
    cluster.change(&a, 1);
    assert_eq!(next(&mut subscription).await, changed(1, &[1]));
    cluster.change(&a, 2);
    cluster.kill(1);
    cluster.change(&a, 3);
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.lead(1, 3);
    let mut told = Vec::new();
    while !told.contains(&3) {
        let change = next(&mut subscription).await.unwrap();
        told.extend(change.mailboxes.iter().map(|m| m.0));
    }
    assert!(told.contains(&2));
    assert_eq!(streams(&cluster).last(), Some(&3));
}

#[tokio::test]
async fn an_account_that_is_gone_ends_its_subscriptions() {
    let cluster = FakeCluster::start().await;
    let watch = client(&cluster).watch();
    let a = cluster.account_of(1, "a");
    let nobody = AccountName::new("nobody@example.org").unwrap();
    let mut subscription = watch.subscribe(a.clone(), 0);
    let mut other = watch.subscribe(nobody, 3);
    cluster.change(&a, 1);
    assert_eq!(next(&mut subscription).await, changed(1, &[1]));
    cluster.world.lock().mail.remove(a.as_str());
    cluster.change(&a, 1);
    for subscription in [&mut subscription, &mut other] {
        let change = next(subscription).await.unwrap();
        assert!(change.gone, "{change:?}");
        assert_eq!(next(subscription).await, None);
        assert_eq!(next(subscription).await, None);
    }
    // A later account of that name starts over.
    cluster.world.lock().changes.remove(a.as_str());
    cluster.world.lock().mail.insert(a.as_str().into(), vec![]);
    let mut later = watch.subscribe(a.clone(), 5);
    assert_eq!(next(&mut later).await, anew(0));
    cluster.change(&a, 6);
    assert_eq!(next(&mut later).await, changed(1, &[6]));
}

#[tokio::test]
async fn subscribers_wait_for_a_cluster_that_is_not_there_yet() {
    let cluster = FakeCluster::start().await;
    let a = cluster.account_of(1, "a");
    cluster.world.lock().cluster_id.clear();
    let watch = client(&cluster).watch();
    let mut subscription = watch.subscribe(a.clone(), 0);
    quiet(&mut subscription).await;
    cluster.change(&a, 1);
    cluster.world.lock().cluster_id = "the-cluster".into();
    assert_eq!(next(&mut subscription).await, changed(1, &[1]));
}

#[tokio::test]
async fn streams_end_when_nobody_is_left() {
    let cluster = FakeCluster::start().await;
    let client = client(&cluster);
    let watch = client.watch();
    let a = cluster.account_of(1, "a");
    let mut subscription = watch.subscribe(a.clone(), 0);
    drop(watch);
    cluster.change(&a, 1);
    assert_eq!(next(&mut subscription).await, changed(1, &[1]));
    let listeners = || cluster.world.lock().news.receiver_count();
    assert_eq!(listeners(), 1);
    drop(subscription);
    until(|| listeners() == 0).await;
}

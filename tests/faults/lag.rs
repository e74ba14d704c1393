//! Nodes that were away for so long that the logs have gone on without them, and new nodes: both
//! get rows and the blobs that they lack, while mail comes in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use posthouse_client::Target;
use posthouse_tests::cluster::Cluster;
use posthouse_tests::load::{Ledger, Load, Work, deliver, letter};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::{accounts, read_from};

const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_long_gets_what_it_lacks() {
    let settings = "shards = 2\nkeep_entries = 4\nflush_ms = 500\n";
    let mut cluster = Cluster::start_settings(3, settings, &[]).await.unwrap();
    let accounts = accounts(6);
    let names: Vec<&str> = accounts.iter().map(String::as_str).collect();
    cluster.create_accounts(&names).await.unwrap();
    let ledger = Ledger::default();
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let client = cluster.client().clone();
    let send = async |rng: &mut ChaCha12Rng, sizes: &[usize]| {
        for (n, bytes) in sizes.iter().enumerate() {
            let to = &accounts[n % accounts.len()];
            let octets = letter(rng, *bytes);
            assert_eq!(deliver(&client, &ledger, &[to], &octets).await.unwrap(), 1);
        }
        sizes.iter().sum::<usize>() as u64
    };
    let before = send(&mut rng, &[300_000; 60]).await;
    cluster.wait_same_state(PATIENCE).await.unwrap();
    let away = 2;
    let target = |i: usize| Target::Addr(cluster.addr(i).to_owned());
    let last: BTreeMap<u32, u64> = client
        .shards(&target(away), true)
        .await
        .unwrap()
        .iter()
        .map(|s| (s.shard, s.last_log))
        .collect();
    cluster.kill(away);
    let mut sizes = vec![20_000; 60];
    sizes.extend([1_500_000, 2_500_000, 1_100_000]);
    let missed = send(&mut rng, &sizes).await;
    // Until no node has the entries that the absent one would need.
    let begin = Instant::now();
    loop {
        let mut purged = true;
        for i in 0..2 {
            let target = Target::Addr(cluster.addr(i).to_owned());
            let shards = client.shards(&target, true).await.unwrap();
            let mut data = shards.iter().filter(|s| s.shard != 0);
            purged &= data.all(|s| s.purged > last[&s.shard] + 1);
        }
        if purged {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "the logs are not purged");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let back = Instant::now();
    cluster.restart(away).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();
    cluster.wait_same_state(PATIENCE).await.unwrap();
    let target = Target::Addr(cluster.addr(away).to_owned());
    let written = client.status(&target).await.unwrap().journal.unwrap();
    println!(
        "the node had {before} octets of mail and lacked {missed}; caught up in {} ms with {} \
         octets written to its journal",
        back.elapsed().as_millis(),
        written.bytes_written
    );
    assert!(
        written.bytes_written < before,
        "it got what it had: {}",
        written.bytes_written
    );
    read_from(&cluster, &accounts, away).await;
    let found = ledger.check(cluster.client()).await.unwrap();
    assert_eq!(found.acknowledged, 123);
    let scrub = client.scrub(&target).await.unwrap();
    assert_eq!(scrub.damaged, 0, "{scrub:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_grows_to_three_while_mail_comes_in() {
    let settings = "shards = 4\nkeep_entries = 16\nflush_ms = 1000\n";
    let mut cluster = Cluster::start_settings(1, settings, &[]).await.unwrap();
    let accounts = accounts(12);
    let names: Vec<&str> = accounts.iter().map(String::as_str).collect();
    cluster.create_accounts(&names).await.unwrap();
    let ledger = Ledger::default();
    let work = Work {
        clients: 4,
        accounts: accounts.clone(),
        bytes: (4 << 10, 3 << 20),
        recipients: 3,
        seed: 5,
    };
    let addrs = [cluster.addr(0).to_owned()];
    let load = Load::start(&addrs, &work, ledger.clone()).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (begin, alone) = (Instant::now(), load.acknowledged());
    cluster.grow().await.unwrap();
    cluster.grow().await.unwrap();
    let mut whole = Vec::new();
    while whole.len() < 5 || whole.iter().any(|n| *n < 3) {
        assert!(
            begin.elapsed() < PATIENCE,
            "replicas of the shards: {whole:?}"
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
        let shards = cluster.client().shards(&Target::Any, false).await.unwrap();
        let voters = |s: &posthouse_client::proto::Shard| {
            s.replicas.iter().filter(|r| r.role != "learner").count()
        };
        whole = shards.iter().map(voters).collect();
    }
    let grown = load.acknowledged();
    println!(
        "{alone} messages on one node; three replicas of every shard {:.1} s after the second \
         node was asked in; {} acknowledged meanwhile",
        begin.elapsed().as_secs_f64(),
        grown - alone
    );
    assert!(alone > 0 && grown > alone, "deliveries went on");
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.stop().await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();
    assert_eq!(cluster.wait_same_state(PATIENCE).await.unwrap(), 5 * 3);
    // The first node is not needed any more.
    cluster.kill(0);
    let found = ledger.check(cluster.client()).await.unwrap();
    println!("read back without the first node: {found:?}");
    assert!(found.acknowledged > 0);
}

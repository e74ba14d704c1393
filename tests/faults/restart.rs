//! All nodes die at once under load, as in a power failure of the room (the page cache survives;
//! what a disk loses is the simulator's matter).

use std::time::{Duration, Instant};

use posthouse_tests::cluster::Cluster;
use posthouse_tests::load::{Fate, Ledger, Load, Work};

use crate::accounts;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_mail_survives_the_death_of_all_nodes() {
    let mut cluster = Cluster::start(3).await.unwrap();
    let accounts = accounts(12);
    let names: Vec<&str> = accounts.iter().map(String::as_str).collect();
    cluster.create_accounts(&names).await.unwrap();
    let addrs: Vec<String> = (0..3).map(|i| cluster.addr(i).to_owned()).collect();
    let ledger = Ledger::default();
    let work = Work {
        clients: 12,
        accounts,
        bytes: (1 << 10, 3 << 20),
        recipients: 3,
        seed: 7,
    };
    let load = Load::start(&addrs, &work, ledger.clone()).unwrap();
    for round in 0..3 {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        for i in 0..3 {
            // All of them are gone before any comes back; a millisecond lies between.
            cluster.kill(i);
        }
        let down = Instant::now();
        let before = load.acknowledged();
        // In another order each time: nobody is needed first.
        for i in 0..3 {
            cluster.restart((i + round) % 3).await.unwrap();
        }
        while load.acknowledged() == before {
            assert!(down.elapsed() < Duration::from_secs(60), "no delivery");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!(
            "round {round}: {before} acknowledged, all nodes killed, first delivery {} ms later",
            down.elapsed().as_millis()
        );
    }
    load.stop().await.unwrap();
    cluster.wait_healthy(Duration::from_secs(60)).await.unwrap();
    cluster
        .wait_same_state(Duration::from_secs(60))
        .await
        .unwrap();
    let found = ledger.check(cluster.client()).await.unwrap();
    assert_eq!(found.acknowledged, ledger.count(Fate::Acknowledged));
    assert!(found.acknowledged > 0);
    println!("read back: {found:?}");
}

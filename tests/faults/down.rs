//! A node that is down costs the others next to nothing.
//!
//! Its peers have entries for it that it never takes. openraft's pauses between attempts are worth
//! nothing when a transport connects before it asks for what to send: then each leader tries again
//! at once, for as long as the node is down, and everything else waits for the processor.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use posthouse_client::{Client, Settings};
use posthouse_tests::cluster::Cluster;
use posthouse_tests::load::{Ledger, deliver, letter};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::accounts;

/// How long connections are counted.
const SPELL: Duration = Duration::from_secs(3);
/// Far above what elections, heartbeats of ten shards and placement need, far below a storm.
const MOST_PER_SECOND: u32 = 1_000;

/// Takes connections and closes them; how many came.
fn count(listener: &TcpListener) -> u32 {
    listener.set_nonblocking(true).unwrap();
    let (begin, mut came) = (Instant::now(), 0);
    while begin.elapsed() < SPELL {
        match listener.accept() {
            Ok(_) => came += 1,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_micros(50));
            }
            Err(e) => panic!("{e}"),
        }
    }
    came
}

#[tokio::test]
async fn nobody_storms_a_node_that_is_down() {
    let mut cluster = Cluster::start(3).await.unwrap();
    let accounts = accounts(20);
    let names: Vec<&str> = accounts.iter().map(String::as_str).collect();
    cluster.create_accounts(&names).await.unwrap();
    let addrs: Vec<String> = (0..2).map(|i| cluster.addr(i).to_owned()).collect();
    cluster.kill(2);
    let listener = TcpListener::bind(cluster.addr(2)).unwrap();
    // Something that it should have, in every shard.
    let client = Client::new(&addrs, Settings::default()).unwrap();
    let (ledger, mut rng) = (Ledger::default(), ChaCha12Rng::seed_from_u64(1));
    for account in &accounts {
        let octets = letter(&mut rng, 1024);
        assert_eq!(
            deliver(&client, &ledger, &[account], &octets)
                .await
                .unwrap(),
            1
        );
    }
    let came = tokio::task::spawn_blocking(move || count(&listener));
    let came = came.await.unwrap();
    println!("{came} connections in {SPELL:?}");
    assert!(
        came < MOST_PER_SECOND * SPELL.as_secs() as u32,
        "a storm: {came}"
    );
    cluster.restart(2).await.unwrap();
    cluster.wait_healthy(Duration::from_secs(60)).await.unwrap();
    cluster
        .wait_same_state(Duration::from_secs(60))
        .await
        .unwrap();
}

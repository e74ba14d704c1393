//! Clusters of real processes under faults: what dies, stops, rots, fills up or lies.
//!
//! | file | what it shows |
//! |---|---|
//! | `kill` | acknowledged mail survives `kill -9` and SIGSTOP of any one node at a time |
//! | `down` | a node that is down costs the others next to nothing |
//! | `restart` | ... and `kill -9` of all nodes at once |
//! | `rot` | octets that rot on one disk are reported and mended, and no reader sees it |
//! | `lag` | nodes that were away for long, and new ones, catch up while mail comes in |
//! | `start` | what does not start: settings, directories, copies, tokens, strangers |
//! | `full` | a disk that fills up, and has room again |
//! | `hostile` | requests that lie about lengths, ids and fields |

mod down;
mod full;
mod hostile;
mod kill;
mod lag;
mod restart;
mod rot;
mod start;

use std::time::{Duration, Instant};

use posthouse_client::Target;
use posthouse_client::ids::{AccountName, Slot};
use posthouse_tests::cluster::Cluster;
use posthouse_tests::load::contents;

/// Names of `n` accounts, over many shards.
fn accounts(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("account{i}@example.org")).collect()
}

/// A number that whoever runs the test may set.
fn number_from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect(name),
        Err(_) => default,
    }
}

/// Reads everything while `node` leads, so that its own octets are read.
async fn read_from(cluster: &Cluster, accounts: &[String], node: usize) {
    let begin = Instant::now();
    let shards = cluster.client().shards(&Target::Any, false).await.unwrap();
    for account in accounts {
        let slot = Slot::of(&AccountName::new(account).unwrap()).0 as u32;
        let here = |r: &posthouse_client::proto::SlotRange| r.first <= slot && slot <= r.last;
        let shard = shards.iter().find(|s| s.slots.iter().any(here)).unwrap();
        loop {
            cluster.lead(shard.shard, node).await.unwrap();
            contents(cluster.client(), account).await.unwrap();
            // The node may have lost its office meanwhile.
            if cluster.leader_of(account).await.unwrap().1 == node {
                break;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(90),
                "node {node} never leads for long"
            );
        }
    }
}

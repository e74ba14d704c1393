//! Who receives: the door alone, or a cluster.

use std::time::{Duration, Instant};

use bytes::Bytes;
use posthouse_tests::cluster::Cluster;
use posthouse_tests::fake::FakeDoor;
use posthouse_tests::samples::Sample;

/// The accounts that every receiver has.
pub const ACCOUNTS: [&str; 3] = ["ann@example.org", "ben@example.org", "carl+x@example.org"];

/// Something with an LMTP door.
pub enum Receiver {
    /// The door over a store in memory.
    Door(FakeDoor),
    /// Three nodes; their first one's door is used.
    Cluster(Box<Cluster>),
}

impl Receiver {
    /// The door alone.
    pub async fn door() -> Receiver {
        Receiver::Door(FakeDoor::start(&ACCOUNTS).await.unwrap())
    }

    /// A cluster.
    pub async fn cluster() -> Receiver {
        let cluster = Cluster::start(3).await.unwrap();
        cluster.create_accounts(&ACCOUNTS).await.unwrap();
        Receiver::Cluster(Box::new(cluster))
    }

    /// Where it takes mail.
    pub fn lmtp(&self) -> &str {
        match self {
            Receiver::Door(door) => door.lmtp(),
            Receiver::Cluster(cluster) => cluster.lmtp(0),
        }
    }

    /// What an account has received.
    pub async fn inbox(&self, account: &str) -> Vec<Bytes> {
        match self {
            Receiver::Door(door) => door.inbox(account).unwrap(),
            Receiver::Cluster(cluster) => cluster.inbox(account).await.unwrap(),
        }
    }

    /// Waits until an account has `count` messages, and gives them.
    pub async fn wait_for(&self, account: &str, count: usize) -> Vec<Bytes> {
        let begin = Instant::now();
        loop {
            let inbox = self.inbox(account).await;
            if inbox.len() >= count {
                assert_eq!(inbox.len(), count, "{account} has more than was sent");
                return inbox;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "{account} has {} messages of {count}",
                inbox.len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Panics with names unless exactly these samples have been received, in any order.
pub fn assert_received(received: Vec<Vec<u8>>, samples: &[Sample]) {
    let mut left = received;
    for sample in samples {
        match left.iter().position(|octets| *octets == sample.octets) {
            Some(at) => drop(left.remove(at)),
            None => panic!("{} was not received as it was sent", sample.name),
        }
    }
    assert!(left.is_empty(), "{} messages that nobody sent", left.len());
}

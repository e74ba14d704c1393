//! A store in memory and a network of pipes, for tests of the doors.

#![allow(dead_code)] // Each test binary uses its part.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use posthouse_client::ids::{AccountName, BlobId, RequestId};
use posthouse_gateway::listen::{Listener, Stream};
use posthouse_gateway::lmtp::Lmtp;
use posthouse_gateway::lmtp::settings::Settings;
use posthouse_gateway::spool::MemorySpool;
use posthouse_gateway::store::{Delivery, Identity, Store, StoreError, Stored};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A message in the fake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Whose it is.
    pub account: String,
    /// The reverse-path.
    pub sender: String,
    /// With Return-Path.
    pub octets: Bytes,
}

/// A store that keeps mail in memory and fails as it is told to.
#[derive(Default)]
pub struct FakeStore {
    /// Accounts that exist.
    pub accounts: Mutex<BTreeSet<String>>,
    /// What deliveries to an account fail with.
    pub failures: Mutex<BTreeMap<String, StoreError>>,
    /// What every delivery fails with as a whole.
    pub outage: Mutex<Option<StoreError>>,
    /// What every delivery fails with before its body is read.
    pub early: Mutex<Option<StoreError>>,
    /// Read the body this many times before it is kept, as after changes of leader.
    pub attempts: Mutex<usize>,
    /// What was stored, in order.
    pub mail: Mutex<Vec<Mail>>,
    seen: Mutex<BTreeSet<(String, Vec<u8>)>>,
    /// Bodies that broke off.
    pub broken: Mutex<usize>,
    /// Questions for accounts.
    pub lookups: Mutex<usize>,
    /// Deliveries begun.
    pub deliveries: Mutex<usize>,
}

impl FakeStore {
    /// A store with these accounts.
    pub fn with(accounts: &[&str]) -> Arc<FakeStore> {
        let store = FakeStore::default();
        *store.accounts.lock().unwrap() = accounts.iter().map(|a| a.to_string()).collect();
        *store.attempts.lock().unwrap() = 1;
        Arc::new(store)
    }

    /// What was stored.
    pub fn mail(&self) -> Vec<Mail> {
        self.mail.lock().unwrap().clone()
    }

    /// The octets of what was stored, after the Return-Path line.
    pub fn octets(&self) -> Vec<Vec<u8>> {
        let after = |m: Mail| {
            let end = m.octets.windows(2).position(|w| w == b"\r\n").unwrap() + 2;
            m.octets[end..].to_vec()
        };
        self.mail().into_iter().map(after).collect()
    }

    async fn read(&self, delivery: &Delivery) -> Result<Vec<u8>, StoreError> {
        let mut octets = Vec::new();
        let mut pieces = std::pin::pin!(delivery.body.pieces());
        while let Some(piece) = pieces.next().await {
            octets.extend_from_slice(&piece.map_err(|_| StoreError::BrokenOff)?);
        }
        Ok(octets)
    }

    fn keep(
        &self,
        account: &AccountName,
        delivery: &Delivery,
        octets: &Bytes,
    ) -> Result<Stored, StoreError> {
        let account = account.as_str().to_owned();
        if let Some(failure) = self.failures.lock().unwrap().get(&account) {
            return Err(failure.clone());
        }
        if !self.accounts.lock().unwrap().contains(&account) {
            return Err(StoreError::NoAccount);
        }
        let identity = match delivery.identity {
            Identity::Id(id) => id.0.to_vec(),
            Identity::ByContent => [delivery.sender.as_bytes(), &BlobId::of(octets).0].concat(),
        };
        if !self
            .seen
            .lock()
            .unwrap()
            .insert((account.clone(), identity))
        {
            return Ok(Stored { duplicate: true });
        }
        self.mail.lock().unwrap().push(Mail {
            account,
            sender: delivery.sender.clone(),
            octets: octets.clone(),
        });
        Ok(Stored { duplicate: false })
    }
}

impl Store for FakeStore {
    fn exists<'a>(&'a self, account: &'a AccountName) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            *self.lookups.lock().unwrap() += 1;
            if let Some(outage) = &*self.outage.lock().unwrap() {
                return Err(outage.clone());
            }
            Ok(self.accounts.lock().unwrap().contains(account.as_str()))
        })
    }

    fn deliver(
        &self,
        delivery: Delivery,
    ) -> BoxFuture<'_, Result<Vec<Result<Stored, StoreError>>, StoreError>> {
        Box::pin(async move {
            *self.deliveries.lock().unwrap() += 1;
            if let Some(early) = &*self.early.lock().unwrap() {
                return Err(early.clone());
            }
            let attempts = *self.attempts.lock().unwrap();
            let mut octets = Vec::new();
            for _ in 0..attempts {
                octets = match self.read(&delivery).await {
                    Ok(octets) => octets,
                    Err(error) => {
                        *self.broken.lock().unwrap() += 1;
                        return Err(error);
                    }
                };
            }
            if let Some(outage) = &*self.outage.lock().unwrap() {
                return Err(outage.clone());
            }
            let octets = Bytes::from(octets);
            let keep = |account| self.keep(account, &delivery, &octets);
            Ok(delivery.recipients.iter().map(keep).collect())
        })
    }
}

/// A listener whose connections are pipes.
pub struct Pipes {
    incoming: tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>,
}

impl Listener for Pipes {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        Box::pin(async move {
            match self.incoming.lock().await.recv().await {
                Some(stream) => Ok((Box::new(stream) as Box<dyn Stream>, "192.0.2.1:4711".into())),
                None => std::future::pending().await,
            }
        })
    }
}

/// A running door over pipes.
pub struct TestDoor {
    connect: mpsc::Sender<DuplexStream>,
    /// Closes the door.
    pub shutdown: CancellationToken,
    /// Ends when no connection is left.
    pub served: tokio::task::JoinHandle<()>,
}

/// Settings of most tests.
pub fn settings() -> Settings {
    Settings {
        hostname: "mx.example.org".into(),
        ..Settings::default()
    }
}

/// Opens a door with these settings.
pub fn open(store: Arc<FakeStore>, settings: Settings) -> TestDoor {
    let (connect, incoming) = mpsc::channel(16);
    let listener = Pipes {
        incoming: tokio::sync::Mutex::new(incoming),
    };
    let count = std::sync::atomic::AtomicU64::new(1);
    let ids = Arc::new(move || {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        RequestId((n as u128).to_be_bytes())
    });
    let lmtp = Lmtp::new(settings, store, Arc::new(MemorySpool), ids).unwrap();
    let shutdown = CancellationToken::new();
    let served = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { lmtp.serve(&listener, shutdown).await }
    });
    TestDoor {
        connect,
        shutdown,
        served,
    }
}

impl TestDoor {
    /// A connected stream.
    pub async fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.connect.send(theirs).await.unwrap();
        ours
    }

    /// Sends these pieces one after the other, closes the sending side, and returns everything
    /// that was answered.
    pub async fn talk(&self, pieces: &[&[u8]]) -> String {
        let (mut read, mut write) = tokio::io::split(self.connect().await);
        let send = async {
            for piece in pieces {
                // The other side may have hung up: then its last words are what counts.
                if write.write_all(piece).await.is_err() {
                    break;
                }
            }
            let _ = write.shutdown().await;
        };
        let mut answer = Vec::new();
        let receive = tokio::time::timeout(Duration::from_secs(20), read.read_to_end(&mut answer));
        let (_, received) = tokio::join!(send, receive);
        received.expect("the door hangs").unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// As [`TestDoor::talk`], in one piece after LHLO: the replies after those to it.
    pub async fn script(&self, text: &str) -> Vec<String> {
        let text = format!("LHLO client.example.org\r\n{text}");
        let answer = self.talk(&[text.as_bytes()]).await;
        let after = answer
            .split_once("250 SIZE ")
            .expect("the answer to LHLO")
            .1;
        after.lines().skip(1).map(str::to_owned).collect()
    }
}

/// The codes of replies.
pub fn codes(replies: &[String]) -> Vec<&str> {
    let code = |r: &String| if r.starts_with("354") { 3 } else { 9 };
    replies
        .iter()
        .map(|r| r.get(..code(r)).unwrap_or(r))
        .collect()
}

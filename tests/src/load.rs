//! Deliveries under way, and the record of what each answer promised.
//!
//! An acknowledged message must be there exactly once, whatever died; one whose outcome is unknown
//! may be there once or not at all; a refused one must not be there; and nothing else may be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use posthouse_client::ids::{AccountName, BlobId, MailboxName};
use posthouse_client::{Client, Delivery, Error, Identity, ListOptions, Recipient, Settings};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Fetches under way at once while everything is read back.
const FETCHES: usize = 6;

/// What an answer said of one message for one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Stored on a quorum.
    Acknowledged,
    /// No answer, or one that leaves it open.
    Unknown,
    /// Not stored.
    Refused,
}

/// Messages of one account: what became of each, and its octets.
type Fates = BTreeMap<BlobId, (Fate, u64)>;

/// What all answers said. Clones share it.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, Fates>>>);

/// How everything read back compares with the answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Messages that were acknowledged, all of them there.
    pub acknowledged: u64,
    /// Messages of unknown outcome that are there.
    pub unknown_stored: u64,
    /// Messages of unknown outcome that are not.
    pub unknown_absent: u64,
    /// Octets read back.
    pub bytes: u64,
}

impl Ledger {
    /// Writes down what became of a message for one account.
    pub fn note(&self, account: &str, blob: BlobId, bytes: u64, fate: Fate) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all
            .entry(account.to_owned())
            .or_default()
            .insert(blob, (fate, bytes));
        assert!(before.is_none(), "every message is one of its own");
    }

    /// Messages of this fate, over all accounts.
    pub fn count(&self, fate: Fate) -> u64 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fates = all.values().flat_map(|messages| messages.values());
        fates.filter(|(f, _)| *f == fate).count() as u64
    }

    /// Reads every account back, all octets of it, and compares. The client checks the octets of
    /// each message against its blob id; the blob id is what was written down.
    pub async fn check(&self, client: &Client) -> anyhow::Result<Found> {
        let all = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut found = Found::default();
        for (account, expected) in all {
            let stored = contents(client, &account).await?;
            let mut times: BTreeMap<BlobId, u64> = BTreeMap::new();
            for (blob, _) in &stored {
                *times.entry(*blob).or_default() += 1;
            }
            for (blob, n) in &times {
                let fate = expected.get(blob).map(|(fate, _)| *fate);
                ensure!(*n == 1, "{account} has {blob} ({fate:?}) {n} times");
                ensure!(fate.is_some(), "{account} has {blob}, which nobody sent");
                ensure!(
                    fate != Some(Fate::Refused),
                    "{account} has {blob}, which was refused"
                );
            }
            for (blob, (fate, bytes)) in &expected {
                match (fate, times.contains_key(blob)) {
                    (Fate::Acknowledged, there) => {
                        ensure!(there, "{account} lost {blob} ({bytes} octets)");
                        found.acknowledged += 1;
                    }
                    (Fate::Unknown, true) => found.unknown_stored += 1,
                    (Fate::Unknown, false) => found.unknown_absent += 1,
                    (Fate::Refused, _) => {}
                }
            }
            let sizes = stored.iter().zip(expected_sizes(&expected, &stored));
            for ((blob, size), expected) in sizes {
                ensure!(*size == expected, "{account}: {blob} has {size} octets");
                found.bytes += size;
            }
        }
        Ok(found)
    }
}

fn expected_sizes(expected: &Fates, stored: &[(BlobId, u64)]) -> Vec<u64> {
    stored.iter().map(|(blob, _)| expected[blob].1).collect()
}

/// Blob id and octets of every message of an INBOX, all of them fetched.
pub async fn contents(client: &Client, account: &str) -> anyhow::Result<Vec<(BlobId, u64)>> {
    let (name, inbox) = (AccountName::new(account)?, MailboxName::inbox());
    let mut messages = Vec::new();
    let mut first = 1;
    while first != 0 {
        let options = ListOptions {
            first,
            ..ListOptions::default()
        };
        let page = client.list_page(&name, &inbox, options).await?;
        messages.extend(page.messages.iter().map(|m| m.uid));
        first = page.next_uid;
    }
    stream::iter(messages)
        .map(|uid| {
            let (client, name, inbox) = (client.clone(), name.clone(), inbox.clone());
            async move {
                let fetched = client.fetch(&name, &inbox, uid).await;
                let fetched = fetched.with_context(|| format!("{name} {uid}"))?;
                let (blob, mut octets, mut size) = (fetched.blob_id, fetched.octets, 0);
                while let Some(piece) = octets
                    .try_next()
                    .await
                    .with_context(|| format!("{name} {uid}"))?
                {
                    size += piece.len() as u64;
                }
                anyhow::Ok((blob, size))
            }
        })
        .buffered(FETCHES)
        .try_collect()
        .await
}

/// A message of about `bytes` octets that no other is like, and that does not compress.
pub fn letter(rng: &mut ChaCha12Rng, bytes: usize) -> Bytes {
    let mut out = format!("Subject: letter {:016x}\r\n\r\n", rng.next_u64()).into_bytes();
    let head = out.len();
    out.resize(head.max(bytes), 0);
    rng.fill_bytes(&mut out[head..]);
    out.into()
}

/// What clients send.
#[derive(Debug, Clone)]
pub struct Work {
    /// Clients at once, each with connections of its own.
    pub clients: usize,
    /// To whom.
    pub accounts: Vec<String>,
    /// Smallest and largest message, octets; sizes in between are as frequent on each scale.
    pub bytes: (usize, usize),
    /// Recipients of one message at most.
    pub recipients: usize,
    /// Where the randomness begins.
    pub seed: u64,
}

/// Clients that deliver until they are told to stop.
pub struct Load {
    /// What the answers said.
    pub ledger: Ledger,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    /// Starts to deliver through the nodes at `addrs`.
    pub fn start(addrs: &[String], work: &Work, ledger: Ledger) -> anyhow::Result<Load> {
        let (stop, acknowledged) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut clients = Vec::new();
        for n in 0..work.clients {
            let worker = Worker {
                client: Client::new(addrs, Settings::default())?,
                rng: ChaCha12Rng::seed_from_u64(work.seed.wrapping_add(n as u64 + 1)),
                work: work.clone(),
                ledger: ledger.clone(),
                acknowledged: acknowledged.clone(),
                stop: stop.clone(),
            };
            clients.push(tokio::spawn(worker.run()));
        }
        Ok(Load {
            ledger,
            acknowledged,
            stop,
            clients,
        })
    }

    /// Messages acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Lets every delivery under way come to its end.
    pub async fn stop(self) -> anyhow::Result<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await??;
        }
        Ok(self.ledger)
    }
}

struct Worker {
    client: Client,
    rng: ChaCha12Rng,
    work: Work,
    ledger: Ledger,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    async fn run(mut self) -> anyhow::Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let (least, most) = self.work.bytes;
            let scale = (most as f64 / least as f64).powf(self.rng.random::<f64>());
            let octets = letter(&mut self.rng, (least as f64 * scale) as usize);
            let several = self.work.recipients > 1 && self.rng.random_bool(0.25);
            let count = match several {
                true => self.rng.random_range(2..=self.work.recipients),
                false => 1,
            };
            let mut to: Vec<&String> = Vec::new();
            while to.len() < count.min(self.work.accounts.len()) {
                let account = self.rng.random_range(0..self.work.accounts.len());
                if !to.contains(&&self.work.accounts[account]) {
                    to.push(&self.work.accounts[account]);
                }
            }
            let stored = deliver(&self.client, &self.ledger, &to, &octets).await?;
            self.acknowledged.fetch_add(stored, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Delivers one message, writes down what each recipient's answer said, and gives the number of
/// acknowledgements. Only refusals that no fault explains are errors.
pub async fn deliver(
    client: &Client,
    ledger: &Ledger,
    to: &[&String],
    octets: &Bytes,
) -> anyhow::Result<u64> {
    let blob = BlobId::of(octets);
    let names: Result<Vec<AccountName>, _> = to.iter().map(|a| AccountName::new(a)).collect();
    let delivery = Delivery {
        identity: Identity::Request(client.request_id()),
        recipients: names?.into_iter().map(Recipient::inbox).collect(),
        internal_date_ms: 0,
    };
    let results = match client.deliver(&delivery, octets).await {
        Ok(delivered) => delivered.results,
        Err(error) => to.iter().map(|_| Err(error.clone())).collect(),
    };
    let mut stored = 0;
    for (account, result) in to.iter().zip(results) {
        let fate = match &result {
            Ok(_) => Fate::Acknowledged,
            Err(error) if error.outcome_unknown() => Fate::Unknown,
            Err(_) => Fate::Refused,
        };
        ledger.note(account, blob, octets.len() as u64, fate);
        stored += u64::from(fate == Fate::Acknowledged);
        match result {
            Ok(_) => {}
            Err(Error::Busy { .. } | Error::ReadOnly { .. }) => {}
            Err(error) if error.outcome_unknown() => {}
            Err(error) => return Err(error).with_context(|| format!("delivering to {account}")),
        }
    }
    Ok(stored)
}

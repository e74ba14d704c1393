//! Octets of one stopped node's disk rot: in sealed segments, in the unsealed tail, in the index.
//!
//! Afterwards everything is readable, also from the damaged node while it leads; the damage is
//! reported with its place and cause; and it is repaired from the other replicas: a scrub that
//! follows finds nothing that anyone needs, and the replicas have the same state.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use posthouse_client::Target;
use posthouse_tests::cluster::Cluster;
use posthouse_tests::load::{Ledger, deliver, letter};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::{accounts, read_from};

const PATIENCE: Duration = Duration::from_secs(60);

/// Segments are small, so that some are sealed; little is flushed by itself, so that a kill leaves
/// a tail to replay.
const SETTINGS: &str = "segment_bytes = 1048576\nflush_ms = 600000\nshards = 2\n";

/// Records begin behind a segment's own header.
const SEGMENT_HEADER: u64 = 4096;

struct Rot {
    cluster: Cluster,
    ledger: Ledger,
    accounts: Vec<String>,
    rng: ChaCha12Rng,
}

impl Rot {
    async fn start() -> Rot {
        let cluster = Cluster::start_settings(3, SETTINGS, &[]).await.unwrap();
        let accounts = accounts(6);
        let names: Vec<&str> = accounts.iter().map(String::as_str).collect();
        cluster.create_accounts(&names).await.unwrap();
        let mut rot = Rot {
            cluster,
            ledger: Ledger::default(),
            accounts,
            rng: ChaCha12Rng::seed_from_u64(11),
        };
        rot.deliver(40, 150_000).await;
        // What follows stays in the tail; these are flushed.
        for i in 0..3 {
            let target = Target::Addr(rot.cluster.addr(i).to_owned());
            rot.cluster.client().flush(&target).await.unwrap();
        }
        rot.deliver(30, 3_000).await;
        rot
    }

    async fn deliver(&mut self, count: usize, bytes: usize) {
        for n in 0..count {
            let to = &self.accounts[n % self.accounts.len()];
            let octets = letter(&mut self.rng, bytes + n);
            let client = self.cluster.client();
            let stored = deliver(client, &self.ledger, &[to], &octets).await;
            assert_eq!(stored.unwrap(), 1);
        }
    }

    /// Segments of a node, oldest first.
    fn segments(&self, node: usize) -> Vec<PathBuf> {
        files(&self.cluster.data(node).join("journal"), "seg")
    }

    fn target(&self, node: usize) -> Target {
        Target::Addr(self.cluster.addr(node).to_owned())
    }

    /// Everything that the damaged node must do by itself once it is back.
    async fn check(&mut self, node: usize, file: &str) {
        self.cluster.wait_healthy(PATIENCE).await.unwrap();
        let found = self.ledger.check(self.cluster.client()).await.unwrap();
        assert_eq!((found.acknowledged, found.unknown_stored), (70, 0));
        read_from(&self.cluster, &self.accounts, node).await;

        let client = self.cluster.client().with_deadline(PATIENCE);
        // A damaged index ends the first scrub: the node starts anew with one from its peers.
        let begin = Instant::now();
        let first = loop {
            match client.scrub(&self.target(node)).await {
                Ok(scrub) => break scrub,
                Err(error) => {
                    assert!(begin.elapsed() < PATIENCE, "no scrub: {error}");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        };
        assert_eq!(first.damaged, first.repaired, "{first:?}");
        let again = client.scrub(&self.target(node)).await.unwrap();
        assert_eq!(again.damaged, 0, "still damaged: {again:?}");
        self.cluster.wait_healthy(PATIENCE).await.unwrap();
        self.cluster.wait_same_state(PATIENCE).await.unwrap();
        read_from(&self.cluster, &self.accounts, node).await;

        let status = client.status(&self.target(node)).await.unwrap();
        for damage in &status.damage {
            println!(
                "  {} +{} {}: {} -> {}",
                damage.file, damage.offset, damage.length, damage.cause, damage.action
            );
            assert!(!damage.cause.is_empty() && !damage.action.is_empty());
        }
        let named = status.damage.iter().any(|d| d.file.contains(file));
        assert!(named, "no word of {file} in {:?}", status.damage);
        let process = self.cluster.process(node).unwrap();
        assert!(process.is_running());
    }
}

/// Files of a folder with this ending, by name.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == ending));
    files.sort();
    files
}

/// Flips a bit at each of these places.
fn flip(path: &Path, places: impl IntoIterator<Item = u64>) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    for at in places {
        let mut octet = [0];
        file.read_exact_at(&mut octet, at).unwrap();
        file.write_all_at(&[octet[0] ^ 0x10], at).unwrap();
    }
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Two sealed segments: one octet in each 100,000, so that nearly every message is hit.
fn rot_sealed(rot: &Rot, node: usize) -> String {
    let segments = rot.segments(node);
    assert!(segments.len() >= 4, "{segments:?}");
    for path in &segments[1..3] {
        flip(path, (SEGMENT_HEADER + 50_000..len(path)).step_by(100_000));
    }
    name(&segments[1])
}

/// The tail's acknowledged part: its records are many and small, so half-way between the begin of
/// the last segment and the last octet that was written lies one of them.
fn rot_tail(rot: &Rot, node: usize) -> String {
    let segments = rot.segments(node);
    let tail = segments.last().unwrap();
    let octets = fs::read(tail).unwrap();
    let written = octets.iter().rposition(|b| *b != 0).unwrap() as u64;
    assert!(
        written > SEGMENT_HEADER + 20_000,
        "the tail ends at {written}"
    );
    flip(tail, [SEGMENT_HEADER + (written - SEGMENT_HEADER) / 2]);
    name(tail)
}

/// The largest table of the index, in the middle of its rows.
fn rot_index(rot: &Rot, node: usize) -> String {
    let tables = files(&rot.cluster.data(node).join("index"), "sst");
    let table = tables.iter().max_by_key(|path| len(path)).unwrap();
    flip(table, [len(table) / 3]);
    "index".to_owned()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[tokio::test]
async fn rot_in_sealed_segments() {
    let mut rot = Rot::start().await;
    rot.cluster.terminate(1).await.unwrap();
    let file = rot_sealed(&rot, 1);
    rot.cluster.restart(1).await.unwrap();
    rot.check(1, &file).await;
}

#[tokio::test]
async fn rot_in_the_unsealed_tail() {
    let mut rot = Rot::start().await;
    rot.cluster.kill(1);
    let file = rot_tail(&rot, 1);
    rot.cluster.restart(1).await.unwrap();
    rot.check(1, &file).await;
}

#[tokio::test]
async fn rot_in_the_index() {
    let mut rot = Rot::start().await;
    rot.cluster.terminate(1).await.unwrap();
    let file = rot_index(&rot, 1);
    rot.cluster.restart(1).await.unwrap();
    rot.check(1, &file).await;
}

#[tokio::test]
async fn rot_everywhere_at_once() {
    let mut rot = Rot::start().await;
    rot.cluster.kill(1);
    rot_sealed(&rot, 1);
    rot_tail(&rot, 1);
    // With the index everything of the node is given up, its segments too: they are not named.
    let file = rot_index(&rot, 1);
    rot.cluster.restart(1).await.unwrap();
    rot.check(1, &file).await;
}

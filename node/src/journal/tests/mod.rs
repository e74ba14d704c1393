//! Tests of the journal, most of them on a disk that forgets, tears and fails.

mod basics;
mod crash;
pub(crate) mod disk;
mod golden;
mod rot;
mod torn;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::env::{self, Env};
use disk::FakeDisk;

/// Where the fake disk keeps the journal.
const DIR: &str = "/data/journal";

struct SeededRng(Mutex<ChaCha8Rng>);

impl env::rng::Rng for SeededRng {
    fn fill(&self, out: &mut [u8]) {
        self.0.lock().fill_bytes(out);
    }
}

fn env_on(disk: &FakeDisk, seed: u64) -> Env {
    Env {
        disk: Arc::new(disk.handle()),
        rng: Arc::new(SeededRng(Mutex::new(ChaCha8Rng::seed_from_u64(seed)))),
        ..Env::real()
    }
}

/// Small segments, and no idle marks unless a test wants them.
fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        segment_records: 1 << 10,
        batch_bytes: 16 << 10,
        queue_bytes: 64 << 10,
        recycle_segments: 2,
        idle_mark: Duration::from_secs(3600),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

async fn open(disk: &FakeDisk, seed: u64) -> (Journal, Recovery) {
    let env = env_on(disk, seed);
    Journal::open(&env, Path::new(DIR), options())
        .await
        .unwrap()
}

fn record(kind: RecordKind, index: u64, payload: impl Into<Bytes>) -> Append {
    Append {
        head: RecordHead {
            kind,
            shard: ShardId(index as u32 % 3),
            replica: ReplicaId(7),
            index,
            term: 1,
            leader: 7,
            codec: 0,
        },
        payload: vec![payload.into()],
    }
}

/// A payload that says which it is and differs from all others at every length.
fn payload(index: u64, len: usize) -> Bytes {
    let mut rng = ChaCha8Rng::seed_from_u64(index);
    let mut out = vec![0; len];
    rng.fill_bytes(&mut out);
    out.into()
}

fn entry(index: u64, len: usize) -> Append {
    record(RecordKind::Entry, index, payload(index, len))
}

fn seg(number: u64) -> PathBuf {
    table::segment_path(Path::new(DIR), number)
}

fn indexes(recovery: &Recovery) -> Vec<u64> {
    let entries = recovery.records.iter();
    entries
        .filter(|r| r.head.kind == RecordKind::Entry)
        .map(|r| r.head.index)
        .collect()
}

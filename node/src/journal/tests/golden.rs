//! Format version 1, byte for byte: `tests/fixtures/journal-v1` was written by it and must be read
//! for ever. `node/FORMAT.md` draws what is in there.
//!
//! While this is the newest version, writing the same records gives the same bytes, too. Where that
//! is not wanted any more, the version has to change; the fixture never does.
#![allow(clippy::disallowed_methods)] // it reads and writes files next to the journal

use super::*;
use crate::env::clock::Clock;
use crate::env::disk::RealDisk;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/journal-v1");

struct FixedClock;

impl Clock for FixedClock {
    fn now_ms(&self) -> u64 {
        1_700_000_000_000
    }
}

fn golden_env(dir: &Path) -> (Env, PathBuf) {
    let env = Env {
        clock: Arc::new(FixedClock),
        disk: Arc::new(RealDisk),
        ..env_on(&FakeDisk::default(), 1)
    };
    (env, dir.join("journal"))
}

fn golden_options() -> Options {
    Options {
        segment_bytes: 1 << 16,
        idle_mark: Duration::from_secs(3600),
        ..Options::default()
    }
}

fn golden_records() -> Vec<Append> {
    use RecordKind::*;
    let kinds = [Vote, Entry, Committed, Blob, Truncate, Purge, Reset, Entry];
    let each = |(i, kind): (usize, RecordKind)| Append {
        head: RecordHead {
            kind,
            shard: ShardId(i as u32),
            replica: ReplicaId(1 << 32 | 2),
            index: 100 + i as u64,
            term: 5,
            leader: 3 << 32,
            codec: i as u8 % 2,
        },
        payload: vec![Bytes::from_static(b"payload "), payload(i as u64, i * 3)],
    };
    kinds.into_iter().enumerate().map(each).collect()
}

/// Two segments: a sealed one, and one that a kill left with a torn tail.
async fn write(dir: &Path) {
    let (env, dir) = golden_env(dir);
    let (journal, _) = Journal::open(&env, &dir, golden_options()).await.unwrap();
    journal.set_checkpoint(Box::new(|| {
        vec![record(
            RecordKind::Checkpoint,
            0,
            Bytes::from_static(b"state"),
        )]
    }));
    for batch in golden_records().chunks(3) {
        journal.append(batch.to_vec()).await.unwrap();
    }
    journal.pin(1, 1);
    journal.seal().await.unwrap();
    journal.append(golden_records()).await.unwrap();
    journal.append(vec![entry(9, 40)]).await.unwrap();
    // Cut inside the last record, and drop the reserved space.
    let end = journal.segments()[1].bytes;
    let bytes = std::fs::read(dir.join("0000000000000002.seg")).unwrap();
    std::fs::write(dir.join("torn"), &bytes[..end as usize - 30]).unwrap();
    journal.close().await;
    std::fs::rename(dir.join("torn"), dir.join("0000000000000002.seg")).unwrap();
    let first = std::fs::File::options()
        .write(true)
        .open(dir.join("0000000000000001.seg"));
    assert!(
        first.unwrap().metadata().unwrap().len() < 16 << 10,
        "sealed early, cut short"
    );
}

#[test]
fn format_version_1_is_read() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    std::fs::create_dir(&dir).unwrap();
    for name in ["0000000000000001.seg", "0000000000000002.seg"] {
        std::fs::copy(Path::new(FIXTURE).join(name), dir.join(name)).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(async {
        let (env, dir) = golden_env(scratch.path());
        let (journal, recovery) = Journal::open(&env, &dir, golden_options()).await.unwrap();
        assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
        assert_eq!(recovery.torn_bytes, 64 + 40 - 30);
        assert_eq!(recovery.scanned_segments, 1);
        let golden = golden_records();
        let mut records = recovery.records.iter();
        for _ in 0..2 {
            let checkpoint = records.next().unwrap();
            assert_eq!(checkpoint.head.kind, RecordKind::Checkpoint);
            assert_eq!(checkpoint.payload, "state");
            for (append, record) in golden.iter().zip(records.by_ref()) {
                assert_eq!(record.head, append.head);
                let octets = journal.read(record.location).await.unwrap();
                assert_eq!(octets, append.payload.concat());
            }
        }
        assert_eq!(records.next(), None, "the torn record is gone");
        assert_eq!(journal.segments()[0].created_ms, 1_700_000_000_000);
    });
}

#[test]
fn what_is_written_now_is_format_version_1() {
    let scratch = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(write(scratch.path()));
    for name in ["0000000000000001.seg", "0000000000000002.seg"] {
        let now = std::fs::read(scratch.path().join("journal").join(name)).unwrap();
        let golden = std::fs::read(Path::new(FIXTURE).join(name)).unwrap();
        let differs = now.iter().zip(&golden).position(|(a, b)| a != b);
        assert_eq!((differs, now.len()), (None, golden.len()), "{name}");
    }
}

/// Makes the fixture of a new version; an existing one is never overwritten.
#[test]
#[ignore = "only for a new version of the format"]
fn make_fixture() {
    assert!(!Path::new(FIXTURE).exists(), "{FIXTURE} exists");
    let scratch = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(write(scratch.path()));
    std::fs::create_dir_all(FIXTURE).unwrap();
    for name in ["0000000000000001.seg", "0000000000000002.seg"] {
        let from = scratch.path().join("journal").join(name);
        std::fs::copy(from, Path::new(FIXTURE).join(name)).unwrap();
    }
}

//! The contract over both arms, the arms against each other, and a real kill.

#![allow(clippy::disallowed_methods)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::contract::{rows, suite};
use super::memory::MemoryOpener;
use super::rocks::RocksOpener;
use super::{Batch, Change, Family, Index, IndexError, IndexOpener, View};

#[tokio::test]
async fn memory_keeps_the_contract() {
    suite(&MemoryOpener::default(), Path::new("/index")).await;
}

#[tokio::test]
async fn rocks_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    suite(&RocksOpener, dir.path()).await;
}

/// One step of the differential test.
#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Change>),
    View,
    Flush,
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(0u8..3, 0..4).prop_map(|mut tail| {
        tail.insert(0, b'k');
        tail.into()
    })
}

fn counter_key() -> impl Strategy<Value = Bytes> {
    (0u8..3).prop_map(|n| Bytes::copy_from_slice(&[b'n', n]))
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(&Family::ALL[..])
}

fn change() -> impl Strategy<Value = Change> {
    let value = prop::collection::vec(any::<u8>(), 0..6).prop_map(Bytes::from);
    prop_oneof![
        6 => (family(), key(), value).prop_map(|(f, k, v)| Change::Put(f, k, v)),
        2 => (family(), key()).prop_map(|(f, k)| Change::Delete(f, k)),
        1 => (family(), key(), key()).prop_map(|(f, a, b)| Change::DeleteRange(f, a, b)),
        2 => (counter_key(), any::<i64>()).prop_map(|(k, n)| Change::Add(k, n)),
        1 => counter_key().prop_map(|k| Change::Delete(Family::Local, k)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(change(), 0..12).prop_map(Step::Write),
        2 => Just(Step::View),
        1 => Just(Step::Flush),
    ]
}

fn all_rows(view: &dyn View) -> Vec<super::contract::Rows> {
    let mut all = Vec::new();
    for family in Family::ALL {
        all.push(rows(view, family, b"", b"\xff", false));
        all.push(rows(view, family, b"k\x01", b"k\x02\x01", true));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_arms_agree(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let arms: [Arc<dyn Index>; 2] = [
                MemoryOpener::default().open(dir.path()).await.unwrap(),
                RocksOpener.open(dir.path()).await.unwrap(),
            ];
            let mut views = Vec::new();
            for step in steps {
                match step {
                    Step::Write(changes) => for arm in &arms {
                        arm.write(Batch { changes: changes.clone() }).unwrap();
                    },
                    Step::View => {
                        let [memory, rocks] = [arms[0].view(), arms[1].view()];
                        let seen = all_rows(&*memory);
                        views.push((memory, rocks, seen));
                    }
                    Step::Flush => for arm in &arms {
                        arm.flush().await.unwrap();
                    },
                }
                assert_eq!(all_rows(&*arms[0]), all_rows(&*arms[1]));
            }
            for (memory, rocks, seen) in views {
                assert_eq!(all_rows(&*memory), seen, "a view moved");
                assert_eq!(all_rows(&*rocks), seen);
            }
        });
    }

    #[test]
    fn a_memory_crash_keeps_a_prefix(batches in prop::collection::vec(prop::collection::vec(change(), 1..6), 1..30), flush_at in 0usize..30, keep in 0u64..30) {
        let opener = MemoryOpener::default();
        let path = Path::new("/index");
        let store = opener.store(path);
        let index = store.open();
        let model = MemoryOpener::default().store(path).open();
        let flush_at = flush_at.min(batches.len());
        let survive = (flush_at as u64 + keep).min(batches.len() as u64) as usize;
        for (n, changes) in batches.iter().enumerate() {
            if n == flush_at {
                futures::executor::block_on(index.flush()).unwrap();
            }
            index.write(Batch { changes: changes.clone() }).unwrap();
            if n < survive {
                model.write(Batch { changes: changes.clone() }).unwrap();
            }
        }
        if flush_at == batches.len() {
            futures::executor::block_on(index.flush()).unwrap();
        }
        let view = index.view();
        store.crash(keep);
        prop_assert!(matches!(index.write(Batch::default()), Err(IndexError::Failed(_))));
        prop_assert!(view.get(Family::State, b"k").is_err());
        drop(view);
        let index = store.open();
        prop_assert_eq!(all_rows(&*index), all_rows(&*model));
    }
}

/// What batch `n` of the kill test writes: rows of all families that tell which batch was last.
fn kill_batch(n: u64) -> Batch {
    let mut batch = Batch::default();
    let number = Bytes::copy_from_slice(&n.to_be_bytes());
    let filler: Vec<u8> = (0..4096u64).map(|i| ((i * n) >> 3) as u8).collect();
    for family in Family::ALL {
        batch.put(family, "last", number.clone());
        batch.put(
            family,
            format!("row{:04}", n % 300),
            [&number[..], &filler].concat(),
        );
        batch.delete(family, format!("row{:04}", (n + 150) % 300));
    }
    batch.add("count", 1);
    batch
}

/// Run by the kill test in a process of its own.
#[tokio::test]
#[ignore = "the child of a_killed_index_is_a_prefix"]
async fn kill_child() {
    let Ok(dir) = std::env::var("POSTHOUSE_KILL_DIR") else {
        return;
    };
    let index = RocksOpener.open(Path::new(&dir)).await.unwrap();
    let first = match index.get(Family::State, b"last").unwrap() {
        Some(last) => u64::from_be_bytes(last[..].try_into().unwrap()) + 1,
        None => 1,
    };
    let flushes: u64 = std::env::var("POSTHOUSE_KILL_FLUSHES")
        .unwrap()
        .parse()
        .unwrap();
    for n in first.. {
        index.write(kill_batch(n)).unwrap();
        if n % 1500 == 0 && n < first + flushes * 1500 {
            index.flush().await.unwrap();
            println!("flushed {n}");
        }
    }
}

#[tokio::test]
async fn a_killed_index_is_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let mut survived = 0;
    for round in 0..4u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "index::tests::kill_child",
                "--ignored",
                "--nocapture",
            ])
            .env("POSTHOUSE_KILL_DIR", dir.path())
            .env(
                "POSTHOUSE_KILL_FLUSHES",
                if round == 3 { "1" } else { "1000" },
            )
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut flushed = 0;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Let it get past a flush or two, then some way into the next; in the last round into those
        // that RocksDB begins by itself when its buffers are full.
        for _ in 0..1 + u64::from(round == 1) {
            for line in lines.by_ref() {
                if let Some((_, n)) = line.unwrap().rsplit_once("flushed ") {
                    flushed = n.parse().unwrap();
                    break;
                }
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(
            [37, 74, 111, 400][round as usize],
        ));
        child.kill().unwrap();
        child.wait().unwrap();

        let index = RocksOpener.open(dir.path()).await.unwrap();
        let last = index.get(Family::State, b"last").unwrap().unwrap();
        let last = u64::from_be_bytes(last[..].try_into().unwrap());
        println!("round {round}: flushed up to {flushed}, found {last}");
        assert!(last >= flushed, "flushed {flushed}, found {last}");
        assert!(last > survived);
        survived = last;
        let model = MemoryOpener::default().open(dir.path()).await.unwrap();
        (1..=last).for_each(|n| model.write(kill_batch(n)).unwrap());
        assert!(
            all_rows(&*index) == all_rows(&*model),
            "not the state after batch {last}"
        );
        index.verify().await.unwrap();
    }
}

#[tokio::test]
async fn damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let index = RocksOpener.open(dir.path()).await.unwrap();
    (1..2000).for_each(|n| index.write(kill_batch(n)).unwrap());
    index.flush().await.unwrap();
    drop(index);
    let table = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "sst"))
        .max_by_key(|p| p.metadata().unwrap().len())
        .unwrap();
    let mut octets = std::fs::read(&table).unwrap();
    let at = octets.len() / 3;
    octets[at] ^= 0x40;
    std::fs::write(&table, octets).unwrap();
    let found = match RocksOpener.open(dir.path()).await {
        Ok(index) => index.verify().await.unwrap_err(),
        Err(e) => e,
    };
    let name = table.file_name().unwrap().to_str().unwrap();
    assert!(
        matches!(&found, IndexError::Corrupt(text) if text.contains(name)),
        "{found}"
    );
    std::fs::remove_file(dir.path().join("CURRENT")).unwrap();
    let found = RocksOpener.open(dir.path()).await.err().unwrap();
    assert!(matches!(found, IndexError::Corrupt(_)), "{found}");
}

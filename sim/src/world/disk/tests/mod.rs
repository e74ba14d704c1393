//! The simulated disk keeps the contract of the real one, and loses what it may lose, no more.

mod faults;
mod model;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use posthouse_node::env::disk::{Disk, File, OpenMode, contract};

use super::*;

/// A disk with quick syncs and small sectors.
fn settings() -> plan::Disk {
    plan::Disk {
        sync_ms: 2,
        sync_jitter_ms: 2,
        sector: 512,
        bytes: 1 << 30,
    }
}

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(seed, 0, &settings(), HostTime::default())
}

/// Runs in simulated time.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(work)
}

/// Whether it does not answer within an hour.
async fn is_silent<T>(call: impl Future<Output = T>) -> bool {
    let hour = Duration::from_secs(3600);
    tokio::time::timeout(hour, call).await.is_err()
}

async fn create(disk: &Arc<dyn Disk>, path: &str) -> Arc<dyn File> {
    let path = Path::new(path);
    disk.open(path, OpenMode::CreateNew).await.unwrap()
}

fn filled(octet: u8, len: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![octet; len])]
}

#[test]
fn it_keeps_the_contract() {
    let disk = disk(1);
    run(contract::check(
        disk.process(Fence::default()),
        Path::new("/data"),
    ));
    let counters = disk.counters();
    assert!(counters.reads > 0 && counters.writes > 0 && counters.syncs > 0);
}

#[test]
fn the_dead_do_nothing() {
    let disk = disk(2);
    let fence = Fence::default();
    run(async {
        let process = disk.process(fence.clone());
        let file = create(&process, "/file").await;
        file.write_and_sync(0, filled(1, 4096)).await.unwrap();
        process.sync_dir(Path::new("/")).await.unwrap();
        let lock = process.lock_dir(Path::new("/")).await.ok().unwrap();
        // It dies while a write waits for its sync, and asks for more.
        let doomed = file.write_and_sync(0, filled(2, 4096));
        tokio::pin!(doomed);
        tokio::select! {
            biased;
            _ = &mut doomed => panic!("too soon"),
            () = tokio::time::sleep(Duration::from_millis(1)) => fence.kill(),
        }
        let before = disk.activity();
        assert!(is_silent(doomed).await);
        assert!(is_silent(file.write_at(0, filled(3, 10))).await);
        assert!(is_silent(file.sync_data()).await);
        assert!(is_silent(file.read_at(0, 1)).await);
        assert!(is_silent(file.set_len(0)).await);
        assert!(is_silent(process.remove(Path::new("/file"))).await);
        assert!(is_silent(process.list(Path::new("/"))).await);
        assert_eq!(disk.activity(), before, "no trace of the dead");
        disk.kill();
        let next = disk.process(Fence::default());
        let held = next.lock_dir(Path::new("/")).await;
        assert!(held.is_ok(), "the kernel releases what the dead held");
        drop(lock);
        let third = next.lock_dir(Path::new("/")).await;
        assert!(third.is_err(), "and what they drop later is not theirs");
    });
    let seen = disk.content(Path::new("/file")).unwrap();
    assert!(seen.iter().all(|b| *b == 2), "the cache survives a process");
    disk.power_failure();
    let seen = disk.content(Path::new("/file")).unwrap();
    assert!(seen.iter().all(|b| [1, 2].contains(b)));
}

#[test]
fn syncs_take_their_time_one_after_the_other() {
    run(async {
        let process = disk(3).process(Fence::default());
        let (a, b) = (create(&process, "/a").await, create(&process, "/b").await);
        let begin = tokio::time::Instant::now();
        a.write_at(0, filled(1, 100)).await.unwrap();
        a.read_at(0, 100).await.unwrap();
        assert_eq!(begin.elapsed().as_millis(), 0, "the cache is immediate");
        let (one, two) = tokio::join!(a.sync_data(), b.sync_data());
        one.and(two).unwrap();
        let took = begin.elapsed().as_millis();
        assert!((4..=8).contains(&took), "two syncs took {took} ms");
    });
}

#[test]
fn unsynced_names_survive_as_a_prefix() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let disk = disk(seed);
        run(async {
            let process = disk.process(Fence::default());
            process.create_dir_all(Path::new("/d")).await.unwrap();
            for path in ["/d/a", "/d/b"] {
                create(&process, path).await;
            }
            process.sync_dir(Path::new("/d")).await.unwrap();
            process.remove(Path::new("/d/a")).await.unwrap();
            create(&process, "/d/c").await;
            let (b, a) = (Path::new("/d/b"), Path::new("/d/a"));
            process.rename(b, a).await.unwrap();
        });
        disk.power_failure();
        let name = |(path, _): (PathBuf, u64)| path.file_name().unwrap().to_owned();
        let names: Vec<_> = disk.files().into_iter().map(name).collect();
        let names: Vec<String> = names.iter().map(|n| n.to_str().unwrap().into()).collect();
        seen.insert(names.join(" "));
        let durable = disk.0.state.lock().is_durable();
        assert!(durable);
    }
    let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(seen, ["a b", "a c", "b", "b c"], "every prefix, no more");
}

#[test]
fn a_replaced_file_is_old_or_new() {
    let mut seen = std::collections::BTreeSet::new();
    for ms in 0..16 {
        let disk = disk(ms);
        let fence = Fence::default();
        let path = Path::new("/d/file");
        run(async {
            let process = disk.process(fence.clone());
            process.create_dir_all(Path::new("/d")).await.unwrap();
            let old = Bytes::from(vec![1; 3000]);
            process.replace(path, old).await.unwrap();
            let replaced = process.replace(path, Bytes::from(vec![2; 1000]));
            let _ = tokio::time::timeout(Duration::from_millis(ms), replaced).await;
            fence.kill();
        });
        disk.power_failure();
        let content = disk.content(path).unwrap();
        assert!(content == vec![1; 3000] || content == vec![2; 1000]);
        seen.insert(content.len());
    }
    assert_eq!(seen.len(), 2, "both happen");
}

#[test]
fn images_come_back_and_copies_go_their_own_way() {
    let disk = disk(5);
    run(async {
        let process = disk.process(Fence::default());
        process.create_dir_all(Path::new("/d/e")).await.unwrap();
        let file = create(&process, "/d/file").await;
        file.allocate(1 << 20).await.unwrap();
        file.write_and_sync(0, filled(1, 5000)).await.unwrap();
        create(&process, "/d/e/identity").await;
        let image = disk.image();
        let copy = SimDisk::new(5, 1, &settings(), HostTime::default());
        copy.restore(&image);
        file.write_and_sync(4000, filled(2, 5000)).await.unwrap();
        process.remove(Path::new("/d/file")).await.unwrap();
        disk.restore(&image);
        for disk in [&disk, &copy] {
            let content = disk.content(Path::new("/d/file")).unwrap();
            assert_eq!(content.len(), 1 << 20);
            let written = content.iter().filter(|b| **b == 1).count();
            assert_eq!(written, 5000);
            let durable = disk.0.state.lock().is_durable();
            assert!(durable);
        }
        disk.wipe(&|path| path.ends_with("identity"));
        assert_eq!(disk.files(), [(PathBuf::from("/d/e/identity"), 0)]);
        disk.wipe(&|_| false);
        let process = disk.process(Fence::default());
        assert!(process.list(Path::new("/d")).await.is_err());
        assert_eq!(process.list(Path::new("/")).await.unwrap().len(), 0);
        assert_eq!(copy.files().len(), 2);
    });
}

#[test]
fn equal_runs_are_equal() {
    let once = |seed| {
        let disk = disk(seed);
        run(async {
            let process = disk.process(Fence::default());
            let file = create(&process, "/file").await;
            for n in 0..20 {
                let part = filled(n, 700 * n as usize);
                file.write_at(u64::from(n) * 512, part).await.unwrap();
                if n % 7 == 0 {
                    file.sync_data().await.unwrap();
                }
            }
            process.sync_dir(Path::new("/")).await.unwrap();
        });
        disk.power_failure();
        disk.rot(2, &|_| Decay::Synced);
        (disk.activity(), disk.content(Path::new("/file")))
    };
    assert_eq!(once(6), once(6));
    assert_ne!(once(6), once(7));
}

//! What goes wrong does so as it was ordered, and is over when it should be.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use parking_lot::Mutex;

use super::*;
use crate::plan::DiskCall;

#[test]
fn a_failed_sync_cleans_what_it_did_not_write() {
    let mut lost = 0;
    for seed in 0..40 {
        let disk = disk(seed);
        run(async {
            let process = disk.process(Fence::default());
            let file = create(&process, "/file").await;
            process.sync_dir(Path::new("/")).await.unwrap();
            file.write_and_sync(0, filled(1, 2048)).await.unwrap();
            disk.fail_next(DiskCall::Sync, 1);
            let failed = file.write_and_sync(0, filled(2, 2048)).await.unwrap_err();
            assert_eq!(failed.raw_os_error(), Some(5));
            file.sync_data().await.expect("the second one lies");
            assert_eq!(file.read_at(0, 1).await.unwrap(), [2][..]);
            // What is written again is safe again.
            file.write_and_sync(0, filled(3, 1024)).await.unwrap();
        });
        disk.power_failure();
        let content = disk.content(Path::new("/file")).unwrap();
        assert!(content[..1024].iter().all(|b| *b == 3));
        lost += content[1024..].iter().filter(|b| **b == 1).count();
    }
    assert!(lost > 0, "sometimes the platter has the old content");
}

#[test]
fn a_sync_covers_what_was_there_when_it_began() {
    let mut lost = 0;
    for seed in 0..40 {
        let disk = disk(seed);
        run(async {
            let process = disk.process(Fence::default());
            let file = create(&process, "/file").await;
            process.sync_dir(Path::new("/")).await.unwrap();
            file.write_at(0, filled(1, 512)).await.unwrap();
            let sync = file.sync_data();
            let late = async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                file.write_at(0, filled(2, 512)).await
            };
            let (synced, written) = tokio::join!(sync, late);
            synced.and(written).unwrap();
        });
        disk.power_failure();
        let octet = disk.content(Path::new("/file")).unwrap()[0];
        assert!([1, 2].contains(&octet), "found {octet}");
        lost += usize::from(octet == 1);
    }
    assert!((1..40).contains(&lost), "lost {lost}");
}

#[test]
fn errors_come_as_often_as_ordered() {
    let disk = disk(3);
    run(async {
        let process = disk.process(Fence::default());
        let file = create(&process, "/file").await;
        file.write_and_sync(0, filled(1, 4096)).await.unwrap();
        disk.fail_next(DiskCall::Write, 1);
        disk.fail_next(DiskCall::Read, 2);
        assert!(file.write_at(0, filled(2, 4096)).await.is_err());
        assert!(file.read_at(0, 10).await.is_err());
        assert!(process.read(Path::new("/file")).await.is_err());
        let content = file.read_at(0, 4096).await.unwrap();
        let sectors = content.chunks(512);
        assert!(sectors.into_iter().all(|s| s == [1; 512] || s == [2; 512]));
        disk.fail_next(DiskCall::Sync, 9);
        disk.heal();
        file.sync_data().await.unwrap();
    });
}

#[test]
fn a_process_dies_where_it_should() {
    let mut kept = BTreeSet::new();
    for seed in 0..40 {
        let disk = disk(seed);
        let fence = Fence::default();
        let killed = fence.clone();
        let armed = Armed {
            call: DiskCall::Write,
            n: 3,
        };
        disk.arm(armed, Box::new(move || killed.kill()));
        run(async {
            let process = disk.process(fence.clone());
            let file = create(&process, "/file").await;
            file.write_at(0, filled(1, 4096)).await.unwrap();
            file.write_and_sync(0, filled(2, 4096)).await.unwrap();
            assert!(!fence.is_dead());
            assert!(is_silent(file.write_at(256, filled(3, 1024))).await);
            assert!(fence.is_dead());
        });
        disk.kill();
        let content = disk.content(Path::new("/file")).unwrap();
        kept.insert(content.iter().filter(|b| **b == 3).count());
    }
    assert!(kept.contains(&0) && kept.contains(&1024) && kept.len() > 3);
}

#[test]
fn a_process_dies_before_its_sync() {
    let mut synced = BTreeSet::new();
    for seed in 0..40 {
        let disk = disk(seed);
        let fence = Fence::default();
        run(async {
            let process = disk.process(fence.clone());
            let file = create(&process, "/file").await;
            file.allocate(4096).await.unwrap();
            file.sync_data().await.unwrap();
            process.sync_dir(Path::new("/")).await.unwrap();
            let killed = fence.clone();
            let armed = Armed {
                call: DiskCall::Sync,
                n: 1,
            };
            disk.arm(armed, Box::new(move || killed.kill()));
            assert!(is_silent(file.write_and_sync(0, filled(1, 4096))).await);
            assert!(fence.is_dead());
        });
        disk.power_failure();
        let content = disk.content(Path::new("/file")).unwrap();
        synced.insert(content.iter().filter(|b| **b == 1).count());
    }
    assert!(synced.contains(&0) && synced.contains(&4096));
    assert!(synced.iter().any(|n| n % 512 != 0), "some are torn");
}

#[test]
fn the_points_of_the_dead_are_forgotten() {
    let disk = disk(4);
    let called = Arc::new(Mutex::new(false));
    let flag = Arc::clone(&called);
    let armed = Armed {
        call: DiskCall::Write,
        n: 1,
    };
    disk.arm(armed, Box::new(move || *flag.lock() = true));
    disk.kill();
    run(async {
        let file = create(&disk.process(Fence::default()), "/file").await;
        file.write_at(0, filled(1, 10)).await.unwrap();
    });
    assert!(!*called.lock());
}

#[test]
fn a_misdirected_write_hits_one_other_place() {
    for seed in 0..40 {
        let disk = disk(seed);
        run(async {
            let file = create(&disk.process(Fence::default()), "/file").await;
            disk.misdirect_next();
            file.write_and_sync(0, filled(1, 8192)).await.unwrap();
            assert_eq!(file.len().await.unwrap(), 8192, "there was no other place");
            file.write_and_sync(1024, filled(2, 1024)).await.unwrap();
            let content = file.read_at(0, 8192).await.unwrap();
            let hit: Vec<usize> = (0..8192).filter(|i| content[*i] == 2).collect();
            assert_eq!((file.len().await.unwrap(), hit.len()), (8192, 1024));
            assert!(hit[0].is_multiple_of(512) && hit[0] != 1024);
            file.write_and_sync(1024, filled(3, 1024)).await.unwrap();
            assert_eq!(file.read_at(1024, 1024).await.unwrap(), vec![3; 1024]);
        });
    }
}

#[test]
fn a_write_that_nothing_follows_does_not_stay_astray() {
    for seed in 0..40 {
        for (power, follows) in [(false, false), (false, true), (true, false), (true, true)] {
            let disk = disk(seed);
            run(async {
                let process = disk.process(Fence::default());
                let file = create(&process, "/file").await;
                process.sync_dir(Path::new("/")).await.unwrap();
                file.write_and_sync(0, filled(1, 8192)).await.unwrap();
                disk.misdirect_next();
                file.write_and_sync(1024, filled(2, 1024)).await.unwrap();
                if follows {
                    file.write_and_sync(2048, filled(3, 512)).await.unwrap();
                }
            });
            match power {
                true => disk.power_failure(),
                false => disk.kill(),
            }
            let content = disk.content(Path::new("/file")).unwrap();
            let right = content[1024..2048].iter().all(|b| *b == 2);
            assert_eq!(right, !follows, "seed {seed}, power {power}");
        }
    }
}

#[test]
fn a_full_disk_takes_what_was_reserved() {
    let small = plan::Disk {
        bytes: 64 << 10,
        ..settings()
    };
    let disk = SimDisk::new(1, 0, &small, HostTime::default());
    run(async {
        let process = disk.process(Fence::default());
        let file = create(&process, "/file").await;
        file.allocate(32 << 10).await.unwrap();
        let free = || async { process.space(Path::new("/")).await.unwrap().free_bytes };
        assert_eq!(free().await, 32 << 10);
        let refused = file.allocate(65 << 10).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        disk.full(true);
        assert_eq!(free().await, 0);
        file.write_and_sync(0, filled(1, 32 << 10)).await.unwrap();
        let refused = file.write_at(32 << 10, filled(1, 1)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        disk.full(false);
        let other = create(&process, "/other").await;
        let refused = other.write_at(0, filled(1, 40 << 10)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        disk.set_used(32 << 10);
        assert_eq!(free().await, 0);
        disk.set_used(0);
        file.set_len(5000).await.unwrap();
        assert_eq!(free().await, 56 << 10);
        drop(file);
        process.remove(Path::new("/file")).await.unwrap();
        assert_eq!(free().await, 56 << 10, "a crash may bring it back");
        process.sync_dir(Path::new("/")).await.unwrap();
        assert_eq!(free().await, 64 << 10);
    });
}

#[test]
fn a_stalled_disk_answers_later_and_a_slow_one_slowly() {
    let time = HostTime::default();
    let disk = SimDisk::new(1, 0, &settings(), time.clone());
    let elapsed = |begin: tokio::time::Instant| begin.elapsed().as_millis();
    run(async {
        // The world moves the host's time along with the runtime's.
        let begin = tokio::time::Instant::now();
        let world = async {
            loop {
                time.set(elapsed(begin) as u64);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let work = async {
            let file = create(&disk.process(Fence::default()), "/file").await;
            let sync = file.sync_data();
            let stall = async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                disk.stall_ms(1000);
            };
            tokio::join!(sync, stall).0.unwrap();
            let took = elapsed(begin);
            assert!((1001..1010).contains(&took), "stalled for {took} ms");
            disk.slow(10, 500);
            file.write_and_sync(0, filled(1, 10)).await.unwrap();
            let took = elapsed(begin) - took;
            assert!((20..=41).contains(&took), "a sync took {took} ms");
            let begun = elapsed(begin);
            disk.stall_ms(30_000);
            let heal = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                disk.heal();
            };
            tokio::join!(file.sync_data(), heal).0.unwrap();
            let took = elapsed(begin) - begun;
            assert!((100..110).contains(&took), "healed after {took} ms");
        };
        tokio::select! {
            biased;
            () = world => {}
            () = work => {}
        }
    });
}

#[test]
fn rot_strikes_what_is_at_rest() {
    for seed in 0..40 {
        let disk = disk(seed);
        run(async {
            let process = disk.process(Fence::default());
            let log = create(&process, "/log").await;
            log.allocate(1 << 20).await.unwrap();
            log.write_and_sync(0, filled(1, 8192)).await.unwrap();
            assert!(disk.rot(1, &|_| Decay::Settled).is_empty(), "too fresh");
            log.write_and_sync(8192, filled(1, 4096)).await.unwrap();
            log.write_at(12288, filled(1, 4096)).await.unwrap();
            let spared = create(&process, "/spared").await;
            spared.write_and_sync(0, filled(1, 4096)).await.unwrap();
        });
        let decay = |path: &Path| match path.ends_with("log") {
            true => Decay::Settled,
            false => Decay::Never,
        };
        let struck = disk.rot(1, &decay);
        assert_eq!(struck.len(), 1);
        assert!(struck[0].starts_with("/log at "), "{struck:?}");
        let log = disk.content(Path::new("/log")).unwrap();
        let changed: Vec<usize> = (0..16384).filter(|i| log[*i] != 1).collect();
        assert!(!changed.is_empty() && changed.iter().all(|i| *i < 8192));
        assert_eq!(changed[0] / 512, changed[changed.len() - 1] / 512);
        let spared = disk.content(Path::new("/spared")).unwrap();
        assert!(spared.iter().all(|b| *b == 1));
    }
}

//! The simulated index keeps the contract, loses suffixes in a crash, and follows its directory.

use std::collections::BTreeSet;
use std::time::Duration;

use posthouse_node::env::disk::Disk;
use posthouse_node::index::contract;

use super::*;
use crate::plan;
use crate::world::HostId;
use crate::world::clock::HostTime;
use crate::world::turn::Turn;

const PATH: &str = "/data/index";

struct World {
    disk: SimDisk,
    index: SimIndex,
}

impl World {
    fn new(seed: u64) -> World {
        let settings = plan::Disk {
            sync_ms: 1,
            sync_jitter_ms: 0,
            sector: 512,
            bytes: 1 << 30,
        };
        let disk = SimDisk::new(seed, 0, &settings, HostTime::default());
        let index = SimIndex::new(seed, 0, &disk);
        World { disk, index }
    }

    async fn open(&self, fence: &Fence) -> Result<Arc<dyn Index>, IndexError> {
        let opener = self.index.process(fence.clone());
        opener.open(Path::new(PATH)).await
    }

    fn files(&self) -> Arc<dyn Disk> {
        self.disk.process(Fence::default())
    }

    fn die(&self, fence: &Fence, power: bool) {
        fence.kill();
        match power {
            true => self.disk.power_failure(),
            false => self.disk.kill(),
        }
        self.index.crash(power);
    }

    /// What a node does with an index that is damaged, without the syncs that come after.
    async fn give_up(&self) {
        let files = self.files();
        for name in files.list(Path::new(PATH)).await.unwrap() {
            files.remove(&Path::new(PATH).join(name)).await.unwrap();
        }
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(work)
}

/// Batch `n` of a test: tells how many there were.
fn batch(n: u32) -> Batch {
    let mut batch = Batch::default();
    batch.put(Family::State, "last", n.to_be_bytes().to_vec());
    batch.put(Family::Cold, format!("row{n:03}"), "value");
    batch
}

fn write(index: &dyn Index, n: u32) {
    index.write(batch(n)).unwrap();
}

fn last(view: &dyn View) -> u32 {
    let row = view.get(Family::State, b"last").unwrap();
    row.map_or(0, |row| u32::from_be_bytes(row[..].try_into().unwrap()))
}

#[test]
fn it_keeps_the_contract() {
    let world = World::new(1);
    let opener = world.index.process(Fence::default());
    run(contract::suite(&*opener, Path::new("/data")));
}

#[test]
fn a_crash_keeps_a_prefix_of_what_was_not_flushed() {
    let mut kept = BTreeSet::new();
    for seed in 0..60 {
        let world = World::new(seed);
        run(async {
            let fence = Fence::default();
            let index = world.open(&fence).await.unwrap();
            (1..=3).for_each(|n| write(&*index, n));
            index.flush().await.unwrap();
            (4..=6).for_each(|n| write(&*index, n));
            world.die(&fence, seed % 2 == 0);
            assert!(index.write(batch(7)).is_err(), "the dead write nothing");
            let flush = tokio::time::timeout(Duration::from_secs(60), index.flush());
            assert!(flush.await.is_err(), "the dead flush nothing");
            let index = world.open(&Fence::default()).await.unwrap();
            let found = last(&*index);
            let to = format!("row{:03}", found + 1);
            let rows = contract::rows(&*index, Family::Cold, b"row", to.as_bytes(), false);
            assert_eq!(rows.len() as u32, found);
            let none = contract::rows(&*index, Family::Cold, to.as_bytes(), b"s", true);
            assert!(none.is_empty(), "batch {found} is the last of all");
            kept.insert(found);
        });
    }
    assert_eq!(kept, BTreeSet::from([3, 4, 5, 6]));
}

#[test]
fn a_flush_covers_what_was_written_when_it_began() {
    let mut kept = BTreeSet::new();
    for seed in 0..60 {
        let world = World::new(seed);
        run(async {
            let fence = Fence::default();
            let index = world.open(&fence).await.unwrap();
            write(&*index, 1);
            let (flushed, ()) = tokio::join!(index.flush(), async { write(&*index, 2) });
            flushed.unwrap();
            world.die(&fence, true);
            let index = world.open(&Fence::default()).await.unwrap();
            kept.insert(last(&*index));
        });
    }
    assert_eq!(kept, BTreeSet::from([1, 2]));
}

#[test]
fn a_rotten_index_says_so_until_it_is_given_up() {
    let (mut at_open, mut later) = (0, 0);
    for seed in 0..40 {
        let world = World::new(seed);
        run(async {
            let fence = Fence::default();
            let index = world.open(&fence).await.unwrap();
            (1..=9).for_each(|n| write(&*index, n));
            index.flush().await.unwrap();
            index.verify().await.unwrap();
            let view = index.view();
            world.index.rot().unwrap();
            assert!(matches!(index.verify().await, Err(IndexError::Corrupt(_))));
            let mut seen = 0;
            for family in [Family::State, Family::Cold] {
                let scanned = view.scan(family, b"", b"z", &mut |_, _| {
                    seen += 1;
                    Next::Continue
                });
                seen -= i32::from(scanned.is_err()) * 100;
            }
            assert!(seen < 0, "a scan meets it");
            world.die(&fence, false);
            let index = match world.open(&Fence::default()).await {
                Ok(index) => {
                    later += 1;
                    assert!(index.verify().await.is_err(), "it is still there");
                    index
                }
                Err(IndexError::Corrupt(_)) => {
                    at_open += 1;
                    world.give_up().await;
                    world.open(&Fence::default()).await.unwrap()
                }
                Err(e) => panic!("{e}"),
            };
            world.give_up().await;
            drop(index);
            let index = world.open(&Fence::default()).await.unwrap();
            index.verify().await.unwrap();
            assert_eq!(last(&*index), 0, "it began anew");
        });
    }
    assert!(at_open > 5 && later > 5, "{at_open} {later}");
}

#[test]
fn an_index_that_was_given_up_may_come_back_with_its_names() {
    let mut back = 0;
    for seed in 0..40 {
        let world = World::new(seed);
        run(async {
            let fence = Fence::default();
            let index = world.open(&fence).await.unwrap();
            write(&*index, 5);
            index.flush().await.unwrap();
            world.give_up().await;
            world.die(&fence, true);
            let index = world.open(&Fence::default()).await.unwrap();
            match last(&*index) {
                0 => {}
                5 => back += 1,
                other => panic!("{other}"),
            }
        });
    }
    assert!((1..40).contains(&back), "{back}");
}

#[test]
fn it_follows_images_and_wiping() {
    let world = World::new(4);
    run(async {
        let fence = Fence::default();
        let index = world.open(&fence).await.unwrap();
        write(&*index, 1);
        index.flush().await.unwrap();
        let image = (world.disk.image(), world.index.image());
        write(&*index, 2);
        index.flush().await.unwrap();
        world.die(&fence, false);

        let wipe = || {
            world.disk.wipe(&|_| false);
            world.index.wipe();
        };
        wipe();
        let fence = Fence::default();
        let index = world.open(&fence).await.unwrap();
        assert_eq!(last(&*index), 0);
        write(&*index, 3);
        world.die(&fence, false);

        let copy = World::new(5);
        for world in [&world, &copy, &world] {
            world.disk.restore(&image.0);
            world.index.restore(&image.1);
            let fence = Fence::default();
            let index = world.open(&fence).await.unwrap();
            assert_eq!(last(&*index), 1);
            assert_eq!(last(&*world.index.store().unwrap().open()), 1);
            write(&*index, 4);
            index.flush().await.unwrap();
            world.die(&fence, false);
        }
    });
}

#[test]
fn failures_come_as_ordered() {
    let world = World::new(6);
    run(async {
        let index = world.open(&Fence::default()).await.unwrap();
        world.index.fail_next(DiskCall::Write, 1);
        let refused = index.write(Batch::default());
        assert!(matches!(refused, Err(IndexError::Failed(_))));
        write(&*index, 1);
        world.index.fail_next(DiskCall::Sync, 1);
        assert!(index.flush().await.is_err());
        world.disk.full(true);
        assert!(index.flush().await.is_err(), "no space");
        world.disk.full(false);
        world.disk.leave(2);
        assert!(index.flush().await.is_err(), "too little space");
        world.disk.leave(1 << 10);
        index.flush().await.unwrap();
        write(&*index, 2);
        world.index.fail_next(DiskCall::Sync, 1);
        world.index.heal();
        index.flush().await.unwrap();
        assert_eq!(world.index.store().unwrap().unflushed(), 0);
        world.index.fail_next(DiskCall::Read, 2);
        // Whoever looks on from outside.
        assert!(index.get(Family::State, b"x").is_ok());
        let _turn = Turn::begin(HostId(0), 0);
        assert!(index.get(Family::State, b"x").is_err());
        let view = index.view();
        let mut visit = |_: &[u8], _: &[u8]| Next::Continue;
        assert!(view.scan(Family::State, b"", b"z", &mut visit).is_err());
        view.scan(Family::State, b"", b"z", &mut visit).unwrap();
    });
}

#[test]
fn a_process_dies_in_a_flush_that_has_rows_and_in_none_once_it_has_healed() {
    let world = World::new(7);
    run(async {
        let fence = Fence::default();
        let index = world.open(&fence).await.unwrap();
        world.index.arm(2, fence.clone());
        index.flush().await.unwrap();
        write(&*index, 1);
        index.flush().await.unwrap();
        write(&*index, 2);
        let dies = tokio::time::timeout(Duration::from_secs(60), index.flush());
        assert!(dies.await.is_err() && fence.is_dead());
        world.die(&fence, false);
        let fence = Fence::default();
        let index = world.open(&fence).await.unwrap();
        world.index.arm(1, fence.clone());
        world.index.heal();
        write(&*index, 3);
        index.flush().await.unwrap();
        assert!(!fence.is_dead());
    });
}

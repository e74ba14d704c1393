//! What a caller sees when nothing goes wrong, and when the disk fails.

use super::*;
use crate::env::disk::Disk as _;

#[test]
fn the_fake_disk_keeps_the_contract() {
    block_on(async {
        let disk = FakeDisk::default();
        disk.create_dir_all(Path::new("/scratch")).await.unwrap();
        env::disk::contract::check(Arc::new(disk), Path::new("/scratch")).await;
    });
}

#[test]
fn what_is_appended_is_read_back_before_and_after_a_restart() {
    block_on(async {
        let disk = FakeDisk::default();
        let (journal, recovery) = open(&disk, 1).await;
        assert_eq!(recovery.segments, 0);
        let parts = vec![
            Bytes::from_static(b"one "),
            Bytes::new(),
            Bytes::from_static(b"record"),
        ];
        let mut append = entry(1, 0);
        append.payload = parts;
        let vote = record(RecordKind::Vote, 9, Bytes::from_static(b"vote"));
        let at = journal.append(vec![append, vote]).await.unwrap();
        assert_eq!(journal.read(at[0]).await.unwrap(), "one record");
        assert_eq!(journal.read(at[1]).await.unwrap(), "vote");
        let part = at[0].part(4, 6);
        assert_eq!(journal.read_part(part).await.unwrap(), "record");
        let empty = journal.append(vec![entry(2, 0)]).await.unwrap();
        assert_eq!(journal.read(empty[0]).await.unwrap(), "");
        assert_eq!(journal.records(1).await.unwrap().len(), 3);
        drop(journal);
        disk.kill();

        let (journal, recovery) = open(&disk, 2).await;
        assert_eq!((recovery.torn_bytes, recovery.damage.len()), (0, 0));
        assert_eq!(recovery.scanned_segments, 1);
        let heads: Vec<_> = recovery.records.iter().map(|r| r.head.index).collect();
        assert_eq!(heads, [1, 9, 2]);
        assert_eq!(recovery.records[1].payload, "vote");
        assert_eq!(
            recovery.records[0].payload, "",
            "entries are read on demand"
        );
        let location = recovery.records[0].location;
        assert_eq!(journal.read(location).await.unwrap(), "one record");
        let next = journal.append(vec![entry(3, 10)]).await.unwrap();
        assert_eq!(next[0].segment, 2, "appending goes on in a fresh segment");
        journal.close().await;

        let (_, recovery) = open(&disk, 3).await;
        assert_eq!(
            recovery.scanned_segments, 0,
            "a clean stop leaves nothing to scan"
        );
        assert_eq!(
            indexes(&recovery),
            [3],
            "without pins, a replay begins at the last segment"
        );
    });
}

#[test]
fn a_batch_takes_all_that_waits_and_one_sync() {
    block_on(async {
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk, 1).await;
        journal.append(vec![entry(0, 1)]).await.unwrap();
        let (syncs, before) = (disk.syncs(), journal.stats());
        let order = Arc::new(Mutex::new(Vec::new()));
        for i in 0..50 {
            let order = order.clone();
            let done = move |r: Result<Vec<Location>, JournalError>| {
                order.lock().push((i, r.unwrap()[0].offset));
            };
            journal
                .submit(vec![entry(i, 100)], Box::new(done))
                .await
                .unwrap();
        }
        journal.append(vec![entry(50, 1)]).await.unwrap();
        let order = order.lock();
        assert!(
            order.is_sorted() && order.len() == 50,
            "in order, each once"
        );
        assert_eq!(disk.syncs() - syncs, 1);
        assert_eq!(journal.stats().batches - before.batches, 1);
        assert_eq!(journal.stats().records - before.records, 51);
    });
}

#[test]
fn the_queue_is_bounded_in_bytes() {
    block_on(async {
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk, 1).await;
        let mut most = 0;
        for i in 0..200 {
            let done = Box::new(|r: Result<Vec<Location>, _>| assert!(r.is_ok()));
            journal.submit(vec![entry(i, 5000)], done).await.unwrap();
            most = most.max(journal.stats().queued_bytes);
        }
        assert!(most <= options().queue_bytes as u64 && most > 32 << 10);
        let large = entry(999, 3 * options().segment_bytes as usize);
        let at = journal.append(vec![large]).await.unwrap();
        let read = journal.read(at[0]).await.unwrap();
        assert_eq!(
            read,
            payload(999, read.len()),
            "larger than queue and segment"
        );
    });
}

#[test]
fn a_journal_is_freed_though_its_callbacks_hold_it() {
    for closed in [true, false] {
        let left = block_on(async {
            let disk = FakeDisk::default();
            let journal = Arc::new(open(&disk, 1).await.0);
            let [held, waits] = [(); 2].map(|()| Arc::clone(&journal));
            journal.set_checkpoint(Box::new(move || {
                let state = held.segments().len().to_string();
                vec![record(RecordKind::Checkpoint, 0, state)]
            }));
            journal.append(vec![entry(0, 1)]).await.unwrap();
            let done = Box::new(move |_| drop(waits));
            journal.submit(vec![entry(1, 1)], done).await.unwrap();
            // A process that is killed closes nothing: its writer ends with its runtime.
            if closed {
                journal.close().await;
            }
            Arc::downgrade(&journal)
        });
        assert!(left.upgrade().is_none(), "closed: {closed}");
    }
}

#[test]
fn segments_roll_and_say_where_a_replay_begins() {
    block_on(async {
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk, 1).await;
        let state = Bytes::from_static(b"state");
        journal.set_checkpoint(Box::new(move || {
            vec![record(RecordKind::Checkpoint, 0, state.clone())]
        }));
        let mut pinned = Vec::new();
        for i in 0..100 {
            let at = journal.append(vec![entry(i, 4000)]).await.unwrap();
            journal.pin(at[0].segment, 1);
            pinned.push(at[0].segment);
        }
        let last = *pinned.last().unwrap();
        assert!(last > 5);
        let info = journal.segments();
        assert!(info.iter().all(|s| s.sealed == (s.number < last)));
        assert!(info.iter().all(|s| s.bytes <= options().segment_bytes));
        assert_eq!(journal.replay_from(), 1);
        assert!(matches!(
            journal.free(1).await,
            Err(JournalError::InUse { .. })
        ));
        for segment in pinned.iter().filter(|s| **s <= 3) {
            journal.pin(*segment, -1);
        }
        assert_eq!(journal.replay_from(), 4);
        journal.seal().await.unwrap();
        assert_eq!(journal.segments().last().unwrap().number, last + 1);
        for segment in 1..=3 {
            journal.free(segment).await.unwrap();
        }
        assert_eq!(journal.stats().spares, 2);
        let gone = Location {
            segment: 2,
            offset: 5000,
            len: 10,
        };
        assert!(matches!(
            journal.read(gone).await,
            Err(JournalError::Gone { .. })
        ));
        journal.close().await;
        let (_, recovery) = open(&disk, 2).await;
        let expected: Vec<u64> = (0..100).filter(|i| pinned[*i as usize] > 3).collect();
        assert_eq!(indexes(&recovery), expected);
        let first = &recovery.records[0];
        assert_eq!(first.head.kind, RecordKind::Checkpoint);
        assert_eq!(first.payload, "state");
    });
}

#[test]
fn a_seal_that_is_durable_before_its_file_is_shorter() {
    block_on(async {
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk, 1).await;
        let vote = record(RecordKind::Vote, 2, "vote");
        journal.append(vec![entry(1, 10), vote]).await.unwrap();
        journal.close().await;
        // The power fails after the sync of the seal: the file is as long as it was reserved.
        disk.corrupt(&seg(1), |bytes| bytes.resize(64 << 10, 0));
        let (_, recovery) = open(&disk, 2).await;
        assert_eq!(recovery.scanned_segments, 0);
        assert_eq!(recovery.records[1].payload, "vote");
        assert!(recovery.damage.is_empty() && disk.content(&seg(1)).len() < 64 << 10);
    });
}

#[test]
fn a_failed_sync_stops_the_journal_and_is_not_retried() {
    for fail_write in [false, true] {
        block_on(async {
            let disk = FakeDisk::default();
            let (journal, _) = open(&disk, 1).await;
            journal.append(vec![entry(1, 100)]).await.unwrap();
            let mut poisoned = journal.poisoned();
            assert!(poisoned.borrow_and_update().is_none());
            match fail_write {
                true => disk.fail_writes(true),
                false => disk.fail_syncs(true),
            }
            let first = journal.append(vec![entry(2, 100)]).await;
            assert!(matches!(first, Err(JournalError::Poisoned(_))));
            disk.fail_syncs(false);
            disk.fail_writes(false);
            let syncs = disk.syncs();
            let second = journal.append(vec![entry(3, 100)]).await;
            assert!(matches!(second, Err(JournalError::Poisoned(_))));
            assert!(poisoned.has_changed().unwrap() && poisoned.borrow().is_some());
            journal.close().await;
            assert_eq!(disk.syncs(), syncs, "nothing was tried again");
            // The cache may show entry 2 although the disk does not hold it. A start must put it
            // there before it reports it: pull the plug right after.
            let (_, recovery) = open(&disk, 2).await;
            let seen = indexes(&recovery);
            disk.power_failure(&mut ChaCha8Rng::seed_from_u64(0));
            let (_, recovery) = open(&disk, 3).await;
            assert_eq!(indexes(&recovery), seen);
            assert!(seen.contains(&1) && recovery.damage.is_empty());
        });
    }
}

#[test]
fn a_full_disk_makes_the_writer_wait_and_nothing_is_lost() {
    block_on(async {
        let disk = FakeDisk::default();
        disk.set_free(2 * options().segment_bytes);
        let (journal, _) = open(&disk, 1).await;
        let journal = Arc::new(journal);
        let writer = journal.clone();
        let task = tokio::spawn(async move {
            for i in 0..60 {
                writer.append(vec![entry(i, 4000)]).await.unwrap();
            }
        });
        while !journal.stats().stalled {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!task.is_finished() && journal.poisoned().borrow().is_none());
        let sealed = journal.segments().iter().filter(|s| s.sealed).count();
        assert_eq!(sealed, 2);
        journal.free(1).await.unwrap();
        disk.set_free(8 * options().segment_bytes);
        task.await.unwrap();
        assert!(!journal.stats().stalled);
        assert_eq!(journal.stats().recycled, 1);
        // A stop does not wait for space: what cannot be written is refused.
        disk.set_free(0);
        let writer = journal.clone();
        let roll = tokio::spawn(async move { writer.seal().await });
        while !journal.stats().stalled && !roll.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        journal.close().await;
        let rolled = roll.await.unwrap();
        assert!(matches!(rolled, Ok(()) | Err(JournalError::Full)));
        let (_, recovery) = open(&disk, 2).await;
        assert!(recovery.damage.is_empty() && recovery.torn_bytes == 0);
    });
}

#[test]
fn a_mark_follows_soon_after_the_last_batch() {
    block_on(async {
        let disk = FakeDisk::default();
        let env = env_on(&disk, 1);
        let options = Options {
            idle_mark: Duration::from_millis(1),
            ..options()
        };
        let (journal, _) = Journal::open(&env, Path::new(DIR), options).await.unwrap();
        let at = journal.append(vec![entry(1, 100)]).await.unwrap();
        let written = journal.stats().bytes_written;
        while journal.stats().bytes_written == written {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(journal);
        disk.kill();
        // Rot in the last acknowledged batch: the mark behind it tells it from a torn write.
        disk.corrupt(&seg(1), |bytes| bytes[at[0].offset as usize] ^= 1);
        let (_, recovery) = open(&disk, 2).await;
        assert_eq!(recovery.damage.len(), 1);
        assert_eq!(recovery.torn_bytes, 0);
    });
}

#[test]
fn files_of_another_journal_or_version_are_refused() {
    block_on(async {
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk, 1).await;
        journal.append(vec![entry(1, 10)]).await.unwrap();
        journal.close().await;
        let other = FakeDisk::default();
        let (journal, _) = open(&other, 2).await;
        for i in 0..2 {
            journal.append(vec![entry(i, 10)]).await.unwrap();
            journal.seal().await.unwrap();
        }
        journal.close().await;
        let stranger = other.content(&seg(2));
        disk.handle()
            .open(&seg(2), env::disk::OpenMode::CreateNew)
            .await
            .unwrap();
        disk.corrupt(&seg(2), |bytes| *bytes = stranger);
        let env = env_on(&disk, 3);
        let refused = Journal::open(&env, Path::new(DIR), options()).await;
        let text = refused.err().unwrap().to_string();
        assert!(text.contains("another journal"), "{text}");
    });
}

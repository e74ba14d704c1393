//! Torn tails: whatever a crash leaves of the last batch, no acknowledged record is lost, nothing
//! else is taken for one, and nothing is reported as damage.

use super::*;

/// A journal with three synced batches and one more, of which a crash may leave anything. Returns
/// the disk and where the last batch begins and ends in segment 1.
fn with_last_batch() -> (FakeDisk, usize, usize) {
    block_on(async {
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk, 1).await;
        for i in 0..3 {
            journal.append(vec![entry(i, 150)]).await.unwrap();
        }
        let from = journal.segments()[0].bytes as usize;
        let vote = record(RecordKind::Vote, 4, payload(4, 21));
        let last = vec![entry(3, 90), vote, entry(5, 0), entry(6, 200)];
        journal.append(last).await.unwrap();
        let to = journal.segments()[0].bytes as usize;
        disk.kill();
        (disk, from, to)
    })
}

/// Opens twice: what the first start found must stand after it was killed, too.
fn check(disk: &FakeDisk, what: &str) -> usize {
    let mut first = None;
    for seed in [2, 3] {
        block_on(async {
            let (journal, recovery) = open(disk, seed).await;
            assert!(recovery.damage.is_empty(), "{what}: {:?}", recovery.damage);
            let heads: Vec<u64> = recovery.records.iter().map(|r| r.head.index).collect();
            let all = [0, 1, 2, 3, 4, 5, 6];
            assert!(heads.len() >= 3, "{what}: acknowledged records are lost");
            assert_eq!(heads, all[..heads.len()], "{what}");
            for record in &recovery.records {
                let octets = journal.read(record.location).await.unwrap();
                let expected = payload(record.head.index, octets.len());
                assert_eq!(octets, expected, "{what}");
            }
            assert_eq!(*first.get_or_insert(heads.len()), heads.len(), "{what}");
            disk.kill();
        });
    }
    first.unwrap_or(0)
}

#[test]
fn the_tail_cut_at_every_offset() {
    let (disk, from, to) = with_last_batch();
    let mut kept = Vec::new();
    for cut in from..=to {
        let disk = disk.fork();
        disk.corrupt(&seg(1), |bytes| bytes.truncate(cut));
        kept.push(check(&disk, &format!("cut at {cut}")));
    }
    assert!(kept.is_sorted() && kept[0] == 3 && kept.last() == Some(&7));
}

#[test]
fn the_tail_zeroed_from_every_offset() {
    let (disk, from, to) = with_last_batch();
    for at in from..=to {
        let disk = disk.fork();
        disk.corrupt(&seg(1), |bytes| bytes[at..].fill(0));
        check(&disk, &format!("zeroed from {at}"));
    }
}

#[test]
fn every_byte_of_the_last_batch_scribbled_over() {
    let (disk, from, to) = with_last_batch();
    for at in from..to {
        let disk = disk.fork();
        disk.corrupt(&seg(1), |bytes| bytes[at] = !bytes[at]);
        check(&disk, &format!("scribbled at {at}"));
    }
}

#[test]
fn garbage_from_every_offset() {
    let (disk, from, to) = with_last_batch();
    let garbage = payload(77, to - from);
    for at in from..=to {
        let disk = disk.fork();
        disk.corrupt(&seg(1), |bytes| {
            bytes[at..to].copy_from_slice(&garbage[at - from..])
        });
        check(&disk, &format!("garbage from {at}"));
    }
}

#[test]
fn the_end_of_the_batch_without_its_begin() {
    let (disk, from, to) = with_last_batch();
    for at in from..=to {
        let disk = disk.fork();
        disk.corrupt(&seg(1), |bytes| bytes[from..at].fill(0));
        let kept = check(&disk, &format!("lost up to {at}"));
        assert!(
            kept == 3 || at <= from,
            "records behind a hole were never promised"
        );
    }
}

#[test]
fn what_was_cut_never_comes_back() {
    let (disk, from, _) = with_last_batch();
    block_on(async {
        // The mark and the first record are torn, whole records of the batch lie behind them.
        disk.corrupt(&seg(1), |bytes| bytes[from..from + 100].fill(0));
        for round in 0..5 {
            let (journal, recovery) = open(&disk, 10 + round).await;
            assert!(recovery.damage.is_empty());
            assert_eq!(recovery.torn_bytes > 0, round == 0);
            for segment in journal.segments() {
                journal.pin(segment.number, 1);
            }
            let mut expected = vec![0, 1, 2];
            expected.extend((0..round).map(|r| 100 + r));
            assert_eq!(indexes(&recovery), expected);
            let at = journal.append(vec![entry(100 + round, 64)]).await.unwrap();
            journal.pin(at[0].segment, 1);
            disk.kill();
        }
    });
}

#[test]
fn a_seal_that_survives_alone_behind_an_idle_mark() {
    block_on(async {
        let disk = FakeDisk::default();
        let options = Options {
            idle_mark: Duration::from_millis(1),
            ..options()
        };
        let journal = Journal::open(&env_on(&disk, 1), Path::new(DIR), options).await;
        let journal = Arc::new(journal.unwrap().0);
        let at = journal.append(vec![entry(0, 150)]).await.unwrap();
        let written = journal.stats().bytes_written;
        while journal.stats().bytes_written == written {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let sealing = journal.clone();
        let sealing = tokio::spawn(async move { sealing.seal().await });
        // The power may go at each step, and leave any of the sectors that were not synced.
        let mut moments = Vec::new();
        while !sealing.is_finished() {
            moments.push(disk.fork());
            tokio::task::yield_now().await;
        }
        sealing.await.unwrap().unwrap();
        for (step, moment) in moments.iter().enumerate() {
            for draw in 0..32 {
                let disk = moment.fork();
                disk.power_failure(&mut ChaCha8Rng::seed_from_u64(draw));
                let (journal, recovery) = open(&disk, 2).await;
                let damage = &recovery.damage;
                assert!(damage.is_empty(), "step {step}, draw {draw}: {damage:?}");
                assert_eq!(journal.read(at[0]).await.unwrap(), payload(0, 150));
            }
        }
    });
}

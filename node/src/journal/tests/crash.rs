//! Random lives: appends, rolls, frees, power failures, kills. After each start the journal gives
//! back every acknowledged record of every segment that was not freed, in order, and nothing that
//! was never submitted or that was freed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// So many records of this size, in so many submissions, waiting for the last one or not.
    Append {
        count: u64,
        len: usize,
        wait: bool,
    },
    Seal,
    /// Unpins and frees the segment at this position of the list, if that is allowed.
    Free(usize),
    /// Power failure with this draw, a little later.
    Power(u64),
    Kill,
    Close,
    /// The next syncs fail; then the power goes.
    FailSync(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..12u64, 0..6000usize, any::<bool>())
            .prop_map(|(count, len, wait)| Step::Append { count, len, wait }),
        2 => Just(Step::Seal),
        3 => (0..4usize).prop_map(Step::Free),
        2 => any::<u64>().prop_map(Step::Power),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
        1 => any::<u64>().prop_map(Step::FailSync),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Default)]
struct Model {
    next: u64,
    submitted: BTreeSet<u64>,
    acked: Arc<Mutex<BTreeMap<u64, Location>>>,
    freed: BTreeSet<u64>,
}

impl Model {
    async fn check(&self, journal: &Journal, recovery: &Recovery) {
        assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
        let seen = indexes(recovery);
        assert!(seen.is_sorted(), "out of order");
        let seen: BTreeSet<u64> = seen.into_iter().collect();
        assert!(seen.is_subset(&self.submitted), "garbage was accepted");
        for record in &recovery.records {
            assert!(
                !self.freed.contains(&record.location.segment),
                "a freed record came back"
            );
            let octets = journal.read(record.location).await.unwrap();
            assert_eq!(octets, payload(record.head.index, octets.len()));
        }
        for (index, location) in &*self.acked.lock() {
            assert!(seen.contains(index), "acknowledged record {index} is lost");
            let octets = journal.read(*location).await.unwrap();
            assert_eq!(octets, payload(*index, octets.len()));
        }
    }

    /// After a start, what is there counts as acknowledged: it was synced before it was reported.
    fn adopt(&self, journal: &Journal, recovery: &Recovery) {
        let mut acked = self.acked.lock();
        for segment in journal.segments() {
            // Everything stays pinned until it is freed, so that each replay sees all of it.
            journal.pin(segment.number, 1);
        }
        for record in &recovery.records {
            if record.head.kind == RecordKind::Entry {
                acked.insert(record.head.index, record.location);
            }
        }
    }
}

async fn live(steps: Vec<Step>) {
    let disk = FakeDisk::default();
    let mut model = Model::default();
    let mut seed = 1;
    let (journal, _) = open(&disk, seed).await;
    let mut journal = Arc::new(journal);
    for step in steps {
        let mut restart = false;
        match step {
            Step::Append { count, len, wait } => {
                for _ in 0..count {
                    let index = model.next;
                    model.next += 1;
                    model.submitted.insert(index);
                    let (acked, pins) = (model.acked.clone(), journal.clone());
                    let done = move |result: Result<Vec<Location>, JournalError>| {
                        if let Ok(at) = result {
                            pins.pin(at[0].segment, 1);
                            acked.lock().insert(index, at[0]);
                        }
                    };
                    let _ = journal
                        .submit(vec![entry(index, len)], Box::new(done))
                        .await;
                }
                if wait {
                    let index = model.next;
                    model.next += 1;
                    model.submitted.insert(index);
                    let at = journal.append(vec![entry(index, 1)]).await.unwrap();
                    journal.pin(at[0].segment, 1);
                    model.acked.lock().insert(index, at[0]);
                }
            }
            Step::Seal => journal.seal().await.unwrap(),
            Step::Free(position) => {
                let segments = journal.segments();
                let Some(info) = segments.get(position) else {
                    continue;
                };
                let newest = segments.last().map_or(0, |s| s.number);
                if !info.sealed || info.number == newest {
                    continue;
                }
                journal.pin(info.number, -info.pins);
                model.acked.lock().retain(|_, at| at.segment != info.number);
                journal.free(info.number).await.unwrap();
                model.freed.insert(info.number);
            }
            Step::Power(draw) => {
                for _ in 0..draw % 7 {
                    tokio::task::yield_now().await;
                }
                disk.power_failure(&mut ChaCha8Rng::seed_from_u64(draw));
                restart = true;
            }
            Step::Kill => {
                disk.kill();
                restart = true;
            }
            Step::Close => {
                journal.close().await;
                restart = true;
            }
            Step::FailSync(draw) => {
                disk.fail_syncs(true);
                let index = model.next;
                model.next += 1;
                model.submitted.insert(index);
                assert!(journal.append(vec![entry(index, 700)]).await.is_err());
                disk.fail_syncs(false);
                match draw % 2 {
                    0 => disk.kill(),
                    _ => disk.power_failure(&mut ChaCha8Rng::seed_from_u64(draw)),
                }
                restart = true;
            }
        }
        if restart {
            seed += 1;
            let (opened, recovery) = open(&disk, seed).await;
            model.check(&opened, &recovery).await;
            model.adopt(&opened, &recovery);
            journal = Arc::new(opened);
        }
    }
    disk.power_failure(&mut ChaCha8Rng::seed_from_u64(99));
    let (journal, recovery) = open(&disk, 1000).await;
    model.check(&journal, &recovery).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), ..ProptestConfig::default() })]

    #[test]
    fn every_life_keeps_what_it_acknowledged(steps in steps()) {
        block_on(live(steps));
    }

    #[test]
    fn a_recycled_file_never_gives_back_its_former_life(
        draw in any::<u64>(), lives in 1..6usize, len in 0..3000usize,
    ) {
        block_on(async {
            let disk = FakeDisk::default();
            let (journal, _) = open(&disk, 1).await;
            let mut index = 0;
            for _ in 0..lives {
                // The same sizes in each life: old records lie exactly where new ones will.
                for _ in 0..20 {
                    journal.append(vec![entry(index, len)]).await.unwrap();
                    index += 1;
                }
                journal.seal().await.unwrap();
                let old: Vec<u64> = journal.segments().iter().map(|s| s.number).collect();
                for segment in &old[..old.len() - 1] {
                    journal.free(*segment).await.unwrap();
                }
            }
            let freed = index;
            journal.append(vec![entry(index, len)]).await.unwrap();
            let at = journal.append(vec![entry(index + 1, len)]).await.unwrap();
            let done = Box::new(|_| ());
            journal.submit(vec![entry(index + 2, len)], done).await.unwrap();
            for _ in 0..draw % 5 {
                tokio::task::yield_now().await;
            }
            disk.power_failure(&mut ChaCha8Rng::seed_from_u64(draw));
            let (journal, recovery) = open(&disk, 2).await;
            assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
            let seen = indexes(&recovery);
            assert!(seen == [freed, freed + 1] || seen == [freed, freed + 1, freed + 2]);
            let octets = journal.read(at[0]).await.unwrap();
            assert_eq!(octets, payload(freed + 1, len));
        });
    }
}

#[test]
fn the_directory_is_synced_before_the_first_append_is_answered() {
    block_on(async {
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk, 1).await;
        for i in 0..40 {
            let at = journal.append(vec![entry(i, 5000)]).await.unwrap();
            let durable = disk.durable_files();
            assert!(durable.contains(&seg(at[0].segment)), "{durable:?}");
        }
    });
}

#[test]
fn a_file_becomes_a_spare_durably_before_it_is_overwritten() {
    block_on(async {
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk, 1).await;
        for i in 0..40 {
            let at = journal.append(vec![entry(i, 5000)]).await.unwrap();
            if at[0].segment > 1
                && let Ok(()) = journal.free(at[0].segment - 1).await
            {
                let durable = disk.durable_files();
                assert!(!durable.contains(&seg(at[0].segment - 1)), "{durable:?}");
            }
        }
        let stats = journal.stats();
        assert!(stats.recycled >= 2 && disk.files().len() <= 3, "{stats:?}");
    });
}

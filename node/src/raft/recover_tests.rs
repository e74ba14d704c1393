//! Random lives of two logs on one journal: whatever dies, a log comes back as it was after its
//! last acknowledged change or a later one; whatever rots, it comes back as it was or is lost, and
//! what is lost stays lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use parking_lot::Mutex;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::super::log::Log;
use super::super::marks::{self, LogMarks, Recovered};
use super::super::types::*;
use super::{LogKey, RecoveredLogs, Verdict};
use crate::env::Env;
use crate::journal::tests::disk::FakeDisk;
use crate::journal::{Journal, Options};
use crate::types::*;

const DIR: &str = "/data/journal";
const LOGS: u32 = 2;

fn key(n: u32) -> LogKey {
    (ShardId(n + 1), ReplicaId::new(NodeId(1), n))
}

fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        segment_records: 256,
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

fn entry(id: LogId) -> Entry {
    let len = (id.index() * 131 + id.committed_leader_id().term * 17) as usize % 3000;
    let head = Bytes::from(vec![id.index() as u8; len]);
    Entry {
        log_id: id,
        payload: EntryPayload::Normal(Proposal {
            head,
            stored: Bytes::from_static(b"stored"),
        }),
    }
}

/// What one log should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    vote: Option<Vote>,
    purged: Option<LogId>,
    ids: Vec<LogId>,
}

impl State {
    fn next(&self) -> u64 {
        let last = self.ids.last().or(self.purged.as_ref());
        last.map_or(0, |l| l.index() + 1)
    }

    fn of(recovered: &Recovered) -> State {
        State {
            vote: recovered.vote,
            purged: recovered.purged,
            ids: recovered.entries.iter().map(|(id, _)| *id).collect(),
        }
    }
}

/// One log with its past.
struct Life {
    log: Arc<Log>,
    term: u64,
    committed: Option<LogId>,
    /// As an index would say it.
    persisted: Option<LogId>,
    /// Its state after each change since the start; the first is what the start found.
    past: Vec<State>,
    /// Up to which of them the journal has acknowledged.
    acked: Arc<Mutex<usize>>,
}

struct World {
    disk: FakeDisk,
    journal: Arc<Journal>,
    lives: Vec<Life>,
}

async fn open(disk: &FakeDisk) -> (Arc<Journal>, RecoveredLogs) {
    let env = Env {
        disk: Arc::new(disk.handle()),
        ..Env::real()
    };
    let opened = Journal::open(&env, Path::new(DIR), options()).await;
    let (journal, recovery) = opened.unwrap();
    (Arc::new(journal), RecoveredLogs::replay(&recovery))
}

fn set_checkpoint(journal: &Journal, logs: Vec<Arc<Log>>, lost: Vec<LogKey>) {
    journal.set_checkpoint(Box::new(move || {
        let gone = lost.iter().map(|(shard, replica)| LogMarks {
            lost: true,
            ..LogMarks::new(*shard, *replica)
        });
        let marks: Vec<_> = logs.iter().map(|l| l.marks()).chain(gone).collect();
        vec![marks::record(marks::ALL, &marks)]
    }));
}

impl World {
    async fn begin() -> World {
        let disk = FakeDisk::default();
        let (journal, found) = open(&disk).await;
        assert_eq!(found.judge(key(0), None), Verdict::Lost, "never began");
        let logs: Vec<Arc<Log>> = (0..LOGS)
            .map(|n| {
                let (shard, replica) = key(n);
                let new = Recovered::default();
                Arc::new(Log::new(shard, replica, Arc::clone(&journal), 4096, new))
            })
            .collect();
        set_checkpoint(&journal, logs.clone(), Vec::new());
        for log in &logs {
            log.begin().await.unwrap();
        }
        let life = |log| Life {
            log,
            term: 1,
            committed: None,
            persisted: None,
            past: vec![State::default()],
            acked: Arc::default(),
        };
        World {
            disk,
            journal,
            lives: logs.into_iter().map(life).collect(),
        }
    }

    /// A start after a crash: every log must be one of its past states that may be the last.
    async fn restart(&mut self) {
        let (journal, found) = open(&self.disk).await;
        self.journal = journal;
        for (n, life) in self.lives.iter_mut().enumerate() {
            let (shard, replica) = key(n as u32);
            let verdict = found.judge((shard, replica), life.persisted);
            let Verdict::Whole(recovered) = verdict else {
                panic!("log {n} is lost without damage");
            };
            let now = State::of(&recovered);
            let possible = &life.past[*life.acked.lock()..];
            assert!(possible.contains(&now), "log {n}: {now:?} of {possible:?}");
            let last = now.ids.last().copied().or(now.purged);
            assert!(recovered.committed <= last, "committed beyond the end");
            life.committed = recovered.committed;
            life.past = vec![now];
            life.acked = Arc::default();
            let journal = Arc::clone(&self.journal);
            life.log = Arc::new(Log::new(shard, replica, journal, 4096, recovered));
        }
        let logs: Vec<_> = self.lives.iter().map(|l| Arc::clone(&l.log)).collect();
        set_checkpoint(&self.journal, logs, Vec::new());
        for life in &self.lives {
            for id in &life.past[0].ids {
                let read = life.log.read(id.index()).await.unwrap().unwrap();
                assert_eq!(read.log_id(), *id);
                assert_eq!(read.payload, entry(*id).payload);
            }
        }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Log(n, change) => self.lives[*n as usize].change(change).await,
            Step::Seal => drop(self.journal.seal().await),
            Step::Free => {
                for segment in self.journal.segments() {
                    let _ = self.journal.free(segment.number).await;
                }
            }
            Step::Power(draw) => {
                tokio::time::sleep(Duration::from_micros(draw % 300)).await;
                let mut rng = ChaCha8Rng::seed_from_u64(*draw);
                self.disk.power_failure(&mut rng);
                self.restart().await;
            }
            Step::Kill => {
                self.disk.kill();
                self.restart().await;
            }
            Step::Close => {
                self.journal.close().await;
                self.disk.kill();
                self.restart().await;
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Change {
    Append { count: u64, wait: bool },
    Truncate(u64),
    Purge(u64),
    Install(u64),
    Vote,
    Commit(u64),
}

impl Life {
    async fn change(&mut self, change: &Change) {
        let mut now = self.past.last().unwrap().clone();
        let first = now.next() - now.ids.len() as u64;
        let log = Arc::clone(&self.log);
        let leader = ReplicaId::new(NodeId(1), 0);
        match change {
            Change::Append { count, wait } => {
                let ids = (now.next()..).take(*count as usize);
                let ids: Vec<LogId> = ids.map(|i| log_id(self.term, leader, i)).collect();
                now.ids.extend(&ids);
                let (at, acked) = (self.past.len(), Arc::clone(&self.acked));
                let (tell, told) = tokio::sync::oneshot::channel();
                let done = move |result: Result<(), _>| {
                    if result.is_ok() {
                        *acked.lock() = at;
                    }
                    let _ = tell.send(());
                };
                // In memory before it is submitted: a failed submission is as good as a lost one.
                self.past.push(now);
                let entries = ids.into_iter().map(entry).collect();
                log.append(entries, done).await.unwrap();
                if *wait {
                    told.await.unwrap();
                }
                return;
            }
            Change::Truncate(back) => {
                let fixed = self
                    .persisted
                    .max(self.committed)
                    .map_or(0, |c| c.index() + 1);
                let keep = now.next().saturating_sub(*back).max(fixed).max(first);
                now.ids.truncate((keep - first) as usize);
                self.term += 1;
                let last = now.ids.last().copied().or(now.purged);
                self.past.push(now);
                log.truncate_after(last).await.unwrap();
            }
            Change::Purge(share) => {
                // Only what is flushed can be applied and persisted.
                let n = (now.ids.len() as u64 * share / 100) as usize;
                let Some(upto) = n.checked_sub(1).map(|i| now.ids[i]) else {
                    return;
                };
                log.wait_flushed(upto.index()).await.unwrap();
                self.persisted = self.persisted.max(Some(upto));
                now.purged = Some(upto);
                now.ids.drain(..n);
                self.past.push(now);
                log.purge(upto).await.unwrap();
            }
            Change::Install(ahead) => {
                self.term += 1;
                let upto = log_id(self.term, leader, now.next() + ahead);
                self.persisted = Some(upto);
                self.committed = Some(upto);
                now.purged = Some(upto);
                now.ids.clear();
                self.past.push(now);
                log.purge(upto).await.unwrap();
            }
            Change::Vote => {
                self.term += 1;
                let vote = Vote::new(self.term, leader);
                now.vote = Some(vote);
                self.past.push(now);
                log.save_vote(vote).await.unwrap();
            }
            Change::Commit(share) => {
                let i = now.ids.len() as u64 * share / 101;
                self.committed = self.committed.max(now.ids.get(i as usize).copied());
                log.save_committed(self.committed);
                return;
            }
        }
        *self.acked.lock() = self.past.len() - 1;
    }
}

#[derive(Debug, Clone)]
enum Step {
    Log(u32, Change),
    Seal,
    Free,
    Power(u64),
    Kill,
    Close,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (1..9u64, any::<bool>()).prop_map(|(count, wait)| Change::Append { count, wait }),
        2 => (1..12u64).prop_map(Change::Truncate),
        2 => (1..=100u64).prop_map(Change::Purge),
        1 => (0..5u64).prop_map(Change::Install),
        2 => Just(Change::Vote),
        2 => (0..=100u64).prop_map(Change::Commit),
    ]
}

fn steps(crashes: u32, len: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        16 => (0..LOGS, change()).prop_map(|(n, change)| Step::Log(n, change)),
        2 => Just(Step::Seal),
        1 => Just(Step::Free),
        crashes => any::<u64>().prop_map(Step::Power),
        crashes => Just(Step::Kill),
        crashes => Just(Step::Close),
    ];
    prop::collection::vec(step, 1..len)
}

/// What rots.
#[derive(Debug, Clone)]
enum Rot {
    /// Octets of a segment: which one, where in it (per mille), how many.
    Octets(usize, u64, usize),
    /// All of a segment.
    Whole(usize),
    /// The end of a segment.
    Short(usize, u64),
}

fn rot() -> impl Strategy<Value = Rot> {
    prop_oneof![
        6 => (0..16usize, 0..1000u64, 1..200usize).prop_map(|(s, at, n)| Rot::Octets(s, at, n)),
        1 => (0..16usize).prop_map(Rot::Whole),
        1 => (0..16usize, 0..1000u64).prop_map(|(s, at)| Rot::Short(s, at)),
    ]
}

impl Rot {
    fn strike(&self, disk: &FakeDisk) {
        let segments: Vec<_> = disk
            .files()
            .into_iter()
            .filter(|f| f.extension().is_some_and(|e| e == "seg"))
            .collect();
        let (Rot::Octets(which, ..) | Rot::Whole(which) | Rot::Short(which, _)) = self;
        disk.corrupt(&segments[which % segments.len()], |octets| {
            // Most of a file is not written yet: what is struck should be what was.
            let used = octets.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
            match self {
                Rot::Octets(_, at, n) => {
                    let at = used * *at as usize / 1000;
                    octets[at..used.min(at + n)]
                        .iter_mut()
                        .for_each(|b| *b ^= 0x5a);
                }
                Rot::Whole(_) => octets.fill(0),
                Rot::Short(_, at) => octets.truncate(used * *at as usize / 1000),
            }
        });
    }
}

fn check_rotten(n: usize, life: &Life, recovered: &Recovered) {
    let (truth, now) = (life.past.last().unwrap(), State::of(recovered));
    assert_eq!(now.vote, truth.vote, "log {n} forgot a vote");
    let applied = life.persisted.map(|p| p.index());
    let covered = |id: &&LogId| Some(id.index()) <= applied;
    let needed: Vec<_> = truth.ids.iter().skip_while(covered).collect();
    let kept: Vec<_> = now.ids.iter().skip_while(covered).collect();
    assert_eq!(kept, needed, "log {n} lost entries");
    assert!(now.purged.map(|p| p.index()) <= applied);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn logs_survive_crashes(steps in steps(1, 60)) {
        block_on(async {
            let mut world = World::begin().await;
            for step in &steps {
                world.step(step).await;
            }
            world.step(&Step::Kill).await;
        });
    }

    #[test]
    fn rot_is_never_taken_for_a_whole_log(steps in steps(0, 50), rot in rot()) {
        block_on(async {
            let mut world = World::begin().await;
            for step in &steps {
                world.step(step).await;
            }
            world.journal.close().await;
            world.disk.kill();
            rot.strike(&world.disk);
            let (journal, found) = open(&world.disk).await;
            let mut whole = Vec::new();
            let mut lost = Vec::new();
            let mut verdicts = BTreeMap::new();
            for (n, life) in world.lives.iter().enumerate() {
                let (shard, replica) = key(n as u32);
                match found.judge((shard, replica), life.persisted) {
                    Verdict::Lost => lost.push((shard, replica)),
                    Verdict::Whole(recovered) => {
                        check_rotten(n, life, &recovered);
                        let journal = Arc::clone(&journal);
                        whole.push(Arc::new(Log::new(shard, replica, journal, 4096, recovered)));
                        verdicts.insert(n, life);
                    }
                }
            }
            // What the next start makes of it is the same, however far its replay reaches back.
            set_checkpoint(&journal, whole, lost.clone());
            journal.append(vec![marks::record(marks::ONE, &[])]).await.unwrap();
            for segment in journal.segments() {
                let _ = journal.free(segment.number).await;
            }
            journal.seal().await.unwrap();
            journal.append(vec![marks::record(marks::ONE, &[])]).await.unwrap();
            journal.close().await;
            world.disk.kill();
            let (_, found) = open(&world.disk).await;
            for key in &lost {
                assert_eq!(found.judge(*key, None), Verdict::Lost, "resurrected");
            }
            for (n, life) in verdicts {
                match found.judge(key(n as u32), life.persisted) {
                    Verdict::Lost => panic!("log {n} was whole and is lost now: {found:?}"),
                    Verdict::Whole(recovered) => check_rotten(n, life, &recovered),
                }
            }
        });
    }
}

#[test]
fn an_unreadable_entry_is_remembered() {
    block_on(async {
        let mut world = World::begin().await;
        for _ in 0..3 {
            let append = Change::Append {
                count: 5,
                wait: true,
            };
            world.step(&Step::Log(0, append)).await;
        }
        let log = Arc::clone(&world.lives[0].log);
        let place = log.place(4).unwrap();
        world.journal.seal().await.unwrap();
        let file = world.journal.segment_file(place.segment);
        world.journal.close().await;
        world.disk.kill();
        world
            .disk
            .corrupt(&file, |octets| octets[place.offset as usize] ^= 1);
        // The header is whole: a start does not see it, a reader does.
        world.restart_unread().await;
        let log = Arc::clone(&world.lives[0].log);
        assert_eq!(log.unreadable_after(None).await, None, "nobody has read it");
        assert!(log.read(4).await.is_err());
        // Who has not applied it is lost with it, who has needs it no more.
        assert_eq!(log.unreadable_after(None).await, Some(4));
        assert_eq!(log.unreadable_after(Some(3)).await, Some(4));
        assert_eq!(log.unreadable_after(Some(4)).await, None);
        // A mark stands for the entries below it, too; and a disk may come to its senses.
        let place = log.place(7).unwrap();
        let turn = |octets: &mut Vec<u8>| octets[place.offset as usize] ^= 1;
        world.disk.corrupt(&file, turn);
        assert!(log.read(7).await.is_err());
        world.disk.corrupt(&file, turn);
        assert_eq!(log.missing(), Some(7));
        assert!(log.withholds(4) && log.withholds(7) && !log.withholds(8));
        assert_eq!(log.unreadable_after(None).await, Some(4));
        assert_eq!(log.unreadable_after(Some(4)).await, None);
        world.journal.close().await;
        world.disk.kill();
        let (_, found) = open(&world.disk).await;
        let leader = ReplicaId::new(NodeId(1), 0);
        assert_eq!(
            found.judge(key(0), Some(log_id(1, leader, 3))),
            Verdict::Lost
        );
        let Verdict::Whole(rest) = found.judge(key(0), Some(log_id(1, leader, 7))) else {
            panic!("what is lost is applied and durable");
        };
        assert_eq!(rest.entries[0].0.index(), 8);
    });
}

#[test]
fn unreadable_entries_in_a_row_are_found_at_once() {
    block_on(async {
        let mut world = World::begin().await;
        for _ in 0..2 {
            let append = Change::Append {
                count: 5,
                wait: true,
            };
            world.step(&Step::Log(0, append)).await;
        }
        let log = Arc::clone(&world.lives[0].log);
        let places: Vec<_> = [4, 5, 6, 8].map(|n| log.place(n).unwrap()).into();
        world.journal.seal().await.unwrap();
        let files: Vec<_> = places
            .iter()
            .map(|place| world.journal.segment_file(place.segment))
            .collect();
        world.journal.close().await;
        world.disk.kill();
        for (place, file) in places.iter().zip(files) {
            world
                .disk
                .corrupt(&file, |octets| octets[place.offset as usize] ^= 1);
        }
        world.restart_unread().await;
        let log = Arc::clone(&world.lives[0].log);
        assert!(log.read(4).await.is_err());
        assert_eq!(log.missing(), Some(4));
        assert_eq!(log.unreadable_run(4, 9).await, 6, "7 can be read");
        assert_eq!(log.unreadable_run(4, 5).await, 5, "not past the bound");
        assert_eq!(log.unreadable_run(4, 3).await, 4);
        assert_eq!(log.unreadable_run(8, 50).await, 8, "not past the last");
        assert_eq!(log.missing(), Some(4), "to look is not to note");
        world.journal.close().await;
    });
}

impl World {
    async fn restart_unread(&mut self) {
        let (journal, found) = open(&self.disk).await;
        self.journal = journal;
        let mut logs = Vec::new();
        for (n, life) in self.lives.iter_mut().enumerate() {
            let (shard, replica) = key(n as u32);
            let Verdict::Whole(recovered) = found.judge((shard, replica), None) else {
                panic!("log {n} is lost");
            };
            let journal = Arc::clone(&self.journal);
            life.log = Arc::new(Log::new(shard, replica, journal, 4096, recovered));
            logs.push(Arc::clone(&life.log));
        }
        set_checkpoint(&self.journal, logs, Vec::new());
    }
}

//! Nodes are killed, stopped and restarted at random under load; never two of three at once.
//!
//! `POSTHOUSE_KILL_SECONDS` is how long (default 60), `POSTHOUSE_SEED` repeats the choices of an
//! earlier run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use posthouse_client::{Client, Settings, Target};
use posthouse_tests::cluster::Cluster;
use posthouse_tests::load::{Fate, Ledger, Load, Work, deliver, letter};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::{accounts, number_from_env};

const PROBE: &str = "probe@example.org";

/// A write pause longer than this is a fault of its own, however slow the machine.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// One small message after the other to one account.
struct Probe {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<anyhow::Result<Vec<Instant>>>,
}

impl Probe {
    fn start(addrs: &[String], ledger: Ledger, seed: u64) -> anyhow::Result<Probe> {
        let stop = Arc::new(AtomicBool::new(false));
        let client = Client::new(addrs, Settings::default())?;
        let told = stop.clone();
        let task = tokio::spawn(async move {
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            let (mut acks, to) = (vec![Instant::now()], PROBE.to_owned());
            while !told.load(Ordering::Relaxed) {
                let octets = letter(&mut rng, 1024);
                if deliver(&client, &ledger, &[&to], &octets).await? > 0 {
                    acks.push(Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(acks)
        });
        Ok(Probe { stop, task })
    }

    /// Times of the acknowledgements.
    async fn end(self) -> anyhow::Result<Vec<Instant>> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// What was done to the leader of the probe's shard, and when.
struct Blow {
    at: Instant,
    kill: bool,
}

/// The longest time without an acknowledgement that touches the seconds after a blow.
fn pause_after(acks: &[Instant], blow: Instant) -> Duration {
    let touched = |pair: &&[Instant]| pair[1] > blow && pair[0] < blow + Duration::from_secs(3);
    let pairs = acks.windows(2).filter(touched);
    let pauses = pairs.map(|pair| pair[1] - pair[0]);
    pauses.max().unwrap_or(Duration::MAX)
}

fn print_pauses(what: &str, mut pauses: Vec<Duration>) {
    pauses.sort();
    if let (Some(least), Some(most)) = (pauses.first(), pauses.last()) {
        let middle = pauses[pauses.len() / 2];
        let within = pauses
            .iter()
            .filter(|p| **p <= Duration::from_secs(2))
            .count();
        println!(
            "write pause after {what}: shortest {} ms, median {} ms, longest {} ms; {within} of {} \
             within 2 s",
            least.as_millis(),
            middle.as_millis(),
            most.as_millis(),
            pauses.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_mail_survives_kills_and_stops() {
    let seconds = number_from_env("POSTHOUSE_KILL_SECONDS", 60);
    let seed = number_from_env("POSTHOUSE_SEED", rand::random());
    println!("repeat the choices of this run with POSTHOUSE_SEED={seed}");
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let mut cluster = Cluster::start(3).await.unwrap();
    let accounts = accounts(24);
    let names: Vec<&str> = accounts.iter().map(String::as_str).collect();
    cluster.create_accounts(&names).await.unwrap();
    cluster.create_accounts(&[PROBE]).await.unwrap();
    let addrs: Vec<String> = (0..3).map(|i| cluster.addr(i).to_owned()).collect();

    let ledger = Ledger::default();
    let work = Work {
        clients: 16,
        accounts,
        bytes: (4 << 10, 2 << 20),
        recipients: 4,
        seed,
    };
    let load = Load::start(&addrs, &work, ledger.clone()).unwrap();
    let probe = Probe::start(&addrs, ledger.clone(), seed).unwrap();

    let begin = Instant::now();
    let (mut kills, mut stops, mut blows) = (0, 0, Vec::new());
    while begin.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_millis(rng.random_range(300..1500))).await;
        let kill = rng.random_bool(0.6);
        // Every other time the leader that the probe talks to.
        let at_leader = rng.random_bool(0.5);
        let mut victim = rng.random_range(0..3);
        if at_leader {
            victim = cluster.leader_of(PROBE).await.unwrap().1;
        }
        let away = Duration::from_millis(rng.random_range(300..2500));
        let at = Instant::now();
        match kill {
            true => cluster.kill(victim),
            false => cluster.stop(victim),
        }
        if at_leader {
            blows.push(Blow { at, kill });
        }
        tokio::time::sleep(away).await;
        match kill {
            true => {
                kills += 1;
                cluster.restart(victim).await.unwrap();
            }
            false => {
                stops += 1;
                cluster.cont(victim);
            }
        }
    }
    let took = begin.elapsed();
    load.stop().await.unwrap();
    let acks = probe.end().await.unwrap();
    println!(
        "{} acknowledged, {} unknown, {} refused in {:.0} s; {kills} kills, {stops} stops",
        ledger.count(Fate::Acknowledged),
        ledger.count(Fate::Unknown),
        ledger.count(Fate::Refused),
        took.as_secs_f64(),
    );

    // Nobody helps: every process that should run does, and the cluster becomes whole by itself.
    let healing = Instant::now();
    cluster.wait_healthy(Duration::from_secs(60)).await.unwrap();
    let patience = Duration::from_secs(60);
    let replicas = cluster.wait_same_state(patience).await.unwrap();
    println!(
        "{replicas} replicas have the same state {:.1} s after the last delivery",
        healing.elapsed().as_secs_f64()
    );
    for i in 0..3 {
        assert!(cluster.process(i).unwrap().is_running(), "node {i} is gone");
    }
    let reading = Instant::now();
    let found = ledger.check(cluster.client()).await.unwrap();
    println!(
        "read back: {found:?} in {:.1} s",
        reading.elapsed().as_secs_f64()
    );
    assert!(found.acknowledged > 0 && kills + stops > 0);
    for i in 0..3 {
        let target = Target::Addr(cluster.addr(i).to_owned());
        let client = cluster.client().with_deadline(Duration::from_secs(120));
        let scrub = client.scrub(&target).await.unwrap();
        assert_eq!(scrub.damaged, 0, "kills damage nothing: {scrub:?}");
    }
    let pauses = |kill| {
        let blows = blows.iter().filter(move |b| b.kill == kill);
        blows
            .map(|b| pause_after(&acks, b.at))
            .collect::<Vec<Duration>>()
    };
    print_pauses("kill -9 of the leader", pauses(true));
    print_pauses("SIGSTOP of the leader", pauses(false));
    for pause in pauses(true) {
        assert!(pause < LONGEST_PAUSE, "a write pause of {pause:?}");
    }
}

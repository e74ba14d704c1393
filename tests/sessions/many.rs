//! Rounds of everything at once; at the end of each, all clients must know what is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use posthouse_client::ids::{AccountName, MailboxName};
use posthouse_client::{AppendOptions, Client, Settings};
use posthouse_tests::cluster::Cluster;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use tokio::task::JoinSet;

use super::environment;
use super::follow::{Follower, Watcher, truth, truths};
use super::ledger::{Ledger, PLACES, message};
use super::session::{Nodes, PASSWORD, Session, USER};

struct World {
    cluster: Cluster,
    account: AccountName,
    ledger: Arc<Ledger>,
    nodes: Arc<Nodes>,
    sessions: Vec<Session>,
    followers: Vec<Follower>,
    watchers: Vec<Watcher>,
    rng: ChaCha12Rng,
    temporary: u64,
}

impl World {
    async fn new(seed: u64, sessions: u64) -> anyhow::Result<World> {
        let cluster = Cluster::start_with_doors(3).await?;
        cluster.create_accounts(&[USER]).await?;
        let account = AccountName::new(USER)?;
        let client = cluster.client();
        client.set_password(&account, PASSWORD, None).await?;
        let other = MailboxName::new(PLACES[1])?;
        client
            .create_mailbox(&account, &other, Vec::new(), None)
            .await?;
        let ledger = Arc::new(Ledger::default());
        let addresses = (0..3).map(|i| cluster.imap(i).to_owned()).collect();
        let nodes = Arc::new(Nodes::new(addresses));
        for _ in 0..20 {
            let n = ledger.new_message();
            let body = Bytes::from(message(n));
            let inbox = MailboxName::inbox();
            let options = AppendOptions::default();
            let stored = client
                .append(&account, &inbox, &body, options)
                .await?
                .stored;
            ledger.stored(0, stored.uid, n)?;
        }
        let doors = |i: usize| Client::new(&[cluster.addr(i)], Settings::default());
        let doors = (0..3).map(doors).collect::<Result<Vec<_>, _>>()?;
        let session = |n| Session::new(n, seed, ledger.clone(), nodes.clone());
        let follower = |n| Follower::new(client.clone(), account.clone(), seed + n);
        let watcher = |n| {
            Watcher::new(
                client.clone(),
                doors.clone(),
                account.clone(),
                seed + 100 + n,
            )
        };
        Ok(World {
            sessions: (0..sessions).map(session).collect(),
            followers: (0..2).map(follower).collect(),
            watchers: (0..2).map(watcher).collect(),
            cluster,
            account,
            ledger,
            nodes,
            rng: ChaCha12Rng::seed_from_u64(seed),
            temporary: 0,
        })
    }

    /// Everybody does `steps` things; one node may die meanwhile.
    async fn round(&mut self, steps: u32, kill: bool) -> anyhow::Result<()> {
        let over = Arc::new(AtomicBool::new(false));
        let goal = Arc::new(AtomicU64::new(u64::MAX));
        let mut sessions = JoinSet::new();
        for mut session in self.sessions.drain(..) {
            sessions.spawn(async move {
                for _ in 0..steps {
                    session.step().await?;
                }
                anyhow::Ok(session)
            });
        }
        let mut followers = JoinSet::new();
        for mut follower in self.followers.drain(..) {
            let over = over.clone();
            followers.spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    follower.step().await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                anyhow::Ok(follower)
            });
        }
        let mut watchers = JoinSet::new();
        for mut watcher in self.watchers.drain(..) {
            let goal = goal.clone();
            watchers.spawn(async move {
                let enough = || match goal.load(Ordering::SeqCst) {
                    u64::MAX => None,
                    modseq => Some(modseq),
                };
                watcher.follow(enough).await?;
                anyhow::Ok(watcher)
            });
        }
        self.temporary += 1;
        let churn = churn(
            self.cluster.client().clone(),
            self.account.clone(),
            self.temporary,
        );
        let churn = tokio::spawn(churn);
        let mut died = None;
        if kill {
            let pause = self.rng.random_range(100..1_500);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let node = match self.rng.random_bool(0.6) {
                true => self.cluster.leader_of(USER).await?.1,
                false => self.rng.random_range(0..3),
            };
            self.nodes.dies(node);
            self.cluster.kill(node);
            died = Some(node);
        }
        while let Some(session) = sessions.join_next().await {
            self.sessions.push(session??);
        }
        churn.await??;
        over.store(true, Ordering::SeqCst);
        if let Some(node) = died {
            self.cluster.restart(node).await?;
            self.cluster.wait_healthy(Duration::from_secs(60)).await?;
            self.nodes.down[node].store(false, Ordering::SeqCst);
        }
        let client = self.cluster.client();
        let account = client.get_account(&self.account).await?;
        goal.store(account.highest_modseq, Ordering::SeqCst);
        while let Some(follower) = followers.join_next().await {
            self.followers.push(follower??);
        }
        while let Some(watcher) = watchers.join_next().await {
            self.watchers.push(watcher??);
        }
        self.sessions.sort_by(|a, b| a.name.cmp(&b.name));
        self.compare().await
    }

    /// At rest.
    async fn compare(&mut self) -> anyhow::Result<()> {
        let client = self.cluster.client().clone();
        let mut by_place = Vec::new();
        for place in PLACES {
            by_place.push(truth(&client, &self.account, place).await?);
        }
        let all = truths(&client, &self.account).await?;
        for session in &mut self.sessions {
            session.compare(&by_place).await?;
        }
        for follower in &mut self.followers {
            follower.compare(&all).await?;
        }
        for watcher in &self.watchers {
            watcher.compare(&all)?;
        }
        let mut there = Vec::new();
        for (place, truth) in PLACES.iter().zip(&by_place) {
            let mut numbers = BTreeMap::new();
            for uid in truth.rows.keys() {
                numbers.insert(*uid, self.number(&client, place, *uid).await?);
            }
            there.push(numbers);
        }
        self.ledger.check(&there)
    }

    /// Which message this is, octet by octet.
    async fn number(&self, client: &Client, place: &str, uid: u32) -> anyhow::Result<u64> {
        let name = MailboxName::new(place)?;
        let octets = client
            .fetch(&self.account, &name, uid)
            .await?
            .collect(1 << 20)
            .await?;
        let text = String::from_utf8(octets)?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("X-Number: "));
        let n = line.with_context(|| format!("{text:?}"))?.parse()?;
        ensure!(
            text.as_bytes() == message(n),
            "uid {uid} of {place} is not message {n}"
        );
        Ok(n)
    }
}

/// A mailbox comes, is filled, renamed, and goes, or stays.
async fn churn(client: Client, account: AccountName, n: u64) -> anyhow::Result<()> {
    let name = MailboxName::new(&format!("Temporary/{n}"))?;
    let other = MailboxName::new(&format!("Moved/{n}"))?;
    client
        .create_mailbox(&account, &name, Vec::new(), None)
        .await?;
    for i in 0..5u64 {
        let body = Bytes::from(format!("Subject: passing {n} {i}\r\n\r\nx\r\n"));
        let options = AppendOptions {
            flags: vec!["\\Seen".into()],
            ..AppendOptions::default()
        };
        client.append(&account, &name, &body, options).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.rename_mailbox(&account, &name, &other, None).await?;
    if n.is_multiple_of(2) {
        client.delete_mailbox(&account, &other, None).await?;
    }
    Ok(())
}

/// Runs rounds, and says how to run them again when they fail.
async fn run(seed: u64, rounds: u64, kill: bool) {
    let done = async {
        let mut world = World::new(seed, 7).await?;
        for n in 0..rounds {
            let round = world.round(40, kill).await;
            round.with_context(|| format!("round {n}"))?;
        }
        let resumed: u64 = world.sessions.iter().map(|s| s.resumed).sum();
        let handed: u64 = world.watchers.iter().map(|w| w.resumed).sum();
        let counted: u64 = world.sessions.iter().map(|s| s.counted).sum();
        println!(
            "seed {seed}: {rounds} rounds, {resumed} resumptions, {handed} watches, \
             {counted} counters told unasked"
        );
        if kill {
            world
                .cluster
                .wait_same_state(Duration::from_secs(60))
                .await?;
        }
        anyhow::Ok(())
    };
    if let Err(error) = done.await {
        panic!("POSTHOUSE_SEED={seed} POSTHOUSE_ROUNDS={rounds}: {error:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_are_told_makes_sense_and_is_what_is() {
    let seed = environment("POSTHOUSE_SEED", 1);
    run(seed, environment("POSTHOUSE_ROUNDS", 8), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_are_told_is_what_is_when_nodes_die() {
    let seed = environment("POSTHOUSE_SEED", 2);
    run(seed, environment("POSTHOUSE_ROUNDS", 4), true).await;
}

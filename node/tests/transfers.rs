//! Three nodes in one process: messages move between accounts of different shards while leaders
//! move and nodes stop, and each is in one account in the end, octet for octet.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use posthouse_client::ids::{AccountName, MailboxName, RequestId, Uid};
use posthouse_client::proto::UidRange;
use posthouse_client::{AppendOptions, Client, Error, ListOptions, Settings, Target};
use posthouse_node::config::Config;
use posthouse_node::env::Env;
use posthouse_node::node::Node;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    configs: Vec<Config>,
    nodes: Vec<Option<Node>>,
    client: Client,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn form() -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Cluster {
            configs: Vec::new(),
            nodes: Vec::new(),
            client: Client::new(&["127.0.0.1:1"], Settings::default()).unwrap(),
            _dir: dir,
        };
        for n in 0..3 {
            let mut config = Config {
                data: cluster._dir.path().join(format!("node{n}")),
                listen: "127.0.0.1:0".into(),
                shards: 2,
                segment_bytes: 4 << 20,
                ..Config::default()
            };
            if n > 0 {
                config.join = cluster.configs[0].listen.clone();
                let token = cluster.client.create_join_token(0).await.unwrap();
                config.join_token = token.token;
            }
            cluster.configs.push(config);
            cluster.nodes.push(None);
            cluster.start(n).await;
            let addrs: Vec<_> = cluster.configs.iter().map(|c| &c.listen).collect();
            cluster.client = Client::new(&addrs, Settings::default()).unwrap();
        }
        cluster.whole().await;
        cluster
    }

    async fn start(&mut self, n: usize) {
        let config = self.configs[n].clone();
        let node = Node::start(config, Env::real(), CancellationToken::new()).await;
        let node = node.unwrap();
        self.configs[n].listen = node.grpc_addr.clone();
        self.nodes[n] = Some(node);
    }

    async fn stop(&mut self, n: usize) {
        self.nodes[n].take().unwrap().stop().await;
    }

    /// Three voters and a leader in every shard.
    async fn whole(&self) {
        let began = Instant::now();
        loop {
            let shards = self.client.shards(&Target::Any, false).await;
            let shards = shards.unwrap_or_default();
            let voters = |s: &posthouse_client::proto::Shard| {
                s.leader_node != 0 && s.replicas.iter().filter(|r| r.role != "learner").count() == 3
            };
            if shards.len() == 3 && shards.iter().all(voters) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{shards:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Has a node lead a shard, unless it does not come to it.
    async fn lead(&self, shard: u32, n: usize) {
        let id = self.nodes[n].as_ref().unwrap().id.0;
        self.client.transfer_leader(shard, u64::from(id)).await.ok();
    }

    /// An account whose shard this is.
    async fn account_in(&self, shard: u32, prefix: &str) -> AccountName {
        let placement = self.client.placement().await.unwrap();
        let mut names = (0..).map(|n| AccountName::new(&format!("{prefix}{n}@x")).unwrap());
        let of = |name: &AccountName| {
            placement.shard_of(posthouse_client::ids::Slot::of(name)) == Some(shard)
        };
        let name = names.find(of).unwrap();
        self.client.create_account(&name, None).await.unwrap();
        name
    }

    /// The messages of an account's INBOX by uid.
    async fn inbox(&self, account: &AccountName) -> BTreeMap<Uid, Bytes> {
        let inbox = inbox();
        let all = ListOptions::default();
        let page = self.client.list_page(account, &inbox, all).await.unwrap();
        let mut found = BTreeMap::new();
        for message in page.messages {
            let octets = self.client.fetch(account, &inbox, message.uid).await;
            let octets = octets.unwrap().collect(1 << 24).await.unwrap();
            found.insert(message.uid, octets.into());
        }
        found
    }

    /// Waits until every replica has the same rows, and no transfer is left to be settled.
    async fn settled(&self) {
        let began = Instant::now();
        loop {
            let mut equal = true;
            for shard in 1..=2 {
                let mut states = Vec::new();
                for config in &self.configs {
                    let at = Target::Addr(config.listen.clone());
                    let state = self.client.hash_state(&at, shard).await;
                    states.push(state.map(|s| (s.applied, s.hash)).ok());
                }
                equal &= states[0].is_some() && states.iter().all(|s| *s == states[0]);
            }
            let mut idle = true;
            for config in &self.configs {
                let at = Target::Addr(config.listen.clone());
                let workers = self.client.workers(&at).await.unwrap();
                let transfers = workers.into_iter().find(|w| w.name == "transfers").unwrap();
                idle &= transfers.last_error.is_empty();
            }
            if equal && idle {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "equal {equal}, idle {idle}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn inbox() -> MailboxName {
    MailboxName::new("INBOX").unwrap()
}

fn message(n: u32) -> Bytes {
    let octets = match n % 7 {
        3 => 1_500_000,
        n => 100 * n as usize,
    };
    // Nothing that compression could make small, and no two alike.
    let mut seed = u64::from(n) + 1;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
        b'a' + (seed >> 59) as u8 % 26
    });
    let head = format!("Subject: message {n}\r\n\r\n").into_bytes();
    head.into_iter().chain(noise.take(octets)).collect()
}

async fn fill(c: &Cluster, account: &AccountName, messages: u32) {
    for n in 0..messages {
        let options = AppendOptions {
            flags: vec!["\\Seen".into(), format!("$n{n}")],
            internal_date_ms: 1_000 + u64::from(n),
            ..AppendOptions::default()
        };
        let (inbox, message) = (inbox(), message(n));
        let appended = c.client.append(account, &inbox, &message, options);
        appended.await.unwrap();
    }
}

/// One range of one uid.
fn one(uid: Uid) -> Vec<UidRange> {
    vec![UidRange {
        first: uid,
        last: uid,
    }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_move_between_accounts_are_in_one_of_them_whatever_stops() {
    const MESSAGES: u32 = 24;
    let mut c = Cluster::form().await;
    let ann = c.account_in(1, "ann").await;
    let bob = c.account_in(2, "bob").await;
    fill(&c, &ann, MESSAGES).await;
    // Over the network to begin with.
    c.lead(1, 0).await;
    c.lead(2, 1).await;

    let client = c.client.with_deadline(Duration::from_secs(5));
    let (from, to) = (ann.clone(), bob.clone());
    let mover = tokio::spawn(async move {
        let mut places = BTreeMap::new();
        for uid in 1..=MESSAGES {
            let id = RequestId([uid as u8; 16]);
            let began = Instant::now();
            let moved = loop {
                let (box_, to_box) = (inbox(), inbox());
                let other = (&to, &to_box);
                let moving = client.move_to_account(&from, &box_, one(uid), other, Some(id));
                match moving.await {
                    Ok(moved) => break moved,
                    Err(Error::NotFound { what, message }) => panic!("{what}: {message}"),
                    Err(e) => assert!(began.elapsed() < PATIENCE, "uid {uid}: {e}"),
                }
            };
            assert_eq!(moved.from, one(uid));
            places.insert(moved.to[0].first, uid);
            sleep(Duration::from_millis(150)).await;
        }
        places
    });
    // Leaders move and nodes stop, so that some transfer is caught between any two of its steps.
    let mut round = 0;
    while !mover.is_finished() {
        let n = round % 3;
        match round % 4 {
            3 => {
                c.stop(n).await;
                sleep(Duration::from_millis(300)).await;
                c.start(n).await;
            }
            k => c.lead(1 + k as u32 % 2, n).await,
        }
        sleep(Duration::from_millis(300)).await;
        round += 1;
    }
    let places = mover.await.unwrap();
    c.whole().await;
    c.settled().await;
    let arrived = c.inbox(&bob).await;
    assert_eq!(c.inbox(&ann).await.len(), 0);
    assert_eq!(arrived.len(), MESSAGES as usize);
    for (uid, octets) in &arrived {
        let n = places[uid] - 1;
        assert!(*octets == message(n), "message {n}");
    }
    let (box_, all) = (inbox(), ListOptions::default());
    let page = c.client.list_page(&bob, &box_, all).await.unwrap();
    for message in page.messages {
        let n = places[&message.uid] - 1;
        assert_eq!(message.flags, ["\\Seen".to_owned(), format!("$n{n}")]);
        assert_eq!(message.internal_date_ms, 1_000 + u64::from(n));
    }
    // The answers stand.
    let other = (&bob, &box_);
    let id = Some(RequestId([1; 16]));
    let again = c.client.move_to_account(&ann, &box_, one(1), other, id);
    let again = again.await.unwrap();
    assert_eq!(places[&again.to[0].first], 1);
    for n in 0..3 {
        c.stop(n).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_is_carried_on_when_nobody_asks_any_more() {
    const MESSAGES: u32 = 14;
    let mut c = Cluster::form().await;
    let ann = c.account_in(1, "ann").await;
    let bob = c.account_in(2, "bob").await;
    fill(&c, &ann, MESSAGES).await;
    c.lead(1, 0).await;
    c.lead(2, 1).await;
    // A caller with little patience; then the leader that was at work stops.
    let all = vec![UidRange { first: 1, last: 0 }];
    for n in 1..20 {
        let hasty = c.client.with_deadline(Duration::from_millis(50 * n));
        let id = Some(RequestId([1; 16]));
        let (box_, to_box) = (inbox(), inbox());
        let other = (&bob, &to_box);
        let moving = hasty.move_to_account(&ann, &box_, all.clone(), other, id);
        if moving.await.is_ok() {
            break;
        }
    }
    c.stop(0).await;
    let began = Instant::now();
    loop {
        let usage = |account| c.client.usage(account);
        let (here, there) = (usage(&ann).await.unwrap(), usage(&bob).await.unwrap());
        if here.messages == 0 {
            assert_eq!(there.messages, u64::from(MESSAGES));
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{here:?} {there:?}");
        sleep(Duration::from_millis(100)).await;
    }
    c.start(0).await;
    c.whole().await;
    c.settled().await;
    let arrived = c.inbox(&bob).await;
    assert!(arrived.into_values().eq((0..MESSAGES).map(message)));
    // Inside one shard it is the same, and a copy stays.
    let cyd = c.account_in(2, "cyd").await;
    let (box_, to_box) = (inbox(), inbox());
    let other = (&cyd, &to_box);
    let copied = c.client.copy_to_account(&bob, &box_, all, other, None);
    assert_eq!(copied.await.unwrap().to.len(), 1);
    for account in [&bob, &cyd] {
        let messages = c.client.usage(account).await.unwrap().messages;
        assert_eq!(messages, u64::from(MESSAGES));
    }
    // More than one step holds, asked for at once.
    let (dan, box_) = (c.account_in(1, "dan").await, inbox());
    for octets in [20 << 20, 20 << 20, 9] {
        let body: Bytes = vec![b'a'; octets].into();
        let options = AppendOptions::default();
        let appended = c.client.append(&dan, &box_, &body, options).await;
        appended.unwrap();
    }
    let all = vec![UidRange { first: 1, last: 0 }];
    let (id, other) = (Some(RequestId([2; 16])), (&cyd, &box_));
    let moving = || {
        c.client
            .move_to_account(&dan, &box_, all.clone(), other, id)
    };
    let moved = moving().await.unwrap();
    let count = |ranges: &[UidRange]| ranges.iter().map(|r| r.last - r.first + 1).sum::<u32>();
    assert_eq!((count(&moved.from), count(&moved.to)), (3, 3));
    assert_eq!(moved.from.len(), 2, "two steps");
    assert_eq!(moving().await.unwrap(), moved);
    assert_eq!(c.client.usage(&dan).await.unwrap().messages, 0);
    let there = c.client.usage(&cyd).await.unwrap().messages;
    assert_eq!(there, u64::from(MESSAGES) + 3);
    for n in 0..3 {
        c.stop(n).await;
    }
}

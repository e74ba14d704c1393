//! Three nodes in one process: watchers hear of every message while leaders move and nodes stop,
//! and passwords let people in whoever leads.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use posthouse_client::ids::{AccountName, MailboxName, ModSeq, Uid};
use posthouse_client::proto::AccountState;
use posthouse_client::{
    AppendOptions, Client, Delivery, Error, Identity, ListOptions, Recipient, Settings,
    Subscription, Target, Watch,
};
use posthouse_node::config::Config;
use posthouse_node::env::Env;
use posthouse_node::node::Node;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(40);

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
                segment_bytes: 1 << 20,
                password_memory_kib: 64,
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
        let client = &cluster.client;
        let began = Instant::now();
        loop {
            let shards = client.shards(&Target::Any, false).await.unwrap_or_default();
            let voters = |s: &posthouse_client::proto::Shard| {
                s.leader_node != 0 && s.replicas.iter().filter(|r| r.role != "learner").count() == 3
            };
            if shards.len() == 3 && shards.iter().all(voters) {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{shards:?}");
            sleep(Duration::from_millis(50)).await;
        }
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
        let began = Instant::now();
        self.nodes[n].take().unwrap().stop().await;
        assert!(began.elapsed() < Duration::from_secs(9), "watchers hold it");
    }

    async fn deliver(&self, to: &[AccountName], n: u32) {
        let delivery = Delivery {
            identity: Identity::Request(self.client.request_id()),
            recipients: to.iter().cloned().map(Recipient::inbox).collect(),
            internal_date_ms: 0,
        };
        let message = Bytes::from(format!("Subject: number {n}\r\n\r\nhello\r\n"));
        for result in self
            .client
            .deliver(&delivery, &message)
            .await
            .unwrap()
            .results
        {
            result.unwrap();
        }
    }
}

/// Somebody who knows an account by its changes alone.
struct Reader {
    subscription: Subscription,
    known: BTreeSet<Uid>,
    seen: ModSeq,
    wakes: u32,
}

impl Reader {
    fn new(watch: &Watch, account: &AccountName) -> Reader {
        Reader {
            subscription: watch.subscribe(account.clone(), 0),
            known: BTreeSet::new(),
            seen: 0,
            wakes: 0,
        }
    }

    /// Follows until so many messages are known.
    async fn follow(&mut self, client: &Client, messages: usize) {
        let account = self.subscription.account().clone();
        while self.known.len() < messages {
            let change = timeout(PATIENCE, self.subscription.next()).await;
            let change = change.expect("told in time").expect("the account is there");
            self.wakes += 1;
            assert!(change.modseq >= self.seen || change.resync);
            loop {
                let changes = client
                    .get_changes(&account, None, self.seen, 3)
                    .await
                    .unwrap();
                for mailbox in &changes.mailboxes {
                    for range in &mailbox.created {
                        self.known.extend(range.first..=range.last);
                    }
                    for range in &mailbox.vanished {
                        self.known
                            .retain(|uid| !(range.first..=range.last).contains(uid));
                    }
                }
                self.seen = changes.up_to;
                if !changes.more {
                    break;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_miss_nothing_while_leaders_move_and_nodes_stop() {
    let mut c = Cluster::form().await;
    let accounts: Vec<AccountName> = (0..6)
        .map(|n| AccountName::new(&format!("user{n}@example.org")).unwrap())
        .collect();
    for account in &accounts {
        c.client.create_account(account, None).await.unwrap();
    }
    let watch = c.client.watch();
    let mut readers: Vec<Reader> = accounts.iter().map(|a| Reader::new(&watch, a)).collect();
    let client = c.client.clone();
    let mut sent = 0;
    for round in 0..6 {
        match round {
            1 | 3 => {
                for shard in 1..=2 {
                    let to = 1 + (u64::from(shard) + round) % 3;
                    client.transfer_leader(shard, to).await.ok();
                }
            }
            2 => c.stop(1).await,
            4 => c.start(1).await,
            5 => c.stop(0).await,
            _ => {}
        }
        for _ in 0..5 {
            sent += 1;
            c.deliver(&accounts, sent).await;
        }
        for reader in &mut readers {
            reader.follow(&client, sent as usize).await;
        }
    }
    for (account, reader) in accounts.iter().zip(&readers) {
        let inbox = MailboxName::inbox();
        let all = ListOptions::default();
        let listed = client.list_page(account, &inbox, all).await.unwrap();
        let uids: BTreeSet<Uid> = listed.messages.iter().map(|m| m.uid).collect();
        assert_eq!(uids, reader.known);
        assert!(reader.wakes <= 8 * sent, "{} wakes", reader.wakes);
    }

    let ann = &accounts[0];
    client
        .set_password(ann, "correct horse", None)
        .await
        .unwrap();
    let drawn = client.add_app_password(ann, "phone", None).await.unwrap();
    for leader in [2, 3] {
        for shard in 1..=2 {
            client.transfer_leader(shard, leader).await.ok();
        }
        let own = client.authenticate(ann, "correct horse", "192.0.2.1").await;
        assert_eq!(own.unwrap().app_password, "");
        let app = client.authenticate(ann, &drawn.password, "192.0.2.1").await;
        assert_eq!(app.unwrap().app_password, "phone");
        let wrong = client.authenticate(ann, "wrong horse", "192.0.2.1").await;
        assert!(
            matches!(wrong, Err(Error::BadCredentials { .. })),
            "{wrong:?}"
        );
    }
    client
        .set_account_state(ann, AccountState::Closed, None)
        .await
        .unwrap();
    let body = Bytes::from_static(b"Subject: x\r\n\r\n");
    let options = AppendOptions::default();
    let refused = client
        .append(ann, &MailboxName::inbox(), &body, options)
        .await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    client.delete_account(ann, None).await.unwrap();
    let gone = async {
        loop {
            if readers[0].subscription.next().await.is_none_or(|c| c.gone) {
                break;
            }
        }
    };
    timeout(PATIENCE, gone).await.expect("told in time");
    for n in [1, 2] {
        c.stop(n).await;
    }
}

//! Three nodes in one process: they form a cluster, take mail, hand leadership over, lose a node
//! and its index, catch up by snapshot, and start again, all through the front door.
#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use posthouse_client::ids::{AccountName, MailboxName};
use posthouse_client::{AppendOptions, Client, ListOptions, Settings, Target};
use posthouse_node::config::Config;
use posthouse_node::env::Env;
use posthouse_node::node::{Node, StartError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(40);
const DATA_SHARDS: u32 = 2;

struct Place {
    config: Config,
    node: Option<Node>,
    id: u64,
}

struct Cluster {
    dir: tempfile::TempDir,
    places: Vec<Place>,
    client: Client,
    stored: Vec<(AccountName, u32, Bytes)>,
}

fn config(data: PathBuf) -> Config {
    Config {
        data,
        listen: "127.0.0.1:0".into(),
        shards: DATA_SHARDS,
        segment_bytes: 1 << 20,
        flush_ms: 200,
        keep_entries: 8,
        ..Config::default()
    }
}

async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match attempt().await {
            Ok(t) => return t,
            Err(why) => assert!(begin.elapsed() < PATIENCE, "not {what}: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn account(n: u32) -> AccountName {
    AccountName::new(&format!("user{n}@example.org")).unwrap()
}

fn inbox() -> MailboxName {
    MailboxName::new("INBOX").unwrap()
}

impl Cluster {
    async fn form() -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let places = (0..3).map(|n| Place {
            config: config(dir.path().join(format!("node{n}"))),
            node: None,
            id: 0,
        });
        let mut cluster = Cluster {
            places: places.collect(),
            client: Client::new(&["127.0.0.1:1"], Settings::default()).unwrap(),
            dir,
            stored: Vec::new(),
        };
        cluster.start(0).await;
        for n in 1..3 {
            let addr = cluster.places[0].config.listen.clone();
            cluster.client = Client::new(&[&addr], Settings::default()).unwrap();
            let token = cluster.client.create_join_token(0).await.unwrap().token;
            cluster.places[n].config.join = addr;
            cluster.places[n].config.join_token = token;
            cluster.start(n).await;
        }
        let addrs: Vec<_> = cluster.places.iter().map(|p| &p.config.listen).collect();
        cluster.client = Client::new(&addrs, Settings::default()).unwrap();
        cluster
    }

    async fn start(&mut self, n: usize) {
        let place = &mut self.places[n];
        let stop = CancellationToken::new();
        let node = Node::start(place.config.clone(), Env::real(), stop).await;
        let node = node.unwrap();
        place.config.listen = node.grpc_addr.clone();
        place.id = node.id.0 as u64;
        place.node = Some(node);
    }

    async fn stop(&mut self, n: usize) {
        self.places[n].node.take().unwrap().stop().await;
    }

    /// Three voters in every shard, one leader, equal state everywhere.
    async fn whole(&self) {
        let client = self.client.with_deadline(Duration::from_secs(3));
        eventually("whole", async || {
            let shards = client.shards(&Target::Any, false).await;
            let shards = shards.map_err(|e| e.to_string())?;
            if shards.len() != 1 + DATA_SHARDS as usize {
                return Err(format!("{} shards", shards.len()));
            }
            for s in &shards {
                let voters = s.replicas.iter().filter(|r| r.role != "learner").count();
                if voters != 3 || s.replicas.len() != 3 || s.leader_node == 0 {
                    return Err(format!("{s:?}"));
                }
                let mut states = Vec::new();
                for place in &self.places {
                    let at = Target::Addr(place.config.listen.clone());
                    let state = client.hash_state(&at, s.shard).await;
                    let state = state.map_err(|e| e.to_string())?;
                    states.push((state.applied, state.hash));
                }
                if states.iter().any(|s| *s != states[0]) {
                    return Err(format!("shard {} differs", s.shard));
                }
            }
            Ok(())
        })
        .await;
    }

    async fn send(&mut self, messages: u32, octets: usize) {
        for _ in 0..messages {
            let n = self.stored.len() as u32;
            let account = account(n % 6);
            if n < 6 {
                self.client.create_account(&account, None).await.unwrap();
            }
            // Nothing that compression could make small, and no two alike.
            let mut seed = n as u64 + 1;
            let noise = std::iter::repeat_with(|| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                b'a' + (seed >> 59) as u8 % 26
            });
            let head = format!("Subject: message {n}\r\n\r\n").into_bytes();
            let body: Bytes = head.into_iter().chain(noise.take(octets)).collect();
            let options = AppendOptions::default();
            let appended = self.client.append(&account, &inbox(), &body, options).await;
            self.stored
                .push((account, appended.unwrap().stored.uid, body));
        }
    }

    /// Every message that was acknowledged is there, once.
    async fn check(&self) {
        for (account, uid, body) in &self.stored {
            let fetched = self.client.fetch(account, &inbox(), *uid).await.unwrap();
            let octets = fetched.collect(1 << 24).await.unwrap();
            assert!(octets == body[..], "{account} {uid}");
        }
        for n in 0..6 {
            let account = account(n);
            let (inbox, all) = (inbox(), ListOptions::default());
            let listed = self.client.list_page(&account, &inbox, all).await;
            let listed = listed.unwrap().messages.len();
            let stored = self.stored.iter().filter(|(a, ..)| *a == account).count();
            assert_eq!(listed, stored, "{account}");
        }
    }

    /// Puts a node's directory back to what it was some messages ago; with `late`, into an image
    /// that does not know where the other nodes are.
    async fn old_image(&mut self, n: usize, late: bool) {
        self.stop(n).await;
        let data = self.places[n].config.data.clone();
        let image = data.with_extension("image");
        copy(&data, &image);
        if late {
            let path = image.join("identity.json");
            let text = std::fs::read_to_string(&path).unwrap();
            // As a version wrote it that had no checksum yet.
            let (head, _) = text.split_once("\"peers\": {").unwrap();
            std::fs::write(path, format!("{head}\"peers\": {{}}\n}}")).unwrap();
        }
        self.start(n).await;
        self.whole().await;
        self.send(6, 2_000).await;
        self.whole().await;
        let node = self.places[n].id;
        let before = [
            self.generation(1, node).await,
            self.generation(2, node).await,
        ];
        self.stop(n).await;
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(&image, &data).unwrap();
        self.start(n).await;
        eventually("replaced", async || {
            let now = [
                self.generation(1, node).await,
                self.generation(2, node).await,
            ];
            match now[0] == before[0] || now[1] == before[1] {
                true => Err("an old replica is still there".into()),
                false => Ok(()),
            }
        })
        .await;
        self.whole().await;
        self.check().await;
    }

    /// A node whose identity alone still knows that its replica of shard 1 is lost, however whole its
    /// journal looks, gets another one in its place.
    async fn lost_by_identity(&mut self, n: usize) {
        let node = self.places[n].id;
        let before = self.generation(1, node).await;
        self.stop(n).await;
        let path = self.places[n].config.data.join("identity.json");
        let mut file: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        file.as_object_mut().unwrap().remove("crc32");
        file["lost"] = serde_json::json!([[1, node << 32 | before]]);
        std::fs::write(&path, file.to_string()).unwrap();
        self.start(n).await;
        eventually("replaced", async || {
            match self.generation(1, node).await == before {
                true => Err("the lost replica is still there".into()),
                false => Ok(()),
            }
        })
        .await;
        self.whole().await;
        self.check().await;
    }

    /// How many replicas of the shard the node has had before.
    async fn generation(&self, shard: u32, node: u64) -> u64 {
        eventually("listed", async || {
            let shards = self.client.shards(&Target::Any, false).await;
            let shards = shards.map_err(|e| e.to_string())?;
            let of = shards.iter().filter(|s| s.shard == shard);
            let mut replicas = of.flat_map(|s| &s.replicas);
            let replica = replicas.find(|r| r.node_id == node);
            replica
                .map(|r| r.replica_id & 0xffff_ffff)
                .ok_or_else(|| format!("{shards:?}"))
        })
        .await
    }
}

/// Replicated rows of the data shards, as one node has them.
async fn rows(c: &Cluster) -> Result<u64, String> {
    let mut rows = 0;
    for shard in 1..=DATA_SHARDS {
        let at = Target::Addr(c.places[0].config.listen.clone());
        let state = c.client.hash_state(&at, shard).await;
        rows += state.map_err(|e| e.to_string())?.rows;
    }
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_deleted_mailbox_goes_also_after_a_restart() {
    const MESSAGES: u64 = 60;
    let mut c = Cluster::form().await;
    c.whole().await;
    c.send(6, 100).await;
    let (ann, bulk) = (account(0), MailboxName::new("Bulk/Old").unwrap());
    let made = c.client.create_mailbox(&ann, &bulk, vec![], None).await;
    made.unwrap();
    for n in 0..MESSAGES {
        let body: Bytes = format!("Subject: bulk {n}\r\n\r\n").into_bytes().into();
        let options = AppendOptions::default();
        let appended = c.client.append(&ann, &bulk, &body, options).await;
        appended.unwrap();
    }
    c.whole().await;
    let full = rows(&c).await.unwrap();
    c.client.delete_mailbox(&ann, &bulk, None).await.unwrap();
    assert_eq!(c.client.usage(&ann).await.unwrap().messages, 1);
    for n in 0..3 {
        c.stop(n).await;
    }
    for n in 0..3 {
        c.start(n).await;
    }
    // Each message has a hot row, an email, a summary and a blob of its own; the deletion itself
    // leaves a few rows.
    let reaped = full - 4 * MESSAGES + 8;
    eventually("reaped", async || match rows(&c).await? {
        rows if rows > reaped => Err(format!("{rows} of {full} rows, {reaped} should be left")),
        _ => Ok(()),
    })
    .await;
    c.whole().await;
    c.check().await;
    let names = c.client.list_mailboxes(&ann).await.unwrap();
    let names: Vec<&str> = names.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["INBOX", "Bulk"]);
    for n in 0..3 {
        c.stop(n).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_stops_nothing_is_lost() {
    let mut c = Cluster::form().await;
    c.whole().await;
    c.send(12, 10_000).await;

    // Leaders move while mail comes in.
    for to in 0..3 {
        let id = c.places[to].id;
        let moved = c.client.transfer_leader(1, id).await;
        moved.unwrap_or_else(|e| panic!("to node {id}: {e}"));
        c.send(6, 2_000).await;
    }

    // One is away for longer than the logs reach back, and catches up by snapshot.
    c.stop(2).await;
    c.send(60, 60_000).await;
    let away = c.places[2].id;
    c.start(2).await;
    c.whole().await;
    assert_eq!(c.generation(1, away).await, 0, "it only had to catch up");
    c.check().await;

    // One loses its index: its replicas are replaced, whole and for good.
    c.stop(1).await;
    std::fs::remove_dir_all(c.places[1].config.data.join("index")).unwrap();
    c.send(6, 2_000).await;
    let lost = c.places[1].id;
    c.start(1).await;
    eventually("replaced", async || match c.generation(1, lost).await {
        0 => Err("the old replica is still there".into()),
        _ => Ok(()),
    })
    .await;
    c.whole().await;
    c.check().await;

    // All stop, and all come back.
    for n in 0..3 {
        c.stop(n).await;
    }
    for n in 0..3 {
        c.start(n).await;
    }
    c.whole().await;
    c.check().await;
    c.send(6, 2_000).await;

    // One comes back from an older image of its directory, whole but without what it has promised
    // since: it votes no more under its old name. It learns of it when it starts or, when it cannot
    // ask then, while it runs.
    for late in [false, true] {
        c.old_image(1, late).await;
    }

    c.lost_by_identity(1).await;

    // The journal of one is gone: it votes no more under its old name.
    c.stop(0).await;
    std::fs::remove_dir_all(c.places[0].config.data.join("journal")).unwrap();
    let lost = c.places[0].id;
    let before = c.generation(2, lost).await;
    c.start(0).await;
    eventually("replaced", async || match c.generation(2, lost).await {
        now if now == before => Err("the old replica is still there".into()),
        _ => Ok(()),
    })
    .await;
    c.whole().await;
    c.check().await;
    for n in 0..3 {
        c.stop(n).await;
    }

    // A node that has forgotten everything but its name does not start under it.
    for gone in ["index", "journal"] {
        std::fs::remove_dir_all(c.places[2].config.data.join(gone)).unwrap();
    }
    let config = c.places[2].config.clone();
    let started = Node::start(config, Env::real(), CancellationToken::new()).await;
    assert!(matches!(started, Err(StartError::Gone { .. })));
    drop(c.dir);
}

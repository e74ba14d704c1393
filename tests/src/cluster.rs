//! `posthoused` processes that form a cluster, and what can happen to them.
//!
//! Nodes are counted from 0 here; their node ids are the cluster's to give.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures::TryStreamExt;
use posthouse_client::ids::{AccountName, MailboxName, Slot};
use posthouse_client::{Client, ListOptions, Settings, Target};
use tempfile::TempDir;

use crate::binaries::binary;
use crate::ports;
use crate::process::Process;

/// Time for a node to start and for a cluster to become whole.
const PATIENCE: Duration = Duration::from_secs(60);

/// Some nodes, ended when dropped.
pub struct Cluster {
    nodes: Vec<Node>,
    arguments: Vec<String>,
    doors: bool,
    client: Client,
    dir: TempDir,
}

struct Node {
    process: Option<Process>,
    addr: String,
    lmtp: String,
    imap: String,
    imaps: String,
    pop3: String,
    pop3s: String,
    id: u64,
    arguments: Vec<String>,
}

impl Node {
    fn new(arguments: &[String]) -> Node {
        Node {
            process: None,
            addr: ports::free_addr(),
            lmtp: ports::free_addr(),
            imap: ports::free_addr(),
            imaps: ports::free_addr(),
            pop3: ports::free_addr(),
            pop3s: ports::free_addr(),
            id: 0,
            arguments: arguments.to_vec(),
        }
    }
}

impl Cluster {
    /// Starts a cluster of `n` nodes and waits until it is healthy.
    pub async fn start(n: usize) -> anyhow::Result<Cluster> {
        Cluster::start_with(n, &[]).await
    }

    /// As [`Cluster::start`], each node with further arguments.
    pub async fn start_with(n: usize, arguments: &[&str]) -> anyhow::Result<Cluster> {
        Cluster::start_settings(n, "", arguments).await
    }

    /// As [`Cluster::start`], each node with the doors for mail programs, too.
    pub async fn start_with_doors(n: usize) -> anyhow::Result<Cluster> {
        Cluster::start_all(n, "", &[], true).await
    }

    /// As [`Cluster::start_with`], each node with these settings (TOML), too.
    pub async fn start_settings(
        n: usize,
        settings: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Cluster> {
        Cluster::start_all(n, settings, arguments, false).await
    }

    async fn start_all(
        n: usize,
        settings: &str,
        arguments: &[&str],
        doors: bool,
    ) -> anyhow::Result<Cluster> {
        let dir = tempfile::Builder::new()
            .prefix("posthouse-test-")
            .tempdir()?;
        let mut arguments: Vec<String> = arguments.iter().map(|a| a.to_string()).collect();
        if !settings.is_empty() {
            let path = dir.path().join("settings.toml");
            fs::write(&path, settings)?;
            arguments.extend(["--config".to_owned(), path.display().to_string()]);
        }
        let nodes: Vec<Node> = (0..n).map(|_| Node::new(&arguments)).collect();
        let addrs: Vec<String> = nodes.iter().map(|node| node.addr.clone()).collect();
        let client = Client::new(&addrs, Settings::default())?;
        let mut cluster = Cluster {
            nodes,
            arguments,
            doors,
            client,
            dir,
        };
        cluster.launch(0, &[]).await?;
        for i in 1..n {
            cluster.join(i).await?;
        }
        cluster.wait_healthy(PATIENCE).await?;
        Ok(cluster)
    }

    /// Takes in one more node; does not wait until it holds anything.
    pub async fn grow(&mut self) -> anyhow::Result<usize> {
        self.nodes.push(Node::new(&self.arguments));
        let i = self.nodes.len() - 1;
        self.join(i).await?;
        // A client that is told of the node only by the next answer may not get one.
        let addrs: Vec<String> = self.nodes.iter().map(|node| node.addr.clone()).collect();
        self.client = Client::new(&addrs, Settings::default())?;
        Ok(i)
    }

    async fn join(&mut self, i: usize) -> anyhow::Result<()> {
        let token = self.client.create_join_token(0).await?.token;
        let path = self.dir.path().join(format!("token{i}"));
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        std::io::Write::write_all(&mut file, token.as_bytes())?;
        let path = path
            .to_str()
            .context("an odd temporary directory")?
            .to_owned();
        let first = self.nodes[0].addr.clone();
        self.launch(i, &["--join", &first, "--token-file", &path])
            .await
    }

    async fn launch(&mut self, i: usize, more: &[&str]) -> anyhow::Result<()> {
        let data = self.data(i);
        let node = &mut self.nodes[i];
        ensure!(node.process.is_none(), "node {i} runs already");
        let mut command = Command::new(binary("posthoused")?);
        command.arg("--data").arg(data);
        command.args(["--listen", &node.addr, "--lmtp", &node.lmtp]);
        if self.doors {
            command.args(["--imap", &node.imap, "--imaps", &node.imaps]);
            command.args(["--pop3", &node.pop3, "--pop3s", &node.pop3s]);
        }
        command.args(&node.arguments).args(more);
        let mut process = Process::start(&format!("node{i}"), &mut command, self.dir.path())?;
        let ready = process.line("ready ", PATIENCE).await?;
        let id = ready.split(' ').find_map(|word| word.strip_prefix("node="));
        node.id = id
            .and_then(|id| id.parse().ok())
            .with_context(|| format!("{ready:?}"))?;
        node.process = Some(process);
        Ok(())
    }

    /// Number of nodes, running or not.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The directory that holds all data directories and logs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory of node `i`.
    pub fn data(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("node{i}"))
    }

    /// The gRPC address of node `i`.
    pub fn addr(&self, i: usize) -> &str {
        &self.nodes[i].addr
    }

    /// The LMTP address of node `i`.
    pub fn lmtp(&self, i: usize) -> &str {
        &self.nodes[i].lmtp
    }

    /// The IMAP address of node `i`, when it has the doors.
    pub fn imap(&self, i: usize) -> &str {
        &self.nodes[i].imap
    }

    /// The address of IMAP with TLS of node `i`, when it has the doors.
    pub fn imaps(&self, i: usize) -> &str {
        &self.nodes[i].imaps
    }

    /// The certificate of node `i`'s doors, when it has them.
    pub fn certificate(&self, i: usize) -> PathBuf {
        self.data(i).join("tls/certificate.pem")
    }

    /// The POP3 address of node `i`, when it has the doors.
    pub fn pop3(&self, i: usize) -> &str {
        &self.nodes[i].pop3
    }

    /// The address of POP3 with TLS of node `i`, when it has the doors.
    pub fn pop3s(&self, i: usize) -> &str {
        &self.nodes[i].pop3s
    }

    /// The node id of node `i`.
    pub fn id(&self, i: usize) -> u64 {
        self.nodes[i].id
    }

    /// The process of node `i`, when it runs.
    pub fn process(&mut self, i: usize) -> Option<&mut Process> {
        self.nodes[i].process.as_mut()
    }

    /// Which node has this id.
    pub fn place_of(&self, id: u64) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    /// A client of the whole cluster.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// `kill -9`.
    pub fn kill(&mut self, i: usize) {
        if let Some(mut process) = self.nodes[i].process.take() {
            process.kill();
        }
    }

    /// SIGSTOP: the process stays and does nothing, its connections stay open.
    pub fn stop(&self, i: usize) {
        if let Some(process) = &self.nodes[i].process {
            process.signal(libc::SIGSTOP);
        }
    }

    /// SIGCONT: goes on after [`Cluster::stop`].
    pub fn cont(&self, i: usize) {
        if let Some(process) = &self.nodes[i].process {
            process.signal(libc::SIGCONT);
        }
    }

    /// SIGTERM, and waits for a clean end.
    pub async fn terminate(&mut self, i: usize) -> anyhow::Result<()> {
        let Some(mut process) = self.nodes[i].process.take() else {
            return Ok(());
        };
        process.signal(libc::SIGTERM);
        let status = process.wait(PATIENCE).await?;
        ensure!(
            status.success(),
            "node {i} ended with {status}:\n{}",
            process.tail()
        );
        Ok(())
    }

    /// Starts a node that was killed or terminated, on its old data, and waits until it serves.
    pub async fn restart(&mut self, i: usize) -> anyhow::Result<()> {
        self.kill(i);
        self.launch(i, &[]).await
    }

    /// Waits until every shard has a leader and all its replicas, on all nodes that run.
    pub async fn wait_healthy(&self, patience: Duration) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let mut problems = Vec::new();
            for node in self.nodes.iter().filter(|node| node.process.is_some()) {
                let target = Target::Addr(node.addr.clone());
                let client = self.client.with_deadline(Duration::from_secs(5));
                match client.status(&target).await {
                    Ok(status) if status.healthy => {}
                    Ok(status) => problems.push(format!("{}: {:?}", node.addr, status.problems)),
                    Err(error) => problems.push(format!("{}: {error}", node.addr)),
                }
            }
            if problems.is_empty() {
                return Ok(());
            }
            if begin.elapsed() > patience {
                bail!("not healthy after {patience:?}: {}", problems.join("; "));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The shard that holds an account, and which node leads it.
    pub async fn leader_of(&self, account: &str) -> anyhow::Result<(u32, usize)> {
        let slot = Slot::of(&AccountName::new(account)?).0 as u32;
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let shards = self.client.shards(&Target::Any, false).await?;
            let shard = shards
                .iter()
                .find(|s| s.slots.iter().any(|r| r.first <= slot && slot <= r.last))
                .with_context(|| format!("no shard holds slot {slot}"))?;
            if let Some(place) = self.place_of(shard.leader_node) {
                return Ok((shard.shard, place));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the shard of {account} has no leader")
    }

    /// Makes node `i` the leader of a shard, as long as nobody asks otherwise.
    pub async fn lead(&self, shard: u32, i: usize) -> anyhow::Result<()> {
        let begin = Instant::now();
        let mut last = String::new();
        while begin.elapsed() < PATIENCE {
            let shards = self.client.shards(&Target::Any, false).await?;
            let leader = shards.iter().find(|s| s.shard == shard);
            if leader.is_some_and(|s| s.leader_node == self.id(i)) {
                return Ok(());
            }
            if let Err(error) = self.client.transfer_leader(shard, self.id(i)).await {
                last = error.to_string();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("node {i} does not get to lead shard {shard}: {last}")
    }

    /// Waits until all replicas of each shard hold the same rows at the same applied index, and
    /// gives the number of replicas. Rows that differ at one index are an error at once.
    pub async fn wait_same_state(&self, patience: Duration) -> anyhow::Result<usize> {
        let begin = Instant::now();
        loop {
            let shards = self.client.shards(&Target::Any, false).await?;
            let mut replicas = 0;
            let mut apart = Vec::new();
            for shard in &shards {
                let mut seen = Vec::new();
                for replica in &shard.replicas {
                    let place = self.place_of(replica.node_id);
                    let place = place.with_context(|| format!("node {}", replica.node_id))?;
                    let target = Target::Addr(self.addr(place).to_owned());
                    match self.client.hash_state(&target, shard.shard).await {
                        Ok(state) => seen.push((place, state)),
                        Err(error) => apart.push(format!("node {place}: {error}")),
                    }
                }
                replicas += seen.len();
                for ((a, one), (b, other)) in seen.iter().zip(seen.iter().skip(1)) {
                    let same = one.hash == other.hash;
                    ensure!(
                        same || one.applied != other.applied,
                        "shard {} differs at index {} on nodes {a} and {b}",
                        shard.shard,
                        one.applied
                    );
                    if one.applied != other.applied {
                        apart.push(format!(
                            "shard {}: node {a} has applied {}, node {b} {}",
                            shard.shard, one.applied, other.applied
                        ));
                    }
                }
            }
            if apart.is_empty() && replicas > 0 {
                return Ok(replicas);
            }
            ensure!(
                begin.elapsed() < patience,
                "not the same state after {patience:?}: {}",
                apart.join("; ")
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Creates accounts.
    pub async fn create_accounts(&self, accounts: &[&str]) -> anyhow::Result<()> {
        for account in accounts {
            self.client
                .create_account(&AccountName::new(account)?, None)
                .await?;
        }
        Ok(())
    }

    /// The octets of all messages in an account's INBOX, by uid.
    pub async fn inbox(&self, account: &str) -> anyhow::Result<Vec<Bytes>> {
        let (account, inbox) = (AccountName::new(account)?, MailboxName::inbox());
        let mut uids = Vec::new();
        let mut first = 1;
        while first != 0 {
            let options = ListOptions {
                first,
                ..ListOptions::default()
            };
            let page = self.client.list_page(&account, &inbox, options).await?;
            uids.extend(page.messages.iter().map(|m| m.uid));
            first = page.next_uid;
        }
        let mut messages = Vec::new();
        for uid in uids {
            let fetched = self.client.fetch(&account, &inbox, uid).await?;
            let pieces: Vec<Bytes> = fetched.octets.try_collect().await?;
            messages.push(pieces.concat().into());
        }
        Ok(messages)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A stopped process must go on to be ended by its parent in good order.
        for i in 0..self.nodes.len() {
            self.cont(i);
        }
    }
}

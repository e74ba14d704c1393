//! The three-node cluster that is measured: real processes, each with its own directory, all on
//! this machine. Every message is on three disks' worth of journals before it is acknowledged.

use anyhow::Context;
use posthouse_client::ids::AccountName;
use posthouse_tests::cluster::Cluster;

use crate::side::{PASSWORD, Side, Through, user};

/// A cluster with accounts that can log in.
pub struct Posthouse {
    cluster: Cluster,
    through: Through,
}

impl Posthouse {
    /// Starts three nodes and creates the accounts.
    pub async fn start(accounts: usize, through: Through) -> anyhow::Result<Posthouse> {
        let cluster = Cluster::start_with(3, &["--imap", "127.0.0.1:0"]).await?;
        let client = cluster.client();
        for i in 0..accounts {
            let account = AccountName::new(&user(i))?;
            client.create_account(&account, None).await?;
            client.set_password(&account, PASSWORD, None).await?;
        }
        Ok(Posthouse { cluster, through })
    }

    /// How it is measured: the doors of all nodes, beginning with the one that sessions of the
    /// first account go through.
    pub async fn side(&mut self) -> anyhow::Result<Side> {
        let (_, leader) = self.cluster.leader_of(&user(0)).await?;
        let size = self.cluster.size();
        let first = match self.through {
            Through::Leader => leader,
            Through::Other => (leader + 1) % size,
        };
        let (mut imap, mut lmtp, mut pids) = (Vec::new(), Vec::new(), Vec::new());
        for place in (0..size).map(|i| (first + i) % size) {
            let ready = self.cluster.dir().join(format!("node{place}.out"));
            let ready = std::fs::read_to_string(ready)?;
            let addr = ready
                .split_whitespace()
                .find_map(|w| w.strip_prefix("imap="));
            imap.push(addr.context("the node has no IMAP door")?.to_owned());
            lmtp.push(self.cluster.lmtp(place).to_owned());
            let process = self
                .cluster
                .process(place)
                .context("the node is not there")?;
            pids.push(process.pid());
        }
        Ok(Side {
            name: "Posthouse".to_owned(),
            imap,
            lmtp,
            pids,
            dir: self.cluster.dir().to_owned(),
        })
    }
}

//! What a workload costs each node: its own counters, and its process' where that runs here.

use std::time::Duration;

use posthouse_client::{Client, Error, Target};
use serde::Serialize;

use super::process::{self, Usage};
use crate::exit::{Failure, usage as wrong_usage};

/// Which processes are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pids {
    /// Those that are called posthoused.
    Auto,
    /// These.
    These(Vec<u32>),
    /// None.
    None,
}

impl std::str::FromStr for Pids {
    type Err = String;

    fn from_str(text: &str) -> Result<Pids, String> {
        match text {
            "auto" => Ok(Pids::Auto),
            "none" => Ok(Pids::None),
            list => {
                let pids: Result<Vec<u32>, _> = list.split(',').map(str::parse).collect();
                let pids = pids.map_err(|_| format!("{list:?} is not auto, none or 123,456"))?;
                Ok(Pids::These(pids))
            }
        }
    }
}

/// The nodes of the cluster, each with its process where it is known.
pub struct Watched {
    nodes: Vec<(u64, Option<u32>)>,
    /// Replicas that each message has, divided by the number of nodes.
    share: f64,
}

impl Watched {
    /// Finds the nodes and their processes.
    pub async fn find(client: &Client, pids: &Pids) -> Result<Watched, Failure> {
        let placement = client.placement_of(&Target::Any).await?;
        let candidates = match pids {
            Pids::Auto => process::named("posthoused"),
            Pids::These(pids) => pids.clone(),
            Pids::None => Vec::new(),
        };
        let pid_of = |addr: &str| {
            let port = addr.rsplit_once(':')?.1.parse().ok()?;
            process::listener(port, &candidates)
        };
        let nodes: Vec<_> = placement
            .nodes
            .iter()
            .map(|n| (n.node_id, pid_of(&n.addr)))
            .collect();
        if let Pids::These(pids) = pids {
            let found = |pid| nodes.iter().any(|(_, p)| *p == Some(pid));
            if let Some(pid) = pids.iter().find(|p| !found(**p)) {
                return Err(wrong_usage(format!(
                    "process {pid} is no node of this cluster"
                )));
            }
        }
        let data = placement.shards.iter().filter(|s| s.shard != 0);
        let replicas: usize = data.clone().map(|s| s.nodes.len()).sum();
        let shards = data.count().max(1);
        let share = replicas as f64 / shards as f64 / nodes.len().max(1) as f64;
        Ok(Watched { nodes, share })
    }

    /// Reads all counters, after each node has made its index durable: a workload pays for its own
    /// rows, and not for those of the one before.
    pub async fn read(&self, client: &Client) -> Vec<Counters> {
        let mut all = Vec::new();
        for (node_id, pid) in &self.nodes {
            // A node that cannot is a node whose counters cannot be read either, which shows.
            let _ = client.flush(&Target::Node(*node_id)).await;
            let process = pid.and_then(process::usage);
            let status = client.status(&Target::Node(*node_id)).await;
            all.push(Counters {
                node_id: *node_id,
                journal: status.map(|s| s.journal.unwrap_or_default()),
                process,
            });
        }
        all
    }

    /// What lies between two readings, for `octets` of mail in `took`.
    pub fn costs(
        &self,
        before: &[Counters],
        after: &[Counters],
        octets: u64,
        took: Duration,
    ) -> Vec<Cost> {
        // A node that holds two of three replicas gets two thirds of the octets.
        let own = octets as f64 * self.share;
        let both = before.iter().zip(after);
        both.map(|(b, a)| cost(b, a, own, took)).collect()
    }
}

/// One node's counters at one moment.
pub struct Counters {
    node_id: u64,
    journal: Result<posthouse_client::proto::JournalStats, Error>,
    process: Option<Usage>,
}

/// What a workload has cost one node. Absent where it is not known.
#[derive(Debug, Serialize)]
pub struct Cost {
    pub node_id: u64,
    /// Octets written to the journal per octet of mail that the node holds.
    pub journal_bytes_per_byte: Option<f64>,
    /// Octets written by the index per octet of mail.
    pub index_bytes_per_byte: Option<f64>,
    /// Octets that the kernel has written for the process per octet of mail.
    pub disk_bytes_per_byte: Option<f64>,
    pub syncs_per_second: Option<f64>,
    /// Processor seconds per 10^9 octets of mail that the node holds.
    pub cpu_seconds_per_gb: Option<f64>,
    /// Resident memory at the end.
    pub rss_bytes: Option<u64>,
}

fn cost(before: &Counters, after: &Counters, own: f64, took: Duration) -> Cost {
    let journal = match (&before.journal, &after.journal) {
        // Counters that went back belong to a process that was started anew.
        (Ok(b), Ok(a)) if a.bytes_written >= b.bytes_written => Some((b, a)),
        _ => None,
    };
    let process = before.process.zip(after.process);
    let per_octet = |n: f64| (own > 0.0).then(|| n / own);
    let diff = |a: u64, b: u64| a.saturating_sub(b) as f64;
    Cost {
        node_id: after.node_id,
        journal_bytes_per_byte: journal
            .and_then(|(b, a)| per_octet(diff(a.bytes_written, b.bytes_written))),
        index_bytes_per_byte: journal
            .and_then(|(b, a)| per_octet(diff(a.index_bytes_written, b.index_bytes_written))),
        disk_bytes_per_byte: process
            .and_then(|(b, a)| per_octet(diff(a.write_bytes, b.write_bytes))),
        syncs_per_second: journal.map(|(b, a)| diff(a.syncs, b.syncs) / took.as_secs_f64()),
        cpu_seconds_per_gb: process
            .and_then(|(b, a)| per_octet((a.cpu_seconds - b.cpu_seconds) * 1e9)),
        rss_bytes: after.process.map(|p| p.rss_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthouse_client::proto::JournalStats;

    fn counters(bytes_written: u64, syncs: u64, process: Option<Usage>) -> Counters {
        Counters {
            node_id: 1,
            journal: Ok(JournalStats {
                bytes_written,
                syncs,
                ..JournalStats::default()
            }),
            process,
        }
    }

    #[test]
    fn costs_are_per_octet_that_the_node_holds() {
        let usage = |write_bytes, cpu_seconds| Usage {
            write_bytes,
            cpu_seconds,
            rss_bytes: 5,
        };
        let watched = Watched {
            nodes: Vec::new(),
            share: 0.5,
        };
        let before = [counters(100, 10, Some(usage(0, 1.0)))];
        let after = [counters(1150, 30, Some(usage(1200, 3.0)))];
        let took = Duration::from_secs(2);
        let cost = &watched.costs(&before, &after, 2000, took)[0];
        assert_eq!(cost.journal_bytes_per_byte, Some(1.05));
        assert_eq!(cost.disk_bytes_per_byte, Some(1.2));
        assert_eq!(cost.syncs_per_second, Some(10.0));
        assert_eq!(cost.cpu_seconds_per_gb, Some(2e6));
        let restarted = &watched.costs(&after, &before, 2000, took)[0];
        assert_eq!(restarted.journal_bytes_per_byte, None);
        let nothing = &watched.costs(&before, &after, 0, took)[0];
        assert_eq!(nothing.journal_bytes_per_byte, None);
    }

    #[test]
    fn pids_are_named_or_found() {
        assert_eq!("auto".parse(), Ok(Pids::Auto));
        assert_eq!("1,2".parse(), Ok(Pids::These(vec![1, 2])));
        assert!("1,x".parse::<Pids>().is_err());
    }
}

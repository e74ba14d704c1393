//! Settings of a node: defaults that just work, a TOML file, and the command line over both.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::raft::groups::RaftSettings;

/// Everything that a node can be told.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where data lives.
    pub data: PathBuf,
    /// `host:port` of gRPC.
    pub listen: String,
    /// What other nodes and clients are told to connect to; empty: the listening address.
    pub advertise: String,
    /// `host:port` of the LMTP door; empty: no door in this process.
    pub lmtp: String,
    /// Failure domain.
    pub zone: String,
    /// A member of the cluster to join; empty: form a cluster of one.
    pub join: String,
    /// The one-use token for that.
    #[serde(skip)]
    pub join_token: String,
    /// Do not form a cluster by itself: wait for `posthouse cluster init`.
    pub wait_for_init: bool,
    /// Data shards of a new cluster.
    pub shards: u32,
    /// Replicas that a shard should have.
    pub replication: u32,
    /// Compress stored mail (zstd).
    pub compress: bool,
    /// Largest message, octets.
    pub max_message_bytes: u64,
    /// Size of a journal segment, octets.
    pub segment_bytes: u64,
    /// The index is flushed after so many octets of journal ...
    pub flush_bytes: u64,
    /// ... or after so long, ms.
    pub flush_ms: u64,
    /// Log entries kept for followers that lag, for each shard.
    pub keep_entries: u64,
    /// No new mail below so many free octets of disk; 0: derived from the segment size and the
    /// size of the disk.
    pub disk_reserve_bytes: u64,
    /// Timing of elections, ms.
    pub heartbeat_ms: u64,
    /// Shortest and longest time without a heartbeat until a follower stands for election, ms.
    pub election_ms: (u64, u64),
    /// A repeated LMTP delivery of the same octets is one message.
    pub lmtp_dedupe: bool,
}

impl Default for Config {
    fn default() -> Self {
        let raft = RaftSettings::default();
        Config {
            data: PathBuf::from("posthouse-data"),
            listen: "127.0.0.1:6600".into(),
            advertise: String::new(),
            lmtp: String::new(),
            zone: "default".into(),
            join: String::new(),
            join_token: String::new(),
            wait_for_init: false,
            shards: 8,
            replication: 3,
            compress: true,
            max_message_bytes: 150 << 20,
            segment_bytes: 256 << 20,
            flush_bytes: 128 << 20,
            flush_ms: 30_000,
            keep_entries: 4096,
            disk_reserve_bytes: 0,
            heartbeat_ms: raft.heartbeat_ms,
            election_ms: raft.election_ms,
            lmtp_dedupe: true,
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings in {path}: {cause}; check the path and its permissions")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        cause: String,
    },
    /// The file is not what it should be.
    #[error("the settings in {path} are not usable: {cause}")]
    Invalid {
        /// Which file.
        path: String,
        /// What is wrong, with line and column.
        cause: String,
    },
    /// A value that cannot work.
    #[error("the setting `{name}` cannot be {value}: {why}")]
    Value {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        why: &'static str,
    },
}

impl Config {
    /// Settings from TOML text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        toml::from_str(text).map_err(|e| ConfigError::Invalid {
            path: path.display().to_string(),
            cause: e.to_string(),
        })
    }

    /// Checks every value.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |name, value: String, why| Err(ConfigError::Value { name, value, why });
        if !(1..=4096).contains(&self.shards) {
            return refuse("shards", self.shards.to_string(), "1 to 4096");
        }
        if !(1..=9).contains(&self.replication) {
            return refuse("replication", self.replication.to_string(), "1 to 9");
        }
        if !(1 << 20..=1 << 31).contains(&self.segment_bytes) {
            return refuse(
                "segment_bytes",
                self.segment_bytes.to_string(),
                "1 MiB to 2 GiB",
            );
        }
        if self.max_message_bytes > 1 << 31 {
            return refuse(
                "max_message_bytes",
                self.max_message_bytes.to_string(),
                "at most 2 GiB",
            );
        }
        let (min, max) = self.election_ms;
        if self.heartbeat_ms == 0 || self.heartbeat_ms * 2 >= min || min >= max {
            let value = format!(
                "{min}..{max} ms with heartbeats every {} ms",
                self.heartbeat_ms
            );
            return refuse(
                "election_ms",
                value,
                "more than two heartbeats, and a range",
            );
        }
        for (name, addr) in [
            ("listen", &self.listen),
            ("lmtp", &self.lmtp),
            ("join", &self.join),
        ] {
            let is_addr = |a: &str| {
                a.rsplit_once(':')
                    .is_some_and(|(_, p)| p.parse::<u16>().is_ok())
            };
            if !addr.is_empty() && !is_addr(addr) {
                return refuse(name, addr.clone(), "an address is host:port");
            }
        }
        Ok(())
    }
}

//! Settings of a node: defaults that just work, a TOML file, and the command line over both.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::mailbox::limits::{Limits, PasswordCost};
use crate::raft::groups::RaftSettings;
use crate::workers::compaction::CompactionSettings;

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
    /// `host:port` of the IMAP door, in the clear with STARTTLS; empty: none.
    pub imap: String,
    /// `host:port` of the IMAP door with TLS from the first octet; empty: none.
    pub imaps: String,
    /// `host:port` of the POP3 door, in the clear with STLS; empty: none.
    pub pop3: String,
    /// `host:port` of the POP3 door with TLS from the first octet; empty: none.
    pub pop3s: String,
    /// Certificate chain of the doors, PEM. Without one, a self-signed certificate is made in the
    /// data directory.
    pub tls_certificate: PathBuf,
    /// The key of that certificate, PEM.
    pub tls_key: PathBuf,
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
    /// Size of a journal segment, octets. A record that is larger gets a segment of its own.
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
    /// How often a leader makes itself heard, ms. An answer that takes longer than three quarters of
    /// it counts for nothing, and a leader without answers serves neither reads nor, after a while,
    /// writes: so it is longer than a round trip between any two nodes and a sync of the disk, with
    /// as much to spare.
    pub heartbeat_ms: u64,
    /// Shortest and longest time without a heartbeat until a follower stands for election, ms.
    pub election_ms: (u64, u64),
    /// Octets of proposals under way in one shard; a larger one goes alone.
    pub raft_window_bytes: u64,
    /// A proposal or a read that a shard has not answered after so long is called unknown, ms.
    pub answer_ms: u64,
    /// Octets of append requests under way to one replica; a larger one goes alone.
    pub replicate_window_bytes: u64,
    /// Octets of the newest log entries kept in memory, for each shard.
    pub entry_cache_bytes: u64,
    /// Octets of rows of mailboxes that were read lately and stay in memory.
    pub row_cache_bytes: u64,
    /// Everything stored is verified this often, ms ...
    pub scrub_every_ms: u64,
    /// ... reading so many octets a second at most.
    pub scrub_bytes_per_s: u64,
    /// How often compaction looks for segments that are worth emptying, ms.
    pub compaction_every_ms: u64,
    /// Up to which share of live octets a segment is, percent; 60 at least while less than a fifth
    /// of the disk is free.
    pub compaction_live_percent: u64,
    /// Octets that compaction copies a second at most.
    pub compaction_bytes_per_s: u64,
    /// Places of stored octets that compaction changes in one turn at most.
    pub compaction_rows: u64,
    /// A repeated LMTP delivery of the same octets is one message.
    pub lmtp_dedupe: bool,
    /// What a password's hash costs (Argon2id): memory, KiB ...
    pub password_memory_kib: u32,
    /// ... passes over it ...
    pub password_passes: u32,
    /// ... and lanes.
    pub password_lanes: u32,
    /// How long the LMTP door waits for the store before it tells a client to try again, ms; a
    /// second more for each MiB of the message.
    pub lmtp_deadline_ms: u64,
    /// How long a long fetch reads from one view of the index, ms: a view keeps the index from
    /// dropping what was removed since.
    pub view_age_ms: u64,
    /// A watcher that missed more changes of an account than these is told to read it anew.
    pub watch_changes: u64,
}

impl Default for Config {
    fn default() -> Self {
        let raft = RaftSettings::default();
        let compaction = CompactionSettings::default();
        let password = PasswordCost::default();
        let limits = Limits::default();
        Config {
            data: PathBuf::from("posthouse-data"),
            listen: "127.0.0.1:6600".into(),
            advertise: String::new(),
            lmtp: String::new(),
            imap: String::new(),
            imaps: String::new(),
            pop3: String::new(),
            pop3s: String::new(),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
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
            raft_window_bytes: raft.window_bytes as u64,
            answer_ms: raft.answer_ms,
            replicate_window_bytes: raft.replicate_bytes as u64,
            entry_cache_bytes: raft.cache_bytes as u64,
            row_cache_bytes: limits.row_cache_bytes as u64,
            scrub_every_ms: 7 * 24 * 3600 * 1000,
            scrub_bytes_per_s: 16 << 20,
            compaction_every_ms: 5000,
            compaction_live_percent: compaction.live_percent,
            compaction_bytes_per_s: compaction.bytes_per_s,
            compaction_rows: compaction.rows as u64,
            lmtp_dedupe: true,
            password_memory_kib: password.memory_kib,
            password_passes: password.passes,
            password_lanes: password.lanes,
            lmtp_deadline_ms: 30_000,
            view_age_ms: limits.view_age.as_millis() as u64,
            watch_changes: limits.watch_changes,
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
        let (gib, year_ms) = (1 << 30, 366 * 24 * 3600 * 1000);
        let minute_ms = 60_000;
        for (name, value, range, why) in [
            (
                "segment_bytes",
                self.segment_bytes,
                64 << 10..=2 * gib,
                "64 KiB to 2 GiB",
            ),
            (
                "max_message_bytes",
                self.max_message_bytes,
                0..=2 * gib,
                "at most 2 GiB",
            ),
            (
                "raft_window_bytes",
                self.raft_window_bytes,
                1 << 10..=gib,
                "1 KiB to 1 GiB",
            ),
            (
                "answer_ms",
                self.answer_ms,
                500..=10 * minute_ms,
                "half a second to ten minutes",
            ),
            (
                "lmtp_deadline_ms",
                self.lmtp_deadline_ms,
                500..=minute_ms,
                "half a second to a minute: the door gives up after that in any case",
            ),
            (
                "view_age_ms",
                self.view_age_ms,
                0..=10 * minute_ms,
                "at most ten minutes",
            ),
            (
                "watch_changes",
                self.watch_changes,
                1..=100_000,
                "1 to 100000",
            ),
            (
                "replicate_window_bytes",
                self.replicate_window_bytes,
                1 << 10..=gib,
                "1 KiB to 1 GiB",
            ),
            (
                "entry_cache_bytes",
                self.entry_cache_bytes,
                0..=gib,
                "at most 1 GiB",
            ),
            (
                "row_cache_bytes",
                self.row_cache_bytes,
                0..=gib,
                "at most 1 GiB",
            ),
            (
                "scrub_every_ms",
                self.scrub_every_ms,
                1000..=year_ms,
                "a second to a year",
            ),
            (
                "scrub_bytes_per_s",
                self.scrub_bytes_per_s,
                64 << 10..=u64::MAX,
                "at least 64 KiB",
            ),
            (
                "compaction_every_ms",
                self.compaction_every_ms,
                10..=year_ms,
                "10 ms to a year",
            ),
            (
                "compaction_live_percent",
                self.compaction_live_percent,
                0..=95,
                "at most 95: what is nearly full of live mail is not worth copying",
            ),
            (
                "compaction_bytes_per_s",
                self.compaction_bytes_per_s,
                64 << 10..=u64::MAX,
                "at least 64 KiB",
            ),
            (
                "compaction_rows",
                self.compaction_rows,
                16..=1_000_000,
                "16 to a million",
            ),
            (
                "password_memory_kib",
                u64::from(self.password_memory_kib),
                8 * u64::from(self.password_lanes)..=1 << 20,
                "8 for each lane, to a GiB",
            ),
            (
                "password_passes",
                u64::from(self.password_passes),
                1..=100,
                "1 to 100",
            ),
            (
                "password_lanes",
                u64::from(self.password_lanes),
                1..=16,
                "1 to 16",
            ),
        ] {
            if !range.contains(&value) {
                return refuse(name, value.to_string(), why);
            }
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
        let given = |path: &Path| !path.as_os_str().is_empty();
        if given(&self.tls_certificate) != given(&self.tls_key) {
            let value = self.tls_key.display().to_string();
            let why = "tls_certificate and tls_key are given together or not at all";
            return refuse("tls_key", value, why);
        }
        for (name, addr) in [
            ("listen", &self.listen),
            ("lmtp", &self.lmtp),
            ("imap", &self.imap),
            ("imaps", &self.imaps),
            ("pop3", &self.pop3),
            ("pop3s", &self.pop3s),
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

impl Config {
    /// The part that the Raft groups take.
    pub fn raft(&self) -> RaftSettings {
        RaftSettings {
            heartbeat_ms: self.heartbeat_ms,
            election_ms: self.election_ms,
            window_bytes: self.raft_window_bytes as usize,
            answer_ms: self.answer_ms,
            replicate_bytes: self.replicate_window_bytes as usize,
            cache_bytes: self.entry_cache_bytes as usize,
        }
    }

    /// What a new password's hash costs.
    pub fn password_cost(&self) -> PasswordCost {
        PasswordCost {
            memory_kib: self.password_memory_kib,
            passes: self.password_passes,
            lanes: self.password_lanes,
        }
    }

    /// The part that compaction takes.
    pub fn compaction(&self) -> CompactionSettings {
        let default = CompactionSettings::default();
        CompactionSettings {
            bytes_per_s: self.compaction_bytes_per_s,
            live_percent: self.compaction_live_percent,
            live_percent_tight: default.live_percent_tight.max(self.compaction_live_percent),
            rows: self.compaction_rows as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<(), ConfigError> {
        Config::parse(text, Path::new("settings.toml"))?.check()
    }

    #[test]
    fn the_defaults_work_and_are_those_of_the_parts() {
        let config = Config::default();
        config.check().unwrap();
        let (ours, theirs) = (config.raft(), RaftSettings::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        let (ours, theirs) = (config.compaction(), CompactionSettings::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }

    #[test]
    fn what_cannot_work_is_refused_by_its_name() {
        for bad in [
            "segment_bytes = 65535",
            "segment_bytes = 2147483649",
            "raft_window_bytes = 0",
            "answer_ms = 0",
            "lmtp_deadline_ms = 60001",
            "replicate_window_bytes = 4294967296",
            "entry_cache_bytes = 4294967296",
            "row_cache_bytes = 4294967296",
            "scrub_every_ms = 0",
            "scrub_bytes_per_s = 0",
            "compaction_every_ms = 0",
            "compaction_live_percent = 96",
            "compaction_bytes_per_s = 1",
            "compaction_rows = 0",
            "election_ms = [100, 600]",
            "shards = 0",
            "password_memory_kib = 7",
            "password_passes = 0",
            "password_lanes = 0",
            "pop3 = 'localhost'",
            "pop3s = 'localhost:100000'",
            "tls_key = 'key.pem'",
        ] {
            let (name, _) = bad.split_once(' ').unwrap();
            match with(bad) {
                Err(ConfigError::Value { name: refused, .. }) => assert_eq!(refused, name),
                other => panic!("{bad}: {other:?}"),
            }
        }
        let tiny = "segment_bytes = 65536\nraft_window_bytes = 1024\nentry_cache_bytes = 0\n\
                    replicate_window_bytes = 1024\ncompaction_live_percent = 0\n";
        with(tiny).unwrap();
    }
}

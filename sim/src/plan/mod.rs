//! The plan of a run: everything that will happen, as data that can be saved, edited, replayed and
//! shrunk.
//!
//! Times count from the moment at which the cluster is formed and serves. Nodes are numbered from
//! 0 as the plan lists them, accounts and clients from 0. What the plan leaves open (the delay of a
//! packet, which sectors a power failure takes) is drawn from streams named after its place and
//! seeded by [`Plan::seed`], so that a plan with one fault less is still the same world.

mod aimed;
mod bystanders;
mod check;
mod crossing;
pub(crate) mod draw;
mod faults;
pub mod generate;
mod given;
mod lasting;
mod mail;
mod names;
mod op;
mod programs;
mod rush;
mod sessions;
pub mod settings;
mod stay;
mod text;
mod topology;
mod workload;

pub use check::{MESSAGE_BYTES, PlanError};
pub use op::{
    Cut, FlagMode, Given, ImapCarry, ImapStep, LmtpCut, LoginState, MANY_PARTS_BYTES, OpKind,
    SortBy, has_many_parts,
};

use serde::{Deserialize, Serialize};

/// Version of the plan's format.
pub const VERSION: u32 = 1;

/// Everything about one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// Where the streams of the run come from.
    #[serde(
        serialize_with = "text::write_large",
        deserialize_with = "text::read_large"
    )]
    pub seed: u64,
    /// What the run is about, for people.
    #[serde(default)]
    pub title: String,
    /// How gRPC travels.
    pub transport: Transport,
    /// Data shards.
    pub shards: u32,
    /// Replicas that a shard should have.
    pub replication: u32,
    /// Number of accounts that operations name.
    pub accounts: u32,
    /// Number of clients that carry them out.
    pub clients: u32,
    /// Milliseconds of operations and faults; after them everything heals.
    pub duration_ms: u64,
    /// Whether faults that would endanger acknowledged mail beyond what replication promises are
    /// held back.
    pub budget: bool,
    /// The network.
    pub network: Network,
    /// The disks.
    pub disk: Disk,
    /// Settings of the product, the same for all nodes.
    pub settings: Settings,
    /// The nodes at the beginning.
    pub nodes: Vec<NodePlan>,
    /// What clients do.
    #[serde(default)]
    pub ops: Vec<Op>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// How gRPC travels between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// As messages: requests, pieces of bodies, answers. Fast.
    Message,
    /// As HTTP/2 of tonic and hyper over simulated byte streams.
    Http2,
}

/// One node at the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    /// Its failure domain, 0 for the first.
    pub zone: u32,
}

/// The network without faults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Shortest time of a packet between two hosts, ms, at least 1; also the step of the world.
    pub delay_ms: u64,
    /// Up to so much more, ms, drawn for each packet.
    pub jitter_ms: u64,
    /// More of both between zones, ms.
    pub zone_delay_ms: u64,
}

/// The disks without faults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Time of a sync, ms.
    pub sync_ms: u64,
    /// Up to so much more, ms, drawn for each.
    pub sync_jitter_ms: u64,
    /// What is written whole or not at all, octets: 512 or 4096.
    pub sector: u32,
    /// Size of each disk, octets.
    pub bytes: u64,
}

/// Ordinary settings of the product; small values make rare branches common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `heartbeat_ms` of the node.
    pub heartbeat_ms: u64,
    /// `election_ms` of the node.
    pub election_ms: (u64, u64),
    /// `segment_bytes` of the node.
    pub segment_bytes: u64,
    /// `flush_bytes` of the node.
    pub flush_bytes: u64,
    /// `flush_ms` of the node.
    pub flush_ms: u64,
    /// `keep_entries` of the node.
    pub keep_entries: u64,
    /// `compress` of the node.
    pub compress: bool,
    /// `raft_window_bytes` of the node.
    pub raft_window_bytes: u64,
    /// `replicate_window_bytes` of the node.
    pub replicate_window_bytes: u64,
    /// `entry_cache_bytes` of the node.
    pub entry_cache_bytes: u64,
    /// `scrub_every_ms` of the node.
    pub scrub_every_ms: u64,
    /// `compaction_every_ms` of the node.
    pub compaction_every_ms: u64,
    /// `compaction_live_percent` of the node.
    pub compaction_live_percent: u32,
    /// `answer_ms` of the node.
    #[serde(default = "settings::answer_ms")]
    pub answer_ms: u64,
    /// `lmtp_deadline_ms` of the node.
    #[serde(default = "settings::lmtp_deadline_ms")]
    pub lmtp_deadline_ms: u64,
    /// `view_age_ms` of the node.
    #[serde(default = "settings::view_age_ms")]
    pub view_age_ms: u64,
    /// `watch_changes` of the node.
    #[serde(default = "settings::watch_changes")]
    pub watch_changes: u64,
    /// `row_cache_bytes` of the node.
    #[serde(default = "settings::row_cache_bytes")]
    pub row_cache_bytes: u64,
}

/// One operation of one client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// When the client begins it; later, when its last one still runs.
    pub at_ms: u64,
    /// Which client.
    pub client: u32,
    /// On which account.
    pub account: u32,
    /// What.
    #[serde(flatten)]
    pub kind: OpKind,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// When it begins.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// At which point of the node's work a process dies, counted from the fault's time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "point", rename_all = "snake_case")]
pub enum CrashPoint {
    /// At once.
    Now,
    /// Before the n-th poll of one of its tasks.
    Poll {
        /// Which.
        n: u64,
    },
    /// In the middle of the n-th write to its disk.
    Write {
        /// Which.
        n: u64,
    },
    /// Before the n-th sync of its disk has happened.
    Sync {
        /// Which.
        n: u64,
    },
    /// In the middle of the n-th flush of its index.
    Flush {
        /// Which.
        n: u64,
    },
    /// When the n-th packet from it is on its way.
    Send {
        /// Which.
        n: u64,
    },
    /// In the middle of something that takes many steps.
    During {
        /// What.
        job: Job,
        /// At which of its steps.
        n: u64,
    },
}

/// What takes a node many steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// It sends a snapshot: the steps are snapshots.
    Sending,
    /// It receives a snapshot: chunks that it has or fetches, and the end.
    Snapshot,
    /// It moves octets out of nearly empty segments, and frees them.
    Compaction,
}

/// How a node that has just been added dies for the first time, counted from its first start on: at
/// times after the cluster has taken its token, and before it hears who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstLife {
    /// Where.
    #[serde(flatten)]
    pub point: CrashPoint,
    /// Whether its machine loses power.
    pub power: bool,
    /// How long it stays away.
    pub down_ms: u64,
}

/// One end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Who sends.
    From,
    /// Who receives.
    To,
}

/// Which direction of the disk a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskCall {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Syncs.
    Sync,
}

/// Where sectors of files rot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotPlace {
    /// Anywhere.
    #[default]
    Files,
    /// In the seals of segments that are followed by others.
    Seals,
    /// Everywhere in one segment that is followed by others.
    Segment,
    /// In the votes that the newest segment holds.
    Votes,
    /// In entries of sealed segments that no flush of the index has caught up with.
    Unflushed,
    /// In the file that says who the node is. Elsewhere it is spared: a node that cannot start with it
    /// is gone.
    Identity,
}

/// What goes wrong. Durations are in ms; `node` is a number of the plan, modulo the number of nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum FaultKind {
    /// The process dies and comes back.
    Crash {
        /// Whose.
        node: u32,
        /// Where.
        #[serde(flatten)]
        point: CrashPoint,
        /// Whether the machine loses power: what was not synced may be lost, in any order.
        power: bool,
        /// How long it stays away.
        down_ms: u64,
    },
    /// The process dies again and again, also while it starts.
    RestartLoop {
        /// Whose.
        node: u32,
        /// How often.
        times: u32,
        /// Polls of its tasks that each life lasts.
        polls: u64,
        /// Whether each is a power failure.
        power: bool,
    },
    /// All of these lose power at once.
    PowerCut {
        /// Which.
        nodes: Vec<u32>,
        /// How long.
        down_ms: u64,
    },
    /// The process is asked to stop, and started again.
    Stop {
        /// Whose.
        node: u32,
        /// How long it stays away.
        down_ms: u64,
    },
    /// The process stands still (SIGSTOP), its connections stay open.
    Pause {
        /// Whose.
        node: u32,
        /// How long.
        ms: u64,
    },
    /// Hosts of different groups do not reach each other; who is in no group reaches everyone.
    Partition {
        /// The groups.
        groups: Vec<Vec<u32>>,
        /// How long.
        ms: u64,
        /// In which of the groups nodes are that have joined in the run, or join meanwhile.
        #[serde(default)]
        late: Option<u32>,
        /// In which of the groups the clients are.
        #[serde(default)]
        clients: Option<u32>,
    },
    /// What one node sends to another is lost.
    OneWay {
        /// From.
        from: u32,
        /// To.
        to: u32,
        /// How long.
        ms: u64,
        /// At which end the clients stand, too: what they send, or what is sent to them, is lost as well.
        #[serde(default)]
        clients: Option<End>,
    },
    /// Everything from and to a node is held and comes later, one node after the other
    /// (swizzle-clogging).
    Clog {
        /// The nodes in the order in which they are clogged.
        nodes: Vec<u32>,
        /// Between two of them, and, in another order, between their releases.
        each_ms: u64,
    },
    /// A link is slower.
    SlowLink {
        /// From.
        from: u32,
        /// To.
        to: u32,
        /// By so much, ms for each packet.
        by_ms: u64,
        /// How long.
        ms: u64,
    },
    /// Connections between all hosts are reset at random.
    Resets {
        /// Of a thousand packets.
        per_mille: u32,
        /// How long.
        ms: u64,
    },
    /// Messages that may legally come twice or in another order do so (message transport).
    Disorder {
        /// Of a thousand messages.
        per_mille: u32,
        /// How long.
        ms: u64,
    },
    /// Connections of a node are cut on its side alone: the other side hears nothing of it.
    HalfOpen {
        /// Whose.
        node: u32,
    },
    /// Nothing on the disk moves.
    DiskStall {
        /// Whose.
        node: u32,
        /// How long.
        ms: u64,
    },
    /// Everything on the disk takes longer.
    DiskSlow {
        /// Whose.
        node: u32,
        /// So many times.
        times: u32,
        /// How long.
        ms: u64,
        /// Each read takes so much longer, ms: the drive tries it again and again.
        #[serde(default)]
        reads_ms: u64,
    },
    /// The next calls of a kind fail with EIO.
    DiskError {
        /// Whose.
        node: u32,
        /// Which calls.
        call: DiskCall,
        /// How many.
        count: u32,
        /// Of the index instead of the files; what syncs there is a flush.
        #[serde(default)]
        index: bool,
    },
    /// The disk has no space left, or little.
    DiskFull {
        /// Whose.
        node: u32,
        /// How long.
        ms: u64,
        /// Octets that are left.
        #[serde(default)]
        left: u64,
    },
    /// Sectors of files at rest change.
    Rot {
        /// Whose.
        node: u32,
        /// How many sectors.
        sectors: u32,
        /// Of the index instead of the files.
        index: bool,
        /// Where in the files.
        #[serde(default)]
        place: RotPlace,
    },
    /// The next write goes to another place of the file.
    Misdirect {
        /// Whose.
        node: u32,
    },
    /// The process dies and its disk is gone; the operator adds a new node in its place.
    DiskLost {
        /// Whose.
        node: u32,
        /// How long until the new one joins.
        down_ms: u64,
        /// How the new one dies at first, if it does.
        #[serde(default)]
        first_life: Option<FirstLife>,
    },
    /// The process dies and the operator wipes its data directory, or all but the identity, and
    /// starts it as if nothing had happened.
    Wiped {
        /// Whose.
        node: u32,
        /// Whether the identity file is spared.
        keep_identity: bool,
        /// How long it stays away.
        down_ms: u64,
    },
    /// The process dies and its directory is as it was a while ago.
    OldImage {
        /// Whose.
        node: u32,
        /// How old.
        age_ms: u64,
        /// How long it stays away.
        down_ms: u64,
        /// How long it is cut off from all other nodes once it is back: nobody can remind its start
        /// of what it has forgotten.
        #[serde(default)]
        alone_ms: u64,
    },
    /// A copy of the node's directory is started at another address.
    Copied {
        /// Whose.
        node: u32,
    },
    /// A node of another cluster is started at the address of this one for a while, with its door
    /// elsewhere.
    WrongCluster {
        /// Whose.
        node: u32,
        /// How long.
        ms: u64,
    },
    /// The wall clock jumps.
    ClockJump {
        /// Whose.
        node: u32,
        /// By so much, ms.
        by_ms: i64,
    },
    /// Time passes faster or slower.
    ClockDrift {
        /// Whose.
        node: u32,
        /// Parts per million.
        ppm: i32,
        /// How long.
        ms: u64,
    },
    /// The wall clock stands still.
    ClockFreeze {
        /// Whose.
        node: u32,
        /// How long.
        ms: u64,
    },
    /// The operator adds a node.
    AddNode {
        /// In this zone.
        zone: u32,
        /// How it dies at first, if it does.
        #[serde(default)]
        first_life: Option<FirstLife>,
    },
    /// The operator moves the leadership of every shard away from a node.
    MoveLeaders {
        /// From.
        node: u32,
    },
    /// The operator has a node tell all that it can, make its index durable, and verify its blobs.
    Inspect {
        /// Which.
        node: u32,
    },
}

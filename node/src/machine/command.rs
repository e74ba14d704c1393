//! What a log entry carries: one command, and what applying it answers.
//!
//! Everything that the machine may not find out for itself is inside: the time, ids drawn at
//! random, the parsed summary. Encoded with postcard; the stored octets of a chunk travel beside
//! the encoded head, so that they are never copied into it.

mod transfer;

use serde::{Deserialize, Serialize};

pub use transfer::{Arrival, Arrive, Arriving, BeginTransfer, Place, TransferId};

use crate::types::*;

/// A command for one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The proposing leader's wall clock, ms since the epoch. The machine lets its own time never
    /// go back: the effective time is the highest seen so far.
    pub time_ms: u64,
    /// What to do.
    pub op: Op,
}

/// One atomic step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Creates an account with its INBOX. Idempotent under its request_id.
    CreateAccount {
        /// Retry identity.
        request_id: RequestId,
        /// Its name.
        name: AccountName,
    },
    /// Removes the account's name and marks it as going; later `ReapAccount` steps remove its rows.
    DeleteAccount {
        /// Retry identity.
        request_id: RequestId,
        /// Its name.
        name: AccountName,
    },
    /// Removes up to `limit` rows of an account that is going.
    ReapAccount {
        /// Which.
        account: AccountId,
        /// At most so many messages.
        limit: u32,
    },
    /// Creates a mailbox.
    CreateMailbox {
        /// Retry identity.
        request_id: RequestId,
        /// Owner.
        account: AccountName,
        /// Name; missing parents are created, too.
        mailbox: MailboxName,
        /// Bits of [`special_use`](crate::index::values::special_use).
        special_use: u16,
    },
    /// Takes a mailbox's name and counters away and marks it as going; later `ReapMailbox` steps
    /// remove its rows.
    DeleteMailbox {
        /// Retry identity.
        request_id: RequestId,
        /// Owner.
        account: AccountName,
        /// Which; not INBOX.
        mailbox: MailboxRef,
    },
    /// Removes up to `limit` rows of a mailbox that is going.
    ReapMailbox {
        /// Owner.
        account: AccountId,
        /// Which.
        mailbox: MailboxId,
        /// At most so many messages.
        limit: u32,
    },
    /// Renames a mailbox and all its children.
    RenameMailbox {
        /// Retry identity.
        request_id: RequestId,
        /// Owner.
        account: AccountName,
        /// Which; not INBOX, whose messages are moved instead.
        mailbox: MailboxRef,
        /// The new name; missing parents are created, too.
        to: MailboxName,
    },
    /// Subscribes to a name, or not any more.
    Subscribe {
        /// Retry identity.
        request_id: RequestId,
        /// Owner.
        account: AccountName,
        /// A name, which need not exist.
        mailbox: MailboxName,
        /// Whether.
        on: bool,
    },
    /// Sets the special uses of a mailbox (RFC 6154).
    SetSpecialUse {
        /// Retry identity.
        request_id: RequestId,
        /// Owner.
        account: AccountName,
        /// Which.
        mailbox: MailboxRef,
        /// Bits of [`special_use`](crate::index::values::special_use).
        special_use: u16,
    },
    /// Sets annotations (RFC 5464), all or none.
    SetMetadata {
        /// Retry identity.
        request_id: RequestId,
        /// Owner.
        account: AccountName,
        /// Whose; `None`: the account's own.
        mailbox: Option<MailboxRef>,
        /// Entry in ASCII lower case, and its value or `None` to remove it.
        entries: Vec<(String, Option<Vec<u8>>)>,
    },
    /// Stores one message for each target: deliver and append. The octets of a blob of one chunk
    /// travel with this very entry; those of larger ones came before as `PutChunk`.
    Store(Box<Store>),
    /// Stores several messages in one mailbox, or one in the place of another: all or nothing.
    AppendMany(Box<AppendMany>),
    /// One chunk of a blob that is still arriving; its octets travel with the entry.
    PutChunk {
        /// Which arrival; random.
        upload: UploadId,
        /// From 0.
        seq: u32,
        /// What the octets are.
        chunk: ChunkMeta,
    },
    /// Forgets the chunks of one arrival that broke off.
    DropUpload {
        /// Which arrival.
        upload: UploadId,
    },
    /// Forgets chunks of arrivals that began before a time (their leader died).
    DropUploadsBefore {
        /// Milliseconds since the epoch.
        before_ms: u64,
    },
    /// Adds, removes or replaces flags.
    SetFlags {
        /// Retry identity.
        request_id: RequestId,
        /// Owner.
        account: AccountName,
        /// Where.
        mailbox: MailboxRef,
        /// Which messages; inclusive ranges, ascending; `u32::MAX`: no upper bound.
        uids: Vec<(Uid, Uid)>,
        /// How.
        mode: FlagMode,
        /// System flags ("\Seen", …) and keywords, validated.
        flags: Vec<String>,
        /// Only messages with no higher modseq (RFC 7162, section 3.1.3).
        unchanged_since: Option<ModSeq>,
    },
    /// Removes messages.
    Expunge {
        /// Retry identity.
        request_id: RequestId,
        /// Owner.
        account: AccountName,
        /// Where.
        mailbox: MailboxRef,
        /// Which messages; see `SetFlags`.
        uids: Vec<(Uid, Uid)>,
        /// Also those without \Deleted.
        force: bool,
    },
    /// Shows messages in another mailbox, too.
    Copy(CopyMessages),
    /// Shows messages in another mailbox instead (RFC 6851).
    Move(CopyMessages),
    /// Sets or removes an account's password.
    SetPassword {
        /// Retry identity.
        request_id: RequestId,
        /// Whose.
        account: AccountName,
        /// The hash as a PHC string.
        hash: Option<String>,
    },
    /// Adds the password of one program.
    AddAppPassword {
        /// Retry identity.
        request_id: RequestId,
        /// Whose.
        account: AccountName,
        /// Its name, unique in the account.
        name: String,
        /// BLAKE3 of the password, which is 128 random bits.
        hash: [u8; 32],
    },
    /// Removes the password of one program.
    RemoveAppPassword {
        /// Retry identity.
        request_id: RequestId,
        /// Whose.
        account: AccountName,
        /// Its name.
        name: String,
    },
    /// Lets an account in, freezes or closes it.
    SetAccountState {
        /// Retry identity.
        request_id: RequestId,
        /// Which.
        account: AccountName,
        /// What holds from now on.
        state: AccountState,
    },
    /// A change of the system shard.
    System(SystemOp),
    /// Writes down which messages go to another account.
    BeginTransfer(Box<BeginTransfer>),
    /// Stores messages of another account, or remembers why not.
    Arrive(Box<Arrive>),
    /// Removes originals whose copies have arrived, where they are to go, and answers.
    EndTransfer {
        /// Which.
        transfer: TransferId,
        /// What the target has answered.
        arrival: Arrival,
    },
    /// Forgets what was answered to transfers that are over.
    ForgetArrivals {
        /// The target.
        account: AccountId,
        /// Whose transfers.
        source: AccountId,
        /// Of the source's transfers to this target, all with a lower number are over.
        below: u64,
    },
    /// Forgets transfers that are over and forgotten at their target.
    SettleTransfers {
        /// The source.
        account: AccountId,
        /// To which account.
        target: AccountId,
        /// The target has forgotten all with a lower number.
        below: u64,
    },
}

impl Op {
    /// Octets that must travel with the command. To be checked before it is proposed: a command
    /// with other octets would stop every replica that applies it.
    pub fn stored_len(&self) -> usize {
        match self {
            Op::PutChunk { chunk, .. } => chunk.stored_len as usize,
            Op::Store(store) => store.blob.travelling(),
            // Only one blob can travel with a command: several have all come before.
            Op::AppendMany(append) => match &append.items[..] {
                [item] => item.blob.travelling(),
                _ => 0,
            },
            _ => 0,
        }
    }
}

/// How flags are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlagMode {
    /// Union.
    Add,
    /// Difference.
    Remove,
    /// These and no others.
    Replace,
}

/// Identity of an arrival in chunks. Random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UploadId(pub [u8; 16]);

/// Raw octets per chunk; every chunk of a blob but the last has exactly so many.
pub const CHUNK_BYTES: u32 = 1 << 20;

/// One stored chunk of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkMeta {
    /// Octets before encoding, 0 to [`CHUNK_BYTES`].
    pub raw_len: u32,
    /// Octets as stored.
    pub stored_len: u32,
    /// How they are encoded.
    pub codec: Codec,
    /// CRC-32 (IEEE) of the stored octets.
    pub crc: u32,
}

/// A blob and where its octets come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobMeta {
    /// BLAKE3 of the octets.
    pub id: BlobId,
    /// Octets in all.
    pub size: u64,
    /// Its chunks, in order; at least one (an empty blob has one empty chunk).
    pub chunks: Vec<ChunkMeta>,
    /// `None`: the one chunk's octets travel with this entry; else the arrival they came in.
    pub upload: Option<UploadId>,
}

impl BlobMeta {
    /// Stored octets that travel with the command that names this blob.
    pub fn travelling(&self) -> usize {
        match (&self.upload, &self.chunks[..]) {
            (None, [chunk]) => chunk.stored_len as usize,
            _ => 0,
        }
    }
}

/// Several messages for one mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendMany {
    /// Retry identity.
    pub request_id: RequestId,
    /// Owner.
    pub account: AccountName,
    /// Where.
    pub mailbox: MailboxRef,
    /// At least one. With several, the octets of each have come before as `PutChunk`.
    pub items: Vec<AppendItem>,
    /// A message that the only item takes the place of.
    pub replace: Replaced,
}

/// A message that an item takes the place of (RFC 8508). Mailbox 0 is that of the item.
///
/// The first two are encoded as an `Option`, which this was before there was a condition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Replaced {
    /// None: the items are new.
    #[default]
    Nothing,
    /// The one with this uid in the mailbox.
    At(MailboxId, Uid),
    /// The same, if the mailbox has this uidvalidity.
    If(MailboxId, u32, Uid),
}

impl Replaced {
    /// The mailbox, its uidvalidity (0: any), and the uid.
    pub fn parts(self) -> Option<(MailboxId, u32, Uid)> {
        match self {
            Replaced::Nothing => None,
            Replaced::At(mailbox, uid) => Some((mailbox, 0, uid)),
            Replaced::If(mailbox, uidvalidity, uid) => Some((mailbox, uidvalidity, uid)),
        }
    }
}

/// One of several messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendItem {
    /// Validated flags and keywords.
    pub flags: Vec<String>,
    /// RFC 9051 INTERNALDATE, ms since the epoch.
    pub internal_date_ms: u64,
    /// The octets.
    pub blob: BlobMeta,
    /// See [`Store::summary`].
    pub summary: Vec<u8>,
    /// See [`Store::threads`].
    pub threads: Vec<ThreadKey>,
}

impl AppendItem {
    /// Octets of summary and flags, which
    /// [`APPEND_BYTES`](super::limits::APPEND_BYTES) bounds.
    pub fn weight(&self) -> usize {
        let flags: usize = self.flags.iter().map(String::len).sum();
        self.summary.len() + flags
    }
}

/// Messages that are copied or moved inside an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyMessages {
    /// Retry identity.
    pub request_id: RequestId,
    /// Owner.
    pub account: AccountName,
    /// Where they are.
    pub from: MailboxRef,
    /// Which; see `SetFlags`.
    pub uids: Vec<(Uid, Uid)>,
    /// Where they come.
    pub to: MailboxRef,
}

/// One message for several targets of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Who gets it, at least one.
    pub targets: Vec<Target>,
    /// RFC 9051 INTERNALDATE, ms since the epoch.
    pub internal_date_ms: u64,
    /// The octets.
    pub blob: BlobMeta,
    /// What the leader's parser found. Postcard of `mailbox::summary::Summary`; opaque here.
    pub summary: Vec<u8>,
    /// By what its thread is found, and by what later messages find it: ascending, each once, at
    /// most [`limits::THREAD_KEYS`](super::limits::THREAD_KEYS).
    pub threads: Vec<ThreadKey>,
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Retry identity: one message per request_id and account and mailbox.
    pub request_id: RequestId,
    /// Owner.
    pub account: AccountName,
    /// Where.
    pub mailbox: MailboxRef,
    /// Validated flags and keywords.
    pub flags: Vec<String>,
}

/// A change of the system shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SystemOp {
    /// First command of a cluster: its identity, its first node, its shards with all slots spread
    /// evenly over them.
    Init {
        /// UUID, 16 octets.
        cluster_id: [u8; 16],
        /// The first node.
        node: NodeInfo,
        /// Number of data shards, 1 to 4096.
        shards: u32,
        /// Replicas a shard should have, 1 to 9.
        replication: u32,
    },
    /// Records the hash of a one-use token.
    AddToken {
        /// BLAKE3 of the token.
        hash: [u8; 32],
        /// When it stops working, ms since the epoch, by the clock that `time_ms` was read from:
        /// how long it works is what counts.
        expires_ms: u64,
    },
    /// Spends a token and adds a node under the next node id. Repeating it with the same
    /// `join_id` gives the same answer.
    JoinNode {
        /// BLAKE3 of the token.
        token_hash: [u8; 32],
        /// Random, drawn once by the joining node.
        join_id: [u8; 16],
        /// Address, zone and so on; its `id` is ignored.
        node: NodeInfo,
    },
    /// A node says where it listens now.
    SetNode(NodeInfo),
    /// The replicas that a shard has or is about to get.
    SetReplicas {
        /// Which shard.
        shard: ShardId,
        /// Voters and learners. Generations only grow.
        replicas: Vec<ReplicaInfo>,
    },
    /// A replica reports that it lost acknowledged data and must be rebuilt under a new
    /// generation.
    ReplicaDamaged {
        /// Which shard.
        shard: ShardId,
        /// Which replica.
        replica: ReplicaId,
    },
}

/// A node as the system shard knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its number.
    pub id: NodeId,
    /// `host:port` of its gRPC.
    pub addr: String,
    /// `host:port` of its LMTP door, empty for none.
    pub lmtp_addr: String,
    /// Failure domain.
    pub zone: String,
}

/// A replica as the system shard wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaInfo {
    /// Which.
    pub id: ReplicaId,
    /// False while it catches up as a learner.
    pub voter: bool,
}

/// What applying a command answers. Stored under the request_id and given again to a retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done, nothing to say. Also the answer of blank and membership entries.
    Done,
    /// Refused; the state did not change.
    Error(ApplyError),
    /// `CreateAccount`, `DeleteAccount`.
    Account {
        /// Its id.
        account: AccountId,
        /// When it was created.
        created_ms: u64,
    },
    /// `CreateMailbox`, `RenameMailbox`.
    Mailbox {
        /// Its id.
        mailbox: MailboxId,
        /// Its era.
        uidvalidity: u32,
        /// The account's modseq after the change.
        modseq: ModSeq,
    },
    /// `Store`: one result per target, in order.
    Stored(Vec<StoreResult>),
    /// `SetFlags`.
    Flags {
        /// The account's modseq after the change.
        modseq: ModSeq,
        /// Changed uids.
        changed: Vec<(Uid, Uid)>,
        /// Uids that failed the UNCHANGEDSINCE test.
        modified: Vec<(Uid, Uid)>,
    },
    /// `Expunge`.
    Expunged {
        /// The account's modseq after the change.
        modseq: ModSeq,
        /// Removed uids.
        vanished: Vec<(Uid, Uid)>,
    },
    /// `DeleteMailbox`, `Subscribe`, `SetSpecialUse`, `SetMetadata`, credentials and state.
    Changed {
        /// The account's modseq after the change.
        modseq: ModSeq,
    },
    /// `AppendMany`.
    Appended {
        /// Where.
        mailbox: MailboxId,
        /// Its era.
        uidvalidity: u32,
        /// The first message; the others follow without a gap.
        uid: Uid,
        /// Messages.
        count: u32,
        /// The first email; the others follow without a gap.
        email: EmailId,
        /// The account's modseq after the change.
        modseq: ModSeq,
    },
    /// `Copy`, `Move`: the n-th uid of `from` became the n-th uid of `to`.
    Copied {
        /// Era of the mailbox that they came into.
        uidvalidity: u32,
        /// The account's modseq after the change.
        modseq: ModSeq,
        /// Where they were.
        from: Vec<(Uid, Uid)>,
        /// Where they are.
        to: Vec<(Uid, Uid)>,
    },
    /// `ReapAccount`, `ReapMailbox`: whether rows are left.
    Reaped {
        /// False: done.
        more: bool,
    },
    /// `JoinNode`.
    Joined {
        /// The new node's number.
        node: NodeId,
    },
    /// `BeginTransfer`: it is written down, now or before.
    Transferring {
        /// Its number.
        number: u64,
    },
    /// `Arrive`: now or before.
    Arrived(Arrival),
    /// `EndTransfer`, and `BeginTransfer` where nothing is left to do: the n-th uid of `from`
    /// became the n-th uid of `to`.
    Transferred {
        /// Era of the mailbox that they came into.
        uidvalidity: u32,
        /// The source's modseq after the change.
        modseq: ModSeq,
        /// Where they were.
        from: Vec<(Uid, Uid)>,
        /// Where they are.
        to: Vec<(Uid, Uid)>,
        /// See [`BeginTransfer::next`].
        next: Uid,
    },
}

/// The outcome of one target of a `Store`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreResult {
    /// It is there.
    Stored {
        /// Where.
        mailbox: MailboxId,
        /// Era of the mailbox.
        uidvalidity: u32,
        /// The message.
        uid: Uid,
        /// The account's modseq after the change.
        modseq: ModSeq,
        /// The email.
        email: EmailId,
        /// True when an earlier request with the same identity had stored it.
        duplicate: bool,
    },
    /// It is not.
    Failed(ApplyError),
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ApplyError {
    /// No such account.
    #[error("account not found")]
    NoAccount,
    /// No such mailbox.
    #[error("mailbox not found")]
    NoMailbox,
    /// No such message.
    #[error("message not found")]
    NoMessage,
    /// No such application password.
    #[error("application password not found")]
    NoAppPassword,
    /// The name is taken.
    #[error("already exists")]
    Exists,
    /// Chunks of the arrival are missing: it was dropped as too old.
    #[error("the upload was dropped")]
    NoUpload,
    /// A counter cannot grow any more, or the command would be too large.
    #[error("limit reached: {0}")]
    Limit(String),
    /// Unknown, expired or spent token.
    #[error("the join token is unknown, expired or already used")]
    BadToken,
    /// The cluster is formed already, or not yet.
    #[error("{0}")]
    Refused(String),
    /// Messages are on their way to another account, or too many transfers are: later, perhaps.
    #[error("messages of the account are on their way to another one")]
    InTransfer,
}

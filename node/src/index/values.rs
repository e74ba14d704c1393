//! The rows beside the keys of [`super::keys`].
//!
//! Postcard (varints, fields in order, no names), so that a hot row is two or three dozen octets.
//! The order of fields is a disk format.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::keys::{Key, Space};
use super::uids::UidPart;
use super::{IndexError, View};
use crate::machine::command::{
    Arrival, ChunkMeta, NodeInfo, Place, ReplicaInfo, Reply, StoreResult,
};
use crate::types::*;

/// A value that a row can hold.
pub trait Row: Sized {
    /// The octets.
    fn encode(&self) -> Vec<u8>;
    /// The value of the octets; `None` when they are none.
    fn decode(octets: &[u8]) -> Option<Self>;
}

fn to_postcard<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("rows are plain data, which postcard can always encode")
}

fn from_postcard<T: DeserializeOwned>(octets: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(octets) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

macro_rules! postcard_rows {
    ($($row:ty),* $(,)?) => {$(
        impl Row for $row {
            fn encode(&self) -> Vec<u8> { to_postcard(self) }
            fn decode(octets: &[u8]) -> Option<Self> { from_postcard(octets) }
        }
    )*};
}

postcard_rows!(
    MetaRow,
    SlotRow,
    AccountNameRow,
    AccountRow,
    MailboxNameRow,
    MailboxRow,
    KeywordRow,
    KeywordNameRow,
    MessageRow,
    EmailRow,
    ThreadRow,
    AnnotationRow,
    CredentialRow,
    TransfersRow,
    TransferRow,
    ArrivalsRow,
    Arrival,
    BlobRow,
    UploadRow,
    ChunkMeta,
    RequestRow,
    SystemRow,
    NodeInfo,
    ShardRow,
    TokenRow,
    NodeId,
    ChunkLoc,
);

impl Row for UidPart {
    fn encode(&self) -> Vec<u8> {
        UidPart::encode(self)
    }
    fn decode(octets: &[u8]) -> Option<Self> {
        UidPart::decode(octets)
    }
}

/// What was written before destroyed emails were told ends with the uids, and so does what has none.
impl Row for ChangeRow {
    fn encode(&self) -> Vec<u8> {
        let mut octets = to_postcard(&(self.time_ms, self.mailbox, self.kind, &self.uids));
        if !self.destroyed.is_empty() {
            octets.extend(to_postcard(&self.destroyed));
        }
        octets
    }
    fn decode(octets: &[u8]) -> Option<Self> {
        let ((time_ms, mailbox, kind, uids), rest) = postcard::take_from_bytes(octets).ok()?;
        let destroyed = match rest {
            [] => Vec::new(),
            rest => from_postcard(rest).filter(|destroyed: &Vec<_>| !destroyed.is_empty())?,
        };
        Some(ChangeRow {
            time_ms,
            mailbox,
            kind,
            uids,
            destroyed,
        })
    }
}

/// A row without a value.
impl Row for () {
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
    fn decode(octets: &[u8]) -> Option<Self> {
        octets.is_empty().then_some(())
    }
}

/// Node rows that hold a space.
impl Row for Space {
    fn encode(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }
    fn decode(octets: &[u8]) -> Option<Self> {
        Some(Space(u32::from_be_bytes(octets.try_into().ok()?)))
    }
}

/// The counter of [`Change::Add`](super::Change::Add).
impl Row for i64 {
    fn encode(&self) -> Vec<u8> {
        self.to_le_bytes().to_vec()
    }
    fn decode(octets: &[u8]) -> Option<Self> {
        Some(i64::from_le_bytes(octets.try_into().ok()?))
    }
}

/// The value of a row, or that the row is damaged.
pub fn decode<R: Row>(key: &[u8], octets: &[u8]) -> Result<R, IndexError> {
    R::decode(octets).ok_or_else(|| {
        let key: String = key.iter().map(|b| format!("{b:02x}")).collect();
        IndexError::Corrupt(format!(
            "the row of key {key} cannot be read as {} ({} octets)",
            std::any::type_name::<R>(),
            octets.len()
        ))
    })
}

/// Reads one row.
pub fn get<R: Row>(view: &dyn View, space: Space, key: &Key) -> Result<Option<R>, IndexError> {
    let octets = key.encode(space);
    match view.get(key.family(), &octets)? {
        Some(value) => decode(&octets, &value).map(Some),
        None => Ok(None),
    }
}

/// What a shard knows of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRow {
    /// The effective time: the highest time of any command, ms since the epoch.
    pub time_ms: u64,
    /// Remembered requests.
    pub requests: u64,
    /// Octets of remembered requests, keys included.
    pub request_bytes: u64,
    /// No remembered request is older.
    pub oldest_request_ms: u64,
}

/// Counters of a slot; they move with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRow {
    /// The number of the next account, from 1.
    pub next_account: u64,
    /// No mailbox of an account that is gone had this uidvalidity or a higher one.
    pub next_uidvalidity: u32,
}

impl Default for SlotRow {
    fn default() -> Self {
        SlotRow {
            next_account: 1,
            next_uidvalidity: 1,
        }
    }
}

/// Whom a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountNameRow {
    /// The account.
    pub account: AccountId,
}

/// An account. Counters are sums over its mailboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    /// Its name; an account that is going no longer owns it.
    pub name: AccountName,
    /// When it was created, effective time.
    pub created_ms: u64,
    /// True once it is deleted: rows are being removed.
    pub going: bool,
    /// The modseq of the last change.
    pub highest_modseq: ModSeq,
    /// The highest modseq whose change row was trimmed; 0 for none. Changes since a modseq below
    /// this are "too old".
    pub trimmed_modseq: ModSeq,
    /// No kept change row is older, effective time.
    pub oldest_change_ms: u64,
    /// The next mailbox's number, from 1.
    pub next_mailbox: u32,
    /// The next mailbox's uidvalidity is at least this.
    pub next_uidvalidity: u32,
    /// The next email's number, from 1.
    pub next_email: u64,
    /// Mailboxes.
    pub mailboxes: u64,
    /// Messages.
    pub messages: u64,
    /// Messages without \Seen.
    pub unseen: u64,
    /// Messages with \Deleted.
    pub deleted: u64,
    /// Octets of all messages.
    pub bytes: u64,
    /// Who may do what with it.
    pub state: AccountState,
    /// Names that it subscribes to.
    pub subscriptions: u64,
}

/// Which mailbox has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxNameRow {
    /// The mailbox.
    pub mailbox: MailboxId,
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxRow {
    /// Its name.
    pub name: MailboxName,
    /// Its era (RFC 9051, section 2.3.1.1).
    pub uidvalidity: u32,
    /// The next message's uid, from 1.
    pub uidnext: Uid,
    /// The account's modseq at the last change of this mailbox.
    pub highest_modseq: ModSeq,
    /// Messages.
    pub messages: u64,
    /// Messages without \Seen.
    pub unseen: u64,
    /// Messages with \Deleted.
    pub deleted: u64,
    /// Octets of all messages.
    pub bytes: u64,
    /// The next keyword's number, from 0.
    pub next_keyword: u16,
    /// Bits of [`special_use`].
    pub special_use: u16,
}

/// Bits of [`MailboxRow::special_use`].
pub mod special_use {
    /// Names, in the order of the bits (RFC 6154, section 2; RFC 8457, section 3).
    pub const NAMES: [&str; 8] = [
        "\\All",
        "\\Archive",
        "\\Drafts",
        "\\Flagged",
        "\\Junk",
        "\\Sent",
        "\\Trash",
        "\\Important",
    ];
}

/// A keyword of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeywordRow {
    /// As first spelled.
    pub name: String,
}

/// Which number a keyword has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeywordNameRow {
    /// Number in hot rows.
    pub id: u16,
}

/// The hot row of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRow {
    /// System flags: bits of [`flag`].
    pub flags: u8,
    /// Numbers of keywords, ascending.
    pub keywords: Vec<u16>,
    /// The change that it was last touched by.
    pub modseq: ModSeq,
    /// What it shows.
    pub email: EmailId,
    /// Octets.
    pub size: u64,
    /// RFC 9051 INTERNALDATE, ms since the epoch.
    pub internal_date_ms: u64,
    /// When it came into this mailbox (RFC 8514), effective time.
    pub save_date_ms: u64,
}

/// Bits of [`MessageRow::flags`].
pub mod flag {
    /// \Seen
    pub const SEEN: u8 = 1;
    /// \Answered
    pub const ANSWERED: u8 = 2;
    /// \Flagged
    pub const FLAGGED: u8 = 4;
    /// \Deleted
    pub const DELETED: u8 = 8;
    /// \Draft
    pub const DRAFT: u8 = 16;
    /// Names, in the order of the bits.
    pub const NAMES: [&str; 5] = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"];
}

/// One arrival of one blob in an account, shared by its copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailRow {
    /// The octets.
    pub blob: BlobId,
    /// Messages that show it.
    pub refs: u32,
    /// The emails that it belongs to; never changes.
    pub thread: ThreadId,
    /// Its references to [`ThreadRow`]s.
    pub thread_keys: Vec<ThreadKey>,
}

/// Where a thread key leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadRow {
    /// The thread.
    pub thread: ThreadId,
    /// Emails that have the key.
    pub refs: u64,
}

/// An annotation (RFC 5464).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotationRow {
    /// Any octets.
    pub value: Vec<u8>,
}

/// What a password is checked against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRow {
    /// When it was set, effective time.
    pub created_ms: u64,
    /// The account's modseq then: a set password never has the stamp of an earlier one.
    pub modseq: ModSeq,
    /// The hash.
    pub secret: Secret,
}

/// A hashed password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Secret {
    /// Chosen by a person: a PHC string of argon2id.
    Password(String),
    /// Drawn at random, 128 bits: BLAKE3.
    App([u8; 32]),
}

/// Hashes are worth guessing at: they stay out of logs.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Secret::Password(_) => "Password(..)",
            Secret::App(_) => "App(..)",
        })
    }
}

/// What an account knows of its transfers to other accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransfersRow {
    /// The number of the next one.
    pub next: u64,
}

impl Default for TransfersRow {
    fn default() -> Self {
        TransfersRow { next: 1 }
    }
}

/// Messages that go to another account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRow {
    /// What was asked for.
    pub request_id: RequestId,
    /// Whether the originals go.
    pub away: bool,
    /// Where they are.
    pub mailbox: MailboxId,
    /// Which, ascending, each with what it shows; none when it is over.
    pub messages: Vec<(Uid, EmailId)>,
    /// Where they come.
    pub to: Place,
    /// For the answer: the first uid that was asked for and is not among them; 0: none.
    pub next: Uid,
    /// The answer is given; the target has yet to forget its own.
    pub over: bool,
}

/// Transfers from one account to another, at the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrivalsRow {
    /// All with a lower number are over: nothing comes by them any more.
    pub below: u64,
}

/// One change of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRow {
    /// Effective time.
    pub time_ms: u64,
    /// Where.
    pub mailbox: MailboxId,
    /// What.
    pub kind: ChangeKind,
    /// Which messages; empty for a change of the mailbox itself.
    pub uids: Vec<(Uid, Uid)>,
    /// Emails that no message shows any more since then, ascending.
    pub destroyed: Vec<(EmailId, EmailId)>,
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// Messages came.
    Created,
    /// Flags of messages changed.
    Updated,
    /// Messages were removed.
    Vanished,
    /// The mailbox came.
    MailboxCreated,
    /// The mailbox went, with all its messages.
    MailboxDeleted,
    /// Name, subscription, special use or annotations of the mailbox changed. A subscription to a
    /// name without a mailbox has mailbox 0.
    MailboxChanged,
    /// State, credentials or annotations of the account changed; mailbox 0.
    AccountChanged,
}

/// A blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRow {
    /// Emails that refer to it, over all accounts of the shard.
    pub refs: u64,
    /// Octets.
    pub size: u64,
    /// Its chunks, as they were first stored.
    pub chunks: Vec<ChunkMeta>,
}

/// An arrival in chunks that no `Store` has consumed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRow {
    /// Effective time of its first chunk.
    pub started_ms: u64,
    /// Chunks that are there.
    pub chunks: u32,
}

/// The first answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRow {
    /// Effective time.
    pub time_ms: u64,
    /// The answer.
    pub answer: Answer,
}

/// What is remembered of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Of a whole command.
    Reply(Reply),
    /// Of one target of a `Store`.
    Target(StoreResult),
}

/// The cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemRow {
    /// UUID.
    pub cluster_id: [u8; 16],
    /// Counts changes of nodes, shards and slots.
    pub version: u64,
    /// Replicas a shard should have.
    pub replication: u32,
    /// The next node's number.
    pub next_node: u32,
}

/// A shard as the system shard wants it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRow {
    /// Its replicas, by node.
    pub replicas: Vec<ReplicaInfo>,
    /// Replicas of the list that lost acknowledged data.
    pub damaged: Vec<ReplicaId>,
    /// Ranges of slots, inclusive, ascending.
    pub slots: Vec<(Slot, Slot)>,
    /// Per node that ever had a replica, the generation of its next one.
    pub next_generation: Vec<(NodeId, u32)>,
}

/// A join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// When it stops working, ms since the epoch.
    pub expires_ms: u64,
}

/// Where a chunk's stored octets lie, and what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkLoc {
    /// The stored octets.
    pub location: Location,
    /// How they are encoded.
    pub codec: Codec,
    /// CRC-32 (IEEE) of the stored octets.
    pub crc: u32,
    /// Octets before encoding.
    pub raw_len: u32,
}

impl ChunkLoc {
    /// The row of a chunk that lies at `location`.
    pub fn new(location: Location, chunk: &ChunkMeta) -> ChunkLoc {
        ChunkLoc {
            location,
            codec: chunk.codec,
            crc: chunk.crc,
            raw_len: chunk.raw_len,
        }
    }
}

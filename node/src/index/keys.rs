//! The key space: one documented enum, big-endian, so that the order of the octets is the order of
//! the numbers and a prefix is a range.
//!
//! ```text
//! key   = space (u32) | tag (u8) | fields
//! ```
//!
//! The space stands where the shard would: a replica that installs a snapshot gets a fresh space,
//! and the switch is one row (`ShardSpace`). So the state hash strips the space. Space 0 holds the
//! rows of the node as a whole. The value of each key is the type of [`super::values`] that is
//! named beside it. A text field always comes last and needs no terminator.
//!
//! Tags and fields are a disk format: they are never renumbered (golden rows in
//! `tests/fixtures/keys-v2.txt`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Family;
use crate::machine::command::{TransferId, UploadId};
use crate::types::*;

/// Where the rows of one local replica live. A shard's replica gets a fresh space when a snapshot
/// is installed, so that the switch from old rows to new ones is one atomic row
/// (`Local: shard → space`). Local to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Space(pub u32);

impl Space {
    /// Rows of the node as a whole.
    pub const NODE: Space = Space(0);
    /// The first space that a replica may get.
    pub const FIRST: Space = Space(1);
}

/// Version of keys and rows, the value of [`Key::Format`].
pub const FORMAT_VERSION: u32 = 2;

/// Log2 of the uids in one part of a mailbox's uid set.
pub const UID_PART_BITS: u32 = 12;

/// The octet of a key after its space.
#[allow(missing_docs)]
pub mod tag {
    pub const META: u8 = 0x01;
    pub const SLOT: u8 = 0x02;
    pub const ACCOUNT_NAME: u8 = 0x03;
    pub const ACCOUNT: u8 = 0x04;
    pub const GOING: u8 = 0x05;
    pub const MAILBOX_NAME: u8 = 0x06;
    pub const MAILBOX: u8 = 0x07;
    pub const UID_SET: u8 = 0x08;
    pub const KEYWORD: u8 = 0x09;
    pub const KEYWORD_NAME: u8 = 0x0a;
    pub const MESSAGE: u8 = 0x0b;
    pub const EMAIL: u8 = 0x0c;
    pub const CHANGE: u8 = 0x0d;
    pub const GOING_MAILBOX: u8 = 0x0e;
    pub const THREAD: u8 = 0x0f;
    pub const BLOB: u8 = 0x10;
    pub const UPLOAD: u8 = 0x11;
    pub const UPLOAD_CHUNK: u8 = 0x12;
    pub const REQUEST: u8 = 0x13;
    pub const REQUEST_AGE: u8 = 0x14;
    pub const SUBSCRIPTION: u8 = 0x15;
    pub const ANNOTATION: u8 = 0x16;
    pub const CREDENTIAL: u8 = 0x17;
    pub const TRANSFERS: u8 = 0x18;
    pub const TRANSFER: u8 = 0x19;
    pub const ARRIVALS: u8 = 0x1a;
    pub const ARRIVAL: u8 = 0x1b;
    pub const SYSTEM: u8 = 0x20;
    pub const NODE: u8 = 0x21;
    pub const SHARD: u8 = 0x22;
    pub const TOKEN: u8 = 0x23;
    pub const JOIN: u8 = 0x24;
    pub const SUMMARY: u8 = 0x40;
    pub const BLOB_LOC: u8 = 0x60;
    pub const UPLOAD_LOC: u8 = 0x61;
    pub const APPLIED: u8 = 0x62;
    pub const FORMAT: u8 = 0x70;
    pub const NEXT_SPACE: u8 = 0x71;
    pub const SHARD_SPACE: u8 = 0x72;
    pub const SEGMENT_LIVE: u8 = 0x73;
}

/// Which operation a request_id belongs to: equal ids of different operations are different
/// requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum RequestKind {
    /// `CreateAccount`.
    CreateAccount = 1,
    /// `DeleteAccount`.
    DeleteAccount = 2,
    /// `CreateMailbox`.
    CreateMailbox = 3,
    /// One target of `Store`.
    Store = 4,
    /// `SetFlags`.
    SetFlags = 5,
    /// `Expunge`.
    Expunge = 6,
    /// `DeleteMailbox`.
    DeleteMailbox = 7,
    /// `RenameMailbox`.
    RenameMailbox = 8,
    /// `Subscribe`.
    Subscribe = 9,
    /// `SetSpecialUse`.
    SetSpecialUse = 10,
    /// `SetMetadata`.
    SetMetadata = 11,
    /// `AppendMany`.
    AppendMany = 12,
    /// `Copy`.
    Copy = 13,
    /// `Move`.
    Move = 14,
    /// `SetPassword`.
    SetPassword = 15,
    /// `AddAppPassword`.
    AddAppPassword = 16,
    /// `RemoveAppPassword`.
    RemoveAppPassword = 17,
    /// `SetAccountState`.
    SetAccountState = 18,
    /// `BeginTransfer` of messages whose originals stay.
    CopyAcross = 19,
    /// `BeginTransfer` of messages whose originals go.
    MoveAcross = 20,
}

impl RequestKind {
    fn from_u8(b: u8) -> Option<RequestKind> {
        use RequestKind::*;
        [
            CreateAccount,
            DeleteAccount,
            CreateMailbox,
            Store,
            SetFlags,
            Expunge,
            DeleteMailbox,
            RenameMailbox,
            Subscribe,
            SetSpecialUse,
            SetMetadata,
            AppendMany,
            Copy,
            Move,
            SetPassword,
            AddAppPassword,
            RemoveAppPassword,
            SetAccountState,
            CopyAcross,
            MoveAcross,
        ]
        .into_iter()
        .find(|k| *k as u8 == b)
    }
}

/// Identity of a request: the scope in which its request_id is unique, and the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestKey {
    /// The account; for operations on an account as a whole, number 0 of the name's slot.
    pub account: AccountId,
    /// The operation.
    pub kind: RequestKind,
    /// The mailbox; 0 where the scope is the account.
    pub mailbox: MailboxId,
    /// The request_id; for operations on an account as a whole, the first 16 octets of the BLAKE3
    /// of request_id and name.
    pub id: RequestId,
}

/// Every row there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    // Replicated, hot: Family::State.
    /// `01` → [`MetaRow`](super::values::MetaRow): effective time and request window of the shard.
    Meta,
    /// `02 slot:u16` → [`SlotRow`](super::values::SlotRow): the next account number.
    Slot(Slot),
    /// `03 slot:u16 name` → [`AccountNameRow`](super::values::AccountNameRow): the id.
    AccountName {
        /// Slot of the name.
        slot: Slot,
        /// Normalized.
        name: &'a str,
    },
    /// `04 account:u64` → [`AccountRow`](super::values::AccountRow).
    Account(AccountId),
    /// `05 account:u64` → nothing: an account whose rows are being removed.
    Going(AccountId),
    /// `06 account:u64 name` → [`MailboxNameRow`](super::values::MailboxNameRow): the id.
    MailboxName {
        /// Owner.
        account: AccountId,
        /// Normalized.
        name: &'a str,
    },
    /// `07 account:u64 mailbox:u32` → [`MailboxRow`](super::values::MailboxRow).
    Mailbox {
        /// Owner.
        account: AccountId,
        /// Which.
        mailbox: MailboxId,
    },
    /// `08 account:u64 mailbox:u32 part:u32` → [`UidPart`](super::uids::UidPart): the uids of
    /// `part << 12 .. (part + 1) << 12` that exist. Absent when there are none.
    UidSet {
        /// Owner.
        account: AccountId,
        /// Which.
        mailbox: MailboxId,
        /// `uid >> 12`.
        part: u32,
    },
    /// `09 account:u64 mailbox:u32 id:u16` → [`KeywordRow`](super::values::KeywordRow): spelling.
    Keyword {
        /// Owner.
        account: AccountId,
        /// Which.
        mailbox: MailboxId,
        /// Number in hot rows.
        id: u16,
    },
    /// `0a account:u64 mailbox:u32 name` → [`KeywordNameRow`](super::values::KeywordNameRow).
    KeywordName {
        /// Owner.
        account: AccountId,
        /// Which.
        mailbox: MailboxId,
        /// In ASCII lower case.
        name: &'a str,
    },
    /// `0b account:u64 mailbox:u32 uid:u32` → [`MessageRow`](super::values::MessageRow), hot.
    Message {
        /// Owner.
        account: AccountId,
        /// Which.
        mailbox: MailboxId,
        /// Which.
        uid: Uid,
    },
    /// `0c account:u64 email:u64` → [`EmailRow`](super::values::EmailRow).
    Email {
        /// Owner.
        account: AccountId,
        /// Which.
        email: EmailId,
    },
    /// `0d account:u64 modseq:u64` → [`ChangeRow`](super::values::ChangeRow).
    Change {
        /// Owner.
        account: AccountId,
        /// The account's modseq that this change made.
        modseq: ModSeq,
    },
    /// `0e account:u64 mailbox:u32` → nothing: a mailbox whose rows are being removed.
    GoingMailbox {
        /// Owner.
        account: AccountId,
        /// Which.
        mailbox: MailboxId,
    },
    /// `0f account:u64 key:u64` → [`ThreadRow`](super::values::ThreadRow).
    Thread {
        /// Owner.
        account: AccountId,
        /// By what it is found.
        key: ThreadKey,
    },
    /// `10 blob:[u8;32]` → [`BlobRow`](super::values::BlobRow).
    Blob(BlobId),
    /// `11 upload:[u8;16]` → [`UploadRow`](super::values::UploadRow).
    Upload(UploadId),
    /// `12 upload:[u8;16] seq:u32` → [`ChunkMeta`](crate::machine::command::ChunkMeta).
    UploadChunk {
        /// The arrival.
        upload: UploadId,
        /// From 0.
        seq: u32,
    },
    /// `13 account:u64 kind:u8 mailbox:u32 id:[u8;16]` →
    /// [`RequestRow`](super::values::RequestRow): the first answer.
    Request(RequestKey),
    /// `14 time_ms:u64 account:u64 kind:u8 mailbox:u32 id:[u8;16]` → nothing: requests by age.
    RequestAge {
        /// When it was first applied.
        time_ms: u64,
        /// Which.
        request: RequestKey,
    },
    /// `15 account:u64 name` → nothing: a name that the account subscribes to.
    Subscription {
        /// Owner.
        account: AccountId,
        /// Normalized; no mailbox need have it.
        name: &'a str,
    },
    /// `16 account:u64 mailbox:u32 entry` → [`AnnotationRow`](super::values::AnnotationRow).
    Annotation {
        /// Owner.
        account: AccountId,
        /// Whose; 0: the account's own.
        mailbox: MailboxId,
        /// In ASCII lower case.
        entry: &'a str,
    },
    /// `17 account:u64 name` → [`CredentialRow`](super::values::CredentialRow). The account's own
    /// password has the empty name.
    Credential {
        /// Owner.
        account: AccountId,
        /// Of an application password.
        name: &'a str,
    },
    /// `18 account:u64` → [`TransfersRow`](super::values::TransfersRow): the next transfer's number.
    Transfers(AccountId),
    /// `19 account:u64 number:u64` → [`TransferRow`](super::values::TransferRow): messages that are
    /// on their way to another account, or have arrived there and are still remembered.
    Transfer(TransferId),
    /// `1a account:u64 source:u64` → [`ArrivalsRow`](super::values::ArrivalsRow): transfers from
    /// another account that are over.
    Arrivals {
        /// The target.
        account: AccountId,
        /// Where they came from.
        source: AccountId,
    },
    /// `1b account:u64 source:u64 number:u64` → [`Arrival`](crate::machine::command::Arrival): the
    /// answer to a transfer that its source may not have heard of yet.
    Arrival {
        /// The target.
        account: AccountId,
        /// Which.
        transfer: TransferId,
    },
    /// `20` → [`SystemRow`](super::values::SystemRow). System shard only, as the next four.
    System,
    /// `21 node:u32` → [`NodeInfo`](crate::machine::command::NodeInfo).
    Node(NodeId),
    /// `22 shard:u32` → [`ShardRow`](super::values::ShardRow).
    Shard(ShardId),
    /// `23 hash:[u8;32]` → [`TokenRow`](super::values::TokenRow).
    Token([u8; 32]),
    /// `24 join_id:[u8;16]` → [`NodeId`]: the answer of a join, for its repetition.
    Join([u8; 16]),

    // Replicated, cold: Family::Cold.
    /// `40 account:u64 email:u64` → the encoded summary, opaque here.
    Summary {
        /// Owner.
        account: AccountId,
        /// Which.
        email: EmailId,
    },

    // Local to the node: Family::Local.
    /// `60 blob:[u8;32] seq:u32` → [`ChunkLoc`](super::values::ChunkLoc).
    BlobLoc {
        /// Which.
        blob: BlobId,
        /// From 0.
        seq: u32,
    },
    /// `61 upload:[u8;16] seq:u32` → [`ChunkLoc`](super::values::ChunkLoc).
    UploadLoc {
        /// The arrival.
        upload: UploadId,
        /// From 0.
        seq: u32,
    },
    /// `62` → opaque here: what the raft layer has applied to this space.
    Applied,
    /// Space 0, `70` → u32, big-endian: [`FORMAT_VERSION`].
    Format,
    /// Space 0, `71` → u32, big-endian: the next space to hand out.
    NextSpace,
    /// Space 0, `72 shard:u32` → u32, big-endian: the space of the shard's replica.
    ShardSpace(ShardId),
    /// Space 0, `73 segment:u64` → i64, little-endian, by [`Change::Add`](super::Change::Add):
    /// octets of the segment that `BlobLoc` and `UploadLoc` rows of all spaces point to.
    SegmentLive(u64),
}

impl Key<'_> {
    /// The family that the row is in.
    pub fn family(&self) -> Family {
        match self.tag() {
            tag::SUMMARY..tag::BLOB_LOC => Family::Cold,
            tag::BLOB_LOC.. => Family::Local,
            _ => Family::State,
        }
    }

    /// The octet after the space.
    pub fn tag(&self) -> u8 {
        match self {
            Key::Meta => tag::META,
            Key::Slot(..) => tag::SLOT,
            Key::AccountName { .. } => tag::ACCOUNT_NAME,
            Key::Account(..) => tag::ACCOUNT,
            Key::Going(..) => tag::GOING,
            Key::MailboxName { .. } => tag::MAILBOX_NAME,
            Key::Mailbox { .. } => tag::MAILBOX,
            Key::UidSet { .. } => tag::UID_SET,
            Key::Keyword { .. } => tag::KEYWORD,
            Key::KeywordName { .. } => tag::KEYWORD_NAME,
            Key::Message { .. } => tag::MESSAGE,
            Key::Email { .. } => tag::EMAIL,
            Key::Change { .. } => tag::CHANGE,
            Key::GoingMailbox { .. } => tag::GOING_MAILBOX,
            Key::Thread { .. } => tag::THREAD,
            Key::Subscription { .. } => tag::SUBSCRIPTION,
            Key::Annotation { .. } => tag::ANNOTATION,
            Key::Credential { .. } => tag::CREDENTIAL,
            Key::Transfers(..) => tag::TRANSFERS,
            Key::Transfer(..) => tag::TRANSFER,
            Key::Arrivals { .. } => tag::ARRIVALS,
            Key::Arrival { .. } => tag::ARRIVAL,
            Key::Blob(..) => tag::BLOB,
            Key::Upload(..) => tag::UPLOAD,
            Key::UploadChunk { .. } => tag::UPLOAD_CHUNK,
            Key::Request(..) => tag::REQUEST,
            Key::RequestAge { .. } => tag::REQUEST_AGE,
            Key::System => tag::SYSTEM,
            Key::Node(..) => tag::NODE,
            Key::Shard(..) => tag::SHARD,
            Key::Token(..) => tag::TOKEN,
            Key::Join(..) => tag::JOIN,
            Key::Summary { .. } => tag::SUMMARY,
            Key::BlobLoc { .. } => tag::BLOB_LOC,
            Key::UploadLoc { .. } => tag::UPLOAD_LOC,
            Key::Applied => tag::APPLIED,
            Key::Format => tag::FORMAT,
            Key::NextSpace => tag::NEXT_SPACE,
            Key::ShardSpace(..) => tag::SHARD_SPACE,
            Key::SegmentLive(..) => tag::SEGMENT_LIVE,
        }
    }

    /// The octets. `space` does not matter to the rows of the node as a whole.
    pub fn encode(&self, space: Space) -> Bytes {
        let tag = self.tag();
        let space = if tag >= tag::FORMAT {
            Space::NODE
        } else {
            space
        };
        let w = KeyWriter::new(space, tag);
        match *self {
            Key::Meta | Key::System | Key::Applied | Key::Format | Key::NextSpace => w,
            Key::Slot(slot) => w.u16(slot.0),
            Key::AccountName { slot, name } => w.u16(slot.0).text(name),
            Key::Account(account) | Key::Going(account) | Key::Transfers(account) => {
                w.u64(account.0)
            }
            Key::Transfer(transfer) => w.transfer(&transfer),
            Key::Arrivals { account, source } => w.u64(account.0).u64(source.0),
            Key::Arrival { account, transfer } => w.u64(account.0).transfer(&transfer),
            Key::MailboxName { account, name }
            | Key::Subscription { account, name }
            | Key::Credential { account, name } => w.u64(account.0).text(name),
            Key::Mailbox { account, mailbox } | Key::GoingMailbox { account, mailbox } => {
                w.u64(account.0).u32(mailbox.0)
            }
            Key::Thread { account, key } => w.u64(account.0).u64(key.0),
            Key::Annotation {
                account,
                mailbox,
                entry,
            } => w.u64(account.0).u32(mailbox.0).text(entry),
            Key::UidSet {
                account,
                mailbox,
                part,
            } => w.u64(account.0).u32(mailbox.0).u32(part),
            Key::Keyword {
                account,
                mailbox,
                id,
            } => w.u64(account.0).u32(mailbox.0).u16(id),
            Key::KeywordName {
                account,
                mailbox,
                name,
            } => w.u64(account.0).u32(mailbox.0).text(name),
            Key::Message {
                account,
                mailbox,
                uid,
            } => w.u64(account.0).u32(mailbox.0).u32(uid),
            Key::Email { account, email } | Key::Summary { account, email } => {
                w.u64(account.0).u64(email.0)
            }
            Key::Change { account, modseq } => w.u64(account.0).u64(modseq),
            Key::Blob(blob) => w.octets(&blob.0),
            Key::Upload(upload) => w.octets(&upload.0),
            Key::UploadChunk { upload, seq } | Key::UploadLoc { upload, seq } => {
                w.octets(&upload.0).u32(seq)
            }
            Key::Request(request) => w.request(&request),
            Key::RequestAge { time_ms, request } => w.u64(time_ms).request(&request),
            Key::Node(node) => w.u32(node.0),
            Key::Shard(shard) | Key::ShardSpace(shard) => w.u32(shard.0),
            Key::Token(hash) => w.octets(&hash),
            Key::Join(id) => w.octets(&id),
            Key::BlobLoc { blob, seq } => w.octets(&blob.0).u32(seq),
            Key::SegmentLive(segment) => w.u64(segment),
        }
        .finish()
    }
}

impl<'a> Key<'a> {
    /// The space and the key of these octets; `None` when they are no key of this version.
    pub fn decode(octets: &'a [u8]) -> Option<(Space, Key<'a>)> {
        let mut r = KeyReader(octets);
        let space = Space(r.u32()?);
        let key = match r.u8()? {
            tag::META => Key::Meta,
            tag::SLOT => Key::Slot(Slot(r.u16()?)),
            tag::ACCOUNT_NAME => Key::AccountName {
                slot: Slot(r.u16()?),
                name: r.text()?,
            },
            tag::ACCOUNT => Key::Account(AccountId(r.u64()?)),
            tag::GOING => Key::Going(AccountId(r.u64()?)),
            tag::MAILBOX_NAME => Key::MailboxName {
                account: AccountId(r.u64()?),
                name: r.text()?,
            },
            tag::MAILBOX => Key::Mailbox {
                account: AccountId(r.u64()?),
                mailbox: MailboxId(r.u32()?),
            },
            tag::UID_SET => Key::UidSet {
                account: AccountId(r.u64()?),
                mailbox: MailboxId(r.u32()?),
                part: r.u32()?,
            },
            tag::KEYWORD => Key::Keyword {
                account: AccountId(r.u64()?),
                mailbox: MailboxId(r.u32()?),
                id: r.u16()?,
            },
            tag::KEYWORD_NAME => Key::KeywordName {
                account: AccountId(r.u64()?),
                mailbox: MailboxId(r.u32()?),
                name: r.text()?,
            },
            tag::MESSAGE => Key::Message {
                account: AccountId(r.u64()?),
                mailbox: MailboxId(r.u32()?),
                uid: r.u32()?,
            },
            tag::EMAIL => Key::Email {
                account: AccountId(r.u64()?),
                email: EmailId(r.u64()?),
            },
            tag::CHANGE => Key::Change {
                account: AccountId(r.u64()?),
                modseq: r.u64()?,
            },
            tag::GOING_MAILBOX => Key::GoingMailbox {
                account: AccountId(r.u64()?),
                mailbox: MailboxId(r.u32()?),
            },
            tag::THREAD => Key::Thread {
                account: AccountId(r.u64()?),
                key: ThreadKey(r.u64()?),
            },
            tag::SUBSCRIPTION => Key::Subscription {
                account: AccountId(r.u64()?),
                name: r.text()?,
            },
            tag::ANNOTATION => Key::Annotation {
                account: AccountId(r.u64()?),
                mailbox: MailboxId(r.u32()?),
                entry: r.text()?,
            },
            tag::CREDENTIAL => Key::Credential {
                account: AccountId(r.u64()?),
                name: r.text()?,
            },
            tag::TRANSFERS => Key::Transfers(AccountId(r.u64()?)),
            tag::TRANSFER => Key::Transfer(r.transfer()?),
            tag::ARRIVALS => Key::Arrivals {
                account: AccountId(r.u64()?),
                source: AccountId(r.u64()?),
            },
            tag::ARRIVAL => Key::Arrival {
                account: AccountId(r.u64()?),
                transfer: r.transfer()?,
            },
            tag::BLOB => Key::Blob(BlobId(r.octets()?)),
            tag::UPLOAD => Key::Upload(UploadId(r.octets()?)),
            tag::UPLOAD_CHUNK => Key::UploadChunk {
                upload: UploadId(r.octets()?),
                seq: r.u32()?,
            },
            tag::REQUEST => Key::Request(r.request()?),
            tag::REQUEST_AGE => Key::RequestAge {
                time_ms: r.u64()?,
                request: r.request()?,
            },
            tag::SYSTEM => Key::System,
            tag::NODE => Key::Node(NodeId(r.u32()?)),
            tag::SHARD => Key::Shard(ShardId(r.u32()?)),
            tag::TOKEN => Key::Token(r.octets()?),
            tag::JOIN => Key::Join(r.octets()?),
            tag::SUMMARY => Key::Summary {
                account: AccountId(r.u64()?),
                email: EmailId(r.u64()?),
            },
            tag::BLOB_LOC => Key::BlobLoc {
                blob: BlobId(r.octets()?),
                seq: r.u32()?,
            },
            tag::UPLOAD_LOC => Key::UploadLoc {
                upload: UploadId(r.octets()?),
                seq: r.u32()?,
            },
            tag::APPLIED => Key::Applied,
            tag::FORMAT => Key::Format,
            tag::NEXT_SPACE => Key::NextSpace,
            tag::SHARD_SPACE => Key::ShardSpace(ShardId(r.u32()?)),
            tag::SEGMENT_LIVE => Key::SegmentLive(r.u64()?),
            _ => return None,
        };
        r.0.is_empty().then_some((space, key))
    }
}

struct KeyWriter(Vec<u8>);

impl KeyWriter {
    fn new(space: Space, tag: u8) -> KeyWriter {
        let mut octets = Vec::with_capacity(48);
        octets.extend_from_slice(&space.0.to_be_bytes());
        octets.push(tag);
        KeyWriter(octets)
    }
    fn octets(mut self, b: &[u8]) -> Self {
        self.0.extend_from_slice(b);
        self
    }
    fn u8(self, n: u8) -> Self {
        self.octets(&[n])
    }
    fn u16(self, n: u16) -> Self {
        self.octets(&n.to_be_bytes())
    }
    fn u32(self, n: u32) -> Self {
        self.octets(&n.to_be_bytes())
    }
    fn u64(self, n: u64) -> Self {
        self.octets(&n.to_be_bytes())
    }
    fn text(self, s: &str) -> Self {
        self.octets(s.as_bytes())
    }
    fn request(self, r: &RequestKey) -> Self {
        self.u64(r.account.0)
            .u8(r.kind as u8)
            .u32(r.mailbox.0)
            .octets(&r.id.0)
    }
    fn transfer(self, t: &TransferId) -> Self {
        self.u64(t.source.0).u64(t.number)
    }
    fn finish(self) -> Bytes {
        self.0.into()
    }
}

struct KeyReader<'a>(&'a [u8]);

impl<'a> KeyReader<'a> {
    fn octets<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.octets::<1>().map(|b| b[0])
    }
    fn u16(&mut self) -> Option<u16> {
        self.octets().map(u16::from_be_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.octets().map(u32::from_be_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.octets().map(u64::from_be_bytes)
    }
    fn text(&mut self) -> Option<&'a str> {
        let text = std::str::from_utf8(self.0).ok()?;
        self.0 = &[];
        Some(text)
    }
    fn request(&mut self) -> Option<RequestKey> {
        Some(RequestKey {
            account: AccountId(self.u64()?),
            kind: RequestKind::from_u8(self.u8()?)?,
            mailbox: MailboxId(self.u32()?),
            id: RequestId(self.octets()?),
        })
    }
    fn transfer(&mut self) -> Option<TransferId> {
        Some(TransferId {
            source: AccountId(self.u64()?),
            number: self.u64()?,
        })
    }
}

/// Keys `from..to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first.
    pub from: Bytes,
    /// The first after the last.
    pub to: Bytes,
}

impl KeyRange {
    /// All keys that begin with these octets, which are not all 0xff.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let mut to = prefix.to_vec();
        while to.last() == Some(&0xff) {
            to.pop();
        }
        *to.last_mut()
            .expect("a prefix begins with a space, and the last space is never given") += 1;
        KeyRange {
            from: Bytes::copy_from_slice(prefix),
            to: to.into(),
        }
    }

    /// Both inclusive.
    pub fn inclusive(first: &Key, last: &Key, space: Space) -> KeyRange {
        let mut to = last.encode(space).to_vec();
        to.push(0);
        KeyRange {
            from: first.encode(space),
            to: to.into(),
        }
    }

    /// All rows of a space in a family.
    pub fn space(space: Space) -> KeyRange {
        KeyRange::prefix(&space.0.to_be_bytes())
    }

    /// All rows of a space whose key has this tag.
    pub fn tag(space: Space, tag: u8) -> KeyRange {
        KeyRange::prefix(&KeyWriter::new(space, tag).0)
    }

    /// The rows with the tag of `like` whose next field is this account.
    pub fn account(space: Space, like: &Key, account: AccountId) -> KeyRange {
        KeyRange::prefix(&KeyWriter::new(space, like.tag()).u64(account.0).0)
    }

    /// The rows with the tag of `like` whose next fields are this account and mailbox.
    pub fn mailbox(space: Space, like: &Key, account: AccountId, mailbox: MailboxId) -> KeyRange {
        KeyRange::prefix(
            &KeyWriter::new(space, like.tag())
                .u64(account.0)
                .u32(mailbox.0)
                .0,
        )
    }
}

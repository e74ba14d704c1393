//! What clients did and what they were told: the only thing that a user of the store knows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One call of a client, from its first request to its final answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Number of the operation in the plan; calls that the workload adds (the final reading) have
    /// none.
    pub op: Option<u32>,
    /// Number of the client.
    pub client: u32,
    /// When it was called, ms of simulated time since the start of the run.
    pub called_ms: u64,
    /// When it answered.
    pub returned_ms: u64,
    /// What was asked.
    pub call: Call,
    /// What was answered.
    pub answer: Answer,
}

/// Which octets a message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Octets {
    /// Body number.
    pub body: u64,
    /// Length.
    pub size: u64,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// Creates an account.
    CreateAccount {
        /// Its name.
        account: String,
    },
    /// Deletes an account.
    DeleteAccount {
        /// Its name.
        account: String,
    },
    /// Creates a mailbox.
    CreateMailbox {
        /// Account.
        account: String,
        /// Its name.
        mailbox: String,
    },
    /// Delivers to the INBOX of some accounts, by gRPC or by LMTP.
    Deliver {
        /// Accounts, in the order of the answer.
        accounts: Vec<String>,
        /// What.
        octets: Octets,
        /// Its request id; `None` when the front door chooses it.
        request: Option<[u8; 16]>,
        /// Whether the message may be there even when nothing was acknowledged, and cannot be when
        /// this is false: the session was broken off before the whole message had been sent.
        may_exist: bool,
    },
    /// Appends to a mailbox.
    Append {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// What.
        octets: Octets,
        /// Its request id.
        request: [u8; 16],
    },
    /// Changes flags.
    SetFlags {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// Messages.
        uids: Vec<u32>,
        /// How.
        mode: crate::plan::FlagMode,
        /// Which.
        flags: Vec<String>,
        /// Condition; 0: none.
        unchanged_since: u64,
    },
    /// Expunges messages.
    Expunge {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// Messages.
        uids: Vec<u32>,
    },
    /// Lists mailboxes.
    Mailboxes {
        /// Account.
        account: String,
    },
    /// Lists messages.
    List {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
    },
    /// Reads a message.
    Fetch {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// Message.
        uid: u32,
    },
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Done(Done),
    /// Refused for a reason that says that nothing was done.
    Refused(String),
    /// Failed or timed out: it may have been done, once, at any time from the call on.
    Unknown(String),
}

/// A message that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAt {
    /// Generation of the uids.
    pub uid_validity: u32,
    /// Uid.
    pub uid: u32,
    /// Modseq.
    pub modseq: u64,
}

/// A mailbox as it was listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxSeen {
    /// Generation of the uids.
    pub uid_validity: u32,
    /// The next uid.
    pub uid_next: u32,
    /// Highest modseq.
    pub highest_modseq: u64,
    /// Number of messages.
    pub messages: u64,
    /// Number of those not \Seen.
    pub unseen: u64,
}

/// A message as it was listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageSeen {
    /// Uid.
    pub uid: u32,
    /// Modseq.
    pub modseq: u64,
    /// Flags, sorted.
    pub flags: Vec<String>,
    /// Octets.
    pub size: u64,
    /// BLAKE3 of the octets, hexadecimal.
    pub blob: String,
}

/// Results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Done {
    /// Without more to say.
    Plain,
    /// One result a recipient: where it was stored, or why not, or `None` for not known (LMTP
    /// says no uid: then all of `StoredAt` is 0).
    Delivered(Vec<Result<StoredAt, Answer>>),
    /// Appended.
    Appended(StoredAt),
    /// Flags after the change, by uid; and the uids that the condition kept unchanged.
    Flags {
        /// Modseq of the change.
        modseq: u64,
        /// Uids that were changed.
        changed: Vec<u32>,
        /// Uids that the condition protected.
        unchanged: Vec<u32>,
    },
    /// Expunged.
    Expunged {
        /// Modseq of the change.
        modseq: u64,
        /// Uids that are gone by this call.
        uids: Vec<u32>,
    },
    /// Mailboxes by name.
    Mailboxes(BTreeMap<String, MailboxSeen>),
    /// Messages in the order of their uids.
    Messages {
        /// Generation of the uids.
        uid_validity: u32,
        /// Highest modseq of the mailbox at the first page.
        highest_modseq: u64,
        /// Whether all of it is one moment (one page).
        one_page: bool,
        /// The messages.
        messages: Vec<MessageSeen>,
    },
    /// BLAKE3 of the octets that were read, hexadecimal, and their number.
    Octets {
        /// Hash.
        blob: String,
        /// Number.
        size: u64,
    },
}

//! Why an operation failed, in the words of the public contract.
//!
//! One enum for the layer: every operation can meet a shard that is led elsewhere, a full window
//! or a bad field, so an enum per operation would repeat these. `api::error` translates it to the
//! wire, in one place.

use crate::index::IndexError;
use crate::machine::command::ApplyError;
use crate::types::{ModSeq, NodeId};

/// What was not found, or exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An account.
    Account,
    /// A mailbox.
    Mailbox,
    /// A message.
    Message,
    /// A blob.
    Blob,
    /// A shard.
    Shard,
    /// A node.
    Node,
    /// A join token.
    Token,
    /// An application password.
    AppPassword,
}

impl What {
    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            What::Account => "account",
            What::Mailbox => "mailbox",
            What::Message => "message",
            What::Blob => "blob",
            What::Shard => "shard",
            What::Node => "node",
            What::Token => "token",
            What::AppPassword => "app_password",
        }
    }
}

/// A failed operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    /// It does not exist.
    #[error("{} not found", .0.as_str())]
    NotFound(What),
    /// The name is taken.
    #[error("the {} exists already", .0.as_str())]
    AlreadyExists(What),
    /// Another node leads the shard.
    #[error("this node does not lead the shard of the account")]
    WrongLeader {
        /// Who does, where that is known.
        leader: Option<NodeId>,
        /// Its address, where that is known.
        addr: Option<String>,
    },
    /// No shard holds the account's slot, as far as this node knows.
    #[error("this node does not know the shard; fetch the placement again")]
    StalePlacement,
    /// A byte window is full; nothing was proposed.
    #[error("too much mail is on its way already; try again in {retry_after_ms} ms")]
    Busy {
        /// When to come back.
        retry_after_ms: u64,
    },
    /// A message or an annotation has more octets than allowed.
    #[error("larger than {limit} octets, which is the most that is taken")]
    TooLarge {
        /// Octets allowed.
        limit: u64,
    },
    /// The disk is nearly full.
    #[error("the disk is nearly full: no new mail is taken in, reads and deletes go on")]
    ReadOnly,
    /// A field of the request cannot be accepted.
    #[error("{field}: {reason}")]
    BadRequest {
        /// Its path in the request, e.g. `recipients[3].account`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No quorum, no leader, or no time left.
    #[error("{0}")]
    Unavailable(String),
    /// Stored octets are damaged and no replica could supply good ones.
    #[error("stored octets are damaged and no replica had good ones: {0}")]
    Corrupt(String),
    /// The caller expects another cluster.
    #[error("this node belongs to cluster {0}")]
    WrongCluster(String),
    /// No cluster was formed or joined yet.
    #[error("this node is not a member of a cluster yet; run `posthouse cluster init` or join one")]
    NotInitialized,
    /// Understood and not allowed.
    #[error("{0}")]
    Refused(String),
    /// Changes since a modseq that is too old.
    #[error("the changes since modseq {since} are forgotten; read everything again")]
    TooOld {
        /// From where they were asked for.
        since: ModSeq,
    },
    /// No such account, a wrong password, or no login.
    #[error("no such account, a wrong password, or no login allowed")]
    BadCredentials {
        /// Not 0: not even looked at, after too many wrong ones.
        retry_after_ms: u64,
    },
}

/// Shorthand of the layer.
pub type Result<T, E = MailboxError> = std::result::Result<T, E>;

impl MailboxError {
    /// A field that cannot be accepted.
    pub fn bad(field: impl Into<String>, reason: impl ToString) -> MailboxError {
        MailboxError::BadRequest {
            field: field.into(),
            reason: reason.to_string(),
        }
    }

    /// The deadline passed while the quorum was waited for.
    pub fn outcome_unknown() -> MailboxError {
        MailboxError::Unavailable(
            "no quorum answered within the deadline; the outcome is unknown, retry with the same \
             request_id"
                .to_owned(),
        )
    }

    /// The same error of a request of which something is done already, or may still be. That
    /// another node leads by now, or that this one takes no more, is true of its last step alone;
    /// a caller must not take it for "nothing was done", whatever a repetition answers.
    pub(super) fn begun(self) -> MailboxError {
        match self {
            MailboxError::WrongLeader { .. }
            | MailboxError::StalePlacement
            | MailboxError::Busy { .. }
            | MailboxError::ReadOnly => MailboxError::Unavailable(format!(
                "the request is not done to its end, and the outcome is unknown: {self}; retry \
                 with the same request_id"
            )),
            e => e,
        }
    }
}

impl From<IndexError> for MailboxError {
    fn from(e: IndexError) -> Self {
        match e {
            IndexError::Corrupt(_) => MailboxError::Corrupt(e.to_string()),
            IndexError::Failed(_) => MailboxError::Unavailable(e.to_string()),
        }
    }
}

/// `exists` says what an [`ApplyError::Exists`] of the command at hand is about.
pub fn from_apply(e: ApplyError, exists: What) -> MailboxError {
    match e {
        ApplyError::NoAccount => MailboxError::NotFound(What::Account),
        ApplyError::NoMailbox => MailboxError::NotFound(What::Mailbox),
        ApplyError::NoMessage => MailboxError::NotFound(What::Message),
        ApplyError::NoAppPassword => MailboxError::NotFound(What::AppPassword),
        ApplyError::Exists => MailboxError::AlreadyExists(exists),
        // The chunks were dropped as too old while the message was still arriving: a retry sends
        // them again, and nothing is stored.
        ApplyError::NoUpload => MailboxError::Busy { retry_after_ms: 10 },
        ApplyError::Limit(what) => MailboxError::Refused(format!("limit reached: {what}")),
        ApplyError::BadToken => MailboxError::NotFound(What::Token),
        ApplyError::Refused(why) => MailboxError::Refused(why),
        ApplyError::InTransfer => MailboxError::Busy {
            retry_after_ms: 200,
        },
    }
}

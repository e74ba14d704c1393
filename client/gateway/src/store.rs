//! What a door needs of the cluster.
//!
//! The trait is cut at the grain of mail: is there such an account, and take this message for
//! these accounts. `posthouse_client::Client` is one arm of it; tests bring a fake of their own.

use futures::future::BoxFuture;
use posthouse_client::ids::{AccountName, RequestId};

use crate::lmtp::body::Body;

/// A cluster as a door sees it.
pub trait Store: Send + Sync {
    /// Whether this account exists and may receive mail.
    fn exists<'a>(&'a self, account: &'a AccountName) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Stores one message for every recipient, and answers after the quorum: one result for each
    /// of `delivery.recipients`, in their order. An `Err` speaks for all of them.
    ///
    /// The body may still be on its way when this is called. A body that breaks off is an error
    /// of its stream; then nothing is stored.
    fn deliver(
        &self,
        delivery: Delivery,
    ) -> BoxFuture<'_, Result<Vec<Result<Stored, StoreError>>, StoreError>>;
}

/// One message for one or several accounts.
pub struct Delivery {
    /// What a repetition of this delivery is known by.
    pub identity: Identity,
    /// The reverse-path, without angle brackets; empty for a bounce.
    pub sender: String,
    /// 1 to 1,000 accounts, none of them twice.
    pub recipients: Vec<AccountName>,
    /// Octets to come, 0 when that is not known.
    pub size_hint: u64,
    /// The octets; can be read again from the start for another attempt.
    pub body: Body,
}

/// What a repetition is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Same sender, same octets, same recipient: the same message. A mail server that repeats a
    /// delivery because the answer was lost does not produce a duplicate.
    ByContent,
    /// This number; every transaction draws its own.
    Id(RequestId),
}

/// A message is stored on a quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// It had been stored before, by an earlier delivery with the same identity.
    pub duplicate: bool,
}

/// Why a message is not stored, as far as a sending server needs to know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such account.
    #[error("no such account")]
    NoAccount,
    /// There is, and it takes no mail any more.
    #[error("the account is closed")]
    Closed,
    /// A window is full; nothing was stored.
    #[error("busy")]
    Busy,
    /// The disks are nearly full; nothing was stored.
    #[error("read-only: the disk is nearly full")]
    ReadOnly,
    /// More octets than the store takes.
    #[error("larger than {limit_bytes} octets")]
    TooLarge {
        /// The store's limit.
        limit_bytes: u64,
    },
    /// The body broke off before its end; nothing was stored.
    #[error("the message broke off")]
    BrokenOff,
    /// No answer within the deadline: the outcome is unknown.
    #[error("no answer: {0}")]
    Unavailable(String),
    /// The store will not take this message from anyone.
    #[error("refused: {0}")]
    Refused(String),
}

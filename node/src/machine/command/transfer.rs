//! Commands that bring messages from one account to another, which may be in another shard.
//!
//! No command reaches two shards, so a transfer is a row of the source's account, the *intent*,
//! and steps that each may be repeated:
//!
//! ```text
//! source's shard                          target's shard
//! 1 BeginTransfer   the intent
//!                                         2 PutChunk …, Arrive   the messages, or why not
//! 3 EndTransfer     originals go
//!                                         4 ForgetArrivals       what 2 has answered
//! 5 SettleTransfers the intent goes
//! ```
//!
//! The target remembers what it has answered to 2 until the source has acted on it, however long
//! that takes, and afterwards that the transfer is over: a transfer has a number that its account
//! never gives again, and one row for each source says below which number all is over. So nothing
//! here trusts a window of time.

use serde::{Deserialize, Serialize};

use super::{AppendItem, ApplyError};
use crate::types::*;

/// Identity of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TransferId {
    /// The account that the messages come from.
    pub source: AccountId,
    /// Counts that account's transfers, from 1.
    pub number: u64,
}

/// A mailbox by numbers that are never given again: what is not found by them is gone for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Owner.
    pub account: AccountId,
    /// Which.
    pub mailbox: MailboxId,
    /// Its era.
    pub uidvalidity: u32,
}

/// Messages that are about to go to another account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginTransfer {
    /// Retry identity.
    pub request_id: RequestId,
    /// Owner.
    pub account: AccountName,
    /// Where they are.
    pub mailbox: MailboxRef,
    /// Which, ascending, each with what it shows. Those that are gone are left out.
    pub messages: Vec<(Uid, EmailId)>,
    /// Where they come.
    pub to: Place,
    /// Whether the originals go.
    pub away: bool,
    /// For the answer: the first uid that was asked for and is not among them; 0: none.
    pub next: Uid,
}

/// Messages of another account come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrive {
    /// By which transfer.
    pub transfer: TransferId,
    /// Where.
    pub to: Place,
    /// Which.
    pub what: Arriving,
}

/// What comes by a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arriving {
    /// These, all or none. The octets of each have come before as `PutChunk`.
    Messages {
        /// Uids that they have at the source: as many, ascending.
        from: Vec<(Uid, Uid)>,
        /// The messages, in the order of these uids; there may be none.
        items: Vec<AppendItem>,
    },
    /// None, unless they have come already: the source cannot send them.
    Nothing(ApplyError),
}

/// What became of a transfer at its target; never changes once it is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arrival {
    /// The messages are there.
    Here {
        /// The first one; the others follow without a gap. 0: there is none.
        first: Uid,
        /// Uids that they have at the source.
        from: Vec<(Uid, Uid)>,
    },
    /// None came, and none will.
    Refused(ApplyError),
}

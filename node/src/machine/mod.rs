//! The replicated state machine: pure and deterministic.
//!
//! `apply` reads rows through a [`Txn`], writes into it, and answers. It never sees tokio, a clock,
//! randomness or the network: every time, id and parsed header that it needs is in the command.
//! So every replica of a shard makes the same rows from the same commands, however they are
//! grouped into batches, on whatever node, at whatever time.
//!
//! ```text
//!            ┌ view of the index ┐
//! commands ─▶│  Txn (overlay)    │─▶ one Batch for the index, Events for the node
//!            └───────────────────┘
//!               op/*    one operation a file
//!               system  the system shard
//! ```
//!
//! Architecture invariants:
//! - An error is a [`Reply`], and then nothing but the shard's clock has changed. Only a failing or
//!   damaged index ends an apply, and then the process stops.
//! - Every command does bounded work ([`limits`]).
//! - Replicated rows (families State and Cold) never depend on where octets lie; locations are
//!   local rows, and an apply tolerates that they are missing (damaged octets wait for repair).

pub mod audit;
pub mod blob;
pub mod changes;
pub mod command;
pub mod hash;
pub mod keywords;
pub mod limits;
pub mod local;
pub mod op;
pub mod placing;
pub mod read;
pub mod request;
pub mod rows;
pub mod scope;
pub mod system;
#[cfg(test)]
mod tests;
pub mod thread;
pub mod transfers;
pub mod txn;

use crate::index::IndexError;
use crate::types::*;
use command::{ApplyError, Command, Op, Reply};
pub use txn::Txn;

/// What a node does beside answering, once the batch is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nodes, shards or slots changed (system shard).
    PlacementChanged {
        /// The new version.
        version: u64,
    },
    /// An account has a new modseq.
    AccountChanged {
        /// Which.
        account: AccountId,
        /// The newest.
        modseq: ModSeq,
    },
    /// An account was deleted: rows wait to be reaped.
    AccountGoing {
        /// Which.
        account: AccountId,
    },
    /// A mailbox was deleted: rows wait to be reaped.
    MailboxGoing {
        /// Owner.
        account: AccountId,
        /// Which.
        mailbox: MailboxId,
    },
}

/// How an operation ends when it does not answer with success.
#[derive(Debug)]
pub enum Stop {
    /// Refused: the caller gets a typed error, nothing has changed.
    Refused(ApplyError),
    /// The index failed or is damaged: the process stops.
    Index(IndexError),
}

impl From<ApplyError> for Stop {
    fn from(e: ApplyError) -> Stop {
        Stop::Refused(e)
    }
}

impl From<IndexError> for Stop {
    fn from(e: IndexError) -> Stop {
        Stop::Index(e)
    }
}

/// Applies one command. `stored_at` of the [`Txn`] says where this entry's stored octets lie.
pub fn apply(txn: &mut Txn, command: &Command) -> Result<Reply, IndexError> {
    txn.advance(command.time_ms)?;
    let remembered = txn.meta()?.requests;
    let done = match &command.op {
        Op::CreateAccount { request_id, name } => op::create_account::apply(txn, *request_id, name),
        Op::CreateMailbox {
            request_id,
            account,
            mailbox,
            special_use,
        } => op::create_mailbox::apply(txn, *request_id, account, mailbox, *special_use),
        Op::DeleteMailbox {
            request_id,
            account,
            mailbox,
        } => op::delete_mailbox::apply(txn, *request_id, account, mailbox),
        Op::ReapMailbox {
            account,
            mailbox,
            limit,
        } => op::reap_mailbox::apply(txn, *account, *mailbox, *limit),
        Op::RenameMailbox {
            request_id,
            account,
            mailbox,
            to,
        } => op::rename_mailbox::apply(txn, *request_id, account, mailbox, to),
        Op::Subscribe {
            request_id,
            account,
            mailbox,
            on,
        } => op::subscribe::apply(txn, *request_id, account, mailbox, *on),
        Op::SetSpecialUse {
            request_id,
            account,
            mailbox,
            special_use,
        } => op::set_special_use::apply(txn, *request_id, account, mailbox, *special_use),
        Op::SetMetadata {
            request_id,
            account,
            mailbox,
            entries,
        } => op::set_metadata::apply(txn, *request_id, account, mailbox.as_ref(), entries),
        Op::AppendMany(append) => op::append_many::apply(txn, append),
        Op::Copy(copy) => op::copy::apply(txn, copy),
        Op::Move(copy) => op::move_messages::apply(txn, copy),
        Op::SetPassword {
            request_id,
            account,
            hash,
        } => op::credentials::set_password(txn, *request_id, account, hash.as_deref()),
        Op::AddAppPassword {
            request_id,
            account,
            name,
            hash,
        } => op::credentials::add_app_password(txn, *request_id, account, name, hash),
        Op::RemoveAppPassword {
            request_id,
            account,
            name,
        } => op::credentials::remove_app_password(txn, *request_id, account, name),
        Op::SetAccountState {
            request_id,
            account,
            state,
        } => op::set_account_state::apply(txn, *request_id, account, *state),
        Op::Store(store) => op::store::apply(txn, store),
        Op::PutChunk { upload, seq, chunk } => op::upload::put_chunk(txn, *upload, *seq, chunk),
        Op::DropUpload { upload } => op::upload::drop_one(txn, *upload),
        Op::DropUploadsBefore { before_ms } => op::upload::drop_before(txn, *before_ms),
        Op::System(op) => system::apply(txn, command.time_ms, op),
        Op::DeleteAccount { request_id, name } => op::delete_account::apply(txn, *request_id, name),
        Op::ReapAccount { account, limit } => op::reap_account::apply(txn, *account, *limit),
        Op::SetFlags {
            request_id,
            account,
            mailbox,
            uids,
            mode,
            flags,
            unchanged_since,
        } => {
            let what = op::set_flags::SetFlags {
                uids,
                mode: *mode,
                flags,
                unchanged_since: *unchanged_since,
            };
            op::set_flags::apply(txn, *request_id, account, mailbox, &what)
        }
        Op::Expunge {
            request_id,
            account,
            mailbox,
            uids,
            force,
        } => op::expunge::apply(txn, *request_id, account, mailbox, uids, *force),
        Op::BeginTransfer(begin) => op::transfer_out::begin(txn, begin),
        Op::Arrive(arrive) => op::transfer_in::arrive(txn, arrive),
        Op::EndTransfer { transfer, arrival } => op::transfer_out::end(txn, *transfer, arrival),
        Op::ForgetArrivals {
            account,
            source,
            below,
        } => op::transfer_in::forget(txn, *account, *source, *below),
        Op::SettleTransfers {
            account,
            target,
            below,
        } => op::transfer_out::settle(txn, *account, *target, *below),
    };
    request::trim(txn, remembered)?;
    match done {
        Ok(reply) => Ok(reply),
        Err(Stop::Refused(e)) => Ok(Reply::Error(e)),
        Err(Stop::Index(e)) => Err(e),
    }
}

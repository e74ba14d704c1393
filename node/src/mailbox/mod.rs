//! The mailbox operations: one file each, from checked fields to a proposed command to an answer.
//!
//! ```text
//! create_account  delete_account  list_accounts (get, list, usage)
//! create_mailbox  delete_mailbox  rename_mailbox  subscribe  metadata
//! list_mailboxes  open_mailbox
//! deliver ──┬─▶ intake ─▶ summary (scan, fields, preview)      one message coming in
//! append  ──┘      └────▶ codec
//! list_messages   fetch                                        mail going out
//! set_flags, expunge, copy (move) ─▶ split                     huge uid sets in bounded steps
//! copy (to another account) ─▶ transfer                        what reaches two shards
//! fetch_messages ─▶ section ─▶ decode, octets                  parts of mail going out
//! search (plan, run, scan, sort, thread)                       mail looked for
//! changes         watch                                        what has changed, and what does
//! credentials ─▶ attempts, passwords                           who may log in
//! check  limits  window  turns  ahead  error  route            what all of them share
//! ```
//!
//! Architecture invariants: nothing here keeps state between calls but the byte windows, idle
//! compressors, who watches, what is remembered of logins, and which transfers are in hand; nothing is proposed before every field has passed its check; a message is
//! acknowledged only by the reply of the command that stores it.

pub mod ahead;
pub mod append;
pub mod attempts;
pub mod changes;
pub mod check;
pub mod codec;
pub mod copy;
pub mod create_account;
pub mod create_mailbox;
pub mod credentials;
pub mod decode;
pub mod delete_account;
pub mod delete_mailbox;
pub mod deliver;
pub mod error;
pub mod expunge;
pub mod fetch;
pub mod fetch_messages;
pub mod intake;
pub mod limits;
pub mod list_accounts;
pub mod list_mailboxes;
pub mod list_messages;
pub mod metadata;
pub mod octets;
pub mod open_mailbox;
pub mod passwords;
pub mod rename_mailbox;
pub mod route;
pub mod row_cache;
pub mod search;
pub mod section;
pub mod set_flags;
pub mod split;
pub mod subscribe;
pub mod summary;
pub mod transfer;
pub mod turns;
pub mod watch;
pub mod window;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use crate::env::Env;
use crate::machine::command::{Command, Op, Reply};
use crate::raft::ShardError;
use crate::raft::shard::ReadView;
use crate::rare::{self, Rare};
use crate::types::*;

pub use error::{MailboxError, Result, What};
pub use limits::Limits;
pub use route::{BlobError, BlobReader, Leaders, Proposer, Replicas, Routes};
use window::{ByteWindow, Windows};

/// The mailbox operations of one node.
pub struct Operations {
    replicas: Arc<dyn Replicas>,
    routes: Arc<dyn Routes>,
    leaders: Arc<dyn Leaders>,
    blobs: Arc<dyn BlobReader>,
    env: Env,
    limits: Limits,
    /// Of mail coming in.
    window: Arc<ByteWindow>,
    /// Of mail going out: apart, so that slow readers never keep mail from coming in.
    read_window: Arc<ByteWindow>,
    compressors: codec::Compressors,
    hub: Arc<watch::Hub>,
    passwords: passwords::Passwords,
    attempts: attempts::Attempts,
    transfers: transfer::InHand,
    rows: row_cache::RowCache,
    /// Of reading header blocks again.
    headers: turns::Turns,
    /// What searches have read.
    searched: Arc<search::memory::Memory>,
}

/// Octets that the operations of a node hold in memory at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Of mail on its way into the node.
    pub incoming_bytes: usize,
    /// Of mail on its way out.
    pub outgoing_bytes: usize,
    /// Rows of mailboxes that are kept for the next reader.
    pub row_bytes: usize,
    /// What searches have read.
    pub search_bytes: usize,
}

/// Who calls: what an operation must know of the connection that a request came by.
#[derive(Clone, Default)]
pub struct Caller {
    /// The connection's byte window; absent for callers inside the process.
    pub window: Option<Arc<ByteWindow>>,
}

/// A shard that this node has a replica of.
#[derive(Clone)]
pub(crate) struct Led {
    pub(crate) shard: ShardId,
    pub(crate) replica: Arc<dyn Proposer>,
}

impl Operations {
    /// The operations over the replicas that this node holds.
    pub fn new(
        replicas: Arc<dyn Replicas>,
        (routes, leaders): (Arc<dyn Routes>, Arc<dyn Leaders>),
        blobs: Arc<dyn BlobReader>,
        env: Env,
        limits: Limits,
    ) -> Operations {
        Operations {
            replicas,
            routes,
            leaders,
            blobs,
            passwords: passwords::Passwords::new(&env, limits.password_cost),
            attempts: attempts::Attempts::default(),
            hub: Arc::default(),
            transfers: transfer::InHand::default(),
            rows: row_cache::RowCache::new(limits.row_cache_bytes),
            headers: turns::Turns::new(&env.compute, limits::HEADERS_AT_ONCE),
            searched: Arc::new(search::memory::Memory::new(limits.search_memory_bytes)),
            env,
            window: ByteWindow::new(limits.node_window_bytes),
            read_window: ByteWindow::new(limits.node_read_window_bytes),
            limits,
            compressors: codec::Compressors::default(),
        }
    }

    /// The bounds in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is held in memory.
    pub fn held(&self) -> Held {
        Held {
            incoming_bytes: self.window.used_bytes(),
            outgoing_bytes: self.read_window.used_bytes(),
            row_bytes: self.rows.kept_bytes(),
            search_bytes: self.searched.kept_bytes(),
        }
    }

    /// What this node knows of the placement.
    pub fn routes(&self) -> &Arc<dyn Routes> {
        &self.routes
    }

    /// Where changes of accounts are told to those who watch them.
    pub fn hub(&self) -> &Arc<watch::Hub> {
        &self.hub
    }

    /// A window for a new connection.
    pub fn connection_window(&self) -> Arc<ByteWindow> {
        ByteWindow::new(self.limits.connection_window_bytes)
    }

    fn windows(&self, caller: &Caller) -> Windows {
        Windows {
            node: Arc::clone(&self.window),
            connection: caller.window.clone(),
        }
    }

    /// The replica of a data shard on this node.
    fn replica(&self, shard: ShardId) -> Result<Led> {
        match self.replicas.replica(shard) {
            Some(replica) => Ok(Led { shard, replica }),
            None => Err(self.wrong_leader(self.routes.leader_of(shard))),
        }
    }

    /// The replica of an account's shard on this node.
    fn replica_of(&self, account: &AccountName) -> Result<Led> {
        let shard = match self.routes.shard_of(Slot::of(account)) {
            Some(shard) => shard,
            None if self.routes.cluster_id().is_none() => return Err(MailboxError::NotInitialized),
            None => {
                rare::hit(Rare::StalePlacement);
                return Err(MailboxError::StalePlacement);
            }
        };
        self.replica(shard)
    }

    /// Like `replica_of`, refused early where another replica is known to lead, so that no octet
    /// of a message is taken in for nothing.
    fn led(&self, account: &AccountName) -> Result<Led> {
        let led = self.replica_of(account)?;
        match led.replica.is_leader() {
            true => Ok(led),
            false => Err(self.wrong_leader(led.replica.leader())),
        }
    }

    fn wrong_leader(&self, leader: Option<NodeId>) -> MailboxError {
        MailboxError::WrongLeader {
            leader,
            addr: leader.and_then(|n| self.routes.leader_addr(n)),
        }
    }

    fn shard_error(&self, e: ShardError) -> MailboxError {
        match e {
            ShardError::NotLeader { leader } => self.wrong_leader(leader),
            ShardError::Busy { retry_after_ms } => MailboxError::Busy { retry_after_ms },
            ShardError::ReadOnly => MailboxError::ReadOnly,
            ShardError::Unknown => MailboxError::outcome_unknown(),
            ShardError::Stopped => MailboxError::Unavailable(
                "this node is stopping; the outcome is unknown".to_owned(),
            ),
        }
    }

    /// A command of now.
    fn command(&self, op: Op) -> Command {
        Command {
            time_ms: self.env.clock.now_ms(),
            op,
        }
    }

    /// Proposes a command without octets; a refusal by the machine stays in the reply.
    async fn propose(&self, led: &Led, op: Op) -> Result<Reply> {
        led.replica
            .propose(self.command(op), Bytes::new())
            .await
            .map_err(|e| self.shard_error(e))
    }

    /// What is applied here: enough for what this node knows to be applied.
    fn local_view(&self, led: &Led) -> Result<ReadView> {
        led.replica.local_view().map_err(|e| self.shard_error(e))
    }

    async fn read(&self, led: &Led) -> Result<ReadView> {
        led.replica.read().await.map_err(|e| self.shard_error(e))
    }
}

/// A reply that no command of this kind is answered with: the log and this node disagree about
/// the format of commands, so nothing can be said of the outcome.
fn unexpected(reply: &Reply) -> MailboxError {
    tracing::error!(
        ?reply,
        "a command was answered with the reply of another kind"
    );
    MailboxError::Unavailable("the shard gave an answer of another kind".to_owned())
}

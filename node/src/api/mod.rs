//! The node's public gRPC services, thin over the mailbox operations.
//!
//! ```text
//! connection ─▶ call (cluster check, deadline, placement) ─▶ accounts | mailboxes | messages
//!                                                                    └─▶ Operations
//! error: MailboxError ─▶ ErrorDetail ─▶ Status, in one place
//! ```
//!
//! The service Cluster stands beside this module, with the node.
//!
//! Architecture invariant: nothing here decides; a service turns a message of the contract into
//! the arguments of one operation, and its result into a message.

pub mod accounts;
pub mod call;
pub mod changes;
pub mod cluster;
pub mod connection;
pub mod credentials;
pub mod error;
pub mod fetch;
pub mod mailboxes;
pub mod messages;
pub mod search;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use posthouse_client::proto;
use proto::accounts_server::AccountsServer;
use proto::credentials_server::CredentialsServer;
use proto::mailboxes_server::MailboxesServer;
use proto::messages_server::MessagesServer;

use crate::mailbox::Operations;

pub use connection::ConnectionInfo;

/// The services of one node.
#[derive(Clone)]
pub struct Api {
    ops: Arc<Operations>,
}

impl Api {
    /// Services over these operations.
    pub fn new(ops: Arc<Operations>) -> Api {
        Api { ops }
    }

    /// The service Accounts.
    pub fn accounts(&self) -> AccountsServer<Api> {
        AccountsServer::new(self.clone())
    }

    /// The service Mailboxes.
    pub fn mailboxes(&self) -> MailboxesServer<Api> {
        MailboxesServer::new(self.clone())
    }

    /// The service Credentials.
    pub fn credentials(&self) -> CredentialsServer<Api> {
        CredentialsServer::new(self.clone())
    }

    /// The service Messages.
    pub fn messages(&self) -> MessagesServer<Api> {
        MessagesServer::new(self.clone())
    }
}

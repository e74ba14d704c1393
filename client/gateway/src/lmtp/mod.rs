//! The LMTP door (RFC 2033): takes mail in from a mail server.
//!
//! | module | what it is |
//! |---|---|
//! | [`settings`] | limits and switches |
//! | [`command`], [`path`] | one line, read |
//! | [`reply`] | what is said |
//! | [`session`] | what has been said so far |
//! | [`op`] | one command a file |
//! | [`unstuff`] | the DATA phase, decoded |
//! | [`incoming`], [`body`] | a message on its way to the store |
//! | [`known`] | accounts seen lately |
//! | [`connection`] | the loop over one client's commands |
//!
//! What the door promises: a recipient is answered 250 after a quorum has the message, and not
//! before; the octets are stored as they came, after one Return-Path line; a connection that
//! breaks off in the middle of a message stores nothing; and no input makes it panic or hold
//! more than its settings say.

pub mod body;
pub mod command;
pub mod connection;
pub mod incoming;
pub mod known;
pub mod op;
pub mod path;
pub mod reply;
pub mod session;
pub mod settings;
pub mod unstuff;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use posthouse_client::ids::RequestId;
use tokio_util::sync::CancellationToken;

use self::body::{Budget, Room};
use self::known::Known;
use self::reply::Reply;
use self::session::Transaction;
use self::settings::Settings;
use crate::listen::Listener;
use crate::rare::{self, Rare};
use crate::serve::{self, Admission, Places};
use crate::spool::Spool;
use crate::store::{Store, StoreError, Stored};
use crate::wire::{Say, Wire};

/// Accounts remembered to exist, per generation.
const KNOWN_ACCOUNTS: usize = 10_000;

/// Draws the identity of a delivery; used when `dedupe` is off.
pub type Ids = Arc<dyn Fn() -> RequestId + Send + Sync>;

/// What all connections of a door share.
pub struct Door {
    pub(crate) config: Settings,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) room: Room,
    pub(crate) known: Known,
    pub(crate) ids: Ids,
    addresses: Arc<Places>,
}

/// An LMTP server without a socket.
#[derive(Clone)]
pub struct Lmtp {
    door: Arc<Door>,
}

impl Lmtp {
    /// A server with these settings over this store; `Err` says which setting cannot work.
    pub fn new(
        config: Settings,
        store: Arc<dyn Store>,
        spool: Arc<dyn Spool>,
        ids: Ids,
    ) -> Result<Lmtp, String> {
        config.check()?;
        let room = Room {
            memory: Budget::new(config.memory_bytes),
            disk: Budget::new(config.spool_bytes),
            memory_per_body_bytes: config.memory_per_message_bytes,
            spool,
        };
        let known = Known::new(KNOWN_ACCOUNTS, Duration::from_secs(config.known_s));
        let addresses = Places::new(config.connections_per_address);
        Ok(Lmtp {
            door: Arc::new(Door {
                config,
                store,
                room,
                known,
                ids,
                addresses,
            }),
        })
    }

    /// Serves connections until `shutdown`. Then idle clients are told so, messages on their way
    /// in have the grace time to finish, and this returns when no connection is left. Dropping
    /// the future ends all connections at once.
    pub async fn serve(&self, listener: &dyn Listener, shutdown: CancellationToken) {
        let config = &self.door.config;
        let mut refusal = BytesMut::new();
        reply::TOO_MANY_CONNECTIONS.encode(&mut refusal);
        let admission = Admission {
            connections: config.connections,
            addresses: &self.door.addresses,
            refusal: &refusal,
            grace: Duration::from_secs(config.grace_s),
        };
        let (door, stop) = (self.door.clone(), shutdown.clone());
        serve::serve(listener, shutdown, admission, move |stream, peer| {
            let (door, wire) = (door.clone(), Wire::new(stream, stop.clone()));
            async move {
                let ended = connection::run(&door, wire).await;
                tracing::debug!(%peer, %ended, "an LMTP connection has ended");
            }
        })
        .await;
    }
}

impl Door {
    /// One reply for each accepted RCPT.
    fn replies(
        &self,
        transaction: &Transaction,
        answer: Result<Vec<Result<Stored, StoreError>>, StoreError>,
    ) -> Vec<Reply> {
        let missing = Err(StoreError::Unavailable("no result".into()));
        let of = |recipient: &session::Recipient| {
            let result = match &answer {
                Ok(results) => results.get(recipient.account).unwrap_or(&missing),
                Err(error) => &Err(error.clone()),
            };
            if let Err(StoreError::NoAccount) = result {
                rare::hit(Rare::KnownAccountGone);
                self.known.forget(&transaction.accounts[recipient.account]);
            }
            Reply::to_delivery(&recipient.address, result)
        };
        transaction.replies.iter().map(of).collect()
    }
}

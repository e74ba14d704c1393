//! The LMTP door (RFC 2033): takes mail in from a mail server.
//!
//! | module | what it is |
//! |---|---|
//! | [`settings`] | limits and switches |
//! | [`wire`] | octets in, lines out, replies gathered and sent |
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
pub mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse_client::ids::RequestId;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::body::{Budget, Room};
use self::known::Known;
use self::reply::Reply;
use self::session::Transaction;
use self::settings::Settings;
use self::wire::Wire;
use crate::listen::{Listener, Stream};
use crate::rare::{self, Rare};
use crate::spool::{Spool, locked};
use crate::store::{Store, StoreError, Stored};

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
    addresses: Mutex<BTreeMap<String, usize>>,
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
        let addresses = Mutex::new(BTreeMap::new());
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
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let full = connections.len() >= self.door.config.connections;
                        self.admit(stream, peer, full, &mut connections, &shutdown).await;
                    }
                    Err(error) => {
                        // Most often the process is out of file descriptors: wait for some.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        let grace = Duration::from_secs(self.door.config.grace_s);
        let rest = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, rest).await.is_err() {
            tracing::info!(open = connections.len(), "connections are cut off");
            connections.shutdown().await;
        }
    }

    async fn admit(
        &self,
        stream: Box<dyn Stream>,
        peer: String,
        full: bool,
        connections: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) {
        let wire = Wire::new(stream, shutdown.clone());
        let place = match full {
            true => None,
            false => Place::take(&self.door, address_of(&peer)),
        };
        let Some(place) = place else {
            // A short word, without letting the peer hold up the others.
            let mut wire = wire;
            wire.reply(&reply::TOO_MANY_CONNECTIONS);
            wire.close(Duration::from_millis(10)).await;
            return;
        };
        let door = self.door.clone();
        connections.spawn(async move {
            let ended = connection::run(&door, wire).await;
            tracing::debug!(%peer, %ended, "an LMTP connection has ended");
            drop(place);
        });
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

/// The address without its port; as it is when it has none.
fn address_of(peer: &str) -> String {
    match peer.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_string(),
        Err(_) => peer
            .rsplit_once(':')
            .map_or(peer, |(host, _)| host)
            .to_owned(),
    }
}

/// A place among the connections of one address; given back on drop.
struct Place {
    door: Arc<Door>,
    address: String,
}

impl Place {
    fn take(door: &Arc<Door>, address: String) -> Option<Place> {
        let mut addresses = locked(&door.addresses);
        let count = addresses.entry(address.clone()).or_insert(0);
        if *count >= door.config.connections_per_address {
            return None;
        }
        *count += 1;
        Some(Place {
            door: door.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = locked(&self.door.addresses);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

//! The IMAP door: IMAP4rev2 (RFC 9051) and IMAP4rev1 (RFC 3501).
//!
//! | module | what it is |
//! |---|---|
//! | [`settings`] | limits and switches |
//! | [`wire`], [`deflate`] | octets in, commands out, answers gathered and sent |
//! | [`parse`] | commands, read |
//! | [`respond`] | what is said |
//! | [`utf7`] | mailbox names of IMAP4rev1 |
//! | [`session`] | who has logged in, what is enabled, what is selected |
//! | [`view`] | the selected mailbox as the client knows it |
//! | [`watching`], [`updates`] | what has happened in it, and when that is told |
//! | [`notify`] | what else the client wants to be told unasked |
//! | [`ahead`] | messages that the client is about to fetch |
//! | [`op`] | one command a file |
//! | [`store`], [`cluster`] | what the door needs of the cluster; the client library as such |
//! | [`connection`] | the loop over one client's commands |
//!
//! What the door promises: a change is answered OK after a quorum has it; sequence numbers stay
//! what the client thinks they are, whatever other sessions do; octets come out as they went in;
//! and no input makes it panic or hold more than its settings say. A session holds a compressed
//! set of uids, not a row per message. `\Recent` is not kept: IMAP4rev2 has none, and to
//! IMAP4rev1 no message is recent.
//!
//! A session hears of the mailbox that it has selected by IDLE or with any answer. A program that
//! follows several mailboxes says so by NOTIFY, or asks by LIST with STATUS, which is one read.

pub mod ahead;
pub mod cluster;
pub mod connection;
pub mod deflate;
pub mod notify;
pub mod op;
pub mod parse;
pub mod respond;
pub mod session;
pub mod settings;
pub mod store;
pub mod updates;
pub mod utf7;
pub mod view;
pub mod watching;
pub mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::connection::Arrival;
use self::settings::Settings;
use self::store::Store;
use self::wire::Wire;
use crate::listen::Listener;
use crate::lmtp::body::{Budget, Room};
use crate::serve::{self, Admission, Places};
use crate::spool::Spool;

/// What all connections of a door share.
pub struct Door {
    pub(crate) config: Settings,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) room: Room,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) accounts: Arc<Places>,
    addresses: Arc<Places>,
}

/// An IMAP server without a socket.
#[derive(Clone)]
pub struct Imap {
    door: Arc<Door>,
}

impl Imap {
    /// A server with these settings over this store; `Err` says which setting cannot work.
    pub fn new(
        config: Settings,
        store: Arc<dyn Store>,
        spool: Arc<dyn Spool>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<Imap, String> {
        config.check()?;
        let room = Room {
            memory: Budget::new(config.memory_bytes),
            disk: Budget::new(config.spool_bytes),
            memory_per_body_bytes: config.memory_per_message_bytes,
            spool,
        };
        Ok(Imap {
            door: Arc::new(Door {
                accounts: Places::new(config.sessions_per_account),
                addresses: Places::new(config.connections_per_address),
                config,
                store,
                room,
                tls,
            }),
        })
    }

    /// Serves connections until `shutdown`; STARTTLS is offered where there is a certificate. Then
    /// idle clients are told so, commands on their way have the grace time to finish, and this
    /// returns when no connection is left. Dropping the future ends all connections at once.
    pub async fn serve(&self, listener: &dyn Listener, shutdown: CancellationToken) {
        self.run(listener, false, shutdown).await;
    }

    /// Serves connections that begin with TLS (RFC 8314). Without a certificate, none gets far.
    pub async fn serve_tls(&self, listener: &dyn Listener, shutdown: CancellationToken) {
        self.run(listener, true, shutdown).await;
    }

    async fn run(&self, listener: &dyn Listener, tls: bool, shutdown: CancellationToken) {
        let refusal: &[u8] = match tls {
            false => b"* BYE [LIMIT] too many connections\r\n",
            true => b"",
        };
        let admission = Admission {
            connections: self.door.config.connections,
            addresses: &self.door.addresses,
            refusal,
            grace: Duration::from_secs(self.door.config.grace_s),
        };
        serve::serve(listener, shutdown.clone(), admission, |stream, peer| {
            let door = self.door.clone();
            let wire = Wire::new(stream, shutdown.clone());
            async move {
                let arrival = Arrival {
                    address: serve::address_of(&peer),
                    loopback: serve::is_loopback(&peer),
                    tls,
                };
                let ended = connection::run(&door, wire, arrival).await;
                tracing::debug!(%peer, %ended, "an IMAP connection has ended");
            }
        })
        .await;
    }
}

//! The POP3 door (RFC 1939): hands mail out to programs that fetch it.
//!
//! | module | what it is |
//! |---|---|
//! | [`settings`] | limits and switches |
//! | [`command`], [`sasl`] | one line, read |
//! | [`reply`] | what is said |
//! | [`maildrop`] | what a session sees of INBOX |
//! | [`session`] | what has been said so far |
//! | [`op`] | one command a file |
//! | [`stuff`] | a message as an answer |
//! | [`store`] | what the door needs of the cluster |
//! | [`cluster`] | the client library, as such a store |
//! | [`connection`] | the loop over one client's commands |
//!
//! Besides RFC 1939 (with TOP, UIDL, USER): CAPA and PIPELINING (RFC 2449), STLS (RFC 2595) and
//! TLS from the first octet (RFC 8314), SASL PLAIN (RFC 5034), response codes (RFC 2449, 3206).
//! There is no APOP: it would need passwords that the store can read. UTF8 (RFC 6856) is not
//! offered: whoever offers it must rewrite messages for those who do not ask for it; here octets
//! go out as they came in.
//!
//! What the door promises: a session sees INBOX as it was at the login. What it marks as deleted
//! is removed at QUIT, in one step; a connection that ends in any other way removes nothing. There
//! is no lock on the mailbox, which RFC 1939, section 4, would have: other sessions and IMAP
//! clients go on beside this one, mail arrives, and a message that somebody else has removed is
//! answered with an error. A lock could only be taken in the replicated store, and a session
//! that dies with its node would leave the mailbox shut. Unique ids need none: a uid is never
//! used twice (RFC 9051, section 2.3.1.1).
//!
//! Sizes are those of the stored octets. RETR sends as many, but two more for a last line without
//! an end and one more for each bare LF (see [`stuff`]): to count those, every message would have
//! to be read at every login. Mail that came over LMTP from a mail server has neither.

pub mod cluster;
pub mod command;
pub mod connection;
pub mod maildrop;
pub mod op;
pub mod reply;
pub mod sasl;
pub mod session;
pub mod settings;
pub mod store;
pub mod stuff;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio_util::sync::CancellationToken;

use self::session::Session;
use self::settings::Settings;
use self::store::Store;
use crate::listen::{Listener, Stream};
use crate::serve::{self, Admission, Places};
use crate::tls::{self, ServerConfig};
use crate::wire::{Gone, Say, Wire};

/// What all connections of a door share.
pub struct Door {
    pub(crate) config: Settings,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) accounts: Arc<Places>,
    addresses: Arc<Places>,
}

/// A POP3 server without a socket.
#[derive(Clone)]
pub struct Pop3 {
    door: Arc<Door>,
}

impl Pop3 {
    /// A server with these settings over this store; `Err` says which setting cannot work. Without
    /// `tls` there is no STLS, and only clients on this machine can log in.
    pub fn new(
        config: Settings,
        store: Arc<dyn Store>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Pop3, String> {
        config.check()?;
        Ok(Pop3 {
            door: Arc::new(Door {
                accounts: Places::new(config.sessions_per_account),
                addresses: Places::new(config.connections_per_address),
                config,
                store,
                tls,
            }),
        })
    }

    /// Serves connections that begin in the clear, until `shutdown`. Then idle clients are told
    /// so, answers under way have the grace time, and this returns when no connection is left.
    /// Dropping the future ends all connections at once.
    pub async fn serve(&self, listener: &dyn Listener, shutdown: CancellationToken) {
        let mut refusal = BytesMut::new();
        reply::TOO_MANY_CONNECTIONS.encode(&mut refusal);
        self.serve_on(listener, shutdown, &refusal, None).await;
    }

    /// As [`Pop3::serve`], for connections that begin with TLS. Without a certificate, `false`
    /// and nothing is served.
    pub async fn serve_tls(&self, listener: &dyn Listener, shutdown: CancellationToken) -> bool {
        let Some(tls) = self.door.tls.clone() else {
            return false;
        };
        self.serve_on(listener, shutdown, b"", Some(tls)).await;
        true
    }

    async fn serve_on(
        &self,
        listener: &dyn Listener,
        shutdown: CancellationToken,
        refusal: &[u8],
        tls: Option<Arc<ServerConfig>>,
    ) {
        let config = &self.door.config;
        let admission = Admission {
            connections: config.connections,
            addresses: &self.door.addresses,
            refusal,
            grace: Duration::from_secs(config.grace_s),
        };
        let (door, stop) = (self.door.clone(), shutdown.clone());
        serve::serve(listener, shutdown, admission, move |stream, peer| {
            let (door, stop, tls) = (door.clone(), stop.clone(), tls.clone());
            async move {
                let ended = door.run(stream, &peer, tls, stop).await;
                tracing::debug!(%peer, %ended, "a POP3 connection has ended");
            }
        })
        .await;
    }
}

impl Door {
    /// Serves one client, after a handshake if `tls` is given.
    async fn run(
        self: &Arc<Door>,
        stream: Box<dyn Stream>,
        peer: &str,
        tls: Option<Arc<ServerConfig>>,
        stop: CancellationToken,
    ) -> Gone {
        let (address, local) = (serve::address_of(peer), serve::is_loopback(peer));
        let session = Session::new(address, local, tls.is_some());
        let stream = match tls {
            None => stream,
            Some(tls) => {
                let shaken = tls::accept(&tls, stream, self.config.login_timeout());
                let shaken = tokio::select! {
                    () = stop.cancelled() => return Gone::Shutdown,
                    shaken = shaken => shaken,
                };
                match shaken {
                    Ok(stream) => stream,
                    Err(_) => return Gone::Closed,
                }
            }
        };
        connection::run(self, Wire::new(stream, stop), session).await
    }
}

//! The front doors of Posthouse for ordinary mail software, built on the client library alone.
//!
//! | module | what it is |
//! |---|---|
//! | [`lmtp`] | takes mail in: RFC 2033 with the extensions that mail servers use |
//! | [`imap`] | hands mail out and takes it in: RFC 9051 and RFC 3501 with their extensions |
//! | [`pop3`] | hands mail out: RFC 1939 with the extensions that mail programs use |
//! | [`store`] | what a door needs of the cluster |
//! | [`cluster`] | the client library, as such a store |
//! | [`spool`] | room for large messages that must be sent a second time after a fail-over |
//! | [`listen`] | sockets, handed in by whoever hosts a door |
//! | [`serve`] | the accept loop, and places for those who come |
//! | [`wire`] | octets in, lines and replies out, for doors whose commands are lines |
//! | [`tls`] | TLS for all doors: certificates from files, or one made on the spot |
//! | [`rare`] | what hardly ever happens at a door, counted |
//! | [`config`] | the settings of the `posthouse-gateway` process |
//!
//! A door takes its socket, its store and its stop signal as arguments. It binds nothing, reads
//! no wall clock and draws no random number by itself; so `posthoused` can host it in-process,
//! `posthouse-gateway` runs it apart, and a simulator can run it over a network of its own. TLS
//! alone has randomness and a clock of its own: simulated doors run without it.
//!
//! Architecture invariant: nothing in this crate knows the storage node. Everything that it
//! knows of the cluster, it knows through `posthouse-client`.
#![deny(missing_docs)]

pub mod cluster;
pub mod config;
pub mod imap;
pub mod listen;
pub mod lmtp;
pub mod pop3;
pub mod rare;
pub mod serve;
pub mod spool;
pub mod store;
pub mod tls;
pub mod wire;

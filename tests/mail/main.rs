//! Real mail software delivers to Posthouse, and fetches from it.
//!
//! Each dialogue is tried twice: against the LMTP door over a store in memory, which shows what
//! the software makes of the door, and against a cluster of three nodes, which shows that the
//! mail is there.

mod failover;
mod imap;
mod pop3;
mod postfix;
mod receiver;
mod scripts;

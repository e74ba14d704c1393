//! Real mail software delivers to Posthouse, and fetches from it.
//!
//! Each dialogue is tried twice: against the LMTP door over a store in memory, which shows what
//! the software makes of the door, and against a cluster of three nodes, which shows that the
//! mail is there. Over IMAP, where what counts is what several programs make of one mailbox, all of
//! it is against clusters.

mod failover;
mod imap;
mod pop3;
mod postfix;
mod receiver;
mod scripts;

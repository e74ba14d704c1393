//! What tests of the whole system have in common: real processes, real mail software.
//!
//! | module | what it is |
//! |---|---|
//! | [`binaries`] | where the programs under test are |
//! | [`process`] | one child process, ended by its pid |
//! | [`imap`] | a strict IMAP client that hides nothing of what it is told |
//! | [`ports`] | free ports of loopback |
//! | [`load`] | deliveries under way, and the record of what each answer promised |
//! | [`cluster`] | `posthoused` processes that form a cluster, and what can happen to them |
//! | [`fake`] | the LMTP door over a store in memory |
//! | [`postfix`] | a Postfix of the test's own, on a high port |
//! | [`samples`] | the sample messages |
//!
//! The tests are in `tests/` (one file a subject), `mail/` (mail software), `sessions/` (IMAP
//! sessions against models, hostile mail) and `faults/`. They rely on the programs being built:
//! `tests/run` builds them first.
#![deny(missing_docs)]

pub mod binaries;
pub mod cluster;
pub mod fake;
pub mod imap;
pub mod load;
pub mod ports;
pub mod postfix;
pub mod process;
pub mod samples;

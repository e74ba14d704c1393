//! The Posthouse storage node: replicates mail through Raft before it acknowledges it, and gives
//! it back byte for byte.
//!
//! Data flows one way, and imports never run back up:
//!
//! ```text
//! api (gRPC) ─▶ mailbox (one operation a file) ─▶ raft (shards) ─▶ machine (pure apply)
//!                                                  │        │             │
//!                                            transport   journal ◀─ blobs index (RocksDB)
//!                                                  └────────┴─────── env ─┘
//! ```
//!
//! [`placement`] plans purely who holds what; [`workers`] are the paced loops beside the flow;
//! [`node::Node::start`] is the one composition root, for the binary, the simulator and the tests.
//! `ARCHITECTURE.md` beside this crate states the invariants, `FORMAT.md` draws the bytes.
#![deny(missing_docs)]
// Tests look at the files that the product has written, and at the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod api;
pub mod blobs;
pub mod config;
pub mod env;
pub mod identity;
pub mod index;
pub mod journal;
pub mod machine;
pub mod mailbox;
pub mod node;
pub mod placement;
pub mod raft;
pub mod rare;
pub mod transport;
pub mod types;
pub mod workers;

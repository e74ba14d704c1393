//! The public contract of Posthouse, and the library that speaks it.
//!
//! - [`proto`]: the messages and services, generated from `proto/posthouse.proto`.
//! - [`ids`]: one type per concept: account names, slots, uids, blob ids, request ids.
//! - [`error`]: what can go wrong, and its form on the wire.
//!
//! Architecture invariant: this crate knows neither the storage nor the replication of the nodes,
//! and reads no clock: its timers are `tokio::time`, its sockets and its randomness are injected.
#![deny(missing_docs)]

pub mod error;
pub mod ids;

/// Generated from `proto/posthouse.proto`, which documents every message and field.
#[allow(missing_docs, clippy::doc_lazy_continuation)]
pub mod proto {
    tonic::include_proto!("posthouse.v1");
}

pub use error::Error;

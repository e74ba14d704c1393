//! The public contract of Posthouse, and the library that speaks it.
//!
//! - [`proto`]: the messages and services, generated from `proto/posthouse.proto`.
//! - [`ids`]: one type per concept: account names, slots, uids, blob ids, request ids.
//! - [`error`]: what can go wrong, and its form on the wire.
//! - [`Client`]: the calls. It routes by account with a cached placement map ([`route`]), follows
//!   leaders and repeats calls under one request_id ([`retry`]), over injected connections
//!   ([`connect`]). One file a family: accounts, credentials, mailboxes, messages, deliver, fetch,
//!   read, search, changes, watch, cluster.
//! - [`watch`]: changes of accounts as they happen, across changes of leaders.
//! - [`rare`]: counters of rare situations, for all crates.
//! - [`body`]: sources of octets that can be read again, so that no large message is ever held in
//!   memory whole.
//!
//! ```no_run
//! # async fn example() -> Result<(), posthouse_client::Error> {
//! use bytes::Bytes;
//! use posthouse_client::ids::AccountName;
//! use posthouse_client::{Client, Delivery, Identity, Recipient, Settings};
//!
//! let client = Client::new(&["127.0.0.1:6600"], Settings::default())?;
//! let ann = AccountName::new("ann@example.org")?;
//! let delivery = Delivery {
//!     identity: Identity::Request(client.request_id()),
//!     recipients: vec![Recipient::inbox(ann)],
//!     internal_date_ms: 0,
//! };
//! let message = Bytes::from_static(b"Subject: hello\r\n\r\nA letter.\r\n");
//! for result in client.deliver(&delivery, &message).await?.results {
//!     println!("uid {}", result?.uid);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Architecture invariant: this crate knows neither the storage nor the replication of the nodes,
//! and reads no clock: its timers are `tokio::time`, its sockets and its randomness are injected.
#![deny(missing_docs)]

mod accounts;
pub mod body;
mod changes;
mod client;
mod cluster;
pub mod connect;
mod credentials;
mod deliver;
mod details;
pub mod error;
mod fetch;
pub mod ids;
mod json;
mod mailboxes;
mod messages;
pub mod rare;
mod read;
pub mod retry;
pub mod route;
mod rows;
pub mod search;
mod secret;
mod transfer;
mod upload;
pub mod watch;

/// Generated from `proto/posthouse.proto`, which documents every message and field.
#[allow(
    missing_docs,
    clippy::doc_lazy_continuation,
    clippy::large_enum_variant
)]
pub mod proto {
    tonic::include_proto!("posthouse.v1");
}

pub use body::Body;
pub use client::{Client, Settings};
pub use cluster::Target;
pub use deliver::{Delivered, Delivery, Identity, MAX_RECIPIENTS, Recipient};
pub use error::Error;
pub use fetch::{Fetched, Source};
pub use mailboxes::Opened;
pub use messages::{
    AppendOptions, AppendPart, Appended, AppendedAll, Copied, Expunged, FlagChange, FlagsChanged,
    ListOptions, Replaced, Stored,
};
pub use read::{FetchEvent, FetchOptions, FetchStream};
pub use rows::{Columns, Rows};
pub use search::{Found, SearchOptions};
pub use watch::{Change, Subscription, Watch};

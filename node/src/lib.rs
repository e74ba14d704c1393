//! The Posthouse storage node.
#![deny(missing_docs)]

pub mod api;
pub mod env;
pub mod index;
pub mod machine;
pub mod mailbox;
pub mod raft;
pub mod types;

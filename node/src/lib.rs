//! The Posthouse storage node.
#![deny(missing_docs)]

pub mod env;
pub mod index;
pub mod journal;
pub mod machine;
pub mod raft;
pub mod types;

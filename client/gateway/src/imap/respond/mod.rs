//! What is said to clients (RFC 9051, section 7).
//!
//! | module | what it writes |
//! |---|---|
//! | [`text`] | strings in their forms, sets |
//! | [`encoded`] | text that is not ASCII, for clients that read ASCII (RFC 2047, RFC 2231) |
//! | [`envelope`], [`structure`] | a message, summarised |
//! | [`done`] | how a command ended |

pub mod done;
pub mod encoded;
pub mod envelope;
pub mod structure;
pub mod text;

pub use self::done::{Done, Stop};

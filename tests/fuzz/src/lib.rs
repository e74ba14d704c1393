//! What the fuzz targets do with an input, one function a target.
//!
//! | module | what it is |
//! |---|---|
//! | [`memory`] | an allocator that counts, so that "bounded" is checked and not hoped for |
//! | [`pieces`] | one input in many cuts |
//! | [`talk`] | a door over a pipe, in time that stands still |
//! | [`imap`] | the reader of IMAP commands alone, and the whole IMAP door |
//! | [`lmtp`] | the whole LMTP door, and its decoder of DATA |
//! | [`summary`] | the scan of the MIME structure, and the summary |
//! | [`section`] | sections of a message: what they are, and that a fetch brings them |
//! | [`shard`] | a node without Raft, for fetches |
//!
//! Every function takes the octets of one input and panics when something does not hold. How an
//! input is cut into pieces, and what else is left to chance, is drawn from the octets themselves:
//! so the same file is always the same run, and ordinary mail is an input as it stands.

pub mod imap;
pub mod lmtp;
pub mod memory;
pub mod pieces;
pub mod section;
pub mod shard;
pub mod summary;
pub mod talk;

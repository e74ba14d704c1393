//! IMAP: the reader alone, and the whole door.

pub mod answers;
pub mod door;
pub mod reader;
pub mod store;

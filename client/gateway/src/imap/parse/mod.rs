//! Commands, read (RFC 9051, section 9, RFC 3501, and the extensions that the door advertises).
//!
//! | module | what it reads |
//! |---|---|
//! | [`token`] | words, numbers, strings, literals in place |
//! | [`set`], [`date`] | sets of messages; dates |
//! | [`command`] | tag and command, with the families that need few arguments |
//! | [`select`], [`list`], [`fetch`], [`search`], [`store`], [`metadata`], [`notify`] | one family each |
//! | [`append`] | what stands before the octets of a message |
//!
//! The reader is our own. `imap-codec` is maintained and exact, but it reads a closed command
//! set: of what this door offers it lacks QRESYNC, LIST-EXTENDED, ESEARCH options, SEARCHRES,
//! WITHIN, PARTIAL, OBJECTID, SAVEDATE, PREVIEW, REPLACE, NOTIFY and literals of messages that are not
//! held in memory, and its grammar cannot be extended from outside. Half of the commands through
//! one parser and half through another would be two sets of edge cases. So it is the second
//! opinion instead: a test has both read the same commands and compares what they understood.
//!
//! Names of mailboxes stay octets here: which encoding they are in depends on what the session
//! has enabled.

pub mod append;
pub mod command;
pub mod date;
pub mod fetch;
pub mod list;
pub mod metadata;
pub mod notify;
pub mod search;
pub mod select;
pub mod set;
pub mod store;
pub mod token;

#[cfg(test)]
mod tests;

use std::fmt;

pub use self::command::{Command, parse};
pub use self::set::Set;

/// Why a command cannot be read, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Bad(pub &'static str);

/// Bounds of what a command may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Levels of parentheses and of NOT and OR in a search.
    pub nesting: usize,
    /// Ranges of a set.
    pub set: usize,
    /// Keys of a search, items of a fetch, entries of any list.
    pub items: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            nesting: 50,
            set: 20_000,
            items: 1_000,
        }
    }
}

/// A mailbox name as it was written.
pub type RawName = Vec<u8>;

/// A password: it shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

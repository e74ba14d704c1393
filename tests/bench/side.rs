//! What the measurements know of a server: where its doors are and which processes are its own.

use crate::wire::Imap;

/// Everybody's password.
pub const PASSWORD: &str = "correct-horse-9";

/// The address of the `i`-th account.
pub fn user(i: usize) -> String {
    format!("bench{i}@example.org")
}

/// One of the servers that are compared.
pub struct Side {
    /// Its name in the table.
    pub name: String,
    /// Addresses of its IMAP doors; sessions of one client go through the first.
    pub imap: Vec<String>,
    /// Addresses of its LMTP doors.
    pub lmtp: Vec<String>,
    /// Its processes; their descendants are its own, too.
    pub pids: Vec<u32>,
}

impl Side {
    /// A session of the first account.
    pub fn session(&self) -> anyhow::Result<Imap> {
        Imap::login(&self.imap[0], &user(0), PASSWORD)
    }
}

/// Which node sessions go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Through {
    /// The node that leads the account's shard.
    Leader,
    /// Another one, which asks the leader.
    Other,
}

//! What the measurements know of a server: where its doors are and which processes are its own.

use std::path::PathBuf;
use std::time::Duration;

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
    /// Where all that it keeps is.
    pub dir: PathBuf,
}

impl Side {
    /// Ends its processes and removes what it keeps, when there is no time for more.
    pub fn abandon(&self) {
        for pid in &self.pids {
            // SAFETY: kill has no memory effects; these are children that are not reaped before.
            unsafe { libc::kill(*pid as i32, libc::SIGTERM) };
        }
        std::thread::sleep(Duration::from_millis(500));
        // A process that still writes may make it fail once.
        let _ = std::fs::remove_dir_all(&self.dir).or_else(|_| std::fs::remove_dir_all(&self.dir));
    }

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

//! What an operator can set about the IMAP door. Every limit has a default that just works.

use std::time::Duration;

use serde::Deserialize;

use super::parse::Limits;

/// The settings of one IMAP door.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The address that the host of the door binds for it; empty: none.
    pub listen: String,
    /// The address for connections that begin with TLS (RFC 8314); empty: none.
    pub listen_tls: String,
    /// Passwords may travel without TLS, also from other machines.
    pub plaintext_login: bool,
    /// Largest message, in octets, announced as APPENDLIMIT (RFC 7889).
    pub message_bytes: u64,
    /// Longest line of a command, in octets (RFC 7162, section 4, asks for 8,192 at least).
    pub line_bytes: usize,
    /// Longest literal that is not a message.
    pub literal_bytes: usize,
    /// Longest command with its literals, without messages.
    pub command_bytes: usize,
    /// Levels of parentheses and of NOT and OR.
    pub nesting: usize,
    /// Ranges of a set of messages.
    pub set_ranges: usize,
    /// Items of any list in a command.
    pub items: usize,
    /// Messages of one APPEND (RFC 3502).
    pub append_messages: usize,
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address.
    pub connections_per_address: usize,
    /// Sessions at a time of one account.
    pub sessions_per_account: usize,
    /// Bad commands, wrong passwords among them, until the connection is closed; after the login,
    /// one after the other.
    pub errors: u32,
    /// Seconds until a client must have logged in.
    pub login_timeout_s: u64,
    /// Seconds to wait for a command (RFC 9051, section 5.4, asks for 30 minutes at least), also
    /// during IDLE.
    pub idle_timeout_s: u64,
    /// Seconds to wait for more of a command that has begun, and for a client that does not read.
    pub data_timeout_s: u64,
    /// Seconds that commands on their way have when the door closes.
    pub grace_s: u64,
    /// Octets of one message on its way in that are held in memory; past them it is spooled.
    pub memory_per_message_bytes: u64,
    /// Memory for all messages on their way in.
    pub memory_bytes: u64,
    /// Spool space for all messages on their way in.
    pub spool_bytes: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: String::new(),
            listen_tls: String::new(),
            plaintext_login: false,
            message_bytes: 150_000_000,
            line_bytes: 65_536,
            literal_bytes: 262_144,
            command_bytes: 1 << 20,
            nesting: 200,
            set_ranges: 20_000,
            items: 1_000,
            append_messages: 1_000,
            connections: 10_000,
            connections_per_address: 1_000,
            sessions_per_account: 200,
            errors: 20,
            login_timeout_s: 120,
            idle_timeout_s: 31 * 60,
            data_timeout_s: 180,
            grace_s: 10,
            memory_per_message_bytes: 1 << 20,
            memory_bytes: 128 << 20,
            spool_bytes: 8 << 30,
        }
    }
}

impl Settings {
    /// Why these settings cannot work, if they cannot.
    pub fn check(&self) -> Result<(), String> {
        let least = |name, value: u64, least: u64| match value >= least {
            true => Ok(()),
            false => Err(format!("{name}: at least {least}")),
        };
        least("message_bytes", self.message_bytes, 65_536)?;
        least("line_bytes", self.line_bytes as u64, 8_192)?;
        least("literal_bytes", self.literal_bytes as u64, 4_096)?;
        let command = (self.line_bytes + self.literal_bytes) as u64;
        least("command_bytes", self.command_bytes as u64, command)?;
        least("nesting", self.nesting as u64, 1)?;
        if self.nesting > 500 {
            return Err("nesting: at most 500".into());
        }
        least("set_ranges", self.set_ranges as u64, 1)?;
        least("items", self.items as u64, 30)?;
        least("append_messages", self.append_messages as u64, 1)?;
        if self.append_messages > 1_000 {
            return Err("append_messages: at most 1000, which is what the store takes".into());
        }
        least("connections", self.connections as u64, 1)?;
        least(
            "connections_per_address",
            self.connections_per_address as u64,
            1,
        )?;
        least("sessions_per_account", self.sessions_per_account as u64, 1)?;
        least("errors", self.errors.into(), 1)?;
        least("login_timeout_s", self.login_timeout_s, 1)?;
        least("idle_timeout_s", self.idle_timeout_s, 30)?;
        least("data_timeout_s", self.data_timeout_s, 1)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            nesting: self.nesting,
            set: self.set_ranges,
            items: self.items,
        }
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s)
    }

    pub(crate) fn data_timeout(&self) -> Duration {
        Duration::from_secs(self.data_timeout_s)
    }
}

//! What an operator can set about the LMTP door. Every limit has a default that just works.

use std::time::Duration;

use serde::Deserialize;

/// The settings of one LMTP door.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The address that the host of the door binds for it.
    pub listen: String,
    /// The name in the greeting.
    pub hostname: String,
    /// A repeated delivery of the same octets from the same sender to the same recipient, inside
    /// the store's window, is one message.
    pub dedupe: bool,
    /// Largest message, in octets, announced as SIZE (RFC 1870). The store has a limit of its
    /// own, which also counts Return-Path.
    pub message_bytes: u64,
    /// Largest header, in octets.
    pub header_bytes: u64,
    /// Longest command line, in octets, CRLF included (RFC 5321, section 4.5.3.1.4, asks for
    /// 512 and for more where extensions need it).
    pub line_bytes: usize,
    /// Recipients of one message (RFC 5321, section 4.5.3.1.8, asks for at least 100).
    pub recipients: usize,
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address.
    pub connections_per_address: usize,
    /// Bad commands until the connection is closed.
    pub errors: u32,
    /// Seconds to wait for a command (RFC 5321, section 4.5.3.2.7, asks for five minutes).
    pub command_timeout_s: u64,
    /// Seconds to wait for more of a message (section 4.5.3.2.5 asks senders for three minutes).
    pub data_timeout_s: u64,
    /// Seconds until a delivery without an answer is given up; the sender then tries again.
    pub deliver_timeout_s: u64,
    /// Seconds until a question for an account is given up.
    pub lookup_timeout_s: u64,
    /// Seconds that an account is taken to exist without asking again, at least.
    pub known_s: u64,
    /// Seconds that messages on their way in have when the door closes.
    pub grace_s: u64,
    /// Octets of one message that are held in memory; past them it is spooled.
    pub memory_per_message_bytes: u64,
    /// Memory for all messages on their way in.
    pub memory_bytes: u64,
    /// Spool space for all messages on their way in.
    pub spool_bytes: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: "127.0.0.1:2400".into(),
            hostname: "posthouse".into(),
            dedupe: true,
            message_bytes: 150_000_000,
            header_bytes: 4 << 20,
            line_bytes: 2048,
            recipients: 1000,
            connections: 1000,
            connections_per_address: 500,
            errors: 20,
            command_timeout_s: 300,
            data_timeout_s: 180,
            deliver_timeout_s: 60,
            lookup_timeout_s: 15,
            known_s: 30,
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
        let host = &self.hostname;
        if host.is_empty() || host.len() > 255 || !host.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("hostname: 1 to 255 visible ASCII characters".into());
        }
        let least = |name, value: u64, least: u64| match value >= least {
            true => Ok(()),
            false => Err(format!("{name}: at least {least}")),
        };
        least("message_bytes", self.message_bytes, 65_536)?;
        least("header_bytes", self.header_bytes, 16_384)?;
        least("line_bytes", self.line_bytes as u64, 512)?;
        least("recipients", self.recipients as u64, 1)?;
        if self.recipients > 1000 {
            return Err("recipients: at most 1000, which is what the store takes at a time".into());
        }
        least("connections", self.connections as u64, 1)?;
        least(
            "connections_per_address",
            self.connections_per_address as u64,
            1,
        )?;
        least("errors", self.errors.into(), 1)?;
        least("command_timeout_s", self.command_timeout_s, 1)?;
        least("data_timeout_s", self.data_timeout_s, 1)?;
        least("deliver_timeout_s", self.deliver_timeout_s, 1)?;
        least("lookup_timeout_s", self.lookup_timeout_s, 1)
    }

    pub(crate) fn command_timeout(&self) -> Duration {
        Duration::from_secs(self.command_timeout_s)
    }

    pub(crate) fn data_timeout(&self) -> Duration {
        Duration::from_secs(self.data_timeout_s)
    }

    pub(crate) fn deliver_timeout(&self) -> Duration {
        Duration::from_secs(self.deliver_timeout_s)
    }

    pub(crate) fn lookup_timeout(&self) -> Duration {
        Duration::from_secs(self.lookup_timeout_s)
    }
}
